//! Contents, size and blocks of images that exist are changed, one change after the other, and
//! compared with a model of sectors after each.

use crate::{
    SECTOR,
    builder::{Shape, shapes},
    sectors,
};
use proptest::prelude::*;
use std::{fs, path::Path};
use vdisk_core::{
    Deny, Disk, Error, ErrorKind, Ids, Job, Kind, Layer, OpenOptions, Result,
    check::Severity,
    format::{self, Compacted, Compactor, Context, Update},
    open_layer,
    ops::check::{Extent, check},
    testing::conformance,
    transaction::{self, Files, Totals, Transaction, Work},
};

/// What is recorded at once, in sectors.
const UNIT: usize = 8;

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Per run of units: how many, and whether they get a byte, become zero, or stay.
    Write(Vec<(usize, Option<u8>, bool)>),
    /// Sectors of the disk.
    Resize(usize),
    /// Units by the remainder of their numbers are dropped; in a base, those that are zero.
    Compact(usize, usize),
}

/// What each sector holds; none where it is not kept.
type Model = Vec<Option<Vec<u8>>>;

pub(crate) fn update_of(ids: Option<Ids>) -> Update<'static> {
    Update {
        context: Context {
            resolver: &Deny,
            overlay: false,
            disk: None,
            verify: false,
        },
        ids,
    }
}

pub(crate) fn open(path: &Path) -> Layer {
    open_layer(path, &OpenOptions::new(&Deny)).unwrap()
}

