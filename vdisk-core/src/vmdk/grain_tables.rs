//! The tables of a hosted sparse extent that is changed in place: both copies as one.
//!
//! They are read as they were before the change, each before it is written; so a rehearsal, which
//! sees nothing else, takes the same way.

use super::{
    disk_structs::{SparseHeader, entries, entry_bytes},
    grain_directory::GrainDirectory,
    opening::Opening,
    shape::Shape,
    sparse_extent::nonzero,
};
use crate::{
    Error, Result,
    storage::ImageFile,
    transaction::Transaction,
    units::{SECTOR, Sectors},
};
use std::{num::NonZeroU64, ops::Range};

/// The directories of an extent, with what leads to its tables.
pub(super) struct GrainTables<'a> {
    pub(super) file: &'a ImageFile,
    pub(super) header: SparseHeader,
    /// Bytes of a grain.
    pub(super) grain: NonZeroU64,
    /// Entries of a table.
    pub(super) table_len: NonZeroU64,
    /// Tables of the extent.
    pub(super) count: u64,
    /// The one that is read, then its copy if there is one.
    directories: Vec<GrainDirectory>,
}

impl<'a> GrainTables<'a> {
    /// Opens the tables of `file`, whose grains are not compressed.
    pub(super) fn open(file: &'a ImageFile, header: &SparseHeader) -> Result<Self> {
        let shape = Shape::from(header);
        let grain = nonzero("grain size", Sectors(shape.grain_size).bytes()?)?;
        let table_len = nonzero("grain table", shape.table_len)?;
        Ok(Self {
            file,
            header: header.clone(),
            grain,
            table_len,
            count: shape.tables(),
            directories: GrainDirectory::all(file, &shape, &mut Opening::new())?,
        })
    }

    fn table_bytes(&self) -> u64 {
        self.table_len.get().saturating_mul(4)
    }

    /// Sectors of a table in the file.
    pub(super) fn table_sectors(&self) -> u64 {
        Sectors::holding(self.table_bytes()).0
    }

    /// True if there are two of all tables.
    pub(super) fn has_copy(&self) -> bool {
        self.directories.len() > 1
    }

    /// The entry of the directory that is read.
    pub(super) fn entry(&self, table: u64) -> Result<u32> {
        let first = self
            .directories
            .first()
            .map(|directory| directory.entry(table));
        Ok(first.transpose()?.map_or(0, |(sector, _)| sector))
    }

    /// Table `table` as it was before the change. `None` if the directory entry, 0 or 1, says all.
    pub(super) fn read(&self, table: u64) -> Result<Option<Vec<u32>>> {
        match self.directories.first() {
            Some(directory) => self.read_of(directory, table),
            None => Ok(None),
        }
    }

    fn read_of(&self, directory: &GrainDirectory, table: u64) -> Result<Option<Vec<u32>>> {
        let (sector, _) = directory.entry(table)?;
        if sector <= 1 {
            return Ok(None);
        }
        let at = Sectors(sector.into()).bytes()?;
        let bytes = self.file.read_part("grain table", at, self.table_bytes())?;
        Ok(Some(entries(&bytes)))
    }

    /// As [`read`](Self::read), but fails if the copy says something else: whoever moves grains
    /// must know which of the two is right.
    pub(super) fn read_agreed(&self, table: u64) -> Result<Option<Vec<u32>>> {
        let found = self.read(table)?;
        for copy in self.directories.iter().skip(1) {
            if self.read_of(copy, table)? != found {
                let detail = "differs from its copy, so it is not known which one is right";
                let error = Error::corrupt(format!("grain table {table}"), detail);
                return Err(error.path(self.file.path()));
            }
        }
        Ok(found)
    }

    /// Writes table `table`, which has a place, to all copies.
    pub(super) fn write(&self, t: &Transaction<'_>, table: u64, entries: &[u32]) -> Result<()> {
        let bytes = entry_bytes(entries);
        for directory in &self.directories {
            let (sector, _) = directory.entry(table)?;
            if sector > 1 {
                t.write(self.file, Sectors(sector.into()).bytes()?, &bytes)?;
            }
        }
        Ok(())
    }

    /// Clears the directory entries of `tables`.
    pub(super) fn forget(&self, t: &Transaction<'_>, tables: Range<u64>) -> Result<()> {
        for directory in &self.directories {
            for table in tables.clone() {
                if directory.entry(table)?.0 != 0 {
                    t.write(self.file, directory.offset_of(table), &[0; 4])?;
                }
            }
        }
        Ok(())
    }

    /// Calls `each` with what the metadata take of the file, and the name of that.
    pub(super) fn metadata(
        &self,
        mut each: impl FnMut(Range<u64>, &'static str) -> Result<()>,
    ) -> Result<()> {
        each(0..SECTOR, "header")?;
        if self.header.descriptor_offset != 0 {
            let start = Sectors(self.header.descriptor_offset).bytes()?;
            let len = Sectors(self.header.descriptor_size).bytes()?;
            each(start..start.saturating_add(len), "descriptor")?;
        }
        let sectors = Sectors(self.table_sectors()).bytes()?;
        for directory in &self.directories {
            let start = directory.at;
            let len = Sectors(Sectors::holding(self.count.saturating_mul(4)).0).bytes()?;
            each(start..start.saturating_add(len), directory.part)?;
            for table in 0..self.count {
                let (sector, _) = directory.entry(table)?;
                if sector > 1 {
                    let start = Sectors(sector.into()).bytes()?;
                    each(start..start.saturating_add(sectors), "grain table")?;
                }
            }
        }
        Ok(())
    }
}
