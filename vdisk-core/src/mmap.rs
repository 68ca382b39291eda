//! Memory-mapped storage: the one module with `unsafe`.
//!
//! Opt-in, because a mapped file that another process truncates raises SIGBUS, which ends this
//! process; a positioned read only fails.
#![expect(unsafe_code, reason = "memory maps cannot be made safely")]

use crate::storage::{Span, Storage};
use std::{fs::File, io};

/// A file read through a memory map.
pub(crate) struct Mapped {
    map: memmap2::Mmap,
    file: File,
}

impl Mapped {
    /// Maps all of `file` as it is now.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let len = usize::try_from(Storage::size(&file)?)
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: the map is only read, and only copied out of, so no reference into it outlives a
        // call. Another process may change the bytes: they are untrusted anyway. It may truncate
        // the file: that ends this process with SIGBUS, which is documented where the caller opts
        // in (`Access::Mapped`).
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(&file)? };
        Ok(Self { map, file })
    }
}

impl Storage for Mapped {
    fn size(&self) -> io::Result<u64> {
        Ok(self.map.len() as u64)
    }

    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(pos)
            .ok()
            .and_then(|start| self.map.get(start..start.checked_add(buf.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn span_at(&self, pos: u64) -> io::Result<Span> {
        self.file.span_at(pos)
    }
}
