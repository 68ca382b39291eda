//! The entries of grain tables: each must lead to a grain of its own.

use super::{
    Sheet,
    tables::{Geometry, Set, grain, named},
};
use crate::{
    Result,
    check::Severity,
    claims::{Claims, Owner},
    storage::ImageFile,
    units::SECTOR,
    vmdk::disk_structs::{GRAIN_MARKER, Marker},
};
use std::ops::Range;

/// Something that many entries can have in common: how many do, and which was the first.
#[derive(Default)]
struct Common {
    count: u64,
    first: Option<(String, u64)>,
}

impl Common {
    fn add(&mut self, part: impl FnOnce() -> String, at: u64) {
        self.count = self.count.saturating_add(1);
        self.first.get_or_insert_with(|| (part(), at));
    }

    fn say(&self, sheet: &mut Sheet<'_>, severity: Severity, rule: &'static str, detail: &str) {
        if let Some((part, at)) = &self.first {
            let more = match self.count.saturating_sub(1) {
                0 => String::new(),
                more => format!("; so do {more} more"),
            };
            sheet.say(severity, rule, part.clone(), format!("{detail}{more}"), *at);
        }
    }
}

/// What the entries of one set of tables lead to.
pub(super) struct Grains {
    geometry: Geometry,
    taken: Claims,
    /// Entries that lead to a grain of their own, and those that do not.
    pub(super) stored: u64,
    pub(super) errors: u64,
    zeros: Common,
    misaligned: Common,
    early: Common,
    behind_disk: Common,
}

impl Grains {
    /// `taken` is what metadata take of the file.
    pub(super) fn new(geometry: &Geometry, taken: Claims) -> Self {
        Self {
            geometry: geometry.clone(),
            taken,
            stored: 0,
            errors: 0,
            zeros: Common::default(),
            misaligned: Common::default(),
            early: Common::default(),
            behind_disk: Common::default(),
        }
    }

    /// A directory entry of 1 at file offset `at`: a table full of zeros.
    pub(super) fn zero(&mut self, set: &Set, table: u64, at: u64) {
        let part = || format!("{}, entry {table}", set.directory);
        self.zeros.add(part, at);
    }

