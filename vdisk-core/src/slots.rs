//! The places of grains or blocks in a file, as bits: which of them are taken, and how short the file
//! can get when those at its end fill the gaps.
//!
//! A slot is a place on a grid. Bits, and not a list: a file of 2 TiB in grains of 64 KiB takes 4 MiB
//! for each question that is asked of a slot.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        reason = "a test may fail by a panic"
    )
)]

use crate::{Error, ErrorKind, Result, bits::Bits, limits};
use std::{num::NonZeroU64, ops::Range};

/// The grid of the slots in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// Bytes before slot 0.
    base: u64,
    /// Bytes of a slot.
    len: NonZeroU64,
    /// Where the slots end: the end of the file, or of what it holds.
    end: u64,
    /// The first slot that may be filled.
    pub(crate) first: u64,
    /// All slots, the last perhaps in part.
    pub(crate) count: u64,
}

impl Grid {
    /// Slots of `len` bytes in `range` of the file, of which those before byte `first` stay as they
    /// are.
    pub(crate) fn new(range: Range<u64>, first: u64, len: NonZeroU64) -> Result<Self> {
        let count = range.end.saturating_sub(range.start).div_ceil(len.get());
        if count > limits::SLOTS {
            let detail = format!(
                "has room for {count} grains or blocks, more than {}",
                limits::SLOTS
            );
            return Err(Error::new(ErrorKind::Limit, "file", detail));
        }
        Ok(Self {
            base: range.start,
            len,
            end: range.end,
            first: (first.saturating_sub(range.start) / len).min(count),
            count,
        })
    }

    /// The slot in which byte `at` lies.
    pub(crate) fn of(&self, at: u64) -> Option<u64> {
        at.checked_sub(self.base).map(|inside| inside / self.len)
    }

    /// The slot that begins at byte `at`, if one does that may be filled.
    pub(crate) fn starting(&self, at: u64) -> Option<u64> {
        let inside = at.checked_sub(self.base)?;
        let slot = inside / self.len;
        (inside.is_multiple_of(self.len.get()) && slot >= self.first).then_some(slot)
    }

    /// The slots that `bytes` touch.
    pub(crate) fn touched(&self, bytes: &Range<u64>) -> Range<u64> {
        let start = bytes.start.saturating_sub(self.base) / self.len;
        let end = bytes.end.saturating_sub(self.base);
        start..end.div_ceil(self.len.get()).min(self.count)
    }

    /// Where `slot` begins.
    pub(crate) fn at(&self, slot: u64) -> u64 {
        let start = slot.saturating_mul(self.len.get());
        start.saturating_add(self.base).min(self.end)
    }

    /// The bytes of `slots`.
    pub(crate) fn bytes(&self, slots: Range<u64>) -> Range<u64> {
        self.at(slots.start)..self.at(slots.end)
    }
}

/// What lies in the slots of a file, before a change and after it.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    pub(crate) grid: Grid,
    /// Taken before the change by a grain or block that is on the grid.
    whole: Bits,
    /// Taken before, at least in part, by something else.
    partly: Bits,
    /// Taken after the change, at least in part.
    taken: Bits,
    /// Something begins here that stays, and can be moved.
    movable: Bits,
    /// Taken after the change by what stays where it is.
    pinned: Bits,
}

impl Slots {
    pub(crate) fn new(grid: Grid) -> Self {
        let none = || Bits::new(grid.count);
        Self {
            grid,
            whole: none(),
            partly: none(),
            taken: none(),
            movable: none(),
            pinned: none(),
        }
    }

    /// Metadata take `bytes`. They stay where they are, if `pinned`; else nothing is moved there.
    pub(crate) fn metadata(&mut self, bytes: &Range<u64>, pinned: bool) {
        let slots = self.grid.touched(bytes);
        self.partly.add(slots.clone());
        self.taken.add(slots.clone());
        if pinned {
            self.pinned.add(slots);
        }
    }

