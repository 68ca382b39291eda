//! What lies where in an image with blocks, so that blocks can fill gaps.

use super::{sound::Sound, table::Table, writer::ALIGNMENT};
use crate::{
    Result,
    slots::{Grid, Slots},
    units::round_up,
};
use std::num::NonZeroU64;

/// The slots of a file.
pub(super) struct Survey {
    pub(super) slots: Slots,
    /// The table lies behind a block, so it must move with the end of the file.
    pub(super) table_moves: bool,
}

impl Survey {
    /// The slots of the image `sound`, whose `table` was changed; `None` if it has no blocks.
    pub(super) fn new(sound: &Sound, table: &Table) -> Result<Option<Self>> {
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
        let base = base.saturating_sub(room.saturating_sub(room % len));
        let end = metadata()
            .map(|r| r.end)
            .fold(end, u64::max)
            .max(sound.found.data_end);
        let mut slots = Slots::new(Grid::new(base..end, base, len)?);
        let table_moves = table.sectors().start >= base;
        for range in metadata() {
            slots.metadata(&range, !table_moves || range != table.sectors());
        }
        let (mut block, needed) = (0, table.blocks.needed());
        while let Some((number, at)) = table.blocks.next_used(block)? {
            block = number.saturating_add(1);
            let whole = at..at.saturating_add(table.blocks.whole_len());
            let kept = number < needed && table.place(number)?.is_some();
            slots.item(&whole, kept, true);
        }
        Ok(Some(Self { slots, table_moves }))
    }
}

/// Where the first block is, where the last one ends, and the distance of two slots: such that each
/// block fills one, if they all lie so.
fn grid(table: &Table) -> Result<Option<(u64, u64, NonZeroU64)>> {
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
    // As the writer, and Windows, place them.
    let aligned = round_up(whole, ALIGNMENT);
    let mut even = true;
    all(Box::new(|at| {
        even &= at.saturating_sub(base).checked_rem(aligned) == Some(0);
    }))?;
    let len = NonZeroU64::new(if even { aligned } else { whole });
    Ok(len.filter(|_| base != u64::MAX).map(|len| (base, end, len)))
}
