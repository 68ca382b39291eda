//! A seSparse extent: entries of 64 bits that tell unmapped and zero grains from absent ones.
//!
//! Apart from the other sparse extents: its tables are numbered, not addressed, and lie in an
//! area of their own, as the grains do.

use super::opening::{Opening, key};
use super::sesparse_headers::{
    ConstHeader, GRAIN_SECTORS, TABLE_ENTRIES, TABLE_SECTORS, VolatileHeader,
};
use crate::{
    Error, Place, Result, Run,
    cache::Cache,
    storage::ImageFile,
    units::{FileOffset, SECTOR, Sectors, buffer_len, round_down},
};
use std::{path::Path, sync::Arc};

/// Bytes of a grain.
const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Bytes of the disk that a grain table covers.
const TABLE_COVERS: u64 = GRAIN * TABLE_ENTRIES;
/// Directory entries that are read at once; they cover 32 GiB.
const PAGE: u64 = 2048;
/// Pages of the directory kept for an extent: 128 KiB.
const PAGES: usize = 8;

/// What the upper half of a directory entry is, if there is a table.
pub(super) const TABLE_PRESENT: u64 = 0x1000_0000;
/// The upper four bits of a grain table entry.
pub(super) const KIND: u64 = 0xf << 60;
pub(super) const UNMAPPED: u64 = 1 << 60;
pub(super) const ZERO: u64 = 2 << 60;
pub(super) const ALLOCATED: u64 = 3 << 60;

/// An opened seSparse extent.
pub(super) struct SeSparseExtent {
    file: ImageFile,
    /// Number of the file in the image.
    index: usize,
    header: ConstHeader,
    /// Bytes of the disk that the extent holds.
    size: u64,
    /// What an absent grain is.
    hole: Place,
    directory: Cache<Vec<u64>>,
    tables: Arc<Cache<Vec<u64>>>,
}

impl SeSparseExtent {
    /// Opens the extent in `file`, and checks that each table lies in the file.
    pub(super) fn open(
        file: ImageFile,
        index: usize,
        hole: Place,
        opening: &mut Opening,
    ) -> Result<Self> {
        let header = ConstHeader::parse(&file.read_part("header", 0, 512)?)?;
        let at = Sectors(header.volatile_header.offset).bytes()?;
        VolatileHeader::parse(&file.read_part("volatile header", at, 512)?)
            .map_err(|e| e.at(at))?;
        opening.spend("grain directory", header.tables().saturating_mul(8))?;
        let extent = Self {
            size: Sectors(header.capacity).bytes()?,
            file,
            index,
            header,
            hole,
            directory: Cache::new(PAGES),
            tables: Arc::clone(&opening.wide_tables),
        };
        let mut table = 0;
        while table < extent.header.tables() {
            let (_, alike) = extent.table_at(table)?;
            table = table.saturating_add(alike);
        }
        Ok(extent)
    }

    /// Bytes of the disk that the extent holds.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The name of the file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// `count` entries from file offset `at`.
    fn entries(&self, part: &'static str, at: u64, count: u64) -> Result<Vec<u64>> {
        let bytes = self.file.read_part(part, at, count.saturating_mul(8))?;
        let entries = bytes.as_chunks::<8>().0.iter();
        Ok(entries.map(|e| u64::from_le_bytes(*e)).collect())
    }

    /// File offset of the grain table number `table` of the disk, if there is one, and how many
    /// tables from there on are alike in not being there (at least 1).
    fn table_at(&self, table: u64) -> Result<(Option<u64>, u64)> {
        let inside = table % PAGE;
        let first = table.saturating_sub(inside);
        let directory = Sectors(self.header.grain_directory.offset).bytes()?;
        let offset_of = |table: u64| directory.saturating_add(table.saturating_mul(8));
        let page = self.directory.get(first, || {
            let count = self.header.tables().saturating_sub(first).min(PAGE);
            self.entries("grain directory", offset_of(first), count)
        })?;
        let rest = page.get(buffer_len(inside)?..).unwrap_or_default();
        let entry = rest.first().copied().unwrap_or(0);
        if entry == 0 {
            let alike = rest.iter().take_while(|e| **e == 0).count().max(1);
            return Ok((None, alike as u64));
        }
        let wrong = |detail: String| {
            let detail = format!("entry {table} {detail}");
            Err(Error::corrupt("grain directory", detail).at(offset_of(table)))
        };
        let number = entry & u64::from(u32::MAX);
        if entry >> 32 != TABLE_PRESENT {
            return wrong(format!("is {entry:#x}, which has no meaning"));
        }
        let tables = self.header.grain_tables;
        let held = tables.size / TABLE_SECTORS;
        if number >= held {
            return wrong(format!("names table {number} of {held}"));
        }
        let sector = tables
            .offset
            .checked_add(number.saturating_mul(TABLE_SECTORS));
        let at = Sectors(sector.unwrap_or(u64::MAX)).bytes()?;
        if at.saturating_add(TABLE_SECTORS.saturating_mul(SECTOR)) > self.file.size {
            return wrong("points past the end of the file".to_owned());
        }
        Ok((Some(at), 1))
    }

