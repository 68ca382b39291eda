//! Both sets of grain tables of an extent that is changed, which are kept alike.
//!
//! Who repairs an extent goes by the copies: an old one would undo what was written.

use super::{
    deferred::Deferred,
    disk_structs::{entries, entry_bytes},
    grain_directory::GrainDirectory,
    opening::Opening,
    shape::Shape,
};
use crate::{
    Error, ErrorKind, Result,
    storage::ImageFile,
    units::{Sectors, buffer_len},
};

/// The directories of an extent: the one that is read, and its copy if there is one.
pub(super) struct TableSets<'a> {
    file: &'a ImageFile,
    shape: Shape,
    directories: Vec<GrainDirectory>,
}

/// A grain table.
pub(super) struct Table {
    pub(super) number: u64,
    pub(super) entries: Vec<u32>,
    /// Its sectors in all sets; none if there is no such table yet.
    places: Vec<u32>,
    pub(super) changed: bool,
}

impl Table {
    /// True if no grain of it was ever written.
    pub(super) fn is_missing(&self) -> bool {
        self.places.is_empty() && !self.changed
    }
}

impl<'a> TableSets<'a> {
    pub(super) fn open(file: &'a ImageFile, shape: Shape, opening: &mut Opening) -> Result<Self> {
        Ok(Self {
            directories: GrainDirectory::all(file, &shape, opening)?,
            file,
            shape,
        })
    }

    /// Reads table number `number` from all sets, which must agree.
    pub(super) fn load(&self, number: u64) -> Result<Table> {
        let mut table = Table {
            number,
            entries: Vec::new(),
            places: Vec::new(),
            changed: false,
        };
        for (directory, before) in self.directories.iter().zip(0usize..) {
            let (sector, _) = directory.entry(number)?;
            let found = if self.shape.stands_alone(sector) {
                vec![sector; buffer_len(self.shape.table_len)?]
            } else {
                table.places.push(sector);
                let at = Sectors(u64::from(sector)).bytes()?;
                let bytes = self.shape.table_len.saturating_mul(4);
                entries(&self.file.read_part("grain table", at, bytes)?)
            };
            if before == 0 {
                table.entries = found;
            } else if table.entries != found
                || !table.places.is_empty() && table.places.len() <= before
            {
                let detail = "differs from its redundant copy";
                let part = format!("grain table {number}");
                return Err(Error::corrupt(part, detail).at(directory.offset_of(number)));
            }
        }
        Ok(table)
    }

    /// Writes `table` to all sets, later, if it has changed. If it is new it lies from the sector
    /// `next` on. Returns the sector from which nothing lies.
    pub(super) fn store(
        &self,
        mut table: Table,
        mut next: u64,
        deferred: &mut Deferred<'a>,
    ) -> Result<u64> {
        if !table.changed {
            return Ok(next);
        }
        let is_new = table.places.is_empty();
        if is_new {
            let sectors = Sectors::holding(self.shape.table_len.saturating_mul(4)).0;
            let first = next;
            for _ in &self.directories {
                table.places.push(self.entry(next)?);
                next = next.saturating_add(sectors);
            }
            // Grains stay a whole number of grains apart.
            let taken = next.saturating_sub(first);
            next = first.saturating_add(taken.next_multiple_of(self.shape.grain_size.max(1)));
        }
        // Before anything refers to it, the file ends behind its last grain, which may be a hole.
        deferred.reach(self.file, Sectors(next).bytes()?);
        let bytes = entry_bytes(&table.entries);
        for (directory, place) in self.directories.iter().zip(table.places) {
            let at = Sectors(u64::from(place)).bytes()?;
            deferred.add(self.file, at, bytes.clone())?;
            if is_new {
                let entry = directory.offset_of(table.number);
                deferred.add(self.file, entry, place.to_le_bytes().to_vec())?;
            }
        }
        Ok(next)
    }

    /// A sector as tables keep it.
    pub(super) fn entry(&self, sector: u64) -> Result<u32> {
        u32::try_from(sector).map_err(|_| {
            let detail = "would have more than 2 TiB, which one sparse extent cannot hold";
            Error::new(ErrorKind::Unsupported, "image", detail).path(self.file.path())
        })
    }
}
