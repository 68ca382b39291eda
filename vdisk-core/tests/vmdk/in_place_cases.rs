//! Changes in place of sparse and flat disks, one case each: what is refused, and what is easily
//! forgotten.

use crate::{
    builder::{Cell, Grains, put32},
    descriptor,
    in_place::{PLAIN, Unflushed, monolithic, read, resize, trouble, vmdk, write},
    peers,
};
use std::{fs, path::Path, sync::PoisonError};
use vdisk_core::{
    Disk, Error, ErrorKind, FileResolver, Ids, Layer, OpenOptions, Result,
    format::{self, Compacted, Context, Update},
    is_zero, open_layer,
    storage::ImageFile,
    testing,
    transaction::{self, Totals, Transaction, Work},
};

/// Sixteen grains of 8 sectors, every second one stored, backwards.
fn sixteen() -> Grains {
    let mut grains = Grains::ascending(&[Cell::Hole; 16], 8, 128);
    for index in (0..16).step_by(2) {
        grains.cells[index] = Cell::Data(index as u8 + 1);
    }
    grains.order.reverse();
    grains
}

/// The error of a change that must fail, after which `path` is as it was, byte for byte.
fn refused<T: std::fmt::Debug>(path: &Path, change: impl FnOnce() -> Result<T>) -> Error {
    let before = fs::read(path).unwrap();
    let error = change().unwrap_err();
    assert!(fs::read(path).unwrap() == before, "{error}");
    error
}

/// Two images with tables that nobody can trust are left alone.
#[test]
fn what_lies_in_one_place_twice_is_not_moved() {
    let grains = sixteen();
    // Header, descriptor; directory and table, and the same again; then grains, on the grid.
    let (copy, primary) = (22 * 512, 27 * 512);
    let first = u32::try_from(32).unwrap();
    for (what, entries) in [
        ("something else has", vec![(copy, first), (primary, first)]),
        ("something else has", vec![(copy, 24), (primary, 24)]),
        ("past the end", vec![(copy, 1 << 20), (primary, 1 << 20)]),
        ("differs from its copy", vec![(copy, 0)]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = monolithic(&grains, PLAIN, None);
        for (table, entry) in entries {
            put32(&mut bytes, table, entry);
        }
        let path = write(folder.path(), &bytes);
        let error = refused(&path, || compact_blindly(&path));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// Compacts without dropping anything, and without reading the image first.
fn compact_blindly(path: &Path) -> Result<Compacted> {
    run(path, None, |layer, t, update| {
        vmdk().compact(layer, t, update)?.finish()
    })
    .map(|(done, _)| done)
}

/// Runs a change without looking at contents.
fn run<T>(
    path: &Path,
    ids: Option<Ids>,
    change: impl FnOnce(&Layer, &Transaction<'_>, &Update<'_>) -> Result<T>,
) -> Result<(T, Totals)> {
    let _guard = peers::STARTING
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let resolver = FileResolver::default();
    let update = Update {
        context: Context {
            resolver: &resolver,
            overlay: false,
            disk: None,
            verify: false,
        },
        ids,
    };
    let layer = open_layer(path, &OpenOptions::new(&resolver))?;
    let files: Vec<&ImageFile> = layer.files().iter().collect();
    let work = Work {
        files: &files,
        redo: "",
        medium: &Unflushed,
    };
    transaction::run(&work, |t| change(&layer, t, &update))
}

#[test]
fn kinds_that_stay_as_they_are_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let grains = sixteen();
    let path = folder.path().join("disk.vmdk");
    let stream = format::subformat(vmdk(), Some("streamOptimized")).unwrap();
    let stream = testing::files(vmdk(), stream, &grains.disk(), None, 1).unwrap();
    let lines = |word: &str| {
        let line = format!("RW 128 {word} \"extent\"");
        descriptor("custom", None, &[line])
    };
    for (kind, main, extent) in [
        ("streamOptimized", stream.get("image"), Vec::new()),
        ("custom", lines("VMFSSPARSE"), grains.cowd()),
        ("custom", lines("SPARSE"), grains.cowd()),
        ("custom", lines("SESPARSE"), grains.sesparse()),
        (
            "custom",
            descriptor("custom", None, &["RW 128 ZERO".to_owned()]),
            Vec::new(),
        ),
    ] {
        fs::write(&path, main).unwrap();
        fs::write(folder.path().join("extent"), extent).unwrap();
        let errors = [
            refused(&path, || {
                run(&path, None, |layer, t, update| {
                    vmdk().resize(layer, t, update, 1 << 20)
                })
            }),
            refused(&path, || compact_blindly(&path)),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(kind), "{error}");
        }
    }
}

/// An overlay that somebody opened without its descriptor.
#[test]
fn a_bare_extent_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &sixteen().cowd());
    let resolver = FileResolver::default();
    let options = OpenOptions {
        overlay: true,
        ..OpenOptions::new(&resolver)
    };
    let layer = open_layer(&path, &options).unwrap();
    let update = Update {
        context: Context {
            resolver: &resolver,
            overlay: true,
            disk: None,
            verify: false,
        },
        ids: None,
    };
    let files: Vec<&ImageFile> = layer.files().iter().collect();
    let resized = transaction::rehearse(&files, |t| vmdk().resize(&layer, t, &update, 512));
    assert_eq!(resized.unwrap_err().kind(), ErrorKind::Unsupported);
    let compacted = transaction::rehearse(&files, |t| vmdk().compact(&layer, t, &update)?.finish());
    assert_eq!(compacted.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_disk_of_several_extents_keeps_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let lines = [1, 2].map(|n| format!("RW 128 SPARSE \"disk-s00{n}.vmdk\""));
    let path = write(
        folder.path(),
        &descriptor("twoGbMaxExtentSparse", None, &lines),
    );
    for name in ["disk-s001.vmdk", "disk-s002.vmdk"] {
        fs::write(at(name), sixteen().hosted()).unwrap();
    }
    let warned = trouble(&path);
    // Up to 2047 MiB in the last extent, and not less than a sector of it.
    let most = 128 * 512 + (2047 << 20);
    for (size, fits) in [
        (most + 512, false),
        (128 * 512, false),
        (0, false),
        (most, true),
    ] {
        let resized = run(&path, None, |layer, t, update| {
            vmdk().resize(layer, t, update, size)
        });
        assert_eq!(resized.is_ok(), fits, "{size}");
        if let Err(error) = resized {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(
                size == 0 || error.to_string().contains("convert"),
                "{error}"
            );
        }
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("\nRW 128 SPARSE \"disk-s001.vmdk\"\nRW 4192256 SPARSE \"disk-s002.vmdk\"\n")
    );
    assert_eq!(trouble(&path).len(), warned.len());
}

