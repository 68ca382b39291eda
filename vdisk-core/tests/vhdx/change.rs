//! Changes of contents in place, against a model by sectors: what an image holds, how long its disk
//! is, and how long its file.

mod cases;

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
