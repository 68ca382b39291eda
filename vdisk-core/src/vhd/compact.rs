//! Takes blocks out of an image, and moves those at its end into the gaps.
//!
//! The file is seen as slots of a block each, so that a bit for each slot tells what is free: no
//! list of blocks is needed. Gaps that are no whole slot stay.

use super::{
    bitmap::clear_bits, disk_structs::HEADER_TABLE, fixed_changes::inside, sound::Sound,
    survey::Survey, table::Table, writer::ALIGNMENT,
};
use crate::{
    Ids, Kind, Result,
    format::{Compacted, Compactor, Update},
    raw,
    slots::{Slots, runs},
    transaction::Transaction,
    units::{FileOffset, SECTOR, round_up},
    zeros::is_zero,
};
use std::ops::Range;

/// Compacts an image with blocks.
pub(super) struct Blocks<'a> {
    sound: Sound,
    table: Table,
    transaction: &'a Transaction<'a>,
    ids: Option<Ids>,
    /// False if it cannot be said for sure what is not used.
    surveyed: bool,
    current: Option<Block>,
    /// Bytes of blocks that are kept no more.
    dropped: u64,
}

/// The block of which sectors are dropped.
struct Block {
    number: u64,
    bitmap_at: u64,
    /// The bits of what is kept.
    bitmap: Vec<u8>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(
        sound: Sound,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Self> {
        let table = Table::for_contents(&sound, update.context.overlay)?;
        table.without_batmap("compacted")?;
        let claims = table.survey(&sound)?;
        Ok(Self {
            surveyed: !claims.incomplete(),
            sound,
            table,
            transaction,
            ids: update.ids,
            current: None,
            dropped: 0,
        })
    }

    /// Decides what becomes of the current block.
    fn leave(&mut self) -> Result<()> {
        let Some(Block {
            number,
            bitmap_at,
            bitmap,
        }) = self.current.take()
        else {
            return Ok(());
        };
        if self.keeps_nothing(number, &bitmap) {
            return self.free(number);
        }
        // Sectors of a base are zero either way. Bits that are clear would only set programs apart
        // that go by them and that do not.
        if self.table.child && bitmap != self.table.bitmap(&self.sound.file, bitmap_at)? {
            self.transaction
                .write(&self.sound.file, bitmap_at, &bitmap)?;
        }
        Ok(())
    }

    /// True if no bit of a sector of the disk is set. Those behind have no meaning.
    fn keeps_nothing(&self, number: u64, bitmap: &[u8]) -> bool {
        let mut bits = bitmap.to_vec();
        let sectors = self.table.blocks.used_bytes(number).div_ceil(SECTOR);
        let all = (bits.len() as u64).saturating_mul(8);
        clear_bits(&mut bits, sectors..all);
        is_zero(&bits)
    }

    fn free(&mut self, number: u64) -> Result<()> {
        self.table.set(number, None)?;
        let len = self.table.blocks.whole_len();
        self.dropped = self.dropped.saturating_add(len);
        Ok(())
    }

    /// Frees blocks that keep nothing, and entries past the end of the disk.
    fn free_empty(&mut self) -> Result<()> {
        let needed = self.table.blocks.needed();
        let mut block = 0;
        while let Some((number, bitmap_at)) = self.table.blocks.next_used(block)? {
            block = number.saturating_add(1);
            let empty = number >= needed
                || self.table.place(number)?.is_some() && {
                    let bitmap = self.table.bitmap(&self.sound.file, bitmap_at)?;
                    self.keeps_nothing(number, &bitmap)
                };
            if empty {
                self.free(number)?;
            }
        }
        Ok(())
    }

    /// Moves blocks into gaps. Returns where what stays ends, and how many bytes moved.
    fn pack(&mut self, slots: &mut Slots, table_moves: bool) -> Result<(u64, u64)> {
        let (needed, whole) = (self.table.blocks.needed(), self.table.blocks.whole_len());
        let data_end = self.sound.found.data_end;
        let boundary = slots.end();
        let mut end = self.metadata_end(table_moves);
        let (mut block, mut from, mut moved) = (0, 0, 0u64);
        while let Some((number, bitmap_at)) = self.table.blocks.next_used(block)?
            && number < needed
        {
            block = number.saturating_add(1);
            if self.table.place(number)?.is_none() {
                continue;
            }
            let stored = self.table.stored(number, bitmap_at)?;
            let target = match slots.grid.of(bitmap_at) {
                Some(slot) if slot >= boundary => slots.gaps(from, boundary).next(),
                _ => None,
            };
            let Some(slot) = target else {
                let own = bitmap_at.saturating_add(whole).min(data_end);
                end = end.max(own);
                continue;
            };
            let at = slots.grid.at(slot);
            let len = stored.end.saturating_sub(stored.start);
            self.transaction
                .copy(&self.sound.file, bitmap_at, at, len)?;
            self.table.set(number, Some(at))?;
            slots.moved(bitmap_at, slot);
            moved = moved.saturating_add(len);
            end = end.max(FileOffset(at).plus(whole)?.0);
            from = slot.saturating_add(1);
        }
        Ok((round_up(end, SECTOR).min(data_end), moved))
    }

    /// Where the last of the metadata ends that stay where they are.
    fn metadata_end(&self, table_moves: bool) -> u64 {
        let metadata = self.table.metadata(&self.sound).into_iter();
        let locators = self.table.locators(&self.sound).into_iter().map(|l| l.1);
        metadata
            .filter(|range| !table_moves || *range != self.table.sectors())
            .chain(locators)
            .map(|range| range.end)
            .max()
            .unwrap_or(0)
    }

    /// Writes the table: where it is, or at `end` if it can move forward to there. Returns where the
    /// file ends then.
    fn write_table(&self, end: u64, moves: bool) -> Result<u64> {
        let (file, sectors) = (&self.sound.file, self.table.sectors());
        if !moves || end >= sectors.start {
            self.table.write(file, self.transaction)?;
            return Ok(end.max(sectors.end));
        }
        let entries = self.table.entries(self.table.blocks.entries())?;
        self.transaction.write(file, end, &entries)?;
        self.transaction.barrier()?;
        let header = self.table.amended(&[(HEADER_TABLE, &end.to_be_bytes())])?;
        self.transaction
            .write(file, self.table.header_at, &header)?;
        FileOffset(end).plus(entries.len() as u64).map(|at| at.0)
    }
}

impl Compactor for Blocks<'_> {
    fn unit(&self) -> u64 {
        // Blocks go when all of their sectors are dropped; a child can drop some. Not single ones:
        // libvhdi misreads bytes of a bitmap that are partly set.
        ALIGNMENT
    }

