//! What a file holds after each step of a change, told before it is made.
//!
//! A change can be cut short at any byte. So a backup keeps not only what the change replaces but
//! also what each of its steps writes, and an undo knows every state that it may find.

use super::{Change, Patch};
use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

/// The steps that are to be made in one file.
pub(super) struct Stages<'a> {
    pub(super) file: &'a File,
    /// Its length before the first step, in bytes.
    pub(super) size: u64,
    pub(super) patches: &'a [&'a Patch],
}

impl Stages<'_> {
    /// The lengths that the file has on the way, also within a step: ranges with both ends.
    pub(super) fn lengths(&self) -> Vec<(u64, u64)> {
        let mut len = self.size;
        let mut lengths = vec![(len, len)];
        for patch in self.patches {
            let (low, high) = match &patch.change {
                Change::Resize(new) => (*new, *new),
                Change::Replace(bytes) => (bytes.len() as u64, bytes.len() as u64),
                change => match place(change) {
                    // Appended byte by byte, behind zeros if it begins further back.
                    Some(place) if place.end > len => (len.max(place.start), place.end),
                    _ => continue,
                },
            };
            len = high;
            match lengths.last_mut() {
                Some((_, last)) if *last == low => *last = high,
                _ => lengths.push((low, high)),
            }
        }
        lengths
    }

    /// All that changes, cuts and growth included: ascending, joined.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        let longest = self.lengths().iter().map(|(_, high)| *high).max();
        let grown = self.size..longest.unwrap_or(self.size);
        let mut all: Vec<Range<u64>> = self
            .patches
            .iter()
            .filter_map(|patch| match &patch.change {
                Change::Resize(new) => Some(*new..self.size),
                Change::Replace(_) => Some(0..self.size),
                change => place(change),
            })
            .chain([grown])
            .filter(|range| !range.is_empty())
            .collect();
        all.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in all {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        joined
    }

    /// What the step `index` writes within `range`, and where.
    pub(super) fn written(
        &self,
        index: usize,
        range: &Range<u64>,
    ) -> io::Result<Option<(u64, Vec<u8>)>> {
        let Some(change) = self.patches.get(index).map(|p| &p.change) else {
            return Ok(None);
        };
        let Some(place) = place(change) else {
            return Ok(None);
        };
        let (start, end) = (place.start.max(range.start), place.end.min(range.end));
        if start >= end {
            return Ok(None);
        }
        let (skipped, len) = (start - place.start, end - start);
        let bytes = match change {
            Change::Write { bytes, .. } | Change::Replace(bytes) => {
                let part = index_of(skipped)..index_of(skipped.saturating_add(len));
                bytes.get(part).unwrap_or_default().to_vec()
            }
            Change::Copy { from, .. } => {
                let from = from.saturating_add(skipped);
                self.after(index, &(from..from.saturating_add(len)))?
            }
            Change::Resize(_) | Change::Flush => return Ok(None),
        };
        Ok(Some((start, bytes)))
    }

    /// What `range` holds after the first `steps` steps.
    fn after(&self, steps: usize, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; index_of(range.end - range.start)];
        let within = |at: u64| index_of(at.saturating_sub(range.start));
        let old = within(self.size.min(range.end));
        let old = bytes.get_mut(..old).unwrap_or_default();
        self.file.read_exact_at(old, range.start)?;
        for (index, patch) in self.patches.iter().enumerate().take(steps) {
            if let Change::Resize(new) = patch.change {
                bytes.iter_mut().skip(within(new)).for_each(|b| *b = 0);
            } else if let Some((at, new)) = self.written(index, range)? {
                for (byte, new) in bytes.iter_mut().skip(within(at)).zip(new) {
                    *byte = new;
                }
            }
        }
        Ok(bytes)
    }
}

/// Where a change writes; `None` if it only changes the length, or nothing.
fn place(change: &Change) -> Option<Range<u64>> {
    let (at, len) = match change {
        Change::Write { at, bytes } => (*at, bytes.len() as u64),
        Change::Copy { at, len, .. } => (*at, *len),
        Change::Replace(bytes) => (0, bytes.len() as u64),
        Change::Resize(_) | Change::Flush => return None,
    };
    Some(at..at.saturating_add(len)).filter(|range| !range.is_empty())
}

/// A length in memory. What is longer than memory is met as a slice that ends too early.
fn index_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
