//! What is left when something cannot be read or written.

use super::{
    MIB, actions, map,
    run::{Folder, noise},
};
use std::{collections::BTreeMap, fs};

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
    folder
        .run("dedup-report other.vmdk --cache prints")
        .code(0)
        .says("is not there any more");
}

/// An extent that ends too early is a part of the image, and no parent.
#[test]
fn an_image_is_named_by_its_own_name() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder
        .run("convert a.raw -o a.vmdk --subformat twoGbMaxExtentSparse")
        .code(0);
    let extent = folder.read("a-s001.vmdk");
    folder.write("a-s001.vmdk", &extent[..extent.len() - 70_000]);
    let run = folder.run("fingerprint a.vmdk -o prints --json").code(1);
    let error = run.json()["errors"][0].clone();
    assert_eq!(error["path"], "a.vmdk");
    let text = error["error"].as_str().unwrap();
    assert!(
        text.starts_with("a-s001.vmdk: ") || text.starts_with("a.vmdk: "),
        "{text}"
    );
    run.says("warning: left out: a.vmdk: ");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.write("file", b"");
    folder
        .run("fingerprint a.raw -o file")
        .code(2)
        .says("file: is a file, not a folder");
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

#[test]
fn clones_of_a_damaged_base_are_named() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("convert a.raw -o base.vmdk").code(0);
    let clones = ["one.vmdk", "two.vmdk", "three.vmdk"];
    for clone in clones {
        folder.run(&format!("clone base.vmdk -o {clone}")).code(0);
    }
    folder.write("base.vmdk", &folder.read("base.vmdk")[..600]);
    let run = folder.run("fingerprint . -o prints --json").code(1);
    for clone in clones {
        let start = format!("warning: left out: ./{clone}: its parent ");
        let said = run.err.lines().filter(|line| line.starts_with(&start));
        let said: Vec<&str> = said.collect();
        assert!(
            said.len() == 1 && said[0].contains("base.vmdk: "),
            "{}",
            run.err
        );
    }
    assert_eq!(run.err.matches("left out").count(), 4, "{}", run.err);
}

#[test]
fn names_that_are_no_text_are_told_apart() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let folder = Folder::new();
    fs::create_dir(folder.path("images")).unwrap();
    for name in [b"a\xfe.raw", b"a\xff.raw"] {
        let path = folder.path("images").join(OsStr::from_bytes(name));
        fs::write(path, noise(1, MIB)).unwrap();
    }
    let report = folder.run("dedup-report images --json").code(0).json();
    let paths = report["images"].as_array().unwrap().iter();
    let paths: Vec<&str> = paths.map(|image| image["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [r"images/a\xfe.raw", r"images/a\xff.raw"]);
}
