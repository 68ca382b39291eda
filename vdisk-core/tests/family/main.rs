//! Families of images: every verdict on a link, what is no image of its own, and a thousand clones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod changed;
mod unreadable;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Disk, ErrorKind, FileResolver, Identity, Job, OpenOptions, format,
    format::ParentSpec,
    open_layer,
    ops::family::{self, Contents, Family, Needs, Verdict},
    testing,
};

const SIZE: usize = 1 << 20;

/// An image of `SIZE` bytes of `byte`, as `subformat` (by its number) of the format that the
/// ending says; a child, if a parent is given, holds only what differs from that.
fn make(path: &Path, byte: u8, id: u8, parent: Option<(&str, &Path, u8)>) {
    let format = format::by_extension(path).unwrap();
    let disk = vec![byte; SIZE];
    let below = parent.map(|(_, _, byte)| vec![byte; SIZE]);
    let spec = parent.map(|(name, path, _)| ParentSpec {
        relative: name.into(),
        absolute: None,
        identity: identity(path),
        modified: 0,
    });
    let parent = below.as_ref().map(|b| b as &dyn Disk).zip(spec);
    let child = parent.is_some();
    let mut subformats = format.subformats().iter();
    let subformat = subformats.find(|s| !child || s.child).unwrap();
    let bytes = testing::image(format, subformat, &disk, parent, id).unwrap();
    fs::write(path, bytes).unwrap();
}

fn identity(path: &Path) -> Option<Identity> {
    let resolver = FileResolver::default();
    let layer = open_layer(path, &OpenOptions::new(&resolver)).unwrap();
    layer.facts().identity
}

fn scan(paths: &[&Path]) -> Family {
    let paths: Vec<PathBuf> = paths.iter().map(|p| p.to_path_buf()).collect();
    let resolver = FileResolver::default();
    family::scan(&paths, &OpenOptions::new(&resolver), &Job::default()).unwrap()
}

/// The link of the child of that file name, and the names of the images it leads to.
fn link<'a>(family: &'a Family, child: &str) -> &'a Verdict {
    let is = |index: usize| family.images[index].path.ends_with(child);
    let found: Vec<_> = family.links.iter().filter(|l| is(l.child)).collect();
    assert_eq!(found.len(), 1, "{child}: {:#?}", family.links);
    &found[0].verdict
}

fn name(family: &Family, index: usize) -> String {
    let path = &family.images[index].path;
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn names(family: &Family) -> Vec<String> {
    (0..family.images.len()).map(|i| name(family, i)).collect()
}

/// True if opening the whole chain works: the opener must agree with the verdict.
fn opens(path: &Path) -> bool {
    let resolver = FileResolver::default();
    vdisk_core::open(path, &OpenOptions::new(&resolver)).is_ok()
}

#[test]
fn links_that_hold_are_intact_in_every_format_with_children() {
    for ending in ["vmdk", "vhd", "vhdx"] {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(format!("{name}.{ending}"));
        make(&at("base"), 1, 1, None);
        make(
            &at("a"),
            2,
            2,
            Some((&format!("base.{ending}"), &at("base"), 1)),
        );
        make(&at("b"), 3, 3, Some((&format!("a.{ending}"), &at("a"), 2)));
        let found = scan(&[temp.path()]);
        assert_eq!(found.findings(), 0, "{found:#?}");
        assert_eq!(names(&found).len(), 3);
        for (child, parent) in [("a", "base"), ("b", "a")] {
            let Verdict::Intact { parent: p, needs } = link(&found, &format!("{child}.{ending}"))
            else {
                panic!("{found:#?}");
            };
            assert_eq!(name(&found, *p), format!("{parent}.{ending}"));
            assert!(needs.is_none() && opens(&at(child)));
        }
        // A child alone leads to its parents, which are not under the path.
        let one = scan(&[&at("b")]);
        let outside: Vec<bool> = one.images.iter().map(|m| m.outside).collect();
        assert_eq!((one.findings(), outside), (0, vec![false, true, true]));
    }
}

#[test]
fn a_lost_parent_is_missing_or_moved() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    make(&at("base.vmdk"), 1, 1, None);
    make(
        &at("a.vmdk"),
        2,
        2,
        Some(("base.vmdk", &at("base.vmdk"), 1)),
    );
    fs::create_dir(at("gold")).unwrap();
    fs::rename(at("base.vmdk"), at("gold/new.vmdk")).unwrap();
    let Verdict::Missing { sought } = link(&scan(&[&at("a.vmdk")]), "a.vmdk").clone() else {
        panic!("not missing");
    };
    assert!(
        sought.contains("'base.vmdk'") && sought.contains("not found in"),
        "{sought}"
    );
    let found = scan(&[temp.path()]);
    let Verdict::Moved { to, .. } = link(&found, "a.vmdk") else {
        panic!("{found:#?}");
    };
    assert_eq!(name(&found, to[0]), "new.vmdk");
    assert_eq!(found.findings(), 1);
    // Two copies have the identity: nothing tells which one, and both are named.
    fs::copy(at("gold/new.vmdk"), at("gold/other.vmdk")).unwrap();
    let found = scan(&[temp.path()]);
    assert!(matches!(link(&found, "a.vmdk"), Verdict::Moved { to, .. } if to.len() == 2));
}

