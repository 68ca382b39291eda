//! The part of a file that holds blocks, as slots that are free or not: a bit for each.

use super::{sound::Sound, table::Table, writer::ALIGNMENT};
use crate::{
    Result, limits,
    units::{buffer_len, round_up},
};
use std::ops::Range;

/// A set of slot numbers.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u64) -> Result<Self> {
        Ok(Self(vec![0; buffer_len(count.div_ceil(64))?]))
    }

    fn add(&mut self, number: u64) {
        let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (number % 64);
        }
    }

    fn remove(&mut self, number: u64) {
        let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !(1 << (number % 64));
        }
    }

    fn has(&self, number: u64) -> bool {
        let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
        let word = self.0.get(word).copied().unwrap_or(0);
        word & (1 << (number % 64)) != 0
    }
}

/// The slots of a file, from its first block on.
pub(super) struct Slots {
    /// Where the first one is.
    base: u64,
    /// Bytes of each.
    len: u64,
    count: u64,
    /// Slots that the image as it was refers to, at least in part.
    before: Bits,
    /// Slots that the image as changed refers to, at least in part.
    now: Bits,
    /// Slots in which a block begins that the image as changed keeps.
    starts: Bits,
    /// Slots with metadata that stay where they are.
    pinned: Bits,
    /// The table lies behind a block, so it must move with the end of the file.
    pub(super) table_moves: bool,
}

impl Slots {
    /// The slots of the image; `None` if there are no blocks, or too many slots.
    pub(super) fn survey(sound: &Sound, table: &Table) -> Result<Option<Self>> {
        let Some((base, end, len)) = grid(table)? else {
            return Ok(None);
        };
        let metadata = || {
            let locators = table.locators(sound).into_iter().map(|l| l.1);
            table.metadata(sound).into_iter().chain(locators)
        };
        // Blocks that were taken out before may have been the first ones.
        let below = metadata().filter(|r| r.start < base);
        let room = base.saturating_sub(below.map(|r| r.end).max().unwrap_or(base));
        let base = base.saturating_sub(room.saturating_sub(room.checked_rem(len).unwrap_or(0)));
        let end = metadata().map(|r| r.end).fold(end, u64::max);
        let count = end.saturating_sub(base).div_ceil(len);
        if count > limits::BLOCK_SLOTS {
            return Ok(None);
        }
        let mut slots = Self {
            base,
            len,
            count,
            before: Bits::new(count)?,
            now: Bits::new(count)?,
            starts: Bits::new(count)?,
            pinned: Bits::new(count)?,
            table_moves: table.sectors().start >= base,
        };
        for range in metadata() {
            for slot in slots.touched(&range) {
                slots.before.add(slot);
                slots.now.add(slot);
                if !slots.table_moves || range != table.sectors() {
                    slots.pinned.add(slot);
                }
            }
        }
        let (mut block, needed) = (0, table.blocks.needed());
        while let Some((number, at)) = table.blocks.next_used(block)? {
            block = number.saturating_add(1);
            let whole = at..at.saturating_add(table.blocks.whole_len());
            let kept = number < needed && table.place(number)?.is_some();
            for slot in slots.touched(&whole) {
                slots.before.add(slot);
                if kept {
                    slots.now.add(slot);
                }
            }
            if let Some(slot) = slots.of(at).filter(|_| kept) {
                slots.starts.add(slot);
            }
        }
        Ok(Some(slots))
    }

    /// The slots that have part of `range`.
    fn touched(&self, range: &Range<u64>) -> Range<u64> {
        let number = |at: u64| at.saturating_sub(self.base);
        let first = number(range.start).checked_div(self.len).unwrap_or(0);
        let last = number(range.end).div_ceil(self.len).min(self.count);
        first..last
    }

    /// The slot in which `at` lies.
    pub(super) fn of(&self, at: u64) -> Option<u64> {
        at.checked_sub(self.base)?.checked_div(self.len)
    }

    /// Where `slot` is in the file.
    pub(super) fn place(&self, slot: u64) -> u64 {
        self.base.saturating_add(slot.saturating_mul(self.len))
    }

    /// The slot from which on all blocks have room in free slots before it.
    pub(super) fn boundary(&self) -> u64 {
        let mut free = (0..self.count).filter(|s| !self.now.has(*s)).count() as u64;
        let (mut boundary, mut moving) = (self.count, 0u64);
        while let Some(slot) = boundary.checked_sub(1) {
            free = free.saturating_sub(u64::from(!self.now.has(slot)));
            moving = moving.saturating_add(u64::from(self.starts.has(slot)));
            if self.pinned.has(slot) || moving > free {
                break;
            }
            boundary = slot;
        }
        boundary
    }

    /// The first free slot of `from..until`.
    pub(super) fn next_free(&self, from: u64, until: u64) -> Option<u64> {
        (from..until).find(|s| !self.now.has(*s))
    }

    /// Notes that a block lies in `slot` now.
    pub(super) fn take(&mut self, slot: u64) {
        self.now.add(slot);
    }

    /// Notes that the block at `at` lies there no longer.
    pub(super) fn leave(&mut self, at: u64) {
        // One that is not in line has two slots, of which others may have parts.
        if let Some(slot) = self.of(at).filter(|slot| self.place(*slot) == at) {
            self.now.remove(slot);
        }
    }

    /// What the image as it was does not refer to.
    pub(super) fn never_used(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges(&self.before)
    }

    /// What the image as changed does not refer to.
    pub(super) fn free(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges(&self.now)
    }

    /// The places of the slots that are not in `bits`.
    fn ranges<'b>(&'b self, bits: &'b Bits) -> impl Iterator<Item = Range<u64>> + 'b {
        (0..self.count)
            .filter(|s| !bits.has(*s))
            .map(|s| self.place(s)..self.place(s).saturating_add(self.len))
    }
}

/// Where the first block is, where the last one ends, and the distance of two slots: such that each
/// block fills one, if they all lie so.
fn grid(table: &Table) -> Result<Option<(u64, u64, u64)>> {
    let needed = table.blocks.needed();
    let whole = table.blocks.whole_len();
    let all = |mut each: Box<dyn FnMut(u64) + '_>| -> Result<()> {
        let mut block = 0;
        while let Some((number, at)) = table.blocks.next_used(block)?
            && number < needed
        {
            each(at);
            block = number.saturating_add(1);
        }
        Ok(())
    };
    let (mut base, mut end) = (u64::MAX, 0);
    all(Box::new(|at| {
        base = base.min(at);
        end = end.max(at.saturating_add(whole));
    }))?;
    if base == u64::MAX {
        return Ok(None);
    }
    // As the writer, and Windows, place them.
    let aligned = round_up(whole, ALIGNMENT);
    let mut even = true;
    all(Box::new(|at| {
        even &= at.saturating_sub(base).checked_rem(aligned) == Some(0);
    }))?;
    Ok(Some((base, end, if even { aligned } else { whole })))
}
