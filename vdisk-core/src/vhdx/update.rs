//! Changes what an image holds: blocks that are there in place, new ones at the end of the file.
//!
//! The pieces come in ascending order, so one block, one sector bitmap and one page of the table are
//! in hand at a time, however large the disk is.

use super::{
    bat::{BITMAP_LEN, Entry, state},
    bitmap::{self, Bitmap},
    chunk::Chunk,
    revision::Revision,
};
use crate::{
    Error, ErrorKind, ImageWriter, Layer, Result,
    format::Update,
    transaction::Transaction,
    units::{FileOffset, buffer_len},
};
use std::ops::Range;

/// Starts to change the image of `layer`.
pub(super) fn start<'a>(
    layer: &Layer,
    transaction: &'a Transaction<'a>,
    update: &Update<'_>,
) -> Result<Box<dyn ImageWriter + 'a>> {
    Ok(Box::new(Blocks {
        revision: Revision::begin(layer, transaction, update)?,
        block: None,
        chunk: None,
    }))
}

/// An image under change.
struct Blocks<'a> {
    revision: Revision<'a>,
    block: Option<Block>,
    chunk: Option<Chunk>,
}

/// The block being changed.
struct Block {
    number: u64,
    /// What the table says of it.
    entry: Entry,
    /// Where it is in the file, if it is.
    data: Option<u64>,
    /// In a child, which of its sectors are recorded; `None` if all are.
    bits: Option<Vec<u8>>,
    /// Bytes from its start on that became zero, and are not written yet: if all do, none need be.
    zeros: u64,
}

