//! Raw disks changed in place, against a byte array: whatever is done to a file with holes, it
//! reads as the model, and a change that fails leaves it as it was.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic"
)]

use proptest::prelude::*;
use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};
use vdisk_core::{
    Deny, Error, ErrorKind, Format, Kind, Layer, OpenOptions, Result,
    format::{self, Compacted, Context, Update},
    open::open_file,
    storage::{Access, ImageFile},
    testing::contents,
    transaction::{self, Files, Totals, Transaction, Work},
};

const CONTEXT: Context<'static> = Context {
    resolver: &Deny,
    overlay: false,
    disk: None,
    verify: false,
};

fn raw() -> &'static dyn Format {
    format::named("raw").unwrap()
}

fn open(path: &Path) -> Layer {
    let options = OpenOptions {
        format: Some(raw()),
        ..OpenOptions::new(&Deny)
    };
    open_file(ImageFile::open(path, Access::Positioned).unwrap(), &options).unwrap()
}

/// Runs `change` on the file, after a rehearsal that must foretell what it does.
fn change<T: PartialEq + std::fmt::Debug>(
    path: &Path,
    change: impl Fn(&Layer, &Transaction<'_>, &Update<'_>) -> Result<T>,
) -> Result<(T, Totals)> {
    let layer = open(path);
    let update = Update {
        context: CONTEXT,
        ids: None,
    };
    let files: Vec<&ImageFile> = layer.files().iter().collect();
    let rehearsed = transaction::rehearse(&files, |t| change(&layer, t, &update));
    let work = Work {
        files: &files,
        redo: "",
        medium: &Files,
    };
    let done = transaction::run(&work, |t| change(&layer, t, &update))?;
    assert_eq!(rehearsed.unwrap(), done);
    Ok(done)
}

#[derive(Clone, Debug)]
enum Step {
    Data(u64, u64, u8),
    Zero(u64, u64),
    Resize(u64),
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<u64>(), 1..300u64, 1..=255u8).prop_map(|(at, len, byte)| Step::Data(at, len, byte)),
        (any::<u64>(), 1..300u64).prop_map(|(at, len)| Step::Zero(at, len)),
        (1..2000u64).prop_map(|sectors| Step::Resize(sectors * 512)),
        Just(Step::Compact),
    ]
}

/// Sectors `at` and `len` as a range of a disk of `size` bytes.
fn range(at: u64, len: u64, size: u64) -> Range<u64> {
    let start = at % size.div_ceil(512) * 512;
    start..(start + len * 512).min(size.next_multiple_of(512))
}

fn index(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Drops every block of the model that is zero.
fn compact(
    model: &[u8],
    layer: &Layer,
    t: &Transaction<'_>,
    update: &Update<'_>,
) -> Result<Compacted> {
    let mut compactor = raw().compact(layer, t, update)?;
    let unit = compactor.unit();
    for (block, number) in model.chunks(unit as usize).zip(0u64..) {
        if block.iter().all(|&b| b == 0) {
            let start = number * unit;
            compactor.remove(start..start + block.len() as u64, Kind::Zero)?;
        }
    }
    compactor.finish()
}

/// A file of `len` bytes with data at `at`, in a hole else.
fn sparse(path: &Path, len: u64, at: &[u64]) {
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    for &at in at {
        let at = at % len;
        let bytes = vec![at as u8 | 1; (len - at).min(5000) as usize];
        file.write_all_at(&bytes, at).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_disk_reads_as_the_model(
        len in 1..1_000_000u64,
        at in prop::collection::vec(any::<u64>(), 0..8),
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        sparse(&path, len, &at);
        let mut model = fs::read(&path).unwrap();
        model.resize(len.next_multiple_of(512) as usize, 0);
        for step in steps {
            let size = model.len() as u64;
            match step {
                Step::Data(at, len, byte) => {
                    let range = range(at, len, size);
                    model[index(&range)].fill(byte);
                    change(&path, |layer, t, update| {
                        let mut writer = raw().update(layer, t, update)?;
                        writer.data(range.clone(), &vec![byte; index(&range).len()])?;
                        writer.finish()
                    }).unwrap();
                }
                Step::Zero(at, len) => {
                    let range = range(at, len, size);
                    model[index(&range)].fill(0);
                    change(&path, |layer, t, update| {
                        let mut writer = raw().update(layer, t, update)?;
                        writer.zero(range.clone())?;
                        writer.finish()
                    }).unwrap();
                }
                Step::Resize(size) => {
                    model.resize(size as usize, 0);
                    change(&path, |layer, t, update| raw().resize(layer, t, update, size)).unwrap();
                    prop_assert_eq!(fs::metadata(&path).unwrap().len(), size);
                }
                Step::Compact => {
                    change(&path, |layer, t, update| compact(&model, layer, t, update)).unwrap();
                }
            }
            prop_assert!(contents(&open(&path)).unwrap() == model);
        }
    }
}

#[test]
fn zeros_do_not_fill_a_thin_file_and_compacting_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    sparse(&path, 1 << 40, &[1 << 20, 1 << 39]);
    let ((), totals) = change(&path, |layer, t, update| {
        let mut writer = raw().update(layer, t, update)?;
        writer.zero(0..1 << 40)?;
        writer.finish()
    })
    .unwrap();
    assert!(totals.written < 1 << 20, "{totals:?}");
    assert!(fs::metadata(&path).unwrap().blocks() > 0);
    let (compacted, totals) = change(&path, |layer, t, update| {
        let mut compactor = raw().compact(layer, t, update)?;
        compactor.remove(0..1 << 40, Kind::Zero)?;
        compactor.finish()
    })
    .unwrap();
    assert_eq!(totals, Totals::default());
    assert!((8192..=32768).contains(&compacted.punched), "{compacted:?}");
    assert_eq!(compacted.freed, compacted.punched);
    // Where the file system cannot punch holes, nothing is lost.
    let blocks = fs::metadata(&path).unwrap().blocks();
    assert!(blocks == 0 || blocks * 512 <= compacted.punched, "{blocks}");
}

#[test]
fn a_cut_that_fails_restores_data_and_holes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    sparse(&path, 3 << 20, &[0, 1 << 20, (3 << 20) - 700]);
    let before = fs::read(&path).unwrap();
    let error = change(&path, |layer, t, update| {
        raw().resize(layer, t, update, 512)?;
        match t.is_real() {
            true => Err(Error::new(ErrorKind::Cancelled, "test", "was stopped")),
            false => Ok(()),
        }
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(fs::read(&path).unwrap() == before);
    // What is cut is saved, but not its holes.
    sparse(&path, 1 << 40, &[1 << 30]);
    let ((), totals) = change(&path, |layer, t, update| {
        raw().resize(layer, t, update, 1 << 20)
    })
    .unwrap();
    assert!(totals.saved <= 1 << 20, "{totals:?}");
    assert_eq!(totals.cut, (1 << 40) - (1 << 20));
}

#[test]
fn sizes_are_whole_sectors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    sparse(&path, 4096, &[0]);
    for size in [0, 1, 513] {
        let error = change(&path, |layer, t, update| {
            raw().resize(layer, t, update, size)
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Usage, "{size}");
    }
}
