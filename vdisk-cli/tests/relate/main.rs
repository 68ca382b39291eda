//! The verbs that make one image from the relation of two: split, rebase, flatten, deltas.
#![allow(clippy::unwrap_used, clippy::panic)]

mod delta;
#[path = "../run/mod.rs"]
mod run;
mod split;
#[allow(dead_code, reason = "the tests with peers use all of it")]
#[path = "../support/mod.rs"]
mod support;

use run::{Folder, noise};
use std::fs;
use support::peers::{Qemu, Readers};
use support::sha256;

const SIZE: usize = 4 << 20;
/// The formats that can have children.
const FORMATS: [&str; 3] = ["vmdk", "vhd", "vhdx"];

/// `bytes` with `text` at `at`.
fn with(bytes: &[u8], at: usize, text: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + text.len()].copy_from_slice(text);
    bytes
}

/// Writes `bytes` as the full image `name` in the format of its ending.
fn full(folder: &Folder, name: &str, bytes: &[u8]) {
    folder.write("made.raw", bytes);
    folder.run(&format!("convert made.raw -o {name}")).code(0);
    fs::remove_file(folder.path("made.raw")).unwrap();
}

fn identity(folder: &Folder, image: &str) -> String {
    let json = folder.run(&format!("info {image} --json")).code(0).json();
    json["identity"].as_str().unwrap().to_owned()
}

/// The parent's path as the chain of `image` names it.
fn layers(folder: &Folder, image: &str) -> usize {
    let json = folder.run(&format!("info {image} --json")).code(0).json();
    assert_eq!(json["complete"], true, "{json}");
    json["chain"].as_array().unwrap().len()
}

/// What others read of `files`, the image and then its parents from the nearest.
fn others_read(folder: &Folder, files: &[&str], bytes: &[u8]) {
    let (path, digest) = (folder.path(""), sha256(bytes));
    let readers: &[&str] = match files[0].rsplit('.').next() {
        Some("vmdk") => &["libvmdk", "dissect-vmdk"],
        Some("vhd") => &["libvhdi"],
        _ => &["dissect-vhdx"],
    };
    if let Some(peers) = Readers::find() {
        for reader in readers {
            peers.check(&path, reader, files, &digest);
        }
    }
    if files[0].ends_with(".vmdk")
        && let Some(qemu) = Qemu::find()
    {
        assert_eq!(qemu.sha256(&path, "vmdk", files[0]), digest);
    }
}

#[test]
fn what_is_planned_fails_where_the_work_would() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    full(&folder, "base.vmdk", &bytes);
    full(&folder, "disk.vmdk", &with(&bytes, 4096, b"disk"));
    folder
        .run("split disk.vmdk --base base.vmdk -o child.vmdk")
        .code(0);
    folder.write("there.vmdk", b"something");
    let names = folder.names();
    for (output, why) in [
        ("there.vmdk", "exists already"),
        ("base.vmdk", "is also an input"),
        ("nowhere/new.vmdk", "nowhere"),
    ] {
        for verb in [
            "split disk.vmdk --base base.vmdk",
            "rebase child.vmdk --onto base.vmdk",
        ] {
            let run = format!("{verb} -o {output}");
            folder.run(&format!("{run} --dry-run")).code(2).says(why);
            folder.run(&run).code(2).says(why);
        }
    }
    assert_eq!(folder.names(), names);
}

#[test]
fn rebase_keeps_what_the_child_and_its_children_read() {
    for format in FORMATS {
        let folder = Folder::new();
        let old = noise(1, SIZE);
        let new = with(&old, 200_000, &noise(3, 300_000));
        let own = with(&old, 1_000_000, b"own");
        full(&folder, &format!("old.{format}"), &old);
        full(&folder, &format!("new.{format}"), &new);
        full(&folder, "own.raw", &own);
        folder
            .run(&format!("diff old.{format} own.raw -o child.{format}"))
            .code(0);
        folder
            .run(&format!("clone child.{format} -o grand.{format}"))
            .code(0);
        let id = identity(&folder, &format!("child.{format}"));
        let before = folder.read(&format!("child.{format}"));
        let rebase = format!("rebase child.{format} --onto new.{format}");
        let json = folder
            .run(&format!("{rebase} --dry-run --json"))
            .code(0)
            .json();
        let expected = json["estimate"]["recorded_bytes"].as_u64().unwrap();
        assert!((300_000..600_000).contains(&expected), "{json}");
        assert!(folder.read(&format!("child.{format}")) == before);
        // Beside the old one first.
        folder.run(&format!("{rebase} -o beside.{format}")).code(0);
        assert_eq!(folder.contents(&format!("beside.{format}")), own);
        assert!(folder.read(&format!("child.{format}")) == before);
        let json = folder.run(&format!("{rebase} --json")).code(0).json();
        assert_eq!(json["done"]["recorded_bytes"], expected, "{json}");
        fs::remove_file(folder.path(&format!("old.{format}"))).unwrap();
        assert_eq!(folder.contents(&format!("child.{format}")), own);
        assert_eq!(identity(&folder, &format!("child.{format}")), id);
        assert_eq!(folder.contents(&format!("grand.{format}")), own);
        assert_eq!(layers(&folder, &format!("grand.{format}")), 3);
        let files = ["grand", "child", "new"].map(|name| format!("{name}.{format}"));
        others_read(&folder, &files.each_ref().map(String::as_str), &own);
        folder.run(&format!("check child.{format}")).code(0);
    }
}

