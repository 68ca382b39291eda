//! A change of files is made as a whole or not at all, whatever fails and when.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

mod journals;
mod places;
mod refused;

use proptest::prelude::*;
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    slice,
};
use vdisk_core::{
    Deny, ErrorKind, FileResolver, Job, OpenOptions, Result, format,
    ops::{
        Stamp,
        redo::{self, Redo},
        resize,
    },
    storage::{Access, ImageFile},
    testing::{Fault, Faulty},
    transaction::{self, Files, Medium, Totals, Transaction, Work},
};

/// One step of a change of the file with that number.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, u64, u64, u8),
    SetLen(usize, u64),
    Barrier,
}

const SIZES: [u64; 2] = [400_000, 70_000];

fn step() -> impl Strategy<Value = Step> {
    let file = 0..2usize;
    let at = prop_oneof![0..500_000u64, Just(65_536), Just(399_990)];
    let len = prop_oneof![1..700u64, 60_000..140_000u64];
    prop_oneof![
        4 => (file.clone(), at, len, 1..255u8).prop_map(|(f, a, l, b)| Step::Write(f, a, l, b)),
        1 => (file, 0..500_000u64).prop_map(|(f, len)| Step::SetLen(f, len)),
        1 => Just(Step::Barrier),
    ]
}

/// Two files in a folder, and what they hold.
struct Case {
    folder: tempfile::TempDir,
    old: [Vec<u8>; 2],
}

impl Case {
    fn new() -> Self {
        let old = SIZES.map(|len| (0..len).map(|i| (i % 251) as u8).collect::<Vec<u8>>());
        let folder = tempfile::tempdir().unwrap();
        let case = Self { folder, old };
        case.reset();
        case
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.raw"))
    }

    fn reset(&self) {
        for (number, bytes) in self.old.iter().enumerate() {
            fs::write(self.path(number), bytes).unwrap();
        }
    }

    fn now(&self) -> [Vec<u8>; 2] {
        [0, 1].map(|n| fs::read(self.path(n)).unwrap())
    }

    fn model(&self, steps: &[Step]) -> [Vec<u8>; 2] {
        let mut files = self.old.clone();
        for step in steps {
            match *step {
                Step::Write(file, at, len, byte) => {
                    let end = (at + len) as usize;
                    let new = files[file].len().max(end);
                    files[file].resize(new, 0);
                    files[file][at as usize..end].fill(byte);
                }
                Step::SetLen(file, len) => files[file].resize(len as usize, 0),
                Step::Barrier => {}
            }
        }
        files
    }

    fn change(&self, steps: &[Step], medium: &dyn Medium) -> Result<((), Totals)> {
        let files = [0, 1].map(|n| ImageFile::open(&self.path(n), Access::Positioned).unwrap());
        let work = Work {
            files: &[&files[0], &files[1]],
            redo: "again",
            medium,
        };
        transaction::run(&work, |t| apply(t, &files, steps))
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("0.raw.vdisk-journal")
    }

    /// Nothing but the two files is left.
    fn is_clean(&self) -> bool {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let partial = |name: &str| name.starts_with(".vdisk-") && name.ends_with(".partial");
        names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .all(|name| name.ends_with(".raw") || partial(&name))
    }
}

fn apply(t: &Transaction<'_>, files: &[ImageFile; 2], steps: &[Step]) -> Result<()> {
    for step in steps {
        match *step {
            Step::Write(file, at, len, byte) => {
                t.write(&files[file], at, &vec![byte; len as usize])?;
            }
            Step::SetLen(file, len) => t.set_len(&files[file], len)?,
            Step::Barrier => t.barrier()?,
        }
    }
    Ok(())
}

