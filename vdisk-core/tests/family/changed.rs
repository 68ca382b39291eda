//! Parents that are not the recorded ones any more: what is known of their contents, and what a repair does.

use super::*;

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
