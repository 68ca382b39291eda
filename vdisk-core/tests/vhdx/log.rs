//! Images with a log that was not replayed: they read as if it had been, and stay as they are.

use crate::{
    builder::{Block, Built, LogEntry, MIB, Shape, Step, crc, put},
    open_sparse,
    sparse::Sparse,
};
use proptest::prelude::*;
use std::fs;
use vdisk_core::{Disk, ErrorKind, FileResolver, OpenOptions, Result, testing::contents};

pub(crate) const LOG: [u8; 16] = *b"the log's own id";

/// Three blocks of 1 MiB, the second absent. Log at 1 MiB, metadata at 2, table at 3, blocks at 4.
pub(crate) fn sample() -> Built {
    let blocks = vec![(0, Block::Whole), (2, Block::Whole)];
    let built = Shape::new(512, MIB, 3 * 2048, blocks).build();
    assert_eq!(
        (built.log, built.bat, built.file.size),
        (MIB, 3 * MIB, 6 * MIB)
    );
    built
}

pub(crate) fn page(byte: u8) -> Vec<u8> {
    // Its ends differ from its middle: they are kept elsewhere in a log.
    (0..4096)
        .map(|i| byte ^ (i / 8) as u8 ^ (i % 5) as u8)
        .collect()
}

pub(crate) fn entry(sequence: u64, tail: u32, steps: Vec<Step>) -> LogEntry {
    LogEntry {
        log: LOG,
        sequence,
        tail,
        flushed: 6 * MIB,
        last: 6 * MIB,
        steps,
    }
}

/// Marks the log as in use and puts `entries` into it one after the other from `at` on, around
/// its end if need be. Returns where each is.
pub(crate) fn log(built: &mut Built, at: u64, entries: &[LogEntry]) -> Vec<u64> {
    built.header(0, 11, LOG);
    built.header(1, 12, LOG);
    let mut pos = at;
    let mut places = Vec::new();
    for entry in entries {
        places.push(pos % MIB);
        for sector in entry.build().chunks(4096) {
            built.file.put(built.log + pos % MIB, sector);
            pos += 4096;
        }
    }
    places
}

fn read(file: &Sparse) -> Result<Vec<u8>> {
    contents(&open_sparse(file.clone(), false)?)
}

fn apply(file: &mut Sparse, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Page(at, bytes) => file.put(*at, bytes),
            Step::Zero(at, len) => file.put(*at, &vec![0; *len as usize]),
        }
    }
}

/// The first page of the table with block 1 at `at` too.
fn table_page(at: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    for (i, place) in [4 * MIB, at, 5 * MIB].into_iter().enumerate() {
        put(&mut page, i * 8, &(place | 6).to_le_bytes());
    }
    page
}

#[test]
fn entries_are_applied_in_their_order() {
    let clean = sample();
    let first = vec![
        Step::Page(4 * MIB, page(1)),
        Step::Page(5 * MIB, page(2)),
        Step::Zero(4 * MIB + 8192, 3 * 4096),
    ];
    let second = vec![
        Step::Page(4 * MIB, page(3)),
        Step::Page(4 * MIB + 3 * 4096, page(4)),
        Step::Zero(5 * MIB + 4096, 0),
    ];
    let mut dirty = clean.clone();
    let entries = [entry(5, 0, first.clone()), entry(6, 0, second.clone())];
    log(&mut dirty, 0, &entries);
    let mut expected = clean.file.clone();
    apply(&mut expected, &first);
    apply(&mut expected, &second);
    assert!(read(&dirty.file).unwrap() == read(&expected).unwrap());
    assert!(read(&dirty.file).unwrap() != read(&clean.file).unwrap());
    let layer = open_sparse(dirty.file, false).unwrap();
    assert!(layer.facts().warnings[0].contains("2 log entries"));
    // Without the mark, the same log means nothing.
    let mut unmarked = clean.clone();
    log(&mut unmarked, 0, &entries);
    unmarked.header(0, 13, [0; 16]);
    assert!(read(&unmarked.file).unwrap() == read(&clean.file).unwrap());
    assert_eq!(
        open_sparse(unmarked.file, false).unwrap().facts().warnings,
        [""; 0]
    );
}

#[test]
fn entries_before_the_tail_are_done() {
    let mut dirty = sample();
    let old = entry(5, 0, vec![Step::Page(4 * MIB, page(1))]);
    let new = entry(6, 2 * 4096, vec![Step::Page(5 * MIB, page(2))]);
    let places = log(&mut dirty, 0, &[old, new.clone()]);
    assert_eq!(places, [0, 2 * 4096]);
    let mut expected = sample().file;
    apply(&mut expected, &new.steps);
    assert!(read(&dirty.file).unwrap() == read(&expected).unwrap());
}

