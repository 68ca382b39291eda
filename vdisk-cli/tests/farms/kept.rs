//! Fingerprints that are kept give the same figures, and nothing is read again.

use crate::{
    builder::{Farm, Taken},
    compare::{array, assert_same, text},
    contents::Contents,
    mixed::mixed,
    truth::truth,
};
use serde_json::Value;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Runs a report that must be good, and says what it took.
fn report(farm: &Farm, args: &str) -> (Value, Taken) {
    let (ran, taken) = farm.measured(&format!("dedup-report --json {args}"));
    (ran.code(0).json(), taken)
}

/// The same from kept fingerprints, which name images by their whole paths, in any order.
fn from(farm: &Farm, args: &str, truth: &Value) -> Value {
    let ran = farm.folder.run(&format!("dedup-report --json {args}"));
    let here = format!("{}/", farm.folder.path("").display()).replace("//", "/");
    let mut report: Value = serde_json::from_str(&ran.code(0).out.replace(&here, "")).unwrap();
    let names: Vec<String> = array(truth, "images")
        .iter()
        .map(|i| text(i, "name").to_owned())
        .collect();
    let images = report["images"].as_array_mut().unwrap();
    images.sort_by_key(|i| names.iter().position(|n| i["path"] == **n));
    report
}

#[test]
fn a_second_run_reads_no_image() {
    let Some(farm) = mixed(41) else { return };
    let names = farm.listed();
    let all = names.join(" ");
    let expected = truth(&farm, &names, &[4 * KIB, 64 * KIB, 512]);
    let (first, taken) = report(&farm, &format!("{all} --cache kept"));
    assert_same("first", &first, &expected[0]);
    assert!(taken.read > 64 * MIB, "{taken:?}");
    // Larger blocks consist of those that are kept.
    for (flags, size) in [
        ("", 0),
        ("--memory 8M --threads 1", 0),
        ("--memory 1G --threads 7", 0),
        ("--block-size 64K --memory 16M", 1),
    ] {
        let (again, taken) = report(&farm, &format!("{all} --cache kept {flags}"));
        assert_same(flags, &again, &expected[size]);
        assert!(taken.read < 16 * MIB, "{flags}: {taken:?}");
    }
    // Other units are kept in another folder.
    for flags in ["--block-size 512", "--block-size 512 --memory 8M"] {
        let (small, _) = report(&farm, &format!("{all} --cache kept-512 {flags}"));
        assert_same(flags, &small, &expected[2]);
    }
    let (again, _) = report(&farm, &format!("{all} --cache kept"));
    assert_same("4K after 512", &again, &expected[0]);
}

/// Other images part chains elsewhere: what is kept of one run must not be taken for something else.
#[test]
fn one_folder_serves_reports_on_any_of_the_images() {
    let Some(farm) = mixed(42) else { return };
    let names = farm.listed();
    let mut dice = Contents::new(42).dice;
    for round in 0..6 {
        let some: Vec<&str> = names
            .iter()
            .filter(|_| dice.below(2) == 0)
            .copied()
            .collect();
        let expected = &truth(&farm, &some, &[4 * KIB])[0];
        let args = format!("{} --cache kept", some.join(" "));
        for _ in 0..2 {
            let (found, _) = report(&farm, &args);
            assert_same(&format!("round {round}"), &found, expected);
        }
    }
}

#[test]
fn what_changed_is_read_again_with_what_lies_over_it() {
    let Some(mut farm) = mixed(43) else { return };
    let mut contents = Contents::new(44);
    farm.clone_of("vhd/parent.vhd", "vhd/base.vhd");
    let changes = contents.changes(&farm.bytes("vhd/base.vhd"), 5);
    farm.write("vhd/parent.vhd", &changes);
    farm.clone_of("vhd/child.vhd", "vhd/parent.vhd");
    let all = format!("{} --cache kept", farm.listed().join(" "));
    report(&farm, &all);
    for name in ["vmdk/over-hidden1.vmdk", "other/disk.vdi", "vhd/parent.vhd"] {
        let changes = contents.changes(&farm.bytes(name), 5);
        farm.write(name, &changes);
        if name == "vhd/parent.vhd" {
            // It has nothing of its own, so it reads as its parent does now.
            let bytes = farm.bytes(name);
            farm.now_reads("vhd/child.vhd", bytes);
        }
        let expected = &truth(&farm, &farm.listed(), &[4 * KIB])[0];
        let (found, taken) = report(&farm, &all);
        assert_same(name, &found, expected);
        assert!(taken.read < 24 * MIB, "{name}: {taken:?}");
    }
}

#[test]
fn fingerprints_give_the_same_report_elsewhere() {
    let Some(farm) = mixed(45) else { return };
    let names = farm.listed();
    let expected = truth(&farm, &names, &[4 * KIB, 64 * KIB, 512]);
    let of = |family: fn(&str) -> bool| -> String {
        let some: Vec<&str> = names.iter().filter(|n| family(n)).copied().collect();
        some.join(" ")
    };
    let run = |args: &str| farm.folder.run(&format!("fingerprint {args}")).code(0);
    run(&format!("{} -o all", names.join(" ")));
    run(&format!("{} -o all-512 --block-size 512", names.join(" ")));
    run(&format!("{} -o one", of(|n| n.starts_with("vmdk/"))));
    run(&format!("{} -o two", of(|n| n.starts_with("vhd"))));
    run(&format!("{} -o two", of(|n| n.starts_with("qcow2/"))));
    run(&format!("{} -o two", of(|n| n.starts_with("other/"))));
    for (flags, size) in [
        ("--from all", 0),
        ("--from one --from two --memory 8M --threads 1", 0),
        ("--from two --from one --block-size 64K --memory 16M", 1),
        ("--from all-512 --block-size 512 --memory 8M", 2),
    ] {
        let found = from(&farm, flags, &expected[size]);
        assert_same(flags, &found, &expected[size]);
    }
    // The images may be gone.
    for name in farm.listed() {
        std::fs::remove_file(farm.folder.path(name)).unwrap();
    }
    let found = from(&farm, "--from all", &expected[0]);
    assert_same("without images", &found, &expected[0]);
}
