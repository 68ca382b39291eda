//! Changes to files that exist: planned as a list, applied after what they replace was saved.
//!
//! The only place in the crate that writes to a file it did not make. So every repair and every
//! edit can be shown first, and undone afterwards.

mod backup;
mod stages;
mod undo;

pub use undo::undo;

use crate::{
    Error, ErrorKind, InFile, Result,
    storage::{FileId, ImageFile},
};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, fchown},
    path::{Path, PathBuf},
};

/// One step of changing a file.
#[derive(Clone)]
pub struct Patch {
    /// The file, as it was opened for reading: it must not have changed since.
    pub file: ImageFile,
    /// What is done to it.
    pub change: Change,
}

/// What a [`Patch`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes `bytes` at the file offset `at`.
    Write {
        /// Where.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Copies `len` bytes of the file from the offset `from` to the offset `at`; neither range is
    /// past the end, and they do not overlap. For tables of any size, which need not be held.
    Copy {
        /// Where from.
        from: u64,
        /// Where to.
        at: u64,
        /// How many bytes.
        len: u64,
    },
    /// Makes the file this long; new bytes are zero.
    Resize(u64),
    /// Puts a new file of these bytes in its place, in one step, so that it is never half written.
    /// The only step for its file.
    Replace(Vec<u8>),
    /// Waits until all steps before this one are on the medium.
    Flush,
}

impl Patch {
    /// Writes `bytes` at `at`.
    pub fn write(file: &ImageFile, at: u64, bytes: Vec<u8>) -> Self {
        Self {
            file: file.clone(),
            change: Change::Write { at, bytes },
        }
    }

    /// Copies `len` bytes from `from` to `at`.
    pub fn copy(file: &ImageFile, from: u64, at: u64, len: u64) -> Self {
        Self {
            file: file.clone(),
            change: Change::Copy { from, at, len },
        }
    }

    /// Makes the file `size` bytes long.
    pub fn resize(file: &ImageFile, size: u64) -> Self {
        Self {
            file: file.clone(),
            change: Change::Resize(size),
        }
    }

    /// Replaces the file as a whole: for small texts.
    pub fn replace(file: &ImageFile, bytes: Vec<u8>) -> Self {
        Self {
            file: file.clone(),
            change: Change::Replace(bytes),
        }
    }

    /// Orders what comes after this behind what came before, also when the power fails.
    pub fn flush(file: &ImageFile) -> Self {
        Self {
            file: file.clone(),
            change: Change::Flush,
        }
    }
}

impl std::fmt::Debug for Patch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.file.path().display();
        match &self.change {
            Change::Write { at, bytes } => write!(f, "{path}: {} bytes at {at:#x}", bytes.len()),
            Change::Copy { from, at, len } => {
                write!(f, "{path}: {len} bytes from {from:#x} to {at:#x}")
            }
            Change::Resize(size) => write!(f, "{path}: size {size}"),
            Change::Replace(bytes) => write!(f, "{path}: {} bytes instead of all", bytes.len()),
            Change::Flush => write!(f, "{path}: flush"),
        }
    }
}

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// Applies `patches` in order. Returns the backups that were made beside the files, one a file.
///
/// All that will be replaced is saved and flushed first; [`undo()`] restores it. Fails before
/// anything is written if a file is not the one that was opened, or has another length, or is
/// locked by another program.
///
/// ```
/// use vdisk_core::{patch::{self, Patch}, storage::{Access, ImageFile}};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("a.raw");
/// std::fs::write(&path, b"old bytes").unwrap();
/// let file = ImageFile::open(&path, Access::Positioned)?;
/// let backups = patch::apply(&[Patch::write(&file, 0, b"new".to_vec())])?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"new bytes");
/// patch::undo(&backups[0])?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"old bytes");
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn apply(patches: &[Patch]) -> Result<Vec<PathBuf>> {
    let mut open: Vec<(FileId, File)> = Vec::new();
    for patch in patches {
        let id = identity(&patch.file)?;
        if open.iter().all(|(known, _)| *known != id) {
            open.push((id, writable(&patch.file, id)?));
        }
    }
    let mut backups = Vec::new();
    for (id, file) in &open {
        let own: Vec<&Patch> = patches
            .iter()
            .filter(|p| p.file.tag.id == Some(*id))
            .collect();
        match backup::save(file, &own) {
            Ok(backup) => backups.extend(backup),
            Err(error) => {
                // Nothing was changed yet: backups that undo nothing would only confuse.
                for backup in &backups {
                    let _ = std::fs::remove_file(backup);
                }
                return Err(error);
            }
        }
    }
    write(patches, &open).map_err(|error| match backups.is_empty() {
        true => error,
        false => half_done(&error, &backups),
    })?;
    Ok(backups)
}

