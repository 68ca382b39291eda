//! Looks for what is wrong with a VHDX, and repairs what its own copies and its log prove.
//!
//! All but the headers is looked at as it will be after the log was replayed: what the log is about
//! to change is not wrong yet.

mod blocks;
mod headers;

use super::{
    Vhdx,
    disk_structs::{
        DISK_ID, FILE_PARAMETERS, LOGICAL_SECTOR, MIB, MetadataEntry, PARENT_LOCATOR,
        PHYSICAL_SECTOR, REGION_TABLES_AT, TABLE_LEN, VIRTUAL_SIZE, shown,
    },
    header, locator, log,
    metadata::{self, TABLE},
    regions::{self, NAMES, Regions},
    replayed,
};
use crate::{
    Format, Result,
    check::{Checkup, Finding, Findings, Severity, is_finding, walk},
    patch::Patch,
    storage::ImageFile,
};

/// Where findings about one image go.
struct Sheet<'a> {
    /// The file as it is: what repairs change.
    file: &'a ImageFile,
    /// The file as it is after its log was replayed.
    seen: ImageFile,
    findings: &'a mut Findings,
}

impl Sheet<'_> {
    /// Adds a finding, with a repair if there is one.
    fn say(&mut self, finding: Finding, repair: Option<(&str, Vec<Patch>)>) {
        self.findings.add(match repair {
            Some((action, patches)) => finding.repair(action, patches),
            None => finding,
        });
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
}

/// Checks the image in `file`.
pub(super) fn check(
    file: &ImageFile,
    checkup: &Checkup<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let mut own = Findings::default();
    let done = look(file, checkup, &mut own);
    if done.is_err() || own.worst() == Some(Severity::Error) {
        // What is damaged beyond its copies is better left as it is: a log is not replayed into it.
        own = own.without_repairs();
    }
    findings.append(own);
    done
}

fn look(file: &ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
    let mut sheet = Sheet {
        file,
        seen: file.clone(),
        findings,
    };
    if !header::probe(file)? {
        let detail = "does not start with the signature 'vhdxfile'";
        let finding = Finding::new(
            Severity::Warning,
            "signature",
            file,
            "file type identifier",
            detail,
        );
        let patch = Patch::write(file, 0, super::disk_structs::FILE_SIGNATURE.to_vec());
        sheet.say(finding.at(0), Some(("write the signature", vec![patch])));
    }
    let found = header::find(file);
    let Some(found) = sheet.found("headers", found)? else {
        return Ok(());
    };
    let log = header::log(&found.header, file);
    let Some(log) = sheet.found("log-region", log)? else {
        return Ok(());
    };
    let replay = log::read(file, &found.header);
    let Some(replay) = sheet.found("log", replay)? else {
        return Ok(());
    };
    headers::check(&mut sheet, &found, replay.as_ref())?;
    if let Some(replay) = replay {
        sheet.seen = replayed(file.clone(), replay);
    }
    if !file.size.is_multiple_of(MIB) {
        let detail = format!("is {} bytes, not whole MiB", file.size);
        let finding = Finding::new(Severity::Warning, "file-size", file, "file", detail);
        sheet.say(finding.at(file.size), None);
    }
    region_tables(&mut sheet)?;
    let regions = regions::find(&sheet.seen, &log, &mut Vec::new());
    let Some(regions) = sheet.found("regions", regions)? else {
        return Ok(());
    };
    items(&mut sheet, &regions)?;
    let metadata = metadata::read(&sheet.seen, &regions.metadata);
    let Some(metadata) = sheet.found("metadata", metadata)? else {
        return Ok(());
    };
    if let Some(bytes) = &metadata.locator {
        let parent = sheet.found("parent-locator", locator::decode(bytes))?;
        if parent.is_some_and(|p| p.hints.is_empty()) {
            let detail = "does not name the parent's file";
            let severity = Severity::Warning;
            let finding = Finding::new(severity, "parent-unnamed", file, "parent locator", detail);
            sheet.say(finding, None);
        }
    }
    blocks::check(&mut sheet, checkup.job, &metadata, &regions)?;
    if checkup.deep && sheet.findings.worst() < Some(Severity::Error) {
        // All places were looked at; now whether the medium gives the data.
        walk(
            &Vhdx.open(file.clone(), &checkup.context)?,
            checkup,
            findings,
        )?;
    }
    Ok(())
}

