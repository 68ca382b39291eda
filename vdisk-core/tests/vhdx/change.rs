//! Changes of contents in place, against a model by sectors: what an image holds, how long its disk
//! is, and how long its file.

use crate::{
    builder::{self, Block, DATA_WRITE, MIB, Shape, shapes},
    child_spec, edit, log,
    peers::{DISSECT, LIBVHDI, open_path, python, read_in_python, run, save, there},
    spec, write, write_child,
};
use proptest::prelude::*;
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;
use vdisk_core::{
    Deny, Disk, Error, ErrorKind, Identity, Ids, Job, Kind, Layer, OpenOptions, Result,
    disk::{extents, same_kind},
    format::{self, Compacted, Context, Options, Spec, Update},
    open::open_layer,
    ops::check::{Extent, check},
    storage::ImageFile,
    testing::contents,
    transaction::{self, Files, Totals, Transaction, Work},
};

type Change<'c, T> = &'c dyn for<'a> Fn(&'a Layer, &'a Transaction<'a>, &Update<'_>) -> Result<T>;

fn open(path: &Path) -> Result<Layer> {
    let options = OpenOptions {
        format: Some(format::named("vhdx")?),
        ..OpenOptions::new(&Deny)
    };
    open_layer(path, &options)
}

fn update(ids: Option<Ids>) -> Update<'static> {
    Update {
        context: Context {
            resolver: &Deny,
            overlay: false,
            disk: None,
            verify: true,
        },
        ids,
    }
}

