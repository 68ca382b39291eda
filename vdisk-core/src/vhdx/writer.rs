//! Starts images of all three kinds, and writes those whose blocks come as they are needed.
//!
//! Blocks lie in the order of the disk. The table and the bitmaps are written a piece at a time,
//! so that memory does not grow with the disk.

use super::{
    bat::{BITMAP_LEN, ENTRY_LEN, Entry, Numbering, PAGE, page_len, state},
    bitmap,
    fixed::FixedWriter,
    front::{BAT_AT, Front},
    locator,
    metadata::BLOCK_SIZES,
};
use crate::{
    Error, ErrorKind, ImageWriter, Result,
    format::Spec,
    limits,
    target::Target,
    units::{FileOffset, buffer_len},
};
use std::ops::Range;

/// Bytes of a block of a dynamic image, as Windows chooses: few entries, and few gaps between
/// blocks that grow together.
const DYNAMIC_BLOCK: u32 = 32 << 20;
/// Bytes of a block of the others, as Windows chooses: a child is charged for whole blocks.
const SMALL_BLOCK: u32 = 2 << 20;

/// Starts an image.
pub(crate) fn create<'a>(
    target: &'a mut dyn Target,
    spec: &Spec<'_>,
) -> Result<Box<dyn ImageWriter + 'a>> {
    let usage = |part: &'static str, detail: &str| Err(Error::new(ErrorKind::Usage, part, detail));
    let child = spec.subformat.name == "differencing";
    let fixed = spec.subformat.name == "fixed";
    let locator = match (child, &spec.parent) {
        (true, Some(parent)) => Some(locator::encode(parent)?),
        (true, None) => return usage("parent", "a differencing VHDX needs a parent"),
        (false, Some(_)) => return usage("parent", "only a differencing VHDX can have a parent"),
        (false, None) => None,
    };
    let sector = spec.options.sector_size.unwrap_or(512);
    if !matches!(sector, 512 | 4096) {
        return usage("sector size", "is not 512 or 4096 bytes");
    }
    if !spec.size.is_multiple_of(sector.into()) {
        return usage("virtual size", "is not a whole number of sectors");
    }
    if spec.size > limits::VHDX_SIZE {
        let detail = format!(
            "{} bytes are more than a VHDX holds, which is 64 TiB",
            spec.size
        );
        return Err(Error::new(ErrorKind::Unsupported, "virtual size", detail));
    }
    let default = match child || fixed {
        true => SMALL_BLOCK,
        false => DYNAMIC_BLOCK,
    };
    let block_size = spec.options.block_size.unwrap_or(default.into());
    let Some(block_size) = u32::try_from(block_size)
        .ok()
        .filter(|b| b.is_power_of_two() && BLOCK_SIZES.contains(b))
    else {
        return usage("block size", "is not a power of two from 1 MiB to 256 MiB");
    };
    let front = Front {
        size: spec.size,
        block_size,
        sector,
        fixed,
        locator,
        uuid: spec.ids.uuid,
        disk_id: spec.options.disk_id,
    };
    match fixed {
        true => Ok(Box::new(FixedWriter::new(target, front)?)),
        false => Ok(Box::new(Blocks::new(target, front, child)?)),
    }
}

/// The piece of the block allocation table that is being written.
#[derive(Default)]
pub(crate) struct Table {
    /// Its number, and its bytes.
    page: Option<(u64, Vec<u8>)>,
}

impl Table {
    /// Sets entry `index`, which comes after those set before. All others stay zero.
    pub(crate) fn set(&mut self, index: u64, entry: Entry, target: &mut dyn Target) -> Result<()> {
        let number = index / PAGE;
        if self.page.as_ref().is_none_or(|(n, _)| *n != number) {
            self.flush(target)?;
        }
        let len = page_len()?;
        let (_, bytes) = self.page.get_or_insert_with(|| (number, vec![0; len]));
        let at = buffer_len((index % PAGE).saturating_mul(ENTRY_LEN))?;
        if let Some(room) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
            *room = entry.0.to_le_bytes();
        }
        Ok(())
    }

    /// Writes the current piece.
    pub(crate) fn flush(&mut self, target: &mut dyn Target) -> Result<()> {
        let Some((number, bytes)) = self.page.take() else {
            return Ok(());
        };
        let page = bytes.len() as u64;
        let at = FileOffset(BAT_AT).plus(number.saturating_mul(page))?;
        target.write_at(at.0, &bytes)
    }
}

/// A dynamic or differencing image under way.
struct Blocks<'a> {
    target: &'a mut dyn Target,
    front: Front,
    numbering: Numbering,
    /// A block of a child takes only the sectors it was given; of a base, all.
    child: bool,
    table: Table,
    block: Option<Block>,
    chunk: Option<Chunk>,
    /// Where the file ends so far.
    end: u64,
}

/// The block being written.
struct Block {
    number: u64,
    /// Where it is in the file, once there is something to write.
    data: Option<u64>,
    /// In a child, which sectors it was given.
    bits: Vec<u8>,
}

/// The blocks that share a bitmap with the current one, in a child.
struct Chunk {
    number: u64,
    bitmap: Vec<u8>,
    /// Set if one of them is partial, so that the bitmap is needed.
    partial: bool,
}

impl<'a> Blocks<'a> {
    fn new(target: &'a mut dyn Target, front: Front, child: bool) -> Result<Self> {
        Ok(Self {
            target,
            numbering: front.numbering(),
            child,
            table: Table::default(),
            block: None,
            chunk: None,
            end: front.end()?,
            front,
        })
    }

