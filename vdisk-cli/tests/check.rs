//! `vdisk check`: exit codes, JSON, repair and undo; and against qemu, which finds less.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails"
)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::{Dice, Said, contents, peers::Qemu, run, sha256, vdisk, vdisk_hash};

/// The verdict on an image in order whose data were not read.
const LOOKED: &str = "nothing wrong found; data not read (--deep reads it)";

/// 100 grains, of which some are zeros, and the digest of the disk.
fn sparse(folder: &Path, name: &str, subformat: &str) -> String {
    let bytes = contents(&mut Dice(7), 100 << 16);
    fs::write(folder.join("in.raw"), &bytes).unwrap();
    let arguments = ["convert", "in.raw", "-o", name, "--subformat", subformat];
    vdisk(folder, &arguments).good();
    sha256(&bytes)
}

/// `vdisk check --json` with `more`: how it ended, and what it printed.
fn check(folder: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let said = vdisk(folder, &[&["check", "--json"], more].concat());
    let json = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:#?}"));
    (said.code, json)
}

fn rules(report: &Value) -> Vec<&str> {
    let list = report["findings"].as_array().unwrap().iter();
    list.map(|f| f["rule"].as_str().unwrap()).collect()
}

fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(folder.join(name)).unwrap();
    change(&mut bytes);
    fs::write(folder.join(name), bytes).unwrap();
}

