//! After a change that was cut short: finds its journal, and restores what it replaced.

use super::{
    Medium,
    journal::{self, PAGE, Record, SECTOR, What},
};
use crate::{Error, ErrorKind, Result, disk::part_len};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
};

/// What the name of an image's journal ends with.
const ENDING: &str = ".vdisk-journal";

/// A change that was cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The journal.
    pub journal: PathBuf,
    /// The text from which the change can be made again.
    pub redo: String,
    /// The files that it may have changed, in the order in which they were named.
    pub files: Vec<PathBuf>,
}

/// The change of the image at `path` that was cut short, or is being made now; `path` may also be
/// the journal.
pub fn unfinished(path: &Path) -> Result<Option<Unfinished>> {
    let journal = match is_journal(path) {
        true => path.to_owned(),
        false => match found(path) {
            Some(journal) => journal,
            None => return Ok(None),
        },
    };
    let (head, _) = journal::read(&journal)?;
    let files = head.members.iter().map(|m| place(&journal, &m.path));
    Ok(Some(Unfinished {
        files: files.collect(),
        redo: head.redo,
        journal,
    }))
}

/// Restores all files of a change that was cut short, and removes its journal.
///
/// `path` is the image or its journal. Can be killed and run again.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) if there is no journal, [`Conflict`](ErrorKind::Conflict) if a
/// program has one of the files.
pub fn undo(path: &Path, medium: &dyn Medium) -> Result<Unfinished> {
    let Some(unfinished) = unfinished(path)? else {
        let detail = "has no change that was cut short";
        return Err(Error::new(ErrorKind::Usage, "journal", detail).path(path));
    };
    let files = unfinished
        .files
        .iter()
        .map(|path| crate::lock::open(path))
        .collect::<Result<Vec<_>>>()?;
    let files: Vec<&File> = files.iter().collect();
    refuse_foreign(&unfinished, &files)?;
    restore(medium, &unfinished.journal, &files)?;
    Ok(unfinished)
}

/// Fails if a file holds what it held neither before the change nor during it: restoring it would
/// mix two states.
fn refuse_foreign(unfinished: &Unfinished, files: &[&File]) -> Result<()> {
    let path = &unfinished.journal;
    let io = |e| Error::io("undo", e).path(path);
    // The sectors of each page that hold what the change wrote.
    let mut ours: HashMap<(usize, u64), u128> = HashMap::new();
    // Where files were cut: what lies behind may read as zero.
    let mut cuts: HashMap<usize, u64> = HashMap::new();
    // How long files may have become.
    let mut lengths: HashMap<usize, u64> = HashMap::new();
    let (head, mut records) = journal::read(path)?;
    while let Some(record) = records.next()? {
        let file = member(files, &record, path)?;
        match record.what {
            What::Old(_) => {}
            What::Grown => {
                let end = lengths.entry(record.member).or_default();
                *end = record.at.max(*end);
            }
            What::Cut => {
                let cut = cuts.entry(record.member).or_insert(u64::MAX);
                *cut = record.at.min(*cut);
            }
            What::New(len, sums) => {
                let found = read(file, record.at, len).map_err(io)?;
                let bits = ours.entry((record.member, record.at / PAGE)).or_default();
                *bits |= matching(record.at, &found, sums);
            }
        }
    }
    for (number, (own, file)) in head.members.iter().zip(files).enumerate() {
        let len = file.metadata().map_err(io)?.len();
        let shortest = cuts.get(&number).copied().unwrap_or(own.size).min(own.size);
        let longest = lengths.get(&number).copied().unwrap_or(0).max(own.size);
        if !(shortest..=longest).contains(&len) {
            return Err(foreign(unfinished, number));
        }
    }
    let (_, mut records) = journal::read(path)?;
    while let Some(record) = records.next()? {
        let What::Old(old) = record.what else {
            continue;
        };
        let file = member(files, &record, path)?;
        let found = read(file, record.at, old.len() as u64).map_err(io)?;
        let bits = ours.get(&(record.member, record.at / PAGE)).copied();
        let cut = cuts.get(&record.member).copied().unwrap_or(u64::MAX);
        let sectors = old.chunks(512).zip(found.chunks(512)).zip(0u32..);
        for ((old, found), number) in sectors {
            let at = record.at + u64::from(number) * SECTOR;
            let is_ours = bits.unwrap_or(0) & (1 << number) != 0;
            let is_cut = at + SECTOR > cut && is_zero_after(found, cut.saturating_sub(at));
            // The last sector may be cut in the middle.
            let same = old.starts_with(found);
            if !same && !is_ours && !is_cut {
                return Err(foreign(unfinished, record.member).at(at));
            }
        }
    }
    Ok(())
}

/// The error for a file, by its number, that is not as the change left it.
fn foreign(unfinished: &Unfinished, number: usize) -> Error {
    let detail = "was changed by another program since the change of it was cut short; nothing was \
                  written";
    let name = unfinished.files.get(number).unwrap_or(&unfinished.journal);
    Error::new(ErrorKind::Conflict, "undo", detail).path(name)
}

