//! What a transaction does to the world: every write, flush and rename goes through here.
//!
//! A trait, so that tests can let any one of them fail, tear it, or lose what was not flushed.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

/// Changes files. The methods do what the operating system does; tests override them.
pub trait Medium: Send + Sync {
    /// Writes all of `bytes` at `at`.
    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }
    /// Cuts or extends the file; new bytes are zero.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }
    /// Waits until the file is on the medium.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }
    /// Gives the blocks of `range` back; it reads as zero. The length stays.
    fn punch(&self, file: &File, range: Range<u64>) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(
            file,
            flags,
            range.start,
            range.end - range.start,
        )?)
    }
    /// Gives a new file its name, which must be free, and flushes the folder.
    fn publish(&self, file: tempfile::NamedTempFile, path: &Path) -> io::Result<File> {
        let file = file.persist_noclobber(path).map_err(|e| e.error)?;
        sync_folder(path)?;
        Ok(file)
    }
    /// Removes a file, and flushes the folder.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        sync_folder(path)
    }
}

/// The files of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Files;

impl Medium for Files {}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
