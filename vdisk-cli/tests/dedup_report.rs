//! `vdisk dedup-report` over packages, of which each disk counts for itself, and what cannot be read.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod run;

use run::{Folder, noise};
use serde_json::Value;
use std::fmt::Write;

const MIB: usize = 1 << 20;

/// An OVF descriptor of raw disks of 1 MiB, in files of those names.
fn descriptor(names: &[&str]) -> String {
    let (mut files, mut disks) = (String::new(), String::new());
    for (name, number) in names.iter().zip(1..) {
        writeln!(files, r#"<File ovf:id="f{number}" ovf:href="{name}"/>"#).unwrap();
        writeln!(
            disks,
            r#"<Disk ovf:diskId="d{number}" ovf:fileRef="f{number}" ovf:capacity="{MIB}" ovf:format="http://example.com/raw"/>"#
        )
        .unwrap();
    }
    format!(
        r#"<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References>{files}</References>
<DiskSection><Info>Disks</Info>{disks}</DiskSection>
</Envelope>"#
    )
}

/// A tar archive (POSIX.1-1988) of `members`.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, contents) in members {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes.extend(header);
        bytes.extend(*contents);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn paths(report: &Value) -> Vec<&str> {
    let images = report["images"].as_array().unwrap();
    images.iter().map(|i| i["path"].as_str().unwrap()).collect()
}

#[test]
fn every_disk_of_a_package_counts_once() {
    let folder = Folder::new();
    let (a, b) = (noise(1, MIB), noise(2, MIB));
    let text = descriptor(&["a.img", "b.img", "c.img"]);
    let members = [
        ("vm.ovf", text.as_bytes()),
        ("a.img", &a),
        ("b.img", &b),
        ("c.img", &a),
    ];
    folder.write("vm.ova", &archive(&members));

    let all = ["vm.ova::a.img", "vm.ova::b.img", "vm.ova::c.img"];
    for named in ["vm.ova", "vm.ova::1 vm.ova::b.img vm.ova vm.ova::3"] {
        let args = format!("dedup-report {named} --json");
        let json = folder.run(&args).code(0).json();
        assert_eq!(paths(&json), all, "{named}");
        assert_eq!(json["total"]["total_bytes"], 3 * MIB);
        assert_eq!(json["total"]["allocated_bytes"], 3 * MIB);
        assert_eq!(json["total"]["unique_bytes"], 2 * MIB);
        assert_eq!(json["total"]["duplicate_bytes"], MIB);
    }
    let json = folder
        .run("dedup-report vm.ova::2 vm.ova::a.img --json")
        .code(0)
        .json();
    assert_eq!(paths(&json), [all[1], all[0]]);
    folder
        .run("dedup-report vm.ova::4")
        .code(1)
        .says("'4' is not in it: it holds 3 disks");
    let json = folder.run("dedup-report . --json").code(0).json();
    assert_eq!(paths(&json), all.map(|p| format!("./{p}")));
}

#[test]
fn the_files_of_a_package_in_a_folder_count_once() {
    let folder = Folder::new();
    folder.write("a.img", &noise(1, MIB));
    folder.write("b.img", &noise(2, MIB));
    folder.write("vm.ovf", descriptor(&["a.img", "b.img"]).as_bytes());
    for named in ["vm.ovf", "vm.ovf a.img"] {
        let json = folder
            .run(&format!("dedup-report {named} --json"))
            .code(0)
            .json();
        assert_eq!(paths(&json), ["vm.ovf::a.img", "vm.ovf::b.img"], "{named}");
        assert_eq!(json["total"]["duplicate_bytes"], 0);
    }
    let json = folder.run("dedup-report . --json").code(0).json();
    assert_eq!(json["images"].as_array().unwrap().len(), 2);
    assert_eq!(json["total"]["total_bytes"], 2 * MIB);
    assert_eq!(json["total"]["duplicate_bytes"], 0);
}

#[test]
fn what_cannot_be_read_is_said_once() {
    let folder = Folder::new();
    folder.write("note.txt", b"no image");
    let run = folder.run("dedup-report note.txt missing.raw").code(1);
    for name in ["note.txt", "missing.raw"] {
        assert_eq!(run.err.matches(name).count(), 1, "{}", run.err);
    }
    assert!(run.out.starts_with("0 images, "), "{}", run.out);
    let json = folder.run("dedup-report missing.raw --json").code(1).json();
    assert_eq!(json["errors"].as_array().unwrap().len(), 1);
}
