//! Changes in place: all or nothing before the first byte is written, and back again afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic"
)]

use proptest::prelude::*;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use vdisk_core::{
    ErrorKind,
    patch::{self, Change, Patch},
    storage::{Access, ImageFile},
};

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// A folder with one file of `len` bytes.
fn folder(len: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    fs::write(&path, bytes(len)).unwrap();
    (folder, path)
}

fn open(path: &Path) -> ImageFile {
    ImageFile::open(path, Access::Positioned).unwrap()
}

/// All names in `folder`, sorted.
fn names(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Copy(u64, u64, u64),
    Resize(u64),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..6000u64, prop::collection::vec(any::<u8>(), 0..700))
        .prop_map(|(at, bytes)| Step::Write(at, bytes));
    let copy = (0..2000u64, 2000..3500u64, 0..500u64)
        .prop_map(|(from, at, len)| Step::Copy(from, at, len));
    let resize = (4000..7000u64).prop_map(Step::Resize);
    prop::collection::vec(
        prop_oneof![4 => write, 2 => copy, 1 => resize, 1 => Just(Step::Flush)],
        1..12,
    )
}

fn patch(step: &Step, file: &ImageFile) -> Patch {
    match step {
        Step::Write(at, new) => Patch::write(file, *at, new.clone()),
        Step::Copy(from, at, len) => Patch::copy(file, *from, *at, *len),
        Step::Resize(size) => Patch::resize(file, *size),
        Step::Flush => Patch::flush(file),
    }
}

