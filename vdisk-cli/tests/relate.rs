//! The verbs that make one image from the relation of two: split, rebase, flatten, deltas.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;

use run::{Folder, noise};
use std::{fs, process::Command};

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

/// What qemu reads, which finds the parents by itself.
fn qemu_reads(folder: &Folder, image: &str, format: &str, bytes: &[u8]) {
    let format = if format == "vhd" { "vpc" } else { format };
    if format != "vmdk" {
        return; // qemu opens no parents of VHD and VHDX
    }
    let raw = folder.path("qemu.raw");
    let done = Command::new("qemu-img")
        .args(["convert", "-f", format, "-O", "raw"])
        .args([folder.path(image), raw.clone()])
        .status();
    match done {
        Ok(status) => {
            assert!(status.success());
            assert!(
                fs::read(&raw).unwrap() == bytes,
                "qemu reads {image} otherwise"
            );
            fs::remove_file(raw).unwrap();
        }
        Err(e) => assert!(std::env::var_os("VDISK_REQUIRE_PEERS").is_none(), "{e}"),
    }
}

#[test]
fn split_makes_a_child_that_reads_as_the_image() {
    for format in FORMATS {
        let folder = Folder::new();
        let bytes = noise(1, SIZE);
        let other = with(&bytes, 70_000, b"changed");
        full(&folder, &format!("base.{format}"), &bytes);
        full(&folder, &format!("disk.{format}"), &other);
        let before = folder.read(&format!("disk.{format}"));
        let split = format!("split disk.{format} --base base.{format}");
        let plan = folder
            .run(&format!("{split} --dry-run --json"))
            .code(0)
            .json();
        assert_eq!(plan["images"][0]["action"], "would-write");
        assert_eq!(folder.names().len(), 2, "{:?}", folder.names());
        let json = folder
            .run(&format!("{split} -o child.{format} --json"))
            .code(0)
            .json();
        let image = &json["images"][0];
        assert_eq!(image["action"], "written");
        assert!(
            image["recorded_bytes"].as_u64().unwrap() <= 64 << 10,
            "{image}"
        );
        assert_eq!(image["recorded_bytes"], plan["images"][0]["recorded_bytes"]);
        assert!(image["saved"].as_i64().unwrap() > 1 << 20, "{image}");
        assert_eq!(folder.contents(&format!("child.{format}")), other);
        assert_eq!(layers(&folder, &format!("child.{format}")), 2);
        qemu_reads(&folder, &format!("child.{format}"), format, &other);
        assert!(folder.read(&format!("disk.{format}")) == before);
    }
}

#[test]
fn split_refuses_bases_that_cannot_be_parents() {
    let folder = Folder::new();
    full(&folder, "base.vhd", &noise(1, SIZE));
    full(&folder, "disk.vmdk", &noise(1, SIZE));
    folder
        .run("split disk.vmdk --base base.vhd -o child.vmdk")
        .code(2)
        .says("a VMDK child needs a VMDK parent");
    folder
        .run("split disk.vmdk --base missing.vmdk -o child.vmdk")
        .code(2);
    folder.run("split disk.vmdk --base base.vhd").code(2);
    folder.run("split --base base.vhd -o x.vhd").code(2);
    // Of another format than the base is no obstacle.
    folder
        .run("split disk.vmdk --base base.vhd -o child.vhd")
        .code(0);
    assert_eq!(folder.contents("child.vhd"), noise(1, SIZE));
    assert_eq!(folder.names(), ["base.vhd", "child.vhd", "disk.vmdk"]);
}

