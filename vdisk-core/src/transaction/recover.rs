//! After a change that was cut short: finds its journal, and restores what it replaced.

use super::{Medium, journal};
use crate::{Error, ErrorKind, Result};
use std::{
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt,
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
    restore(
        medium,
        &unfinished.journal,
        &files.iter().collect::<Vec<_>>(),
    )?;
    Ok(unfinished)
}

/// Puts back into `files` what the journal at `path` holds, and removes it.
pub(super) fn restore(medium: &dyn Medium, path: &Path, files: &[&File]) -> Result<()> {
    let io = |e| Error::io("undo", e).path(path);
    let (head, mut records) = journal::read(path)?;
    while let Some((number, at, bytes)) = records.next().map_err(io)? {
        let Some(file) = files.get(number) else {
            return Err(Error::corrupt("journal", "names a file that it has not").path(path));
        };
        medium.write_at(file, at, bytes).map_err(io)?;
    }
    for (member, file) in head.members.iter().zip(files) {
        medium.set_len(file, member.size).map_err(io)?;
        medium.sync(file).map_err(io)?;
    }
    medium.remove(path).map_err(io)
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
