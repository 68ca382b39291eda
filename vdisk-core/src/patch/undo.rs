//! The way back from a change: only from a state that the change can have left.
//!
//! Restoring old bytes over what others wrote since would mix two images into one that is neither.

use super::backup::{self, Entry, Head, backups_of, number_of};
use crate::{Error, ErrorKind, Result, storage::Storage};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Restores what the backup at `backup` holds to the file beside it that it was made of. Returns
/// that file's path.
///
/// The backup is read to its end and its digest checked before anything is written. It is not
/// removed. A change that was made only in part can be undone, and an undo that was stopped can be
/// made again.
///
/// # Errors
/// [`ErrorKind::Conflict`] if the file holds other bytes than the change replaced or wrote, or has
/// another length, or if a later change must be undone first; then nothing is written.
pub fn undo(backup: &Path) -> Result<PathBuf> {
    let head = backup::read(backup, |_| Ok(()))?;
    let path = backup.with_file_name(&head.name);
    if matches!(path.try_exists(), Ok(false)) {
        let name = head.name.display();
        let detail = format!("belongs beside {name}, which is not there");
        return Err(Error::new(ErrorKind::Io, "backup", detail).path(backup));
    }
    let file = crate::lock::open(&path)?;
    refuse_if_later(backup, &head, &path, &file)?;
    match State::of(backup, &file)? {
        State::Old => return Ok(path),
        State::Changed => {}
        State::Foreign => return Err(changed_since(backup, &path)),
    }
    let io = |e| Error::io("write", e).path(&path);
    // First the length: then every state on the way is one that the change could have left.
    if Storage::size(&file).map_err(io)? != head.size {
        file.set_len(head.size).map_err(io)?;
    }
    backup::read(backup, |entry| match entry {
        Entry::Piece { at, old, .. } => file.write_all_at(old, at).map_err(io),
        Entry::Written { .. } => Ok(()),
    })?;
    file.sync_all().map_err(io)?;
    Ok(path)
}

/// Fails if a change that was made after that of `backup` is not undone.
///
/// The next one decides: it can be undone only if those behind it are.
fn refuse_if_later(backup: &Path, head: &Head, path: &Path, file: &File) -> Result<()> {
    let number = backup.file_name().and_then(|f| number_of(f, &head.name));
    let Some(number) = number else {
        return Ok(()); // renamed: nothing tells when it was made
    };
    let later: Vec<(PathBuf, State)> = backups_of(path)
        .into_iter()
        .filter(|(n, _)| *n > number)
        // What cannot be read can undo nothing.
        .filter_map(|(_, other)| State::of(&other, file).ok().map(|state| (other, state)))
        .collect();
    if later.first().is_none_or(|(_, state)| *state == State::Old) {
        return Ok(());
    }
    let last = later.iter().rfind(|(_, state)| *state == State::Changed);
    Err(match last {
        Some((other, _)) => {
            let name = other.file_name().unwrap_or_default().display();
            let detail = format!("was changed again: undo {name} first; nothing was restored");
            Error::new(ErrorKind::Conflict, "undo", detail).path(path)
        }
        None => changed_since(backup, path),
    })
}

fn changed_since(backup: &Path, path: &Path) -> Error {
    let name = backup.file_name().unwrap_or_default().display();
    let detail = format!("was changed since {name} was made; nothing was restored");
    Error::new(ErrorKind::Conflict, "undo", detail).path(path)
}

/// What a file is, seen from one of its backups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// As before the change, as far as that concerns it.
    Old,
    /// As the change left it, also if it was cut short.
    Changed,
    /// As somebody else left it.
    Foreign,
}

impl State {
    /// Compares `file` with `backup`.
    fn of(backup: &Path, file: &File) -> Result<Self> {
        let io = |e| Error::io("read", e);
        let mut comparison = Comparison {
            file,
            len: Storage::size(file).map_err(io)?,
            old: true,
            possible: true,
            zeros_from: u64::MAX,
            at: 0,
            piece: Vec::new(),
            known: Vec::new(),
        };
        let head = backup::read(backup, |entry| comparison.entry(&entry).map_err(io))?;
        comparison.end_piece();
        let len = comparison.len;
        let shortest = head.lengths.iter().map(|(low, _)| *low).min();
        let possible = comparison.possible
            && Some(comparison.zeros_from) >= shortest
            && head.lengths.iter().any(|(l, h)| (*l..=*h).contains(&len));
        Ok(match (comparison.old && len == head.size, possible) {
            (true, _) => Self::Old,
            (false, true) => Self::Changed,
            (false, false) => Self::Foreign,
        })
    }
}

/// Holds a file against its backup, piece by piece.
struct Comparison<'a> {
    file: &'a File,
    /// The file's length now.
    len: u64,
    /// So far all bytes are the old ones.
    old: bool,
    /// So far every byte is one that the file had before the change or got by it.
    possible: bool,
    /// The first zero that is neither. It can only lie where the file was cut off, or grew.
    zeros_from: u64,
    /// Offset of the piece under way.
    at: u64,
    /// What the file has there now.
    piece: Vec<u8>,
    /// Which of these bytes are possible.
    known: Vec<bool>,
}

impl Comparison<'_> {
    fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        match entry {
            Entry::Piece { at, len, old } => {
                self.end_piece();
                let end = at.saturating_add(*len as u64).min(self.len);
                let len = crate::disk::part_len(*len, *at.min(&end), end);
                self.at = *at;
                self.piece.resize(len, 0);
                self.file.read_exact_at(&mut self.piece, *at)?;
                self.old &= self.piece.starts_with(old);
                self.known.clear();
                self.known.resize(len, false);
                self.possible_at(0, old);
            }
            Entry::Written { at, bytes } => {
                let skipped = at.saturating_sub(self.at);
                self.possible_at(usize::try_from(skipped).unwrap_or(usize::MAX), bytes);
            }
        }
        Ok(())
    }

    /// The piece may have `bytes` at `start`.
    fn possible_at(&mut self, start: usize, bytes: &[u8]) {
        let now = self.piece.iter().zip(&mut self.known).skip(start);
        for ((now, known), byte) in now.zip(bytes) {
            *known |= now == byte;
        }
    }

    fn end_piece(&mut self) {
        for ((now, known), at) in self.piece.iter().zip(&self.known).zip(self.at..) {
            match (known, now) {
                (true, _) => {}
                (false, 0) => self.zeros_from = self.zeros_from.min(at),
                (false, _) => self.possible = false,
            }
        }
        self.piece.clear();
        self.known.clear();
    }
}
