//! `split`, of one image and of folders.

use super::*;

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
    std::os::unix::fs::symlink("base.vhd", folder.path("name.vhd")).unwrap();
    for name in ["base.vhd", "name.vhd"] {
        for end in ["-o child.vhd", "--dry-run"] {
            folder
                .run(&format!("split {name} --base base.vhd {end}"))
                .code(2)
                .says(&format!("{name}: image: is the base itself"));
        }
    }
    std::fs::remove_file(folder.path("name.vhd")).unwrap();
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