fn get(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// File offset of the first table of a sparse VMDK: the primary one, or its copy.
fn table(bytes: &[u8], copy: bool) -> usize {
    let directory = get(bytes, if copy { 48 } else { 56 }) as usize * 512;
    let entry = u32::from_le_bytes(bytes[directory..directory + 4].try_into().unwrap());
    entry as usize * 512
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_clean_image_is_reported_as_such() {
    let temp = tempfile::tempdir().unwrap();
    sparse(temp.path(), "a.vmdk", "monolithicSparse");
    let (code, report) = check(temp.path(), &["a.vmdk"]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(
        report,
        json!({
            "schema": 1, "path": "a.vmdk", "format": "vmdk", "layers": 1, "findings": [],
            "counts": {}, "verdict": LOOKED, "repaired": [], "dry_run": false, "backups": [],
        })
    );
    let text = vdisk(temp.path(), &["check", "a.vmdk"]).good();
    assert_eq!(text, format!("a.vmdk: {LOOKED}\n"));
    let text = vdisk(temp.path(), &["check", "a.vmdk", "--deep", "-q"]).good();
    assert_eq!(text, "a.vmdk: nothing is wrong\n");
}

#[test]
fn what_is_no_image_is_an_error_and_no_finding() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a.vmdk"), b"nothing").unwrap();
    for name in ["a.vmdk", "none.vmdk"] {
        let said = vdisk(temp.path(), &["check", name]);
        support::assert_refused(&said);
        assert_eq!(said.out, "", "{said:#?}");
    }
}

/// Two things are wrong, and the second can be repaired only after the first: one call does both.
#[test]
fn repair_shows_does_and_undoes() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let digest = sparse(folder, "a.vmdk", "monolithicSparse");
    edit(folder, "a.vmdk", |b| {
        b[72] = 1;
        let at = table(b, false);
        b[at..at + 2048].fill(0xee);
    });
    let damaged = fs::read(folder.join("a.vmdk")).unwrap();
    let before = names(folder);

    let (code, report) = check(folder, &["a.vmdk"]);
    assert_eq!(code, Some(1), "{report}");
    let found = report["findings"].as_array().unwrap();
    let entry = found
        .iter()
        .find(|f| f["rule"] == "grain-past-end")
        .unwrap();
    for (key, value) in [
        ("severity", json!("error")),
        ("file", json!("a.vmdk")),
        ("part", json!("grain table 0, entry 0")),
        ("detail", json!("points past the end of the file")),
        ("at", json!(table(&damaged, false))),
        ("repair", Value::Null),
    ] {
        assert_eq!(entry[key], value, "{entry}");
    }
    assert_eq!(report["counts"]["grain-past-end"], 100, "{report}");
    let copies = found.iter().find(|f| f["rule"] == "redundant-differs");
    assert!(copies.unwrap()["repair"].is_string(), "{report}");

    let (code, report) = check(folder, &["a.vmdk", "--repair", "--dry-run"]);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(report["repaired"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["dry_run"], true);
    assert!(
        fs::read(folder.join("a.vmdk")).unwrap() == damaged,
        "a dry run wrote"
    );
    assert_eq!(names(folder), before);

    let (code, report) = check(folder, &["a.vmdk", "--repair"]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["repaired"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(
        report["backups"],
        json!(["a.vmdk.backup-1", "a.vmdk.backup-2"])
    );
    assert_eq!(
        (&report["verdict"], &report["dry_run"]),
        (&json!(LOOKED), &json!(false))
    );
    assert_eq!(vdisk_hash(folder, "a.vmdk"), digest);

    let repaired = fs::read(folder.join("a.vmdk")).unwrap();
    let said = vdisk(folder, &["check", "--undo", "a.vmdk.backup-1"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(said.err.contains("undo a.vmdk.backup-2 first"), "{said:#?}");
    for flag in ["--dry-run", "--repair", "--deep", "--chain"] {
        let said = vdisk(folder, &["check", "--undo", "a.vmdk.backup-2", flag]);
        assert_eq!(said.code, Some(2), "{said:#?}");
    }
    assert!(fs::read(folder.join("a.vmdk")).unwrap() == repaired);
    for backup in ["a.vmdk.backup-2", "a.vmdk.backup-1"] {
        let said = vdisk(folder, &["check", "--undo", backup]).good();
        assert_eq!(said, format!("a.vmdk: restored from {backup}\n"));
    }
    assert!(fs::read(folder.join("a.vmdk")).unwrap() == damaged);
}

#[test]
fn undo_refuses_what_is_no_backup() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a.vmdk.backup-1"), b"nothing").unwrap();
    let said = vdisk(temp.path(), &["check", "--undo", "a.vmdk.backup-1"]);
    support::assert_refused(&said);
    let sentence = "is not a backup made by vdisk, or is damaged";
    assert!(said.err.contains(sentence), "{said:#?}");
}

#[test]
fn undo_refuses_another_state_and_says_what_is_missing() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    sparse(folder, "a.vmdk", "monolithicSparse");
    edit(folder, "a.vmdk", |b| b[72] = 1);
    vdisk(folder, &["check", "a.vmdk", "--repair"]).good();
    edit(folder, "a.vmdk", |b| b.extend([0; 512]));
    let longer = fs::read(folder.join("a.vmdk")).unwrap();
    let undo = || vdisk(folder, &["check", "--undo", "a.vmdk.backup-1"]);
    let said = undo();
    assert_eq!(said.code, Some(3), "{said:#?}");
    let sentence = "was changed since a.vmdk.backup-1 was made; nothing was restored";
    assert!(said.err.contains(sentence), "{said:#?}");
    assert!(fs::read(folder.join("a.vmdk")).unwrap() == longer);
    fs::remove_file(folder.join("a.vmdk")).unwrap();
    let said = undo();
    support::assert_refused(&said);
    let sentence = "a.vmdk.backup-1: backup: belongs beside a.vmdk, which is not there";
    assert!(said.err.contains(sentence), "{said:#?}");
}

/// One is not many, and what a repair cannot do is said.
#[test]
fn the_verdict_counts() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    sparse(folder, "a.vmdk", "monolithicSparse");
    let verdict = |more: &[&str]| {
        let (_, report) = check(folder, &[&["a.vmdk"], more].concat());
        report["verdict"].as_str().unwrap().to_owned()
    };
    edit(folder, "a.vmdk", |b| b[72] = 1);
    assert_eq!(verdict(&[]), "1 warning; 1 can be repaired");
    assert_eq!(verdict(&["--repair"]), LOOKED);
    // One grain in both copies of its entry: neither is a witness.
    edit(folder, "a.vmdk", |b| {
        for copy in [false, true] {
            let at = table(b, copy);
            put32(b, at, 1 << 30);
        }
    });
    let before = fs::read(folder.join("a.vmdk")).unwrap();
    let counts = verdict(&[]);
    assert!(counts.ends_with("; nothing can be repaired"), "{counts}");
    assert!(
        counts.starts_with("1 error") || counts.starts_with("2 errors"),
        "{counts}"
    );
    let counts = verdict(&["--repair"]);
    assert!(counts.ends_with("; nothing could be repaired"), "{counts}");
    assert!(fs::read(folder.join("a.vmdk")).unwrap() == before);
    // All that are counted, also those that are not listed.
    vdisk(folder, &["create", "b.vmdk", "--size", "20M"]).good();
    edit(folder, "b.vmdk", |b| {
        for copy in [false, true] {
            let at = table(b, copy);
            b[at..at + 2048].fill(0xee);
        }
    });
    let (_, report) = check(folder, &["b.vmdk"]);
    let counts = report["counts"].as_object().unwrap().values();
    let all: u64 = counts.map(|c| c.as_u64().unwrap()).sum();
    assert!(all > 200, "{report}");
    let counts = report["verdict"].as_str().unwrap();
    let said: u64 = counts
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    assert_eq!(said, all, "{report}");
}

/// A limit on the size of files stands for a disk that is full.
#[test]
fn a_repair_that_runs_out_of_room_says_where_the_old_bytes_are() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    sparse(folder, "a.vmdk", "streamOptimized");
    edit(folder, "a.vmdk", |b| b.truncate(b.len() - 1024));
    let damaged = fs::read(folder.join("a.vmdk")).unwrap();
    let limited = |limit: usize| -> Said {
        let line = format!(
            "ulimit -f {limit}; exec '{}' check a.vmdk --repair",
            env!("CARGO_BIN_EXE_vdisk")
        );
        run("/bin/sh", folder, &["-c", &line])
    };
    // No room for the backup: nothing is touched, nothing is left.
    let said = limited(0);
    support::assert_refused(&said);
    assert!(fs::read(folder.join("a.vmdk")).unwrap() == damaged);
    assert_eq!(names(folder), ["a.vmdk", "in.raw"], "{said:#?}");
    // Room for the backup, and for a part of what is appended. The unit is 512 bytes.
    let said = limited(damaged.len() / 512 + 1);
    support::assert_refused(&said);
    assert!(said.err.contains("kept in 'a.vmdk.backup-1'"), "{said:#?}");
    vdisk(folder, &["check", "--undo", "a.vmdk.backup-1"]).good();
    assert!(fs::read(folder.join("a.vmdk")).unwrap() == damaged);
    vdisk(folder, &["check", "a.vmdk", "--repair"]).good();
}

#[test]
fn parents_are_looked_at_as_the_image_is_with_chain() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    sparse(folder, "base.vmdk", "monolithicSparse");
    edit(folder, "in.raw", |b| b[5000] ^= 1);
    vdisk(folder, &["diff", "base.vmdk", "in.raw", "-o", "child.vmdk"]).good();
    let (code, report) = check(folder, &["child.vmdk", "--chain", "--deep"]);
    assert_eq!((code, &report["layers"]), (Some(0), &json!(2)), "{report}");
    edit(folder, "base.vmdk", |b| b[72] = 1);
    assert_eq!(check(folder, &["child.vmdk"]).0, Some(0));
    let (code, report) = check(folder, &["child.vmdk", "--chain"]);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(rules(&report), ["unclean-shutdown"]);
    assert_eq!(report["findings"][0]["file"], "base.vmdk");
    // Only the image that was named is ever changed.
    let before = fs::read(folder.join("base.vmdk")).unwrap();
    let (code, report) = check(folder, &["child.vmdk", "--chain", "--repair"]);
    assert_eq!((code, &report["backups"]), (Some(1), &json!([])));
    assert!(fs::read(folder.join("base.vmdk")).unwrap() == before);
    fs::remove_file(folder.join("base.vmdk")).unwrap();
    let (code, report) = check(folder, &["child.vmdk"]);
    assert_eq!((code, rules(&report)), (Some(1), vec!["parent-missing"]));
}

// ---- qemu ------------------------------------------------------------------------------------

/// All of these `qemu-img check` calls clean, and a guest would lose data by them.
#[test]
fn finds_what_qemu_calls_clean() {
    type Damage = fn(&mut Vec<u8>);
    let Some(qemu) = Qemu::find() else { return };
    let damages: [(&str, Damage, &str, bool); 6] = [
        (
            "two entries for one grain",
            |b| {
                let at = table(b, false);
                let taken = u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
                put32(b, at + 99 * 4, taken);
            },
            "grain-shared",
            true,
        ),
        (
            "a grain in the descriptor",
            |b| {
                let at = table(b, false);
                put32(b, at, 2);
            },
            "grain-in-metadata",
            true,
        ),
        (
            "an entry of the copy past the end",
            |b| {
                let at = table(b, true);
                put32(b, at, 1 << 30);
            },
            "redundant-differs",
            true,
        ),
        (
            "an entry of the copy lost",
            |b| {
                let at = table(b, true);
                put32(b, at, 0);
            },
            "redundant-differs",
            false,
        ),
        ("not closed", |b| b[72] = 1, "unclean-shutdown", true),
        ("newline bytes", |b| b[74] = b'!', "newlines", true),
    ];
    for (name, damage, rule, repairs) in damages {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let bytes = contents(&mut Dice(3), 100 << 16);
        // Each grain holds something, so that the entries are all there.
        let bytes: Vec<u8> = bytes.iter().map(|b| b | 1).collect();
        fs::write(folder.join("in.raw"), &bytes).unwrap();
        let arguments = ["convert", "-f", "raw", "-O", "vmdk", "in.raw", "a.vmdk"];
        qemu.img(folder, &arguments);
        assert_eq!(check(folder, &["a.vmdk", "--deep"]).0, Some(0), "{name}");
        edit(folder, "a.vmdk", damage);
        let clean = |qemu: &Qemu| qemu.img(folder, &["check", "-f", "vmdk", "a.vmdk"]);
        assert!(clean(&qemu).contains("No errors were found"), "{name}");
        let (code, report) = check(folder, &["a.vmdk"]);
        assert_eq!(code, Some(1), "{name}: {report}");
        assert!(rules(&report).contains(&rule), "{name}: {report}");
        let (code, report) = check(folder, &["a.vmdk", "--repair"]);
        assert_eq!(code, Some(if repairs { 0 } else { 1 }), "{name}: {report}");
        if repairs {
            clean(&qemu);
            assert_eq!(vdisk_hash(folder, "a.vmdk"), sha256(&bytes), "{name}");
            assert_eq!(
                qemu.sha256(folder, "vmdk", "a.vmdk"),
                sha256(&bytes),
                "{name}"
            );
        }
    }
}

/// Nothing that healthy programs write may look damaged.
#[test]
fn what_is_written_is_clean() {
    const SIZES: [usize; 4] = [512, 64 << 10, (3 << 20) + 512, 40 << 20];
    let ours = [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "vmfs",
        "streamOptimized",
    ];
    let theirs = [
        "subformat=monolithicSparse",
        "subformat=monolithicSparse,zeroed_grain=on",
        "subformat=monolithicFlat",
        "subformat=twoGbMaxExtentSparse",
        "subformat=twoGbMaxExtentFlat",
        "subformat=streamOptimized",
    ];
    let qemu = Qemu::find();
    for (seed, size) in (1..).zip(SIZES) {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        fs::write(folder.join("in.raw"), contents(&mut Dice(seed), size)).unwrap();
        let mut images = Vec::new();
        for subformat in ours {
            let name = format!("{subformat}.vmdk");
            vdisk(
                folder,
                &[
                    "convert",
                    "in.raw",
                    "-o",
                    &name,
                    "--subformat",
                    subformat,
                    "--no-sync",
                ],
            )
            .good();
            images.push(name);
        }
        for (number, options) in theirs.iter().enumerate() {
            let Some(qemu) = &qemu else { break };
            let name = format!("qemu-{number}.vmdk");
            qemu.img(
                folder,
                &[
                    "convert", "-f", "raw", "-O", "vmdk", "-o", options, "in.raw", &name,
                ],
            );
            images.push(name);
        }
        if let Some(qemu) = &qemu
            && size >= 1 << 20
        {
            let name = "qemu-child.vmdk";
            let from = "qemu-1.vmdk";
            qemu.img(
                folder,
                &["create", "-q", "-f", "vmdk", "-b", from, "-F", "vmdk", name],
            );
            let writes = [
                "write -P 7 0 512",
                "write -z 128k 64k",
                "write -P 9 1M 300k",
            ];
            qemu.io(folder, "vmdk", name, &writes.map(str::to_owned));
            images.push(name.to_owned());
        }
        for name in images {
            let (code, report) = check(folder, &[&name, "--deep", "--chain"]);
            assert_eq!(code, Some(0), "{name} of {size} bytes: {report}");
        }
    }
}

// ---- size ------------------------------------------------------------------------------------

/// A disk of 2 TiB with a million grains in random order, within 256 MiB of memory.
#[test]
fn a_large_image_needs_little_memory_and_time() {
    const GRAINS: u32 = 1 << 20;
    const TABLES: usize = 65_536;
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    vdisk(folder, &["create", "big.vmdk", "--size", "2T"]).good();
    let path = folder.join("big.vmdk");
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut head = vec![0; 512];
    file.read_exact_at(&mut head, 0).unwrap();
    let overhead = get(&head, 64) as u32;
    // Every sixteenth entry leads to a grain, by a permutation of them all.
    let place = |number: u32| overhead + number.wrapping_mul(0x9e37_79b1) % GRAINS * 128;
    for directory in [get(&head, 48), get(&head, 56)] {
        let mut entries = vec![0; TABLES * 4];
        file.read_exact_at(&mut entries, directory * 512).unwrap();
        let mut first = [0; 4];
        first.copy_from_slice(&entries[..4]);
        let at = u64::from(u32::from_le_bytes(first)) * 512;
        let mut tables = vec![0u8; 32 * 2048];
        for group in 0..TABLES / 32 {
            for index in 0..512 {
                let number = (group * 512 + index) as u32;
                put32(&mut tables, index * 32 * 4, place(number));
            }
            file.write_all_at(&tables, at + (group * tables.len()) as u64)
                .unwrap();
        }
    }
    file.set_len((u64::from(overhead) + u64::from(GRAINS) * 128) * 512)
        .unwrap();
    let line = format!(
        "ulimit -v 262144; exec '{}' check big.vmdk",
        env!("CARGO_BIN_EXE_vdisk")
    );
    let start = Instant::now();
    let output = Command::new("/bin/sh")
        .args(["-c", &line])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.ends_with(&format!("big.vmdk: {LOOKED}\n")), "{text}");
    assert!(
        start.elapsed() < Duration::from_secs(120),
        "{:?}",
        start.elapsed()
    );
    // And it was looked at: one grain twice is found.
    file.write_all_at(&place(0).to_le_bytes(), {
        let mut first = [0; 4];
        file.read_exact_at(&mut first, get(&head, 56) * 512)
            .unwrap();
        u64::from(u32::from_le_bytes(first)) * 512 + 4
    })
    .unwrap();
    let (code, report) = check(folder, &["big.vmdk"]);
    assert_eq!(code, Some(1));
    assert!(rules(&report).contains(&"grain-shared"), "{report}");
}

#[test]
fn raw_disks_that_look_odd_are_found() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    fs::write(folder.join("odd.raw"), [7; 515]).unwrap();
    let (code, report) = check(folder, &["odd.raw"]);
    assert_eq!((code, rules(&report)), (Some(1), vec!["raw"]), "{report}");
    sparse(folder, "disk.vmdk", "monolithicSparse");
    let (code, report) = check(folder, &["disk.vmdk", "--input-format", "raw"]);
    assert_eq!((code, rules(&report)), (Some(1), vec!["raw"]), "{report}");
}