#[test]
fn a_fresh_snapshot_is_no_parent_of_its_siblings() {
    // VMware gives a new child the CID of its parent: both children here have CID 7, as base has.
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("x-flat.vmdk"), vec![1; 512]).unwrap();
    let text = |parent: &str| {
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=00000007\n{parent}\
             createType=\"monolithicFlat\"\nRW 1 FLAT \"x-flat.vmdk\" 0\n"
        )
    };
    let child = text("parentCID=00000007\nparentFileNameHint=\"lost.vmdk\"\n");
    fs::write(at("s1.vmdk"), &child).unwrap();
    fs::write(at("s2.vmdk"), &child).unwrap();
    let found = scan(&[temp.path()]);
    for child in ["s1.vmdk", "s2.vmdk"] {
        assert!(
            matches!(link(&found, child), Verdict::Missing { .. }),
            "{found:#?}"
        );
    }
    fs::write(at("renamed.vmdk"), text("parentCID=ffffffff\n")).unwrap();
    let found = scan(&[temp.path()]);
    for child in ["s1.vmdk", "s2.vmdk"] {
        let Verdict::Moved { to, .. } = link(&found, child) else {
            panic!("{found:#?}");
        };
        assert_eq!(
            (to.len(), name(&found, to[0])),
            (1, "renamed.vmdk".to_owned())
        );
    }
}

#[test]
fn a_parent_recorded_without_a_name_is_known_by_its_uuid() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("x-flat.vmdk"), vec![1; 512]).unwrap();
    let uuid = |n: u8| format!("{n:02x}dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6");
    // As VirtualBox links its children: UUIDs, and neither a parentCID nor a name.
    let disk = |name: &str, own: u8, parent: Option<u8>| {
        let parent = parent.map_or(String::new(), |p| {
            format!("ddb.uuid.parent=\"{}\"\n", uuid(p))
        });
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID={own:08x}\ncreateType=\"monolithicFlat\"\n\
             RW 1 FLAT \"x-flat.vmdk\" 0\nddb.uuid.image=\"{}\"\n{parent}",
            uuid(own)
        );
        fs::write(at(name), text).unwrap();
    };
    disk("base.vmdk", 1, None);
    disk("a.vmdk", 2, Some(1));
    disk("b.vmdk", 3, Some(2));
    disk("lost.vmdk", 4, Some(9));
    // Two that name each other.
    disk("l1.vmdk", 5, Some(6));
    disk("l2.vmdk", 6, Some(5));
    let found = scan(&[temp.path()]);
    for (child, expected) in [("a.vmdk", "base.vmdk"), ("b.vmdk", "a.vmdk")] {
        let Verdict::Intact { parent, needs } = link(&found, child) else {
            panic!("{found:#?}");
        };
        assert_eq!(
            (name(&found, *parent), *needs),
            (expected.to_owned(), Some(Needs::Parent))
        );
    }
    assert!(matches!(link(&found, "lost.vmdk"), Verdict::Missing { .. }));
    for child in ["l1.vmdk", "l2.vmdk"] {
        assert!(
            matches!(link(&found, child), Verdict::Loop { .. }),
            "{found:#?}"
        );
    }
}

