//! Which files an image may open, which format it is, and whether its parents are the right ones.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, os::unix::fs::symlink, path::Path};
use vdisk_core::{
    Deny, Disk, ErrorKind, FileResolver, Identity, OpenOptions, Result,
    format::{ParentSpec, named},
    open::{ancestors, open_layer},
    testing,
};

/// A sparse VMDK of 1 MiB, identified by `number`, perhaps a child of another.
fn vmdk(path: &Path, number: u8, parent: Option<(&str, u32)>) -> u32 {
    let format = named("vmdk").unwrap();
    let disk = vec![number; 1 << 20];
    let zeros = vec![0u8; 1 << 20];
    let parent = parent.map(|(name, cid)| {
        let spec = ParentSpec {
            relative: name.into(),
            absolute: None,
            identity: Some(Identity::Cid(cid)),
            modified: 0,
        };
        (&zeros as &dyn Disk, spec)
    });
    let bytes = testing::image(format, &format.subformats()[0], &disk, parent, number).unwrap();
    fs::write(path, &bytes).unwrap();
    match testing::open_bytes(format, bytes).unwrap().facts().identity {
        Some(Identity::Cid(cid)) => cid,
        other => panic!("{other:?}"),
    }
}

fn flat(path: &Path, extent: &str) {
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n\
         createType=\"monolithicFlat\"\nRW 2 FLAT \"{extent}\" 0\n"
    );
    fs::write(path, text).unwrap();
}

fn open(path: &Path, resolver: &FileResolver) -> Result<vdisk_core::Chain> {
    vdisk_core::open(path, &OpenOptions::new(resolver))
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result
        .err()
        .map(|e| e.kind())
        .unwrap_or_else(|| panic!("was opened"))
}

#[test]
fn extents_come_from_the_folder_of_the_image() {
    let top = tempfile::tempdir().unwrap();
    let (inside, outside) = (top.path().join("in"), top.path().join("out"));
    fs::create_dir_all(inside.join("sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(inside.join("data"), vec![1; 1024]).unwrap();
    fs::write(inside.join("sub/data"), vec![2; 1024]).unwrap();
    fs::write(outside.join("secret"), vec![3; 1024]).unwrap();
    symlink("data", inside.join("link-in")).unwrap();
    symlink(outside.join("secret"), inside.join("link-out")).unwrap();
    symlink(&outside, inside.join("folder-out")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        inside.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o600),
        0,
    )
    .unwrap();
    let secret = outside.join("secret").display().to_string();
    let disk = inside.join("disk.vmdk");
    let strict = FileResolver::default();
    for (name, expected) in [
        ("data", Ok(1)),
        ("./data", Ok(1)),
        (".\\data", Ok(1)),
        ("sub/data", Ok(2)),
        ("sub\\data", Ok(2)),
        ("link-in", Ok(1)),
        ("missing", Err(ErrorKind::Reference)),
        ("../out/secret", Err(ErrorKind::Policy)),
        ("sub/../../out/secret", Err(ErrorKind::Policy)),
        ("link-out", Err(ErrorKind::Policy)),
        ("folder-out/secret", Err(ErrorKind::Policy)),
        (secret.as_str(), Err(ErrorKind::Policy)),
        ("/etc/passwd", Err(ErrorKind::Policy)),
        ("/dev/zero", Err(ErrorKind::Policy)),
        ("C:\\secret", Err(ErrorKind::Policy)),
        ("\\\\server\\share\\secret", Err(ErrorKind::Policy)),
        ("fifo", Err(ErrorKind::Policy)),
        ("sub", Err(ErrorKind::Policy)),
        (&"x".repeat(5000), Err(ErrorKind::Policy)),
    ] {
        flat(&disk, name);
        let found = open(&disk, &strict).map(|d| testing::contents(&d).unwrap()[0]);
        assert_eq!(found.map_err(|e| e.kind()), expected, "{name}");
    }
    let allowing = FileResolver {
        allowed: vec![outside],
        ..FileResolver::default()
    };
    for name in ["../out/secret", "link-out", &secret] {
        flat(&disk, name);
        let found = testing::contents(&open(&disk, &allowing).unwrap()).unwrap()[0];
        assert_eq!(found, 3, "{name}");
    }
    flat(&disk, "/etc/passwd");
    assert_eq!(kind(open(&disk, &allowing)), ErrorKind::Policy);
    flat(&disk, "data");
    assert_eq!(
        kind(open_layer(&disk, &OpenOptions::new(&Deny))),
        ErrorKind::Policy
    );
}

#[test]
fn names_from_images_cannot_drive_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.vmdk");
    flat(&disk, "a\u{1b}[2Jb\u{7}");
    let text = open(&disk, &FileResolver::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        !text.contains('\u{1b}') && text.contains("\\u{1b}[2J"),
        "{text}"
    );
}

