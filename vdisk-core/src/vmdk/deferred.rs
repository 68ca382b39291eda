//! What is written only when all before it is on the medium: tables, and the lengths of files.
//!
//! A barrier for each table would be a flush for each 32 MiB of disk.

use crate::{Result, storage::ImageFile, transaction::Transaction};

/// Bytes of tables that wait at most.
const WAITING: usize = 4 << 20;

/// See the module.
pub(super) struct Deferred<'a> {
    transaction: &'a Transaction<'a>,
    writes: Vec<(&'a ImageFile, u64, Vec<u8>)>,
    lengths: Vec<(&'a ImageFile, u64)>,
    bytes: usize,
}

impl<'a> Deferred<'a> {
    pub(super) fn new(transaction: &'a Transaction<'a>) -> Self {
        Self {
            transaction,
            writes: Vec::new(),
            lengths: Vec::new(),
            bytes: 0,
        }
    }

    /// Writes `bytes` at `at` later.
    pub(super) fn add(&mut self, file: &'a ImageFile, at: u64, bytes: Vec<u8>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.writes.push((file, at, bytes));
        match self.bytes >= WAITING {
            true => self.settle(),
            false => Ok(()),
        }
    }

    /// Makes the file at least `len` bytes long before anything refers to its end.
    pub(super) fn reach(&mut self, file: &'a ImageFile, len: u64) {
        match self.lengths.last_mut() {
            Some((last, known)) if last.tag.id == file.tag.id => *known = len.max(*known),
            _ => self.lengths.push((file, len)),
        }
    }

    /// Writes all that waits.
    pub(super) fn settle(&mut self) -> Result<()> {
        for (file, len) in self.lengths.drain(..) {
            if self.transaction.size(file)? < len {
                self.transaction.set_len(file, len)?;
            }
        }
        if !self.writes.is_empty() {
            self.transaction.barrier()?;
        }
        for (file, at, bytes) in self.writes.drain(..) {
            self.transaction.write(file, at, &bytes)?;
        }
        self.bytes = 0;
        Ok(())
    }
}