#[test]
fn images_of_one_identity_are_named_if_children_go_by_it() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    make(&at("base.vhd"), 1, 1, None);
    fs::copy(at("base.vhd"), at("copy.vhd")).unwrap();
    assert!(scan(&[temp.path()]).alike.is_empty());
    for (child, id) in [("a.vhd", 2), ("b.vhd", 3)] {
        make(&at(child), 2, id, Some(("base.vhd", &at("base.vhd"), 1)));
    }
    let found = scan(&[temp.path()]);
    assert_eq!(found.findings(), 0);
    let groups: Vec<Vec<String>> = found
        .alike
        .iter()
        .map(|g| g.iter().map(|i| name(&found, *i)).collect())
        .collect();
    assert_eq!(groups, [["base.vhd", "copy.vhd"]]);
}

#[test]
fn a_parent_in_another_folder_is_known_by_name_and_not_touched() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir(at("gold")).unwrap();
    fs::create_dir(at("user")).unwrap();
    make(&at("gold/base.vmdk"), 1, 1, None);
    let parent = at("gold/base.vmdk");
    make(
        &at("user/a.vmdk"),
        2,
        2,
        Some(("../gold/base.vmdk", &parent, 1)),
    );
    for paths in [vec![temp.path().to_owned()], vec![at("gold"), at("user")]] {
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let found = scan(&paths);
        assert_eq!(found.findings(), 0, "{found:#?}");
        assert!(matches!(
            link(&found, "a.vmdk"),
            Verdict::Intact {
                needs: Some(Needs::AllowPath),
                ..
            }
        ));
    }
    // Not among the images: the names may not be followed there.
    assert!(matches!(
        link(&scan(&[&at("user")]), "a.vmdk"),
        Verdict::Missing { .. }
    ));
    let resolver = FileResolver {
        allowed: vec![at("gold")],
        ..FileResolver::default()
    };
    let options = OpenOptions::new(&resolver);
    let found = family::scan(&[at("user")], &options, &Job::default()).unwrap();
    assert!(matches!(
        link(&found, "a.vmdk"),
        Verdict::Intact { needs: None, .. }
    ));
    assert!(found.images[1].outside);
}

#[test]
fn what_is_no_image_of_its_own_is_left_out() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let vmdk = format::named("vmdk").unwrap();
    let split = format::subformat(vmdk, Some("twoGbMaxExtentSparse")).unwrap();
    let files = testing::files(vmdk, split, &vec![1u8; 3 << 20], None, 1).unwrap();
    for name in files.names() {
        fs::write(at(&name), files.get(&name)).unwrap();
    }
    assert!(files.names().len() > 2, "{:?}", files.names());
    // A bare extent beside its descriptor, the data of a flat disk, and one whose descriptor is
    // itself damaged: only that one is worth a word.
    fs::write(at("flat-flat.vmdk"), vec![0; 512]).unwrap();
    fs::write(at("flat.vmdk"), "# Disk DescriptorFile\nCID=zz\n").unwrap();
    for (name, bytes) in [
        ("notes.txt", &b"not an image"[..]),
        ("vm.vmx", b"scsi0:0.fileName = \"image\""),
        ("a.vmdk.backup-1", b"KDMV"),
        (".vdisk-x.partial", b"KDMV"),
        ("a.vmdk.lck", b"KDMV"),
        ("empty", b""),
    ] {
        fs::write(at(name), bytes).unwrap();
    }
    symlink("image", at("link.vmdk")).unwrap();
    symlink(".", at("again")).unwrap();
    fs::hard_link(at("image"), at("zzz-hard.vmdk")).unwrap();
    let found = scan(&[temp.path()]);
    assert_eq!(found.images.len(), 1, "{found:#?}");
    let troubles: Vec<&PathBuf> = found.troubles.iter().map(|t| &t.path).collect();
    assert_eq!(troubles, [&at("flat.vmdk")]);
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let resolver = FileResolver::default();
    let paths = ["/nowhere/at all".into()];
    let found = family::scan(&paths, &OpenOptions::new(&resolver), &Job::default());
    assert!(found.is_err());
}

