//! Writes to a dynamic or differencing disk that exists.
//!
//! Blocks that it has are written where they are; new ones come where the footer was, which goes
//! behind them. The table follows when all data are there.

use super::{
    bitmap::set_bits,
    fixed_changes::inside,
    sound::{Sound, Tail},
    table::Table,
    writer::ALIGNMENT,
};
use crate::{
    Error, ErrorKind, Ids, ImageWriter, Result,
    format::Update,
    transaction::Transaction,
    units::{FileOffset, SECTOR, buffer_len, round_up},
};
use std::ops::Range;

/// Writes to the blocks of an image.
pub(super) struct Writer<'a> {
    sound: Sound,
    table: Table,
    transaction: &'a Transaction<'a>,
    ids: Option<Ids>,
    tail: Tail,
    /// Where the next block can be.
    next: u64,
    /// Blocks may be told from what is not used: their space can be given back.
    surveyed: bool,
    current: Option<Block>,
    /// What was given as zero, and is not recorded yet.
    zeros: Range<u64>,
}

/// The block that is written to. Positions are those of the file.
struct Block {
    number: u64,
    bitmap_at: u64,
    data: u64,
    bitmap: Vec<u8>,
    /// The bitmap differs from what the file has.
    changed: bool,
    /// It lies in a place that reads as zero.
    new: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        sound: Sound,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Self> {
        let table = Table::for_contents(&sound, update.context.overlay)?;
        let claims = table.survey(&sound)?;
        Ok(Self {
            tail: Tail::new(&sound),
            next: table.blocks.growth_at()?,
            surveyed: !claims.incomplete(),
            current: None,
            zeros: 0..0,
            ids: update.ids,
            sound,
            table,
            transaction,
        })
    }

    /// Makes `number` the current block, which it is already or which comes after it.
    fn enter(&mut self, number: u64) -> Result<&mut Block> {
        if self.current.as_ref().is_none_or(|b| b.number != number) {
            self.leave()?;
            self.current = Some(match self.table.place(number)? {
                Some(bitmap_at) => Block {
                    number,
                    bitmap_at,
                    data: self.table.blocks.data_of(number, bitmap_at)?,
                    bitmap: self.table.bitmap(&self.sound.file, bitmap_at)?,
                    changed: false,
                    new: false,
                },
                None => self.new_block(number)?,
            });
        }
        self.current
            .as_mut()
            .ok_or_else(|| Error::new(ErrorKind::Usage, "write", "no block was begun"))
    }

    fn new_block(&mut self, number: u64) -> Result<Block> {
        if let Some(map) = &self.table.batmap
            && map.has(&self.sound.file, number)?
        {
            let detail =
                format!("says that block {number} keeps all sectors, but it is not in the table");
            return Err(Error::corrupt("batmap", detail));
        }
        let blocks = &self.table.blocks;
        // Aligned are the data, not the bitmap before them.
        let data = round_up(
            FileOffset(self.next).plus(blocks.bitmap_len())?.0,
            ALIGNMENT,
        );
        let bitmap_at = data.saturating_sub(blocks.bitmap_len());
        let bits = if self.table.child { 0 } else { 0xff };
        let bitmap = vec![bits; buffer_len(blocks.bitmap_len())?];
        self.next = FileOffset(data).plus(blocks.block_size())?.0;
        self.table.set(number, Some(bitmap_at))?;
        self.tail.grow(&self.sound, self.transaction, self.next)?;
        Ok(Block {
            number,
            bitmap_at,
            data,
            bitmap,
            changed: true,
            new: true,
        })
    }

    /// Writes the bitmap of the current block, which is complete.
    fn leave(&mut self) -> Result<()> {
        match self.current.take() {
            Some(block) if block.changed => {
                self.transaction
                    .write(&self.sound.file, block.bitmap_at, &block.bitmap)
            }
            _ => Ok(()),
        }
    }

    /// Records `range`, with these bytes or, without any, as zero.
    fn record(&mut self, range: Range<u64>, mut bytes: Option<&[u8]>) -> Result<()> {
        let block_size = self.table.blocks.block_size();
        let mut pos = range.start;
        while pos < range.end {
            let inside = pos & block_size.saturating_sub(1); // a power of two
            let len = block_size
                .saturating_sub(inside)
                .min(range.end.saturating_sub(pos));
            let block = self.enter(pos.checked_div(block_size).unwrap_or(0))?;
            let end = inside.saturating_add(len);
            let before = block.bitmap.clone();
            set_bits(&mut block.bitmap, inside / SECTOR..end.div_ceil(SECTOR));
            block.changed |= block.bitmap != before;
            let (at, new) = (FileOffset(block.data).plus(inside)?.0, block.new);
            match bytes {
                Some(all) => {
                    let (part, rest) = all.split_at_checked(buffer_len(len)?).ok_or_else(|| {
                        Error::new(ErrorKind::Usage, "write", "has too few bytes")
                    })?;
                    self.transaction.write(&self.sound.file, at, part)?;
                    bytes = Some(rest);
                }
                None if new => {}
                None => self
                    .sound
                    .clear(self.transaction, at..at.saturating_add(len))?,
            }
            pos = pos.saturating_add(len);
        }
        Ok(())
    }

    /// Records what was given as zero.
    fn record_zeros(&mut self) -> Result<()> {
        let zeros = std::mem::replace(&mut self.zeros, 0..0);
        if self.table.child {
            return self.record(zeros, None);
        }
        // What a base does not keep is zero already.
        let block_size = self.table.blocks.block_size();
        let mut pos = zeros.start;
        while pos < zeros.end {
            let number = pos.checked_div(block_size).unwrap_or(0);
            let start = self.table.blocks.start_of(number);
            let used = start.saturating_add(self.table.blocks.used_bytes(number));
            let end = used.min(zeros.end);
            if let Some(bitmap_at) = self.table.place(number)? {
                // XenServer's batmap may call the block full, which must stay true.
                if pos == start && end == used && self.table.batmap.is_none() {
                    self.free(number, bitmap_at)?;
                } else {
                    self.record(pos..end, None)?;
                }
            }
            pos = end;
        }
        Ok(())
    }

    /// Keeps `number` no longer.
    fn free(&mut self, number: u64, bitmap_at: u64) -> Result<()> {
        let stored = self.table.stored(number, bitmap_at)?;
        self.table.set(number, None)?;
        match self.surveyed {
            true => self.transaction.release(&self.sound.file, stored),
            false => Ok(()),
        }
    }
}

impl ImageWriter for Writer<'_> {
    fn unit(&self) -> u64 {
        // As that of a new image, and for the same reason.
        ALIGNMENT
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        inside(&self.sound, &range)?;
        self.record_zeros()?;
        self.record(range, Some(bytes))
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        inside(&self.sound, &range)?;
        if self.zeros.end == range.start && !self.zeros.is_empty() {
            self.zeros.end = range.end;
            return Ok(());
        }
        self.record_zeros()?;
        self.zeros = range;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.record_zeros()?;
        self.leave()?;
        self.transaction.barrier()?;
        self.table.write(&self.sound.file, self.transaction)?;
        self.sound
            .write_footer(self.transaction, self.tail.end, &[], self.ids)
    }
}
