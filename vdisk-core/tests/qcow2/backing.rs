//! Backing files: which file is taken, as which format, and which is not.

use crate::builder::{Cluster, Is, Shape};
use std::{fs, path::Path};
use vdisk_core::{
    Chain, Disk, ErrorKind, FileResolver, OpenOptions, Result, format,
    testing::{self, contents},
};

fn open(path: &Path, resolver: &FileResolver) -> Result<Chain> {
    vdisk_core::open(path, &OpenOptions::new(resolver))
}

fn kind(result: Result<Chain>) -> ErrorKind {
    result.err().expect("is refused").kind()
}

/// A child of four empty clusters on that backing file.
fn child(backing: &'static str, format: Option<&'static str>) -> Vec<u8> {
    let shape = Shape {
        clusters: vec![Cluster::Plain(Is::Hole, false); 4],
        backing: Some((backing, format)),
        ..Shape::sample(3)
    };
    shape.build().0
}

/// What an image that stands alone holds, as another image of the disk would be.
fn base() -> (Vec<u8>, Vec<u8>) {
    let shape = Shape::sample(3);
    let disk = shape.model().into_iter().flat_map(|(_, b)| b).collect();
    (shape.build().0, disk)
}

#[test]
fn a_raw_backing_file_stays_raw_whatever_its_guest_writes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (image, _) = base();
    fs::write(at("base.any"), &image).unwrap();
    fs::write(at("top.qcow2"), child("base.any", Some("raw"))).unwrap();
    let chain = open(&at("top.qcow2"), &FileResolver::default()).unwrap();
    assert_eq!(chain.layers()[1].format().name(), "raw");
    let warnings = &chain.layers()[1].facts().warnings;
    assert!(warnings.iter().any(|w| w.contains("qcow2")), "{warnings:?}");
    assert!(contents(&chain).unwrap() == image[..2048]);
}

#[test]
fn a_recorded_format_decides_whatever_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (image, disk) = base();
    fs::write(at("base.img"), &image).unwrap();
    fs::write(at("top.qcow2"), child("base.img", Some("qcow2"))).unwrap();
    let chain = open(&at("top.qcow2"), &FileResolver::default()).unwrap();
    assert!(contents(&chain).unwrap() == disk);

    // A format with an identity of its own, under the name that qemu has for it.
    let vhd = format::named("vhd").unwrap();
    let dynamic = format::subformat(vhd, None).unwrap();
    let image = testing::image(vhd, dynamic, &disk, None, 1).unwrap();
    fs::write(at("base.disk"), image).unwrap();
    fs::write(at("on-vhd.qcow2"), child("base.disk", Some("vpc"))).unwrap();
    let chain = open(&at("on-vhd.qcow2"), &FileResolver::default()).unwrap();
    assert!(contents(&chain).unwrap() == disk);

    // Not what it is said to be.
    fs::write(at("wrong.qcow2"), child("base.disk", Some("qcow2"))).unwrap();
    let error = open(&at("wrong.qcow2"), &FileResolver::default());
    assert_eq!(kind(error), ErrorKind::WrongFormat);
}

