//! The block allocation table and the sector bitmaps: where each block of the disk is kept.
//!
//! Both are read piece by piece when needed, so that a disk of 64 TiB costs no more memory than a
//! small one.

use super::{bitmap::Bitmap, disk_structs::MIB, metadata::Metadata, regions::Regions};
use crate::{
    Error, Layout, Place, Result, Run,
    cache::Cache,
    storage::ImageFile,
    units::{FileOffset, buffer_len},
};
use std::num::NonZeroU64;

/// Bytes of an entry.
pub(crate) const ENTRY_LEN: u64 = 8;
/// Sectors that one bitmap block covers: one bit each.
const SECTORS_PER_CHUNK: u64 = 1 << 23;
/// Bytes of a bitmap block.
pub(crate) const BITMAP_LEN: u64 = MIB;
/// Entries that are read at once.
pub(crate) const PAGE: u64 = 1024;
/// Pieces of the table kept in memory: 512 KiB, for 128 GiB of disk with blocks of 2 MiB.
const PAGES: usize = 64;
/// Pieces of bitmaps kept in memory: 32 KiB with blocks of 2 MiB, 4 MiB with the largest.
const BITMAPS: usize = 64;

/// The name of the table in messages.
pub(crate) const TABLE: &str = "block allocation table";

/// What an entry says of its block.
pub(crate) mod state {
    /// Not here: zero in a base, the parent's in a child. Also of a bitmap block.
    pub(crate) const NOT_PRESENT: u64 = 0;
    /// Nobody knows what it held; it reads as zero here as in qemu.
    pub(crate) const UNDEFINED: u64 = 1;
    /// Reads as zero.
    pub(crate) const ZERO: u64 = 2;
    /// The guest gave it back.
    pub(crate) const UNMAPPED: u64 = 3;
    /// The same in version 0.95 of the specification.
    pub(crate) const UNMAPPED_OLD: u64 = 5;
    /// All of it is here. Also of a bitmap block.
    pub(crate) const PRESENT: u64 = 6;
    /// Its bitmap says which sectors are here.
    pub(crate) const PARTIAL: u64 = 7;
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    /// The entry for a block of this state at `at`, a multiple of 1 MiB.
    pub(crate) fn new(state: u64, at: u64) -> Self {
        Self(at | state)
    }

    pub(crate) fn state(self) -> u64 {
        self.0 & 7
    }

    /// Where the block is in the file: the entry counts in MiB, from bit 20.
    pub(crate) fn at(self) -> u64 {
        self.0 & !(MIB.saturating_sub(1))
    }
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// This block of the disk.
    Block(u64),
    /// The sector bitmap of this chunk.
    Bitmap(u64),
    /// The disk ends before it.
    Beyond,
}

/// How blocks of the disk correspond to entries of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbering {
    pub(crate) block_size: NonZeroU64,
    /// Blocks between two entries for bitmaps; these are there in images without bitmaps too.
    pub(crate) per_chunk: NonZeroU64,
    /// Blocks of the disk.
    pub(crate) blocks: u64,
}

impl Numbering {
    /// For a disk of `size` bytes in blocks of `block_size`, which is from 1 to 256 MiB.
    pub(crate) fn new(size: u64, block_size: u64, sector: u32) -> Self {
        let block_size = NonZeroU64::new(block_size).unwrap_or(NonZeroU64::MIN);
        let chunk = SECTORS_PER_CHUNK.saturating_mul(sector.into());
        Self {
            block_size,
            per_chunk: NonZeroU64::new(chunk / block_size).unwrap_or(NonZeroU64::MIN),
            blocks: size.div_ceil(block_size.get()),
        }
    }

    /// The index of the entry of `block`.
    pub(crate) fn entry_of(&self, block: u64) -> u64 {
        block.saturating_add(block / self.per_chunk)
    }

    /// The index of the entry of the bitmap of `chunk`.
    pub(crate) fn bitmap_entry_of(&self, chunk: u64) -> u64 {
        let chunks = chunk.saturating_add(1);
        chunks
            .saturating_mul(self.per_chunk.get())
            .saturating_add(chunk)
    }

    /// What entry `index` is for.
    pub(crate) fn role(&self, index: u64) -> Role {
        let both = self.per_chunk.saturating_add(1);
        let (chunk, inside) = (index / both, index % both);
        let first = chunk.saturating_mul(self.per_chunk.get());
        let block = first.saturating_add(inside);
        match inside == self.per_chunk.get() {
            true if first < self.blocks => Role::Bitmap(chunk),
            false if block < self.blocks => Role::Block(block),
            _ => Role::Beyond,
        }
    }