#[test]
fn a_log_may_go_around_its_end() {
    // The second entry's header is in the last sector, its page in the first.
    let start = MIB - 3 * 4096;
    let steps = |n: u8| vec![Step::Page(4 * MIB + u64::from(n) * 4096, page(n))];
    let entries: Vec<LogEntry> = (0..4)
        .map(|n| entry(u64::from(n) + 40, start as u32, steps(n)))
        .collect();
    let mut dirty = sample();
    let places = log(&mut dirty, start, &entries);
    assert_eq!(places, [start, MIB - 4096, 4096, 3 * 4096]);
    let mut expected = sample().file;
    (0..4).for_each(|n| apply(&mut expected, &steps(n)));
    assert!(read(&dirty.file).unwrap() == read(&expected).unwrap());
    // The sequence starts at the last sector's entry if the tail says so.
    let mut entries = entries;
    entries[3].tail = (MIB - 4096) as u32;
    let mut dirty = sample();
    log(&mut dirty, start, &entries);
    let mut expected = sample().file;
    (1..4).for_each(|n| apply(&mut expected, &steps(n)));
    assert!(read(&dirty.file).unwrap() == read(&expected).unwrap());
}

#[test]
fn a_torn_entry_never_was() {
    let whole = entry(5, 0, vec![Step::Page(4 * MIB, page(1))]);
    let torn = entry(
        6,
        0,
        vec![Step::Page(4 * MIB, page(2)), Step::Zero(5 * MIB, 4096)],
    );
    let mut expected = sample().file;
    apply(&mut expected, &whole.steps);
    // Any part of it may be missing, and what is there may be right.
    for (at, what) in [
        (8192, 4096u64),
        (8192, 64),
        (8192 + 64, 32),
        (3 * 4096, 4096),
        (3 * 4096, 4),
    ] {
        let mut dirty = sample();
        log(&mut dirty, 0, &[whole.clone(), torn.clone()]);
        dirty.file.put(MIB + at, &vec![0xdb; what as usize]);
        assert!(
            read(&dirty.file).unwrap() == read(&expected).unwrap(),
            "{at} {what}"
        );
    }
}

#[test]
fn entries_of_another_time_are_no_part_of_it() {
    let ours = entry(50, 8192, vec![Step::Page(4 * MIB, page(1))]);
    let mut stranger = entry(49, 0, vec![Step::Page(5 * MIB, page(2))]);
    stranger.log = *b"another log's id";
    let mut next = entry(51, 0, vec![Step::Page(5 * MIB, page(3))]);
    next.log = stranger.log;
    // Older ones of this log, of a sequence of their own.
    let older = entry(20, 6 * 4096, vec![Step::Page(5 * MIB, page(4))]);
    let mut dirty = sample();
    let places = log(&mut dirty, 0, &[stranger, ours.clone(), next, older]);
    assert_eq!(places, [0, 8192, 4 * 4096, 6 * 4096]);
    let mut expected = sample().file;
    apply(&mut expected, &ours.steps);
    assert!(read(&dirty.file).unwrap() == read(&expected).unwrap());
}

#[test]
fn the_file_grows_as_the_log_says() {
    let steps = vec![
        Step::Page(3 * MIB, table_page(7 * MIB)),
        Step::Page(7 * MIB + 4096, page(8)),
    ];
    let mut entry = entry(5, 0, steps.clone());
    entry.last = 8 * MIB;
    let mut dirty = sample();
    log(&mut dirty, 0, &[entry]);
    let mut expected = sample().file;
    expected.size = 8 * MIB;
    apply(&mut expected, &steps);
    let found = read(&dirty.file).unwrap();
    assert!(found == read(&expected).unwrap());
    assert_eq!(found[MIB as usize + 4096..][..4096], page(8));
    assert_eq!(found[MIB as usize..][..4096], [0; 4096]);
}

#[test]
fn region_tables_and_metadata_may_be_in_the_log() {
    let good = sample();
    let mut dirty = good.clone();
    let steps: Vec<Step> = [192 << 10, 256 << 10, 2 * MIB, 2 * MIB + 65536]
        .map(|at| Step::Page(at, good.file.get(at, 4096)))
        .into();
    let at: Vec<u64> = vec![192 << 10, 256 << 10, 2 * MIB, 2 * MIB + 65536];
    for at in at {
        dirty.file.put(at, &[0xdb; 4096]);
    }
    assert_eq!(read(&dirty.file).unwrap_err().kind(), ErrorKind::Corrupt);
    log(&mut dirty, 0, &[entry(1, 0, steps)]);
    assert!(read(&dirty.file).unwrap() == read(&good.file).unwrap());
}

