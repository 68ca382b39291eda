//! Writes a vmfsSparse extent (COWD), the redo log of ESXi up to VMFS 5: only ever a child.
//!
//! Header, grain directory, then for each 2 MiB of disk that holds anything its grain table and its
//! grains, in the order of the disk.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sizes are ours, and far below 2^64"
)]

use super::{
    cowd_header::{COWD_GTES_PER_GT, COWD_HEADER, CowdHeader},
    disk_structs::entry_bytes,
};
use crate::{
    Error, ErrorKind, ImageWriter, Result,
    target::Target,
    units::{SECTOR, Sectors, buffer_len},
};
use std::ops::Range;

/// Sectors of the header.
const HEADER_SECTORS: u64 = COWD_HEADER / SECTOR;
/// Entries of a grain table. A grain is one sector, as ESXi writes it.
const GTES: usize = COWD_GTES_PER_GT as usize;
/// Sectors of a grain table.
const TABLE_SECTORS: u64 = GTES as u64 * 4 / SECTOR;
/// Bytes of the disk that a grain table covers.
const TABLE_COVERS: u64 = GTES as u64 * SECTOR;

/// See the module.
pub(super) struct CowdWriter<T> {
    target: T,
    /// Sectors of the disk.
    sectors: u32,
    directory: Vec<u32>,
    /// Sector of the next table or grain.
    next: u64,
    /// The table being filled, its number, and its sector.
    table: Vec<u32>,
    number: u64,
    at: u64,
}

impl<T: Target> CowdWriter<T> {
    /// Starts an extent of `size` bytes.
    pub(super) fn new(target: T, size: u64) -> Result<Self> {
        let sectors = u32::try_from(size / SECTOR).map_err(|_| {
            let detail = format!("{size} bytes are more than vmfsSparse can hold, which is 2 TiB");
            Error::new(ErrorKind::Unsupported, "virtual size", detail)
        })?;
        let directory = vec![0; buffer_len(size.div_ceil(TABLE_COVERS))?];
        Ok(Self {
            next: HEADER_SECTORS + Sectors::holding(directory.len() as u64 * 4).0,
            target,
            sectors,
            directory,
            table: Vec::new(),
            number: 0,
            at: 0,
        })
    }

    /// Gives the sectors of `range` the next places in the file. The range lies within one table;
    /// returns where it starts in the file, in bytes.
    fn place(&mut self, range: &Range<u64>) -> Result<u64> {
        let table = range.start / TABLE_COVERS;
        if table != self.number || self.table.is_empty() {
            self.write_table()?;
            self.number = table;
            self.table = vec![0; GTES];
            self.at = self.next;
            self.next += TABLE_SECTORS;
        }
        let entry = buffer_len(range.start % TABLE_COVERS / SECTOR)?;
        let count = buffer_len((range.end - range.start) / SECTOR)?;
        let first = self.next;
        let entries = self.table.get_mut(entry..entry + count);
        for (entry, sector) in entries.unwrap_or_default().iter_mut().zip(first..) {
            *entry = narrow(sector)?;
        }
        self.next += count as u64;
        Sectors(first).bytes()
    }

    fn write_table(&mut self) -> Result<()> {
        if self.table.is_empty() {
            return Ok(());
        }
        if let Some(entry) = self.directory.get_mut(buffer_len(self.number)?) {
            *entry = narrow(self.at)?;
        }
        let bytes = entry_bytes(&self.table);
        self.target.write_at(Sectors(self.at).bytes()?, &bytes)?;
        self.table.clear();
        Ok(())
    }

    /// The header. What it could say of the parent's name and the generation is left zero: readers
    /// go by the descriptor.
    fn header(&self) -> Result<Vec<u8>> {
        let tables = u32::try_from(self.directory.len());
        let tables =
            tables.map_err(|_| Error::new(ErrorKind::Limit, "directory", "is too long"))?;
        let header = CowdHeader {
            version: 1,
            flags: 3, // the same in all files
            capacity: self.sectors,
            grain_size: 1,
            gd_offset: narrow(HEADER_SECTORS)?,
            gd_entries: tables,
            free_sector: narrow(self.next)?,
            origin: [0; 1028],
            generation: 0,
            name: [0; 60],
            description: [0; 512],
            saved_generation: 0,
            unclean_shutdown: 0,
        };
        header.bytes()
    }
}

/// A sector number as the format keeps it.
fn narrow(sector: u64) -> Result<u32> {
    u32::try_from(sector).map_err(|_| {
        let detail = "has more than 2 TiB, which a vmfsSparse extent cannot hold";
        Error::new(ErrorKind::Unsupported, "image", detail)
    })
}

/// Cuts `range` where the next table begins.
fn by_table(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut pos = range.start;
    std::iter::from_fn(move || {
        let start = pos;
        pos = range.end.min((start / TABLE_COVERS + 1) * TABLE_COVERS);
        (start < range.end).then_some(start..pos)
    })
}

impl<T: Target> ImageWriter for CowdWriter<T> {
    fn unit(&self) -> u64 {
        SECTOR
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        let first = range.start;
        for part in by_table(range) {
            let start = buffer_len(part.start - first)?;
            let end = buffer_len(part.end - first)?;
            let at = self.place(&part)?;
            self.target
                .write_at(at, bytes.get(start..end).unwrap_or_default())?;
        }
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        // The format has no mark for zeros: grains that are holes of the file hide the parent.
        for part in by_table(range) {
            self.place(&part)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.write_table()?;
        let directory = entry_bytes(&self.directory);
        self.target
            .write_at(Sectors(HEADER_SECTORS).bytes()?, &directory)?;
        let header = self.header()?;
        self.target.write_at(0, &header)?;
        self.target.set_size(Sectors(self.next).bytes()?)
    }
}