#[test]
fn a_thousand_clones_of_one_base() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    make(&at("base.vmdk"), 1, 1, None);
    make(
        &at("c.vmdk"),
        1,
        2,
        Some(("base.vmdk", &at("base.vmdk"), 1)),
    );
    let bytes = fs::read(at("c.vmdk")).unwrap();
    fs::remove_file(at("c.vmdk")).unwrap();
    let cid = bytes.windows(5).position(|w| w == b"\nCID=").unwrap() + 5;
    for number in 0..1000u32 {
        // Each has an identity of its own; every tenth names another base.
        let mut bytes = bytes.clone();
        bytes[cid..cid + 8].copy_from_slice(format!("{:08x}", 0x100 + number).as_bytes());
        if number % 10 == 0 {
            let hint = bytes.windows(9).position(|w| w == b"base.vmdk").unwrap();
            bytes[hint..hint + 9].copy_from_slice(b"lost.vmdk");
        }
        fs::write(at(&format!("c{number}.vmdk")), bytes).unwrap();
    }
    let found = scan(&[temp.path()]);
    assert_eq!((found.images.len(), found.links.len()), (1001, 1000));
    let count = |is: fn(&Verdict) -> bool| found.links.iter().filter(|l| is(&l.verdict)).count();
    assert_eq!(count(|v| matches!(v, Verdict::Intact { .. })), 900);
    assert_eq!(count(|v| matches!(v, Verdict::Moved { .. })), 100);
    assert!(found.troubles.is_empty());
    for link in &found.links {
        let to = link.verdict.leads_to().unwrap();
        assert_eq!(name(&found, to), "base.vmdk");
    }
}

#[test]
fn children_are_those_that_go_by_the_parent() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    let children = |of: &str| {
        let parent = open_layer(&at(of), &options).unwrap();
        let found = family::children(&parent, temp.path(), &options).unwrap();
        let name = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().into_owned();
        found.iter().map(name).collect::<Vec<_>>()
    };
    make(&at("base.vhd"), 1, 1, None);
    fs::write(at("raw.img"), vec![1; SIZE]).unwrap();
    make(&at("a.vhd"), 2, 2, Some(("base.vhd", &at("base.vhd"), 1)));
    make(&at("b.vhd"), 3, 3, Some(("a.vhd", &at("a.vhd"), 2)));
    make(&at("r.vhd"), 3, 4, Some(("raw.img", &at("raw.img"), 1)));
    // A copy has the identity, and a child that goes by it.
    fs::copy(at("base.vhd"), at("copy.vhd")).unwrap();
    make(
        &at("of-copy.vhd"),
        2,
        5,
        Some(("copy.vhd", &at("copy.vhd"), 1)),
    );
    // One whose names lead nowhere may be a child of either.
    make(
        &at("lost.vhd"),
        2,
        6,
        Some(("gone.vhd", &at("base.vhd"), 1)),
    );
    assert_eq!(children("base.vhd"), ["a.vhd", "lost.vhd"]);
    assert_eq!(children("copy.vhd"), ["lost.vhd", "of-copy.vhd"]);
    assert_eq!(children("a.vhd"), ["b.vhd"]);
    assert_eq!(children("raw.img"), ["r.vhd"]);
    assert!(children("b.vhd").is_empty());
}
