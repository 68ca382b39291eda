//! The block allocation table and the sector bitmaps: where a dynamic disk keeps each block.
//!
//! Both are read piece by piece when needed, so that a disk of 2 TiB costs no more memory than a
//! small one.

use super::disk_structs::{DynamicHeader, HEADER_LEN};
use crate::{
    Error, ErrorKind, Layout, Place, Result, Run,
    cache::Cache,
    limits,
    storage::ImageFile,
    units::{FileOffset, SECTOR, Sectors, round_up},
};
use std::ops::Range;

/// Entry of a block that has no place in the file.
pub(crate) const UNUSED: u32 = u32::MAX;
/// Bytes of an entry.
const ENTRY_LEN: u64 = 4;
/// Entries that are read at once.
const PAGE: u64 = 1024;
/// Smallest block accepted. The specification's is 512 KiB, but nothing hangs on it.
const SMALLEST_BLOCK: u32 = 4096;
/// Pieces of the table kept in memory: 256 KiB, for 128 GiB of disk with blocks of 2 MiB.
const PAGES: usize = 64;
/// Bitmaps kept in memory: 32 KiB with blocks of 2 MiB, 4 MiB with the largest.
const BITMAPS: usize = 64;

/// What the table says of a block.
enum Entry {
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
        size: u64,
        header_at: u64,
        header: &DynamicHeader,
        data_end: u64,
        hole: Place,
    ) -> Result<Self> {
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
        if table_end > data_end {
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
            data_end,
            reserved: [0..SECTOR, header_at..header_end, table..table_end],
            hole,
            pages: Cache::new(PAGES),
            bitmaps: Cache::new(BITMAPS),
        })
    }

    /// First disk position of `block`.
    fn start_of(&self, block: u64) -> u64 {
        block.saturating_mul(self.block_size)
    }

    /// What the table says of `block`.
    fn entry(&self, block: u64) -> Result<Entry> {
        let first = block.saturating_sub(block % PAGE);
        let page = self.pages.get(first / PAGE, || {
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
        })?;
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
    fn data_of(&self, block: u64, bitmap_at: u64) -> Result<u64> {
        let wrong = |detail: &str| {
            let entry_at = self.table.saturating_add(block.saturating_mul(ENTRY_LEN));
            Err(Error::corrupt(format!("{TABLE}, entry {block}"), detail).at(entry_at))
        };
        let data = FileOffset(bitmap_at).plus(self.bitmap_len)?;
        // Some programs cut the last block where the disk ends.
        let used = self
            .size
            .saturating_sub(self.start_of(block))
            .min(self.block_size);
        let end = data.plus(used)?.0;
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
        let bitmap = self.bitmaps.get(block, || {
            let bytes = self
                .file
                .read_part("sector bitmap", bitmap_at, self.bitmap_len)?;
            Ok(Bitmap::new(bytes, Sectors::holding(self.block_size).0))
        })?;
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
const TABLE: &str = "block allocation table";

/// Which sectors of a block it keeps; the first sector is the highest bit of the first byte.
struct Bitmap {
    bytes: Vec<u8>,
    sectors: u64,
    /// Set if all bits are equal, as is usual.
    uniform: Option<bool>,
}

impl Bitmap {
    fn new(bytes: Vec<u8>, sectors: u64) -> Self {
        let mut bitmap = Self {
            bytes,
            sectors,
            uniform: None,
        };
        let (first, end) = bitmap.run(0);
        bitmap.uniform = (end == sectors).then_some(first);
        bitmap
    }

    fn byte(&self, sector: u64) -> u8 {
        let at = usize::try_from(sector / 8).unwrap_or(usize::MAX);
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn bit(&self, sector: u64) -> bool {
        self.byte(sector) & (0x80 >> (sector % 8)) != 0
    }

    /// The bit of `sector`, and the first sector after it whose bit differs.
    fn run(&self, sector: u64) -> (bool, u64) {
        if let Some(bit) = self.uniform {
            return (bit, self.sectors);
        }
        let bit = self.bit(sector);
        let full = if bit { 0xff } else { 0 };
        let mut end = sector.saturating_add(1);
        while end < self.sectors {
            if end.is_multiple_of(8) && self.byte(end) == full {
                end = end.saturating_add(8);
            } else if self.bit(end) == bit {
                end = end.saturating_add(1);
            } else {
                break;
            }
        }
        (bit, end.min(self.sectors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_sector_is_the_highest_bit() {
        let bitmap = Bitmap::new(vec![0b1100_0000, 0xff, 0xff, 0b0111_1111], 32);
        assert_eq!(bitmap.run(0), (true, 2));
        assert_eq!(bitmap.run(1), (true, 2));
        assert_eq!(bitmap.run(2), (false, 8));
        assert_eq!(bitmap.run(8), (true, 24));
        assert_eq!(bitmap.run(24), (false, 25));
        assert_eq!(bitmap.run(31), (true, 32));
    }

    proptest! {
        #[test]
        fn runs_are_maximal_and_equal(bytes in prop::collection::vec(
            prop_oneof![Just(0u8), Just(255), any::<u8>()], 1..40), sector in 0u64..320)
        {
            let sectors = bytes.len() as u64 * 8;
            prop_assume!(sector < sectors);
            let bits: Vec<bool> =
                (0..bytes.len() * 8).map(|i| bytes[i / 8] >> (7 - i % 8) & 1 == 1).collect();
            let (bit, end) = Bitmap::new(bytes, sectors).run(sector);
            let at = usize::try_from(sector).unwrap();
            let expected = bits[at..].iter().take_while(|b| **b == bits[at]).count() as u64;
            prop_assert_eq!((bit, end), (bits[at], sector + expected));
        }
    }
}
