//! `vdisk fingerprint`: what is read again and what is not, and what is left when something goes wrong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod run;

use run::{Folder, noise};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt,
    process::Stdio,
    time::{Duration, Instant},
};
use vdisk_core::ops::dedup::{Block, Content, Fingerprint};

const MIB: usize = 1 << 20;

/// `path`'s last part, and the field.
fn column(report: &Value, field: &str) -> BTreeMap<String, String> {
    let images = report["images"].as_array().unwrap();
    let name = |image: &Value| {
        let path = image["path"].as_str().unwrap();
        path.rsplit('/').next().unwrap().to_owned()
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    images.iter().map(|i| (name(i), text(&i[field]))).collect()
}

fn actions(report: &Value) -> BTreeMap<String, String> {
    column(report, "action")
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    let owned = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
    pairs.into_iter().map(owned).collect()
}

/// All rows of the file that `report` names for the image.
fn rows(folder: &Folder, report: &Value, image: &str) -> Vec<Block> {
    let file = &column(report, "file")[image];
    let mut reader = vdisk_fingerprints::Reader::open(&folder.path(file)).unwrap();
    let mut rows = Vec::new();
    reader
        .blocks(&mut |blocks| {
            rows.extend_from_slice(blocks);
            Ok(())
        })
        .unwrap();
    rows
}

/// The blocks of 4 KiB of `disk`, without what is known of deflate; runs of zeros joined.
fn blocks(disk: &[u8]) -> Vec<(u64, u64, Option<Fingerprint>)> {
    let mut found: Vec<(u64, u64, Option<Fingerprint>)> = Vec::new();
    for (number, block) in disk.chunks(4096).enumerate() {
        let print = block
            .iter()
            .any(|b| *b != 0)
            .then(|| Fingerprint::of(block));
        let (pos, len) = (number as u64 * 4096, block.len() as u64);
        match found.last_mut() {
            Some((_, run, None)) if print.is_none() => *run += len,
            _ => found.push((pos, len, print)),
        }
    }
    found
}

fn plain(rows: &[Block]) -> Vec<(u64, u64, Option<Fingerprint>)> {
    let plain = |row: &Block| match row.content {
        Content::Zero => (row.pos, row.len, None),
        Content::Data { print, .. } => (row.pos, row.len, Some(print)),
    };
    rows.iter().map(plain).collect()
}

/// Writes one byte into the raw image, at another time than it was written before.
fn change(folder: &Folder, name: &str) {
    let file = fs::File::options()
        .write(true)
        .open(folder.path(name))
        .unwrap();
    file.write_all_at(b"changed", 5000).unwrap();
}

#[test]
fn images_become_the_blocks_of_what_they_read_as() {
    let folder = Folder::new();
    let mut disk = noise(1, 3 * MIB);
    disk[8192..2 * MIB].fill(0);
    disk.extend(noise(2, 512)); // the last block is short
    folder.write("a.raw", &disk);
    for to in ["b.vmdk", "c.vhd", "d.vhdx"] {
        folder.run(&format!("convert a.raw -o {to}")).code(0);
    }
    let report = folder.run("fingerprint . -o prints --json").code(0).json();
    assert_eq!(report["unit"], 4096);
    for image in ["a.raw", "b.vmdk", "c.vhd", "d.vhdx"] {
        assert_eq!(
            plain(&rows(&folder, &report, image)),
            blocks(&disk),
            "{image}"
        );
        assert_eq!(
            column(&report, "data_bytes")[image],
            (MIB + 8192 + 512).to_string()
        );
        assert_eq!(
            column(&report, "zero_bytes")[image],
            (2 * MIB - 8192).to_string()
        );
    }
    assert_eq!(report["skipped"], 0);
    // Of another unit, in the same folder.
    let coarse = folder
        .run("fingerprint a.raw -o prints --block-size 512 --json")
        .code(0)
        .json();
    assert_eq!(coarse["unit"], 512);
    assert_eq!(column(&coarse, "action")["a.raw"], "read");
    let again = folder.run("fingerprint . -o prints --json").code(0).json();
    assert!(
        actions(&again).values().all(|a| a == "unchanged"),
        "{again}"
    );
}

#[test]
fn only_what_changed_is_read_again() {
    let folder = Folder::new();
    for (seed, name) in (1..).zip(["a.raw", "b.raw", "base.raw"]) {
        folder.write(name, &noise(seed, MIB));
    }
    folder.run("convert base.raw -o base.vmdk").code(0);
    fs::remove_file(folder.path("base.raw")).unwrap();
    for clone in ["one.vmdk", "two.vmdk", "deep.vmdk"] {
        let from = if clone == "deep.vmdk" {
            "two.vmdk"
        } else {
            "base.vmdk"
        };
        folder.run(&format!("clone {from} -o {clone}")).code(0);
    }
    let run = || folder.run("fingerprint . -o prints --json").code(0).json();
    let all = [
        "a.raw",
        "b.raw",
        "base.vmdk",
        "deep.vmdk",
        "one.vmdk",
        "two.vmdk",
    ];
    assert_eq!(actions(&run()), map(all.map(|name| (name, "read"))));
    assert_eq!(actions(&run()), map(all.map(|name| (name, "unchanged"))));
    change(&folder, "a.raw");
    let report = run();
    let wanted = all.map(|n| (n, if n == "a.raw" { "read" } else { "unchanged" }));
    assert_eq!(actions(&report), map(wanted));
    assert_eq!(
        plain(&rows(&folder, &report, "a.raw")),
        blocks(&folder.read("a.raw"))
    );
    // What lies over a changed image reads as something else, or may.
    let text = folder.read("two.vmdk");
    folder.write("two.vmdk", &text);
    let wanted = all.map(|n| {
        let changed = ["two.vmdk", "deep.vmdk"].contains(&n);
        (n, if changed { "read" } else { "unchanged" })
    });
    assert_eq!(actions(&run()), map(wanted));
    let names = fs::read_dir(folder.path("prints")).unwrap().count();
    assert_eq!(names, all.len(), "no file is out of date");
}

#[test]
fn clones_share_the_file_of_their_base() {
    let folder = Folder::new();
    fs::create_dir(folder.path("desks")).unwrap();
    folder.write("base.raw", &noise(1, 2 * MIB));
    folder.run("convert base.raw -o base.vmdk").code(0);
    folder
        .run("clone base.vmdk -o desks/one.vmdk --subformat monolithicSparse")
        .code(0);
    folder.run("clone base.vmdk -o desks/two.vmdk").code(0);
    let args = "fingerprint desks -o prints --json --allow-path .";
    let report = folder.run(args).code(0).json();
    assert_eq!(
        column(&report, "image"),
        map([
            ("base.vmdk", "false"),
            ("one.vmdk", "true"),
            ("two.vmdk", "true")
        ])
    );
    let base = column(&report, "id")["base.vmdk"].clone();
    assert_eq!(column(&report, "parent")["one.vmdk"], base);
    assert_eq!(column(&report, "parent")["two.vmdk"], base);
    assert!(rows(&folder, &report, "one.vmdk").is_empty());
    // It becomes an image without being read again, and stays one.
    for named in ["base.vmdk desks", "desks"] {
        let args = format!("fingerprint {named} -o prints --json --allow-path .");
        let report = folder.run(&args).code(0).json();
        assert_eq!(column(&report, "image")["base.vmdk"], "true", "{named}");
        assert!(
            actions(&report).values().all(|a| a == "unchanged"),
            "{report}"
        );
        let disk = folder.read("base.raw");
        assert_eq!(plain(&rows(&folder, &report, "base.vmdk")), blocks(&disk));
    }
}

#[test]
fn each_disk_of_a_package_has_a_file() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("convert a.raw -o vm.ova").code(0);
    for action in ["read", "unchanged"] {
        let report = folder
            .run("fingerprint vm.ova -o prints --json")
            .code(0)
            .json();
        let found = actions(&report);
        let (name, said) = found.iter().next().unwrap();
        assert!(name.starts_with("vm.ova::"), "{name}");
        assert_eq!((found.len(), said.as_str()), (1, action));
        assert_eq!(
            plain(&rows(&folder, &report, name)),
            blocks(&folder.read("a.raw"))
        );
    }
}

