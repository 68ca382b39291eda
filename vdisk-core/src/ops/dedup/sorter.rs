//! Sorting more than fits in memory.

use crate::{Job, Result};
use std::path::Path;

/// What is sorted: small, of one length, with equal ones combined into one.
pub(super) trait Record: Copy + Send + Sync {
    /// Bytes of a record in a file.
    const LEN: usize;
    /// What it is sorted by.
    type Key: Ord + Copy + Send;
    fn key(&self) -> Self::Key;
    /// Takes up `next`, which has the same key.
    fn combine(&mut self, next: &Self);
    /// True if it says nothing (any more), and may be dropped.
    fn is_void(&self) -> bool;
    fn write(&self, bytes: &mut [u8]);
    fn read(bytes: &[u8]) -> Self;
}

/// Takes records in any order and gives them back sorted and combined, within `memory` bytes; what
/// does not fit is written to an unnamed file in `temp`, which vanishes with the process.
pub(super) struct Sorter<R> {
    _record: Vec<R>,
}

impl<R: Record> Sorter<R> {
    pub(super) fn new(memory: u64, temp: &Path) -> Self {
        let _ = (memory, temp);
        todo!("sorter")
    }

    pub(super) fn push(&mut self, record: R, job: &Job<'_>) -> Result<()> {
        let _ = (record, job);
        todo!("sorter")
    }

    /// Bytes written to the file so far.
    pub(super) fn spilled(&self) -> u64 {
        todo!("sorter")
    }

    /// Hands all records to `sink`, ascending by key, one for each key, without void ones.
    pub(super) fn drain(self, job: &Job<'_>, sink: &mut dyn FnMut(R) -> Result<()>) -> Result<()> {
        let _ = (job, sink);
        todo!("sorter")
    }
}