/// The sectors of a page of which `found`, read at the file offset `at`, has the checksums `sums`.
fn matching(mut at: u64, found: &[u8], sums: &[u8]) -> u128 {
    let mut bits = 0;
    let mut rest = found;
    for sum in sums.chunks_exact(4) {
        let end = (at / SECTOR + 1) * SECTOR;
        let (sector, more) = rest.split_at(part_len(rest.len(), at, end));
        if crc32c::crc32c(sector).to_le_bytes() == sum {
            bits |= 1 << (at % PAGE / SECTOR);
        }
        (rest, at) = (more, end);
    }
    bits
}

fn is_zero_after(bytes: &[u8], kept: u64) -> bool {
    let kept = part_len(bytes.len(), 0, kept);
    bytes.get(kept..).is_none_or(crate::is_zero)
}

/// The bytes at `at`, as far as the file has them: it may have been cut.
fn read(file: &File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let end = file.metadata()?.len().min(at.saturating_add(len));
    let len = usize::try_from(end.saturating_sub(at)).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn member<'a>(files: &[&'a File], record: &Record<'_>, path: &Path) -> Result<&'a File> {
    let file = files.get(record.member).copied();
    file.ok_or_else(|| Error::corrupt("journal", "names a file that it has not").path(path))
}

/// Puts back into `files` what the journal at `path` holds, and removes it.
pub(super) fn restore(medium: &dyn Medium, path: &Path, files: &[&File]) -> Result<()> {
    let io = |e| Error::io("undo", e).path(path);
    // What lay behind a cut comes with the pages; what is not among them was zero.
    let (_, mut records) = journal::read(path)?;
    while let Some(record) = records.next()? {
        let file = member(files, &record, path)?;
        let len = file.metadata().map_err(io)?.len();
        if matches!(record.what, What::Cut) && len > record.at {
            medium.set_len(file, record.at).map_err(io)?;
        }
    }
    let (head, mut records) = journal::read(path)?;
    while let Some(record) = records.next()? {
        let file = member(files, &record, path)?;
        if let What::Old(old) = record.what {
            put_back(medium, file, record.at, old).map_err(io)?;
        }
    }
    for (member, file) in head.members.iter().zip(files) {
        if file.metadata().map_err(io)?.len() != member.size {
            medium.set_len(file, member.size).map_err(io)?;
        }
        medium.sync(file).map_err(io)?;
    }
    medium.remove(path).map_err(io)
}

/// Writes what the file held at `at`, where it holds something else. Takes no room for zeros where
/// the file system can do without: the disk may be full.
fn put_back(medium: &dyn Medium, file: &File, at: u64, old: &[u8]) -> io::Result<()> {
    let found = read(file, at, old.len() as u64)?;
    if found == old {
        return Ok(());
    }
    let range = at..at.saturating_add(old.len() as u64);
    let inside = found.len() == old.len();
    if inside && crate::is_zero(old) && medium.punch(file, range).is_ok() {
        return Ok(());
    }
    medium.write_at(file, at, old)
}

/// The error for an image whose last change was cut short.
pub(crate) fn refuse_unfinished(path: &Path) -> Result<()> {
    let Some(journal) = found(path) else {
        return Ok(());
    };
    let detail = format!(
        "a change of it is under way or was cut short: '{}' is there",
        journal.display()
    );
    Err(Error::new(ErrorKind::Conflict, "journal", detail).path(path))
}

/// True if `error` says that a change was cut short or is under way.
pub(crate) fn is_unfinished(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict && error.part() == "journal"
}

/// Where the journal of the image at `path` lies.
pub(super) fn journal_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ENDING);
    path.with_file_name(name)
}

/// The journal of the image at `path`, if there is one. Links are followed: it lies beside the file.
fn found(path: &Path) -> Option<PathBuf> {
    let is_link = path.symlink_metadata().is_ok_and(|m| m.is_symlink());
    let real = match is_link {
        true => path.canonicalize().ok()?,
        false => path.to_owned(),
    };
    Some(journal_path(&real)).filter(|journal| journal.symlink_metadata().is_ok())
}

/// The image whose journal `path` is, by its name.
pub(crate) fn journal_of(path: &Path) -> Option<PathBuf> {
    let name = path
        .file_name()?
        .as_bytes()
        .strip_suffix(ENDING.as_bytes())?;
    Some(path.with_file_name(OsStr::from_bytes(name)))
}

/// True if `path` is a journal, by its name.
pub(crate) fn is_journal(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.as_encoded_bytes());
    name.is_some_and(|n| n.ends_with(ENDING.as_bytes()))
}

/// Where a file lies that the journal names.
fn place(journal: &Path, member: &Path) -> PathBuf {
    journal.parent().unwrap_or(Path::new("")).join(member)
}

/// `error`, and what became of the files.
pub(super) fn amended(error: &Error, outcome: &str) -> Error {
    let detail = format!("{}; {outcome}", error.detail());
    let mut new = Error::new(error.kind(), error.part().to_owned(), detail);
    if let Some(at) = error.offset() {
        new = new.at(at);
    }
    match error.file() {
        Some(path) => new.path(path),
        None => new,
    }
}
