//! `vdisk fingerprint`, and reports on what it wrote.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod again;
mod alignment;
mod cuts;
mod from;
mod parquet;
#[path = "../run/mod.rs"]
mod run;
#[allow(dead_code, reason = "the tests with peers use all of it")]
#[path = "../support/mod.rs"]
mod support;
mod wrong;

use run::{Folder, noise};
use serde_json::Value;
use std::{collections::BTreeMap, fs};
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
