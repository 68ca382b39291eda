//! How often each cluster of the file is used, as the image records it.
//!
//! Reading does without; programs that write take a cluster with refcount 0 for free.

use super::{
    disk_structs::Header,
    entry::OFFSET,
    tables::{PAGE, numbers},
};
use crate::{Result, cache::Cache, storage::ImageFile, units::buffer_len};
use std::ops::Range;

/// Pages of the table and of the blocks kept in memory: 256 KiB and 64 KiB.
const BLOCK_PAGES: usize = 64;
const TABLE_PAGES: usize = 16;
/// Refcounts have at most 2 to this power of bits.
pub(super) const ORDER: u32 = 6;

/// The refcounts of an image, read piece by piece.
pub(super) struct Refcounts {
    file: ImageFile,
    /// Where the table is.
    table: Range<u64>,
    cluster: u64,
    /// Bits of a refcount, by the power of 2.
    order: u32,
    entries: Cache<Vec<u64>>,
    pages: Cache<Vec<u8>>,
}

impl Refcounts {
    /// The refcounts whose table lies at `table`, inside the file; `None` if their size is unknown.
    pub(super) fn new(file: &ImageFile, header: &Header, table: Range<u64>) -> Option<Self> {
        (header.refcount_order <= ORDER).then(|| Self {
            file: file.clone(),
            table,
            cluster: header.cluster(),
            order: header.refcount_order,
            entries: Cache::new(TABLE_PAGES),
            pages: Cache::new(BLOCK_PAGES),
        })
    }

    /// How often the cluster of the file with number `number` is used; `None` if its refcount is
    /// not in the file.
    pub(super) fn of(&self, number: u64) -> Result<Option<u64>> {
        let bits = 1u64.checked_shl(self.order).unwrap_or(1);
        let per_block = self.cluster.saturating_mul(8).checked_div(bits);
        let index = number.checked_div(per_block.unwrap_or(1)).unwrap_or(0);
        let Some(block) = self.block(index)? else {
            return Ok(None);
        };
        if block == 0 {
            return Ok(Some(0));
        }
        let inside = number.checked_rem(per_block.unwrap_or(1)).unwrap_or(0);
        let bit = inside.saturating_mul(bits);
        let len = PAGE.min(self.cluster);
        let start = (bit / 8).checked_div(len).unwrap_or(0).saturating_mul(len);
        let at = block.saturating_add(start);
        let page = self.pages.get(at.checked_div(len).unwrap_or(0), || {
            self.file.read_part("refcount block", at, len)
        })?;
        let from = buffer_len((bit / 8).saturating_sub(start))?;
        let count = buffer_len((bits / 8).max(1))?;
        let bytes = page
            .get(from..from.saturating_add(count))
            .unwrap_or_default();
        let value = bytes.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b));
        // Smaller ones than a byte begin with its lowest bits.
        Ok(Some(match bits {
            1 | 2 | 4 => {
                let shift = u32::try_from(bit % 8).unwrap_or(0);
                let mask = 1u64
                    .checked_shl(u32::try_from(bits).unwrap_or(0))
                    .unwrap_or(0)
                    .saturating_sub(1);
                value.checked_shr(shift).unwrap_or(0) & mask
            }
            _ => value,
        }))
    }

    /// Where the block of that number is; 0 if there is none, `None` if it is not in the file.
    fn block(&self, index: u64) -> Result<Option<u64>> {
        const ENTRIES: u64 = PAGE / 8;
        let at = self.table.start.saturating_add(index.saturating_mul(8));
        if at >= self.table.end {
            return Ok(Some(0));
        }
        let first = index.saturating_sub(index % ENTRIES);
        let page = self.entries.get(first / ENTRIES, || {
            let at = self.table.start.saturating_add(first.saturating_mul(8));
            let len = PAGE.min(self.table.end.saturating_sub(at));
            let bytes = self.file.read_part("refcount table", at, len)?;
            Ok(numbers(&bytes).collect())
        })?;
        let entry = page.get(buffer_len(index % ENTRIES)?).copied().unwrap_or(0);
        let block = entry & OFFSET;
        let aligned = block.checked_rem(self.cluster) == Some(0);
        let inside = block.saturating_add(self.cluster) <= self.file.size;
        Ok((block == 0 || aligned && inside).then_some(block))
    }
}
