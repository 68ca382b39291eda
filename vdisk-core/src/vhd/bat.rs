//! The block allocation table: where a dynamic disk keeps each block.
//!
//! It and the sector bitmaps are read piece by piece when needed, so that a disk of 2 TiB costs no more memory than a
//! small one.

use super::{
    bitmap::Bitmap,
    disk_structs::{DynamicHeader, HEADER_LEN},
    footer::Found,
};
use crate::{
    Error, ErrorKind, Layout, Place, Result, Run,
    cache::Cache,
    limits,
    storage::ImageFile,
    units::{FileOffset, SECTOR, Sectors, round_up},
};
use std::{ops::Range, sync::Arc};

/// Entry of a block that has no place in the file.
pub(crate) const UNUSED: u32 = u32::MAX;
/// Bytes of an entry.
const ENTRY_LEN: u64 = 4;
/// Entries that are read at once.
pub(crate) const PAGE: u64 = 1024;
/// Smallest block accepted. The specification's is 512 KiB, but nothing hangs on it.
pub(crate) const SMALLEST_BLOCK: u32 = 4096;
/// Pieces of the table kept in memory: 256 KiB, for 128 GiB of disk with blocks of 2 MiB.
const PAGES: usize = 64;
/// Bitmaps kept in memory: 32 KiB with blocks of 2 MiB, 4 MiB with the largest.
const BITMAPS: usize = 64;

/// What the table says of a block.
pub(crate) enum Entry {
    /// Where its bitmap is, which its data follow.
    At(Sectors),
    /// Nowhere, as all blocks up to this one.
    Free { until: u64 },
}

/// The layout of a dynamic or differencing disk.
pub(crate) struct Blocks {
    file: ImageFile,
    size: u64,
    block_size: u64,
    bitmap_len: u64,
    table: u64,
    entries: u64,
    /// No block reaches past this: the footer, or the end of the file.
    data_end: u64,
    /// Bits of the bitmaps are in the order of XenServer's first driver.
    reversed: bool,
    /// Where the metadata are, which no block may overlap.
    reserved: [Range<u64>; 3],
    /// What a sector reads as that is not kept here.
    hole: Place,
    pages: Cache<Vec<u32>>,
    bitmaps: Cache<Bitmap>,
}

impl Blocks {
    /// Checks the header's numbers against each other and the file. Reads nothing.
    pub(crate) fn new(
        file: ImageFile,
        found: &Found,
        header: &DynamicHeader,
        hole: Place,
    ) -> Result<Self> {
        let (size, header_at) = (found.footer.current_size, found.footer.data_offset);
        if header.block_size > limits::BLOCK {
            let detail = format!(
                "has blocks of {} bytes; at most {} are accepted",
                header.block_size,
                limits::BLOCK
            );
            return Err(Error::new(ErrorKind::Limit, "dynamic header", detail).at(header_at));
        }
        if !header.block_size.is_power_of_two() || header.block_size < SMALLEST_BLOCK {
            let detail = format!(
                "has blocks of {} bytes, which is not a power of two of at least {SMALLEST_BLOCK}",
                header.block_size
            );
            return Err(Error::corrupt("dynamic header", detail).at(header_at));
        }
        let block_size = u64::from(header.block_size);
        let needed = size.div_ceil(block_size);
        if header.max_table_entries > limits::BAT_ENTRIES {
            let detail = format!(
                "has {} entries; at most {} are accepted",
                header.max_table_entries,
                limits::BAT_ENTRIES
            );
            return Err(Error::new(ErrorKind::Limit, TABLE, detail).at(header_at));
        }
        let entries = u64::from(header.max_table_entries);
        if entries < needed {
            let detail =
                format!("has {entries} entries, but a disk of {size} bytes needs {needed}");
            return Err(Error::corrupt(TABLE, detail).at(header_at));
        }
        let table = header.table_offset;
        let table_end = FileOffset(table).plus(entries.saturating_mul(ENTRY_LEN))?.0;
        if table_end > found.data_end {
            return Err(Error::corrupt(TABLE, "reaches past the end of the file").at(table));
        }
        let header_end = FileOffset(header_at).plus(HEADER_LEN as u64)?.0;
        Ok(Self {
            file,
            size,
            block_size,
            bitmap_len: round_up(Sectors::holding(block_size).0.div_ceil(8), SECTOR),
            table,
            entries,
            data_end: found.data_end,
            reversed: found.footer.is_first_xen(),
            reserved: [0..SECTOR, header_at..header_end, table..table_end],
            hole,
            pages: Cache::new(PAGES),
            bitmaps: Cache::new(BITMAPS),
        })
    }

    /// Where the table is.
    pub(crate) fn table(&self) -> Range<u64> {
        self.table
            ..self
                .table
                .saturating_add(self.entries.saturating_mul(ENTRY_LEN))
    }

    /// Entries of the table; more than the disk has blocks, perhaps.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Where the entry of `block` is.
    pub(crate) fn entry_at(&self, block: u64) -> u64 {
        self.table.saturating_add(block.saturating_mul(ENTRY_LEN))
    }

    /// Bytes of the bitmap before the data of a block.
    pub(crate) fn bitmap_len(&self) -> u64 {
        self.bitmap_len
    }

    /// Bytes of a block with its bitmap.
    pub(crate) fn whole_len(&self) -> u64 {
        self.bitmap_len.saturating_add(self.block_size)
    }