#[test]
fn reading_a_dirty_image_changes_no_byte_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dirty.vhdx");
    let mut dirty = sample();
    let mut one = entry(5, 0, vec![Step::Page(3 * MIB, table_page(6 * MIB))]);
    one.last = 9 * MIB;
    log(&mut dirty, 0, &[one]);
    let before = dirty.file.to_vec();
    fs::write(&path, &before).unwrap();
    let modified = path.metadata().unwrap().modified().unwrap();
    let resolver = FileResolver::default();
    for access in [
        vdisk_core::storage::Access::Positioned,
        vdisk_core::storage::Access::Mapped,
    ] {
        let options = OpenOptions {
            access,
            ..OpenOptions::new(&resolver)
        };
        let chain = vdisk_core::open(&path, &options).unwrap();
        assert_eq!(chain.size(), 3 * MIB);
        assert!(contents(&chain).unwrap() == read(&dirty.file).unwrap());
    }
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(path.metadata().unwrap().modified().unwrap(), modified);
}

/// Each sector claims to be an entry as long as the log: to checksum them all takes the square of
/// its length.
#[test]
fn a_log_of_false_entries_is_given_up() {
    let mut dirty = sample();
    let len = 16 * MIB;
    dirty.file.size += len;
    dirty.in_headers(48, &LOG);
    dirty.in_headers(68, &(len as u32).to_le_bytes());
    dirty.in_headers(72, &(6 * MIB).to_le_bytes());
    let mut claim = entry(5, 0, vec![]).build();
    put(&mut claim, 8, &(len as u32).to_le_bytes());
    for at in (0..len).step_by(4096) {
        dirty.file.put(6 * MIB + at, &claim);
    }
    let error = read(&dirty.file).unwrap_err();
    assert_eq!((error.kind(), error.part()), (ErrorKind::Limit, "log"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against the same steps made in the file itself.
    #[test]
    fn a_dirty_image_reads_as_if_it_had_been_closed(
        entries in prop::collection::vec(
            prop::collection::vec((0u64..512, 0u64..6, any::<Option<u8>>()), 0..140), 1..6),
        start in 0u64..256, tail in any::<prop::sample::Index>(), grown in 0u64..3,
    ) {
        let mut dirty = sample();
        let entries: Vec<Vec<Step>> = entries.into_iter().map(|steps| {
            // Pages of the two blocks.
            steps.into_iter().map(|(number, pages, byte)| {
                let at = 4 * MIB + number * 4096;
                match byte {
                    Some(byte) => Step::Page(at, page(byte)),
                    None => Step::Zero(at, (pages * 4096).min(6 * MIB - at)),
                }
            }).collect()
        }).collect();
        let built: Vec<LogEntry> =
            (10..).zip(&entries).map(|(n, steps)| entry(n, 0, steps.clone())).collect();
        let total: usize = built.iter().map(|e| e.build().len()).sum();
        prop_assume!(total <= MIB as usize);
        // The tail of the last entry must be known before it is built.
        let first = tail.index(built.len());
        let places = log(&mut dirty.clone(), start * 4096, &built);
        let mut built = built;
        let last = built.len() - 1;
        built[last].tail = places[first] as u32;
        built[last].last = (6 + grown) * MIB;
        log(&mut dirty, start * 4096, &built);
        let mut expected = sample().file;
        entries[first..].iter().for_each(|steps| apply(&mut expected, steps));
        prop_assert!(read(&dirty.file).unwrap() == read(&expected).unwrap());
    }

    /// No log, however broken, does more than give an error.
    #[test]
    fn broken_logs_are_errors_or_nothing(
        changes in prop::collection::vec((0usize..3 * 4096, any::<u8>()), 1..6), seal in any::<bool>(),
    ) {
        let mut dirty = sample();
        let steps = vec![Step::Page(4 * MIB, page(1)), Step::Zero(5 * MIB, 8192)];
        let mut bytes = entry(5, 0, steps).build();
        let len = bytes.len();
        for (at, byte) in changes {
            bytes[at % len] = byte;
        }
        if seal {
            put(&mut bytes, 4, &[0; 4]);
            let sum = crc(&bytes);
            put(&mut bytes, 4, &sum.to_le_bytes());
        }
        log(&mut dirty, 0, &[]);
        dirty.file.put(MIB, &bytes);
        let _ = read(&dirty.file);
    }
}
