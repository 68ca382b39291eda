//! What is wrong with a qcow2 image beyond what stops it from being opened.
//!
//! Clusters that nothing uses are not looked for, nor what internal snapshots hold: both take
//! memory that grows with the disk, or tables that reading does without.

mod flags;

use super::{
    disk_structs::{CORRUPT, DIRTY, EXTERNAL_DATA},
    entry::{COMPRESSED, Entry, OFFSET, Unit},
    refcounts::Refcounts,
    tables::{L1, PAGE, Tables, numbers},
};
use crate::{
    Result,
    check::{Checkup, Finding, Findings, Severity},
    claims::{Claims, Owner},
    units::SECTOR,
};
use flags::Tally;
use std::ops::Range;

/// A check under way.
struct Check<'a> {
    tables: &'a Tables,
    findings: &'a mut Findings,
    /// What is taken of the image, and of the external data file.
    image: Claims,
    data: Claims,
    /// None if they cannot be read, or need not be right.
    refcounts: Option<Refcounts>,
    unused: Tally,
    copied: Tally,
    reserved: Tally,
}

/// Looks at the flags, and at every entry of the tables.
pub(super) fn check(tables: &Tables, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
    let mut check = Check {
        tables,
        findings,
        image: Claims::default(),
        data: Claims::default(),
        refcounts: None,
        unused: Tally::default(),
        copied: Tally::default(),
        reserved: Tally::default(),
    };
    check.flags();
    check.metadata()?;
    check.l1_entries()?;
    check.clusters(checkup)?;
    check.tallies();
    if check.image.incomplete() || check.data.incomplete() {
        let detail = "are in too many pieces: some that overlap may have been missed";
        check.add(Severity::Note, "overlaps-unknown", "clusters", detail, 0);
    }
    Ok(())
}

