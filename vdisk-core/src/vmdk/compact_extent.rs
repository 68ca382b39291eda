//! Makes a sparse extent smaller: what need not be stored goes, grains from the end of the file fill
//! the gaps, and the file is cut.
//!
//! Three passes over the tables: what lies where, then the grains move, then the tables follow.
//! Each pass comes to the same places on its own, so that nothing is remembered but a few bits for
//! each grain.

use super::{
    disk_structs::{FLAG_ZERO_GRAINS, SparseHeader},
    grain_tables::GrainTables,
};
use crate::{
    Error, ErrorKind, Kind, Result,
    bits::Bits,
    claims::{Claims, Owner},
    format::Compacted,
    is_zero, limits, raw,
    slots::{Grid, Slots, runs},
    storage::ImageFile,
    transaction::Transaction,
    units::{SECTOR, Sectors, buffer_len},
};
use std::ops::Range;

/// A sparse extent that is compacted.
pub(super) struct Extent<'a> {
    t: &'a Transaction<'a>,
    pub(super) file: &'a ImageFile,
    pub(super) header: SparseHeader,
    /// Its part of the disk.
    pub(super) range: Range<u64>,
    /// What it does not record is the parent's.
    child: bool,
    /// Grains that need not be stored because they are zero.
    zero: Bits,
    /// Those of which the parent decides.
    absent: Bits,
}

impl<'a> Extent<'a> {
    /// The extent in `file`, which holds `range` of the disk, before anything was dropped.
    pub(super) fn new(
        t: &'a Transaction<'a>,
        file: &'a ImageFile,
        range: Range<u64>,
        header: SparseHeader,
        child: bool,
    ) -> Self {
        Self {
            t,
            file,
            header,
            range,
            child,
            zero: Bits::new(limits::SLOTS),
            absent: Bits::new(limits::SLOTS),
        }
    }

    /// Grains of the extent that lie wholly in `range` of the disk need not be stored.
    pub(super) fn remove(&mut self, range: &Range<u64>, kind: Kind) -> Result<()> {
        let grain = Sectors(self.header.grain_size).bytes()?.max(SECTOR);
        let start = range.start.saturating_sub(self.range.start);
        let first = start.div_ceil(grain);
        let end = match range.end >= self.range.end {
            true => Sectors(self.header.capacity).bytes()?.div_ceil(grain),
            false => range
                .end
                .saturating_sub(self.range.start)
                .checked_div(grain)
                .unwrap_or(0),
        };
        if end > limits::SLOTS {
            let detail = format!("has {end} grains, more than {}", limits::SLOTS);
            return Err(Error::new(ErrorKind::Limit, "extent", detail));
        }
        let bits = match kind {
            Kind::Zero => &mut self.zero,
            Kind::Absent => &mut self.absent,
            Kind::Data => return Ok(()),
        };
        bits.add(first..end);
        Ok(())
    }

    /// The grains of the extent.
    fn grains(&self, tables: &GrainTables<'_>) -> Result<u64> {
        Ok(Sectors(self.header.capacity)
            .bytes()?
            .div_ceil(tables.grain.get()))
    }

    /// What becomes of the entry of grain `number`, but for where the grain lies.
    fn after(&self, number: u64, entry: u32) -> u32 {
        match entry {
            0 | 1 => entry,
            _ if self.absent.has(number) => 0,
            _ if !self.zero.has(number) => entry,
            _ if !self.child => 0,
            // A grain that is a hole of the file is zero for every reader; an entry of 1 is not.
            _ if !self.header.has(FLAG_ZERO_GRAINS) => entry,
            _ => 1,
        }
    }

    /// Moves what stays together, and cuts the file.
    pub(super) fn finish(&self) -> Result<Compacted> {
        let tables = GrainTables::open(self.file, &self.header)?;
        let slots = self.look(&tables)?;
        let grid = slots.grid;
        let end = slots.end();
        for run in runs(slots.unused()) {
            self.t.disregard(self.file, grid.bytes(run))?;
        }
        let mut done = Compacted::default();
        self.walk(&tables, &slots, end, |table| {
            for (from, to) in &table.moves {
                self.move_grain(&tables, *from, *to)?;
                done.moved = done.moved.saturating_add(tables.grain.get());
            }
            Ok(())
        })?;
        self.t.barrier()?;
        let next = self.walk(&tables, &slots, end, |table| {
            if table.new != table.old {
                tables.write(self.t, table.number, &table.new)?;
            }
            let zeros = self.release_zeros(&tables, table)?;
            done.punched = done.punched.saturating_add(zeros);
            done.kept = done.kept.saturating_add(zeros);
            Ok(())
        })?;
        self.t.barrier()?;
        for run in runs(slots.gaps(next, end)) {
            let bytes = grid.bytes(run);
            let len = bytes.end.saturating_sub(bytes.start);
            done.kept = done.kept.saturating_add(len);
            let punched = raw::give_back(self.t, self.file, bytes)?;
            done.punched = done.punched.saturating_add(punched);
        }
        if end < grid.count {
            let len = grid.at(end);
            done.cut = self.file.size.saturating_sub(len);
            self.t.set_len(self.file, len)?;
        }
        done.freed = done.cut.saturating_add(done.kept);
        Ok(done)
    }