    /// Finds the run at `pos` of the extent; its end is relative to the extent as well.
    pub(super) fn locate(&self, pos: u64) -> Result<Run> {
        let grain = pos / GRAIN;
        let (table, entry) = (grain / TABLE_ENTRIES, grain % TABLE_ENTRIES);
        let (table_at, alike) = self.table_at(table)?;
        let Some(table_at) = table_at else {
            return Ok(Run {
                end: table.saturating_add(alike).saturating_mul(TABLE_COVERS),
                place: self.hole,
            });
        };
        let entries = self.table(table, table_at)?;
        let rest = entries.get(buffer_len(entry)?..).unwrap_or_default();
        let first = rest.first().copied().unwrap_or(0);
        let wrong = |detail: String| {
            let part = format!("grain table {table}, entry {entry}");
            let at = table_at.saturating_add(entry.saturating_mul(8));
            Err(Error::corrupt(part, detail).at(at))
        };
        let run_to = |grains: usize| grain.saturating_add(grains as u64).saturating_mul(GRAIN);
        let alike = || rest.iter().take_while(|e| **e & KIND == first & KIND);
        let place = match first & KIND {
            0 if first == 0 => self.hole,
            // Discarded by the guest: zeros, not what the parent held before.
            UNMAPPED | ZERO => Place::Zero,
            ALLOCATED => return self.stored(pos, rest, wrong),
            _ => return wrong(format!("is {first:#x}, which has no meaning")),
        };
        let count = match first {
            0 => rest.iter().take_while(|e| **e == 0).count(),
            _ => alike().count(),
        };
        Ok(Run {
            end: run_to(count.max(1)),
            place,
        })
    }

    /// The run at `pos` in the allocated grain of the first of `entries` and those that follow it
    /// in the file as well.
    fn stored(
        &self,
        pos: u64,
        entries: &[u64],
        wrong: impl Fn(String) -> Result<Run>,
    ) -> Result<Run> {
        let grain = pos / GRAIN;
        let first = entries.first().map_or(0, |e| number_of(*e));
        let follow = entries
            .iter()
            .zip(first..)
            .take_while(|(e, number)| **e & KIND == ALLOCATED && number_of(**e) == *number)
            .count() as u64;
        let sector = self
            .header
            .grains
            .offset
            .checked_add(first.saturating_mul(GRAIN_SECTORS));
        let Ok(start) = Sectors(sector.unwrap_or(u64::MAX)).bytes() else {
            return wrong("points past the end of the file".to_owned());
        };
        let disk_start = grain.saturating_mul(GRAIN);
        // Of the disk's last grain only the part on the disk need be there.
        let wanted = self
            .size
            .saturating_sub(disk_start)
            .min(follow.saturating_mul(GRAIN));
        let in_file = self.file.size.saturating_sub(start);
        let held = match wanted <= in_file {
            true => wanted,
            false => round_down(in_file, GRAIN),
        };
        let end = disk_start.saturating_add(held);
        if end <= pos {
            return wrong("points past the end of the file".to_owned());
        }
        Ok(Run {
            end,
            place: Place::Stored {
                file: self.index,
                at: FileOffset(start).plus(pos.saturating_sub(disk_start))?,
            },
        })
    }

    /// The grain table number `table` of the disk, which lies at file offset `at`.
    fn table(&self, table: u64, at: u64) -> Result<Arc<Vec<u64>>> {
        self.tables.get(key(self.index, table), || {
            self.entries("grain table", at, TABLE_ENTRIES)
        })
    }
}

/// The number of the grain that an allocated entry names: its lower 48 bits are the number
/// without the last 12 bits, which stand above them.
pub(super) fn number_of(entry: u64) -> u64 {
    ((entry & 0x0fff_0000_0000_0000) >> 48) | ((entry & 0xffff_ffff_ffff) << 12)
}