#[test]
fn what_cannot_be_read_is_left_out_with_all_over_it() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder
        .run("convert a.raw -o base.vmdk --subformat monolithicFlat")
        .code(0);
    folder.run("clone base.vmdk -o one.vmdk").code(0);
    folder.run("clone base.vmdk -o two.vmdk").code(0);
    folder.run("convert a.raw -o other.vmdk").code(0);
    // The first grain table entry that is in use points behind the file.
    folder.run("convert a.raw -o damaged.vmdk").code(0);
    let mut bytes = folder.read("damaged.vmdk");
    let data = folder.read("a.raw");
    let grain = bytes.windows(512).position(|w| w == &data[..512]).unwrap() / 512;
    let entry = u32::try_from(grain).unwrap().to_le_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(4).position(|w| w == entry) {
        at += found;
        if at % 4 == 0 && at >= 512 && at < grain * 512 {
            bytes[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
        }
        at += 4;
    }
    folder.write("damaged.vmdk", &bytes);
    folder.run("clone damaged.vmdk -o over.vmdk").code(0);
    folder.write("half.vmdk", &folder.read("other.vmdk")[..600]);
    let run = folder.run("fingerprint . -o prints --json").code(1);
    let report = run.json();
    let read: Vec<String> = actions(&report).into_keys().collect();
    assert_eq!(
        read,
        ["a.raw", "base.vmdk", "one.vmdk", "other.vmdk", "two.vmdk"]
    );
    let errors: BTreeMap<&str, &str> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["path"].as_str().unwrap(), e["error"].as_str().unwrap()))
        .collect();
    let names: Vec<&&str> = errors.keys().collect();
    assert_eq!(
        names,
        [&"./damaged.vmdk", &"./half.vmdk", &"./over.vmdk"],
        "{errors:#?}"
    );
    assert!(
        errors["./over.vmdk"].starts_with("its parent "),
        "{errors:#?}"
    );
    assert!(
        errors["./over.vmdk"].contains("damaged.vmdk: "),
        "{errors:#?}"
    );
    for name in ["damaged.vmdk", "half.vmdk", "over.vmdk"] {
        let said = run
            .err
            .lines()
            .filter(|l| l.starts_with(&format!("warning: left out: ./{name}")));
        assert_eq!(said.count(), 1, "{}", run.err);
    }
    // Those over a file that is gone cannot even be opened; the rest is known.
    fs::remove_file(folder.path("base-flat.vmdk")).unwrap();
    let report = folder.run("fingerprint . -o prints --json").code(1).json();
    assert_eq!(
        actions(&report),
        map([("a.raw", "unchanged"), ("other.vmdk", "unchanged")])
    );
    // An image that is gone is still in the folder, which is said.
    fs::remove_file(folder.path("a.raw")).unwrap();
    let run = folder
        .run("fingerprint other.vmdk -o prints --json")
        .code(0);
    let gone = run.json()["gone"].clone();
    assert_eq!(gone.as_array().unwrap().len(), 1, "{gone}");
    assert!(
        gone[0].as_str().unwrap().starts_with("prints/a.raw-"),
        "{gone}"
    );
    run.says("is not there any more");
}

