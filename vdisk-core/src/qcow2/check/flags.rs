//! What entries say besides a place: whether a cluster is used once, and bits without a meaning;
//! compared with the refcounts.
//!
//! Reading needs none of it, but the next program that writes believes it.

use super::Check;
use crate::{
    Result,
    check::Severity,
    qcow2::{
        disk_structs::{EXTENDED_L2, EXTERNAL_DATA},
        entry::{COMPRESSED, COPIED, OFFSET, Unit, ZERO},
        tables::{L1, PAGE, numbers},
    },
};
use std::ops::Range;

/// Bits of an L1 entry without a meaning.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
/// Bits of an L2 entry without a meaning, unless it is of a compressed cluster.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;

/// Something found many times: how often, and where first.
#[derive(Default)]
pub(super) struct Tally {
    count: u64,
    /// The part, what is said of it, and its place.
    first: Option<(String, &'static str, u64)>,
}

impl Tally {
    fn add(&mut self, part: impl FnOnce() -> String, detail: &'static str, at: u64) {
        self.count = self.count.saturating_add(1);
        self.first.get_or_insert_with(|| (part(), detail, at));
    }
}

impl Check<'_> {
    /// Looks at the refcounts of the clusters that hold `range` of the image.
    pub(super) fn used(
        &mut self,
        range: Range<u64>,
        part: impl Fn() -> String,
        at: u64,
    ) -> Result<()> {
        let cluster = self.tables.cluster;
        let Some(refcounts) = &self.refcounts else {
            return Ok(());
        };
        let end = range.end.min(self.tables.file.size).div_ceil(cluster.get());
        for number in range.start / cluster..end {
            if refcounts.of(number)? == Some(0) {
                let detail = "is in use, but its refcount is 0";
                self.unused.add(&part, detail, at);
            }
        }
        Ok(())
    }

    /// Compares the flag of an entry with the refcount of the cluster at `place`.
    fn flag(&mut self, entry: u64, place: u64, part: impl Fn() -> String, at: u64) -> Result<()> {
        let Some(refcounts) = &self.refcounts else {
            return Ok(());
        };
        if place >= self.tables.file.size {
            return Ok(());
        }
        match (
            refcounts.of(place / self.tables.cluster)?,
            entry & COPIED != 0,
        ) {
            (None | Some(0), _) | (Some(1), true) | (Some(2..), false) => {}
            (Some(1), false) => {
                let detail = "does not say that its cluster is used once, but its refcount is 1";
                self.copied.add(part, detail, at);
            }
            (Some(2..), true) => {
                let detail = "says that its cluster is used once, but its refcount is above 1";
                self.copied.add(part, detail, at);
            }
        }
        Ok(())
    }

    /// Looks at the flags of the L1 table.
    pub(super) fn l1_entries(&mut self) -> Result<()> {
        let header = &self.tables.header;
        let end = u64::from(header.l1_entries).saturating_mul(8);
        let end = header.l1_at.saturating_add(end);
        let mut at = header.l1_at;
        while at < end {
            let len = PAGE.min(end.saturating_sub(at));
            let page = self.tables.file.read_part(L1, at, len)?;
            for (entry, number) in numbers(&page).zip(0u64..) {
                let entry_at = at.saturating_add(number.saturating_mul(8));
                let number = entry_at.saturating_sub(header.l1_at) / 8;
                let part = || format!("{L1}, entry {number}");
                if entry & L1_RESERVED != 0 {
                    let detail = "sets bits that have no meaning";
                    self.reserved.add(part, detail, entry_at);
                }
                if entry & OFFSET != 0 {
                    self.flag(entry, entry & OFFSET, part, entry_at)?;
                }
            }
            at = at.saturating_add(PAGE);
        }
        Ok(())
    }

    /// Looks at the flags and refcounts of an entry of an L2 table.
    pub(super) fn l2_entry(&mut self, entry: u64, part: &str, at: u64) -> Result<()> {
        let tables = self.tables;
        let name = || part.to_owned();
        if entry & COMPRESSED != 0 {
            if entry & COPIED != 0 {
                let detail = "is compressed, and says that its cluster is used once";
                self.copied.add(name, detail, at);
            }
            if let Ok(Unit::Packed { at: place, len }) = tables.parse_packed(entry) {
                self.used(place..place.saturating_add(len), name, at)?;
            }
            return Ok(());
        }
        let extended = tables.header.has(EXTENDED_L2);
        let zero = if extended { ZERO } else { 0 };
        if entry & (L2_RESERVED | zero) != 0 {
            let detail = "sets bits that have no meaning";
            self.reserved.add(name, detail, at);
        }
        let place = entry & OFFSET;
        if !place.is_multiple_of(tables.cluster.get()) {
            // Any other such entry is an error.
            if !extended && entry & ZERO != 0 && tables.header.version >= 3 {
                let detail = "is of zeros, but keeps a place inside a cluster";
                self.add(Severity::Warning, "zero-place", name(), detail, at);
            }
            return Ok(());
        }
        if place == 0 || tables.header.has(EXTERNAL_DATA) {
            return Ok(());
        }
        let end = place.saturating_add(tables.cluster.get());
        self.used(place..end, name, at)?;
        self.flag(entry, place, name, at)
    }

    /// Reports what was counted.
    pub(super) fn tallies(&mut self) {
        let rules = [
            (
                "refcount-zero",
                std::mem::take(&mut self.unused),
                "; a program that writes may take it for free and overwrite it",
            ),
            (
                "copied-flag",
                std::mem::take(&mut self.copied),
                "; a program that writes may overwrite what others use, or waste space",
            ),
            (
                "reserved-bits",
                std::mem::take(&mut self.reserved),
                ", and other programs may refuse it",
            ),
        ];
        for (rule, tally, harm) in rules {
            let Some((part, detail, at)) = tally.first else {
                continue;
            };
            let more = match tally.count {
                1 => String::new(),
                count => format!(" (the first of {count})"),
            };
            let detail = format!("{detail}{harm}{more}");
            self.add(Severity::Warning, rule, part, detail, at);
        }
    }
}
