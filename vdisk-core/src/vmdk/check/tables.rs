//! Grain directories and grain tables: where each entry leads, and whom it meets there.
//!
//! Tables are read one at a time, and what they take of the file is kept as joined ranges, so that
//! memory does not grow with the disk.

use super::{Sheet, grains::Grains};
use crate::{
    Result,
    claims::{Claims, Owner},
    limits,
    storage::ImageFile,
    units::{SECTOR, Sectors},
    vmdk::{
        cowd_header::{COWD_GTES_PER_GT, CowdHeader},
        disk_structs::{FLAG_COMPRESSED, FLAG_MARKERS, FLAG_ZERO_GRAINS, SparseHeader, entries},
    },
};
use std::ops::Range;

/// Directory entries that are read at once.
const PAGE: u64 = 2048;
/// Number from which the tables of the redundant directory count.
const REDUNDANT: u64 = 1 << 48;
/// Number from which grains count, where they meet tables.
const GRAINS: u64 = 1 << 52;

/// The shape of the tables of an extent.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    /// Bytes of a grain; not 0.
    pub(super) grain: u64,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Entries of a grain table; not 0.
    pub(super) table_len: u64,
    /// First sector of grains, as the header says; a whole number of grains lies between any two.
    pub(super) overhead: Option<u64>,
    pub(super) compressed: bool,
    pub(super) markers: bool,
    /// Entries of 1 are grains of zeros, and not sector 1.
    pub(super) zero_entries: bool,
    /// True if the header says that there are some.
    pub(super) zero_grains: bool,
}

impl Geometry {
    /// Of a header that was checked.
    pub(super) fn of(header: &SparseHeader) -> Result<Self> {
        Ok(Self {
            grain: Sectors(header.grain_size).bytes()?.max(1),
            size: Sectors(header.capacity).bytes()?,
            table_len: u64::from(header.gtes_per_gt).max(1),
            overhead: (!header.has(FLAG_COMPRESSED)).then_some(header.overhead),
            compressed: header.has(FLAG_COMPRESSED),
            markers: header.has(FLAG_MARKERS),
            zero_entries: true,
            zero_grains: header.has(FLAG_ZERO_GRAINS),
        })
    }

    /// Of a vmfsSparse extent, whose grains and tables lie where there was room.
    pub(super) fn of_cowd(header: &CowdHeader) -> Result<Self> {
        Ok(Self {
            grain: Sectors(header.grain_size.into()).bytes()?.max(1),
            size: Sectors(header.capacity.into()).bytes()?,
            table_len: COWD_GTES_PER_GT.into(),
            overhead: None,
            compressed: false,
            markers: false,
            zero_entries: false,
            zero_grains: false,
        })
    }

    /// True if an entry leads nowhere.
    pub(super) fn is_empty(&self, entry: u32) -> bool {
        entry == 0 || entry == 1 && self.zero_entries
    }

    pub(super) fn grains(&self) -> u64 {
        self.size.div_ceil(self.grain.max(1))
    }

    pub(super) fn tables(&self) -> u64 {
        self.grains().div_ceil(self.table_len.max(1))
    }

    pub(super) fn table_bytes(&self) -> u64 {
        self.table_len.saturating_mul(4)
    }

    /// Bytes of a directory, without what fills its last sector.
    pub(super) fn directory_bytes(&self) -> u64 {
        self.tables().saturating_mul(4)
    }
}

/// A directory with its tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub(super) directory: &'static str,
    pub(super) table: &'static str,
    /// Sector of the directory.
    pub(super) sector: u64,
    /// Number of its first table among all tables of the file.
    first: u64,
}

impl Set {
    /// The one that is read, at `sector`.
    pub(super) fn primary(sector: u64) -> Self {
        Self {
            directory: "grain directory",
            table: "grain table",
            sector,
            first: 0,
        }
    }

