//! Contents, size and blocks of images that exist are changed, one change after the other, and
//! compared with a model of sectors after each.

use crate::{
    SECTOR,
    builder::{Shape, UUID, footer, put, seal, shapes},
    sectors,
};
use proptest::prelude::*;
use std::{fs, path::Path};
use vdisk_core::{
    Deny, Disk, Error, ErrorKind, Identity, Ids, Job, Kind, Layer, OpenOptions, Result,
    check::Severity,
    format::{self, Compacted, Context, Update},
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

/// What the layer holds; some byte where it holds nothing. What was a hole in the file may be zeros.
fn bytes(layer: &Layer) -> Vec<u8> {
    let mut bytes = vec![0xee; layer.size() as usize];
    let mut pos = 0;
    while pos < layer.size() {
        let extent = layer.extent_at(pos).unwrap();
        let part = &mut bytes[pos as usize..extent.range.end as usize];
        if extent.kind != Kind::Absent {
            layer.read_at(pos, part).unwrap();
        }
        pos = extent.range.end;
    }
    bytes
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
    if foretold.is_ok() {
        // With an error at the end, after which all that is in use is as it was.
        let old = bytes(&layer);
        let failed = transaction::run(&work, |t| -> Result<T> {
            change(&layer, t)?;
            Err(Error::new(ErrorKind::Cancelled, "test", "stops"))
        });
        assert!(failed.is_err());
        assert!(bytes(&open(path)) == old, "was not rolled back");
    }
    let layer = open(path);
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
            compactor.remove(number * unit..end.min(layer.size()), kind)?;
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
    #![proptest_config(ProptestConfig::with_cases(32))]

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

/// One block of 4 KiB, all of it kept.
fn small(kind: u32) -> Vec<u8> {
    Shape {
        kind,
        sectors: 8,
        block: 4096,
        blocks: vec![Some(vec![true; 8])],
        order: vec![0],
        gap: 8, // room for a batmap behind the table
        spare: 0,
        table_last: false,
        cut: false,
        seed: 3,
    }
    .build()
}

/// Changes both footers.
fn in_footers(image: &mut [u8], at: usize, what: &[u8]) {
    let end = image.len() - 512;
    for start in [0, end] {
        put(&mut image[start..start + 512], at, what);
        seal(&mut image[start..start + 512], 64);
    }
}

#[test]
fn the_identity_changes_with_the_contents_if_it_is_to() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("test.vhd");
    for kind in [2, 3] {
        let mut image = small(3);
        if kind == 2 {
            image = vec![7; 4096];
            let mut end = footer(2, 4096, u64::MAX);
            seal(&mut end, 64);
            image.extend(end);
        }
        fs::write(&path, &image).unwrap();
        write(&path, &[(0..8, Some(9))], None).unwrap();
        let own = open(&path).facts().identity;
        assert_eq!(own, Some(Identity::Uuid(UUID)));
        let ids = Ids::derived(&[5; 32], "vhd", 0);
        write(&path, &[(0..8, Some(10))], Some(ids)).unwrap();
        let layer = open(&path);
        assert_eq!(layer.facts().identity, Some(Identity::Uuid(ids.uuid)));
        assert!(layer.facts().warnings.is_empty());
        assert_eq!(sectors(&layer)[7].1, Some(vec![10; SECTOR]));
        // Nothing but contents and both footers, where they were.
        let after = fs::read(&path).unwrap();
        assert_eq!(after.len(), image.len());
        in_footers(
            &mut image[if kind == 2 { 4096 } else { 0 }..],
            68,
            &ids.uuid,
        );
        let data = image.len() - 512 - 4096;
        image[data..data + 4096].fill(10);
        assert!(after == image);
    }
}

#[test]
fn what_cannot_be_changed_safely_is_refused_and_stays() {
    type Damage = fn(&mut Vec<u8>);
    let rows: [(&str, ErrorKind, Damage); 5] = [
        ("another footer", ErrorKind::Corrupt, |i| i[65] ^= 1),
        ("a header's checksum", ErrorKind::Corrupt, |i| {
            i[512 + 37] ^= 1;
        }),
        ("XenServer's first driver", ErrorKind::Unsupported, |i| {
            in_footers(i, 28, b"tap\0\0\0\0\x01");
        }),
        ("two blocks in one place", ErrorKind::Corrupt, |i| {
            let table = u64::from_be_bytes(i[528..536].try_into().unwrap()) as usize;
            let entry: [u8; 4] = i[table..table + 4].try_into().unwrap();
            put(i, table + 4, &entry);
            put(i, 512 + 28, &2u32.to_be_bytes());
            seal(&mut i[512..1536], 36);
            in_footers(i, 48, &8192u64.to_be_bytes());
        }),
        ("a block in the header", ErrorKind::Corrupt, |i| {
            let table = u64::from_be_bytes(i[528..536].try_into().unwrap()) as usize;
            put(i, table, &1u32.to_be_bytes());
        }),
    ];
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("test.vhd");
    for (name, kind, damage) in rows {
        let mut image = small(3);
        damage(&mut image);
        fs::write(&path, &image).unwrap();
        let errors = [
            write(&path, &[(0..8, Some(1))], None).unwrap_err(),
            resize(&path, 4096).unwrap_err(),
            compact(&path, Kind::Zero, |_| true).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), kind, "{name}: {error}");
        }
        assert!(fs::read(&path).unwrap() == image, "{name}");
    }
}

#[test]
fn sizes_that_no_vhd_has_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("test.vhd");
    let image = small(3);
    fs::write(&path, &image).unwrap();
    for (size, kind) in [
        (513, ErrorKind::Usage),
        ((2040 << 30) + 512, ErrorKind::Unsupported),
        // Blocks of 4 KiB are too many before that.
        (2040 << 30, ErrorKind::Limit),
    ] {
        let error = resize(&path, size).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    let past = write(&path, &[(0..16, Some(1))], None).unwrap_err();
    assert_eq!(past.kind(), ErrorKind::OutOfRange);
    assert!(fs::read(&path).unwrap() == image);
}

/// XenServer believes its batmap: a block that it calls full must stay so.
#[test]
fn the_batmap_of_xenserver_stays_true() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("test.vhd");
    let mut image = small(3);
    in_footers(&mut image, 28, b"tap\0\x00\x01\x00\x03");
    let table = u64::from_be_bytes(image[528..536].try_into().unwrap()) as usize;
    let at = table + 512;
    put(&mut image, at, b"tdbatmap");
    put(&mut image, at + 8, &(at as u64 + 512).to_be_bytes());
    put(&mut image, at + 16, &1u32.to_be_bytes());
    put(&mut image, at + 20, &0x0001_0002u32.to_be_bytes());
    put(&mut image, at + 24, &(!0x80u32).to_be_bytes());
    image[at + 28] = 0;
    image[at + 512..at + 1024].fill(0);
    image[at + 512] = 0x80;
    fs::write(&path, &image).unwrap();
    let facts = open(&path).facts().details.clone();
    assert!(facts.iter().any(|(name, _)| *name == "batmap"));
    let refused = [
        resize(&path, 1 << 20).unwrap_err(),
        compact(&path, Kind::Zero, |_| true).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(fs::read(&path).unwrap() == image);
    write(&path, &[(0..8, None)], None).unwrap();
    assert_eq!(
        sectors(&open(&path))[0],
        (Kind::Data, Some(vec![0; SECTOR]))
    );
    let after = fs::read(&path).unwrap();
    let data = image.len() - 512 - 4096;
    image[data..data + 4096].fill(0);
    assert!(after == image, "more than the zeros was written");
}
