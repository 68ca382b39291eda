//! Families of images: every verdict on a link, what is no image of its own, and a thousand clones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

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
fn what_is_known_of_a_changed_parent_is_said() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let contents = |found: &Family, child: &str| match link(found, child) {
        Verdict::Changed {
            contents, copies, ..
        } => (*contents, copies.first().map(|c| name(found, *c))),
        other => panic!("{other:?}"),
    };
    make(&at("base.vmdk"), 1, 1, None);
    // The disk of `a` is its parent's; `full` holds all of its disk itself.
    make(
        &at("a.vmdk"),
        1,
        2,
        Some(("base.vmdk", &at("base.vmdk"), 1)),
    );
    make(
        &at("full.vmdk"),
        9,
        3,
        Some(("base.vmdk", &at("base.vmdk"), 1)),
    );
    fs::rename(at("base.vmdk"), at("old.vmdk")).unwrap();
    make(&at("base.vmdk"), 1, 4, None);
    assert!(!opens(&at("a.vmdk")));

    let twin = Some("old.vmdk".to_owned());
    let found = scan(&[temp.path()]);
    assert_eq!(contents(&found, "a.vmdk"), (Contents::Same, twin.clone()));
    assert_eq!(contents(&found, "full.vmdk").0, Contents::Unused);
    make(&at("base.vmdk"), 5, 4, None);
    let found = scan(&[temp.path()]);
    assert_eq!(contents(&found, "a.vmdk"), (Contents::Different, twin));
    assert_eq!(contents(&found, "full.vmdk").0, Contents::Unused);
    fs::remove_file(at("old.vmdk")).unwrap();
    let found = scan(&[temp.path()]);
    assert_eq!(contents(&found, "a.vmdk"), (Contents::Unknown, None));
}

#[test]
fn copies_that_do_not_agree_prove_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    make(&at("base.vmdk"), 1, 1, None);
    let parent = at("base.vmdk");
    make(&at("a.vmdk"), 1, 2, Some(("base.vmdk", &parent, 1)));
    fs::rename(&parent, at("z-old.vmdk")).unwrap();
    // The same identity, and other contents: as a disk that was written to by a careless program.
    make(&at("old.vmdk"), 6, 1, None);
    assert_eq!(identity(&at("old.vmdk")), identity(&at("z-old.vmdk")));
    for now in [1, 6] {
        make(&at("base.vmdk"), now, 4, None);
        let found = scan(&[temp.path()]);
        let Verdict::Changed {
            contents, copies, ..
        } = link(&found, "a.vmdk")
        else {
            panic!("{found:#?}");
        };
        assert_eq!((*contents, copies.len()), (Contents::Unknown, 2));
        let resolver = FileResolver::default();
        let plan = found.plan(false, &OpenOptions::new(&resolver));
        assert!(plan.steps.is_empty(), "{plan:#?}");
    }
    // From both it differs, whichever is right.
    make(&at("base.vmdk"), 5, 4, None);
    let found = scan(&[temp.path()]);
    assert!(matches!(
        link(&found, "a.vmdk"),
        Verdict::Changed {
            contents: Contents::Different,
            ..
        }
    ));
}

#[test]
fn many_children_of_a_changed_parent_are_told_apart() {
    for ending in ["vmdk", "vhd", "vhdx"] {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(format!("{name}.{ending}"));
        let format = format::by_extension(&at("x")).unwrap();
        let (mut subformats, mut of_children) =
            (format.subformats().iter(), format.subformats().iter());
        let subformat = subformats.next().unwrap();
        let for_child = of_children.find(|s| s.child).unwrap();
        let before = vec![1u8; 4 * SIZE];
        let image = |disk: &Vec<u8>, id| testing::image(format, subformat, disk, None, id).unwrap();
        fs::write(at("base"), image(&before, 1)).unwrap();
        let identity = identity(&at("base"));
        // Each holds one MiB of the four; the parent changes in the second.
        for (part, id) in (0..4).zip(10..) {
            let mut disk = before.clone();
            disk[part * SIZE..(part + 1) * SIZE].fill(9);
            let spec = ParentSpec {
                relative: format!("base.{ending}").into(),
                absolute: None,
                identity,
                modified: 0,
            };
            let parent = Some((&before as &dyn Disk, spec));
            let bytes = testing::image(format, for_child, &disk, parent, id).unwrap();
            fs::write(at(&format!("c{part}")), bytes).unwrap();
        }
        fs::rename(at("base"), at("old")).unwrap();
        let mut after = before.clone();
        after[SIZE..2 * SIZE].fill(5);
        fs::write(at("base"), image(&after, 2)).unwrap();
        let found = scan(&[temp.path()]);
        for part in 0..4 {
            // By a model: what the child reads changes unless it holds the second MiB itself.
            let expected = match part {
                1 => Contents::Same,
                _ => Contents::Different,
            };
            let Verdict::Changed { contents, .. } = link(&found, &format!("c{part}.{ending}"))
            else {
                panic!("{found:#?}");
            };
            assert_eq!(*contents, expected, "{ending} {part}");
        }
    }
}