/// Makes a change three times: without writing, so that it fails in the end, and really. The first
/// must tell what the last does, and the second leave every byte.
fn make<T>(path: &Path, ids: Option<Ids>, change: Change<'_, T>) -> Result<(T, Totals)> {
    let layer = open(path)?;
    let files: Vec<&ImageFile> = layer.files().iter().collect();
    let work = Work {
        files: &files,
        redo: "",
        medium: &Files,
    };
    let update = update(ids);
    let before = fs::read(path).unwrap();
    let (_, planned) = transaction::rehearse(&files, |t| change(&layer, t, &update))?;
    assert!(fs::read(path).unwrap() == before, "a rehearsal wrote");
    let failed: Result<((), Totals)> = transaction::run(&work, |t| {
        change(&layer, t, &update)?;
        t.barrier()?;
        Err(Error::new(ErrorKind::Cancelled, "test", "stops here"))
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(same_but_gaps(&before, path), "not taken back");
    let (value, done) = transaction::run(&work, |t| change(&layer, t, &update))?;
    assert_eq!(planned, done, "planned, and done");
    Ok((value, done))
}

/// True if the file at `path` is `before`, but for MiB that nothing refers to.
fn same_but_gaps(before: &[u8], path: &Path) -> bool {
    let after = fs::read(path).unwrap();
    after.len() == before.len()
        && (before
            .chunks(MIB as usize)
            .zip(after.chunks(MIB as usize))
            .enumerate())
        .all(|(number, (old, new))| old == new || !is_referred_to(before, number as u64))
}

/// True if an entry of the table, or a region, covers this MiB of the file: by the specification.
fn is_referred_to(file: &[u8], mib: u64) -> bool {
    let u64_at = |at: u64| u64::from_le_bytes(file[at as usize..][..8].try_into().unwrap());
    let u32_at = |at: u64| {
        u64::from(u32::from_le_bytes(
            file[at as usize..][..4].try_into().unwrap(),
        ))
    };
    let inside = |at: u64, len: u64| (at..at + len).contains(&(mib * MIB));
    let rows = [0, 1].map(|row| (192 << 10) + 16 + 32 * row);
    let regions = rows.map(|at| (u64_at(at + 16), u32_at(at + 24)));
    let bat = rows
        .iter()
        .position(|at| file[*at as usize] == 0x66)
        .unwrap();
    let ((bat, len), metadata) = (regions[bat], regions[1 - bat].0);
    let block = u32_at(metadata + 65536);
    let sector = u32_at(metadata + 65536 + 32);
    let per_chunk = (sector << 23) / block;
    let log = u64_at((64 << 10) + 72);
    mib == 0
        || inside(log, MIB)
        || regions.iter().any(|(at, len)| inside(*at, *len))
        || (0..len / 8).any(|i| {
            let entry = u64_at(bat + 8 * i);
            let bitmap = i % (per_chunk + 1) == per_chunk;
            let len = if bitmap { MIB } else { block };
            entry & 7 >= 6 && inside(entry >> 20 << 20, len)
        })
}

/// Sectors as an image says them: bytes, or nothing where it does not.
type Sectors = Vec<Option<Vec<u8>>>;

fn sectors_of(layer: &Layer) -> Sectors {
    let sector = u64::from(layer.sector_size());
    let mut all = Vec::new();
    for extent in extents(layer, 0..layer.size(), same_kind) {
        let extent = extent.unwrap();
        let count = (extent.range.end - extent.range.start) / sector;
        match extent.kind {
            Kind::Absent => all.extend((0..count).map(|_| None)),
            Kind::Zero => all.extend((0..count).map(|_| Some(vec![0; sector as usize]))),
            Kind::Data => {
                let mut bytes = vec![0; (count * sector) as usize];
                layer.read_at(extent.range.start, &mut bytes).unwrap();
                all.extend(bytes.chunks(sector as usize).map(|s| Some(s.to_vec())));
            }
        }
    }
    all
}

/// What a built image holds; in a base, what nobody recorded is zero.
fn model(shape: &Shape) -> Sectors {
    let zero = (!shape.child).then(|| vec![0; shape.sector as usize]);
    (0..shape.sectors)
        .map(|n| shape.model(n).or_else(|| zero.clone()))
        .collect()
}

fn compare(path: &Path, model: &Sectors) {
    let layer = open(path).unwrap();
    let found = sectors_of(&layer);
    assert_eq!(found.len(), model.len(), "sectors");
    let differ = found.iter().zip(model).position(|(a, b)| a != b);
    let shown = differ.map(|n| {
        (
            n,
            found[n].as_ref().map(|s| s[0]),
            model[n].as_ref().map(|s| s[0]),
        )
    });
    assert_eq!(shown, None, "sector, found, expected");
    assert!(layer.facts().warnings.is_empty());
    let options = OpenOptions {
        format: Some(format::named("vhdx").unwrap()),
        ..OpenOptions::new(&Deny)
    };
    let extent = Extent {
        deep: true,
        chain: false,
    };
    let found = check(path, &options, extent, &Job::default())
        .unwrap()
        .findings;
    let others: Vec<_> = (found.list().iter())
        .filter(|f| f.rule != "parent-refused" && f.rule != "parent-missing")
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    assert!(names.count() >= 1);
    assert!(transaction::unfinished(path).unwrap().is_none());
}

/// A step of a life: pieces to write (units left out, units, a byte or zeros), another size in
/// sectors, or compaction.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u64, u64, Option<u8>)>),
    Resize(u64),
    Compact,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let piece = (0..400u64, 1..900u64, any::<Option<u8>>());
    let step = prop_oneof![
        3 => prop::collection::vec(piece, 1..7).prop_map(Step::Write),
        1 => (1..20_000u64).prop_map(Step::Resize),
        1 => Just(Step::Compact),
    ];
    prop::collection::vec(step, 1..5)
}

/// The bytes of a written sector: no two alike, and never zero.
fn pattern(byte: u8, number: u64, sector: u64) -> Vec<u8> {
    (0..sector)
        .map(|i| (number * 3 + i * 5 + u64::from(byte)) as u8 | 1)
        .collect()
}

fn write_pieces(path: &Path, model: &mut Sectors, sector: u64, pieces: &[(u64, u64, Option<u8>)]) {
    let mut wanted: Vec<(std::ops::Range<u64>, Option<Vec<u8>>)> = Vec::new();
    let mut at = 0;
    for (skipped, units, byte) in pieces {
        let start = at + skipped * 8;
        let end = (start + units * 8).min(model.len() as u64);
        at = end;
        if start >= end {
            break;
        }
        for n in start..end {
            model[n as usize] = Some(match byte {
                Some(byte) => pattern(*byte, n, sector),
                None => vec![0; sector as usize],
            });
        }
        // As operations do: in pieces that do not cross a MiB.
        let mut from = start * sector;
        while from < end * sector {
            let to = (from / MIB * MIB + MIB).min(end * sector);
            let bytes = byte.map(|byte| {
                (from / sector..to / sector)
                    .flat_map(|n| pattern(byte, n, sector))
                    .collect()
            });
            wanted.push((from..to, bytes));
            from = to;
        }
    }
    make(path, None, &|layer, t, update| {
        let mut writer = layer.format().update(layer, t, update)?;
        assert!((sector * 8).is_multiple_of(writer.unit()));
        for (range, bytes) in &wanted {
            match bytes {
                Some(bytes) => writer.data(range.clone(), bytes)?,
                None => writer.zero(range.clone())?,
            }
        }
        writer.finish()
    })
    .unwrap();
}

fn resize(path: &Path, size: u64) -> Result<Totals> {
    let resized = make(path, None, &|layer, t, update| {
        layer.format().resize(layer, t, update, size)
    });
    resized.map(|(_, totals)| totals)
}

/// Drops what reads as zero, and in a child some of what it holds: then the parent decides. In
/// units, as operations do.
fn compact(path: &Path, model: &mut Sectors, absent: &dyn Fn(u64) -> bool) -> Compacted {
    let layer = open(path).unwrap();
    let child = layer.facts().parent.is_some();
    let sector = u64::from(layer.sector_size());
    let mut drops = Vec::new();
    // Units of 8 sectors are a multiple of every unit.
    for (number, unit) in (0..).zip(model.chunks_mut(8)) {
        let start = number * 8 * sector;
        let range = start..(start + 8 * sector).min(layer.size());
        let zero = |s: &Option<Vec<u8>>| s.as_ref().is_some_and(|s| s.iter().all(|b| *b == 0));
        if child && absent(range.start) {
            drops.push((range, Kind::Absent));
        } else if unit.iter().all(zero) {
            drops.push((range, Kind::Zero));
        }
    }
    let (done, totals) = make(path, None, &|layer, t, update| {
        let mut compactor = layer.format().compact(layer, t, update)?;
        assert!((8 * sector).is_multiple_of(compactor.unit()));
        for (range, kind) in &drops {
            compactor.remove(range.clone(), *kind)?;
        }
        compactor.finish()
    })
    .unwrap();
    assert_eq!(totals.cut, done.cut);
    assert_eq!(totals.grown, 0);
    done
}

fn place(shape: &Shape) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhdx");
    save(&shape.build().file, &path);
    (folder, path)
}