    /// A grain or block takes `bytes`, and `stays` or not. False if something else has part of them.
    pub(crate) fn item(
        &mut self,
        bytes: &Range<u64>,
        stays: bool,
        can_move_off_grid: bool,
    ) -> bool {
        let slots = self.grid.touched(bytes);
        if let Some(slot) = self.grid.starting(bytes.start) {
            let free = !self.partly.has(slot) && self.whole.insert(slot);
            if stays {
                self.taken.insert(slot);
                self.movable.insert(slot);
            }
            return free;
        }
        let free = slots.clone().all(|slot| !self.whole.has(slot));
        self.partly.add(slots.clone());
        if stays {
            self.taken.add(slots.clone());
            match can_move_off_grid {
                true => drop(self.movable.insert(slots.start)),
                false => self.pinned.add(slots),
            }
        }
        free
    }

    /// The slot from which on all that can be moved has room in gaps before it.
    pub(crate) fn end(&self) -> u64 {
        let Grid { first, count, .. } = self.grid;
        let mut gaps = self.gaps(first, count).count() as u64;
        let (mut end, mut moving) = (count, 0u64);
        while let Some(slot) = end.checked_sub(1).filter(|slot| *slot >= first) {
            gaps = gaps.saturating_sub(u64::from(!self.taken.has(slot)));
            moving = moving.saturating_add(u64::from(self.movable.has(slot)));
            if self.pinned.has(slot) || moving > gaps {
                break;
            }
            end = slot;
        }
        end
    }

    /// The slots from `from` up to `end` that nothing takes after the change.
    pub(crate) fn gaps(&self, from: u64, end: u64) -> impl Iterator<Item = u64> + '_ {
        (from.max(self.grid.first)..end).filter(|slot| !self.taken.has(*slot))
    }

    /// The slots that nothing took before the change.
    pub(crate) fn unused(&self) -> impl Iterator<Item = u64> + '_ {
        let Grid { first, count, .. } = self.grid;
        (first..count).filter(|slot| !self.whole.has(*slot) && !self.partly.has(*slot))
    }

    /// Notes that what was at byte `from` lies in `slot` now.
    pub(crate) fn moved(&mut self, from: u64, slot: u64) {
        self.taken.insert(slot);
        // What is not in line has two slots, of which others may have parts.
        if let Some(left) = self.grid.starting(from).filter(|s| !self.partly.has(*s)) {
            self.taken.remove(left..left.saturating_add(1));
        }
    }
}

/// Numbers in ascending order as runs.
pub(crate) fn runs(numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = Range<u64>> {
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
            let size = kinds.len() as u64 * 512;
            let mut slots = Slots::new(Grid::new(0..size, first * 512, grain).unwrap());
            let mut taken = Vec::new();
            for (kind, slot) in kinds.iter().zip(0u64..) {
                let bytes = slot * 512..slot * 512 + 512;
                let kind = if slot < slots.grid.first { 4 } else { *kind };
                match kind {
                    0 => {}
                    1 => assert!(slots.item(&bytes, false, false)),
                    2 | 3 => assert!(slots.item(&bytes, true, false)),
                    _ if slot % 7 == 0 || slot < slots.grid.first => slots.metadata(&bytes, true),
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

    /// Two blocks that are not in line share a slot; what one leaves, the other may still have.
    #[test]
    fn what_is_off_the_grid_leaves_no_gap_behind() {
        let len = NonZeroU64::new(100).unwrap();
        let mut slots = Slots::new(Grid::new(0..500, 0, len).unwrap());
        assert!(slots.item(&(250..350), true, true));
        assert!(slots.item(&(350..450), true, true));
        assert_eq!(slots.end(), 2);
        slots.moved(350, 0);
        assert_eq!(slots.gaps(0, 5).collect::<Vec<_>>(), [1]);
    }
}