    /// Bytes of `block` that belong to the disk: less than a block at its end, none past it.
    pub(crate) fn used_bytes(&self, block: u64) -> u64 {
        self.size
            .saturating_sub(self.start_of(block))
            .min(self.block_size)
    }

    /// Blocks of the disk, each with an entry.
    pub(crate) fn needed(&self) -> u64 {
        self.size.div_ceil(self.block_size)
    }

    /// Where the file can go on: behind all data, and behind the last block as if it was whole, which
    /// some programs cut where the disk ends.
    pub(crate) fn growth_at(&self) -> Result<u64> {
        let whole = match self.needed().checked_sub(1) {
            Some(last) => match self.entry(last)? {
                Entry::At(sector) => FileOffset(sector.bytes()?).plus(self.whole_len())?.0,
                Entry::Free { .. } => 0,
            },
            None => 0,
        };
        Ok(whole.max(self.data_end))
    }

    /// The first block from `block` on that has a place, and where its bitmap is. Also of those past
    /// the end of the disk.
    pub(crate) fn next_used(&self, mut block: u64) -> Result<Option<(u64, u64)>> {
        while block < self.entries {
            match self.entry(block)? {
                Entry::At(sector) => return Ok(Some((block, sector.bytes()?))),
                Entry::Free { until } => block = until,
            }
        }
        Ok(None)
    }

    /// Bytes of a block.
    pub(crate) fn block_size(&self) -> u64 {
        self.block_size
    }

    /// First disk position of `block`.
    pub(crate) fn start_of(&self, block: u64) -> u64 {
        block.saturating_mul(self.block_size)
    }

    /// The entries of page `number` of the table; the last page may be shorter.
    pub(crate) fn page(&self, number: u64) -> Result<Arc<Vec<u32>>> {
        let first = number.saturating_mul(PAGE);
        self.pages.get(number, || {
            let count = self.entries.saturating_sub(first).min(PAGE);
            let at = FileOffset(self.table).plus(first.saturating_mul(ENTRY_LEN))?;
            let bytes = self
                .file
                .read_part(TABLE, at.0, count.saturating_mul(ENTRY_LEN))?;
            Ok(bytes
                .as_chunks()
                .0
                .iter()
                .map(|e| u32::from_be_bytes(*e))
                .collect())
        })
    }

    /// What the table says of `block`.
    pub(crate) fn entry(&self, block: u64) -> Result<Entry> {
        let page = self.page(block / PAGE)?;
        let from_here = || {
            let skip = usize::try_from(block % PAGE).unwrap_or(usize::MAX);
            page.iter().skip(skip)
        };
        match from_here().next() {
            Some(&UNUSED) => {
                let free = from_here().take_while(|e| **e == UNUSED).count() as u64;
                Ok(Entry::Free {
                    until: block.saturating_add(free),
                })
            }
            Some(&sector) => Ok(Entry::At(Sectors(sector.into()))),
            None => Err(Error::corrupt(
                TABLE,
                format!("has no entry for block {block}"),
            )),
        }
    }

    /// Where the data of `block` start, whose bitmap is at `bitmap_at`; checks that it is a place
    /// for a block.
    pub(crate) fn data_of(&self, block: u64, bitmap_at: u64) -> Result<u64> {
        let wrong = |detail: &str| {
            let part = format!("{TABLE}, entry {block}");
            Err(Error::corrupt(part, detail).at(self.entry_at(block)))
        };
        let data = FileOffset(bitmap_at).plus(self.bitmap_len)?;
        // Some programs cut the last block where the disk ends.
        let end = data.plus(self.used_bytes(block))?.0;
        if end > self.data_end {
            return wrong("points past the end of the file");
        }
        if self
            .reserved
            .iter()
            .any(|r| bitmap_at < r.end && r.start < end)
        {
            return wrong("points into the metadata of the image");
        }
        Ok(data.0)
    }

    /// The bitmap of `block`, which is at `bitmap_at`.
    pub(crate) fn bitmap(&self, block: u64, bitmap_at: u64) -> Result<Arc<Bitmap>> {
        self.bitmaps.get(block, || {
            let bytes = self
                .file
                .read_part("sector bitmap", bitmap_at, self.bitmap_len)?;
            let sectors = Sectors::holding(self.block_size).0;
            Ok(match self.reversed {
                true => Bitmap::reversed(bytes, sectors),
                false => Bitmap::new(bytes, sectors),
            })
        })
    }
}

impl Layout for Blocks {
    fn size(&self) -> u64 {
        self.size
    }

    fn locate(&self, pos: u64) -> Result<Run> {
        // The block size is a power of two of at least 4096.
        let inside = pos & self.block_size.saturating_sub(1);
        let start = pos.saturating_sub(inside);
        let block = start.checked_div(self.block_size).unwrap_or(0);
        let sector = match self.entry(block)? {
            Entry::At(sector) => sector,
            Entry::Free { until } => {
                return Ok(Run {
                    end: self.start_of(until),
                    place: self.hole,
                });
            }
        };
        let bitmap_at = sector.bytes()?;
        let data = self.data_of(block, bitmap_at)?;
        let bitmap = self.bitmap(block, bitmap_at)?;
        let (kept, end) = bitmap.run(inside / SECTOR);
        Ok(Run {
            end: FileOffset(start).plus(Sectors(end).bytes()?)?.0,
            place: match kept {
                true => Place::Stored {
                    file: 0,
                    at: FileOffset(data).plus(inside)?,
                },
                false => self.hole,
            },
        })
    }
}

/// The name of the table in messages.
pub(crate) const TABLE: &str = "block allocation table";
