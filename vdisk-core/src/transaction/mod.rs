//! Changes to the contents of files that exist: all of a change, or none of it.
//!
//! What is replaced is saved first, in a journal beside the file. A change that fails is rolled
//! back; one that is killed leaves its journal, with which [`undo`] restores every byte. Whoever
//! opens the image meanwhile is told ([`unfinished`]).
//!
//! [`patch`](crate::patch) is for small changes that a user may want back days later; this is for
//! changes of any size, which need no going back once they are done.

mod journal;
mod medium;
mod members;
mod recover;
mod saving;

pub use medium::{Files, Medium};
pub(crate) use members::{folder_of, permitted, place, seen_from};
pub use recover::{Unfinished, undo, unfinished};
pub(crate) use recover::{amended, is_journal, is_unfinished, journal_of, refuse_unfinished};

use crate::{
    Error, ErrorKind, InFile, Result,
    bits::Bits,
    patch::{Change, Patch},
    storage::{FileId, ImageFile, Storage},
};
use journal::{Head, Journal, Member, PAGE};
use std::{
    fs::File,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Bytes of writes that are held back at once, until what they replace is saved.
const PENDING: usize = 16 << 20;

/// What is to be changed, and how.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The files, as they were opened for reading. The journal lies beside the first.
    pub files: &'a [&'a ImageFile],
    /// A text from which the change can be made again; kept in the journal.
    pub redo: &'a str,
    /// [`Files`], but in tests.
    pub medium: &'a dyn Medium,
}

/// What a transaction did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Bytes written to the files.
    pub written: u64,
    /// Bytes of old contents saved in the journal.
    pub saved: u64,
    /// Bytes by which the files grow together.
    pub grown: u64,
    /// Bytes at the ends of the files that are cut off together.
    pub cut: u64,
}

/// A change under way. The methods take `&self`, so that a writer can hold one for several files.
pub struct Transaction<'a> {
    medium: &'a dyn Medium,
    members: Vec<Opened>,
    /// False if nothing is to be written, only counted.
    real: bool,
    state: Mutex<State>,
}

struct Opened {
    id: FileId,
    path: PathBuf,
    /// For reading as before the change.
    image: ImageFile,
    /// For all else; none in a dry run.
    file: Option<File>,
    size: u64,
}

struct State {
    journal: Option<Journal>,
    members: Vec<Progress>,
    pending: Vec<Pending>,
    pending_bytes: usize,
    totals: Totals,
    releases: Vec<(usize, Range<u64>)>,
}

struct Progress {
    /// The length it has for the change.
    len: u64,
    /// The length that the journal says it may have.
    longest: u64,
    /// True if the file itself is still longer: cut last, so that nobody takes the room that a
    /// way back would need.
    uncut: bool,
    /// Pages that are saved, or need not be.
    safe: Bits,
}

struct Pending {
    member: usize,
    at: u64,
    bytes: Vec<u8>,
}

