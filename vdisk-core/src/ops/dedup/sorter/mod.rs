//! Sorting more than fits in memory.
//!
//! Whoever counts wants equal things side by side. There may be more of them than memory, so full
//! buffers are sorted, and merged from a temporary file in the end.

mod runs;
#[cfg(test)]
mod tests;

use crate::{Error, ErrorKind, Job, Result};
use runs::Runs;
use std::path::Path;

/// What is sorted: small, of one length, with equal ones combined into one.
pub(super) trait Record: Copy + Send + Sync {
    /// Bytes of a record in a file.
    const LEN: usize;
    /// What it is sorted by.
    type Key: Ord + Copy + Send;
    fn key(&self) -> Self::Key;
    /// Takes up `next`, which has the same key. Records of one key come in any order, and some may
    /// be combined before they meet the others.
    fn combine(&mut self, next: &Self);
    /// True if it says nothing (any more), and may be dropped.
    fn is_void(&self) -> bool;
    /// Fills `bytes`, which are [`LEN`](Self::LEN).
    fn write(&self, bytes: &mut [u8]);
    /// Reads what [`write`](Self::write) wrote.
    fn read(bytes: &[u8]) -> Self;
}

/// Takes records in any order and gives them back sorted and combined, within `memory` bytes; what
/// does not fit is written to an unnamed file in `temp`, which vanishes with the process.
///
/// The file takes the combined records of each full buffer once. If there are more buffers than
/// can be merged at once (one for each 8 KiB of memory, up to 256), some are merged into one
/// before: while that happens, these are there twice.
pub(super) struct Sorter<R> {
    /// Allocated whole at the first record, so that it never grows by a copy.
    records: Vec<R>,
    /// How many that are.
    capacity: usize,
    runs: Runs<R>,
}

impl<R: Record> Sorter<R> {
    /// Takes at least 24 KiB when it merges, whatever `memory` says.
    pub(super) fn new(memory: u64, temp: &Path) -> Self {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        let runs = Runs::new(memory, temp);
        let capacity = (memory - runs.piece().min(memory)) / size_of::<R>();
        Self {
            records: Vec::new(),
            capacity: capacity.max(16),
            runs,
        }
    }

    pub(super) fn push(&mut self, record: R, job: &Job<'_>) -> Result<()> {
        if self.records.len() == self.records.capacity() {
            self.make_room(job)?;
        }
        self.records.push(record);
        Ok(())
    }

    /// Bytes written to the file so far.
    pub(super) fn spilled(&self) -> u64 {
        self.runs.written()
    }

    /// Hands all records to `sink`, ascending by key, one for each key, without void ones. Returns
    /// how many bytes were written to the file in all.
    pub(super) fn drain(
        mut self,
        job: &Job<'_>,
        sink: &mut dyn FnMut(R) -> Result<()>,
    ) -> Result<u64> {
        self.sort(job)?;
        if self.spilled() == 0 {
            for records in self.records.chunks(runs::STEPS) {
                job.advance(0)?;
                records.iter().try_for_each(|r| sink(*r))?;
            }
            return Ok(0);
        }
        self.runs.add(&self.records, job)?;
        drop(self.records); // its memory is for merging now
        self.runs.drain(job, sink)
    }

    /// Combines what is in the buffer, and writes it to the file unless half of it is free then.
    fn make_room(&mut self, job: &Job<'_>) -> Result<()> {
        if self.records.capacity() == 0 {
            return self.allocate();
        }
        self.sort(job)?;
        if self.records.len() > self.records.capacity() / 2 {
            self.runs.add(&self.records, job)?;
            self.records.clear();
        }
        Ok(())
    }

    /// Pages that are never touched cost nothing.
    fn allocate(&mut self) -> Result<()> {
        let refused = |e| {
            let bytes = self.capacity.saturating_mul(size_of::<R>());
            let detail = format!("the system does not give {bytes} bytes for sorting");
            Error::new(ErrorKind::Io, "memory", detail).because(e)
        };
        self.records
            .try_reserve_exact(self.capacity)
            .map_err(refused)
    }

    fn sort(&mut self, job: &Job<'_>) -> Result<()> {
        job.advance(0)?;
        job.sort(&mut self.records, R::key)?;
        self.records.dedup_by(|next, kept| {
            let same = next.key() == kept.key();
            if same {
                kept.combine(next);
            }
            same
        });
        self.records.retain(|r| !r.is_void());
        Ok(())
    }
}
