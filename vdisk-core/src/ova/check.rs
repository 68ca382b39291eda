//! What is wrong with a package: archive, descriptor, manifest, and each disk by its own format.
//!
//! Nothing is repaired here. A disk in a package is an export: its digest is recorded, and whoever
//! wants to change it takes it out first.

use super::{
    disks,
    envelope::{self, Disk, Envelope, File},
    inner_format, inside,
    manifest::Manifest,
    most_unpacked,
    package::Package,
    select,
};
use crate::{
    Disk as _, Error, ErrorKind, Result,
    check::{Checkup, Finding, Findings, Severity, is_finding},
    storage::ImageFile,
    units::SECTOR,
};

/// Checks the disk asked for, or all disks, and what holds them.
pub(super) fn check(file: ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
    let package = Package::open(file, checkup.context.resolver)?;
    archive(&package, findings)?;
    let envelope = package.envelope()?;
    let all = disks(&envelope)?;
    let wanted = match (checkup.context.disk, all.as_slice()) {
        (None, [_, ..]) => all,
        (name, _) => vec![select(&all, name, &package)?],
    };
    manifest(&package, &envelope, checkup, findings)?;
    for file in &envelope.files {
        let missing = file.chunk.is_none() && package.referenced(&file.href)?.is_none();
        if missing && !wanted.iter().any(|(_, f)| f.id == file.id) {
            findings.add(Finding::new(
                Severity::Warning,
                "file-missing",
                &package.file,
                envelope::PART,
                format!("names the file '{}', which is not there", file.href),
            ));
        }
    }
    for (disk, file) in wanted {
        checkup.job.advance(0)?;
        let mut own = Findings::default();
        let checked = one(&package, disk, file, checkup, &mut own);
        findings.append(own.without_repairs());
        told(checked, &package.file, findings)?;
    }
    Ok(())
}

/// Turns an error that says something about the image into a finding.
fn told(result: Result<()>, file: &ImageFile, findings: &mut Findings) -> Result<()> {
    match result {
        Err(error) if is_finding(&error) || error.kind() == ErrorKind::WrongFormat => {
            findings.add_error(&error, "unreadable", file);
            Ok(())
        }
        other => other,
    }
}

/// The order that DSP0243 asks for, and the end.
fn archive(package: &Package<'_>, findings: &mut Findings) -> Result<()> {
    let Some(archive) = package.archive() else {
        return Ok(());
    };
    let (descriptor, _) = package.descriptor();
    let first = archive.members().first();
    if first.is_some_and(|m| m.name.rsplit('/').next() != Some(&descriptor)) {
        findings.add(Finding::new(
            Severity::Warning,
            "descriptor-not-first",
            &package.file,
            "archive",
            format!("begins with another member than '{descriptor}'; programs that import it as a stream refuse it"),
        ));
    }
    let whole = |end: u64| {
        end.checked_add(2 * SECTOR)
            .is_some_and(|e| e <= archive.file.size)
    };
    if !archive.end.is_some_and(whole) {
        findings.add(
            Finding::new(
                Severity::Warning,
                "archive-end",
                &package.file,
                "archive",
                "does not end with two empty blocks: something may be missing",
            )
            .at(archive.end.unwrap_or(archive.file.size)),
        );
    }
    for member in archive.members() {
        if let Err(error) = archive.find(&member.name) {
            let finding = Finding::of(&error, "member-twice", &package.file).at(member.at);
            findings.add(finding);
        }
    }
    Ok(())
}

/// What the manifest lists against what there is. Digests are compared if that is wanted, and
/// those of all but the descriptor by a deep check only: that reads everything.
fn manifest(
    package: &Package<'_>,
    envelope: &Envelope,
    checkup: &Checkup<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let add = |severity, rule, detail: String| {
        Finding::new(severity, rule, &package.file, "manifest", detail)
    };
    let Some(file) = package.manifest()? else {
        let detail = "is not there: nothing tells whether the files are as they were made";
        findings.add(add(Severity::Note, "manifest-missing", detail.to_owned()));
        return Ok(());
    };
    if !checkup.context.verify {
        let detail = "has digests that were not compared, as was wished";
        findings.add(add(Severity::Note, "digests-skipped", detail.to_owned()));
    }
    let manifest = match Manifest::read(&file) {
        Ok(manifest) => manifest,
        Err(error) => return told(Err(error), &package.file, findings),
    };
    let mut listed = vec![package.descriptor()];
    for file in &envelope.files {
        // What is missing is found elsewhere.
        listed.extend(package.pieces(file).unwrap_or_default());
    }
    for (name, piece) in &listed {
        checkup.job.advance(0)?;
        if manifest.of(name).next().is_none() {
            let detail = format!("has no digest of '{name}' that can be checked");
            findings.add(add(Severity::Warning, "digest-missing", detail));
        } else if checkup.context.verify && (checkup.deep || *name == package.descriptor().0) {
            let verified = manifest.verify(name, piece).map(drop);
            if let Err(error) = verified {
                if !is_finding(&error) {
                    return Err(error);
                }
                findings.add(Finding::of(&error, "digest", &package.file));
            }
        }
    }
    for entry in &manifest.entries {
        let known = listed.iter().any(|(name, _)| *name == entry.name);
        if !known && package.find(&entry.name)?.is_none() {
            let detail = format!("lists '{}', which is not there", entry.name);
            findings.add(add(Severity::Warning, "digest-without-file", detail));
        }
    }
    Ok(())
}

/// One disk: its files, its sizes, and what its own format finds.
fn one(
    package: &Package<'_>,
    disk: &Disk,
    file: &File,
    checkup: &Checkup<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let warn = |rule, detail: String| {
        Finding::new(
            Severity::Warning,
            rule,
            &package.file,
            envelope::PART,
            detail,
        )
    };
    let pieces = package.pieces(file)?;
    let stored: u64 = pieces.iter().map(|(_, piece)| piece.size).sum();
    if let Some(said) = file.size.filter(|s| *s != stored) {
        let detail = format!(
            "says that '{}' has {said} bytes, but it has {stored}",
            file.href
        );
        findings.add(warn("file-size", detail));
    }
    let image = package.whole(file, &pieces, most_unpacked(disk))?;
    let named = |error: Error| error.path(image.path());
    let format = inner_format(&image, disk).map_err(named)?;
    let inner = Checkup {
        context: inside(package, &checkup.context),
        ..*checkup
    };
    format
        .check(image.clone(), &inner, findings)
        .map_err(named)?;
    let layer = format.open(image.clone(), &inner.context).map_err(named)?;
    if let Some(said) = disk.capacity.filter(|c| *c != layer.size()) {
        let detail = format!(
            "says that disk '{}' has {said} bytes, but it has {}",
            file.href,
            layer.size()
        );
        findings.add(warn("capacity", detail));
    }
    Ok(())
}