/// Runs `change` as one transaction: when it returns an error, nothing is changed.
///
/// ```
/// use vdisk_core::{storage::{Access, ImageFile}, transaction::{self, Files, Work}};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("a.raw");
/// std::fs::write(&path, b"old bytes").unwrap();
/// let file = ImageFile::open(&path, Access::Positioned)?;
/// let work = Work { files: &[&file], redo: "", medium: &Files };
/// transaction::run(&work, |t| t.write(&file, 0, b"new"))?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"new bytes");
/// # Ok::<(), vdisk_core::Error>(())
/// ```
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) if a file is in use, was changed since it was opened, or if an
/// earlier change of it was cut short; those of `change`, which then say that nothing was changed,
/// or where the journal is if even rolling back failed.
pub fn run<T>(
    work: &Work<'_>,
    change: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<(T, Totals)> {
    let transaction = Transaction::begin(work)?;
    let done = change(&transaction).and_then(|value| {
        transaction.flush_files()?;
        transaction.cut_files()?;
        Ok(value)
    });
    match done {
        Ok(value) => Ok((value, transaction.commit()?)),
        Err(error) => Err(transaction.roll_back(&error)),
    }
}

/// Runs `change` without writing anything: tells what it would write.
///
/// Reading gives what was there before; what the change wrote is not seen.
pub fn rehearse<T>(
    files: &[&ImageFile],
    change: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<(T, Totals)> {
    let members = files
        .iter()
        .map(|image| {
            Ok(Opened {
                id: identity(image)?,
                path: image.path().to_owned(),
                image: (*image).clone(),
                file: None,
                size: image.size,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let transaction = Transaction::new(&Files, members, None);
    let value = change(&transaction)?;
    let totals = transaction.totals();
    Ok((value, totals))
}

impl<'a> Transaction<'a> {
    fn begin(work: &Work<'a>) -> Result<Self> {
        let mut members = Vec::new();
        for image in work.files {
            let id = identity(image)?;
            if members.iter().all(|m: &Opened| m.id != id) {
                members.push(open(image, id)?);
            }
        }
        let Some(first) = members.first() else {
            return Err(Error::new(ErrorKind::Usage, "change", "has no files"));
        };
        for member in &members {
            recover::refuse_unfinished(&member.path)?;
        }
        let path = recover::journal_path(&first.path);
        let folder = folder_of(&first.path)?;
        let head = Head {
            redo: work.redo.to_owned(),
            members: members
                .iter()
                .map(|member| {
                    Ok(Member {
                        path: seen_from(&folder, &member.path)?,
                        size: member.size,
                    })
                })
                .collect::<Result<_>>()?,
        };
        let journal = Journal::create(work.medium, &path, &head)
            .map_err(|e| recover::amended(&e, "nothing was changed"))?;
        Ok(Self::new(work.medium, members, Some(journal)))
    }

    fn new(medium: &'a dyn Medium, members: Vec<Opened>, journal: Option<Journal>) -> Self {
        let progress = members.iter().map(|member| Progress {
            len: member.size,
            longest: member.size,
            uncut: false,
            safe: Bits::new(member.size.div_ceil(PAGE)),
        });
        let state = State {
            members: progress.collect(),
            pending: Vec::new(),
            pending_bytes: 0,
            totals: Totals::default(),
            releases: Vec::new(),
            // Set last, so that the order of fields does not matter.
            journal: None,
        };
        let real = journal.is_some();
        Self {
            medium,
            members,
            real,
            state: Mutex::new(State { journal, ..state }),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, file: &ImageFile) -> Result<(usize, &Opened)> {
        let id = identity(file)?;
        let found = self.members.iter().enumerate().find(|(_, m)| m.id == id);
        found.ok_or_else(|| {
            let detail = "is not one of the files that are being changed";
            Error::new(ErrorKind::Usage, "change", detail).path(file.path())
        })
    }

    /// False in a rehearsal: nothing is written, and what was written is not read.
    pub fn is_real(&self) -> bool {
        self.real
    }

    /// The length of `file` as changed so far, in bytes.
    pub fn size(&self, file: &ImageFile) -> Result<u64> {
        let (number, member) = self.member(file)?;
        Ok(self
            .state()
            .members
            .get(number)
            .map_or(member.size, |m| m.len))
    }

    /// Fills `buf` from `at`, as changed so far.
    pub fn read_at(&self, file: &ImageFile, at: u64, buf: &mut [u8]) -> Result<()> {
        let (number, member) = self.member(file)?;
        let Some(opened) = &member.file else {
            return member.image.read_at(at, buf);
        };
        let end = at.saturating_add(buf.len() as u64);
        let mut state = self.state();
        let overlaps = |p: &Pending| {
            p.member == number && p.at < end && at < p.at.saturating_add(p.bytes.len() as u64)
        };
        // Until the end of the file is written, a gap before it is none yet.
        let short = || opened.metadata().is_ok_and(|m| m.len() < end);
        if state.pending.iter().any(overlaps) || short() {
            self.write_pending(&mut state)?;
        }
        opened
            .read_exact_at(buf, at)
            .map_err(|e| Error::io("read", e).at(at).path(&member.path))
    }

    /// Writes `bytes` at `at`, growing the file if needed. What it replaces is saved before.
    pub fn write(&self, file: &ImageFile, at: u64, bytes: &[u8]) -> Result<()> {
        let (number, _) = self.member(file)?;
        let end = at.checked_add(bytes.len() as u64).ok_or_else(|| {
            Error::new(ErrorKind::OutOfRange, "write", "goes past any file").path(file.path())
        })?;
        let mut state = self.state();
        self.save(&mut state, number, at..end)?;
        if state.members.get(number).is_some_and(|m| end > m.len) {
            self.cut(&mut state, number)?;
        }
        state.totals.written += bytes.len() as u64;
        if let Some(progress) = state.members.get_mut(number) {
            progress.len = progress.len.max(end);
        }
        if !self.real {
            return Ok(());
        }
        state.pending_bytes += bytes.len();
        state.pending.push(Pending {
            member: number,
            at,
            bytes: bytes.to_vec(),
        });
        match state.pending_bytes >= PENDING {
            true => self.write_pending(&mut state),
            false => Ok(()),
        }
    }

    /// Says that before the change nothing refers to `range`, so what lies there need not be saved.
    pub fn disregard(&self, file: &ImageFile, range: Range<u64>) -> Result<()> {
        let (number, _) = self.member(file)?;
        let pages = range.start.div_ceil(PAGE)..range.end / PAGE;
        if let Some(progress) = self.state().members.get_mut(number) {
            progress.safe.add(pages);
        }
        Ok(())
    }

    /// Cuts or extends the file; new bytes are zero. What is cut off is saved before.
    pub fn set_len(&self, file: &ImageFile, len: u64) -> Result<()> {
        let (number, member) = self.member(file)?;
        let mut state = self.state();
        self.save_cut(&mut state, number, len)?;
        let Some(progress) = state.members.get_mut(number) else {
            return Ok(());
        };
        let shorter = len < progress.len;
        if shorter {
            (progress.len, progress.uncut) = (len, true);
            return Ok(());
        }
        self.cut(&mut state, number)?;
        if let Some(progress) = state.members.get_mut(number) {
            progress.len = len;
        }
        self.note_growth(&mut state, number, len)?;
        self.write_pending(&mut state)?;
        self.set_file_len(member, len)
    }

    /// Makes the changes of `patches` as part of this one.
    pub fn patch(&self, patches: &[Patch]) -> Result<()> {
        for Patch { file, change } in patches {
            match change {
                Change::Write { at, bytes } => self.write(file, *at, bytes)?,
                Change::Copy { from, at, len } => self.copy(file, *from, *at, *len)?,
                Change::Resize(len) => self.set_len(file, *len)?,
                Change::Replace(bytes) => {
                    self.write(file, 0, bytes)?;
                    self.set_len(file, bytes.len() as u64)?;
                }
                Change::Flush => self.barrier()?,
            }
        }
        Ok(())
    }

    /// Copies `len` bytes within the file; the ranges do not overlap.
    pub fn copy(&self, file: &ImageFile, from: u64, at: u64, len: u64) -> Result<()> {
        let mut done = 0;
        while done < len {
            let part = (len - done).min(1 << 20);
            let mut bytes = vec![0; crate::units::buffer_len(part)?];
            self.read_at(file, from.saturating_add(done), &mut bytes)?;
            self.write(file, at.saturating_add(done), &bytes)?;
            done += part;
        }
        Ok(())
    }

    /// Orders what comes after this behind what came before, also when the power fails.
    pub fn barrier(&self) -> Result<()> {
        self.flush_files()
    }

    /// Says that `range` belongs to nothing any more: its blocks are given back once the change is
    /// done, where the file system can do that. The file's length stays.
    pub fn release(&self, file: &ImageFile, range: Range<u64>) -> Result<()> {
        let (number, _) = self.member(file)?;
        if !range.is_empty() {
            self.state().releases.push((number, range));
        }
        Ok(())
    }

    /// What was done so far.
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let mut totals = state.totals;
        for (member, progress) in self.members.iter().zip(&state.members) {
            totals.grown += progress.len.saturating_sub(member.size);
            totals.cut += member.size.saturating_sub(progress.len);
        }
        totals
    }

    /// All is on the medium: the journal goes, and with it the way back.
    fn commit(self) -> Result<Totals> {
        let totals = self.totals();
        let state = self.state();
        if let Some(journal) = &state.journal {
            let path = journal.path();
            self.medium.remove(path).map_err(|e| {
                let error = Error::io("journal", e);
                let detail = format!(
                    "{}; the change is done, but its journal could not be removed",
                    error.detail()
                );
                Error::new(error.kind(), "journal", detail).path(path)
            })?;
        }
        for (number, range) in &state.releases {
            if let Some(Opened {
                file: Some(file), ..
            }) = self.members.get(*number)
            {
                // Not every file system can; the image is whole either way.
                let _ = self.medium.punch(file, range.clone());
            }
        }
        Ok(totals)
    }

    /// Restores all files. Returns `error` with what became of them.
    fn roll_back(self, error: &Error) -> Error {
        let journal = self.state().journal.take();
        let Some(journal) = journal else {
            return recover::amended(error, "nothing was changed");
        };
        let path = journal.path().to_owned();
        drop(journal);
        let files = self.members.iter().filter_map(|m| m.file.as_ref());
        match recover::restore(self.medium, &path, &files.collect::<Vec<_>>()) {
            Ok(()) => recover::amended(error, "nothing was changed"),
            Err(_) => recover::amended(
                error,
                &format!(
                    "some of it may be written, and could not be taken back now: '{}' holds what is needed for that",
                    path.display()
                ),
            ),
        }
    }
}

fn identity(file: &ImageFile) -> Result<FileId> {
    // A part of an archive has the archive's identity, but other offsets.
    let own = file.tag.id.filter(|_| file.part_of.is_none());
    own.ok_or_else(|| {
        let detail = "is not a file of its own, so it cannot be changed";
        Error::new(ErrorKind::Unsupported, "change", detail).path(file.path())
    })
}

/// Opens `image` for writing, if it is still what was opened for reading and nobody else has it.
fn open(image: &ImageFile, id: FileId) -> Result<Opened> {
    let named = image.path();
    let path = canonical(named)?;
    let file = crate::lock::open(&path).map_err(|e| e.path(named))?;
    let metadata = file
        .metadata()
        .map_err(|e| Error::io("open", e))
        .in_file(named)?;
    let size = Storage::size(&file)
        .map_err(|e| Error::io("open", e))
        .in_file(named)?;
    if !metadata.is_file() {
        let detail = "is a device, and only files are changed in place";
        return Err(Error::new(ErrorKind::Unsupported, "change", detail).path(named));
    }
    if metadata.nlink() > 1 {
        let detail = format!(
            "has {} names (hard links), and all would change with it; make a copy first",
            metadata.nlink()
        );
        return Err(Error::new(ErrorKind::Conflict, "change", detail).path(named));
    }
    if FileId::of(&metadata) != id || size != image.size {
        let detail = "was changed by another program meanwhile; nothing was written";
        return Err(Error::new(ErrorKind::Conflict, "change", detail).path(named));
    }
    Ok(Opened {
        id,
        path,
        image: image.clone(),
        file: Some(file),
        size,
    })
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .map_err(|e| Error::io("open", e))
        .in_file(path)
}
