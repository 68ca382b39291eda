//! The verbs that make one image from the relation of two: split, rebase, flatten, deltas.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;
#[allow(dead_code, reason = "the tests with peers use all of it")]
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
        assert!(image["smaller_by"].as_i64().unwrap() > 1 << 20, "{image}");
        assert_eq!(folder.contents(&format!("child.{format}")), other);
        assert_eq!(layers(&folder, &format!("child.{format}")), 2);
        let files = ["child", "base"].map(|name| format!("{name}.{format}"));
        others_read(&folder, &files.each_ref().map(String::as_str), &other);
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

#[test]
fn images_of_one_name_get_children_of_their_own() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    fs::create_dir(folder.path("pool")).unwrap();
    full(&folder, "base.vhd", &bytes);
    for (name, text) in [("a.vhd", b"one"), ("a.vhdx", b"two"), ("a.raw", b"six")] {
        full(&folder, &format!("pool/{name}"), &with(&bytes, 4096, text));
    }
    folder
        .run("split --all pool --base base.vhd --quiet")
        .code(0);
    for (image, child) in [
        ("a.vhd", "a.thin.vhd"),
        ("a.vhdx", "a.vhdx.thin.vhd"),
        ("a.raw", "a.raw.thin.vhd"),
    ] {
        let args = format!("diff pool/{image} pool/{child} --allow-path .");
        folder.run(&args).code(0);
    }
    // A base that cannot be one is said once, and not for each image.
    fs::remove_file(folder.path("base.vhd")).unwrap();
    full(&folder, "base.ova", &bytes);
    folder
        .run("split --all pool --base base.ova")
        .code(2)
        .says("is a disk inside a package");
}

#[test]
fn split_all_replaces_no_image_of_the_folder() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    full(&folder, "base.vmdk", &bytes);
    fs::create_dir(folder.path("d")).unwrap();
    // One bears the name that the child of the other would get.
    for (name, text) in [("disk", b"one"), ("disk.thin", b"two")] {
        full(
            &folder,
            &format!("d/{name}.vmdk"),
            &with(&bytes, 4096, text),
        );
    }
    let other = folder.read("d/disk.thin.vmdk");
    let split = "split --all d --base base.vmdk --json";
    folder
        .run(&format!("{split} --force"))
        .code(2)
        .says("cannot be used with");
    let want = |json: &serde_json::Value, images: [(&str, &str); 2]| {
        let images = images.map(|(a, b)| (format!("d/{a}"), b.to_owned()));
        assert_eq!(actions(json), images, "{json}");
    };
    let json = folder.run(split).code(0).json();
    want(
        &json,
        [("disk.thin.vmdk", "written"), ("disk.vmdk", "left")],
    );
    assert_eq!(json["images"][1]["reason"], "disk.thin.vmdk exists already");
    assert!(folder.read("d/disk.thin.vmdk") == other);
    // Two originals whose children would have one name.
    fs::rename(folder.path("d/disk.thin.vmdk"), folder.path("d/disk")).unwrap();
    fs::remove_file(folder.path("d/disk.thin.thin.vmdk")).unwrap();
    let plan = folder.run(&format!("{split} --dry-run")).code(0).json();
    want(&plan, [("disk", "would-write"), ("disk.vmdk", "left")]);
    let json = folder.run(split).code(0).json();
    want(&json, [("disk", "written"), ("disk.vmdk", "left")]);
    let child = folder.read("d/disk.thin.vmdk");
    // Once more, there is nothing to do.
    let json = folder.run(split).code(0).json();
    let all = actions(&json);
    assert_eq!(all.len(), 3, "{json}");
    assert!(all.iter().all(|(_, action)| action == "left"), "{json}");
    assert!(folder.read("d/disk.thin.vmdk") == child);
    assert!(folder.read("d/disk") == other);
}