#[test]
fn what_lies_behind_a_flat_extent_does_not_become_part_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let line = "RW 16 FLAT \"disk-flat.vmdk\" 3".to_owned();
    let path = write(folder.path(), &descriptor("monolithicFlat", None, &[line]));
    let mut flat = vec![7; 3 * 512];
    let disk = vec![8; 16 * 512];
    flat.extend(&disk);
    flat.extend(vec![9; 1000]);
    fs::write(folder.path().join("disk-flat.vmdk"), flat).unwrap();
    resize(&path, 40 * 512).unwrap();
    let mut model = disk;
    model.resize(40 * 512, 0);
    assert!(read(&path) == model);
    resize(&path, 5 * 512).unwrap();
    assert!(read(&path) == model[..5 * 512]);
    let flat = fs::read(folder.path().join("disk-flat.vmdk")).unwrap();
    assert!(flat[..3 * 512] == [7; 3 * 512] && flat.len() == 8 * 512);
}

#[test]
fn a_new_identity_comes_with_the_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &monolithic(&sixteen(), PLAIN, None));
    let cid = || {
        let bytes = fs::read(&path).unwrap()[512..1024].to_vec();
        let text = String::from_utf8(bytes).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("CID="));
        u32::from_str_radix(line.unwrap(), 16).unwrap()
    };
    assert_eq!(cid(), 0x1234_5678);
    let ids = Ids::random(0);
    run(&path, Some(ids), |layer, t, update| {
        vmdk().resize(layer, t, update, 4096)
    })
    .unwrap();
    assert_eq!(cid(), ids.cid);
    let ids = Ids::random(0);
    run(&path, Some(ids), |layer, t, update| {
        vmdk().compact(layer, t, update)?.finish()
    })
    .unwrap();
    assert_eq!(cid(), ids.cid);
}

#[test]
fn a_descriptor_does_not_outgrow_its_area() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = monolithic(&sixteen(), PLAIN, None);
    let area = &mut bytes[512..21 * 512];
    let len = area.iter().position(|b| *b == 0).unwrap();
    let end = area.len() - 2;
    area[len..end].fill(b'#');
    area[end] = b'\n';
    let path = write(folder.path(), &bytes);
    // 128 sectors become 4 digits.
    let error = refused(&path, || resize(&path, 1000 * 512 * 2));
    assert!(error.to_string().contains("are reserved"), "{error}");
    resize(&path, 999 * 512).unwrap();
}

/// Two sets of 65,536 tables each: only their directories are written, and nothing is held.
#[test]
fn a_small_disk_becomes_one_of_terabytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut grains = Grains::ascending(&[Cell::Data(3)], 128, 128);
    grains.order.reverse();
    let path = write(folder.path(), &monolithic(&grains, PLAIN, None));
    let (_, totals) = run(&path, None, |layer, t, update| {
        vmdk().resize(layer, t, update, 2 << 40)
    })
    .unwrap();
    assert!(
        totals.written < 1 << 20 && totals.saved < 1 << 20,
        "{totals:?}"
    );
    let resolver = FileResolver::default();
    let chain = vdisk_core::open(&path, &OpenOptions::new(&resolver)).unwrap();
    assert_eq!(chain.size(), 2 << 40);
    let mut bytes = vec![1; 1 << 17];
    chain.read_at(0, &mut bytes).unwrap();
    assert!(bytes[..1 << 16] == grains.disk() && is_zero(&bytes[1 << 16..]));
    assert!(trouble(&path).is_empty());
    run(&path, None, |layer, t, update| {
        vmdk().resize(layer, t, update, 1 << 16)
    })
    .unwrap();
    assert!(read(&path) == grains.disk());
}