/// What `step` does to the file `model` if it is stopped after `most` bytes.
fn make(step: &Step, model: &mut Vec<u8>, most: usize) {
    match step {
        Step::Write(at, new) => {
            let new = &new[..new.len().min(most)];
            let end = *at as usize + new.len();
            if end > model.len() && !new.is_empty() {
                model.resize(end, 0);
            }
            if !new.is_empty() {
                model[*at as usize..end].copy_from_slice(new);
            }
        }
        Step::Copy(from, at, len) => {
            let (from, len) = (*from as usize, (*len as usize).min(most));
            model.copy_within(from..from + len, *at as usize);
        }
        Step::Resize(_) if most == 0 => {}
        Step::Resize(size) => model.resize(*size as usize, 0),
        Step::Flush => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// The file becomes what a byte array becomes, grown and cut too; undoing gives the old bytes.
    #[test]
    fn changes_are_made_in_order_and_undone(steps in steps()) {
        let (_folder, path) = folder(5000);
        let file = open(&path);
        let mut model = bytes(5000);
        let mut patches = Vec::new();
        for step in &steps {
            make(step, &mut model, usize::MAX);
            patches.push(patch(step, &file));
        }
        let backups = patch::apply(&patches).unwrap();
        prop_assert!(fs::read(&path).unwrap() == model);
        let only_flush = patches.iter().all(|p| p.change == Change::Flush);
        prop_assert_eq!(backups.len(), usize::from(!only_flush));
        for backup in backups {
            prop_assert_eq!(patch::undo(&backup).unwrap(), path.clone());
            // Undoing twice does no harm.
            patch::undo(&backup).unwrap();
        }
        prop_assert!(fs::read(&path).unwrap() == bytes(5000));
    }

    /// A program may be killed at any byte of a change, and of the way back.
    #[test]
    fn what_was_cut_short_is_undone(
        steps in steps(), done in 0..12usize, part in 0..700usize, back in 0..5000usize,
    ) {
        let (_folder, path) = folder(5000);
        let file = open(&path);
        let patches: Vec<Patch> = steps.iter().map(|s| patch(s, &file)).collect();
        let backups = patch::apply(&patches).unwrap();
        let mut model = bytes(5000);
        for (number, step) in steps.iter().enumerate().take(done + 1) {
            make(step, &mut model, if number < done { usize::MAX } else { part });
        }
        fs::write(&path, &model).unwrap();
        for backup in &backups {
            patch::undo(backup).unwrap();
        }
        if !backups.is_empty() {
            prop_assert!(fs::read(&path).unwrap() == bytes(5000));
            model.resize(5000, 0);
            model[..back].copy_from_slice(&bytes(back));
            fs::write(&path, &model).unwrap();
            patch::undo(&backups[0]).unwrap();
            prop_assert!(fs::read(&path).unwrap() == bytes(5000));
        }
    }

    /// A byte that the change neither found nor wrote, or another length: somebody else was there.
    #[test]
    fn what_others_changed_is_not_undone(steps in steps(), at in any::<prop::sample::Index>()) {
        let (_folder, path) = folder(5000);
        let file = open(&path);
        let mut stages = vec![bytes(5000)];
        let mut touched = Vec::new();
        for step in &steps {
            let mut model = stages.last().unwrap().clone();
            match step {
                Step::Write(at, new) => touched.extend(*at..*at + new.len() as u64),
                Step::Copy(_, at, len) => touched.extend(*at..*at + len),
                Step::Resize(size) => touched.extend(*size..5000),
                Step::Flush => {}
            }
            make(step, &mut model, usize::MAX);
            stages.push(model);
        }
        let last = stages.last().unwrap();
        touched.retain(|at| (*at as usize) < last.len());
        prop_assume!(!touched.is_empty() && last != &stages[0]);
        let backup = patch::apply(&steps.iter().map(|s| patch(s, &file)).collect::<Vec<_>>())
            .unwrap()
            .remove(0);
        let at = touched[at.index(touched.len())] as usize;
        let had: Vec<u8> = stages.iter().filter_map(|s| s.get(at)).copied().collect();
        let foreign = (1..=255).find(|b| !had.contains(b)).unwrap();
        let mut changed = last.clone();
        changed[at] = foreign;
        let longest = stages.iter().map(Vec::len).max().unwrap();
        let mut longer = last.clone();
        longer.resize(longest + 1, 0);
        for other in [changed, longer] {
            fs::write(&path, &other).unwrap();
            let error = patch::undo(&backup).expect_err("is refused");
            prop_assert_eq!(error.kind(), ErrorKind::Conflict);
            prop_assert!(error.to_string().ends_with(
                "a.img: undo: was changed since a.img.backup-1 was made; nothing was restored"
            ), "{}", error);
            prop_assert!(fs::read(&path).unwrap() == other);
        }
        fs::write(&path, last).unwrap();
        patch::undo(&backup).unwrap();
        prop_assert!(fs::read(&path).unwrap() == bytes(5000));
    }
}

#[test]
fn a_file_that_is_replaced_is_undone_from_either_state_and_no_other() {
    let (_folder, path) = folder(1000);
    let backup = patch::apply(&[Patch::replace(&open(&path), b"new text".to_vec())])
        .unwrap()
        .remove(0);
    for other in [&b"new texts"[..], b"new tex", b"new_text"] {
        fs::write(&path, other).unwrap();
        let error = patch::undo(&backup).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(fs::read(&path).unwrap() == other);
    }
    for state in [&b"new text"[..], &bytes(1000)] {
        fs::write(&path, state).unwrap();
        patch::undo(&backup).unwrap();
        assert!(fs::read(&path).unwrap() == bytes(1000));
    }
}

#[test]
fn several_files_are_changed_and_restored_each_on_its_own() {
    let (folder, one) = folder(1000);
    let two = folder.path().join("b.img");
    fs::write(&two, bytes(2000)).unwrap();
    let (a, b) = (open(&one), open(&two));
    let backups = patch::apply(&[
        Patch::write(&a, 0, b"one".to_vec()),
        Patch::write(&b, 0, b"two".to_vec()),
        Patch::flush(&a),
        Patch::resize(&b, 10),
        Patch::write(&a, 5000, b"end".to_vec()),
    ])
    .unwrap();
    assert_eq!(fs::read(&one).unwrap().len(), 5003);
    assert_eq!(fs::read(&two).unwrap(), b"two\x03\x04\x05\x06\x07\x08\x09");
    assert_eq!(backups.len(), 2);
    patch::undo(&backups[1]).unwrap();
    assert!(fs::read(&two).unwrap() == bytes(2000));
    assert!(fs::read(&one).unwrap() != bytes(1000));
    patch::undo(&backups[0]).unwrap();
    assert!(fs::read(&one).unwrap() == bytes(1000));
}

#[test]
fn backups_get_names_of_their_own() {
    let (folder, path) = folder(100);
    for number in 1..=3u8 {
        let file = open(&path);
        let backups = patch::apply(&[Patch::write(&file, 0, vec![number])]).unwrap();
        let name = format!("a.img.backup-{number}");
        assert_eq!(backups, [folder.path().join(name)]);
    }
    // A number is not given twice, so that the highest is always the last.
    fs::remove_file(folder.path().join("a.img.backup-1")).unwrap();
    let backups = patch::apply(&[Patch::write(&open(&path), 0, vec![4])]).unwrap();
    assert_eq!(backups, [folder.path().join("a.img.backup-4")]);
}

/// In reverse order they lead back to the start, whether they changed the same bytes or others.
#[test]
fn the_last_change_is_undone_first() {
    for distance in [0, 10] {
        let (folder, path) = folder(100);
        for number in 1..=3u8 {
            let at = u64::from(number) * distance;
            patch::apply(&[Patch::write(&open(&path), at, vec![200 + number])]).unwrap();
        }
        let backup = |number: u8| folder.path().join(format!("a.img.backup-{number}"));
        for last in [3, 2, 1] {
            let before = fs::read(&path).unwrap();
            for early in 1..last {
                let error = patch::undo(&backup(early)).expect_err("is refused");
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                let sentence = format!("undo a.img.backup-{last} first; nothing was restored");
                assert!(error.to_string().ends_with(&sentence), "{error}");
                assert!(fs::read(&path).unwrap() == before);
            }
            patch::undo(&backup(last)).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes(100));
    }
}

/// Checks that nothing is written, whatever the reason.
fn refused(folder: &TempDir, paths: &[&Path], patches: &[Patch], kind: ErrorKind) {
    let before: Vec<Vec<u8>> = paths.iter().map(|p| fs::read(p).unwrap()).collect();
    let listed = names(folder);
    let error = patch::apply(patches).expect_err("is refused");
    assert_eq!(error.kind(), kind, "{error}");
    let after: Vec<Vec<u8>> = paths.iter().map(|p| fs::read(p).unwrap()).collect();
    assert!(before == after, "{error}: something was written");
    assert_eq!(names(folder), listed, "{error}: something is left behind");
}

#[test]
fn a_file_that_was_changed_meanwhile_is_left_alone() {
    let longer = |path: &Path| fs::write(path, bytes(101)).unwrap();
    let shorter = |path: &Path| fs::write(path, bytes(99)).unwrap();
    let another_file = |path: &Path| {
        let new = path.with_extension("new");
        fs::write(&new, bytes(100)).unwrap();
        fs::rename(new, path).unwrap();
    };
    for meanwhile in [longer, shorter, another_file] {
        let (folder, path) = folder(100);
        let file = open(&path);
        meanwhile(&path);
        let patches = [Patch::write(&file, 0, vec![1])];
        refused(&folder, &[&path], &patches, ErrorKind::Conflict);
    }
}

#[test]
fn a_file_that_is_gone_or_locked_or_in_memory_is_refused() {
    let (folder, path) = folder(100);
    let file = open(&path);
    let lock = File::open(&path).unwrap();
    lock.lock().unwrap();
    let patches = [Patch::write(&file, 0, vec![1])];
    refused(&folder, &[&path], &patches, ErrorKind::Conflict);
    drop(lock);
    let memory = ImageFile::from_storage("memory", bytes(100)).unwrap();
    let patches = [
        Patch::write(&file, 0, vec![1]),
        Patch::write(&memory, 0, vec![1]),
    ];
    refused(&folder, &[&path], &patches, ErrorKind::Unsupported);
    fs::remove_file(&path).unwrap();
    let patches = [Patch::write(&file, 0, vec![1])];
    refused(&folder, &[], &patches, ErrorKind::Io);
}

/// The second file's backup cannot be made: its name would be too long. So the first is not
/// changed either, and its backup does not stay.
#[test]
fn where_no_backup_can_be_made_nothing_is_written() {
    let (folder, path) = folder(100);
    let long = folder.path().join("x".repeat(250));
    fs::write(&long, bytes(100)).unwrap();
    let patches = [
        Patch::write(&open(&path), 0, vec![1]),
        Patch::write(&open(&long), 0, vec![1]),
    ];
    refused(&folder, &[&path, &long], &patches, ErrorKind::Io);
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let (folder, path) = folder(300);
    let file = open(&path);
    let backup = patch::apply(&[
        Patch::write(&file, 10, vec![1; 20]),
        Patch::resize(&file, 200),
    ])
    .unwrap()
    .remove(0);
    let changed = fs::read(&path).unwrap();
    let whole = fs::read(&backup).unwrap();
    assert!(whole.len() < 400, "only what is replaced is saved");
    let mut damaged: Vec<Vec<u8>> = (0..whole.len())
        .flat_map(|at| {
            [0x01, 0x80].map(|bit| {
                let mut bytes = whole.clone();
                bytes[at] ^= bit;
                bytes
            })
        })
        .collect();
    damaged.extend((0..whole.len()).map(|len| whole[..len].to_vec()));
    damaged.push([whole.as_slice(), b"more"].concat());
    damaged.push(b"no backup at all".to_vec());
    for bytes in damaged {
        fs::write(&backup, &bytes).unwrap();
        let error = patch::undo(&backup).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(fs::read(&path).unwrap() == changed, "{error}");
        assert_eq!(names(&folder), ["a.img", "a.img.backup-1"]);
    }
    fs::write(&backup, &whole).unwrap();
    patch::undo(&backup).unwrap();
    assert!(fs::read(&path).unwrap() == bytes(300));
}

#[test]
fn a_backup_names_a_file_beside_it_and_no_other() {
    let (folder, path) = folder(300);
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let file = open(&path);
    let backup = patch::apply(&[Patch::write(&file, 0, vec![1])])
        .unwrap()
        .remove(0);
    // Moved elsewhere, it finds no file of that name there, and does not look back.
    let moved = inner.join("a.img.backup-1");
    fs::rename(&backup, &moved).unwrap();
    let error = patch::undo(&moved).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Io);
    let sentence = "belongs beside a.img, which is not there";
    assert!(error.to_string().ends_with(sentence), "{error}");
    assert_eq!(fs::read(&path).unwrap()[0], 1);
}