#[test]
fn rebase_refuses_what_makes_no_sense_and_writes_nothing() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    full(&folder, "base.vmdk", &bytes);
    full(&folder, "other.vhd", &bytes);
    folder.run("clone base.vmdk -o child.vmdk").code(0);
    folder.run("clone child.vmdk -o grand.vmdk").code(0);
    let names = folder.names();
    folder
        .run("rebase base.vmdk --onto child.vmdk")
        .code(2)
        .says("split makes a child of it");
    folder
        .run("rebase child.vmdk --onto grand.vmdk")
        .code(2)
        .says("a loop");
    folder
        .run("rebase child.vmdk --onto child.vmdk")
        .code(2)
        .says("a loop");
    folder
        .run("rebase child.vmdk --onto other.vhd")
        .code(2)
        .says("a VMDK child needs a VMDK parent");
    folder
        .run("rebase child.vmdk --onto none")
        .code(2)
        .says("flatten");
    folder
        .run("rebase grand.vmdk --onto base.vmdk -o base.vmdk --force")
        .code(2)
        .says("is also an input");
    fs::remove_file(folder.path("base.vmdk")).unwrap();
    folder.run("rebase grand.vmdk --onto child.vmdk").code(2);
    assert_eq!(folder.names().len(), names.len() - 1);
}

#[test]
fn a_child_in_several_files_is_rebased_beside_itself() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    let own = with(&bytes, 5000, b"own");
    full(&folder, "a.vmdk", &bytes);
    full(&folder, "b.vmdk", &noise(2, SIZE));
    full(&folder, "own.raw", &own);
    folder
        .run("diff a.vmdk own.raw -o child.vmdk --subformat twoGbMaxExtentSparse")
        .code(0);
    folder
        .run("rebase child.vmdk --onto b.vmdk")
        .code(2)
        .says("several files");
    folder
        .run("rebase child.vmdk --onto b.vmdk -o moved.vmdk")
        .code(0);
    let info = folder.run("info moved.vmdk --json").code(0).json();
    assert_eq!(info["subformat"], "twoGbMaxExtentSparse", "{info}");
    assert_eq!(folder.contents("moved.vmdk"), own);
    assert_eq!(folder.contents("child.vmdk"), own);
}

#[test]
fn flatten_needs_no_parent() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    let own = with(&bytes, 5000, b"own");
    full(&folder, "base.vmdk", &bytes);
    full(&folder, "own.raw", &own);
    folder.run("diff base.vmdk own.raw -o child.vmdk").code(0);
    folder.run("flatten child.vmdk -o flat.vhdx").code(0);
    fs::remove_file(folder.path("base.vmdk")).unwrap();
    assert_eq!(folder.contents("flat.vhdx"), own);
    folder
        .run("flatten flat.vhdx -o again.vmdk")
        .code(0)
        .says("has no parent");
    folder.run("flatten child.vmdk -o x.vmdk").code(2);
}

