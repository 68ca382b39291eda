//! Changes of VHDX images in place, one case each: where things go, what others read.

use super::*;

fn write_at(
    path: &Path,
    ids: Option<Ids>,
    pieces: &[(std::ops::Range<u64>, u8)],
) -> Result<Totals> {
    let (_, totals) = make(path, ids, &|layer, t, update| {
        let mut writer = layer.format().update(layer, t, update)?;
        for (range, byte) in pieces {
            match byte {
                0 => writer.zero(range.clone())?,
                byte => {
                    let len = (range.end - range.start) as usize;
                    writer.data(range.clone(), &vec![*byte; len])?;
                }
            }
        }
        writer.finish()
    })?;
    Ok(totals)
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Pages of 64 KiB are saved before they change: of new blocks none, only the table's and the
/// headers'.
#[test]
fn new_blocks_cost_no_journal() {
    let (_folder, path) = place(&Shape::new(512, MIB, 16 * 2048, vec![(3, Block::Whole)]));
    let old = size(&path);
    let totals = write_at(&path, None, &[(5 * MIB..8 * MIB, 7)]).unwrap();
    assert_eq!(totals.saved, 3 * 65536);
    assert_eq!((totals.grown, totals.cut), (3 * MIB, 0));
    assert_eq!(size(&path), old + 3 * MIB);
    // In place: the block, and again the table's page is not touched.
    let totals = write_at(&path, None, &[(5 * MIB..6 * MIB, 8)]).unwrap();
    assert_eq!((totals.saved, totals.grown), (MIB + 2 * 65536, 0));
    // What is zero already is neither written nor saved.
    let totals = write_at(&path, None, &[(9 * MIB..11 * MIB, 0)]).unwrap();
    assert_eq!((totals.saved, totals.grown), (2 * 65536, 0));
}

#[test]
fn a_block_of_zeros_is_freed_and_compaction_makes_the_file_shorter() {
    let blocks = (0..6).map(|n| (n, Block::Whole)).collect();
    let mut shape = Shape::new(512, MIB, 6 * 2048, blocks);
    // A gap of 2 MiB before each of log, metadata, table and blocks.
    shape.gap = 2;
    shape.order = vec![5, 3, 1, 0, 2, 4];
    let (_folder, path) = place(&shape);
    let mut model = model(&shape);
    let old = size(&path);
    assert_eq!(old, (1 + 9 * 3) * MIB + 2 * MIB);
    write_pieces(&path, &mut model, 512, &[(256, 512, None)]);
    assert_eq!(size(&path), old);
    compare(&path, &model);
    let extent = open(&path).unwrap().extent_at(MIB).unwrap();
    assert_eq!((extent.kind, extent.range.end), (Kind::Zero, 3 * MIB));
    let done = compact(&path, &mut model, &|_| false);
    // Header, log, metadata and table are where they were; the blocks fill the gaps, of which one
    // is left.
    let (taken, kept) = (1 + 3 + 4, 1 + 9 * 3 + 2);
    assert_eq!(done.freed, (kept - taken) * MIB);
    assert_eq!(size(&path), (1 + 3 * 3) * MIB);
    assert_eq!((done.cut, done.kept), (old - 10 * MIB, 2 * MIB));
    assert_eq!(done.moved, 4 * MIB);
    compare(&path, &model);
    // A base without anything is as long as what it says of itself.
    for sector in &mut model {
        *sector = Some(vec![0; 512]);
    }
    write_at(&path, None, &[(0..6 * MIB, 0)]).unwrap();
    compact(&path, &mut model, &|_| false);
    assert_eq!(size(&path), 10 * MIB);
    compare(&path, &model);
}

/// A fixed image keeps its blocks; what of them is zero is given back to the file system.
#[test]
fn a_fixed_image_stays_one() {
    let disk: Vec<u8> = (0..8 * MIB)
        .map(|i| if i < 5 * MIB { 0 } else { 3 })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhdx");
    save(&write(&disk, &spec("fixed", disk.size())), &path);
    // All of it is on the medium.
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes).unwrap();
    let mut model = sectors_of(&open(&path).unwrap());
    let done = compact(&path, &mut model, &|_| false);
    assert_eq!((done.moved, done.cut), (0, 0));
    assert_eq!((done.freed, done.kept), (5 * MIB, 5 * MIB));
    assert_eq!(done.punched, 5 * MIB);
    assert!(fs::read(&path).unwrap() == bytes);
    // Longer: the new blocks are there too, and shorter again: they are no longer.
    resize(&path, 13 * MIB + 512).unwrap();
    assert_eq!(size(&path), bytes.len() as u64 + 6 * MIB);
    let layer = open(&path).unwrap();
    assert_eq!(layer.facts().subformat, "fixed");
    assert_eq!(layer.extent_at(13 * MIB).unwrap().kind, Kind::Data);
    resize(&path, 4 * MIB).unwrap();
    model.truncate(4 * 2048);
    compare(&path, &model);
    let done = compact(&path, &mut model, &|_| false);
    assert_eq!((done.moved, done.cut), (0, 10 * MIB));
    assert_eq!(size(&path), 4 * MIB + 4 * MIB);
    compare(&path, &model);
}