    /// Bytes of `block` that belong to a disk of `size` bytes.
    pub(crate) fn used(&self, block: u64, size: u64) -> u64 {
        let start = block.saturating_mul(self.block_size.get());
        size.saturating_sub(start).min(self.block_size.get())
    }

    /// Entries that the table needs. Only a child needs the last bitmap's.
    pub(crate) fn entries(&self, child: bool) -> u64 {
        match self.blocks.checked_sub(1) {
            None => 0,
            Some(last) if child => self
                .bitmap_entry_of(last / self.per_chunk)
                .saturating_add(1),
            Some(last) => self.entry_of(last).saturating_add(1),
        }
    }
}

/// The layout of an image.
pub(crate) struct Blocks {
    file: ImageFile,
    size: u64,
    sector: u32,
    numbering: Numbering,
    regions: Regions,
    entries: u64,
    child: bool,
    /// What a sector reads as that is not kept here.
    hole: Place,
    pages: Cache<Vec<u64>>,
    bitmaps: Cache<Bitmap>,
}

impl Blocks {
    /// Checks that the table is large enough. Reads nothing.
    pub(crate) fn new(
        file: ImageFile,
        metadata: &Metadata,
        regions: Regions,
        hole: Place,
    ) -> Result<Self> {
        let (size, sector) = (metadata.size, metadata.logical_sector);
        let numbering = Numbering::new(size, metadata.block_size.into(), sector);
        let entries = numbering.entries(metadata.has_parent);
        let room = regions.bat.end.saturating_sub(regions.bat.start) / ENTRY_LEN;
        if entries > room {
            let detail =
                format!("has room for {room} entries, but a disk of {size} bytes needs {entries}");
            return Err(Error::corrupt(TABLE, detail).at(regions.bat.start));
        }
        Ok(Self {
            file,
            size,
            sector,
            numbering,
            regions,
            entries,
            child: metadata.has_parent,
            hole,
            pages: Cache::new(PAGES),
            bitmaps: Cache::new(BITMAPS),
        })
    }

    /// The entries of page `page`.
    fn page(&self, page: u64) -> Result<std::sync::Arc<Vec<u64>>> {
        self.pages.get(page, || {
            let first = page.saturating_mul(PAGE);
            let count = self.entries.saturating_sub(first).min(PAGE);
            let bytes =
                self.file
                    .read_part(TABLE, self.at(first), count.saturating_mul(ENTRY_LEN))?;
            let entries = bytes.as_chunks().0.iter();
            Ok(entries.map(|e| u64::from_le_bytes(*e)).collect())
        })
    }

    /// Where entry `index` is in the file.
    fn at(&self, index: u64) -> u64 {
        at(&self.regions, index)
    }

    fn entry(&self, index: u64) -> Result<Entry> {
        let page = self.page(index / PAGE)?;
        let found = usize::try_from(index % PAGE).ok().and_then(|i| page.get(i));
        found
            .map(|e| Entry(*e))
            .ok_or_else(|| Error::corrupt(TABLE, format!("has no entry {index}")))
    }

    /// Something is wrong with entry `index`.
    fn wrong(&self, index: u64, detail: impl Into<String>) -> Error {
        wrong(&self.regions, index, detail)
    }

    /// Checks that `len` bytes from the place that entry `index` names can be a block.
    fn place(&self, index: u64, entry: Entry, len: u64) -> Result<u64> {
        place(&self.file, &self.regions, index, entry, len)
    }

    /// The first block after `block` that does not read as it does, as far as one page tells.
    fn until(&self, block: u64) -> Result<u64> {
        let index = self.numbering.entry_of(block);
        let page = self.page(index / PAGE)?;
        let entry = |index: u64| {
            let inside = usize::try_from(index % PAGE).unwrap_or(usize::MAX);
            page.get(inside).map(|e| Entry(*e))
        };
        let hidden = |e: Entry| self.reads_as(e.state());
        let own = entry(index).and_then(hidden);
        let mut next = block.saturating_add(1);
        while next < self.numbering.blocks {
            let at = self.numbering.entry_of(next);
            if at / PAGE != index / PAGE || entry(at).and_then(hidden) != own {
                break;
            }
            next = next.saturating_add(1);
        }
        Ok(next)
    }

