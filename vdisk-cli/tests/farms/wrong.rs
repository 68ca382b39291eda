//! What goes wrong is said, and the figures are about the rest: to the byte, and never as if whole.

use crate::{
    builder::Farm,
    compare::{array, assert_same, text},
    contents::Contents,
    paused::Paused,
    run::Ran,
    truth::truth,
};
use serde_json::Value;
use std::{fs, os::unix::fs::FileExt};

const MIB: usize = 1 << 20;

/// A base with three clones, of which one has a clone itself, and others.
fn small(seed: u64) -> Option<Farm> {
    let mut farm = Farm::new()?;
    let mut contents = Contents::new(seed);
    let base = contents.disk(2 * MIB);
    farm.full("f/base.vmdk", "subformat=monolithicSparse", base);
    for (name, parent) in [
        ("f/one.vmdk", "f/base.vmdk"),
        ("f/two.vmdk", "f/base.vmdk"),
        ("f/three.vmdk", "f/base.vmdk"),
        ("f/over-one.vmdk", "f/one.vmdk"),
    ] {
        farm.clone_of(name, parent);
        let bytes = farm.bytes(name);
        farm.write(name, &contents.changes(&bytes, 3));
    }
    for name in ["f/a.raw", "f/b.qcow2", "f/c.vhdx", "f/d.vdi"] {
        farm.full(name, "", contents.disk(2 * MIB));
    }
    Some(farm)
}

/// Exit 1, each of `lost` is listed once with a reason and said once, and the rest is exact.
fn assert_without(what: &str, farm: &Farm, ran: Ran, lost: &[&str]) -> Value {
    let ran = ran.code(1);
    let report = ran.json();
    assert_eq!(report["complete"], false, "{what}");
    let mut listed: Vec<&str> = array(&report, "errors")
        .iter()
        .map(|e| {
            assert!(!text(e, "error").is_empty(), "{what}: {e}");
            text(e, "path")
        })
        .collect();
    listed.sort_unstable();
    let mut expected = lost.to_vec();
    expected.sort_unstable();
    assert_eq!(listed, expected, "{what}: {report:#}");
    // A file that changed is named by its whole path.
    let here = format!("{}/", farm.folder.path("").display()).replace("//", "/");
    let err = ran.err.replace(&here, "");
    for name in lost {
        let warning = format!("warning: left out: {name}: ");
        let said = err.lines().filter(|l| l.starts_with(&warning));
        assert_eq!(said.count(), 1, "{what}: {name} in {}", ran.err);
    }
    let mut left = farm.listed();
    left.retain(|n| !lost.contains(n));
    assert_same(what, &report, &truth(farm, &left, &[4096])[0]);
    report
}

fn args(farm: &Farm, flags: &str) -> String {
    format!("dedup-report {} --json {flags}", farm.listed().join(" "))
}

/// Where the table entry of the first grain with data is, in a sparse VMDK extent (Virtual Disk Format
/// 5.0: numbers are little-endian; the directory's place is at byte 56, in sectors).
fn first_grain(file: &[u8]) -> usize {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let table = number(number(56) * 512) * 512;
    let entry = (0..512).find(|e| number(table + 4 * e) > 1).unwrap();
    table + 4 * entry
}

/// Has the first grain of `name` lie behind the end of the file.
fn damage(farm: &Farm, name: &str) {
    let mut file = farm.folder.read(name);
    let at = first_grain(&file);
    file[at..at + 4].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    farm.folder.write(name, &file);
}

#[test]
fn a_damaged_image_is_left_out_alone() {
    let Some(farm) = small(11) else { return };
    let good = farm.folder.read("f/two.vmdk");
    for flags in [
        "",
        "--threads 1 --memory 8M",
        "--cache kept",
        "--cache kept",
    ] {
        damage(&farm, "f/two.vmdk");
        let ran = farm.folder.run(&args(&farm, flags));
        assert_without(flags, &farm, ran, &["f/two.vmdk"]);
        farm.folder.write("f/two.vmdk", &good);
    }
    // Mended, it is back.
    let expected = &truth(&farm, &farm.listed(), &[4096])[0];
    let ran = farm.folder.run(&args(&farm, "--cache kept"));
    assert_same("mended", &ran.code(0).json(), expected);
}

#[test]
fn all_clones_of_a_damaged_base_are_left_out() {
    let lost = [
        "f/base.vmdk",
        "f/one.vmdk",
        "f/two.vmdk",
        "f/three.vmdk",
        "f/over-one.vmdk",
    ];
    let Some(mut farm) = small(12) else { return };
    damage(&farm, "f/base.vmdk");
    for flags in ["", "--cache kept", "--cache kept --threads 1"] {
        let ran = farm.folder.run(&args(&farm, flags));
        assert_without(flags, &farm, ran, &lost);
    }
    farm.unlist("f/base.vmdk");
    let ran = farm.folder.run(&args(&farm, ""));
    assert_without("base not listed", &farm, ran, &lost[1..]);
}

#[test]
fn what_is_gone_is_left_out_whatever_is_kept_of_it() {
    let Some(farm) = small(13) else { return };
    farm.folder.run(&args(&farm, "--cache kept")).code(0);
    for (gone, lost) in [
        ("f/a.raw", &["f/a.raw"][..]),
        ("f/one.vmdk", &["f/one.vmdk", "f/over-one.vmdk"]),
    ] {
        let bytes = farm.folder.read(gone);
        // Truth reads the files that are there: of those that are lost it reads nothing.
        fs::remove_file(farm.folder.path(gone)).unwrap();
        let ran = farm.folder.run(&args(&farm, "--cache kept"));
        assert_without(gone, &farm, ran, lost);
        farm.folder.write(gone, &bytes);
    }
}

/// `small`, and first of all an image that takes a while.
fn with_a_long_one(seed: u64) -> Option<Farm> {
    let mut farm = small(seed)?;
    let bytes = Contents::new(seed).noise(96 * MIB);
    farm.full("f/long.raw", "", bytes);
    let last = farm.images.len() - 1;
    // Parents are found by number: only the order of the arguments changes.
    farm.first = Some(last);
    Some(farm)
}

/// Starts a report, which is held while it reads the long image.
fn pause(farm: &Farm) -> Paused {
    let args = args(farm, "--threads 1");
    Paused::start(farm, &args, (24 * MIB as u64, 90 * MIB as u64), || ())
}

#[test]
fn an_image_removed_meanwhile_is_left_out() {
    let Some(farm) = with_a_long_one(14) else {
        return;
    };
    for (gone, lost) in [
        ("f/b.qcow2", &["f/b.qcow2"][..]),
        ("f/one.vmdk", &["f/one.vmdk", "f/over-one.vmdk"]),
    ] {
        let bytes = farm.folder.read(gone);
        let paused = pause(&farm);
        fs::remove_file(farm.folder.path(gone)).unwrap();
        assert_without(gone, &farm, paused.go_on(), lost);
        farm.folder.write(gone, &bytes);
    }
}

#[test]
fn an_image_changed_meanwhile_is_left_out() {
    let Some(farm) = with_a_long_one(15) else {
        return;
    };
    let paused = pause(&farm);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(farm.folder.path("f/long.raw"))
        .unwrap();
    // A block that was read long ago.
    file.write_all_at(b"meanwhile", 4096).unwrap();
    let ran = paused.go_on().says("f/long.raw");
    let report = assert_without("changed", &farm, ran, &["f/long.raw"]);
    let error = text(&array(&report, "errors")[0], "error");
    assert!(error.contains("changed"), "{error}");
}