#[test]
fn a_moved_parent_is_named_anew() {
    for format in FORMATS {
        let folder = Folder::new();
        let bytes = noise(1, SIZE);
        let own = with(&bytes, 5000, b"own");
        full(&folder, &format!("base.{format}"), &bytes);
        full(&folder, "own.raw", &own);
        folder
            .run(&format!("diff base.{format} own.raw -o child.{format}"))
            .code(0);
        fs::create_dir(folder.path("gold")).unwrap();
        let moved = format!("gold/moved.{format}");
        fs::rename(folder.path(&format!("base.{format}")), folder.path(&moved)).unwrap();
        folder.run(&format!("hash child.{format}")).code(2);
        let before = folder.read(&format!("child.{format}"));
        let rebase = format!("rebase child.{format} --onto {moved} --reference-only --json");
        let json = folder.run(&format!("{rebase} --dry-run")).code(0).json();
        assert_eq!(json["plan"]["proof"], "identity", "{json}");
        // What was written to a VHD, its ID does not tell.
        let warned = json["plan"]["warnings"].to_string();
        let keeps = warned.contains("keeps its unique ID");
        assert_eq!(keeps, format == "vhd", "{json}");
        assert!(!json["changes"].as_array().unwrap().is_empty(), "{json}");
        assert!(folder.read(&format!("child.{format}")) == before);
        let json = folder.run(&rebase).code(0).json();
        assert_eq!(folder.contents(&format!("child.{format}")), own);
        folder.run(&format!("check child.{format}")).code(0);
        others_read(&folder, &[&format!("child.{format}"), &moved], &own);
        let backup = json["backups"][0].as_str().unwrap();
        folder.run(&format!("check --undo {backup}")).code(0);
        assert!(folder.read(&format!("child.{format}")) == before);
    }
}

#[test]
fn a_parent_of_another_identity_must_read_the_same_or_be_accepted() {
    for format in FORMATS {
        let folder = Folder::new();
        let bytes = noise(1, SIZE);
        let own = with(&bytes, 5000, b"own");
        full(&folder, &format!("base.{format}"), &bytes);
        full(&folder, &format!("copy.{format}"), &bytes);
        full(
            &folder,
            &format!("changed.{format}"),
            &with(&bytes, 900_000, b"else"),
        );
        full(&folder, "own.raw", &own);
        folder
            .run(&format!("diff base.{format} own.raw -o child.{format}"))
            .code(0);
        let rebase = |onto: &str| {
            format!("rebase child.{format} --onto {onto}.{format} --reference-only --json")
        };
        folder
            .run(&rebase("changed"))
            .code(3)
            .says("nothing was written");
        let json = folder.run(&rebase("copy")).code(0).json();
        assert_eq!(json["plan"]["proof"], "contents", "{json}");
        fs::remove_file(folder.path(&format!("base.{format}"))).unwrap();
        assert_eq!(folder.contents(&format!("child.{format}")), own);
        // Now the old parent is the copy: without it, nothing can be compared.
        full(&folder, &format!("twin.{format}"), &bytes);
        fs::remove_file(folder.path(&format!("copy.{format}"))).unwrap();
        folder.run(&rebase("twin")).code(3);
        let json = folder
            .run(&format!("{} --accept-parent-change", rebase("twin")))
            .code(0)
            .json();
        assert_eq!(json["plan"]["proof"], "accepted", "{json}");
        assert_eq!(folder.contents(&format!("child.{format}")), own);
    }
}

#[test]
fn the_id_of_a_vhd_is_no_proof_of_its_contents() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    let own = with(&bytes, 5000, b"own");
    full(&folder, "base.vhd", &bytes);
    full(&folder, "own.raw", &own);
    folder.run("diff base.vhd own.raw -o child.vhd").code(0);
    // A copy with the same ID, one byte of which is written to: where in the file, the bytes say.
    let mut copy = folder.read("base.vhd");
    let block = &bytes[2_000_000..2_000_064];
    let at = copy.windows(64).position(|w| w == block).unwrap();
    folder.write("copy.vhd", &copy);
    copy[at] ^= 1;
    folder.write("changed.vhd", &copy);
    let rebase = |onto: &str| format!("rebase child.vhd --onto {onto}.vhd --reference-only --json");
    let before = folder.read("child.vhd");
    folder
        .run(&rebase("changed"))
        .code(3)
        .says("reads as something else");
    assert!(folder.read("child.vhd") == before);
    let json = folder
        .run(&format!(
            "{} --dry-run --accept-parent-change",
            rebase("changed")
        ))
        .code(0)
        .json();
    assert_eq!(json["plan"]["proof"], "accepted", "{json}");
    let json = folder.run(&rebase("copy")).code(0).json();
    assert_eq!(json["plan"]["proof"], "contents", "{json}");
    fs::remove_file(folder.path("base.vhd")).unwrap();
    assert_eq!(folder.contents("child.vhd"), own);
}

