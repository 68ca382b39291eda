//! The grain directory: where each grain table lies.

use super::disk_structs::entries;
use super::opening::Opening;
use super::shape::Shape;
use crate::{
    Error, Result,
    cache::Cache,
    storage::ImageFile,
    units::{Sectors, buffer_len},
};

/// Entries that are read at once; 64 GiB of disk with the usual grains.
const PAGE: u64 = 2048;
/// Pages kept in memory for an extent: 64 KiB.
const PAGES: usize = 8;

/// A directory whose entries all lead into the file.
pub(super) struct GrainDirectory {
    file: ImageFile,
    pub(super) part: &'static str,
    /// Where it begins in the file.
    pub(super) at: u64,
    tables: u64,
    pages: Cache<Vec<u32>>,
}

impl GrainDirectory {
    /// Opens the directories of `file`, an extent of that `shape`: the one that is read, then its
    /// copy if there is one.
    pub(super) fn all(file: &ImageFile, shape: &Shape, opening: &mut Opening) -> Result<Vec<Self>> {
        let names = ["grain directory", "redundant grain directory"];
        let sectors = [Some(shape.directory), shape.redundant];
        let bytes = shape.table_len.saturating_mul(4);
        let mut all = Vec::new();
        for (name, sector) in names.into_iter().zip(sectors) {
            if let Some(sector) = sector {
                let tables = shape.tables();
                let directory = Self::open(file.clone(), name, sector, tables, bytes, opening)?;
                all.push(directory);
            }
        }
        Ok(all)
    }

    /// Opens the directory of `tables` entries at `sector`, and checks that each table lies in
    /// the file. What is read counts in `opening`: an image may name many extents.
    pub(super) fn open(
        file: ImageFile,
        part: &'static str,
        sector: u64,
        tables: u64,
        table_bytes: u64,
        opening: &mut Opening,
    ) -> Result<Self> {
        let bytes = tables.saturating_mul(4);
        opening.spend(part, bytes)?;
        let directory = Self {
            at: Sectors(sector).bytes()?,
            file,
            part,
            tables,
            pages: Cache::new(PAGES),
        };
        if directory.at.saturating_add(bytes) > directory.file.size {
            let detail =
                format!("needs {bytes} bytes, more than the file has; it is cut short or damaged");
            return Err(Error::corrupt(part, detail).at(directory.at));
        }
        let mut first = 0;
        while first < tables {
            for (entry, number) in directory.page(first)?.iter().zip(first..) {
                let end = Sectors(u64::from(*entry))
                    .bytes()?
                    .saturating_add(table_bytes);
                if *entry > 1 && end > directory.file.size {
                    let detail = format!("entry {number} points past the end of the file");
                    return Err(Error::corrupt(part, detail).at(directory.offset_of(number)));
                }
            }
            first = first.saturating_add(PAGE);
        }
        Ok(directory)
    }

    /// File offset of the entry of `table`.
    pub(super) fn offset_of(&self, table: u64) -> u64 {
        self.at.saturating_add(table.saturating_mul(4))
    }

    fn page(&self, first: u64) -> Result<Vec<u32>> {
        let count = self.tables.saturating_sub(first).min(PAGE);
        let bytes =
            self.file
                .read_part(self.part, self.offset_of(first), count.saturating_mul(4))?;
        Ok(entries(&bytes))
    }

    /// The sector of `table`, and how many tables from there on have the same entry (at least 1).
    pub(super) fn entry(&self, table: u64) -> Result<(u32, u64)> {
        let inside = table % PAGE;
        let first = table.saturating_sub(inside);
        let page = self.pages.get(first, || self.page(first))?;
        let rest = page.get(buffer_len(inside)?..).unwrap_or_default();
        let sector = rest.first().copied().unwrap_or(0);
        let alike = rest.iter().take_while(|s| **s == sector).count().max(1);
        Ok((sector, alike as u64))
    }
}
