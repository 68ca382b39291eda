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

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// The file becomes what a byte array becomes, grown and cut too; undoing gives the old bytes.
    #[test]
    fn changes_are_made_in_order_and_undone(steps in steps()) {
        let (_folder, path) = folder(5000);
        let file = open(&path);
        let mut model = bytes(5000);
        let mut patches = Vec::new();
        for step in steps {
            patches.push(match step {
                Step::Write(at, new) => {
                    let end = at as usize + new.len();
                    if end > model.len() && !new.is_empty() {
                        model.resize(end, 0);
                    }
                    if !new.is_empty() {
                        model[at as usize..end].copy_from_slice(&new);
                    }
                    Patch::write(&file, at, new)
                }
                Step::Copy(from, at, len) => {
                    model.copy_within(from as usize..(from + len) as usize, at as usize);
                    Patch::copy(&file, from, at, len)
                }
                Step::Resize(size) => {
                    model.resize(size as usize, 0);
                    Patch::resize(&file, size)
                }
                Step::Flush => Patch::flush(&file),
            });
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
    // In reverse order they lead back to the start.
    for number in [3, 2, 1] {
        patch::undo(&folder.path().join(format!("a.img.backup-{number}"))).unwrap();
    }
    assert!(fs::read(&path).unwrap() == bytes(100));
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
    assert_eq!(patch::undo(&moved).err().unwrap().kind(), ErrorKind::Io);
    assert_eq!(fs::read(&path).unwrap()[0], 1);
}
