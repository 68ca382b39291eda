//! A change of files is made as a whole or not at all, whatever fails and when.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

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

#[test]
fn an_image_that_is_half_changed_is_not_read() {
    let case = killed();
    let raw = OpenOptions {
        format: Some(format::named("raw").unwrap()),
        ..OpenOptions::new(&Deny)
    };
    let link = case.folder.path().join("link.raw");
    std::os::unix::fs::symlink("0.raw", &link).unwrap();
    for path in [&case.path(0), &link] {
        let error = vdisk_core::open(path, &raw).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("0.raw.vdisk-journal"), "{error}");
    }
    let again = case.change(&[], &Files).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict, "{again}");
    let found = transaction::unfinished(&case.path(0)).unwrap().unwrap();
    assert_eq!(found.files, [case.path(0), case.path(1)]);
    fs::remove_file(link).unwrap();
    transaction::undo(&case.journal(), &[], &Files).unwrap();
    assert!(case.now() == case.old && case.is_clean());
    assert!(vdisk_core::open(&case.path(0), &raw).is_ok());
}

#[test]
fn a_set_of_files_that_was_moved_is_still_restored() {
    let case = killed();
    let elsewhere = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(case.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, elsewhere.path().join(path.file_name().unwrap())).unwrap();
    }
    transaction::undo(&elsewhere.path().join("0.raw"), &[], &Files).unwrap();
    assert!(fs::read(elsewhere.path().join("0.raw")).unwrap() == case.old[0]);
    assert!(fs::read(elsewhere.path().join("1.raw")).unwrap() == case.old[1]);
}

#[test]
fn a_damaged_journal_is_an_error_and_stays() {
    let case = killed();
    let whole = fs::read(case.journal()).unwrap();
    for at in 0..60 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(case.journal(), &bytes).unwrap();
        let before = case.now();
        let error = transaction::undo(&case.path(0), &[], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
        assert!(case.now() == before && case.journal().exists());
    }
}