/// Compares the two region tables.
fn region_tables(sheet: &mut Sheet<'_>) -> Result<()> {
    let tables = [
        regions::read_table(&sheet.seen, 0)?,
        regions::read_table(&sheet.seen, 1)?,
    ];
    let [one, two] = REGION_TABLES_AT;
    let [first, second] = NAMES;
    // Which is damaged and why, and where the whole one is.
    let (part, at, why, from) = match &tables {
        [Err(why), Ok(_)] => (first, one, *why, two),
        [Ok(_), Err(why)] => (second, two, *why, one),
        [Ok(a), Ok(b)] if a != b => {
            let detail = "differs from region table 1, which is used; nothing says which is right";
            let severity = Severity::Warning;
            let finding =
                Finding::new(severity, "region-tables-differ", sheet.file, second, detail);
            sheet.say(finding.at(two), None);
            return Ok(());
        }
        [Ok(table), Ok(_)] => {
            if table.entries.iter().any(|e| e.required & 1 == 0) {
                let detail = "marks regions as not required; VirtualBox refuses the image";
                let severity = Severity::Note;
                let finding = Finding::new(severity, "region-optional", sheet.file, first, detail);
                sheet.say(finding.at(one), None);
            }
            return Ok(());
        }
        [Err(_), Err(_)] => return Ok(()), // the reader says so
    };
    let bytes = sheet.seen.read_part(part, from, TABLE_LEN as u64)?;
    let patch = Patch::write(sheet.file, at, bytes);
    let severity = Severity::Warning;
    let finding = Finding::new(severity, "region-table-damaged", sheet.file, part, why);
    let repair = (
        "copy the whole region table over the damaged one",
        vec![patch],
    );
    sheet.say(finding.at(at), Some(repair));
    Ok(())
}

/// Looks for items of the metadata that overlap, or have other flags than they should.
fn items(sheet: &mut Sheet<'_>, regions: &Regions) -> Result<()> {
    let Ok(entries) = metadata::entries(&sheet.seen, &regions.metadata) else {
        return Ok(()); // the reader says why
    };
    let end = |entry: &MetadataEntry| entry.offset.saturating_add(entry.length);
    for (number, entry) in entries.iter().enumerate() {
        let part = format!("{TABLE}, entry {number}");
        let id = shown(entry.id);
        let mut warn = |rule, detail| {
            let finding = Finding::new(Severity::Warning, rule, sheet.file, part.clone(), detail);
            sheet.say(finding.at(regions.metadata.start), None);
        };
        let overlaps = |other: &&MetadataEntry| {
            entry.offset < end(other) && other.offset < end(entry) && other.length != 0
        };
        if let Some(other) = entries.iter().take(number).find(overlaps)
            && entry.length != 0
        {
            let detail = format!("the item {id} overlaps the item {}", shown(other.id));
            warn("items-overlap", detail);
        }
        let required = MetadataEntry::REQUIRED;
        let wanted = match entry.id {
            FILE_PARAMETERS | PARENT_LOCATOR => required,
            VIRTUAL_SIZE | DISK_ID | LOGICAL_SECTOR | PHYSICAL_SECTOR => {
                MetadataEntry::DISK | required
            }
            _ => continue,
        };
        if entry.flags != wanted && entry.flags & MetadataEntry::USER == 0 {
            let detail = format!(
                "the item {id} has the flags {:#x}; the specification gives it {wanted:#x}",
                entry.flags
            );
            warn("item-flags", detail);
        }
    }
    Ok(())
}
