//! A file with some of its bytes replaced in memory: what a log would make of it.
//!
//! Reading must never write, not even to finish what another program began.

use crate::storage::{Span, Storage};
use std::{collections::BTreeMap, io, ops::Range, sync::Arc};

/// What stands in the place of bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    /// These bytes.
    Bytes(Box<[u8]>),
    /// Zeros, of any length.
    Zero,
}

/// Ranges of a file that are replaced, and the length that it gets.
///
/// Memory is bounded by what was put in: at most two pieces a patch.
#[derive(Debug, Default)]
pub(crate) struct Patches {
    /// By first byte: the first byte after, and what stands there. They do not overlap.
    pieces: BTreeMap<u64, (u64, Patch)>,
}

impl Patches {
    /// Replaces `range`, also where it was replaced before.
    ///
    /// Ranges start and end at multiples of what [`Patch::Bytes`] are long, so that these are
    /// never cut.
    pub(crate) fn put(&mut self, range: Range<u64>, patch: Patch) {
        if range.is_empty() {
            return;
        }
        let before = self.pieces.range(..range.start).next_back();
        let from = before
            .filter(|(_, (end, _))| *end > range.start)
            .map_or(range.start, |(start, _)| *start);
        let covered: Vec<u64> = self
            .pieces
            .range(from..range.end)
            .map(|(s, _)| *s)
            .collect();
        for start in covered {
            let Some((end, old)) = self.pieces.remove(&start) else {
                continue;
            };
            if end > range.end {
                self.pieces.insert(range.end, (end, old.clone()));
            }
            if start < range.start {
                self.pieces.insert(start, (range.start, old));
            }
        }
        self.pieces.insert(range.start, (range.end, patch));
    }

    /// All patches in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range<u64>, &Patch)> {
        let pieces = self.pieces.iter();
        pieces.map(|(start, (end, patch))| (*start..*end, patch))
    }

    /// The patch at `pos` if there is one, and until where that answer holds.
    fn at(&self, pos: u64) -> (Option<(u64, &Patch)>, u64) {
        let upto = self.pieces.range(..=pos).next_back();
        if let Some((start, (end, patch))) = upto.filter(|(_, (end, _))| *end > pos) {
            return (Some((*start, patch)), *end);
        }
        let next = self.pieces.range(pos..).next();
        (None, next.map_or(u64::MAX, |(start, _)| *start))
    }
}

/// Storage with patches over it, perhaps longer than what lies below. New bytes read as zero.
pub(crate) struct Overlay {
    pub(crate) below: Arc<dyn Storage>,
    /// Length of what lies below.
    pub(crate) below_size: u64,
    pub(crate) patches: Patches,
    /// Length of the whole; not less than that.
    pub(crate) size: u64,
}

impl Storage for Overlay {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, mut pos: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let end = pos.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buf.is_empty() {
            let (patch, mut until) = self.patches.at(pos);
            let below = patch.is_none() && pos < self.below_size;
            if below {
                until = until.min(self.below_size);
            }
            let len = crate::disk::part_len(buf.len(), pos, until);
            let (part, rest) = buf.split_at_mut(len);
            match patch {
                Some((start, Patch::Bytes(bytes))) => {
                    let from = usize::try_from(pos.saturating_sub(start)).unwrap_or(usize::MAX);
                    let found = bytes.get(from..from.saturating_add(len));
                    part.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                }
                None if below => self.below.read_at(pos, part)?,
                _ => part.fill(0),
            }
            pos = pos.saturating_add(len as u64);
            buf = rest;
        }
        Ok(())
    }

    fn span_at(&self, pos: u64) -> io::Result<Span> {
        let (patch, until) = self.patches.at(pos);
        let until = until.min(self.size);
        if patch.is_none() && pos < self.below_size {
            let mut span = self.below.span_at(pos)?;
            span.end = span.end.min(until);
            return Ok(span);
        }
        Ok(Span {
            hole: !matches!(patch, Some((_, Patch::Bytes(_)))),
            end: until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 8;

    proptest! {
        /// Against an array: patches of one page of bytes or some pages of zeros, in any order.
        #[test]
        fn the_last_patch_counts(
            puts in prop::collection::vec((0u64..16, 1u64..6, any::<Option<u8>>()), 0..12),
            below in 0usize..100, at in 0u64..128, len in 0usize..128,
        ) {
            let mut model = vec![0xee; below];
            model.resize(16 * 8 + 6 * 8, 0);
            let mut patches = Patches::default();
            for (page, pages, byte) in puts {
                let pages = if byte.is_some() { 1 } else { pages };
                let range = page * PAGE..(page + pages) * PAGE;
                let bytes = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                model[bytes].fill(byte.unwrap_or(0));
                patches.put(range, match byte {
                    Some(byte) => Patch::Bytes(vec![byte; 8].into()),
                    None => Patch::Zero,
                });
            }
            let overlay = Overlay {
                below: Arc::new(vec![0xee; below]),
                below_size: below as u64,
                patches,
                size: model.len() as u64,
            };
            let mut read = vec![0x55; len];
            let start = usize::try_from(at).unwrap();
            let whole = model.get(start..start + len);
            prop_assert_eq!(overlay.read_at(at, &mut read).is_ok(), whole.is_some());
            if let Some(whole) = whole {
                prop_assert_eq!(&read, whole);
            }
            let span = overlay.span_at(at).unwrap();
            prop_assert!(span.end > at);
            let stretch = &model[start..usize::try_from(span.end).unwrap()];
            prop_assert!(!span.hole || stretch.iter().all(|b| *b == 0));
        }
    }
}