#[test]
fn an_image_that_cannot_be_opened_for_its_chain_is_a_finding() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("x-flat.vmdk"), vec![1; 512]).unwrap();
    // 257 layers, one more than is opened, and one more on top.
    for layer in 0..258u32 {
        let parent = match layer {
            0 => "parentCID=ffffffff\n".to_owned(),
            _ => format!(
                "parentCID={layer:08x}\nparentFileNameHint=\"l{}.vmdk\"\n",
                layer - 1
            ),
        };
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID={:08x}\n{parent}\
             createType=\"monolithicFlat\"\nRW 1 FLAT \"x-flat.vmdk\" 0\n",
            layer + 1
        );
        fs::write(at(&format!("l{layer}.vmdk")), text).unwrap();
    }
    assert!(opens(&at("l255.vmdk")) && !opens(&at("l256.vmdk")));
    let found = scan(&[temp.path()]);
    let troubles: Vec<&PathBuf> = found.troubles.iter().map(|t| &t.path).collect();
    assert_eq!(
        (found.findings(), troubles),
        (1, vec![&at("l256.vmdk")]),
        "{:?}",
        found.troubles
    );
}

#[test]
fn a_parent_that_is_cut_short_is_a_finding() {
    for ending in ["vmdk", "vhd", "vhdx"] {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(format!("{name}.{ending}"));
        make(&at("base"), 1, 1, None);
        let name = format!("base.{ending}");
        make(&at("a"), 2, 2, Some((&name, &at("base"), 1)));
        assert_eq!(scan(&[temp.path()]).findings(), 0);
        // In the middle of what the guest wrote.
        let bytes = fs::read(at("base")).unwrap();
        let data = bytes.windows(8192).position(|w| w == [1; 8192]).unwrap();
        fs::write(at("base"), &bytes[..data + SIZE / 2]).unwrap();
        let found = scan(&[temp.path()]);
        assert!(found.findings() > 0, "{ending}: {found:#?}");
        let told = |path: &Path| found.troubles.iter().filter(|t| t.path == path).count();
        assert_eq!(told(&at("base")), 1, "{ending}: {found:#?}");
    }
}

#[test]
fn a_child_that_cannot_be_repaired_does_not_keep_others_from_it() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    make(&at("base.vmdk"), 1, 1, None);
    let parent = at("base.vmdk");
    for (child, id) in [("a.vmdk", 2), ("b.vmdk", 3), ("c.vmdk", 4)] {
        make(&at(child), 1, id, Some(("base.vmdk", &parent, 1)));
    }
    fs::rename(&parent, at("new.vmdk")).unwrap();
    let resolver = FileResolver::default();
    let plan = scan(&[temp.path()]).plan(false, &OpenOptions::new(&resolver));
    fs::remove_file(at("b.vmdk")).unwrap();
    let mut done = Vec::new();
    plan.apply(|step, result| {
        done.push((step.child.clone(), result.is_ok()));
        Ok(())
    })
    .unwrap();
    let expected = [("a.vmdk", true), ("b.vmdk", false), ("c.vmdk", true)];
    assert_eq!(done, expected.map(|(name, ok)| (at(name), ok)));
    assert!(opens(&at("a.vmdk")) && opens(&at("c.vmdk")));
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
fn loops_end_and_are_marked_where_they_are() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    // a -> b -> c -> a, and d -> a from outside the loop. CIDs 1 to 4.
    let descriptor = |name: &str, cid: u32, parent: u32, hint: &str| {
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID={parent:08x}\n\
             parentFileNameHint=\"{hint}\"\ncreateType=\"monolithicFlat\"\n\
             RW 1 FLAT \"x-flat.vmdk\" 0\n"
        );
        fs::write(at(name), text).unwrap();
    };
    fs::write(at("x-flat.vmdk"), vec![1; 512]).unwrap();
    descriptor("a.vmdk", 1, 2, "b.vmdk");
    descriptor("b.vmdk", 2, 3, "c.vmdk");
    descriptor("c.vmdk", 3, 1, "a.vmdk");
    descriptor("d.vmdk", 4, 1, "a.vmdk");
    descriptor("self.vmdk", 5, 5, "self.vmdk");
    let found = scan(&[temp.path()]);
    for child in ["a.vmdk", "b.vmdk", "c.vmdk", "self.vmdk"] {
        assert!(
            matches!(link(&found, child), Verdict::Loop { .. }),
            "{child}: {found:#?}"
        );
        assert!(!opens(&at(child)));
    }
    assert!(matches!(link(&found, "d.vmdk"), Verdict::Intact { .. }));
    assert_eq!(found.findings(), 4);
}

