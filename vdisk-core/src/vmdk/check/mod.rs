//! Checks a VMDK: headers, descriptor, every table entry, and the copies of tables against them.
//!
//! Reading stops at the first thing that is wrong; a check goes on and says all of it. So it reads
//! the tables on its own, and asks the reader only at the end, for what it did not think of.

mod copies;
mod cowd;
mod descriptor;
mod extents;
mod grains;
mod header;
mod markers;
mod sesparse;
mod stream;
mod tables;

use super::{
    Vmdk,
    descriptor::looks_like,
    disk_structs::{FLAG_COMPRESSED, FLAG_REDUNDANT, MAGIC, MAGIC_UNFINISHED, SparseHeader},
    head,
};
use crate::{
    Error, ErrorKind, Format, Job, Result,
    check::{Checkup, Finding, Findings, Repair, Severity, is_finding, walk},
    storage::ImageFile,
    units::SECTOR,
};
use std::borrow::Cow;
use tables::Geometry;

/// What is said of one file.
pub(super) struct Sheet<'a> {
    file: &'a ImageFile,
    job: &'a Job<'a>,
    findings: Findings,
}

impl<'a> Sheet<'a> {
    fn new(file: &'a ImageFile, job: &'a Job<'a>) -> Self {
        Self {
            file,
            job,
            findings: Findings::default(),
        }
    }

    fn say(
        &mut self,
        severity: Severity,
        rule: &'static str,
        part: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        at: u64,
    ) {
        let finding = Finding::new(severity, rule, self.file, part, detail);
        self.findings.add(finding.at(at));
    }

    fn error(
        &mut self,
        rule: &'static str,
        part: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        at: u64,
    ) {
        self.say(Severity::Error, rule, part, detail, at);
    }

    fn warning(
        &mut self,
        rule: &'static str,
        part: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        at: u64,
    ) {
        self.say(Severity::Warning, rule, part, detail, at);
    }

    fn note(
        &mut self,
        rule: &'static str,
        part: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        at: u64,
    ) {
        self.say(Severity::Note, rule, part, detail, at);
    }

    /// Adds a finding that may have a repair.
    fn add(&mut self, mut finding: Finding, repair: Option<Repair>) {
        finding.repair = repair;
        self.findings.add(finding);
    }