/// The table moves where it gets too large, and so do the entries of sector bitmaps.
#[test]
fn a_table_that_is_too_small_moves() {
    let gib = 1 << 30;
    let partial = Block::Partial(vec![(8, 64)]);
    let base = Shape::new(512, MIB, 5000, vec![(0, Block::Whole), (2, Block::Whole)]);
    let child = Shape::new(512, MIB, 5000, vec![(0, Block::Whole), (2, partial)]).into_child();
    let large = Shape::new(512, 32 * MIB, 5000, vec![(0, Block::Whole)]);
    for (shape, to) in [
        (base, 300 * gib),
        (child, 200 * gib + 512),
        (large, 64 << 40),
    ] {
        let (_folder, path) = place(&shape);
        let mut model = model(&shape);
        let old = size(&path);
        resize(&path, to).unwrap();
        let entries = to.div_ceil(shape.block) * 8;
        let grown = size(&path) - old;
        assert!(
            grown > entries && grown < entries + 3 * MIB,
            "{grown} of {entries}"
        );
        let far = to - to % MIB - 4096;
        write_at(&path, None, &[(far..far + 4096, 9)]).unwrap();
        let layer = open(&path).unwrap();
        let mut read = [0; 4096];
        layer.read_at(far, &mut read).unwrap();
        assert_eq!(read, [9; 4096]);
        let stored: u64 = extents(&layer, 0..to, same_kind)
            .map(|e| e.unwrap())
            .filter(|e| e.kind == Kind::Data)
            .map(|e| e.range.end - e.range.start)
            .sum();
        let per_block = shape.block / 512;
        let held = (0..shape.sectors)
            .filter(|n| shape.model(*n).is_some())
            .count() as u64
            * 512;
        let last = match shape.child {
            true => 4096,
            false => shape.block.min(to - far / shape.block * shape.block),
        };
        // Of a base, the rest of the block that was the last counts too.
        let rest = match shape.child {
            true => 0,
            false => (shape.sectors.next_multiple_of(per_block) - shape.sectors) * 512,
        };
        assert_eq!(stored, held + last + rest);
        drop(layer);
        // Shorter again; the table stays where it is.
        resize(&path, shape.size()).unwrap();
        compare(&path, &model);
        compact(&path, &mut model, &|_| false);
        compare(&path, &model);
    }
}

/// A child loses what its parent says too, and only that.
#[test]
fn a_child_is_compacted_against_its_parent() {
    let below: Vec<u8> = (0..12 * MIB)
        .map(|i| if i / MIB == 7 { 0 } else { (i / 512) as u8 | 1 })
        .collect();
    let mut disk = below.clone();
    disk[..5 << 20].fill(0x11);
    disk[(6 << 20) + 8192..(9 << 20) + 4096].fill(0x22);
    disk[11 << 20..].fill(0);
    let folder = tempfile::tempdir().unwrap();
    let identity = family(folder.path(), &below, &disk);
    let path = folder.path().join("child.vhdx");
    let chain = || contents(&open_path(&path)).unwrap();
    assert!(chain() == disk);
    // The guest writes what was there before to most of it, and zeros where the parent has some.
    let back = [
        0..4 << 20,
        (6 << 20) + 8192..8 << 20,
        (8 << 20)..(8 << 20) + 4096,
    ];
    for range in &back {
        disk[range.clone()].copy_from_slice(&below[range.clone()]);
    }
    make(&path, None, &|layer, t, update| {
        let mut writer = layer.format().update(layer, t, update)?;
        for range in &back {
            let at = range.start as u64..range.end as u64;
            writer.data(at, &disk[range.clone()])?;
        }
        writer.finish()
    })
    .unwrap();
    assert!(chain() == disk);
    let old = size(&path);
    make(&path, None, &|layer, t, update| {
        let mut compactor = layer.format().compact(layer, t, update)?;
        let unit = compactor.unit() as usize;
        for at in (0..disk.len()).step_by(unit) {
            let range = at as u64..(at + unit) as u64;
            let (new, old) = (&disk[at..at + unit], &below[at..at + unit]);
            if new == old {
                compactor.remove(range, Kind::Absent)?;
            } else if new.iter().all(|b| *b == 0) {
                compactor.remove(range, Kind::Zero)?;
            }
        }
        compactor.finish()
    })
    .unwrap();
    assert!(chain() == disk);
    // Blocks of 2 MiB: the first two and the fourth are as the parent says; the others not in all
    // of what they hold.
    let layer = open(&path).unwrap();
    let kinds: Vec<Kind> = (0..6)
        .map(|b| layer.extent_at(b * 2 * MIB).unwrap().kind)
        .collect();
    use Kind::{Absent, Data};
    assert_eq!(kinds, [Absent, Absent, Data, Absent, Data, Absent]);
    assert_eq!(layer.extent_at(11 * MIB).unwrap().kind, Data);
    // The sector bitmap went into the first gap, so one block found no room before another.
    assert_eq!(old - size(&path), 5 * MIB);
    assert_eq!(layer.facts().parent.clone().unwrap().identity, identity);
    drop(layer);
    if there(&python(), &["-c", "import dissect.hypervisor"]) {
        assert!(read_in_python(folder.path(), DISSECT, &["child.vhdx"]) == disk);
    }
    // Not libvhdi: of a child, it misreads blocks that are not present, as of one just created.
}