    fn remove(&mut self, range: Range<u64>, kind: Kind) -> Result<()> {
        inside(&self.sound, &range)?;
        // In a child, what is not kept is the parent's.
        if kind == Kind::Data || self.table.child && kind != Kind::Absent {
            return Ok(());
        }
        let block_size = self.table.blocks.block_size();
        let mut pos = range.start;
        while pos < range.end {
            let number = pos.checked_div(block_size).unwrap_or(0);
            let Some((next, bitmap_at)) = self.table.blocks.next_used(number)? else {
                break;
            };
            if next > number {
                pos = self.table.blocks.start_of(next);
                continue;
            }
            if self.current.as_ref().is_none_or(|b| b.number != number) {
                self.leave()?;
                self.current = Some(Block {
                    number,
                    bitmap_at,
                    bitmap: self.table.bitmap(&self.sound.file, bitmap_at)?,
                });
            }
            let start = self.table.blocks.start_of(number);
            let end = start.saturating_add(block_size).min(range.end);
            if let Some(block) = &mut self.current {
                let (from, to) = (pos.saturating_sub(start), end.saturating_sub(start));
                clear_bits(&mut block.bitmap, from / SECTOR..to.div_ceil(SECTOR));
            }
            pos = end;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Compacted> {
        self.leave()?;
        self.free_empty()?;
        let (file, data_end) = (self.sound.file.clone(), self.sound.found.data_end);
        let mut survey = match self.surveyed {
            true => Survey::new(&self.sound, &self.table)?,
            false => None,
        };
        let mut done = Compacted::default();
        let (mut end, mut table_moves) = (data_end, false);
        if let Some(Survey {
            slots,
            table_moves: moves,
        }) = &mut survey
        {
            // What nothing refers to need not come back if this is undone.
            for run in runs(slots.unused()) {
                self.transaction.disregard(&file, slots.grid.bytes(run))?;
            }
            table_moves = *moves;
            (end, done.moved) = self.pack(slots, table_moves)?;
        }
        self.transaction.barrier()?;
        // Behind what was packed comes the table, if it moves.
        let packed = end;
        let end = self.write_table(packed, table_moves)?;
        let gaps_end = match table_moves && packed < self.table.sectors().start {
            true => packed,
            false => end,
        };
        self.sound
            .write_footer(self.transaction, end, &[], self.ids)?;
        if end < data_end {
            self.transaction.barrier()?;
            let size = FileOffset(end).plus(SECTOR)?.0;
            done.cut = file.size.saturating_sub(size);
            self.transaction.set_len(&file, size)?;
        }
        match &survey {
            Some(Survey { slots, .. }) => {
                for run in runs(slots.gaps(0, slots.grid.count)) {
                    let range = slots.grid.bytes(run);
                    let range = range.start..range.end.min(gaps_end).max(range.start);
                    let len = range.end.saturating_sub(range.start);
                    done.kept = done.kept.saturating_add(len);
                    let punched = raw::give_back(self.transaction, &file, range)?;
                    done.punched = done.punched.saturating_add(punched);
                }
            }
            // Others may have parts of what was dropped.
            None => done.kept = self.dropped,
        }
        done.freed = done.cut.saturating_add(done.kept);
        Ok(done)
    }
}
