//! Gives a disk another size: its last extent, and what the descriptor says of it.
//!
//! A sparse extent that needs more tables gets new ones, as a whole, at the end of its file: they
//! must follow their directory without gaps, and behind the old ones lie grains.

use super::{
    MOST,
    descriptor_size::Described,
    disk_structs::{FLAG_COMPRESSED, MAGIC, SparseHeader, entry_bytes},
    extent_line::{Access, ExtentKind},
    grain_tables::{GrainTables, tables},
};
use crate::{
    Disk, Error, ErrorKind, InFile, Layer, Result,
    format::{Update, fixed},
    limits, raw,
    storage::ImageFile,
    transaction::Transaction,
    units::{SECTOR, Sectors, buffer_len},
};

/// Sectors of an extent of a disk of 2 GiB extents, as VMware and VirtualBox cut it.
const SPLIT: u64 = 2047 << 11;
/// Entries of a directory that are written at once.
const PAGE: u64 = 16 << 10;
/// Where the header says how many sectors the extent holds.
const CAPACITY_AT: u64 = 12;
/// Where the header says where the directories lie, the redundant one first.
const DIRECTORIES_AT: u64 = 48;

/// Makes the disk of `layer` `size` bytes long.
pub(super) fn resize(
    layer: &Layer,
    t: &Transaction<'_>,
    update: &Update<'_>,
    size: u64,
) -> Result<()> {
    if size == 0 || size > MOST || !size.is_multiple_of(SECTOR) {
        let detail = format!("{size} bytes are not whole sectors between 512 bytes and 62 TiB");
        return Err(Error::new(ErrorKind::Unsupported, "virtual size", detail));
    }
    let main = layer
        .files()
        .first()
        .ok_or_else(|| Error::corrupt("descriptor", "is missing"))?;
    let described = Described::read(main).in_file(main.path())?;
    let Some(last) = Last::of(layer, &described)? else {
        return Err(fixed("vmdk", layer, "resized; convert to another size"));
    };
    let sectors = last.sectors(layer, &described, size / SECTOR)?;
    match last.flat {
        Some(start) => last.resize_flat(t, start, sectors)?,
        None => last
            .resize_sparse(layer, t, sectors)
            .in_file(last.file.path())?,
    }
    t.barrier()?;
    let patch = described.patch(Some((last.number, sectors)), update.ids.as_ref());
    t.patch(patch.in_file(main.path())?.as_slice())
}

/// The extent at the end of the disk, which alone changes.
struct Last<'a> {
    /// Of its line in the descriptor, from 0.
    number: usize,
    file: &'a ImageFile,
    /// Sectors of the disk before it.
    before: u64,
    /// Sectors that it holds now.
    sectors: u64,
    /// Of a flat extent, its first sector in the file.
    flat: Option<u64>,
}

impl<'a> Last<'a> {
    /// `None` if that extent is of a kind that stays as it is.
    fn of(layer: &'a Layer, described: &Described<'_>) -> Result<Option<Self>> {
        let lines = &described.descriptor.extents;
        let (Some(line), Some(file)) = (lines.last(), layer.files().last()) else {
            return Ok(None);
        };
        let number = lines.len().saturating_sub(1);
        let before = lines.iter().take(number);
        let before = before.fold(0u64, |sum, line| sum.saturating_add(line.sectors));
        if line.access != Access::ReadWrite {
            return Ok(None);
        }
        let flat = match line.kind {
            ExtentKind::Flat if !file.is_device()? => Some(line.offset),
            ExtentKind::Sparse => None,
            _ => return Ok(None),
        };
        if described.is_embedded() && (flat.is_some() || before > 0) {
            return Ok(None);
        }
        let others = layer.files().iter().rev().skip(1);
        if others.filter(|other| other.tag.id == file.tag.id).count() > 0 {
            let detail = "holds more than the last extent, so it cannot be resized";
            let error = Error::new(ErrorKind::Unsupported, "file", detail);
            return Err(error.path(file.path()));
        }
        Ok(Some(Self {
            number,
            file,
            before,
            sectors: match described.is_embedded() {
                true => layer.size() / SECTOR, // by the header, whatever the line says
                false => line.sectors,
            },
            flat,
        }))
    }

    /// The sectors that the extent gets on a disk of `disk` sectors.
    fn sectors(&self, layer: &Layer, described: &Described<'_>, disk: u64) -> Result<u64> {
        let refused = |what: String| {
            let detail = format!("{what}; convert to another size instead");
            let error = Error::new(ErrorKind::Unsupported, "virtual size", detail);
            Err(error.path(layer.path()))
        };
        let sectors = disk.saturating_sub(self.before);
        if sectors == 0 {
            return refused(format!(
                "{disk} sectors would leave nothing of the last extent, which begins at sector {}",
                self.before
            ));
        }
        let descriptor = &described.descriptor;
        let kind = descriptor.create_type.to_ascii_lowercase();
        let longest = descriptor.extents.iter().map(|line| line.sectors).max();
        let most = longest.unwrap_or(0).max(SPLIT);
        if kind.starts_with("twogbmaxextent") && sectors > most {
            return refused(format!(
                "the disk would need further extents: the last one can have {most} sectors, and \
                 would need {sectors}"
            ));
        }
        Ok(sectors)
    }

    fn resize_flat(&self, t: &Transaction<'_>, start: u64, sectors: u64) -> Result<()> {
        let end = |sectors: u64| Sectors(start.saturating_add(sectors)).bytes();
        // What lies behind the extent must not become part of the disk.
        raw::cut(t, self.file, end(sectors.min(self.sectors))?)?;
        t.set_len(self.file, end(sectors)?)
    }

    fn resize_sparse(&self, layer: &Layer, t: &Transaction<'_>, sectors: u64) -> Result<()> {
        let bytes = self.file.read_part("header", 0, SECTOR)?;
        if !bytes.starts_with(MAGIC) {
            return Err(fixed("vmdk", layer, "resized"));
        }
        let header = SparseHeader::parse("header", &bytes)?;
        if header.has(FLAG_COMPRESSED) {
            return Err(fixed("vmdk", layer, "resized"));
        }
        let tables = GrainTables::open(self.file, &header)?;
        let kept = self.sectors.min(header.capacity).min(sectors);
        Resize {
            kept: Sectors(kept).bytes()?,
            capacity: sectors,
            tables,
            t,
        }
        .run()
    }
}

/// A sparse extent that is resized.
struct Resize<'a> {
    t: &'a Transaction<'a>,
    tables: GrainTables<'a>,
    /// Bytes of the disk that stay as they are.
    kept: u64,
    /// Sectors that the extent gets.
    capacity: u64,
}

impl Resize<'_> {
    fn run(&self) -> Result<()> {
        let GrainTables {
            file,
            header,
            grain,
            table_len,
            count,
            ..
        } = &self.tables;
        self.zero_tail()?;
        let new = tables(self.capacity, *grain, *table_len)?;
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
