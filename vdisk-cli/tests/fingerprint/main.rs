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
    let fine = folder
        .run("fingerprint a.raw -o fine --block-size 512 --json")
        .code(0)
        .json();
    assert_eq!(fine["unit"], 512);
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
fn progress_says_how_far_the_run_is() {
    let folder = Folder::new();
    for (seed, name) in (1..).zip(["a.raw", "b.raw", "c.raw"]) {
        folder.write(name, &noise(seed, MIB));
    }
    folder.run("fingerprint b.raw -o prints").code(0);
    let run = folder.run("fingerprint . -o prints --progress json");
    let run = run.code(0).says("\"scan 1 of 3\"").says("\"scan 3 of 3\"");
    assert!(!run.err.contains("2 of 3"), "{run:#?}");
}

/// A folder on the command line is meant with all that lies in it.
#[test]
fn clones_lie_in_folders_below_their_base() {
    let folder = Folder::new();
    for name in ["farm", "farm/dev", "farm/gold"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    folder.write("base.raw", &noise(1, MIB));
    for base in ["farm/base.vmdk", "farm/gold/base.vhd"] {
        folder.run(&format!("convert base.raw -o {base}")).code(0);
        let clone = format!("farm/dev/{}", base.rsplit('/').next().unwrap());
        let clone = clone.replace("base", "clone");
        folder
            .run(&format!("clone {base} -o {clone} --allow-path farm"))
            .code(0);
    }
    let all = ["base.vhd", "base.vmdk", "clone.vhd", "clone.vmdk"];
    for verb in ["fingerprint farm -o prints", "dedup-report farm"] {
        let report = folder.run(&format!("{verb} --json")).code(0).json();
        let paths = column(&report, "path");
        let found: Vec<&String> = paths.keys().collect();
        assert_eq!(found, all, "{verb}");
        assert_eq!(report["errors"], serde_json::json!([]), "{verb}");
    }
    // A file alone may not refer to what nobody named.
    for verb in ["fingerprint -o alone", "dedup-report"] {
        let run = folder.run(&format!("{verb} farm/dev/clone.vmdk farm/gold"));
        run.code(1)
            .says("lies outside the folders it may come from")
            .says("hint: --allow-path DIR");
    }
    folder
        .run("dedup-report farm/dev/clone.vmdk farm/gold --allow-path farm")
        .code(0);
}

/// What lies outside the folders stays out of reach, whatever an image says.
#[test]
fn a_link_to_an_extent_elsewhere_is_not_followed() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("farm/dev")).unwrap();
    folder.write("secret.raw", &noise(1, MIB));
    folder.write("farm/shared.raw", &noise(2, MIB));
    let disk = |extent: &str| {
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
             createType=\"monolithicFlat\"\n\nRW 2048 FLAT \"{extent}\" 0\n"
        )
    };
    folder.write("farm/dev/in.vmdk", disk("../shared.raw").as_bytes());
    folder.write("farm/dev/out.vmdk", disk("../../secret.raw").as_bytes());
    // A namesake in the folder is another file.
    folder.write("farm/dev/lost.vmdk", disk("shared.raw").as_bytes());
    let report = folder.run("dedup-report farm --json").code(1).json();
    let found = column(&report, "path");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["in.vmdk"]);
    let errors = report["errors"].as_array().unwrap();
    let error = |n: usize| errors[n]["error"].as_str().unwrap();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(error(0).contains("lost.vmdk") && error(0).contains("was not found"));
    assert!(error(1).contains("out.vmdk") && error(1).contains("lies outside"));
}

#[test]
fn links_and_other_things_are_counted_as_skipped() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("farm/sub")).unwrap();
    folder.write("elsewhere.raw", &noise(1, MIB));
    folder.write("farm/a.raw", &noise(2, MIB));
    folder.write("farm/sub/note.txt", b"no image");
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, folder.path(name)).unwrap();
    link("../elsewhere.raw", "farm/link.raw");
    link("nowhere", "farm/dangling.raw");
    link("farm", "other");
    folder.shell("mkfifo farm/pipe.raw").code(0);
    for name in ["farm", "other"] {
        let args = format!("fingerprint {name} -o prints --json");
        let report = folder.run(&args).code(0).json();
        assert_eq!(actions(&report).keys().collect::<Vec<_>>(), ["a.raw"]);
        assert_eq!(report["skipped"], 4, "{name}");
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
