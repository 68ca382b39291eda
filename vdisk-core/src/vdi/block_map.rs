//! The block map: where each block of the disk is kept.
//!
//! It is read piece by piece when needed, so that a large disk costs no more memory than a small
//! one.

use super::disk_structs::{HEADER, Header};
use crate::{
    Error, ErrorKind, Layout, Place, Result, Run,
    cache::Cache,
    limits,
    storage::ImageFile,
    units::{FileOffset, SECTOR, buffer_len, round_up},
};
use std::num::NonZeroU64;

/// Entry of a block that is not recorded.
pub(super) const FREE: u32 = u32::MAX;
/// Entry of a block that reads as zero.
pub(super) const ZERO: u32 = u32::MAX - 1;
/// Bytes of an entry.
const ENTRY_LEN: u64 = 4;
/// Entries that are read at once; 1 GiB of disk with the usual blocks.
const PAGE: u64 = 1024;
/// Pieces of the map kept in memory: 256 KiB.
const PAGES: usize = 64;

const MAP: &str = "block map";

/// The layout of every VDI image: fixed ones have a block map too.
pub(super) struct BlockMap {
    pub(super) file: ImageFile,
    size: u64,
    /// Bytes of a block, without what comes before its data.
    pub(super) block: NonZeroU64,
    /// Bytes before the data of each block.
    pub(super) extra: u64,
    pub(super) map_at: u64,
    pub(super) entries: u64,
    data_at: u64,
    /// What a block reads as that is not recorded.
    hole: Place,
    pages: Cache<Vec<u32>>,
}

impl BlockMap {
    /// Checks the header's numbers against each other and the file. Reads nothing.
    pub(super) fn new(file: ImageFile, header: &Header, hole: Place) -> Result<Self> {
        if header.block_size > limits::BLOCK || header.block_extra > limits::BLOCK {
            let detail = format!(
                "has blocks of {} bytes after {} others; at most {} are accepted",
                header.block_size,
                header.block_extra,
                limits::BLOCK
            );
            return Err(Error::new(ErrorKind::Limit, "header", detail).at(376));
        }
        let whole = header.block_size.is_power_of_two() && u64::from(header.block_size) >= SECTOR;
        let Some(block) = NonZeroU64::new(header.block_size.into()).filter(|_| whole) else {
            let detail = format!(
                "has blocks of {} bytes, which is not a power of two of at least {SECTOR}",
                header.block_size
            );
            return Err(Error::corrupt("header", detail).at(376));
        };
        if header.size > limits::DISK_SIZE {
            let detail = format!("is {} bytes, more than any format holds", header.size);
            return Err(Error::new(ErrorKind::Limit, "virtual size", detail).at(368));
        }
        let size = round_up(header.size, SECTOR);
        let needed = size.div_ceil(block.get());
        if header.blocks > limits::VDI_BLOCKS {
            let detail = format!(
                "has {} entries; at most {} are accepted",
                header.blocks,
                limits::VDI_BLOCKS
            );
            return Err(Error::new(ErrorKind::Limit, MAP, detail).at(384));
        }
        let entries = u64::from(header.blocks);
        if entries < needed {
            let detail = format!(
                "has {entries} entries, but a disk of {} bytes needs {needed}",
                header.size
            );
            return Err(Error::corrupt(MAP, detail).at(384));
        }
        let map_at = u64::from(header.blocks_at);
        let map_end = map_at.saturating_add(entries.saturating_mul(ENTRY_LEN));
        let data_at = u64::from(header.data_at);
        if map_at < HEADER {
            return Err(Error::corrupt(MAP, "lies in the header").at(340));
        }
        if map_end > file.size {
            return Err(Error::corrupt(MAP, "reaches past the end of the file").at(map_at));
        }
        if data_at < map_end {
            let detail = format!("start at {data_at:#x}, in the header or the block map");
            return Err(Error::corrupt("blocks", detail).at(344));
        }
        Ok(Self {
            file,
            size,
            block,
            extra: header.block_extra.into(),
            map_at,
            entries,
            data_at,
            hole,
            pages: Cache::new(PAGES),
        })
    }

    /// First disk position of `block`.
    pub(super) fn start_of(&self, block: u64) -> u64 {
        block.saturating_mul(self.block.get())
    }

    /// File offset of the entry of `block`.
    pub(super) fn entry_at(&self, block: u64) -> u64 {
        self.map_at.saturating_add(block.saturating_mul(ENTRY_LEN))
    }

    /// Where the data of the block are whose entry is `entry`.
    pub(super) fn data_of(&self, entry: u32) -> Result<u64> {
        let block = self.block.get().saturating_add(self.extra);
        let before = u64::from(entry)
            .saturating_mul(block)
            .saturating_add(self.extra);
        Ok(FileOffset(self.data_at).plus(before)?.0)
    }

    /// The entry of `block`, and for how many blocks from there on the answer is the same: all
    /// free, all zero, or one after the other in the file.
    pub(super) fn entry(&self, block: u64) -> Result<(u32, u64)> {
        let inside = block % PAGE;
        let first = block.saturating_sub(inside);
        let page = self.pages.get(first, || {
            let count = self.entries.saturating_sub(first).min(PAGE);
            let at = self.entry_at(first);
            let bytes = self
                .file
                .read_part(MAP, at, count.saturating_mul(ENTRY_LEN))?;
            Ok(bytes
                .as_chunks()
                .0
                .iter()
                .map(|e| u32::from_le_bytes(*e))
                .collect())
        })?;
        let rest = page.get(buffer_len(inside)?..).unwrap_or_default();
        let Some(&entry) = rest.first() else {
            return Err(Error::corrupt(MAP, format!("has no entry {block}")));
        };
        let alike = match entry {
            FREE | ZERO => rest.iter().take_while(|e| **e == entry).count(),
            // Something lies between blocks that follow each other.
            _ if self.extra != 0 => 1,
            _ => rest
                .iter()
                .zip(0u32..)
                .take_while(|(e, i)| **e < ZERO && entry.checked_add(*i) == Some(**e))
                .count(),
        };
        Ok((entry, alike as u64))
    }
}

impl Layout for BlockMap {
    fn size(&self) -> u64 {
        self.size
    }

    fn locate(&self, pos: u64) -> Result<Run> {
        let block = pos / self.block;
        let inside = pos % self.block;
        let (entry, alike) = self.entry(block)?;
        let end = self.start_of(block.saturating_add(alike));
        let place = match entry {
            FREE => self.hole,
            ZERO => Place::Zero,
            _ => {
                let at = FileOffset(self.data_of(entry)?).plus(inside)?;
                let place = Place::Stored { file: 0, at };
                let used = end.min(self.size).saturating_sub(pos);
                let in_file = self.file.size.saturating_sub(at.0);
                if used <= in_file {
                    return Ok(Run { end, place });
                }
                let whole = self.start_of(pos.saturating_add(in_file) / self.block);
                if whole <= pos {
                    let entry_at = self.entry_at(block);
                    let detail = "points past the end of the file";
                    return Err(
                        Error::corrupt(format!("{MAP}, entry {block}"), detail).at(entry_at)
                    );
                }
                return Ok(Run { end: whole, place });
            }
        };
        Ok(Run { end, place })
    }
}