/// Makes a change of the file at `path`: first without writing, which must foretell what it writes.
pub(crate) fn change<T>(
    path: &Path,
    change: impl Fn(&Layer, &Transaction<'_>) -> Result<T>,
) -> Result<(T, Totals)> {
    let before = fs::read(path).unwrap();
    let layer = open(path);
    let files: Vec<_> = layer.files().iter().collect();
    let foretold = transaction::rehearse(&files, |t| change(&layer, t)).map(|(_, totals)| totals);
    assert!(fs::read(path).unwrap() == before, "a rehearsal wrote");
    let work = Work {
        files: &files,
        redo: "",
        medium: &Files,
    };
    // And once more with an error at the end, after which all that is in use is as it was.
    let old = sectors(&layer);
    let failed = transaction::run(&work, |t| -> Result<T> {
        change(&layer, t)?;
        Err(Error::new(ErrorKind::Cancelled, "test", "stops"))
    });
    assert!(failed.is_err());
    let layer = open(path);
    assert!(sectors(&layer) == old, "was not rolled back");
    let files: Vec<_> = layer.files().iter().collect();
    let work = Work {
        files: &files,
        ..work
    };
    let done = transaction::run(&work, |t| change(&layer, t));
    if let Ok((_, totals)) = &done {
        assert_eq!(foretold.unwrap(), *totals);
    } else {
        assert!(fs::read(path).unwrap() == before, "an error, and it wrote");
    }
    done
}

pub(crate) fn resize(path: &Path, size: u64) -> Result<Totals> {
    let vhd = format::named("vhd").unwrap();
    change(path, |layer, t| {
        vhd.resize(layer, t, &update_of(None), size)
    })
    .map(|((), totals)| totals)
}

/// Drops the units of which `drop` is true.
pub(crate) fn compact(path: &Path, kind: Kind, drop: impl Fn(usize) -> bool) -> Result<Compacted> {
    let vhd = format::named("vhd").unwrap();
    let made = change(path, |layer, t| {
        let mut compactor = vhd.compact(layer, t, &update_of(None))?;
        let unit = compactor.unit();
        assert_eq!(unit, (UNIT * SECTOR) as u64);
        for number in (0..layer.size().div_ceil(unit)).filter(|n| drop(*n as usize)) {
            let end = (number + 1) * unit;
            Compactor::drop(&mut *compactor, number * unit..end.min(layer.size()), kind)?;
        }
        compactor.finish()
    });
    made.map(|(done, _)| done)
}

/// Writes pieces: the sectors, and what they get; nothing for zeros.
pub(crate) fn write(
    path: &Path,
    pieces: &[(std::ops::Range<usize>, Option<u8>)],
    ids: Option<Ids>,
) -> Result<Totals> {
    let vhd = format::named("vhd").unwrap();
    let made = change(path, |layer, t| {
        let mut writer = vhd.update(layer, t, &update_of(ids))?;
        assert_eq!(writer.unit(), (UNIT * SECTOR) as u64);
        for (range, byte) in pieces {
            let bytes = (range.start * SECTOR) as u64..(range.end * SECTOR) as u64;
            match byte {
                Some(byte) => writer.data(bytes, &vec![*byte; range.len() * SECTOR])?,
                None => writer.zero(bytes)?,
            }
        }
        writer.finish()
    });
    made.map(|((), totals)| totals)
}

fn apply(path: &Path, base: bool, one: &Change, model: &mut Model) {
    match one {
        Change::Write(runs) => {
            let (mut at, mut pieces) = (0, Vec::new());
            for (units, byte, skip) in runs {
                let end = (at + units * UNIT).min(model.len());
                if !skip && at < end {
                    pieces.push((at..end, *byte));
                    for sector in &mut model[at..end] {
                        *sector = match byte {
                            Some(byte) => Some(vec![*byte; SECTOR]),
                            None if base => None,
                            None => Some(vec![0; SECTOR]),
                        };
                    }
                }
                at = end;
            }
            write(path, &pieces, None).unwrap();
        }
        Change::Resize(sectors) => {
            resize(path, (sectors * SECTOR) as u64).unwrap();
            model.resize(*sectors, None);
        }
        Change::Compact(by, rest) => {
            let zero = |unit: &[Option<Vec<u8>>]| {
                unit.iter()
                    .all(|s| s.as_ref().is_none_or(|s| s.iter().all(|b| *b == 0)))
            };
            let drop: Vec<bool> = model
                .chunks(UNIT)
                .enumerate()
                .map(|(n, unit)| match base {
                    true => zero(unit),
                    false => n % by == rest % by,
                })
                .collect();
            for (unit, drop) in model.chunks_mut(UNIT).zip(&drop) {
                if *drop {
                    unit.fill(None);
                }
            }
            let before = fs::metadata(path).unwrap().len();
            let kind = if base { Kind::Zero } else { Kind::Absent };
            let done = compact(path, kind, |n| drop[n]).unwrap();
            assert_eq!(before - fs::metadata(path).unwrap().len(), done.cut);
        }
    }
}

/// The image at `path` is what the model says.
fn compare(path: &Path, base: bool, model: &Model) -> Result<(), TestCaseError> {
    let layer = open(path);
    prop_assert!(layer.facts().warnings.is_empty());
    prop_assert_eq!(layer.size(), (model.len() * SECTOR) as u64);
    for (number, ((kind, bytes), expected)) in sectors(&layer).into_iter().zip(model).enumerate() {
        match (kind, expected) {
            (Kind::Data, Some(expected)) => {
                prop_assert!(bytes.as_ref() == Some(expected), "sector {}", number);
            }
            // A base may keep zeros, or not.
            (Kind::Data | Kind::Zero, _) if base => {
                let zeros = vec![0; SECTOR];
                let expected = expected.as_ref().unwrap_or(&zeros);
                prop_assert!(bytes.as_ref() == Some(expected), "sector {}", number);
            }
            (Kind::Absent, None) => prop_assert!(!base),
            other => prop_assert!(false, "sector {}: {:?}", number, other),
        }
    }
    prop_assert_eq!(conformance(&layer), Ok(()));
    let extent = Extent {
        deep: false,
        chain: false,
    };
    let outcome = check(path, &OpenOptions::new(&Deny), extent, &Job::default()).unwrap();
    let said = outcome.findings.list();
    // There is no parent.
    let bad = said
        .iter()
        .find(|f| f.severity > Severity::Note && !f.rule.starts_with("parent"));
    prop_assert!(bad.is_none(), "{:?}", bad);
    Ok(())
}

fn changes() -> impl Strategy<Value = Change> {
    let run = (
        1..12usize,
        prop_oneof![Just(None), any::<u8>().prop_map(Some)],
        any::<bool>(),
    );
    prop_oneof![
        2 => prop::collection::vec(run, 1..12).prop_map(Change::Write),
        1 => (1..600usize).prop_map(Change::Resize),
        1 => (1..200usize).prop_map(Change::Resize),
        2 => (1..5usize, 0..5usize).prop_map(|(by, rest)| Change::Compact(by, rest)),
    ]
}

fn all_changes(shape: &Shape, list: &[Change]) -> Result<(), TestCaseError> {
    let base = shape.kind == 3;
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("test.vhd");
    fs::write(&path, shape.build()).unwrap();
    let mut model = shape.model();
    for one in list {
        apply(&path, base, one, &mut model);
        compare(&path, base, &model)?;
    }
    prop_assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bases_are_as_the_model(shape in shapes(3), list in prop::collection::vec(changes(), 1..6)) {
        all_changes(&shape, &list)?;
    }

    #[test]
    fn children_are_as_the_model(
        shape in shapes(4),
        list in prop::collection::vec(changes(), 1..6),
    ) {
        all_changes(&shape, &list)?;
    }
}
