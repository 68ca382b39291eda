//! Writes into a sparse extent that exists: in place where a grain lies, else at the end of the file.
//!
//! One table is held at a time: what is written comes in ascending order, so each is read and
//! written once.

use super::{
    check,
    cowd_header::{COWD_HEADER, COWD_MAGIC, CowdHeader, FREE_SECTOR_AT},
    deferred::Deferred,
    opening::Opening,
    shape::Shape,
    sparse_extent::SparseExtent,
    table_sets::{Table, TableSets},
};
use crate::{
    Error, InFile, Result,
    storage::ImageFile,
    transaction::Transaction,
    units::{SECTOR, Sectors, buffer_len},
};
use std::{num::NonZeroU64, ops::Range};

/// See the module.
pub(super) struct SparseUpdate<'a> {
    file: &'a ImageFile,
    transaction: &'a Transaction<'a>,
    shape: Shape,
    is_cowd: bool,
    child: bool,
    /// Bytes of a grain.
    grain: NonZeroU64,
    /// Entries of a table.
    table_len: NonZeroU64,
    sets: TableSets<'a>,
    /// Sector of the next grain or table, and what it was in the beginning.
    next: u64,
    first: u64,
    /// The table in hand.
    table: Option<Table>,
}

impl<'a> SparseUpdate<'a> {
    /// Opens the extent in `file`; none if its grains are compressed.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if anything is wrong with the tables: bytes would be
    /// overwritten that belong elsewhere.
    pub(super) fn open(
        file: &'a ImageFile,
        child: bool,
        transaction: &'a Transaction<'a>,
        opening: &mut Opening,
    ) -> Result<Option<Self>> {
        let is_cowd = file.read_part("header", 0, 4)? == COWD_MAGIC;
        let (shape, begin) = if is_cowd {
            let header = CowdHeader::parse(&file.read_part("header", 0, COWD_HEADER)?)?;
            (Shape::from(&header), u64::from(header.free_sector))
        } else {
            let header = SparseExtent::header(file)?;
            (Shape::from(&header), header.overhead)
        };
        if shape.compressed {
            return Ok(None);
        }
        check::writable(file, is_cowd).in_file(file.path())?;
        let nonzero = |value| {
            NonZeroU64::new(value).ok_or_else(|| Error::corrupt("header", "has a size of zero"))
        };
        let mut extent = Self {
            file,
            transaction,
            shape,
            is_cowd,
            child,
            grain: nonzero(Sectors(shape.grain_size).bytes()?)?,
            table_len: nonzero(shape.table_len)?,
            sets: TableSets::open(file, shape, opening)?,
            next: 0,
            first: 0,
            table: None,
        };
        extent.first = extent.first_free(begin)?;
        extent.next = extent.first;
        Ok(Some(extent))
    }

    /// The first sector behind all that the file holds. `begin` is where the header says that grains
    /// begin or, of vmfsSparse, that nothing lies any more.
    fn first_free(&self, begin: u64) -> Result<u64> {
        let mut end = Sectors::holding(self.transaction.size(self.file)?).0;
        let size = self.shape.capacity.saturating_mul(SECTOR);
        let step = self.shape.grain_size;
        let last = size / self.grain;
        if !size.is_multiple_of(self.grain.get()) {
            // The file may end inside the last grain.
            let table = self.sets.load(last / self.table_len)?;
            let entry = table.entries.get(buffer_len(last % self.table_len)?);
            if let Some(entry) = entry.filter(|e| !self.shape.stands_alone(**e)) {
                end = end.max(u64::from(*entry).saturating_add(step));
            }
        }
        let steps = |sectors: u64| sectors.checked_next_multiple_of(step).unwrap_or(u64::MAX);
        Ok(match end.checked_sub(begin) {
            _ if self.is_cowd => end.max(begin),
            Some(grains) => begin.saturating_add(steps(grains)),
            None => steps(end), // the header is wrong, or the file has no grains yet
        })
    }

    /// Bytes of a grain.
    pub(super) fn grain(&self) -> u64 {
        self.grain.get()
    }

    /// Where the grain at `pos` ends, in bytes of the extent.
    fn grain_end(&self, pos: u64) -> u64 {
        let size = self.shape.capacity.saturating_mul(SECTOR);
        let next = (pos / self.grain).saturating_add(1);
        next.saturating_mul(self.grain.get()).min(size)
    }

    /// Takes the table for `pos` in hand.
    fn turn_to(&mut self, pos: u64, deferred: &mut Deferred<'a>) -> Result<()> {
        let number = pos / self.grain / self.table_len;
        if self.table.as_ref().is_none_or(|t| t.number != number) {
            self.put_away(deferred)?;
            self.table = Some(self.sets.load(number).in_file(self.file.path())?);
        }
        Ok(())
    }