#[test]
fn a_parent_of_another_format_or_damaged_is_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    make(&at("base.vmdk"), 1, 1, None);
    make(
        &at("a.vmdk"),
        2,
        2,
        Some(("base.vmdk", &at("base.vmdk"), 1)),
    );
    make(&at("other.vhd"), 1, 1, None);
    fs::rename(at("other.vhd"), at("base.vmdk")).unwrap();
    let found = scan(&[temp.path()]);
    let Verdict::WrongFormat { detail, copies } = link(&found, "a.vmdk") else {
        panic!("{found:#?}");
    };
    assert!(detail.contains("base.vmdk"), "{detail}");
    assert!(copies.is_empty());
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    assert!(found.plan(true, &options).steps.is_empty());
    // A copy of what it was is offered.
    make(&at("kept.vmdk"), 1, 1, None);
    let found = scan(&[temp.path()]);
    let Verdict::WrongFormat { copies, .. } = link(&found, "a.vmdk") else {
        panic!("{found:#?}");
    };
    assert_eq!(name(&found, copies[0]), "kept.vmdk");
    let plan = found.plan(false, &options);
    assert_eq!(plan.steps[0].parent, at("kept.vmdk"), "{plan:#?}");
    fs::remove_file(at("kept.vmdk")).unwrap();

    make(&at("base.vmdk"), 1, 1, None);
    let mut bytes = fs::read(at("base.vmdk")).unwrap();
    bytes.truncate(600); // the header is there, its descriptor is not
    fs::write(at("base.vmdk"), bytes).unwrap();
    let found = scan(&[temp.path()]);
    assert!(matches!(link(&found, "a.vmdk"), Verdict::Unreadable { .. }));
    assert_eq!(
        (found.troubles.len(), found.findings()),
        (1, 2),
        "{found:#?}"
    );
    assert!(found.troubles[0].path.ends_with("base.vmdk"));
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
fn a_namesake_beside_the_child_is_no_changed_parent() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir(at("gold")).unwrap();
    fs::create_dir(at("vm")).unwrap();
    make(&at("gold/disk.vmdk"), 1, 1, None);
    make(&at("vm/disk.vmdk"), 7, 7, None);
    let gold = at("gold/disk.vmdk");
    make(
        &at("vm/child.vmdk"),
        2,
        2,
        Some(("../gold/disk.vmdk", &gold, 1)),
    );
    // The right parent is where the name says, though it may not be followed.
    let found = scan(&[temp.path()]);
    let Verdict::Intact { parent, needs } = link(&found, "child.vmdk") else {
        panic!("{found:#?}");
    };
    assert_eq!(found.images[*parent].path, gold);
    assert_eq!(*needs, Some(Needs::AllowPath));
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    let error = vdisk_core::open(&at("vm/child.vmdk"), &options).err();
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Policy, "{error}");
    assert!(error.to_string().contains("../gold/disk.vmdk"), "{error}");
    // It counts as a child of the one, and not of the other.
    for (parent, expected) in [("gold/disk.vmdk", 1), ("vm/disk.vmdk", 0)] {
        let layer = open_layer(&at(parent), &options).unwrap();
        let children = family::children(&layer, &at("vm"), &options).unwrap();
        assert_eq!(children.len(), expected, "{parent}");
    }
    // Without the right one it is missing, or moved: never the namesake.
    for accept in [false, true] {
        let found = scan(&[&at("vm")]);
        assert!(
            matches!(link(&found, "child.vmdk"), Verdict::Missing { .. }),
            "{found:#?}"
        );
        assert!(found.plan(accept, &options).steps.is_empty());
    }
    fs::rename(&gold, at("gold/new.vmdk")).unwrap();
    let found = scan(&[temp.path()]);
    let Verdict::Moved { to, .. } = link(&found, "child.vmdk") else {
        panic!("{found:#?}");
    };
    assert_eq!((to.len(), name(&found, to[0])), (1, "new.vmdk".to_owned()));
    for accept in [false, true] {
        let plan = found.plan(accept, &options);
        assert_eq!(plan.steps[0].parent, at("gold/new.vmdk"));
    }
    // An image in the recorded place that is another one was changed, and can be accepted.
    make(&gold, 5, 5, None);
    fs::remove_file(at("gold/new.vmdk")).unwrap();
    let found = scan(&[temp.path()]);
    let Verdict::Changed { found: changed, .. } = link(&found, "child.vmdk") else {
        panic!("{found:#?}");
    };
    assert_eq!(found.images[*changed].path, gold);
    assert_eq!(found.plan(true, &options).steps[0].parent, gold);
}