#[test]
fn damaged_fingerprints_are_made_anew() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    let report = folder
        .run("fingerprint a.raw -o prints --json")
        .code(0)
        .json();
    let file = column(&report, "file")["a.raw"].clone();
    let mut bytes = folder.read(&file);
    let end = bytes.len() - 100; // in the footer
    bytes[end] ^= 1;
    folder.write(&file, &bytes);
    let run = folder.run("fingerprint a.raw -o prints --json").code(0);
    assert_eq!(actions(&run.json())["a.raw"], "read");
    run.says("footer: does not match its digest");
    assert_eq!(
        plain(&rows(&folder, &report, "a.raw")),
        blocks(&folder.read("a.raw"))
    );
}

#[test]
fn a_run_that_was_killed_is_continued() {
    let folder = Folder::new();
    for n in 0..4 {
        folder.write(&format!("{n}.raw"), &noise(n + 1, 24 * MIB));
    }
    let whole = |name: &String| name.ends_with(".parquet");
    let prints = || -> Vec<String> {
        let Ok(entries) = fs::read_dir(folder.path("prints")) else {
            return Vec::new();
        };
        entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    };
    let mut child = folder
        .command("fingerprint . -o prints")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while !prints().iter().any(whole) {
        assert!(Instant::now() < patience, "nothing was finished");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let finished = prints().iter().filter(|name| whole(name)).count();
    for file in prints().iter().filter(|name| whole(name)) {
        let mut reader =
            vdisk_fingerprints::Reader::open(&folder.path(&format!("prints/{file}"))).unwrap();
        reader.blocks(&mut |_| Ok(())).unwrap();
    }
    let report = folder.run("fingerprint . -o prints --json").code(0).json();
    let unchanged = actions(&report)
        .values()
        .filter(|a| *a == "unchanged")
        .count();
    assert_eq!(unchanged, finished, "{report}");
    assert_eq!(actions(&report).len(), 4);
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.write("file", b"");
    folder.run("fingerprint a.raw -o file").code(2).says("file");
    folder
        .run("fingerprint a.raw -o prints --block-size 1000")
        .code(2)
        .says("not a multiple of 512");
    assert!(!folder.path("prints").exists());
    let run = folder
        .shell("ulimit -f 4; exec $V fingerprint a.raw -o prints")
        .code(2);
    assert!(run.err.contains("prints"), "{run:#?}");
    assert_eq!(fs::read_dir(folder.path("prints")).unwrap().count(), 0);
}