    /// Bytes of the bitmap that belong to one block.
    fn bits_len(&self) -> Result<usize> {
        buffer_len(BITMAP_LEN / self.numbering.per_chunk)
    }

    /// Takes `len` bytes at the end of the file.
    fn allocate(&mut self, len: u64) -> Result<u64> {
        let at = self.end;
        self.end = FileOffset(at).plus(len)?.0;
        Ok(at)
    }

    /// Makes `number` the current block, which it is already or which comes after it.
    fn enter(&mut self, number: u64) -> Result<()> {
        if self.block.as_ref().is_some_and(|b| b.number == number) {
            return Ok(());
        }
        self.leave()?;
        let chunk = number / self.numbering.per_chunk;
        if self.child && self.chunk.as_ref().is_none_or(|c| c.number != chunk) {
            self.leave_chunk()?;
            self.chunk = Some(Chunk {
                number: chunk,
                bitmap: vec![0; buffer_len(BITMAP_LEN)?],
                partial: false,
            });
        }
        let bits = match self.child {
            true => vec![0; self.bits_len()?],
            false => Vec::new(),
        };
        self.block = Some(Block {
            number,
            data: None,
            bits,
        });
        Ok(())
    }

    /// Writes the entry of the current block, which is complete.
    fn leave(&mut self) -> Result<()> {
        let Some(block) = self.block.take() else {
            return Ok(());
        };
        let block_size = self.numbering.block_size.get();
        let start = block.number.saturating_mul(block_size);
        let used = self.front.size.saturating_sub(start).min(block_size);
        let sectors = used.checked_div(self.front.sector.into()).unwrap_or(0);
        let given: u64 = block.bits.iter().map(|b| u64::from(b.count_ones())).sum();
        let whole = !self.child || given == sectors;
        let entry = match (block.data, whole) {
            (Some(at), true) => Entry::new(state::PRESENT, at),
            // Only zeros: they hide the parent without a place of their own.
            (None, true) => Entry::new(state::ZERO, 0),
            (data, false) => {
                let at = match data {
                    Some(at) => at,
                    None => self.allocate(block_size)?,
                };
                Entry::new(state::PARTIAL, at)
            }
        };
        if let Some(chunk) = &mut self.chunk
            && entry.state() != state::ZERO
        {
            let inside = block.number % self.numbering.per_chunk;
            let from = buffer_len(inside.saturating_mul(block.bits.len() as u64))?;
            if let Some(room) = chunk
                .bitmap
                .get_mut(from..from.saturating_add(block.bits.len()))
            {
                room.copy_from_slice(&block.bits);
            }
            chunk.partial |= !whole;
        }
        let index = self.numbering.entry_of(block.number);
        self.table.set(index, entry, self.target)
    }

    /// Writes the bitmap of the current chunk, if it is needed.
    fn leave_chunk(&mut self) -> Result<()> {
        let Some(chunk) = self.chunk.take().filter(|c| c.partial) else {
            return Ok(());
        };
        let at = self.allocate(BITMAP_LEN)?;
        self.target.write_at(at, &chunk.bitmap)?;
        let index = self.numbering.bitmap_entry_of(chunk.number);
        let entry = Entry::new(state::PRESENT, at);
        self.table.set(index, entry, self.target)
    }

    /// Records `range`, with these bytes or, without any, as zero.
    fn record(&mut self, range: Range<u64>, mut bytes: Option<&[u8]>) -> Result<()> {
        let (block_size, sector) = (self.numbering.block_size, u64::from(self.front.sector));
        let mut pos = range.start;
        while pos < range.end {
            let inside = pos % block_size;
            let rest_of_block = block_size.get().saturating_sub(inside);
            let len = rest_of_block.min(range.end.saturating_sub(pos));
            self.enter(pos / block_size)?;
            if let Some(all) = bytes {
                let (part, rest) = all
                    .split_at_checked(buffer_len(len)?)
                    .ok_or_else(|| Error::new(ErrorKind::Usage, "write", "has too few bytes"))?;
                let data = match self.block.as_ref().and_then(|b| b.data) {
                    Some(data) => data,
                    None => self.allocate(block_size.get())?,
                };
                self.target
                    .write_at(FileOffset(data).plus(inside)?.0, part)?;
                if let Some(block) = &mut self.block {
                    block.data = Some(data);
                }
                bytes = Some(rest);
            }
            if let Some(block) = self.block.as_mut().filter(|_| self.child) {
                let first = inside.checked_div(sector).unwrap_or(0);
                let end = inside.saturating_add(len).div_ceil(sector);
                bitmap::set(&mut block.bits, first, end);
            }
            pos = pos.saturating_add(len);
        }
        Ok(())
    }
}

impl ImageWriter for Blocks<'_> {
    fn unit(&self) -> u64 {
        match self.child {
            // Whole bytes of the bitmap: dissect misreads what begins within one that is partly set.
            true => u64::from(self.front.sector).saturating_mul(8),
            false => 4096, // what file systems keep holes in
        }
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.record(range, Some(bytes))
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        // What a base does not record is zero; a child must hide what its parent holds.
        match self.child {
            true => self.record(range, None),
            false => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.leave()?;
        self.leave_chunk()?;
        self.table.flush(self.target)?;
        self.front.write(self.target)?;
        self.target.set_size(self.end)
    }
}