#[test]
fn without_a_recorded_format_name_and_contents_must_agree() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (image, disk) = base();
    fs::write(at("deepest.qcow2"), &image).unwrap();
    let lure = child("deepest.qcow2", Some("qcow2"));
    let plain = vec![7; 2048];
    type Row<'a> = (&'static str, &'a [u8], Result<&'a [u8], ErrorKind>);
    let rows: &[Row<'_>] = &[
        ("base.qcow2", &image, Ok(&disk)),
        ("base.raw", &plain, Ok(&plain)),
        ("base.img", &plain, Ok(&plain)),
        // Names another file, as its name lets one expect.
        ("child.qcow2", &lure, Ok(&disk)),
        // Could be a raw disk whose guest wrote it: harmless as long as it names no file.
        ("image", &image, Ok(&disk)),
        ("image.img", &image, Ok(&disk)),
        ("lure", &lure, Err(ErrorKind::Policy)),
        ("lure.img", &lure, Err(ErrorKind::Policy)),
        ("lure.vmdk", &lure, Err(ErrorKind::Policy)),
        ("image.raw", &image, Err(ErrorKind::Policy)),
        ("plain", &plain, Err(ErrorKind::Policy)),
        ("plain.qcow2", &plain, Err(ErrorKind::Policy)),
    ];
    for (name, bytes, expected) in rows {
        fs::write(at(name), bytes).unwrap();
        fs::write(at("top.qcow2"), child(name, None)).unwrap();
        let found = open(&at("top.qcow2"), &FileResolver::default());
        let found = found.map_err(|e| e.kind()).map(|c| contents(&c).unwrap());
        assert_eq!(found.as_deref().map_err(|k| *k), *expected, "{name}");
    }
}

#[test]
fn a_namesake_is_not_the_backing_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (image, disk) = base();
    fs::write(at("base.qcow2"), child("none", None)).unwrap();
    let elsewhere = at("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("base.qcow2"), &image).unwrap();
    for name in ["/nowhere/base.qcow2", "../base.qcow2", "gone/base.qcow2"] {
        fs::write(at("top.qcow2"), child(name, Some("qcow2"))).unwrap();
        let refused = kind(open(&at("top.qcow2"), &FileResolver::default()));
        let outside = name.starts_with(['/', '.']);
        let expected = match outside {
            true => ErrorKind::Policy,
            false => ErrorKind::Reference,
        };
        assert_eq!(refused, expected, "{name}");
        // A person may say which file it is, but only one of its format counts.
        let mut given = FileResolver {
            parents: vec![elsewhere.join("base.qcow2")],
            ..FileResolver::default()
        };
        fs::write(at("other.raw"), [1; 512]).unwrap();
        given.parents.push(at("other.raw"));
        let chain = open(&at("top.qcow2"), &given).unwrap();
        assert!(contents(&chain).unwrap() == disk, "{name}");
        given.parents.push(at("base.qcow2"));
        assert_eq!(
            kind(open(&at("top.qcow2"), &given)),
            ErrorKind::Reference,
            "two could be it"
        );
    }
}

#[test]
fn a_loop_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.qcow2"), child("b.qcow2", Some("qcow2"))).unwrap();
    fs::write(at("b.qcow2"), child("a.qcow2", None)).unwrap();
    let error = open(&at("a.qcow2"), &FileResolver::default());
    assert_eq!(kind(error), ErrorKind::Corrupt);
    fs::write(at("self.qcow2"), child("self.qcow2", None)).unwrap();
    let error = open(&at("self.qcow2"), &FileResolver::default());
    assert_eq!(kind(error), ErrorKind::Corrupt);
}

#[test]
fn an_external_data_file_comes_from_the_images_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shape = Shape {
        clusters: vec![Cluster::Plain(Is::Data, false); 4],
        external: true,
        ..Shape::sample(3)
    };
    let (image, data) = shape.build();
    fs::write(at("top.qcow2"), image).unwrap();
    let missing = open(&at("top.qcow2"), &FileResolver::default());
    assert_eq!(kind(missing), ErrorKind::Reference);
    fs::write(at("disk.data"), data).unwrap();
    let chain = open(&at("top.qcow2"), &FileResolver::default()).unwrap();
    let disk: Vec<u8> = shape.model().into_iter().flat_map(|(_, b)| b).collect();
    assert!(contents(&chain).unwrap() == disk);
    let stored = chain.extent_at(0).unwrap().stored.unwrap();
    assert_eq!(stored.file.path, at("disk.data"));

    fs::rename(at("disk.data"), at("real")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", at("disk.data")).unwrap();
    let outside = open(&at("top.qcow2"), &FileResolver::default());
    assert_eq!(kind(outside), ErrorKind::Policy);
}