    fn put_away(&mut self, deferred: &mut Deferred<'a>) -> Result<()> {
        if let Some(table) = self.table.take() {
            self.next = self.sets.store(table, self.next, deferred)?;
        }
        Ok(())
    }

    /// The entry for `pos` of the table in hand.
    fn entry(&self, pos: u64) -> Result<u32> {
        let index = buffer_len(pos / self.grain % self.table_len)?;
        let entry = self.table.as_ref().and_then(|t| t.entries.get(index));
        let entry = entry.copied();
        entry.ok_or_else(|| Error::corrupt("grain table", "is too short"))
    }

    fn set_entry(&mut self, pos: u64, value: u32) -> Result<()> {
        let index = buffer_len(pos / self.grain % self.table_len)?;
        if let Some(table) = &mut self.table
            && let Some(entry) = table.entries.get_mut(index)
        {
            *entry = value;
            table.changed = true;
        }
        Ok(())
    }

    /// Where `pos` lies in the file, in bytes; its grain gets a place if it has none.
    fn place(&mut self, pos: u64, deferred: &mut Deferred<'a>) -> Result<u64> {
        self.turn_to(pos, deferred)?;
        let mut sector = self.entry(pos)?;
        if self.shape.stands_alone(sector) {
            sector = self.sets.entry(self.next)?;
            self.set_entry(pos, sector)?;
            self.next = self.next.saturating_add(self.shape.grain_size);
        }
        let start = Sectors(u64::from(sector)).bytes()?;
        Ok(start.saturating_add(pos % self.grain))
    }

    /// Records what `range` of the extent holds. Grains that follow each other in the file are
    /// written at once.
    pub(super) fn data(
        &mut self,
        range: Range<u64>,
        bytes: &[u8],
        deferred: &mut Deferred<'a>,
    ) -> Result<()> {
        let mut run: Option<(u64, Range<usize>)> = None;
        let mut pos = range.start;
        while pos < range.end {
            let end = range
                .end
                .min(self.grain_end(pos).max(pos.saturating_add(1)));
            let at = self.place(pos, deferred)?;
            let start = buffer_len(pos.saturating_sub(range.start))?;
            let stop = buffer_len(end.saturating_sub(range.start))?;
            match &mut run {
                Some((first, part)) if first.saturating_add(part.len() as u64) == at => {
                    part.end = stop;
                }
                _ => {
                    self.write(run.replace((at, start..stop)), bytes)?;
                }
            }
            pos = end;
        }
        self.write(run, bytes)
    }

    fn write(&self, run: Option<(u64, Range<usize>)>, bytes: &[u8]) -> Result<()> {
        match run {
            Some((at, part)) => {
                let bytes = bytes.get(part).unwrap_or_default();
                self.transaction.write(self.file, at, bytes)
            }
            None => Ok(()),
        }
    }

    /// Records that `range` of the extent is zero. In a base, whole grains are given up; their
    /// places in the file stay unused. In a child, zeros must hide the parent: a grain that has no
    /// place gets one, which is a hole of the file.
    pub(super) fn zero(&mut self, range: Range<u64>, deferred: &mut Deferred<'a>) -> Result<()> {
        let mut pos = range.start;
        while pos < range.end {
            self.turn_to(pos, deferred)?;
            if !self.child && self.table.as_ref().is_some_and(Table::is_missing) {
                let covers = self.table_len.saturating_mul(self.grain);
                pos = (pos / covers)
                    .saturating_add(1)
                    .saturating_mul(covers.get());
                continue;
            }
            let end = range
                .end
                .min(self.grain_end(pos).max(pos.saturating_add(1)));
            let whole = pos.is_multiple_of(self.grain.get()) && end == self.grain_end(pos);
            match self.entry(pos)? {
                0 if self.child => {
                    self.place(pos, deferred)?;
                }
                entry if self.shape.stands_alone(entry) => {}
                _ if whole && !self.child => self.set_entry(pos, 0)?,
                _ => {
                    let at = self.place(pos, deferred)?;
                    let zeros = vec![0; buffer_len(end.saturating_sub(pos))?];
                    self.transaction.write(self.file, at, &zeros)?;
                }
            }
            pos = end;
        }
        Ok(())
    }

    /// Writes what remains, later.
    pub(super) fn finish(mut self, deferred: &mut Deferred<'a>) -> Result<()> {
        self.put_away(deferred)?;
        if self.is_cowd && self.next != self.first {
            let free = self.sets.entry(self.next)?.to_le_bytes().to_vec();
            deferred.add(self.file, FREE_SECTOR_AT, free)?;
        }
        Ok(())
    }
}