#[test]
fn a_repair_never_makes_a_loop() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("x-flat.vmdk"), vec![1; 512]).unwrap();
    let descriptor = |name: &str, cid: u32, parent: u32, hint: &str| {
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID={parent:08x}\n\
             parentFileNameHint=\"{hint}\"\ncreateType=\"monolithicFlat\"\n\
             RW 1 FLAT \"x-flat.vmdk\" 0\n"
        );
        fs::write(at(name), text).unwrap();
    };
    // b is a child of a, and a records b with an identity that it does not have.
    descriptor("a.vmdk", 1, 9, "b.vmdk");
    descriptor("b.vmdk", 2, 1, "a.vmdk");
    let found = scan(&[temp.path()]);
    assert!(matches!(link(&found, "a.vmdk"), Verdict::Changed { .. }));
    let resolver = FileResolver::default();
    let plan = found.plan(true, &OpenOptions::new(&resolver));
    assert!(plan.steps.is_empty(), "{plan:#?}");
    assert!(plan.left[0].reason.contains("loop"), "{plan:#?}");
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
fn a_change_that_was_cut_short_is_a_finding() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    make(&at("base.vmdk"), 1, 1, None);
    make(
        &at("a.vmdk"),
        2,
        2,
        Some(("base.vmdk", &at("base.vmdk"), 1)),
    );
    make(&at("top.vmdk"), 3, 3, Some(("a.vmdk", &at("a.vmdk"), 2)));
    // Of the layer between, the new identity is written already.
    make(
        &at("a.vmdk"),
        2,
        4,
        Some(("base.vmdk", &at("base.vmdk"), 1)),
    );
    let found = scan(&[temp.path()]);
    assert!(matches!(link(&found, "top.vmdk"), Verdict::Changed { .. }));
    fs::write(at("base.vmdk.vdisk-journal"), b"cut short").unwrap();
    fs::write(at("gone.vmdk.vdisk-journal"), b"cut short").unwrap();
    let found = scan(&[temp.path()]);
    let unfinished: Vec<bool> = found.troubles.iter().map(|t| t.unfinished).collect();
    assert_eq!(unfinished, [true, true], "{found:#?}");
    for child in ["a.vmdk", "top.vmdk"] {
        let Verdict::Unreadable { detail, copies, .. } = link(&found, child) else {
            panic!("{child}: {found:#?}");
        };
        assert!(detail.contains("base.vmdk.vdisk-journal"), "{detail}");
        assert!(copies.is_empty());
        let resolver = FileResolver::default();
        let error = vdisk_core::open(&at(child), &OpenOptions::new(&resolver)).err();
        assert_eq!(error.unwrap().kind(), ErrorKind::Conflict);
    }
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