/// Makes the changes in the files that were opened for it.
fn write(patches: &[Patch], open: &[(FileId, File)]) -> Result<()> {
    for patch in patches {
        let path = patch.file.path();
        let Some((_, file)) = open.iter().find(|(id, _)| patch.file.tag.id == Some(*id)) else {
            continue; // all were opened above
        };
        let done = match &patch.change {
            Change::Write { at, bytes } => file.write_all_at(bytes, *at),
            Change::Copy { from, at, len } => copy_within(file, *from, *at, *len),
            Change::Resize(size) => file.set_len(*size),
            Change::Replace(bytes) => replace(path, file, bytes),
            Change::Flush => file.sync_all(),
        };
        done.map_err(|e| Error::io("write", e)).in_file(path)?;
    }
    for (_, file) in open {
        file.sync_all().map_err(|e| Error::io("flush", e))?;
    }
    Ok(())
}

/// Says where what was replaced is kept, after a change that failed half-way.
fn half_done(error: &Error, backups: &[PathBuf]) -> Error {
    let names: Vec<String> = backups
        .iter()
        .map(|backup| format!("'{}'", backup.display()))
        .collect();
    let detail = format!(
        "{}; some of it may be written, and what was replaced is kept in {}",
        error.detail(),
        names.join(" and ")
    );
    let half = Error::new(error.kind(), error.part().to_owned(), detail);
    match error.file() {
        Some(path) => half.path(path),
        None => half,
    }
}

/// Puts a file of `bytes` in the place of `old`, which is at `path`. Links stay links.
fn replace(path: &Path, old: &File, bytes: &[u8]) -> io::Result<()> {
    let path = path.canonicalize()?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::Builder::new()
        .prefix(".vdisk-")
        .suffix(".partial")
        .tempfile_in(folder)?;
    new.write_all(bytes)?;
    let metadata = old.metadata()?;
    // Only root can give files away; others own both already.
    let _ = fchown(new.as_file(), Some(metadata.uid()), Some(metadata.gid()));
    new.as_file().set_permissions(metadata.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}

fn identity(file: &ImageFile) -> Result<FileId> {
    // A part of an archive has the archive's identity, but other offsets.
    let own = file.tag.id.filter(|_| file.part_of.is_none());
    own.ok_or_else(|| {
        let detail = "is not a file of its own, so it cannot be changed";
        Error::new(ErrorKind::Unsupported, "change", detail).path(file.path())
    })
}

/// Opens `file` for writing, if it is still what was opened for reading and nobody else has it.
fn writable(file: &ImageFile, id: FileId) -> Result<File> {
    let path = file.path();
    let opened = crate::lock::open(path)?;
    let metadata = opened
        .metadata()
        .map_err(|e| Error::io("open", e))
        .in_file(path)?;
    let size = crate::storage::Storage::size(&opened)
        .map_err(|e| Error::io("open", e))
        .in_file(path)?;
    if FileId::of(&metadata) != id || size != file.size {
        let detail = "was changed by another program meanwhile; nothing was written";
        return Err(Error::new(ErrorKind::Conflict, "change", detail).path(path));
    }
    Ok(opened)
}

fn copy_within(file: &File, from: u64, at: u64, len: u64) -> io::Result<()> {
    let mut buf = vec![0; PIECE];
    let mut done = 0;
    while done < len {
        let part = buf
            .get_mut(..crate::disk::part_len(PIECE, done, len))
            .unwrap_or_default();
        file.read_exact_at(part, from.saturating_add(done))?;
        file.write_all_at(part, at.saturating_add(done))?;
        done += part.len() as u64;
    }
    Ok(())
}