#[test]
fn parents_are_found_and_must_be_the_recorded_ones() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = vmdk(&at("base.vmdk"), 1, None);
    let strict = FileResolver::default();

    // By a foreign absolute path, the bare name still finds it; the identity makes that safe.
    vmdk(&at("child.vmdk"), 2, Some(("C:/vms/base.vmdk", base)));
    let bytes = fs::read(at("child.vmdk")).unwrap();
    let at_name = bytes.windows(3).position(|w| w == b"C:/").unwrap();
    let mut windows = bytes;
    for slash in [at_name + 2, at_name + 6] {
        windows[slash] = b'\\';
    }
    fs::write(at("child.vmdk"), windows).unwrap();
    assert_eq!(open(&at("child.vmdk"), &strict).unwrap().layers().len(), 2);

    vmdk(&at("child.vmdk"), 2, Some(("base.vmdk", base ^ 1)));
    let error = open(&at("child.vmdk"), &strict).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Reference);
    let text = error.to_string();
    for id in [base, base ^ 1] {
        assert!(text.contains(&format!("{id:08x}")), "{text}");
    }

    vmdk(&at("child.vmdk"), 2, Some(("gone.vmdk", base)));
    let error = open(&at("child.vmdk"), &strict).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(error.to_string().contains("gone.vmdk"), "{error}");
    let named = FileResolver {
        parents: vec![at("base.vmdk")],
        ..FileResolver::default()
    };
    assert_eq!(open(&at("child.vmdk"), &named).unwrap().layers().len(), 2);

    // The layers that could be opened are still there to look at.
    let options = OpenOptions::new(&strict);
    let (layers, trouble) = ancestors(open_layer(&at("child.vmdk"), &options).unwrap(), &options);
    assert_eq!((layers.len(), trouble.is_some()), (1, true));
}

/// A dynamic VHD of 1 MiB, perhaps a child that names its parent by two paths.
fn vhd(path: &Path, parent: Option<(&str, &str, Identity)>) -> Identity {
    let format = named("vhd").unwrap();
    let variant = if parent.is_some() {
        "differencing"
    } else {
        "dynamic"
    };
    let subformat = vdisk_core::format::subformat(format, Some(variant)).unwrap();
    let (disk, zeros) = (vec![1; 1 << 20], vec![0u8; 1 << 20]);
    let parent = parent.map(|(relative, absolute, identity)| {
        let spec = ParentSpec {
            relative: relative.into(),
            absolute: Some(absolute.into()),
            identity: Some(identity),
            modified: 0,
        };
        (&zeros as &dyn Disk, spec)
    });
    let bytes = testing::image(format, subformat, &disk, parent, 1).unwrap();
    fs::write(path, &bytes).unwrap();
    match testing::open_bytes(format, bytes).unwrap().facts().identity {
        Some(identity) => identity,
        None => panic!("no identity"),
    }
}

#[test]
fn paths_that_only_windows_knows_refuse_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = vhd(&at("base.vhd"), None);
    let strict = FileResolver::default();
    let child = at("child.vhd");
    for foreign in [
        r"C:\vms\base.vhd",
        r"\\server\share\base.vhd",
        r"\\?\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\base.vhd",
    ] {
        vhd(&child, Some(("base.vhd", foreign, base)));
        assert_eq!(open(&child, &strict).unwrap().layers().len(), 2);

        vhd(&child, Some(("gone.vhd", foreign, base)));
        fs::rename(at("base.vhd"), at("away.vhd")).unwrap();
        let error = open(&child, &strict).err().unwrap();
        fs::rename(at("away.vhd"), at("base.vhd")).unwrap();
        assert_eq!(error.kind(), ErrorKind::Reference, "{error}");
        let expected = format!("'gone.vhd' was not found in {}", folder.path().display());
        assert!(error.to_string().contains(&expected), "{error}");
    }
    // What can be a file here is one that is not allowed, whether it is there or not.
    for outside in ["/nowhere/gone.vhd", "/etc/passwd"] {
        vhd(&child, Some(("gone.vhd", outside, base)));
        let error = open(&child, &strict).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Policy, "{error}");
        let name = outside.replace('/', "\\");
        assert!(
            error
                .to_string()
                .contains(&format!("'{name}' lies outside")),
            "{error}"
        );
    }
    vhd(&child, Some(("../gone.vhd", r"C:\gone.vhd", base)));
    let error = open(&child, &strict).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Policy, "{error}");
}

