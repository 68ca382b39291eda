//! `vdisk resize` and `vdisk compact`: exit codes, reports, and what qemu says of the images.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;

use run::{Folder, noise};
use std::io::Write;

const MIB: usize = 1 << 20;

/// 3 MiB of data, then a hole up to 9 MiB.
fn disk(folder: &Folder) -> Vec<u8> {
    let mut bytes = noise(1, 3 * MIB);
    bytes.resize(9 * MIB, 0);
    folder.write("a.raw", &bytes);
    bytes
}

/// What qemu reads, if it is here.
fn qemu_reads(folder: &Folder, image: &str, format: &str, bytes: &[u8]) {
    if folder.shell("command -v qemu-img").code != Some(0) {
        let _ = writeln!(std::io::stderr(), "skipped: no qemu-img here");
        return;
    }
    folder
        .shell(&format!(
            "qemu-img convert -f {format} -O raw {image} q.out"
        ))
        .code(0);
    assert!(folder.read("q.out") == bytes, "{image}");
    std::fs::remove_file(folder.path("q.out")).unwrap();
}

#[test]
fn resize_changes_the_size_and_says_so() {
    for (name, subformat, format) in [
        ("d.raw", "sparse", "raw"),
        ("d.vhd", "dynamic", "vpc"),
        ("d.vhd", "fixed", "vpc"),
        ("d.vhdx", "dynamic", "vhdx"),
        ("d.vmdk", "monolithicSparse", "vmdk"),
        ("d.vmdk", "monolithicFlat", "vmdk"),
    ] {
        let folder = Folder::new();
        let mut bytes = disk(&folder);
        folder
            .run(&format!("convert a.raw -o {name} --subformat {subformat}"))
            .code(0);
        std::fs::remove_file(folder.path("a.raw")).unwrap();
        let names = folder.names();
        let before: Vec<_> = names.iter().map(|n| folder.read(n)).collect();
        let plan = folder
            .run(&format!("resize {name} --size +3M --dry-run --json"))
            .code(0)
            .json();
        assert_eq!(
            (&plan["schema"], &plan["dry_run"]),
            (&1.into(), &true.into())
        );
        assert_eq!(
            (&plan["old_size"], &plan["new_size"]),
            (&(9 * MIB).into(), &(12 * MIB).into())
        );
        let after: Vec<_> = names.iter().map(|n| folder.read(n)).collect();
        assert!(before == after, "{name}: a dry run wrote");
        let done = folder
            .run(&format!("resize {name} -s +3M --json"))
            .code(0)
            .json();
        assert_eq!(done["written_size"], plan["written_size"]);
        assert_eq!(done["gpt"], serde_json::Value::Null);
        bytes.resize(12 * MIB, 0);
        assert!(folder.contents(name) == bytes, "{name} {subformat}");
        qemu_reads(&folder, name, format, &bytes);
        folder.run(&format!("check {name} --deep")).code(0);
        assert_eq!(folder.names(), names);
        // Smaller: not through data, but up to it.
        folder
            .run(&format!("resize {name} --size 2M"))
            .code(3)
            .says("byte 2097152 of the disk would be cut off")
            .says("hint: --force");
        folder
            .run(&format!("resize {name} --size=-9M"))
            .code(0)
            .prints(" 12 MiB (12582912 bytes) -> 3 MiB (3145728 bytes)");
        bytes.truncate(3 * MIB);
        assert!(folder.contents(name) == bytes, "{name} {subformat}");
        qemu_reads(&folder, name, format, &bytes);
        folder
            .run(&format!("resize {name} --size 1M --force -q"))
            .code(0);
        assert!(folder.contents(name) == bytes[..MIB], "{name} {subformat}");
        folder.run(&format!("check {name} --deep")).code(0);
    }
}

#[test]
fn resize_refuses_what_makes_no_sense() {
    let folder = Folder::new();
    disk(&folder);
    for wrong in [
        "resize a.raw",
        "resize --size 1M",
        "resize a.raw --size 0",
        "resize a.raw --size 1000",
        "resize a.raw --size -10M",
        "resize a.raw --size x",
        "resize a.raw --size +9P",
        "resize a.raw --undo a.raw",
        "resize missing.raw --size 1M",
        "resize --undo a.raw",
        "resize --resume a.raw",
    ] {
        folder.run(wrong).code(2);
    }
    folder
        .run("resize a.raw --size 12M --fix-gpt")
        .code(3)
        .says("no intact GUID partition table");
    folder
        .run("convert a.raw -o s.vmdk --subformat streamOptimized")
        .code(0);
    folder
        .run("resize s.vmdk --size 12M")
        .code(2)
        .says("hint: vdisk convert -o FILE");
    folder
        .run("resize a.raw --size 0")
        .code(2)
        .says("a disk cannot have 0 bytes");
    folder
        .run("resize a.raw --size 9M")
        .code(0)
        .prints("has 9 MiB (9437184 bytes) already");
    assert_eq!(folder.names(), ["a.raw", "s.vmdk"]);
}