/// A base and a child of it in `folder`; who the base is.
fn family(folder: &Path, below: &Vec<u8>, disk: &Vec<u8>) -> Option<Identity> {
    save(
        &write(below, &spec("dynamic", below.size())),
        &folder.join("base.vhdx"),
    );
    let identity = open(&folder.join("base.vhdx")).unwrap().facts().identity;
    let (image, _) = write_child(below, disk, &child_spec(disk.size(), identity));
    save(&image, &folder.join("child.vhdx"));
    identity
}

/// Writes what differs from `old` in `new`, and the rest where `new` is longer.
fn change_to(path: &Path, old: &[u8], new: &[u8]) {
    let zeros = vec![0; new.len()];
    make(path, None, &|layer, t, update| {
        let mut writer = layer.format().update(layer, t, update)?;
        for at in (0..new.len()).step_by(4096) {
            let end = new.len().min(at + 4096);
            let was = old.get(at..end).unwrap_or(&zeros[at..end]);
            let range = at as u64..end as u64;
            match &new[at..end] {
                new if new == was => {}
                new if new.iter().all(|b| *b == 0) => writer.zero(range)?,
                new => writer.data(range, new)?,
            }
        }
        writer.finish()
    })
    .unwrap();
}

/// The life of an image, with other programs as witnesses after each step.
#[test]
fn others_read_changed_images() {
    let folder = tempfile::tempdir().unwrap();
    let (path, raw) = (folder.path().join("base.vhdx"), folder.path().join("a.raw"));
    let qemu = there("qemu-img".as_ref(), &["--version"]);
    let python = there(&python(), &["-c", "import dissect.hypervisor, pyvhdi"]);
    let witness = |disk: &[u8]| {
        assert!(contents(&open(&path).unwrap()).unwrap() == disk);
        fs::write(&raw, disk).unwrap();
        if qemu {
            run(Command::new("qemu-img")
                .args(["check", "-q", "-f", "vhdx"])
                .arg(&path));
            run(Command::new("qemu-img")
                .args(["compare", "-q", "-f", "vhdx", "-F", "raw"])
                .args([&path, &raw]));
        }
        if python {
            assert!(read_in_python(folder.path(), DISSECT, &["base.vhdx"]) == disk);
            assert!(read_in_python(folder.path(), LIBVHDI, &["base.vhdx"]) == disk);
        }
    };
    for (subformat, block) in [("dynamic", MIB), ("dynamic", 4 * MIB), ("fixed", 2 * MIB)] {
        let mut disk: Vec<u8> = (0..9 * MIB + 4096).map(|i| (i / 700) as u8).collect();
        let spec = Spec {
            options: Options {
                block_size: Some(block),
                ..Options::default()
            },
            ..spec(subformat, disk.size())
        };
        save(&write(&disk, &spec), &path);
        let mut change = |edit: &dyn Fn(&mut Vec<u8>)| {
            let old = disk.clone();
            edit(&mut disk);
            change_to(&path, &old, &disk);
            disk.clone()
        };
        witness(&change(&|disk| {
            disk[1 << 20..7 << 20].fill(0);
            disk[(4 << 20) + 8192..5 << 20].fill(0x5a);
        }));
        resize(&path, 17 * MIB + 8192).unwrap();
        disk.resize(17 * (1 << 20) + 8192, 0);
        witness(&disk);
        let mut change = |edit: &dyn Fn(&mut Vec<u8>)| {
            let old = disk.clone();
            edit(&mut disk);
            change_to(&path, &old, &disk);
            disk.clone()
        };
        witness(&change(&|disk| disk[12 << 20..].fill(0x77)));
        resize(&path, 14 * MIB + 4096).unwrap();
        disk.truncate(14 * (1 << 20) + 4096);
        witness(&disk);
        let mut model = sectors_of(&open(&path).unwrap());
        compact(&path, &mut model, &|_| false);
        witness(&disk);
        // What a guest wrote past the new end before is not seen when the disk grows again.
        resize(&path, 18 * MIB).unwrap();
        disk.resize(18 << 20, 0);
        witness(&disk);
    }
}