    /// Looks at the entries of table number `table`, which lies at file offset `at`.
    pub(super) fn table(
        &mut self,
        sheet: &mut Sheet<'_>,
        set: &Set,
        table: u64,
        at: u64,
        entries: &[u32],
    ) -> Result<()> {
        let first = table.saturating_mul(self.geometry.table_len);
        for (&entry, index) in entries.iter().zip(0u64..) {
            if entry == 0 {
                continue;
            }
            let at = at.saturating_add(index.saturating_mul(4));
            let part = || format!("{} {table}, entry {index}", set.table);
            let number = first.saturating_add(index);
            if number >= self.geometry.grains() {
                self.behind_disk.add(part, at);
            } else if entry == 1 && self.geometry.zero_entries {
                self.zeros.add(part, at);
            } else if let Some((rule, detail)) = self.entry(sheet, number, entry, at, part)? {
                self.errors = self.errors.saturating_add(1);
                sheet.error(rule, part(), detail, at);
            } else {
                self.stored = self.stored.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Looks at one entry that leads to grain number `number`. Returns what is wrong with it.
    fn entry(
        &mut self,
        sheet: &mut Sheet<'_>,
        number: u64,
        entry: u32,
        at: u64,
        part: impl Fn() -> String,
    ) -> Result<Option<(&'static str, String)>> {
        let file = sheet.file;
        let start = u64::from(entry).saturating_mul(SECTOR);
        if start >= file.size {
            let detail = "points past the end of the file";
            return Ok(Some(("grain-past-end", detail.to_owned())));
        }
        let range = if self.geometry.compressed {
            match self.packed(file, number, start)? {
                Ok(end) => start..end.next_multiple_of(SECTOR).min(file.size),
                Err(wrong) => return Ok(Some(wrong)),
            }
        } else {
            let end = start.saturating_add(self.geometry.grain);
            if end > file.size {
                if !self.may_be_short(number) {
                    let detail = format!("leads to a grain that ends at {end:#x}, past the file");
                    return Ok(Some(("grain-cut-short", detail)));
                }
                let detail = "leads to the last grain, which the file holds in part; the rest of it reads as zeros";
                sheet.note("grain-cut-short", part(), detail, at);
            }
            start..end.min(file.size)
        };
        if let Err(owner) = self.taken.claim(range, grain(number)) {
            let rule = match owner {
                Owner::Named(_) => "grain-in-metadata",
                _ if named(owner).contains("table") => "grain-in-metadata",
                _ => "grain-shared",
            };
            let detail = format!("leads to bytes that belong to {}", named(owner));
            return Ok(Some((rule, detail)));
        }
        if self.geometry.overhead.is_some_and(|o| u64::from(entry) < o) {
            self.early.add(&part, at);
        }
        if !self.is_aligned(entry) {
            self.misaligned.add(&part, at);
        }
        Ok(None)
    }

    /// Where the compressed grain at `start` ends, or what is wrong with it.
    fn packed(
        &self,
        file: &ImageFile,
        number: u64,
        start: u64,
    ) -> Result<Result<u64, (&'static str, String)>> {
        let head = if self.geometry.markers {
            GRAIN_MARKER as u64
        } else {
            4
        };
        let short = || {
            let detail = "leads to a compressed grain that runs past the end of the file";
            Ok(Err(("grain-cut-short", detail.to_owned())))
        };
        if start.saturating_add(head) > file.size {
            return short();
        }
        let bytes = file.read_part("grain", start, head)?;
        let size = if self.geometry.markers {
            // What tells a marker's kind follows its size.
            let marker = Marker::parse(&[bytes, vec![0; 4]].concat())?;
            let expected = number.saturating_mul(self.geometry.grain) / SECTOR;
            if marker.size != 0 && marker.value != expected {
                let detail = format!(
                    "leads to a grain that is marked as sector {}, not {expected}",
                    marker.value
                );
                return Ok(Err(("grain-marker", detail)));
            }
            marker.size
        } else {
            u32::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default())
        };
        if size == 0 || u64::from(size) > self.geometry.grain.saturating_mul(2) {
            let detail = format!("leads to a grain that claims {size} compressed bytes");
            return Ok(Err(("grain-size", detail)));
        }
        let end = start.saturating_add(head).saturating_add(size.into());
        if end > file.size {
            return short();
        }
        Ok(Ok(end))
    }

    fn is_aligned(&self, entry: u32) -> bool {
        let Some(overhead) = self.geometry.overhead else {
            return true;
        };
        let from = u64::from(entry).abs_diff(overhead);
        from.saturating_mul(SECTOR).checked_rem(self.geometry.grain) == Some(0)
    }

    /// Only a disk that ends inside its last grain may leave that one short.
    fn may_be_short(&self, number: u64) -> bool {
        let part = self.geometry.size.checked_rem(self.geometry.grain);
        part != Some(0) && number == self.geometry.grains().saturating_sub(1)
    }

    /// True if `entry` could be that of grain `number`, as far as the other grains tell.
    pub(super) fn could_be(&self, file: &ImageFile, number: u64, entry: u32) -> bool {
        if entry <= 1 {
            return true;
        }
        let start = u64::from(entry).saturating_mul(SECTOR);
        let range = start..start.saturating_add(self.geometry.grain);
        self.is_aligned(entry)
            && range.end <= file.size
            && self
                .owner(&range)
                .is_none_or(|owner| owner == grain(number))
    }

    pub(super) fn owner(&self, range: &Range<u64>) -> Option<Owner> {
        self.taken.owner(range)
    }

    /// Says what many entries have in common.
    pub(super) fn summary(&self, sheet: &mut Sheet<'_>, set: &Set) {
        if !self.geometry.zero_grains {
            let detail =
                "is a grain of zeros, but the flags announce none: some programs read sector 1";
            self.zeros
                .say(sheet, Severity::Warning, "zero-entry", detail);
        }
        let detail = format!(
            "leads to a sector before {}, where the header says that grains begin",
            self.geometry.overhead.unwrap_or(0)
        );
        self.early
            .say(sheet, Severity::Warning, "overhead", &detail);
        let detail = "leads to a sector that is not a whole number of grains from the first";
        self.misaligned
            .say(sheet, Severity::Warning, "grain-misaligned", detail);
        let detail = "is used, but lies behind the end of the disk";
        self.behind_disk
            .say(sheet, Severity::Note, "entry-past-disk", detail);
        if self.taken.incomplete() {
            let detail = "are in too many pieces: overlaps may have been missed";
            sheet.note("overlaps-unchecked", "grains", detail, set.entry_at(0));
        }
    }

    /// Where the last of all that is used ends.
    pub(super) fn end(&self) -> u64 {
        self.taken.end()
    }

    /// Notes what the file holds behind all that is used.
    pub(super) fn unused(&self, sheet: &mut Sheet<'_>) {
        let start = self.geometry.overhead.unwrap_or(0).saturating_mul(SECTOR);
        let end = self.taken.end().max(start);
        let left = sheet.file.size.saturating_sub(end);
        // The markers at the end of a stream are in no table.
        if left > 0 && self.errors == 0 && !self.geometry.compressed {
            let detail = format!("has {left} bytes behind the last grain, which nothing uses");
            sheet.note("unused-space", "file", detail, end);
        }
    }
}