    /// The copy at `sector`.
    pub(super) fn redundant(sector: u64) -> Self {
        Self {
            directory: "redundant grain directory",
            table: "redundant grain table",
            sector,
            first: REDUNDANT,
        }
    }

    /// File offset of the directory entry of `table`.
    pub(super) fn entry_at(&self, table: u64) -> u64 {
        let at = self.sector.saturating_mul(SECTOR);
        at.saturating_add(table.saturating_mul(4))
    }

    /// The sector at which writers put `table`: all follow the directory without gaps.
    pub(super) fn usual_place(&self, geometry: &Geometry, table: u64) -> u64 {
        let directory = Sectors::holding(geometry.directory_bytes()).0;
        let size = Sectors::holding(geometry.table_bytes()).0;
        let first = self.sector.saturating_add(directory);
        first.saturating_add(table.saturating_mul(size))
    }
}

/// What the metadata of an extent take of its file.
pub(super) struct Map {
    pub(super) geometry: Geometry,
    /// Headers, descriptor and directories by name, tables as units.
    metadata: Claims,
}

impl Map {
    /// `header` is how many bytes that takes, `descriptor` where it lies.
    pub(super) fn new(
        sheet: &mut Sheet<'_>,
        geometry: &Geometry,
        header: u64,
        descriptor: Range<u64>,
    ) -> Self {
        let mut metadata = Claims::default();
        let _ = metadata.claim(0..header, Owner::Named("the header"));
        let end = descriptor.end.min(sheet.file.size);
        let descriptor = descriptor.start.min(end)..end;
        if metadata
            .claim(descriptor, Owner::Named("the descriptor"))
            .is_err()
        {
            sheet.error("metadata-overlap", "descriptor", "overlaps the header", 28);
        }
        Self {
            geometry: geometry.clone(),
            metadata,
        }
    }

    /// Looks where the tables of `set` lie. `false` if its directory is not in the file.
    pub(super) fn directory(&mut self, sheet: &mut Sheet<'_>, set: &Set) -> Result<bool> {
        let file = sheet.file;
        // Nothing is read by the redundant directory.
        let worst = match set.first {
            0 => crate::check::Severity::Error,
            _ => crate::check::Severity::Warning,
        };
        let at = set.entry_at(0);
        let bytes = self.geometry.directory_bytes();
        let end = at.saturating_add(bytes);
        if set.sector == 0 || end > file.size {
            let detail = format!("needs {bytes} bytes, more than the file has there");
            sheet.say(worst, "directory-past-end", set.directory, detail, at);
            return Ok(false);
        }
        if bytes > limits::GRAIN_DIRECTORY {
            let detail = format!("has {bytes} bytes, more than {}", limits::GRAIN_DIRECTORY);
            sheet.say(worst, "directory-too-large", set.directory, detail, at);
            return Ok(false);
        }
        let sectors = at..end.next_multiple_of(SECTOR).min(file.size);
        let mut whole = true;
        if let Err(owner) = self.metadata.claim(sectors, Owner::Named(set.directory)) {
            let detail = format!("overlaps {}", named(owner));
            sheet.say(worst, "metadata-overlap", set.directory, detail, at);
            whole = false;
        }
        let table_bytes = self.geometry.table_bytes();
        let Self { geometry, metadata } = self;
        each_entry(sheet, set, geometry, |sheet, table, entry| {
            if geometry.is_empty(entry) {
                return Ok(());
            }
            let part = format!("{}, entry {table}", set.directory);
            let range = table_range(entry, table_bytes);
            if range.end > file.size {
                let detail = "points past the end of the file";
                sheet.say(worst, "table-past-end", part, detail, set.entry_at(table));
                return Ok(());
            }
            let number = set.first.saturating_add(table);
            match metadata.claim(range, Owner::Unit(number)) {
                Ok(()) => {}
                Err(owner @ Owner::Unit(_)) => {
                    let detail = format!("leads to {}, too", named(owner));
                    sheet.say(worst, "table-shared", part, detail, set.entry_at(table));
                }
                Err(owner) => {
                    let detail = format!("leads into {}", named(owner));
                    sheet.say(worst, "metadata-overlap", part, detail, set.entry_at(table));
                }
            }
            Ok(())
        })?;
        Ok(whole)
    }