#[test]
fn a_changed_image_has_the_identity_that_it_is_given() {
    let (_folder, path) = place(&Shape::new(512, MIB, 5000, vec![(0, Block::Whole)]));
    let headers = |path: &Path| edit::headers(&fs::read(path).unwrap());
    let [first, _] = headers(&path);
    write_at(&path, None, &[(0..4096, 5)]).unwrap();
    let [one, two] = headers(&path);
    assert_eq!((one.0, two.0), (DATA_WRITE, DATA_WRITE));
    assert_eq!(one.1, two.1);
    assert_ne!(one.1, first.1);
    assert_eq!((one.2, two.2), (9, 10));
    let ids = Ids::derived(&[8; 32], "changed", 0);
    write_at(&path, Some(ids), &[(0..4096, 6)]).unwrap();
    let made = write(
        &vec![0; 512],
        &Spec {
            ids,
            ..spec("dynamic", 512)
        },
    );
    let [wanted, _] = edit::headers(&made.to_vec());
    let [one, two] = headers(&path);
    assert_eq!((one.0, one.1), (wanted.0, wanted.1));
    assert_eq!((two.0, two.1, one.2, two.2), (wanted.0, wanted.1, 11, 12));
    // Once more with the same: the file is another one nevertheless.
    write_at(&path, Some(ids), &[(0..4096, 7)]).unwrap();
    assert_eq!(headers(&path)[0].0, wanted.0);
    assert_ne!(headers(&path)[0].1, wanted.1);
    compare(&path, &sectors_of(&open(&path).unwrap()));
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let shape = Shape::new(512, MIB, 5000, vec![(0, Block::Whole), (1, Block::Whole)]);
    let (_folder, path) = place(&shape);
    let kind = |result: Result<Totals>| result.err().map(|e| e.kind());
    for (size, expected) in [
        (MIB + 100, ErrorKind::Usage),
        ((64 << 40) + 512, ErrorKind::Unsupported),
    ] {
        assert_eq!(kind(resize(&path, size)), Some(expected));
    }
    let past = 4999 * 512..5003 * 512;
    assert_eq!(
        kind(write_at(&path, None, &[(past, 1)])),
        Some(ErrorKind::OutOfRange)
    );
    // A base as the overlay of something cannot say that a part of a block is not in it.
    let layer = open(&path).unwrap();
    let update = Update {
        context: Context {
            overlay: true,
            ..update(None).context
        },
        ids: None,
    };
    let files: Vec<&ImageFile> = layer.files().iter().collect();
    let overlay = transaction::rehearse(&files, |t| {
        layer.format().update(&layer, t, &update).map(drop)
    });
    assert_eq!(overlay.unwrap_err().kind(), ErrorKind::Unsupported);
    // Two blocks in one place; a block of a base that is there in part; a log; a damaged copy.
    let mut shared = shape.build();
    let place = shared.file.u64_at(shared.bat) >> 20 << 20;
    shared.entry(1, 6, place);
    let mut partial = shape.build();
    partial.entry(1, 7, partial.file.u64_at(partial.bat + 8) >> 20 << 20);
    let mut damaged = shape.build();
    damaged.file.put((256 << 10) + 100, &[1]);
    let mut dirty = log::sample();
    let sector = 5 * 4096;
    let step = builder::Step::Page(4 << 20, log::page(3));
    log::log(
        &mut dirty,
        sector,
        &[log::entry(77, sector as u32, vec![step])],
    );
    for (image, expected) in [
        (shared, ErrorKind::Corrupt),
        (partial, ErrorKind::Corrupt),
        (damaged, ErrorKind::Corrupt),
        (dirty, ErrorKind::Unsupported),
    ] {
        save(&image.file, &path);
        let old = fs::read(&path).unwrap();
        assert_eq!(kind(write_at(&path, None, &[(0..4096, 1)])), Some(expected));
        assert_eq!(kind(resize(&path, 9 * MIB)), Some(expected));
        let compacted = make(&path, None, &|layer, t, update| {
            layer.format().compact(layer, t, update)?.finish()
        });
        assert_eq!(compacted.err().map(|e| e.kind()), Some(expected));
        assert!(fs::read(&path).unwrap() == old);
    }
}