fn faults() -> [Fault; 5] {
    [
        Fault::Killed,
        Fault::Torn,
        Fault::PowerLoss(7),
        Fault::PowerLoss(0x1234_5678_9abc),
        Fault::Full,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_change_is_made_whole_or_taken_back_at_every_operation(
        steps in prop::collection::vec(step(), 1..7),
    ) {
        let case = Case::new();
        let new = case.model(&steps);
        for fault in faults() {
            for good in 0.. {
                case.reset();
                let medium = Faulty::new(fault, good);
                let done = case.change(&steps, &medium);
                let what = format!("{fault:?} after {good}: {:?}", done.as_ref().err());
                if done.is_ok() {
                    prop_assert!(case.now() == new, "{}", what);
                    prop_assert!(case.is_clean());
                }
                if done.is_err() && fault == Fault::Full {
                    // Untouched, or to be undone; and it says which.
                    let untouched = case.now() == case.old && case.is_clean();
                    let says = if untouched { "nothing was changed" } else { ".vdisk-journal' holds" };
                    prop_assert!(untouched || case.journal().exists(), "{}", what);
                    prop_assert!(what.contains(says), "{}", what);
                    let grows_again = steps.iter().any(|s| matches!(s, Step::SetLen(..)));
                    prop_assert!(untouched || grows_again, "{}", what);
                }
                if done.is_err() {
                    match transaction::undo(&case.path(0), &[], &Files) {
                        Ok(found) => prop_assert_eq!(found.redo, "again"),
                        Err(e) => prop_assert_eq!(e.kind(), ErrorKind::Usage, "{}", what),
                    }
                    let now = case.now();
                    let known = now == case.old || now == new;
                    prop_assert!(known, "{}", what);
                    prop_assert!(case.is_clean(), "{}", what);
                }
                if !medium.failed() {
                    break;
                }
            }
        }
    }

    #[test]
    fn undo_can_itself_be_killed_at_every_operation(
        steps in prop::collection::vec(step(), 1..5),
        share in 0..100u64,
    ) {
        let case = Case::new();
        let count = (0..).find(|&good| {
            case.reset();
            let _ = fs::remove_file(case.journal());
            let medium = Faulty::new(Fault::Killed, good);
            case.change(&steps, &medium).is_ok()
        });
        // Killed at one place, and then each undo dies one operation later than the one before.
        let good = count.unwrap() * share / 100;
        case.reset();
        let _ = fs::remove_file(case.journal());
        let _ = case.change(&steps, &Faulty::new(Fault::Torn, good));
        for good in 0..500 {
            let done = transaction::undo(&case.path(0), &[], &Faulty::new(Fault::Torn, good));
            if done.is_ok() || !case.journal().exists() {
                break;
            }
        }
        prop_assert!(case.now() == case.old);
    }

    #[test]
    fn reading_sees_what_was_written_and_a_rehearsal_counts_the_same(
        steps in prop::collection::vec(step(), 1..7),
        at in 0..400_000u64,
    ) {
        let case = Case::new();
        let new = case.model(&steps);
        let files = [0, 1].map(|n| ImageFile::open(&case.path(n), Access::Positioned).unwrap());
        let ((), planned) =
            transaction::rehearse(&[&files[0], &files[1]], |t| apply(t, &files, &steps)).unwrap();
        prop_assert!(case.now() == case.old && case.is_clean(), "a rehearsal writes nothing");
        let work = Work { files: &[&files[0], &files[1]], redo: "", medium: &Files };
        let (seen, totals) = transaction::run(&work, |t| {
            apply(t, &files, &steps)?;
            let size = t.size(&files[0])?;
            let mut bytes = vec![0; 3000.min(size.saturating_sub(at) as usize)];
            t.read_at(&files[0], at, &mut bytes)?;
            Ok((size, bytes))
        }).unwrap();
        prop_assert_eq!(totals, planned);
        prop_assert_eq!(seen.0 as usize, new[0].len());
        let end = new[0].len().min(at as usize + 3000);
        let expected = new[0].get(at as usize..end).unwrap_or_default();
        prop_assert!(seen.1 == expected);
    }
}

#[test]
fn an_error_of_the_change_takes_everything_back() {
    let case = Case::new();
    let files = [0, 1].map(|n| ImageFile::open(&case.path(n), Access::Positioned).unwrap());
    let work = Work {
        files: &[&files[0], &files[1]],
        redo: "",
        medium: &Files,
    };
    let steps = [
        Step::Write(0, 0, 100_000, 1),
        Step::Barrier,
        Step::SetLen(1, 5),
    ];
    let error = transaction::run(&work, |t| {
        apply(t, &files, &steps)?;
        Err::<(), _>(vdisk_core::Error::new(
            ErrorKind::Cancelled,
            "job",
            "stopped",
        ))
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert!(case.now() == case.old && case.is_clean());
}

#[test]
fn what_nothing_refers_to_is_not_saved() {
    let case = Case::new();
    let file = ImageFile::open(&case.path(0), Access::Positioned).unwrap();
    let saved = |free: Range<u64>| {
        let change = |t: &Transaction<'_>| {
            t.disregard(&file, free)?;
            t.write(&file, 0, &[1; 300_000])
        };
        transaction::rehearse(&[&file], change).unwrap().1.saved
    };
    assert_eq!(saved(0..0), 5 * 65_536);
    assert_eq!(saved(0..200_000), 2 * 65_536, "three whole pages of them");
    assert_eq!(saved(1..65_536), 5 * 65_536, "no whole page");
}

#[test]
fn what_is_released_is_given_back_after_the_change() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.raw");
    fs::write(&path, vec![7; 4 << 20]).unwrap();
    let file = ImageFile::open(&path, Access::Positioned).unwrap();
    let before = fs::metadata(&path).unwrap().blocks();
    let work = Work {
        files: &[&file],
        redo: "",
        medium: &Files,
    };
    let (_, totals) = transaction::run(&work, |t| t.release(&file, 1 << 20..3 << 20)).unwrap();
    assert_eq!(totals.saved, 0);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 4 << 20);
    let after = fs::metadata(&path).unwrap().blocks();
    if after < before {
        assert!(bytes[1 << 20..3 << 20].iter().all(|b| *b == 0));
    } else {
        println!("skipped: the file system cannot punch holes");
    }
    assert!(
        bytes[..1 << 20]
            .iter()
            .chain(&bytes[3 << 20..])
            .all(|b| *b == 7)
    );
}

/// A transaction on `0.raw` that was killed in the middle.
fn killed() -> Case {
    let case = Case::new();
    let steps = [
        Step::Write(0, 0, 100_000, 1),
        Step::Barrier,
        Step::SetLen(1, 5),
    ];
    for good in 5.. {
        case.reset();
        let _ = fs::remove_file(case.journal());
        let _ = case.change(&steps, &Faulty::new(Fault::Killed, good));
        if case.journal().exists() && case.now() != case.old {
            return case;
        }
    }
    unreachable!()
}
