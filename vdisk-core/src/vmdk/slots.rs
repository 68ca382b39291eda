//! Which grains of a file are taken, as bits: where grains can move, and where the file can end.
//!
//! A slot is a place on the grid of grains that begins at the first. Bits, and not a list: a file
//! of 2 TiB takes 4 MiB for each question that is asked of a slot.

use crate::{Error, ErrorKind, Result, limits, units::Sectors};
use std::{num::NonZeroU64, ops::Range};

/// A set of numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Adds `number`, which is below [`limits::SLOTS`].
    pub(super) fn set(&mut self, number: u64) {
        let Ok(word) = usize::try_from(number / 64) else {
            return;
        };
        if self.words.len() <= word {
            self.words.resize(word.saturating_add(1), 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn get(&self, number: u64) -> bool {
        let word = usize::try_from(number / 64).ok();
        let word = word.and_then(|word| self.words.get(word));
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// The grid of the grains in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Bytes before slot 0.
    phase: u64,
    /// Bytes of a grain.
    grain: NonZeroU64,
    /// Bytes of the file.
    size: u64,
    /// The first slot in which a grain may lie.
    pub(super) first: u64,
    /// Slots of the file, the last perhaps in part.
    pub(super) count: u64,
}

impl Grid {
    /// The grid of a file of `size` bytes, in which grains begin at sector `overhead`.
    pub(super) fn new(size: u64, overhead: u64, grain: NonZeroU64) -> Result<Self> {
        let overhead = Sectors(overhead).bytes()?;
        let phase = overhead % grain;
        let count = size.saturating_sub(phase).div_ceil(grain.get());
        if count > limits::SLOTS {
            let detail = format!("has room for {count} grains, more than {}", limits::SLOTS);
            return Err(Error::new(ErrorKind::Limit, "file", detail));
        }
        Ok(Self {
            phase,
            grain,
            size,
            first: (overhead / grain).min(count),
            count,
        })
    }

    /// The slot that begins at that byte, if one does in which a grain may lie.
    pub(super) fn slot(&self, start: u64) -> Option<u64> {
        let inside = start.checked_sub(self.phase)?;
        let slot = inside / self.grain;
        (inside.is_multiple_of(self.grain.get()) && slot >= self.first).then_some(slot)
    }

    /// The slots that `bytes` touch.
    pub(super) fn touched(&self, bytes: &Range<u64>) -> Range<u64> {
        let start = bytes.start.saturating_sub(self.phase) / self.grain;
        let end = bytes.end.saturating_sub(self.phase);
        start..end.div_ceil(self.grain.get()).min(self.count)
    }

    /// The bytes of `slots` that the file has.
    pub(super) fn bytes(&self, slots: Range<u64>) -> Range<u64> {
        let at = |slot: u64| {
            let start = slot.saturating_mul(self.grain.get());
            start.saturating_add(self.phase).min(self.size)
        };
        at(slots.start)..at(slots.end)
    }
}

/// What lies in the slots of a file, before a change and after it.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pub(super) grid: Grid,
    /// Grains on the grid before the change.
    grains: Bits,
    /// What else there was before: metadata, and grains off the grid.
    others: Bits,
    /// Grains on the grid that stay, here or elsewhere.
    staying: Bits,
    /// What cannot be moved.
    pinned: Bits,
}

impl Slots {
    pub(super) fn new(grid: Grid) -> Self {
        Self {
            grid,
            grains: Bits::default(),
            others: Bits::default(),
            staying: Bits::default(),
            pinned: Bits::default(),
        }
    }

    /// Metadata take `bytes`.
    pub(super) fn metadata(&mut self, bytes: &Range<u64>) {
        for slot in self.grid.touched(bytes) {
            self.others.set(slot);
            self.pinned.set(slot);
        }
    }

    /// A grain takes `bytes`, and `stays` or not. False if something else has part of them.
    pub(super) fn grain(&mut self, bytes: &Range<u64>, stays: bool) -> bool {
        if let Some(slot) = self.grid.slot(bytes.start) {
            let free = !self.grains.get(slot) && !self.others.get(slot);
            self.grains.set(slot);
            if stays {
                self.staying.set(slot);
            }
            return free;
        }
        let slots = self.grid.touched(bytes);
        let free = slots.clone().all(|slot| !self.grains.get(slot));
        for slot in slots {
            self.others.set(slot);
            if stays {
                self.pinned.set(slot);
            }
        }
        free
    }

    /// True if nothing takes `slot` after the change.
    fn is_free(&self, slot: u64) -> bool {
        !self.staying.get(slot) && !self.pinned.get(slot)
    }

    /// Where the file can end, as a slot, when the grains behind that fill the gaps before it.
    pub(super) fn end(&self) -> u64 {
        let Grid { first, count, .. } = self.grid;
        let mut gaps = (first..count).filter(|slot| self.is_free(*slot)).count() as u64;
        let mut end = count;
        while let Some(slot) = end.checked_sub(1).filter(|slot| *slot >= first) {
            // One gap less: it goes, or the grain in the slot takes one.
            if self.pinned.get(slot) || gaps == 0 {
                break;
            }
            gaps = gaps.saturating_sub(1);
            end = slot;
        }
        end
    }

    /// The gaps between grains, from slot `from` up to `end`.
    pub(super) fn gaps(&self, from: u64, end: u64) -> impl Iterator<Item = u64> + '_ {
        (from.max(self.grid.first)..end).filter(|slot| self.is_free(*slot))
    }

    /// The slots that nothing took before the change.
    pub(super) fn unused(&self) -> impl Iterator<Item = u64> + '_ {
        let Grid { first, count, .. } = self.grid;
        (first..count).filter(|slot| !self.grains.get(*slot) && !self.others.get(*slot))
    }
}