    /// What a block of this state reads as if it is not kept here.
    fn reads_as(&self, state: u64) -> Option<Place> {
        match state {
            state::NOT_PRESENT => Some(self.hole),
            state::UNDEFINED | state::ZERO | state::UNMAPPED | state::UNMAPPED_OLD => {
                Some(Place::Zero)
            }
            _ => None,
        }
    }

    /// The bitmap of `block`, which is a partial one.
    fn bitmap(&self, block: u64) -> Result<std::sync::Arc<Bitmap>> {
        self.bitmaps.get(block, || {
            let per_chunk = self.numbering.per_chunk;
            let index = self.numbering.bitmap_entry_of(block / per_chunk);
            let entry = self.entry(index)?;
            match entry.state() {
                state::PRESENT => {}
                state::NOT_PRESENT => {
                    let detail =
                        format!("there is no sector bitmap, which the partial block {block} needs");
                    return Err(self.wrong(index, detail));
                }
                other => {
                    let detail = format!("has state {other}, which a sector bitmap cannot have");
                    return Err(self.wrong(index, detail));
                }
            }
            let start = self.place(index, entry, BITMAP_LEN)?;
            let len = BITMAP_LEN / per_chunk;
            let inside = (block % per_chunk).saturating_mul(len);
            let at = FileOffset(start).plus(inside)?.0;
            Ok(Bitmap::new(&self.file.read_part(
                "sector bitmap",
                at,
                len,
            )?))
        })
    }
}

impl Layout for Blocks {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector_size(&self) -> u32 {
        self.sector
    }

    fn locate(&self, pos: u64) -> Result<Run> {
        let block_size = self.numbering.block_size;
        let block = pos / block_size;
        let inside = pos % block_size;
        let start = pos.saturating_sub(inside);
        let index = self.numbering.entry_of(block);
        let entry = self.entry(index)?;
        if let Some(place) = self.reads_as(entry.state()) {
            return Ok(Run {
                end: self.until(block)?.saturating_mul(block_size.get()),
                place,
            });
        }
        // Some programs cut the last block where the disk ends.
        let used = self.size.saturating_sub(start).min(block_size.get());
        let (kept, end) = match entry.state() {
            state::PRESENT => (true, used),
            state::PARTIAL if self.child => {
                let sector = u64::from(self.sector);
                let (kept, end) = self
                    .bitmap(block)?
                    .run(inside.checked_div(sector).unwrap_or(0));
                (kept, end.saturating_mul(sector))
            }
            state::PARTIAL => {
                let detail = "has a partial block, which only a child can have";
                return Err(self.wrong(index, detail));
            }
            other => {
                let detail = format!("has state {other}, which means nothing");
                return Err(self.wrong(index, detail));
            }
        };
        let data = self.place(index, entry, used)?;
        Ok(Run {
            end: FileOffset(start).plus(end)?.0,
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

/// Where entry `index` is in the file.
fn at(regions: &Regions, index: u64) -> u64 {
    let start = regions.bat.start;
    start.saturating_add(index.saturating_mul(ENTRY_LEN))
}

/// Something is wrong with entry `index`.
pub(crate) fn wrong(regions: &Regions, index: u64, detail: impl Into<String>) -> Error {
    Error::corrupt(format!("{TABLE}, entry {index}"), detail).at(at(regions, index))
}

/// Checks that `len` bytes from the place that entry `index` names can be a block.
pub(crate) fn place(
    file: &ImageFile,
    regions: &Regions,
    index: u64,
    entry: Entry,
    len: u64,
) -> Result<u64> {
    let start = entry.at();
    let end = FileOffset(start).plus(len)?.0;
    if start == 0 {
        let detail = "says that the block is present, but not where";
        return Err(wrong(regions, index, detail));
    }
    if end > file.size {
        return Err(wrong(regions, index, "points past the end of the file"));
    }
    let reserved = &regions.reserved;
    if reserved.iter().any(|r| start < r.end && r.start < end) {
        let detail = "points into the metadata of the image";
        return Err(wrong(regions, index, detail));
    }
    Ok(start)
}

/// Bytes of a page of the table, for those who hold one.
pub(crate) fn page_len() -> Result<usize> {
    buffer_len(PAGE.saturating_mul(ENTRY_LEN))
}