    /// Looks where the entries of the tables of `set` lead.
    pub(super) fn grains(&self, sheet: &mut Sheet<'_>, set: &Set) -> Result<Grains> {
        let mut grains = Grains::new(&self.geometry, self.metadata.clone());
        each_entry(sheet, set, &self.geometry, |sheet, table, entry| {
            if entry == 1 && self.geometry.zero_entries {
                grains.zero(set, table, set.entry_at(table));
            }
            if let Some(at) = self.place(sheet.file, set, table, entry) {
                let bytes = sheet
                    .file
                    .read_part(set.table, at, self.geometry.table_bytes())?;
                grains.table(sheet, set, table, at, &entries(&bytes))?;
            }
            Ok(())
        })?;
        grains.summary(sheet, set);
        Ok(grains)
    }

    /// The file offset of `table` of `set`, if the entry leads to a table of its own.
    pub(super) fn place(&self, file: &ImageFile, set: &Set, table: u64, entry: u32) -> Option<u64> {
        let range = table_range(entry, self.geometry.table_bytes());
        let own = Owner::Unit(set.first.saturating_add(table));
        let inside = !self.geometry.is_empty(entry) && range.end <= file.size;
        let owner = self.metadata.owner(&range);
        let is_own = owner == Some(own) || owner == Some(Owner::Forgotten);
        (inside && is_own).then_some(range.start)
    }

    /// True if nothing lies in `range` but table `table` of `set`, if that.
    pub(super) fn is_free_for(&self, set: &Set, table: u64, range: &Range<u64>) -> bool {
        match self.metadata.owner(range) {
            None => true,
            Some(owner) => owner == Owner::Unit(set.first.saturating_add(table)),
        }
    }
}

/// Calls `each` with every entry of the directory of `set`.
pub(super) fn each_entry(
    sheet: &mut Sheet<'_>,
    set: &Set,
    geometry: &Geometry,
    mut each: impl FnMut(&mut Sheet<'_>, u64, u32) -> Result<()>,
) -> Result<()> {
    let tables = geometry.tables();
    let mut first = 0;
    while first < tables {
        sheet.job.advance(0)?;
        let count = tables.saturating_sub(first).min(PAGE);
        let file = sheet.file;
        let bytes = file.read_part(set.directory, set.entry_at(first), count.saturating_mul(4))?;
        for (entry, table) in entries(&bytes).into_iter().zip(first..) {
            each(sheet, table, entry)?;
        }
        first = first.saturating_add(count);
    }
    Ok(())
}

/// A grain as an owner, apart from tables.
pub(super) fn grain(number: u64) -> Owner {
    Owner::Unit(GRAINS.saturating_add(number))
}

pub(super) fn table_range(entry: u32, bytes: u64) -> Range<u64> {
    let start = u64::from(entry).saturating_mul(SECTOR);
    start..start.saturating_add(bytes)
}

/// What an owner is called in a sentence.
pub(super) fn named(owner: Owner) -> String {
    match owner {
        Owner::Named(name) if name.starts_with("the ") => name.to_owned(),
        Owner::Named(name) => format!("the {name}"),
        Owner::Unit(number) if number >= GRAINS => {
            format!("grain {}", number.saturating_sub(GRAINS))
        }
        Owner::Unit(number) if number >= REDUNDANT => {
            format!("redundant grain table {}", number.saturating_sub(REDUNDANT))
        }
        Owner::Unit(number) => format!("grain table {number}"),
        Owner::Forgotten => "another grain".to_owned(),
    }
}