#[test]
fn a_file_in_use_is_refused_by_name() {
    let case = Case::new();
    let in_use = |what: &str| {
        let error = case.change(&[Step::Write(0, 0, 9, 9)], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{what}");
        assert!(error.to_string().contains("1.raw"), "{what}: {error}");
        assert!(case.now() == case.old && !case.journal().exists());
    };
    let other = fs::File::open(case.path(1)).unwrap();
    other.lock().unwrap();
    in_use("locked by another program");
    drop(other);
    let lock = case.folder.path().join("1.raw.lck");
    fs::create_dir(&lock).unwrap();
    assert!(
        case.change(&[], &Files).is_ok(),
        "an empty folder is no lock"
    );
    fs::write(lock.join("M12345.lck"), b"VMware").unwrap();
    in_use("VMware's folder");
    fs::remove_dir_all(&lock).unwrap();
    fs::write(&lock, b"").unwrap();
    in_use("VMware's lock file");
}

#[test]
fn a_file_that_changed_since_it_was_opened_is_refused() {
    let case = Case::new();
    let file = ImageFile::open(&case.path(0), Access::Positioned).unwrap();
    let change = |path: &Path| {
        let work = Work {
            files: &[&file],
            redo: "",
            medium: &Files,
        };
        let error = transaction::run(&work, |t| t.write(&file, 0, b"x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(!path.with_file_name("0.raw.vdisk-journal").exists());
    };
    fs::write(case.path(0), b"shorter").unwrap();
    change(&case.path(0));
    fs::rename(case.path(1), case.path(0)).unwrap();
    change(&case.path(0));
}

#[test]
fn undo_refuses_a_file_that_others_changed_since() {
    for at in [0u64, 65_535, 65_536, 99_999, 131_000] {
        let case = killed();
        let mut bytes = fs::read(case.path(0)).unwrap();
        let kept = bytes.clone();
        bytes[at as usize] ^= 0xff;
        fs::write(case.path(0), &bytes).unwrap();
        let error = transaction::undo(&case.path(0), &[], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{at}: {error}");
        assert_eq!(error.offset(), Some(at / 512 * 512), "{error}");
        assert!(fs::read(case.path(0)).unwrap() == bytes && case.journal().exists());
        fs::write(case.path(0), &kept).unwrap();
        transaction::undo(&case.path(0), &[], &Files).unwrap();
        assert!(case.now() == case.old);
    }
}

/// All files beneath `folder`, by their paths.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            found.extend(tree(&path));
        } else if kind.is_file() {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// A journal without records, made from nothing: it says that `members` had these lengths.
fn crafted(redo: &str, members: &[(&str, u64)]) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut text = |bytes: &[u8]| {
        rest.extend((bytes.len() as u64).to_le_bytes());
        rest.extend(bytes);
    };
    text(redo.as_bytes());
    for (path, size) in members {
        text(path.as_bytes());
        text(&size.to_le_bytes());
    }
    let mut journal = b"vdisk journal 1\n".to_vec();
    journal.extend((rest.len() as u64).to_le_bytes());
    journal.extend(crc32c::crc32c(&rest).to_le_bytes());
    // None of the records is known to be there.
    journal.extend([0; 8]);
    journal.extend(crc32c::crc32c(&[0; 8]).to_le_bytes());
    journal.extend(rest);
    journal
}

#[test]
fn a_journal_from_elsewhere_changes_nothing_outside_its_folder() {
    let temp = tempfile::tempdir().unwrap();
    let top = temp.path();
    let own = top.join("own");
    fs::create_dir_all(own.join("beneath")).unwrap();
    fs::create_dir(top.join("own too")).unwrap();
    let (image, journal) = (own.join("a.raw"), own.join("a.raw.vdisk-journal"));
    let secret = top.join("own too/secret");
    fs::write(&image, [1; 700]).unwrap();
    fs::write(own.join("beneath/b.raw"), [2; 700]).unwrap();
    fs::write(&secret, [3; 700]).unwrap();
    std::os::unix::fs::symlink(&secret, own.join("link.raw")).unwrap();
    std::os::unix::fs::symlink("../own too", own.join("folder")).unwrap();
    let absolute = secret.to_str().unwrap();
    let names = [
        absolute,
        "../own too/secret",
        "beneath/../../own too/secret",
        "link.raw",
        "folder/secret",
        "fifo",
        "beneath",
    ];
    for name in names {
        if name == "fifo" {
            let made = Command::new("mkfifo").arg(own.join(name)).status();
            assert!(made.unwrap().success());
        }
        for members in [&[("a.raw", 0), (name, 0)][..], &[(name, 0), ("a.raw", 0)]] {
            fs::write(&journal, crafted("", members)).unwrap();
            for path in [&image, &journal] {
                let error = transaction::undo(path, &[], &Files).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Policy, "{name}: {error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        let _ = fs::remove_file(own.join("fifo"));
        assert_eq!(fs::read(&secret).unwrap(), [3; 700], "{name}");
        assert_eq!(fs::read(&image).unwrap(), [1; 700], "{name}");
        assert!(journal.exists());
    }
    // A journal that lies beside an image of which it is not.
    fs::write(&journal, crafted("", &[("beneath/b.raw", 0)])).unwrap();
    for path in [&image, &journal] {
        let error = transaction::undo(path, &[], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "{error}");
    }
    let before = tree(top);
    assert!(
        before
            .iter()
            .all(|(path, bytes)| path == &journal || bytes.len() == 700)
    );

    // What is allowed is done: the folder, or the file.
    for allowed in [top.join("own too"), secret.clone()] {
        fs::write(&journal, crafted("", &[("a.raw", 900), (absolute, 800)])).unwrap();
        // Longer than they are, and nothing was cut: not as the change left them.
        let error = transaction::undo(&image, slice::from_ref(&allowed), &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        fs::write(&journal, crafted("", &[("a.raw", 700), (absolute, 700)])).unwrap();
        transaction::undo(&image, &[allowed], &Files).unwrap();
        assert!(!journal.exists());
    }
}

#[test]
fn undo_refuses_a_file_that_is_shorter_than_the_change_made_it() {
    // The change cuts 1.raw at 5, and 0.raw not at all.
    for (number, len) in [(0, 0), (0, 399_999), (1, 4), (1, 0)] {
        let case = killed();
        let kept = fs::read(case.path(number)).unwrap();
        fs::write(case.path(number), &kept[..len]).unwrap();
        let before = case.now();
        let done = transaction::undo(&case.path(0), &[], &Files);
        let error = done
            .err()
            .unwrap_or_else(|| panic!("{number} cut at {len}"));
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(case.now() == before && case.journal().exists());
    }
    // What the change itself may have cut is no trace of others.
    let case = Case::new();
    let steps = [Step::SetLen(1, 5), Step::Barrier, Step::Write(1, 0, 9, 9)];
    for good in 0.. {
        case.reset();
        let medium = Faulty::new(Fault::Killed, good);
        assert!(case.change(&steps, &medium).is_err(), "never cut");
        let len = fs::metadata(case.path(1)).unwrap().len();
        if case.journal().exists() {
            transaction::undo(&case.path(0), &[], &Files).unwrap();
            assert!(case.now() == case.old);
        }
        if len < SIZES[1] {
            break;
        }
    }
}

#[test]
fn files_in_several_folders_are_named_by_the_way_to_them() {
    for how in ["moved", "copied"] {
        let temp = tempfile::tempdir().unwrap();
        let (old, new) = (temp.path().join("old"), temp.path().join("new"));
        for name in ["gold", "vm"] {
            fs::create_dir_all(old.join(name)).unwrap();
        }
        let names = ["gold/base.raw", "vm/child.raw"];
        for good in 0.. {
            for (number, name) in names.iter().enumerate() {
                fs::write(old.join(name), vec![number as u8; 100_000]).unwrap();
            }
            let _ = fs::remove_file(old.join("gold/base.raw.vdisk-journal"));
            let files = names.map(|n| ImageFile::open(&old.join(n), Access::Positioned).unwrap());
            let work = Work {
                files: &[&files[0], &files[1]],
                redo: "",
                medium: &Faulty::new(Fault::Killed, good),
            };
            let done = transaction::run(&work, |t| {
                t.write(&files[0], 0, &[7; 50_000])?;
                t.write(&files[1], 0, &[8; 50_000])
            });
            assert!(done.is_err(), "never changed both");
            if fs::read(old.join(names[1])).unwrap()[0] == 8 {
                break;
            }
        }
        let left = tree(&old);
        if how == "moved" {
            fs::rename(&old, &new).unwrap();
        } else {
            for (path, bytes) in &left {
                let to = new.join(path.strip_prefix(&old).unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, bytes).unwrap();
            }
        }
        let image = new.join(names[0]);
        let before = tree(&new);
        let error = transaction::undo(&image, &[], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "{error}");
        assert!(tree(&new) == before);
        transaction::undo(&image, &[new.join("vm")], &Files).unwrap();
        for (number, name) in names.iter().enumerate() {
            assert_eq!(
                fs::read(new.join(name)).unwrap(),
                vec![number as u8; 100_000]
            );
        }
        if how == "copied" {
            assert!(
                tree(&old) == left,
                "the folder that was copied is not touched"
            );
        }
    }
}

#[test]
fn a_journal_that_plans_the_change_of_another_image_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let [a, b] = ["a.raw", "b.raw"].map(|name| folder.join(name));
    let resolver = FileResolver::default();
    let options = OpenOptions {
        format: Some(format::named("raw").unwrap()),
        ..OpenOptions::new(&resolver)
    };
    let wish = resize::Wish {
        size: 512,
        fix_gpt: false,
        force: true,
        now: 0,
    };
    let fill = || {
        fs::write(&a, [1; 4096]).unwrap();
        fs::write(&b, [2; 4096]).unwrap();
    };
    fill();
    let plan = |path: &Path| resize::plan(path, &wish, &options, &Job::default()).unwrap();
    let (own, other) = (plan(&a), plan(&b));
    let mixed = resize::Plan {
        image: b.clone(),
        ..own.clone()
    };
    let mut outdated = own.clone();
    outdated.files[0].size = 4095;
    let mut gone = own.clone();
    gone.files.push(Stamp {
        path: folder.join("parent.raw"),
        ..own.files[0].clone()
    });
    for (plan, expected) in [
        (&other, Err(ErrorKind::Corrupt)),
        (&mixed, Err(ErrorKind::Corrupt)),
        (&outdated, Err(ErrorKind::Conflict)),
        (&gone, Err(ErrorKind::Conflict)),
        (&own, Ok(())),
    ] {
        fill();
        let redo = Redo::Resize(plan.clone()).text().unwrap();
        let journal = folder.join("a.raw.vdisk-journal");
        fs::write(&journal, crafted(&redo, &[("a.raw", 4096)])).unwrap();
        let done = redo::resume(&a, &[], &options, &Files, &Job::default());
        assert_eq!(done.map(drop).map_err(|e| e.kind()), expected);
        assert_eq!(fs::read(&b).unwrap(), [2; 4096]);
        let left = if expected.is_ok() { 512 } else { 4096 };
        assert_eq!(fs::read(&a).unwrap(), vec![1; left]);
        assert_eq!(journal.exists(), expected.is_err());
    }
}

#[test]
fn undo_keeps_what_others_added_behind_the_end() {
    // Killed before a byte was written, and in the middle.
    let before = Case::new();
    let steps = [Step::Write(0, 0, 100_000, 1)];
    for good in 0.. {
        before.reset();
        let _ = fs::remove_file(before.journal());
        let _ = before.change(&steps, &Faulty::new(Fault::Killed, good));
        if before.journal().exists() {
            break;
        }
    }
    for case in [before, killed()] {
        let mut bytes = fs::read(case.path(0)).unwrap();
        let kept = bytes.clone();
        bytes.extend([9; 5000]);
        fs::write(case.path(0), &bytes).unwrap();
        let error = transaction::undo(&case.path(0), &[], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(fs::read(case.path(0)).unwrap() == bytes && case.journal().exists());
        fs::write(case.path(0), &kept).unwrap();
        transaction::undo(&case.path(0), &[], &Files).unwrap();
        assert!(case.now() == case.old);
    }
}

#[test]
fn a_journal_that_lost_records_is_damaged_and_not_torn() {
    let case = killed();
    let whole = fs::read(case.journal()).unwrap();
    let flushed = u64::from_le_bytes(whole[28..36].try_into().unwrap()) as usize;
    assert!(flushed > 100_000 && flushed <= whole.len(), "{flushed}");
    let damaged = |bytes: &[u8], what: &str| {
        fs::write(case.journal(), bytes).unwrap();
        let before = case.now();
        let error = transaction::undo(&case.path(0), &[], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert!(case.now() == before && case.journal().exists(), "{what}");
    };
    for at in [200, 70_000, flushed - 30, flushed - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        damaged(&bytes, &format!("byte {at}"));
        damaged(&whole[..at], &format!("cut at {at}"));
    }
    // What was not flushed may be torn.
    fs::write(case.journal(), &whole[..flushed]).unwrap();
    transaction::undo(&case.path(0), &[], &Files).unwrap();
    assert!(case.now() == case.old && case.is_clean());
}

#[test]
fn a_journal_that_is_no_file_does_not_hang() {
    let case = Case::new();
    let made = std::process::Command::new("mkfifo")
        .arg(case.journal())
        .status();
    assert!(made.unwrap().success());
    let error = transaction::undo(&case.path(0), &[], &Files).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn a_file_with_several_names_is_refused() {
    let case = Case::new();
    fs::hard_link(case.path(0), case.folder.path().join("twin.raw")).unwrap();
    let error = case.change(&[Step::Write(0, 0, 9, 9)], &Files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("2 names"), "{error}");
    assert!(case.now() == case.old && !case.journal().exists());
}