impl Blocks<'_> {
    /// Bytes of `block` that belong to the disk.
    fn used(&self, block: u64) -> u64 {
        let size = self.revision.current.metadata.size;
        self.revision.numbering.used(block, size)
    }

    /// The bitmap of the chunk of `block`.
    fn chunk(&mut self, block: u64) -> Result<&mut Chunk> {
        let number = block / self.revision.numbering.per_chunk;
        let chunk = match self.chunk.take().filter(|c| c.number() == number) {
            Some(chunk) => chunk,
            None => Chunk::load(&self.revision, number)?,
        };
        Ok(self.chunk.insert(chunk))
    }

    /// Makes `number` the current block, which it is already or which comes after it.
    fn enter(&mut self, number: u64) -> Result<()> {
        if self.block.as_ref().is_some_and(|b| b.number == number) {
            return Ok(());
        }
        self.leave()?;
        let numbering = self.revision.numbering;
        let chunk = number / numbering.per_chunk;
        if self.chunk.as_ref().is_some_and(|c| c.number() != chunk) {
            self.leave_chunk()?;
        }
        let entry = self.revision.get(numbering.entry_of(number))?;
        let present = matches!(entry.state(), state::PRESENT | state::PARTIAL);
        let bits = match entry.state() {
            state::PARTIAL => Some(self.chunk(number)?.bits(number)?),
            state::NOT_PRESENT if self.revision.child() => {
                Some(vec![0; buffer_len(BITMAP_LEN / numbering.per_chunk)?])
            }
            _ => None,
        };
        self.block = Some(Block {
            number,
            entry,
            data: present.then(|| entry.at()),
            bits,
            zeros: 0,
        });
        Ok(())
    }

    /// Writes the entry of the current block, which is complete.
    fn leave(&mut self) -> Result<()> {
        let Some(mut block) = self.block.take() else {
            return Ok(());
        };
        let used = self.used(block.number);
        let sector = self.revision.current.metadata.logical_sector;
        let sectors = used.checked_div(sector.into()).unwrap_or(0);
        let block_size = self.revision.numbering.block_size.get();
        let fixed = self.revision.current.metadata.leave_allocated;
        let mut gone = false;
        match block.data {
            Some(at) if block.zeros >= used && !fixed => {
                self.revision.release(at..at.saturating_add(block_size))?;
                block.data = None;
                gone = true;
            }
            _ => self.write_zeros(&mut block)?,
        }
        // How many sectors from the first on are alike.
        let run = block.bits.as_ref().map(|bits| Bitmap::new(bits).run(0));
        let (whole, none) = match run {
            None => (true, false),
            Some((recorded, end)) => (recorded && end >= sectors, !recorded && end >= sectors),
        };
        let entry = match block.data {
            Some(at) if whole => Entry::new(state::PRESENT, at),
            Some(at) => Entry::new(state::PARTIAL, at),
            // Only zeros: they hide the parent without a place of their own.
            None if whole && self.revision.child() && (gone || block.bits.is_some()) => {
                Entry::new(state::ZERO, 0)
            }
            None if gone => Entry::new(state::NOT_PRESENT, 0),
            None if whole || none => block.entry,
            None => Entry::new(state::PARTIAL, self.revision.allocate(block_size)?),
        };
        if let Some(bits) = block.bits.filter(|_| entry.state() == state::PARTIAL) {
            self.chunk(block.number)?.put(block.number, &bits)?;
        }
        let index = self.revision.numbering.entry_of(block.number);
        self.revision.set(index, entry)
    }

    fn leave_chunk(&mut self) -> Result<()> {
        let Some(chunk) = self.chunk.take().filter(Chunk::is_changed) else {
            return Ok(());
        };
        let index = self.revision.numbering.bitmap_entry_of(chunk.number());
        let entry = chunk.write(&mut self.revision)?;
        self.revision.set(index, entry)
    }

    /// Writes the zeros that `block` begins with.
    fn write_zeros(&mut self, block: &mut Block) -> Result<()> {
        let zeros = std::mem::take(&mut block.zeros);
        match block.data {
            Some(at) => self.revision.zero(at..at.saturating_add(zeros)),
            None => Ok(()),
        }
    }

    /// Records `range`, with these bytes or, without any, as zero.
    fn record(&mut self, range: Range<u64>, mut bytes: Option<&[u8]>) -> Result<()> {
        if range.end > self.revision.current.metadata.size {
            let detail = "goes past the end of the disk";
            return Err(Error::new(ErrorKind::OutOfRange, "write", detail));
        }
        let block_size = self.revision.numbering.block_size;
        let sector = u64::from(self.revision.current.metadata.logical_sector);
        let mut pos = range.start;
        while pos < range.end {
            let inside = pos % block_size;
            let rest_of_block = block_size.get().saturating_sub(inside);
            let len = rest_of_block.min(range.end.saturating_sub(pos));
            let end = inside.saturating_add(len);
            self.enter(pos / block_size)?;
            let Some(mut block) = self.block.take() else {
                continue;
            };
            if let Some(all) = bytes {
                let (part, rest) = all
                    .split_at_checked(buffer_len(len)?)
                    .ok_or_else(|| Error::new(ErrorKind::Usage, "write", "has too few bytes"))?;
                self.write_zeros(&mut block)?;
                let data = match block.data {
                    Some(data) => data,
                    None => self.revision.allocate(block_size.get())?,
                };
                block.data = Some(data);
                let at = FileOffset(data).plus(inside)?;
                self.revision.write(at.0, part)?;
                bytes = Some(rest);
            } else if let Some(data) = block.data {
                if inside == block.zeros {
                    block.zeros = end;
                } else {
                    self.write_zeros(&mut block)?;
                    let at = FileOffset(data).plus(inside)?.0;
                    self.revision.zero(at..at.saturating_add(len))?;
                }
            }
            if let Some(bits) = &mut block.bits {
                let first = inside.checked_div(sector).unwrap_or(0);
                bitmap::set(bits, first, end.div_ceil(sector));
            }
            self.block = Some(block);
            pos = pos.saturating_add(len);
        }
        Ok(())
    }
}

impl ImageWriter for Blocks<'_> {
    fn unit(&self) -> u64 {
        let sector = u64::from(self.revision.current.metadata.logical_sector);
        match self.revision.child() {
            // Whole bytes of the bitmap: dissect misreads what begins within one that is partly set.
            true => sector.saturating_mul(8),
            false => 4096, // what file systems keep holes in
        }
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.record(range, Some(bytes))
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        self.record(range, None)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.leave()?;
        self.leave_chunk()?;
        self.revision.finish(&[])
    }
}
