//! Clusters: the commands that a report names are run, and free what it says.

use super::{Folder, MIB, noise, run::Ran, write};
use serde_json::Value;
use std::fs;

const SIZE: usize = 32 * MIB;

/// A golden image of 8 MiB, and desktops that have it and `own` bytes more, as full images of their own
/// identity. `names` are theirs.
fn farm(gold: &str, names: &[&str], own: usize) -> Folder {
    let folder = Folder::new();
    let mut disk = noise(1, 8 * MIB);
    disk.resize(SIZE, 0);
    full(&folder, gold, &disk);
    for (name, seed) in names.iter().zip(2..) {
        let mut disk = disk.clone();
        disk[16 * MIB..][..own].copy_from_slice(&noise(seed, own));
        full(&folder, name, &disk);
    }
    folder
}

/// Writes `bytes` as the full image `name` in the format of its ending.
fn full(folder: &Folder, name: &str, bytes: &[u8]) {
    write(folder, name, b"");
    folder.write("made.raw", bytes);
    folder
        .run(&format!("convert made.raw -o {name} --force"))
        .code(0);
    fs::remove_file(folder.path("made.raw")).unwrap();
}

fn clusters(folder: &Folder, paths: &str) -> Vec<Value> {
    let json = folder
        .run(&format!("dedup-report {paths} --json"))
        .code(0)
        .json();
    json["clusters"].as_array().unwrap().clone()
}

/// Runs what the report says, in a shell.
fn run_commands(folder: &Folder, cluster: &Value) -> Vec<Ran> {
    let commands = cluster["commands"].as_array().unwrap();
    let lines = commands.iter().map(|command| {
        let line = command.as_str().unwrap().strip_prefix("vdisk ").unwrap();
        folder.shell(&format!("\"$V\" {line} --json")).code(0)
    });
    lines.collect()
}

/// What the split images say they are smaller by, together.
fn smaller_by(runs: &[Ran]) -> u64 {
    let sums = runs
        .iter()
        .map(|ran| ran.json()["smaller_by"].as_u64().unwrap());
    sums.sum()
}

#[track_caller]
fn assert_about(said: &Value, freed: u64) {
    let said = said.as_u64().unwrap();
    assert!(
        said.abs_diff(freed) * 5 <= freed,
        "said {said}, freed {freed}"
    );
}

#[test]
fn a_folder_of_desktops_is_split_by_one_command() {
    for ending in ["vmdk", "vhd", "vhdx"] {
        let gold = format!("gold/gold.{ending}");
        let names = [1, 2, 3].map(|n| format!("desks/desk{n}.{ending}"));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let folder = farm(&gold, &names, MIB);
        let found = clusters(&folder, ".");
        assert_eq!(found.len(), 1, "{ending}: {found:#?}");
        let cluster = &found[0];
        assert_eq!(cluster["base"], format!("./{gold}"));
        assert_eq!(
            cluster["members"],
            Value::from(names.iter().map(|n| format!("./{n}")).collect::<Vec<_>>())
        );
        let share = cluster["shared_percent"].as_f64().unwrap();
        assert!((share - 100.0 * 8.0 / 9.0).abs() < 2.0, "{share}");
        let command = format!("vdisk split --all ./desks --base ./{gold}");
        assert_eq!(cluster["commands"], Value::from(vec![command]));
        let runs = run_commands(&folder, cluster);
        assert_about(&cluster["frees_bytes"], smaller_by(&runs));
    }
}

#[test]
fn desktops_among_others_get_a_command_each() {
    let names = ["farm/desk 1.vmdk", "farm/it's.vmdk", "farm/desk2.vmdk"];
    let gold = farm(
        "farm/gold.vmdk",
        &["farm/d1.vmdk", "farm/d2.vmdk", "farm/d3.vmdk"],
        MIB,
    );
    for (old, new) in ["farm/d1.vmdk", "farm/d2.vmdk", "farm/d3.vmdk"]
        .iter()
        .zip(names)
    {
        fs::rename(gold.path(old), gold.path(new)).unwrap();
    }
    full(&gold, "farm/stranger.vmdk", &noise(99, SIZE));
    // Taken: the child must get another name.
    full(&gold, "farm/desk2.thin.vmdk", &noise(98, SIZE));
    let found = clusters(&gold, "farm");
    assert_eq!(found.len(), 1, "{found:#?}");
    let commands: Vec<&str> = found[0]["commands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c.as_str().unwrap())
        .collect();
    assert_eq!(
        commands,
        [
            "vdisk split 'farm/desk 1.vmdk' --base farm/gold.vmdk -o 'farm/desk 1.thin.vmdk'",
            "vdisk split farm/desk2.vmdk --base farm/gold.vmdk -o farm/desk2.thin2.vmdk",
            r"vdisk split 'farm/it'\''s.vmdk' --base farm/gold.vmdk -o 'farm/it'\''s.thin.vmdk'",
        ]
    );
    let runs = run_commands(&gold, &found[0]);
    assert_about(&found[0]["frees_bytes"], smaller_by(&runs));
    assert!(gold.path("farm/it's.thin.vmdk").exists());
}

/// `split --all` leaves copies with the base's identity; one by one they are split.
#[test]
fn copies_with_the_identity_of_the_base_are_split_one_by_one() {
    let folder = farm("gold/gold.vmdk", &[], 0);
    fs::create_dir(folder.path("desks")).unwrap();
    for name in ["desks/1.vmdk", "desks/2.vmdk"] {
        fs::copy(folder.path("gold/gold.vmdk"), folder.path(name)).unwrap();
    }
    let found = clusters(&folder, "gold desks");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["commands"].as_array().unwrap().len(), 2);
    let runs = run_commands(&folder, &found[0]);
    assert_about(&found[0]["frees_bytes"], smaller_by(&runs));
}

#[test]
fn what_split_would_refuse_is_not_suggested() {
    // Formats without children, or of two formats.
    let folder = farm("gold.vmdk", &["desk.vhdx"], MIB);
    assert!(clusters(&folder, ".").is_empty());
    // Children already.
    let folder = farm("gold.vmdk", &[], 0);
    for name in ["a.vmdk", "b.vmdk"] {
        folder.run(&format!("clone gold.vmdk -o {name}")).code(0);
    }
    assert!(clusters(&folder, ".").is_empty());
    // Two sizes.
    let folder = farm("gold.vmdk", &[], 0);
    let mut longer = noise(1, 8 * MIB);
    longer.resize(SIZE + MIB, 0);
    full(&folder, "longer.vmdk", &longer);
    assert!(clusters(&folder, ".").is_empty());
}

/// A disk that takes all its size frees that, besides what it shares.
#[test]
fn raw_and_flat_disks_free_their_zeros_too() {
    let folder = farm("gold.vmdk", &[], 0);
    let mut disk = noise(1, 8 * MIB);
    disk.extend(noise(2, MIB));
    disk.resize(SIZE, 0);
    folder.write("made.raw", &disk);
    folder
        .run("convert made.raw -o flat.vmdk --subformat monolithicFlat")
        .code(0);
    fs::remove_file(folder.path("made.raw")).unwrap();
    let found = clusters(&folder, ".");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["base"], "./gold.vmdk");
    let runs = run_commands(&folder, &found[0]);
    assert_about(&found[0]["frees_bytes"], smaller_by(&runs));
}