#[test]
fn what_is_cut_by_force_is_named() {
    let folder = Folder::new();
    let mut bytes = vec![0; 9 * MIB];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    // Linux, from sector 2048 to 12,288.
    bytes[450] = 0x83;
    bytes[454..462].copy_from_slice(&[0, 8, 0, 0, 0, 0x28, 0, 0]);
    bytes[5 * MIB..5 * MIB + 4].copy_from_slice(b"data");
    folder.write("a.raw", &bytes);
    folder.run("convert a.raw -o p.vhd").code(0);
    folder.run("clone p.vhd -o c.vhd").code(0);
    folder.run("resize p.vhd --size 6M --dry-run").code(3);
    folder
        .run("resize p.vhd --size 5M")
        .code(3)
        .says("the last partition ends at byte 6291456");
    let ran = folder.run("resize p.vhd --size 5M --force --json").code(0);
    let json = ran.json();
    ran.says("partition 1, from byte 1048576 to 6291456")
        .says("512 bytes of data lie in what is cut off")
        .says("these children are orphaned: ./c.vhd");
    assert_eq!(json["data_size"], 512);
    assert_eq!(json["cut_partitions"][0]["end"], 6 * MIB);
    let info = folder.run("info p.vhd --json").code(0).json();
    assert_eq!(json["identity"]["to"], info["identity"]);
    assert_ne!(json["identity"]["from"], info["identity"]);
    folder.run("hash c.vhd").code(2);
}

#[test]
fn children_are_named() {
    let folder = Folder::new();
    let mut bytes = disk(&folder);
    folder.run("convert a.raw -o p.vhd").code(0);
    folder.run("clone p.vhd -o c.vhd").code(0);
    folder
        .run("resize p.vhd --size 8M")
        .code(3)
        .says("other images rely on what would be cut off")
        .says("c.vhd");
    folder
        .run("resize p.vhd --size 12M")
        .code(0)
        .says("these children keep their own size: ./c.vhd");
    assert!(folder.contents("c.vhd") == bytes);
    folder.run("resize c.vhd --size 11M").code(0);
    bytes.resize(11 * MIB, 0);
    assert!(folder.contents("c.vhd") == bytes);
}

#[test]
fn compact_needs_to_be_told_where_to() {
    let folder = Folder::new();
    disk(&folder);
    folder
        .run("compact a.raw")
        .code(2)
        .says("-o FILE")
        .says("--in-place");
    for wrong in [
        "compact",
        "compact a.raw -o b.raw --in-place",
        "compact a.raw -o b.raw --dry-run",
        "compact a.raw --in-place --force",
        "compact a.raw -o a.raw --force",
        "compact missing.raw --in-place",
        "compact --undo a.raw",
    ] {
        folder.run(wrong).code(2);
    }
    assert_eq!(folder.names(), ["a.raw"]);
}

#[test]
fn compact_drops_what_a_guest_wiped() {
    for (name, options, format) in [
        ("d.vhd", "--subformat dynamic", "vpc"),
        ("d.vhdx", "--block-size 1M", "vhdx"),
        ("d.vmdk", "--subformat monolithicSparse", "vmdk"),
    ] {
        let folder = Folder::new();
        if folder.shell("command -v qemu-io").code != Some(0) {
            let _ = writeln!(std::io::stderr(), "skipped: no qemu-io here");
            return;
        }
        let mut bytes = noise(1, 20 * MIB);
        folder.write("a.raw", &bytes);
        folder
            .run(&format!("convert a.raw -o {name} {options}"))
            .code(0);
        folder
            .shell(&format!("qemu-io -f {format} -c 'write -P 0 4M 8M' {name}"))
            .code(0);
        bytes[4 * MIB..12 * MIB].fill(0);
        let old = folder.path(name).metadata().unwrap().len();
        let plan = folder
            .run(&format!("compact {name} --dry-run --json"))
            .code(0)
            .json();
        assert_eq!(plan["dry_run"], true);
        assert_eq!(folder.path(name).metadata().unwrap().len(), old);
        folder
            .run(&format!("compact {name} --dry-run"))
            .code(0)
            .prints("zero free space in the guest first");
        let copy = format!("new-{name}");
        let json = folder
            .run(&format!("compact {name} -o {copy} --json"))
            .code(0)
            .json();
        assert!(folder.contents(&copy) == bytes, "{copy}");
        assert!(json["stored_size"].as_u64() < json["stored_before"].as_u64());
        let identity =
            |name: &str| folder.run(&format!("info {name} --json")).json()["identity"].clone();
        assert_eq!(identity(&copy), identity(name));
        let done = folder
            .run(&format!("compact {name} --in-place --json"))
            .code(0)
            .json();
        for key in [
            "zero_size",
            "same_size",
            "cut_size",
            "moved_size",
            "kept_size",
            "saved_size",
        ] {
            assert_eq!(done[key], plan[key], "{name} {key}");
        }
        // What does not happen is not said.
        for verb in ["compact", "resize --size +1M"] {
            let text = folder.run(&format!("{verb} {name} --dry-run")).code(0).out;
            let nothing = text.lines().find(|line| line.contains(" 0 bytes"));
            assert_eq!(nothing, None, "{name}: {text}");
            assert!(text.contains("\nwould "), "{name}: {text}");
        }
        let new = folder.path(name).metadata().unwrap().len();
        assert_eq!(old - new, done["cut_size"].as_u64().unwrap(), "{name}");
        assert!(
            new <= old - 6 * MIB as u64,
            "{name}: {old} -> {new}, {done}"
        );
        assert!(folder.contents(name) == bytes, "{name}");
        folder.run(&format!("check {name} --deep")).code(0);
        qemu_reads(&folder, name, format, &bytes);
    }
}

#[test]
fn a_child_is_compacted_against_its_parent() {
    let folder = Folder::new();
    let bytes = disk(&folder);
    folder.run("convert a.raw -o p.vhd").code(0);
    folder.run("clone p.vhd -o c.vhd").code(0);
    folder.run("compact c.vhd -o new.vhd").code(0);
    assert!(folder.contents("new.vhd") == bytes);
    let done = folder.run("compact c.vhd --in-place --json").code(0).json();
    assert_eq!(
        (&done["zero_size"], &done["same_size"]),
        (&0.into(), &0.into())
    );
    assert!(folder.contents("c.vhd") == bytes);
}
