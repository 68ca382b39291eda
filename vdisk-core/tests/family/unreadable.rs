//! Chains that cannot be read: too deep, cut short, looping, of another format, half changed.

use super::*;

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