    /// Finds out what lies where. Fails if two things take one place.
    fn look(&self, tables: &GrainTables<'_>) -> Result<Slots> {
        let size = self.file.size;
        let first = Sectors(self.header.overhead).bytes()?;
        let phase = first % tables.grain;
        let mut slots = Slots::new(Grid::new(phase..size, first, tables.grain)?);
        let mut claims = Claims::default();
        tables.metadata(|bytes, part| {
            slots.metadata(&bytes, true);
            claims
                .claim(bytes.clone(), Owner::Named(part))
                .map_err(|_| {
                    let detail = "overlaps other metadata";
                    Error::corrupt(part, detail).at(bytes.start)
                })
        })?;
        let grains = self.grains(tables)?;
        for table in 0..tables.count {
            let entries = tables.read_agreed(table)?.unwrap_or_default();
            let first = table.saturating_mul(tables.table_len.get());
            for ((entry, number), index) in entries.into_iter().zip(first..grains).zip(0u64..) {
                if entry <= 1 {
                    continue;
                }
                let wrong = |detail: &str| {
                    let part = format!("grain table {table}, entry {index}");
                    Err(Error::corrupt(part, detail))
                };
                let start = Sectors(entry.into()).bytes()?;
                let end = start.saturating_add(tables.grain.get());
                // Only the last grain of a disk that ends inside it may be cut short.
                let whole = self.header.capacity.is_multiple_of(self.header.grain_size);
                let may_be_short = number.saturating_add(1) == grains && !whole;
                if start >= size || end > size && !may_be_short {
                    return wrong("points past the end of the file");
                }
                let bytes = start..end.min(size);
                let stays = self.after(number, entry) > 1;
                let overlaps = claims.owner(&bytes).is_some();
                if !slots.item(&bytes, stays, false) || overlaps {
                    return wrong("leads to bytes that something else has, too");
                }
            }
        }
        Ok(slots)
    }

    /// Calls `each` with all tables as they were and as they become. Returns the first gap before
    /// slot `end` that no grain fills.
    fn walk(
        &self,
        tables: &GrainTables<'_>,
        slots: &Slots,
        end: u64,
        mut each: impl FnMut(&Table) -> Result<()>,
    ) -> Result<u64> {
        let grid = slots.grid;
        let grains = self.grains(tables)?;
        let mut gaps = slots.gaps(grid.first, end);
        for number in 0..tables.count {
            let Some(old) = tables.read(number)? else {
                continue;
            };
            let mut table = Table {
                number,
                new: old.clone(),
                old,
                moves: Vec::new(),
            };
            let first = number.saturating_mul(tables.table_len.get());
            for (entry, grain) in table.new.iter_mut().zip(first..) {
                *entry = match grain < grains {
                    true => self.after(grain, *entry),
                    false => 0, // behind the end of the disk
                };
                let start = Sectors(u64::from(*entry)).bytes()?;
                if *entry <= 1 || grid.starting(start).is_none_or(|slot| slot < end) {
                    continue;
                }
                // There are as many as was counted.
                let full = || Error::corrupt("file", "was changed meanwhile");
                let gap = gaps.next().ok_or_else(full)?;
                let to = grid.at(gap);
                table.moves.push((start, to));
                *entry = u32::try_from(Sectors::holding(to).0).map_err(|_| full())?;
            }
            each(&table)?;
        }
        Ok(gaps.next().unwrap_or(end))
    }

    fn move_grain(&self, tables: &GrainTables<'_>, from: u64, to: u64) -> Result<()> {
        let grain = tables.grain.get();
        let mut bytes = vec![0; buffer_len(grain)?];
        // The last grain may be short.
        let there = buffer_len(self.file.size.saturating_sub(from).min(grain))?;
        let part = bytes.get_mut(..there).unwrap_or_default();
        self.t.read_at(self.file, from, part)?;
        self.t.write(self.file, to, &bytes)?;
        if is_zero(&bytes) {
            // As it may have been before: a hole.
            self.t.release(self.file, to..to.saturating_add(grain))?;
        }
        Ok(())
    }

    /// Makes holes of the grains that stay where they are, in a child, because they are zero.
    /// Returns the bytes that were none.
    fn release_zeros(&self, tables: &GrainTables<'_>, table: &Table) -> Result<u64> {
        let first = table.number.saturating_mul(tables.table_len.get());
        let mut punched = 0u64;
        for ((new, old), grain) in table.new.iter().zip(&table.old).zip(first..) {
            if *new > 1 && new == old && self.zero.has(grain) {
                let start = Sectors(u64::from(*new)).bytes()?;
                let end = start.saturating_add(tables.grain.get());
                let bytes = start..end.min(self.file.size);
                punched = punched.saturating_add(raw::give_back(self.t, self.file, bytes)?);
            }
        }
        Ok(punched)
    }
}

/// A grain table before and after.
struct Table {
    number: u64,
    old: Vec<u32>,
    new: Vec<u32>,
    /// The grains that move, from and to, in bytes of the file.
    moves: Vec<(u64, u64)>,
}