fn live(shape: &Shape, steps: &[Step]) {
    let (_folder, path) = place(shape);
    let mut model = model(shape);
    compare(&path, &model);
    for step in steps {
        match step {
            Step::Write(pieces) => write_pieces(&path, &mut model, shape.sector, pieces),
            Step::Resize(sectors) => {
                resize(&path, sectors * shape.sector).unwrap();
                let new = (!shape.child).then(|| vec![0; shape.sector as usize]);
                model.resize(*sectors as usize, new);
            }
            Step::Compact => {
                let old = fs::metadata(&path).unwrap().len();
                let done = compact(&path, &mut model, &|_| false);
                assert_eq!(fs::metadata(&path).unwrap().len(), old - done.cut);
                let again = compact(&path, &mut model, &|_| false);
                // What stays as a gap is found again, and no longer takes room on the medium.
                if !shape.fixed {
                    assert_eq!(again.freed, done.kept, "{done:?} {again:?}");
                    assert_eq!(again.punched, 0, "{done:?} {again:?}");
                }
                if !shape.child {
                    assert_eq!((again.moved, again.cut), (0, 0), "{done:?} {again:?}");
                }
            }
        }
        compare(&path, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn bases_live(shape in shapes(false), steps in steps()) {
        live(&shape, &steps);
    }

    #[test]
    fn children_live(shape in shapes(true), steps in steps()) {
        live(&shape, &steps);
    }

    #[test]
    fn fixed_images_live(mut shape in shapes(false), steps in steps()) {
        shape.fixed = true;
        shape.blocks.iter_mut().for_each(|(_, block)| *block = Block::Whole);
        live(&shape, &steps);
    }
}

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