#[test]
fn loops_and_endless_chains_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // The CID does not depend on the parent, so a loop can be closed afterwards.
    let a = vmdk(&at("a.vmdk"), 1, None);
    let b = vmdk(&at("b.vmdk"), 2, Some(("a.vmdk", a)));
    vmdk(&at("a.vmdk"), 1, Some(("b.vmdk", b)));
    let error = open(&at("a.vmdk"), &FileResolver::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("loop"), "{error}");
    // A loop by another name of the same file.
    fs::hard_link(at("b.vmdk"), at("b2.vmdk")).unwrap();
    assert_eq!(
        kind(open(&at("b2.vmdk"), &FileResolver::default())),
        ErrorKind::Corrupt
    );

    let mut below = vmdk(&at("0.vmdk"), 0, None);
    for n in 1..=vdisk_core::limits::CHAIN_DEPTH {
        let parent = format!("{}.vmdk", n - 1);
        below = vmdk(&at(&format!("{n}.vmdk")), 0, Some((&parent, below)));
    }
    let deepest = vdisk_core::limits::CHAIN_DEPTH - 1;
    let strict = FileResolver::default();
    assert_eq!(
        open(&at(&format!("{deepest}.vmdk")), &strict)
            .unwrap()
            .layers()
            .len(),
        deepest + 1
    );
    assert_eq!(
        kind(open(&at(&format!("{}.vmdk", deepest + 1)), &strict)),
        ErrorKind::Limit
    );
}

#[test]
fn raw_is_never_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let strict = FileResolver::default();
    fs::write(at("disk.raw"), vec![1; 1024]).unwrap();
    assert_eq!(
        open(&at("disk.raw"), &strict)
            .unwrap()
            .top()
            .format()
            .name(),
        "raw"
    );
    fs::write(at("disk.bin"), vec![1; 1024]).unwrap();
    assert_eq!(kind(open(&at("disk.bin"), &strict)), ErrorKind::WrongFormat);
    // A guest wrote a VMDK into its raw disk.
    vmdk(&at("guest.raw"), 1, None);
    assert_eq!(
        kind(open(&at("guest.raw"), &strict)),
        ErrorKind::WrongFormat
    );
    let named = OpenOptions {
        format: Some(named("raw").unwrap()),
        ..OpenOptions::new(&strict)
    };
    let disk = vdisk_core::open(&at("guest.raw"), &named).unwrap();
    assert!(testing::contents(&disk).unwrap().starts_with(b"KDMV"));
    // The guest of a fixed VHD did.
    let mut fixed = fs::read(at("guest.raw")).unwrap();
    let vhd = vdisk_core::format::named("vhd").unwrap();
    let fixed_vhd = vdisk_core::format::subformat(vhd, Some("fixed")).unwrap();
    fixed.truncate(1 << 20);
    let fixed = testing::image(vhd, fixed_vhd, &fixed, None, 1).unwrap();
    fs::write(at("guest.vhd"), fixed).unwrap();
    assert_eq!(
        kind(open(&at("guest.vhd"), &strict)),
        ErrorKind::WrongFormat
    );
    // `.img` means nothing: the contents decide.
    vmdk(&at("disk.img"), 1, None);
    assert_eq!(
        open(&at("disk.img"), &strict)
            .unwrap()
            .top()
            .format()
            .name(),
        "vmdk"
    );
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, word) in [
        ("a.vhdx", b"hello".as_slice(), "VHDX"),
        ("b.qcow2", b"QFI\xfb", "cut short"),
        ("c.vmdk", b"COWD", "vmfsSparse"),
        ("d.vmdk", b"", "empty"),
        ("e.vmdk", b"hello", "flat"),
        // The name says raw, but the guest cannot be the one who is believed.
        ("f.img", b"\x1f\x8b", "name the input format"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = open(&path, &FileResolver::default())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(word) && error.contains(name), "{error}");
    }
    assert_eq!(
        kind(open(folder.path(), &FileResolver::default())),
        ErrorKind::Usage
    );
}

#[test]
fn both_ways_of_reading_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vmdk");
    vmdk(&path, 9, None);
    let resolver = FileResolver::default();
    let mapped = OpenOptions {
        access: vdisk_core::storage::Access::Mapped,
        ..OpenOptions::new(&resolver)
    };
    let disk = vdisk_core::open(&path, &mapped).unwrap();
    testing::conformance(&disk).unwrap();
    assert!(testing::contents(&disk).unwrap() == vec![9; 1 << 20]);
}