#[test]
fn what_a_new_image_cannot_keep_is_said() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    full(&folder, "a.vmdk", &bytes);
    full(&folder, "b.vmdk", &bytes);
    folder.run("clone a.vmdk -o child.vmdk").code(0);
    folder
        .run("rebase child.vmdk --onto b.vmdk -o quiet.vmdk")
        .code(0);
    let rebase = "rebase child.vmdk --onto b.vmdk -o new.vmdk";
    let quiet = folder.run(&format!("{rebase} --dry-run --json")).code(0);
    assert_eq!(quiet.json()["plan"]["warnings"], serde_json::json!([]));
    // Lines as other programs write them, over those that are there.
    let mut file = folder.read("child.vmdk");
    let line = |text: &str| {
        let at = file.windows(text.len()).position(|w| w == text.as_bytes());
        at.unwrap()
    };
    let (comment, sectors) = (
        line("ddb.comment = \"vdisk\""),
        line("ddb.geometry.sectors = \"32\""),
    );
    let long = line("ddb.longContentID = \"") + 21;
    file[comment..][..21].copy_from_slice(b"ddb.comment = \"Alice\"");
    file[sectors..][..27].copy_from_slice(b"ddb.geometry.sectors = \"63\"");
    file[long..][..24].copy_from_slice(b"0123456789abcdef01234567");
    let end = file[comment..].iter().position(|b| *b == 0).unwrap() + comment;
    let more = b"ddb.toolsVersion = \"11333\"\nddb.thinProvisioned = \"1\"\n";
    file[end..][..more.len()].copy_from_slice(more);
    folder.write("child.vmdk", &file);
    folder
        .run(rebase)
        .code(0)
        .says("becomes 4/64/32 and was 4/64/63")
        .says("the comment 'Alice' is not kept")
        .says("11333")
        .says("thin provisioning");
    let info = folder.run("info new.vmdk --json").code(0).json();
    let long = info["details"]["long content ID"].as_str().unwrap();
    let cid = identity(&folder, "new.vmdk");
    assert_eq!(&long[..24], "0123456789abcdef01234567");
    assert!(cid.ends_with(&long[24..]), "{cid}, {long}");
    // qemu writes other physical sectors than we do.
    if let Some(qemu) = Qemu::find() {
        let create = ["create", "-q", "-f", "vhdx", "qemu.vhdx", "4M"];
        qemu.img(&folder.path(""), &create);
        folder
            .run("compact qemu.vhdx -o new.vhdx")
            .code(0)
            .says("the physical sectors become 4096 bytes and were 512 bytes");
    }
    // A VHD of another geometry, in both footers.
    full(&folder, "a.vhd", &bytes);
    full(&folder, "b.vhd", &bytes);
    folder.run("clone a.vhd -o child.vhd").code(0);
    let rebase = "rebase child.vhd --onto b.vhd -o new.vhd";
    let plan = folder.run(&format!("{rebase} --dry-run --json")).code(0);
    assert_eq!(plan.json()["plan"]["warnings"], serde_json::json!([]));
    let mut file = folder.read("child.vhd");
    let len = file.len();
    for footer in [0, len - 512] {
        let footer = &mut file[footer..][..512];
        footer[58] = 5; // heads
        footer[64..68].fill(0);
        let sum: u32 = footer.iter().map(|b| u32::from(*b)).sum();
        footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    }
    folder.write("child.vhd", &file);
    folder
        .run(rebase)
        .code(0)
        .says("the geometry")
        .says("/5/17");
}

#[test]
fn flags_and_names_that_contradict_the_work_are_refused() {
    let folder = Folder::new();
    folder.write("base.raw", &noise(1, 1 << 20));
    folder.run("convert base.raw -o base.vmdk").code(0);
    folder.run("clone base.vmdk -o child.vmdk -q").code(0);
    let names = folder.names();
    for (args, says) in [
        (
            "split base.vmdk --base base.vmdk --replace -o new.vmdk",
            "--replace: goes with --all DIR only",
        ),
        (
            "compact base.vmdk -o new.vhd",
            "new.vhd: output: is named as vhd, and the image is and stays vmdk",
        ),
        (
            "rebase child.vmdk --onto base.vmdk -o new.vhdx",
            "new.vhdx: output: is named as vhdx, and the image is and stays vmdk",
        ),
    ] {
        folder.run(args).code(2).says(says);
        assert_eq!(folder.names(), names, "{args}");
    }
    folder.run("compact base.vmdk -o new.img").code(0);
}