#[test]
fn split_all_leaves_copies_of_the_base_backups_and_further_names() {
    let folder = Folder::new();
    let bytes = noise(1, SIZE);
    full(&folder, "base.vmdk", &bytes);
    fs::create_dir(folder.path("d")).unwrap();
    fs::copy(folder.path("base.vmdk"), folder.path("d/copy.vmdk")).unwrap();
    full(&folder, "d/disk.vmdk", &with(&bytes, 4096, b"disk"));
    full(&folder, "d/own.vmdk", &with(&bytes, 4096, b"own"));
    fs::hard_link(folder.path("d/disk.vmdk"), folder.path("d/link.vmdk")).unwrap();
    fs::copy(
        folder.path("d/disk.vmdk"),
        folder.path("d/own.vmdk.backup-1"),
    )
    .unwrap();
    let names = ["copy", "disk", "link", "own"].map(|name| format!("d/{name}.vmdk"));
    let split = "split --all d --base base.vmdk";
    for (flags, want) in [
        ("--dry-run", ["left", "would-write", "left", "would-write"]),
        (
            "--dry-run --replace",
            ["left", "left", "left", "would-replace"],
        ),
        ("--replace", ["left", "left", "left", "replaced"]),
    ] {
        let json = folder
            .run(&format!("{split} --json {flags}"))
            .code(0)
            .json();
        let found = actions(&json);
        let want = names.iter().cloned().zip(want.map(str::to_owned));
        assert_eq!(found, want.collect::<Vec<_>>(), "{json}");
        let reason = |at: usize| json["images"][at]["reason"].as_str().unwrap().to_owned();
        assert!(reason(0).contains("identity of the base"), "{json}");
        assert!(reason(2).contains("another name"), "{json}");
        // Only what --replace takes counts, and that once.
        let own = &json["images"][3]["smaller_by"];
        assert!(own.as_i64().unwrap() > 3 << 20, "{json}");
        assert_eq!(json["freed_size"], *own, "{json}");
    }
    let text = folder.run(&format!("{split} --dry-run")).code(0);
    assert!(text.out.contains("would be freed by --replace"), "{text:?}");
    assert!(!text.out.contains("saved"), "{text:?}");
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
    assert_eq!(folder.contents("pool/other.vhd.thin.vmdk"), bytes);
    assert_eq!(folder.contents("pool/set.thin.vmdk"), bytes);
    assert_eq!(folder.contents("pool/one.vmdk"), one, "the originals stay");
    assert!(json["smaller_by"].as_i64().unwrap() > 8 << 20, "{json}");
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
    let files = ["pool/child.vmdk", "pool/one.vmdk", "pool/base.vmdk"];
    others_read(&folder, &files, &one);
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
fn a_delta_makes_the_new_disk_out_of_the_old_one() {
    let a = noise(1, SIZE);
    // Longer and shorter, with zeros over data, and text that compresses.
    let mut longer = with(&a, 300_000, &[0; 200_000]);
    longer.resize(SIZE + 3 * 512, 7);
    longer.resize(SIZE + (1 << 20) + 512, 0);
    let text = b"the same words again ".repeat(10_000);
    let shorter = with(&a[..SIZE - 512 * 77], 1_000_000, &text);
    for (from, to) in [
        ("a.vmdk", "b.vmdk"),
        ("a.vhd", "b.vhdx"),
        ("a.raw", "b.vmdk"),
    ] {
        for b in [&longer, &shorter] {
            let folder = Folder::new();
            full(&folder, from, &a);
            full(&folder, to, b);
            let json = folder
                .run(&format!("diff {from} {to} --delta -o d.vmdk --json"))
                .code(0)
                .json();
            assert_eq!(json["delta"]["a_sha256"], sha256(&a), "{json}");
            assert_eq!(json["delta"]["b_sha256"], sha256(b), "{json}");
            let len = folder.read("d.vmdk").len();
            assert!(len < 512 << 10, "{len} bytes");
            // In yet another format, over a copy in another format.
            full(&folder, "copy.vhdx", &a);
            let json = folder
                .run("apply d.vmdk --onto copy.vhdx -o new.vhd --json")
                .code(0)
                .json();
            assert_eq!(json["sha256"], sha256(b), "{json}");
            assert!(&folder.contents("new.vhd") == b, "{from} {to}");
            folder
                .shell("\"$V\" apply d.vmdk --onto copy.vhdx -o - > piped")
                .code(0);
            assert!(&folder.read("piped") == b);
            if from == "a.vmdk" {
                // Also a child like any other.
                assert!(&folder.contents("d.vmdk") == b);
            }
        }
    }
}

#[test]
fn a_delta_goes_through_a_pipe() {
    let folder = Folder::new();
    let a = noise(1, SIZE);
    let b = with(&a, 5000, b"changed");
    full(&folder, "a.vhd", &a);
    full(&folder, "b.raw", &b);
    folder
        .shell("\"$V\" diff a.vhd b.raw --delta -o - > d.vmdk")
        .code(0);
    folder.run("apply d.vmdk --onto a.vhd -o c.vmdk").code(0);
    assert_eq!(folder.contents("c.vmdk"), b);
}

#[test]
fn a_delta_is_refused_over_another_base_and_noticed_if_damaged() {
    let folder = Folder::new();
    let a = noise(1, SIZE);
    let b = with(&a, 5000, &noise(2, 100_000));
    full(&folder, "a.raw", &a);
    full(&folder, "b.raw", &b);
    full(
        &folder,
        "wrong.raw",
        &with(&a, SIZE - 1, &[a[SIZE - 1] ^ 1]),
    );
    full(&folder, "short.raw", &a[..SIZE - 512]);
    folder.run("diff a.raw b.raw --delta -o d.vmdk").code(0);
    let names = folder.names();
    folder
        .run("apply d.vmdk --onto wrong.raw -o c.raw")
        .code(3)
        .says(&sha256(&a))
        .says(&sha256(&folder.read("wrong.raw")));
    folder
        .run("apply d.vmdk --onto short.raw -o c.raw")
        .code(3)
        .says("4193792 bytes")
        .says("4194304 bytes");
    // Somebody says that other bytes result, in the one place where they are recorded.
    let good = folder.read("d.vmdk");
    let digest = sha256(&b);
    let at = good
        .windows(64)
        .position(|w| w == digest.as_bytes())
        .unwrap();
    folder.write(
        "d.vmdk",
        &with(&good, at, &digest.as_bytes()[1..].repeat(2)[..64]),
    );
    folder
        .run("apply d.vmdk --onto a.raw -o c.raw")
        .code(4)
        .says("damaged");
    folder.write("d.vmdk", &with(&good, at, b"not hexadecimal"));
    folder.run("apply d.vmdk --onto a.raw -o c.raw").code(4);
    // Compressed bytes in the middle of the grains.
    folder.write("d.vmdk", &with(&good, good.len() / 2, &[0xA5; 64]));
    folder.run("apply d.vmdk --onto a.raw -o c.raw").code(4);
    folder.write("d.vmdk", &good[..good.len() / 2]);
    folder.run("apply d.vmdk --onto a.raw -o c.raw").code(4);
    folder.write("d.vmdk", &good);
    folder
        .run("apply a.raw --onto a.raw -o c.raw")
        .code(2)
        .says("is no delta");
    folder.run("diff a.raw b.raw --delta").code(2);
    folder
        .run("diff a.raw b.raw --delta -o d.vhd")
        .code(2)
        .says("a delta is a VMDK");
    assert_eq!(folder.names(), names, "nothing was left behind");
    folder.run("apply d.vmdk --onto a.raw -o c.raw").code(0);
    assert!(folder.read("c.raw") == b);
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
fn a_sound_delta_is_no_broken_child() {
    let folder = Folder::new();
    let a = noise(1, SIZE);
    let b = with(&a, 5000, b"changed");
    full(&folder, "a.vhd", &a);
    full(&folder, "b.raw", &b);
    folder.run("diff a.vhd b.raw --delta -o d.vmdk").code(0);
    for alone in [false, true] {
        if alone {
            fs::remove_file(folder.path("a.vhd")).unwrap();
        }
        let info = folder.run("info d.vmdk --json").code(0).json();
        assert_eq!(info["delta"]["base_sha256"], sha256(&a), "{info}");
        assert_eq!(info["delta"]["sha256"], sha256(&b), "{info}");
        assert_eq!(info["complete"], true, "{info}");
        folder
            .run("info d.vmdk")
            .code(0)
            .prints(&format!("from SHA-256 {} (", sha256(&a)))
            .prints(&format!("to {} (", sha256(&b)))
            .prints("vdisk apply");
        let check = folder.run("check d.vmdk --json --deep").code(0).json();
        let findings = check["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 1, "{check}");
        assert_eq!(findings[0]["rule"], "delta", "{check}");
        assert_eq!(findings[0]["severity"], "note", "{check}");
    }
    // What it says of its disks is damaged.
    let good = folder.read("d.vmdk");
    let digest = sha256(&b);
    let at = good.windows(64).position(|w| w == digest.as_bytes());
    folder.write("d.vmdk", &with(&good, at.unwrap(), b"not hexadecimal"));
    folder.run("check d.vmdk").code(1).prints("what cannot be");
    // An image that is no delta says so.
    let info = folder.run("info b.raw --json").code(0).json();
    assert!(info["delta"].is_null(), "{info}");
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
