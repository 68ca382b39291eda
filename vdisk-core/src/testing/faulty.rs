//! A medium that fails: at the n-th operation a write is torn, the program dies, the power goes, or
//! there is no room left.

use crate::{
    transaction::Medium,
    units::{SECTOR, round_down},
};
use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What happens at the operation that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not made, nor is any after it: the program was killed.
    Killed,
    /// About half of the write is made, in whole sectors, and nothing after it.
    Torn,
    /// Nothing after it is made, and of all that was not flushed any part is lost: which, follows
    /// from the number.
    PowerLoss(u64),
    /// From here on nothing can grow; all else goes on.
    Full,
}

/// See [`Fault`].
pub struct Faulty {
    fault: Fault,
    good: u64,
    made: AtomicU64,
    /// What was not flushed, oldest first.
    unsynced: Mutex<Vec<Written>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Good,
    Fails,
    Dead,
}

struct Written {
    file: File,
    inode: u64,
    at: u64,
    old: Vec<u8>,
    new: Vec<u8>,
    old_len: u64,
    new_len: u64,
}

impl Faulty {
    /// Makes `good` operations, then fails.
    pub fn new(fault: Fault, good: u64) -> Self {
        Self {
            fault,
            good,
            made: AtomicU64::new(0),
            unsynced: Mutex::default(),
        }
    }

    /// True if the operation that fails was reached.
    pub fn failed(&self) -> bool {
        self.made.load(Ordering::SeqCst) > self.good
    }

    /// Counts an operation, and says which it is.
    fn next(&self) -> Turn {
        match self.made.fetch_add(1, Ordering::SeqCst) {
            number if number < self.good => Turn::Good,
            number if number == self.good => {
                self.lose();
                Turn::Fails
            }
            _ => Turn::Dead,
        }
    }

    /// The error of an operation that is not made.
    fn dead<T>() -> io::Result<T> {
        Err(io::Error::other("the medium fails, as it was asked to"))
    }

    /// Loses a part of what was not flushed.
    fn lose(&self) {
        let Fault::PowerLoss(seed) = self.fault else {
            return;
        };
        let mut state = seed | 1;
        let mut unsynced = self.lock();
        for w in unsynced.iter().rev() {
            let _ = w.file.set_len(w.old_len);
            let _ = w.file.write_all_at(&w.old, w.at);
            let _ = w.file.set_len(w.old_len);
        }
        for w in unsynced.drain(..) {
            // xorshift: which writes survive only has to vary.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state & 1 == 1 {
                let _ = w.file.write_all_at(&w.new, w.at);
                let _ = w.file.set_len(w.new_len);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Written>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what `range` holds, before it is changed.
    fn remember(&self, file: &File, range: Range<u64>, new: &[u8], new_len: u64) -> io::Result<()> {
        if !matches!(self.fault, Fault::PowerLoss(_)) {
            return Ok(());
        }
        let metadata = file.metadata()?;
        let end = range.end.min(metadata.len());
        let len = usize::try_from(end.saturating_sub(range.start)).unwrap_or(0);
        let mut old = vec![0; len];
        file.read_exact_at(&mut old, range.start)?;
        self.lock().push(Written {
            file: file.try_clone()?,
            inode: metadata.ino(),
            at: range.start,
            old,
            new: new.to_vec(),
            old_len: metadata.len(),
            new_len,
        });
        Ok(())
    }
}

impl Medium for Faulty {
    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = at + bytes.len() as u64;
        let turn = self.next();
        let size = file.metadata()?.len();
        match (turn, self.fault) {
            (Turn::Fails | Turn::Dead, Fault::Full) if end > size => {
                Err(io::ErrorKind::StorageFull.into())
            }
            (Turn::Fails, Fault::Torn) => {
                // Sectors are written whole or not at all, as by any medium.
                let half = round_down(at + bytes.len() as u64 / 2, SECTOR).saturating_sub(at);
                let half = bytes.get(..usize::try_from(half).unwrap_or(0));
                file.write_all_at(half.unwrap_or_default(), at)?;
                Self::dead()
            }
            (Turn::Fails | Turn::Dead, Fault::Killed | Fault::Torn | Fault::PowerLoss(_)) => {
                Self::dead()
            }
            _ => {
                self.remember(file, at..end, bytes, size.max(end))?;
                file.write_all_at(bytes, at)
            }
        }
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        let good = self.next() == Turn::Good;
        let size = file.metadata()?.len();
        match (good, self.fault) {
            (false, Fault::Full) if len > size => Err(io::ErrorKind::StorageFull.into()),
            (true, _) | (false, Fault::Full) => {
                self.remember(file, len..size.max(len), &[], len)?;
                file.set_len(len)
            }
            _ => Self::dead(),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.next() != Turn::Good && self.fault != Fault::Full {
            return Self::dead();
        }
        let inode = file.metadata()?.ino();
        self.lock().retain(|w| w.inode != inode);
        Ok(())
    }

    fn punch(&self, file: &File, range: Range<u64>) -> io::Result<()> {
        if self.next() != Turn::Good && self.fault != Fault::Full {
            return Self::dead();
        }
        crate::transaction::Files.punch(file, range)
    }

    fn publish(&self, file: tempfile::NamedTempFile, path: &Path) -> io::Result<File> {
        if self.next() != Turn::Good {
            return match self.fault {
                Fault::Full => Err(io::ErrorKind::StorageFull.into()),
                _ => Self::dead(),
            };
        }
        // Not flushed, as nothing here is: `lose` says what a power failure leaves.
        file.persist_noclobber(path).map_err(|e| e.error)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.next() != Turn::Good && self.fault != Fault::Full {
            return Self::dead();
        }
        fs::remove_file(path)
    }
}