/// Numbers in ascending order as runs.
pub(super) fn runs(numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = Range<u64>> {
    let mut numbers = numbers.peekable();
    std::iter::from_fn(move || {
        let start = numbers.next()?;
        let mut end = start.saturating_add(1);
        while numbers.next_if_eq(&end).is_some() {
            end = end.saturating_add(1);
        }
        Some(start..end)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by a panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against trying every end: the smallest behind which no more grains lie than gaps before.
        #[test]
        fn the_file_ends_where_the_gaps_are_filled(
            kinds in prop::collection::vec(0..5u8, 1..200),
            first in 0..10u64,
        ) {
            let grain = NonZeroU64::new(512).unwrap();
            let grid = Grid::new(kinds.len() as u64 * 512, 0, grain).unwrap();
            let mut slots = Slots::new(Grid { first: first.min(grid.count), ..grid });
            let mut taken = Vec::new();
            for (kind, slot) in kinds.iter().zip(0u64..) {
                let bytes = slot * 512..slot * 512 + 512;
                let kind = if slot < slots.grid.first { 4 } else { *kind };
                match kind {
                    0 => {}
                    1 => assert!(slots.grain(&bytes, false)),
                    2 | 3 => assert!(slots.grain(&bytes, true)),
                    _ if slot % 7 == 0 || slot < slots.grid.first => slots.metadata(&bytes),
                    _ => {}
                }
                taken.push(match kind {
                    2 | 3 => Some(true),
                    4 if slot % 7 == 0 || slot < slots.grid.first => Some(false),
                    _ => None,
                });
            }
            let fits = |end: usize| {
                let behind = taken.iter().skip(end);
                let gaps = taken.iter().take(end).filter(|t| t.is_none()).count();
                behind.clone().all(|t| *t != Some(false))
                    && behind.filter(|t| **t == Some(true)).count() <= gaps
            };
            let first = usize::try_from(slots.grid.first).unwrap();
            let expected = (first..=taken.len()).find(|end| fits(*end)).unwrap();
            prop_assert_eq!(slots.end(), expected as u64);
        }
    }

    #[test]
    fn runs_join_what_follows() {
        let found: Vec<_> = runs([1, 2, 3, 5, 7, 8].into_iter()).collect();
        assert_eq!(found, [1..4, 5..6, 7..9]);
    }
}
