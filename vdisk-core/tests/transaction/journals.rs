//! Journals: damaged, crafted, from elsewhere, and files that others changed since.

use super::*;

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
