//! Whatever is pushed comes out as a map of sums would give it, whatever was written to files.

use super::*;
use std::{
    collections::BTreeMap,
    fs::File,
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, Ordering},
};

/// A number counted.
#[derive(Clone, Copy, Debug)]
struct Tick {
    key: u32,
    count: i64,
}

impl Record for Tick {
    const LEN: usize = 12;
    type Key = u32;
    fn key(&self) -> u32 {
        self.key
    }
    fn combine(&mut self, next: &Self) {
        self.count += next.count;
    }
    fn is_void(&self) -> bool {
        self.count == 0
    }
    fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.key.to_be_bytes());
        bytes[4..].copy_from_slice(&self.count.to_be_bytes());
    }
    fn read(bytes: &[u8]) -> Self {
        Self {
            key: u32::from_be_bytes(bytes[..4].try_into().unwrap()),
            count: i64::from_be_bytes(bytes[4..].try_into().unwrap()),
        }
    }
}

fn tick(key: u32, count: i64) -> Tick {
    Tick { key, count }
}

/// xorshift64.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn job(threads: usize) -> Job<'static> {
    Job {
        threads: NonZeroUsize::new(threads).unwrap(),
        watch: &(),
        stop: &NEVER,
    }
}

static NEVER: AtomicBool = AtomicBool::new(false);

fn drained(sorter: Sorter<Tick>) -> (Vec<(u32, i64)>, u64) {
    let mut out = vec![];
    let written = sorter
        .drain(&job(2), &mut |r| {
            out.push((r.key, r.count));
            Ok(())
        })
        .unwrap();
    (out, written)
}

#[test]
fn sums_are_those_of_a_map_with_any_memory() {
    let folder = tempfile::tempdir().unwrap();
    // Records, distinct keys, memory, whether that is too little.
    let cases = [
        (0, 1, 1 << 20, false),
        (1, 1, 0, false),
        (1000, 1 << 30, 1 << 20, false),
        (50_000, 1 << 30, 4 << 10, true), // some 200 runs, merged by twos
        (50_000, 20_000, 4 << 10, true),
        (200_000, 1 << 30, 64 << 10, true), // by sevens
        (200_000, 100_000, 1 << 20, true),
        (200_000, 100, 64 << 10, false), // always combined to a few
        (200_000, 100, 64, true),
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d;
    for (records, keys, memory, little) in cases {
        for threads in [1, 2] {
            let mut model = BTreeMap::new();
            let mut sorter = Sorter::new(memory, folder.path());
            for _ in 0..records {
                // Half of them low keys.
                let below = if random(&mut seed).is_multiple_of(2) {
                    64
                } else {
                    keys
                };
                let key = u32::try_from(random(&mut seed) % below.min(keys)).unwrap();
                let count = i64::try_from(random(&mut seed) % 3).unwrap() - 1;
                *model.entry(key).or_insert(0) += count;
                sorter.push(tick(key, count), &job(threads)).unwrap();
            }
            model.retain(|_, sum| *sum != 0);
            let before = sorter.spilled();
            let (out, written) = drained(sorter);
            let case = format!("{records} of {keys} in {memory}");
            assert_eq!(out, model.into_iter().collect::<Vec<_>>(), "{case}");
            assert_eq!(written > 0, little, "{case}");
            assert!(before <= written, "{case}");
        }
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "no names");
}

#[test]
fn more_runs_than_can_be_merged_at_once_are_merged_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = Sorter::new(4 << 10, folder.path());
    let full = sorter.capacity;
    for key in 0..full * 3 {
        let key = u32::try_from(key).unwrap().reverse_bits();
        sorter.push(tick(key, 1), &job(1)).unwrap();
    }
    let bytes = (full * Tick::LEN) as u64;
    assert_eq!(sorter.spilled(), 2 * bytes, "the third is in the buffer");
    let (out, written) = drained(sorter);
    assert!(out.is_sorted());
    assert_eq!(out.len(), full * 3);
    assert_eq!(written, 5 * bytes, "two of three once more");
}

#[test]
fn one_key_a_million_times_stays_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = Sorter::new(4 << 10, folder.path());
    for _ in 0..1_000_000 {
        sorter.push(tick(7, 1), &job(2)).unwrap();
    }
    assert_eq!(drained(sorter), (vec![(7, 1_000_000)], 0));
}

#[test]
fn what_cancels_out_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = Sorter::new(16 << 10, folder.path());
    for count in [1, -1] {
        for key in 0..100_000u32 {
            sorter
                .push(tick(key.wrapping_mul(0x9e37_79b9), count), &job(2))
                .unwrap();
        }
    }
    assert!(sorter.spilled() > 0);
    assert!(drained(sorter).0.is_empty());
}

/// Pushes until it fails.
fn failure(mut sorter: Sorter<Tick>, job: &Job<'_>) -> Error {
    (0..10_000)
        .find_map(|key| sorter.push(tick(key, 1), job).err())
        .unwrap()
}

#[test]
fn a_file_that_cannot_be_made_is_told_with_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    File::create(&file).unwrap();
    let cases = [
        (folder.path().join("none"), "there is no such folder"),
        (file, "Not a directory"),
    ];
    for (temp, detail) in cases {
        let error = failure(Sorter::new(4 << 10, &temp), &job(2));
        assert_eq!(error.kind(), ErrorKind::Io);
        let sentence = format!("{}: temporary file: {detail}", temp.display());
        assert_eq!(error.to_string(), sentence);
    }
}

#[test]
fn a_full_disk_is_told_with_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = Sorter::new(4 << 10, folder.path());
    // A device that takes nothing, in place of a file on a full disk.
    sorter.runs.file = Some(File::options().write(true).open("/dev/full").unwrap());
    let error = failure(sorter, &job(2));
    assert_eq!(error.kind(), ErrorKind::Io);
    let sentence = format!(
        "{}: temporary file: No space left on device",
        folder.path().display()
    );
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    let error = failure(Sorter::new(u64::MAX, Path::new(".")), &job(2));
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.part(), "memory");
}

#[test]
fn it_stops_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let job = Job {
        stop: &stop,
        ..job(2)
    };
    // With a file and without: asked before, and after the first record came out.
    for memory in [4 << 10, 1 << 20] {
        for late in [false, true] {
            stop.store(!late, Ordering::Relaxed);
            let mut sorter = Sorter::new(memory, folder.path());
            let mut seen = 0;
            let result = (0..20_000)
                .try_for_each(|key| sorter.push(tick(key, 1), &job))
                .and_then(|()| {
                    sorter.drain(&job, &mut |_| {
                        seen += 1;
                        stop.store(true, Ordering::Relaxed);
                        Ok(())
                    })
                });
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
            assert!(seen < 10_000);
        }
    }
}