    /// The value, or a finding under `rule`; `Err` only for what ends the check.
    fn found<T>(&mut self, rule: &'static str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_finding(&error) => {
                self.findings.add(Finding::of(&error, rule, self.file));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// True if nothing was found that needs to be done.
    fn is_clean(&self) -> bool {
        self.findings.worst() <= Some(Severity::Note)
    }
}

/// Checks the image that `file` is, or whose descriptor it is.
pub(super) fn check(
    file: &ImageFile,
    checkup: &Checkup<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let mut sheet = Sheet::new(file, checkup.job);
    let head = head(file)?;
    if head.starts_with(MAGIC) || head.starts_with(MAGIC_UNFINISHED) {
        monolithic(&mut sheet)?;
    } else if looks_like(&head) {
        let text = file.read_part("descriptor", 0, file.size.min(crate::limits::DESCRIPTOR))?;
        if let Some(descriptor) = descriptor::check(&mut sheet, &text, 0)? {
            extents::check(&mut sheet, &descriptor, checkup)?;
        }
    }
    let mut own = sheet.findings;
    read(file, checkup, &mut own)?;
    findings.append(own);
    Ok(())
}

/// Fails if one cannot write by the tables of the sparse extent in `file`: by what is wrong with them,
/// bytes would be overwritten that belong elsewhere.
pub(super) fn writable(file: &ImageFile, is_cowd: bool) -> Result<()> {
    /// These are warnings, because nobody reads by the copies of tables; but they are written to.
    const HARMFUL: [&str; 5] = [
        "redundant-differs",
        "metadata-overlap",
        "table-shared",
        "table-past-end",
        "directory-past-end",
    ];
    let job = Job::default();
    let mut sheet = Sheet::new(file, &job);
    if is_cowd {
        cowd::check(&mut sheet)?;
    } else {
        sparse_extent(&mut sheet)?;
    }
    let harmful = |f: &&Finding| f.severity == Severity::Error || HARMFUL.contains(&f.rule);
    let Some(found) = sheet.findings.list().iter().find(harmful) else {
        return Ok(());
    };
    let detail = format!("{}; a damaged image is not written to", found.detail);
    let error = Error::corrupt(found.part.clone(), detail);
    Err(match found.at {
        Some(at) => error.at(at),
        None => error,
    })
}

/// What the reader says, where it was not said better.
fn read(file: &ImageFile, checkup: &Checkup<'_>, own: &mut Findings) -> Result<()> {
    let broken = own.worst() == Some(Severity::Error);
    let layer = match Vmdk.open(file.clone(), &checkup.context) {
        Ok(layer) => layer,
        Err(error) if is_finding(&error) || error.kind() == ErrorKind::Policy => {
            if !broken {
                own.add(Finding::of(&error, "unreadable", file));
            }
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if broken && !checkup.deep {
        return Ok(());
    }
    let mut said = Findings::default();
    walk(&layer, checkup, &mut said)?;
    for finding in said.list() {
        let known = |f: &Finding| f.part == finding.part || f.at == finding.at && f.at.is_some();
        if !own.list().iter().any(known) {
            own.add(finding.clone());
        }
    }
    Ok(())
}

/// Checks a sparse extent that may hold its own descriptor.
fn monolithic(sheet: &mut Sheet<'_>) -> Result<()> {
    let Some(header) = sparse_header(sheet)? else {
        return Ok(());
    };
    if let Some((text, at)) = header::embedded_text(sheet, &header)?
        && let Some(descriptor) = descriptor::check(sheet, &text, at)?
    {
        header::against_descriptor(sheet, &header, &descriptor, at);
    }
    sparse_tables(sheet, &header)
}

/// Checks a sparse extent of a disk with a descriptor of its own. Returns its header.
pub(super) fn sparse_extent(sheet: &mut Sheet<'_>) -> Result<Option<SparseHeader>> {
    let Some(header) = sparse_header(sheet)? else {
        return Ok(None);
    };
    sparse_tables(sheet, &header)?;
    Ok(Some(header))
}

/// Checks header and footer. Returns the one that counts, if the tables can be found by it.
fn sparse_header(sheet: &mut Sheet<'_>) -> Result<Option<SparseHeader>> {
    let bytes = sheet.file.read_part("header", 0, 512);
    let Some(bytes) = sheet.found("header", bytes)? else {
        return Ok(None);
    };
    let header = SparseHeader::unchecked("header", &bytes);
    if let Err(error) = &header
        && bytes.starts_with(MAGIC_UNFINISHED)
    {
        let finding = Finding::of(error, "unfinished", sheet.file);
        sheet.add(finding.at(0), None);
        return Ok(None);
    }
    let Some(header) = sheet.found("header", header)? else {
        return Ok(None);
    };
    stream::effective_header(sheet, header)
}

fn sparse_tables(sheet: &mut Sheet<'_>, header: &SparseHeader) -> Result<()> {
    let compressed = header.has(FLAG_COMPRESSED);
    let geometry = Geometry::of(header)?;
    let start = header.descriptor_offset.saturating_mul(SECTOR);
    let len = match header.descriptor_offset {
        0 => 0,
        _ => header.descriptor_size.saturating_mul(SECTOR),
    };
    let mut map = tables::Map::new(sheet, &geometry, SECTOR, start..start.saturating_add(len));
    let primary = tables::Set::primary(header.gd_offset);
    let whole = map.directory(sheet, &primary)?;
    // In a stream, the copy of the directory is a leftover that no reader looks at.
    let copy = header.has(FLAG_REDUNDANT) && !compressed;
    let redundant =
        (copy && header.rgd_offset != 0).then(|| tables::Set::redundant(header.rgd_offset));
    let copy_whole = match &redundant {
        Some(set) => map.directory(sheet, set)?,
        None => false,
    };
    if copy && header.rgd_offset == 0 {
        let detail = "are announced by the flags, but their directory is in sector 0";
        sheet.warning("redundant-missing", "redundant grain tables", detail, 48);
    }
    if whole {
        let grains = map.grains(sheet, &primary)?;
        if let Some(set) = redundant.as_ref().filter(|_| copy_whole) {
            copies::check(sheet, &map, &grains, [&primary, set])?;
        }
        grains.unused(sheet);
        if compressed {
            stream::check(sheet, header, &geometry, grains.stored)?;
        }
    } else if let Some(set) = redundant.filter(|_| copy_whole) {
        copies::only_copy(sheet, &set);
    }
    header::flags_to_reset(sheet, header)
}
