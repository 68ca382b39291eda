//! Writes a sparse extent: header, descriptor, two sets of grain tables, then grains in order.
//!
//! With its descriptor inside it is all of a monolithicSparse disk, without one an extent of a disk
//! of several files.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sizes are ours, and far below 2^64"
)]

use super::{
    descriptor_text::DESCRIPTOR_SECTORS,
    disk_structs::{
        FLAG_NEWLINES, FLAG_REDUNDANT, GTES_PER_GT, NEWLINES, SparseHeader, entry_bytes,
    },
};
use crate::{
    Error, ErrorKind, ImageWriter, Result,
    target::Target,
    units::{SECTOR, Sectors, buffer_len, round_up},
};
use std::ops::Range;

/// Bytes of a grain: the size that every product uses.
pub(super) const GRAIN: u64 = 64 << 10;
/// Sectors of a grain.
pub(super) const GRAIN_SECTORS: u64 = GRAIN / SECTOR;
/// Bytes of the disk that a grain table covers.
pub(super) const TABLE_COVERS: u64 = GRAIN * GTES_PER_GT as u64;
/// Sectors of a grain table.
const TABLE_SECTORS: u64 = GTES_PER_GT as u64 * 4 / SECTOR;

/// Where the parts of the file lie, in sectors.
struct Plan {
    tables: u64,
    directory_sectors: u64,
    redundant_directory: u64,
    directory: u64,
    overhead: u64,
}

impl Plan {
    fn new(size: u64, descriptor_sectors: u64) -> Self {
        let tables = size.div_ceil(TABLE_COVERS);
        let directory_sectors = (tables * 4).div_ceil(SECTOR);
        let set = directory_sectors + tables * TABLE_SECTORS;
        let redundant_directory = 1 + descriptor_sectors;
        Self {
            tables,
            directory_sectors,
            redundant_directory,
            directory: redundant_directory + set,
            overhead: round_up(redundant_directory + 2 * set, GRAIN_SECTORS),
        }
    }

    /// Sector of table `number` of the set whose directory is at `directory`.
    fn table(&self, directory: u64, number: u64) -> u64 {
        directory + self.directory_sectors + number * TABLE_SECTORS
    }
}

/// See the module.
pub(super) struct SparseWriter<T> {
    target: T,
    size: u64,
    child: bool,
    plan: Plan,
    header: SparseHeader,
    descriptor: Vec<u8>,
    /// Sector of the next grain.
    next: u64,
    /// The table being filled, and its number.
    table: Vec<u32>,
    number: u64,
}

impl<T: Target> SparseWriter<T> {
    /// Starts an extent of `size` bytes. `descriptor` is empty, or of [`DESCRIPTOR_SECTORS`].
    pub(super) fn new(target: T, size: u64, child: bool, descriptor: Vec<u8>) -> Self {
        let (descriptor_offset, descriptor_size) = match descriptor.is_empty() {
            true => (0, 0),
            false => (1, DESCRIPTOR_SECTORS),
        };
        let plan = Plan::new(size, descriptor_size);
        let header = SparseHeader {
            version: 1,
            flags: FLAG_NEWLINES | FLAG_REDUNDANT,
            capacity: size / SECTOR,
            grain_size: GRAIN_SECTORS,
            descriptor_offset,
            descriptor_size,
            gtes_per_gt: GTES_PER_GT,
            rgd_offset: plan.redundant_directory,
            gd_offset: plan.directory,
            overhead: plan.overhead,
            unclean_shutdown: 0,
            newlines: NEWLINES,
            compression: 0,
        };
        Self {
            target,
            size,
            child,
            descriptor,
            next: plan.overhead,
            plan,
            header,
            table: Vec::new(),
            number: 0,
        }
    }

    /// Gives the grains of `range` the next places in the file; returns the first, in bytes.
    fn place(&mut self, range: &Range<u64>) -> Result<u64> {
        let first = Sectors(self.next).bytes()?;
        let mut pos = range.start;
        while pos < range.end {
            let table = pos / TABLE_COVERS;
            if table != self.number || self.table.is_empty() {
                self.write_table()?;
                self.number = table;
                self.table = vec![0; GTES_PER_GT as usize];
            }
            let sector = u32::try_from(self.next).map_err(|_| {
                let detail = "has more than 2 TiB of data, which one sparse extent cannot hold";
                Error::new(ErrorKind::Unsupported, "image", detail)
            })?;
            let entry = buffer_len(pos % TABLE_COVERS / GRAIN)?;
            if let Some(entry) = self.table.get_mut(entry) {
                *entry = sector;
            }
            self.next += GRAIN_SECTORS;
            pos += GRAIN;
        }
        Ok(first)
    }

    /// Writes the table in hand to both sets. Tables without grains stay holes.
    fn write_table(&mut self) -> Result<()> {
        if self.table.is_empty() {
            return Ok(());
        }
        let bytes = entry_bytes(&self.table);
        for directory in [self.plan.redundant_directory, self.plan.directory] {
            let at = Sectors(self.plan.table(directory, self.number)).bytes()?;
            self.target.write_at(at, &bytes)?;
        }
        self.table.clear();
        Ok(())
    }
}

impl<T: Target> ImageWriter for SparseWriter<T> {
    fn unit(&self) -> u64 {
        GRAIN
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        let at = self.place(&range)?;
        self.target.write_at(at, bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        // In a child, zeros must hide the parent. Grains that are holes of the file do so for every
        // reader; the zero entries of version 2 are misread or refused by libvmdk and VirtualBox.
        if self.child {
            self.place(&range)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.write_table()?;
        for directory in [self.plan.redundant_directory, self.plan.directory] {
            let entries: Vec<u32> = (0..self.plan.tables)
                .map(|table| u32::try_from(self.plan.table(directory, table)))
                .collect::<Result<_, _>>()
                .map_err(|_| {
                    let detail = format!("of {} bytes does not fit one sparse extent", self.size);
                    Error::new(ErrorKind::Unsupported, "disk", detail)
                })?;
            let at = Sectors(directory).bytes()?;
            self.target.write_at(at, &entry_bytes(&entries))?;
        }
        if !self.descriptor.is_empty() {
            self.target.write_at(SECTOR, &self.descriptor)?;
        }
        self.target.write_at(0, &self.header.bytes()?)?;
        self.target.set_size(Sectors(self.next).bytes()?)
    }
}