/// A folder of disks: two that share the base's contents, one that does not, a child, an extent set,
/// something broken, and something else.
fn pool(folder: &Folder) -> (Vec<u8>, Vec<u8>) {
    let bytes = noise(1, SIZE);
    let one = with(&bytes, 70_000, b"one");
    fs::create_dir(folder.path("pool")).unwrap();
    full(folder, "pool/base.vmdk", &bytes);
    full(folder, "pool/one.vmdk", &one);
    full(folder, "pool/stranger.vmdk", &noise(2, SIZE));
    full(folder, "pool/other.vhd", &bytes);
    folder.write("made.raw", &bytes);
    folder
        .run("convert made.raw -o pool/set.vmdk --subformat twoGbMaxExtentSparse")
        .code(0);
    fs::remove_file(folder.path("made.raw")).unwrap();
    folder.run("clone pool/one.vmdk -o pool/child.vmdk").code(0);
    let mut broken = folder.read("pool/one.vmdk");
    broken[20..28].fill(0xFF); // the offset of the descriptor... and its size
    broken.truncate(4096);
    folder.write("pool/zbroken.vmdk", &broken);
    folder.write("pool/notes.txt", b"not an image");
    (bytes, one)
}

fn actions(json: &serde_json::Value) -> Vec<(String, String)> {
    let images = json["images"].as_array().unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    images
        .iter()
        .map(|i| (text(&i["image"]), text(&i["action"])))
        .collect()
}

#[test]
fn split_all_takes_what_is_won_and_leaves_the_rest() {
    let folder = Folder::new();
    let (bytes, one) = pool(&folder);
    let split = "split --all pool --base pool/base.vmdk --json";
    let before = std::fs::read_dir(folder.path("pool")).unwrap().count();
    let plan = folder.run(&format!("{split} --dry-run")).code(1).json();
    assert_eq!(
        std::fs::read_dir(folder.path("pool")).unwrap().count(),
        before
    );
    let json = folder.run(split).code(1).json();
    let want = [
        ("pool/child.vmdk", "left"),
        ("pool/one.vmdk", "written"),
        ("pool/other.vhd", "written"),
        ("pool/set.vmdk", "written"),
        ("pool/stranger.vmdk", "left"),
        ("pool/zbroken.vmdk", "failed"),
    ];
    let want = want.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(actions(&json), want, "{json}");
    let would = actions(&plan)
        .into_iter()
        .map(|(name, action)| (name, action.replace("would-write", "written")));
    assert_eq!(would.collect::<Vec<_>>(), want, "{plan}");
    assert_eq!(folder.contents("pool/one.thin.vmdk"), one);
    assert_eq!(folder.contents("pool/other.thin.vmdk"), bytes);
    assert_eq!(folder.contents("pool/set.thin.vmdk"), bytes);
    assert_eq!(folder.contents("pool/one.vmdk"), one, "the originals stay");
    assert!(json["saved"].as_i64().unwrap() > 8 << 20, "{json}");
}

#[test]
fn split_all_replaces_images_and_their_children_still_fit() {
    let folder = Folder::new();
    let (bytes, one) = pool(&folder);
    let old = identity(&folder, "pool/one.vmdk");
    let set = folder.read("pool/set.vmdk");
    let json = folder
        .run("split --all pool --base pool/base.vmdk --replace --json")
        .code(1)
        .json();
    let want = [
        ("pool/child.vmdk", "left"),
        ("pool/one.vmdk", "replaced"),
        ("pool/other.vhd", "left"),
        ("pool/set.vmdk", "left"),
        ("pool/stranger.vmdk", "left"),
        ("pool/zbroken.vmdk", "failed"),
    ];
    let want = want.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(actions(&json), want, "{json}");
    assert_eq!(folder.contents("pool/one.vmdk"), one);
    assert_eq!(layers(&folder, "pool/one.vmdk"), 2);
    assert_eq!(identity(&folder, "pool/one.vmdk"), old);
    assert_eq!(folder.contents("pool/child.vmdk"), one);
    assert_eq!(layers(&folder, "pool/child.vmdk"), 3);
    assert_eq!(folder.contents("pool/base.vmdk"), bytes);
    assert_eq!(folder.read("pool/set.vmdk"), set);
    // Once more there is nothing to do.
    let json = folder
        .run("split --all pool --base pool/base.vmdk --replace --json")
        .code(1)
        .json();
    assert_eq!(actions(&json)[1].1, "left", "{json}");
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
        let expected = json["estimate"]["recorded"].as_u64().unwrap();
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
        qemu_reads(&folder, &format!("child.{format}"), format, &own);
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
