//! Images of several files on the command line: all of them or none, and how they are reported.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};
use support::{Dice, assert_refused, contents, sha256, vdisk, vdisk_hash, vdisk_json};

const FLAT: [&str; 2] = ["--subformat", "monolithicFlat"];

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn convert(folder: &Path, arguments: &[&str]) -> support::Said {
    vdisk(folder, &[&["convert"], arguments, &FLAT].concat())
}

#[test]
fn the_sizes_of_all_files_count() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let bytes = contents(&mut Dice(1), 3 << 20);
    fs::write(folder.join("in.raw"), &bytes).unwrap();
    let json = vdisk_json(
        folder,
        &[&["convert", "in.raw", "-o", "a b.vmdk"][..], &FLAT].concat(),
    );
    assert_eq!(names(folder), ["a b-flat.vmdk", "a b.vmdk", "in.raw"]);
    let taken = ["a b-flat.vmdk", "a b.vmdk"]
        .map(|name| fs::metadata(folder.join(name)).unwrap().blocks() * 512);
    assert_eq!(json["stored_size"], taken.iter().sum::<u64>(), "{json}");
    assert!(json["identity"].as_str().unwrap().starts_with("CID "));
    assert_eq!(vdisk_hash(folder, "a b.vmdk"), sha256(&bytes));
    // Thin: what is zero takes no room.
    vdisk(
        folder,
        &["create", "thin.vmdk", "-s", "1G", "--subformat", "vmfs"],
    )
    .good();
    let extent = fs::metadata(folder.join("thin-flat.vmdk")).unwrap();
    assert_eq!((extent.len(), extent.blocks()), (1 << 30, 0));
    let descriptor = fs::read_to_string(folder.join("thin.vmdk")).unwrap();
    assert!(descriptor.contains("\nRW 2097152 VMFS \"thin-flat.vmdk\"\n"));
    assert!(descriptor.contains("\nddb.thinProvisioned = \"1\"\n"));
}

#[test]
fn no_file_of_a_set_is_overwritten_unasked() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    fs::write(folder.join("in.raw"), vec![7; 1 << 20]).unwrap();
    fs::write(folder.join("a-flat.vmdk"), "precious").unwrap();
    let said = convert(folder, &["in.raw", "-o", "a.vmdk"]);
    assert_refused(&said);
    assert!(said.err.contains("a-flat.vmdk: output: exists already"));
    assert_eq!(names(folder), ["a-flat.vmdk", "in.raw"]);
    convert(folder, &["in.raw", "-o", "a.vmdk", "--force"]).good();
    assert_eq!(fs::read(folder.join("a-flat.vmdk")).unwrap(), [7; 1 << 20]);

    // An extent that is read is an input too, and so is a link to one.
    let said = convert(folder, &["a.vmdk", "-o", "b.vmdk"]).good();
    assert!(said.contains("b.vmdk: vmdk monolithicFlat"), "{said}");
    let before = names(folder);
    for output in ["a.vmdk", "A.vmdk"] {
        if output == "A.vmdk" {
            symlink("a-flat.vmdk", folder.join("A-flat.vmdk")).unwrap();
        }
        let said = convert(folder, &["a.vmdk", "-o", output, "--force"]);
        assert_refused(&said);
        assert!(said.err.contains("is also an input"), "{said:#?}");
    }
    fs::remove_file(folder.join("A-flat.vmdk")).unwrap();
    assert_eq!(names(folder), before);
    assert_eq!(vdisk_hash(folder, "a.vmdk"), sha256(&[7; 1 << 20]));
}

#[test]
fn what_cannot_be_several_files_is_refused_before_work() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    fs::write(folder.join("in.raw"), vec![7; 1 << 20]).unwrap();
    assert_refused(&convert(folder, &["in.raw", "-o", "-"]));
    assert_refused(&convert(folder, &["in.raw", "-o", "a\"b.vmdk"]));
    assert_refused(&convert(folder, &["in.raw", "-o", "a\\b.vmdk"]));
    // 255 bytes, the most that a name can have; its extents would need more.
    let long = format!("{}.vmdk", "n".repeat(250));
    assert_refused(&convert(folder, &["in.raw", "-o", &long]));
    vdisk(folder, &["convert", "in.raw", "-o", "base.vmdk"]).good();
    let clone = ["clone", "base.vmdk", "-o", "child.vmdk"];
    let said = vdisk(folder, &[&clone[..], &FLAT].concat());
    assert_refused(&said);
    assert!(said.err.contains("cannot be a child"), "{said:#?}");
    assert_eq!(names(folder), ["base.vmdk", "in.raw"]);
}

#[test]
fn the_same_input_makes_the_same_files() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let bytes = contents(&mut Dice(2), 2 << 20);
    fs::write(folder.join("in.raw"), bytes).unwrap();
    let arguments = ["convert", "in.raw", "--reproducible", "-o"];
    for subformat in ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "vmfs"] {
        let mut made = Vec::new();
        for place in ["one", "two"] {
            let output = format!("{place}-{subformat}/a.vmdk");
            let inside = folder.join(&output);
            let inside = inside.parent().unwrap();
            fs::create_dir(inside).unwrap();
            let more = [output.as_str(), "--subformat", subformat];
            vdisk(folder, &[&arguments[..], &more].concat()).good();
            made.push(
                names(inside)
                    .into_iter()
                    .map(|n| {
                        let bytes = fs::read(inside.join(&n)).unwrap();
                        (n, bytes)
                    })
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(made[0].len(), 2);
        assert!(made[0] == made[1], "{subformat} differs");
    }
}
