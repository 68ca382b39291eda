//! Gives a sparse extent another size.
//!
//! If it needs more tables, it gets new ones, as a whole, at the end of its file: they must follow
//! their directory without gaps, and behind the old ones lie grains.

use super::{disk_structs::entry_bytes, grain_tables::GrainTables, shape::Shape};
use crate::{
    Error, ErrorKind, Result, limits,
    transaction::Transaction,
    units::{Sectors, buffer_len},
};

/// Entries of a directory that are written at once.
const PAGE: u64 = 16 << 10;
/// Where the header says how many sectors the extent holds.
const CAPACITY_AT: u64 = 12;
/// Where the header says where the directories lie, the redundant one first.
const DIRECTORIES_AT: u64 = 48;

/// A sparse extent that is resized.
pub(super) struct Resize<'a> {
    pub(super) t: &'a Transaction<'a>,
    pub(super) tables: GrainTables<'a>,
    /// Bytes of the disk that stay as they are.
    pub(super) kept: u64,
    /// Sectors that the extent gets.
    pub(super) capacity: u64,
}

impl Resize<'_> {
    /// Changes tables and header.
    pub(super) fn run(&self) -> Result<()> {
        let GrainTables {
            file,
            header,
            count,
            ..
        } = &self.tables;
        self.zero_tail()?;
        let resized = Shape {
            capacity: self.capacity,
            ..Shape::from(header)
        };
        let new = resized.tables();
        let directories = match new > *count {
            true => Some(self.move_tables(new)?),
            false => {
                self.clear_tables(new)?;
                None
            }
        };
        self.t.barrier()?;
        if let Some([redundant, primary]) = directories {
            let redundant = match self.tables.has_copy() {
                true => redundant,
                false => header.rgd_offset,
            };
            let bytes = [redundant.to_le_bytes(), primary.to_le_bytes()].concat();
            self.t.write(file, DIRECTORIES_AT, &bytes)?;
        }
        self.t
            .write(file, CAPACITY_AT, &self.capacity.to_le_bytes())
    }

    /// The grains that are kept, the last perhaps in part.
    fn kept_grains(&self) -> u64 {
        self.kept.div_ceil(self.tables.grain.get())
    }

    /// Clears the entries of `table` behind what is kept. True if there were any.
    fn clear(&self, table: u64, entries: &mut [u32]) -> Result<bool> {
        let first = table.saturating_mul(self.tables.table_len.get());
        let kept = buffer_len(
            self.kept_grains()
                .saturating_sub(first)
                .min(u32::MAX.into()),
        )?;
        let behind = entries.get_mut(kept..).unwrap_or_default();
        let any = behind.iter().any(|entry| *entry != 0);
        behind.fill(0);
        Ok(any)
    }

    /// Fails if an entry of the directory stands for grains of zeros of which some go.
    fn refuse_zero_table(&self, table: u64) -> Result<()> {
        let end = table
            .saturating_add(1)
            .saturating_mul(self.tables.table_len.get());
        if self.tables.entry(table)? == 1 && end > self.kept_grains() {
            let detail = "stands for a table of zeros, which cannot be cut";
            let part = format!("grain directory, entry {table}");
            return Err(Error::new(ErrorKind::Unsupported, part, detail));
        }
        Ok(())
    }

    /// Zeros what the last grain holds behind what is kept, so that it cannot come back.
    fn zero_tail(&self) -> Result<()> {
        let (grain, table_len) = (self.tables.grain, self.tables.table_len);
        let (number, inside) = (self.kept / grain, self.kept % grain);
        let table = number / table_len;
        if inside == 0 {
            return Ok(());
        }
        let entries = self.tables.read(table)?.unwrap_or_default();
        let entry = entries.get(buffer_len(number % table_len)?).copied();
        let Some(sector @ 2..) = entry else {
            return Ok(());
        };
        let file = self.tables.file;
        let start = Sectors(sector.into()).bytes()?;
        let (at, end) = (
            start.saturating_add(inside),
            start.saturating_add(grain.get()),
        );
        let old = match at < file.size {
            true => file.read_part("grain", at, end.min(file.size).saturating_sub(at))?,
            false => Vec::new(),
        };
        let len = buffer_len(end.saturating_sub(at))?;
        if old.len() < len || old.iter().any(|b| *b != 0) {
            self.t.write(file, at, &vec![0; len])?;
        }
        Ok(())
    }

    /// Clears all entries behind what is kept, in tables that stay where they are.
    fn clear_tables(&self, new: u64) -> Result<()> {
        let first = self.kept_grains() / self.tables.table_len;
        for table in first..new {
            self.refuse_zero_table(table)?;
            if let Some(mut entries) = self.tables.read(table)?
                && self.clear(table, &mut entries)?
            {
                self.tables.write(self.t, table, &entries)?;
            }
        }
        self.tables.forget(self.t, new..self.tables.count)
    }

    /// Writes `new` tables with their directories to the end of the file, the redundant ones
    /// first. Returns the sectors of the directories.
    fn move_tables(&self, new: u64) -> Result<[u64; 2]> {
        let tables = &self.tables;
        let file = tables.file;
        let directory_bytes = new.saturating_mul(4);
        if directory_bytes > limits::GRAIN_DIRECTORY {
            let detail = format!("would need {directory_bytes} bytes");
            return Err(Error::new(ErrorKind::Limit, "grain directory", detail));
        }
        let directory_sectors = Sectors::holding(directory_bytes).0;
        let set = new
            .saturating_mul(tables.table_sectors())
            .saturating_add(directory_sectors);
        // On the grid of grains, which is counted from the first, so that they stay on it.
        let step = tables.header.grain_size.max(1);
        let phase = tables.header.overhead.checked_rem(step).unwrap_or(0);
        let on_grid = |sector: u64| {
            let steps = sector.saturating_sub(phase).div_ceil(step);
            steps.saturating_mul(step).saturating_add(phase)
        };
        let first = on_grid(Sectors::holding(self.t.size(file)?).0);
        let second = match tables.has_copy() {
            true => first.saturating_add(set),
            false => first,
        };
        let end = on_grid(second.saturating_add(set));
        if u32::try_from(end).is_err() {
            let detail = "would need tables behind 2 TiB of its file, where no entry can lead";
            return Err(Error::new(ErrorKind::Unsupported, "extent", detail));
        }
        let mut directories = vec![first, second];
        directories.dedup();
        for directory in directories {
            let place = |table: u64| {
                let tables = table.saturating_mul(tables.table_sectors());
                directory
                    .saturating_add(directory_sectors)
                    .saturating_add(tables)
            };
            for page in (0..new).step_by(buffer_len(PAGE)?) {
                let mut entries = Vec::new();
                for table in page..new.min(page.saturating_add(PAGE)) {
                    let old = match table < tables.count {
                        true => tables.entry(table)?,
                        false => 0,
                    };
                    let entry = match old {
                        1 => 1,
                        _ => u32::try_from(place(table)).unwrap_or(0),
                    };
                    entries.push(entry);
                }
                let at = Sectors(directory)
                    .bytes()?
                    .saturating_add(page.saturating_mul(4));
                self.t.write(file, at, &entry_bytes(&entries))?;
            }
            for table in 0..tables.count {
                self.refuse_zero_table(table)?;
                if let Some(mut entries) = tables.read(table)? {
                    self.clear(table, &mut entries)?;
                    if entries.iter().any(|entry| *entry != 0) {
                        let at = Sectors(place(table)).bytes()?;
                        self.t.write(file, at, &entry_bytes(&entries))?;
                    }
                }
            }
        }
        self.t.set_len(file, Sectors(end).bytes()?)?;
        Ok([first, second])
    }
}