impl Check<'_> {
    fn add(
        &mut self,
        severity: Severity,
        rule: &'static str,
        part: impl Into<std::borrow::Cow<'static, str>>,
        detail: impl Into<String>,
        at: u64,
    ) {
        let file = &self.tables.file;
        let finding = Finding::new(severity, rule, file, part, detail);
        self.findings.add(finding.at(at));
    }

    fn flags(&mut self) {
        let header = &self.tables.header;
        let (dirty, corrupt) = (header.has(DIRTY), header.has(CORRUPT));
        let snapshots = header.snapshots;
        if dirty {
            let detail = "says that the image was not closed cleanly";
            self.add(Severity::Warning, "dirty", "header", detail, 72);
        }
        if corrupt {
            let detail = "says that a program found the image corrupt";
            self.add(Severity::Warning, "marked-corrupt", "header", detail, 72);
        }
        if snapshots > 0 {
            let detail = format!("are {snapshots}, and are not looked at");
            self.add(
                Severity::Note,
                "snapshots",
                "internal snapshots",
                detail,
                60,
            );
        }
    }

    /// Claims header, L1 table and refcounts.
    fn metadata(&mut self) -> Result<()> {
        let tables = self.tables;
        let header = &tables.header;
        let cluster = tables.cluster.get();
        self.claim(0..cluster, "header", 0);
        let l1_len = u64::from(header.l1_entries).saturating_mul(8);
        self.claim(header.l1_at..header.l1_at.saturating_add(l1_len), L1, 40);

        let part = "refcount table";
        let len = u64::from(header.refcount_clusters).saturating_mul(cluster);
        let end = header.refcounts_at.saturating_add(len);
        if !header.refcounts_at.is_multiple_of(cluster) || end > tables.file.size || len == 0 {
            let detail = "is missing or lies outside the file";
            self.add(Severity::Warning, "refcounts", part, detail, 48);
            return Ok(());
        }
        self.claim(header.refcounts_at..end, part, 48);
        // A program that opens a dirty image to write makes them anew.
        if !header.has(DIRTY) {
            self.refcounts = Refcounts::new(&tables.file, header, header.refcounts_at..end);
            if self.refcounts.is_none() {
                let detail = format!("have 2^{} bits each", header.refcount_order);
                self.add(Severity::Warning, "refcounts", "refcounts", detail, 96);
            }
        }
        self.used(0..cluster, || "header".to_owned(), 0)?;
        self.used(
            header.l1_at..header.l1_at.saturating_add(l1_len),
            || L1.to_owned(),
            40,
        )?;
        self.used(header.refcounts_at..end, || part.to_owned(), 48)?;
        let mut at = header.refcounts_at;
        while at < end {
            let page = tables
                .file
                .read_part(part, at, PAGE.min(end.saturating_sub(at)))?;
            for (entry, number) in numbers(&page).zip(0u64..) {
                let block = entry & OFFSET;
                let entry_at = at.saturating_add(number.saturating_mul(8));
                let block_end = block.saturating_add(cluster);
                if block == 0 {
                    continue;
                }
                if !block.is_multiple_of(cluster) || block_end > tables.file.size {
                    let detail = "has an entry that points outside the file or inside a cluster";
                    self.add(Severity::Warning, "refcounts", part, detail, entry_at);
                    continue;
                }
                self.claim(block..block_end, "refcount block", entry_at);
                self.used(block..block_end, || "refcount block".to_owned(), entry_at)?;
            }
            at = at.saturating_add(PAGE);
        }
        Ok(())
    }

    /// Claims a part of the metadata, to which `at` points.
    fn claim(&mut self, range: Range<u64>, name: &'static str, at: u64) {
        if let Err(owner) = self.image.claim(range, Owner::Named(name)) {
            let detail = format!("lies where {} is", called(owner));
            self.add(Severity::Error, "overlap", name, detail, at);
        }
    }

    fn clusters(&mut self, checkup: &Checkup<'_>) -> Result<()> {
        let tables = self.tables;
        let last = tables.size.div_ceil(tables.cluster.get());
        let mut cluster = 0;
        while cluster < last {
            checkup.job.advance(0)?;
            let table = cluster / tables.table_len;
            let next = table
                .saturating_add(1)
                .saturating_mul(tables.table_len.get());
            cluster = match tables.l2_table(table) {
                Ok((0, alike)) => table
                    .saturating_add(alike)
                    .saturating_mul(tables.table_len.get()),
                Ok((at, _)) => {
                    self.table(table, at, next.min(last))?;
                    next
                }
                Err(error) => {
                    let finding = Finding::of(&error, "bad-entry", &tables.file);
                    self.findings.add(finding);
                    next
                }
            };
        }
        Ok(())
    }

    /// Looks at the L2 table number `table` at file offset `at`, up to the entry of cluster `end`.
    fn table(&mut self, table: u64, at: u64, end: u64) -> Result<()> {
        let tables = self.tables;
        let range = at..at.saturating_add(tables.cluster.get());
        if let Err(owner) = self.image.claim(range, Owner::Named("L2 table")) {
            let entry_at = tables.header.l1_at.saturating_add(table.saturating_mul(8));
            let part = format!("{L1}, entry {table}");
            let detail = format!("points to where {} is", called(owner));
            self.add(Severity::Error, "overlap", part, detail, entry_at);
            return Ok(());
        }
        let entry_at = tables.header.l1_at.saturating_add(table.saturating_mul(8));
        let name = || format!("L2 table {table}");
        self.used(at..at.saturating_add(tables.cluster.get()), name, entry_at)?;
        let mut cluster = table.saturating_mul(tables.table_len.get());
        while cluster < end {
            let page = tables.page(table, at, cluster)?;
            for (entry, number) in page.entries.iter().zip(page.cluster..end) {
                let entry_at = page.at.saturating_add(
                    number
                        .saturating_sub(page.cluster)
                        .saturating_mul(tables.entry_len.get()),
                );
                let part = format!("L2 table {table}, entry {}", number % tables.table_len);
                self.cluster(number, entry.descriptor, &part, entry_at);
                self.l2_entry(entry.descriptor, &part, entry_at)?;
                self.units(number, entry, &part, entry_at);
            }
            cluster = page.cluster.saturating_add(page.entries.len() as u64);
        }
        Ok(())
    }

    /// Claims what the entry of a cluster points to.
    fn cluster(&mut self, number: u64, descriptor: u64, part: &str, entry_at: u64) {
        let tables = self.tables;
        let range = if descriptor & COMPRESSED != 0 {
            let Ok(Unit::Packed { at, len }) = tables.parse_packed(descriptor) else {
                return; // said by `units`
            };
            // The length counts sectors; others may begin in the last one.
            let sure = len.saturating_sub(SECTOR).saturating_add(1);
            at..at.saturating_add(sure)
        } else {
            let at = descriptor & OFFSET;
            if !tables.has_place(descriptor) || !at.is_multiple_of(tables.cluster.get()) {
                return;
            }
            at..at.saturating_add(tables.cluster.get())
        };
        let claims = match tables.header.has(EXTERNAL_DATA) {
            true => &mut self.data,
            false => &mut self.image,
        };
        if let Err(owner) = claims.claim(range, Owner::Unit(number)) {
            let detail = format!("points to where {} is", called(owner));
            self.add(
                Severity::Error,
                "overlap",
                part.to_owned(),
                detail,
                entry_at,
            );
        }
    }

    /// Looks at what the entry says of the cluster or each subcluster; names the first fault.
    fn units(&mut self, number: u64, entry: &Entry, part: &str, entry_at: u64) {
        let tables = self.tables;
        let start = tables.start_of(number);
        for sub in 0..tables.cluster.get() / tables.unit {
            let pos = start.saturating_add(sub.saturating_mul(tables.unit.get()));
            if pos >= tables.size {
                return;
            }
            match tables.parse(entry, sub) {
                Err(detail) => {
                    return self.add(
                        Severity::Error,
                        "bad-entry",
                        part.to_owned(),
                        detail,
                        entry_at,
                    );
                }
                Ok(Unit::At(at)) => {
                    let end = pos.saturating_add(tables.unit.get());
                    if let Err(error) = tables.stored(pos, end, at) {
                        let finding = Finding::of(&error, "past-end", &tables.file);
                        return self.findings.add(finding.at(entry_at));
                    }
                }
                // One answer for all of the cluster.
                Ok(Unit::Packed { .. }) => return,
                Ok(Unit::Hole | Unit::Zero) => {}
            }
        }
    }
}

fn called(owner: Owner) -> String {
    match owner {
        Owner::Named(name) => format!("the {name}"),
        Owner::Unit(number) => format!("cluster {number} of the disk"),
        Owner::Forgotten => "another cluster of the disk".to_owned(),
    }
}
