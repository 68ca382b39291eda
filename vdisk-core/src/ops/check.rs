//! Checks an image, by its format's own rules and against its parents.

use super::delta::Delta;
use crate::{
    Disk, Error, ErrorKind, Format, Job, OpenOptions, Result,
    check::{Checkup, Finding, Findings, Severity, is_finding},
    open::{ancestors, open_file, proceed, with_file},
    storage::ImageFile,
};
use std::path::Path;

/// How much of an image is checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// Read and unpack all data, not the tables only, and compare the digests of packages if
    /// [`OpenOptions::verify`] is set.
    pub deep: bool,
    /// Check the parents as thoroughly as the image.
    pub chain: bool,
}

/// What a check looked at and found.
#[derive(Debug)]
pub struct Outcome {
    /// The format of the image.
    pub format: &'static str,
    /// Layers that were looked at: 1, or the length of the chain.
    pub layers: usize,
    /// What is wrong.
    pub findings: Findings,
}

/// Checks the image at `path` and, if it is a child, that its parents are there and the recorded
/// ones. A delta needs none: it is laid over a disk that [`Delta`] knows by its contents.
///
/// # Errors
/// Only what ends the check: a file that cannot be read, or that is no image. All else is a
/// finding.
///
/// ```no_run
/// use vdisk_core::{FileResolver, Job, OpenOptions, ops::check};
/// let resolver = FileResolver::default();
/// let options = OpenOptions::new(&resolver);
/// let extent = check::Extent::default();
/// let outcome = check::check("a.vmdk".as_ref(), &options, extent, &Job::default())?;
/// for finding in outcome.findings.list() {
///     println!("{}: {finding}", finding.severity);
/// }
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn check(
    path: &Path,
    options: &OpenOptions<'_>,
    extent: Extent,
    job: &Job<'_>,
) -> Result<Outcome> {
    with_file(path, options, |file, options| {
        check_file(&file, options, extent, job)
    })
}

fn check_file(
    file: &ImageFile,
    options: &OpenOptions<'_>,
    extent: Extent,
    job: &Job<'_>,
) -> Result<Outcome> {
    let mut findings = Findings::default();
    let format = one(file, options, extent.deep, job, &mut findings)?;
    let mut outcome = Outcome {
        format: format.name(),
        layers: 1,
        findings,
    };
    // What cannot be opened was found above, and what does not match its digest.
    let options = &OpenOptions {
        verify: false,
        ..*options
    };
    let Ok(top) = open_file(file.clone(), options) else {
        return Ok(outcome);
    };
    match Delta::of(&top) {
        Ok(delta) => {
            outcome.findings.add(Finding::new(
                Severity::Note,
                "delta",
                file,
                "parent",
                format!("is not looked for: the image is a delta, {delta}"),
            ));
            return Ok(outcome);
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            outcome.findings.add_error(&error, "delta", file);
            return Ok(outcome);
        }
        Err(_) => {} // a child like any other
    }
    let (layers, trouble) = ancestors(top, options);
    outcome.layers = layers.len();
    let findings = &mut outcome.findings;
    if let Some(error) = trouble {
        parent_trouble(&error, file, findings)?;
    }
    for pair in layers.windows(2) {
        let [child, parent] = pair else { continue };
        if parent.size() > child.size()
            && let Some(file) = child.files().first()
        {
            let detail = format!(
                "is {} bytes, and the parent {}: what lies past the end of the child is not seen",
                child.size(),
                parent.size()
            );
            findings.add(Finding::new(
                Severity::Note,
                "smaller-than-parent",
                file,
                "virtual size",
                detail,
            ));
        }
    }
    if extent.chain {
        for layer in layers.iter().skip(1) {
            if let Some(file) = layer.files().first() {
                let options = OpenOptions {
                    format: Some(layer.format()),
                    ..*options
                };
                let mut own = Findings::default();
                one(file, &options, extent.deep, job, &mut own)?;
                // Only the image that was named is ever changed.
                findings.append(own.without_repairs());
            }
        }
    }
    Ok(outcome)
}

/// Checks one file by the rules of its format.
fn one(
    file: &ImageFile,
    options: &OpenOptions<'_>,
    deep: bool,
    job: &Job<'_>,
    findings: &mut Findings,
) -> Result<&'static dyn Format> {
    let (format, context) = proceed(file, options)?;
    let checkup = Checkup { context, job, deep };
    match format.check(file.clone(), &checkup, findings) {
        Err(error) if is_finding(&error) => {
            // A format's check may stop at what its findings already say.
            findings.add_error(&error, "unreadable", file);
        }
        other => other?,
    }
    Ok(format)
}

fn parent_trouble(error: &Error, file: &ImageFile, findings: &mut Findings) -> Result<()> {
    let rule = match error.kind() {
        ErrorKind::Reference if error.detail().contains("was changed") => "parent-changed",
        ErrorKind::Reference => "parent-missing",
        ErrorKind::Policy => "parent-refused",
        ErrorKind::Corrupt | ErrorKind::Limit | ErrorKind::Unsupported | ErrorKind::WrongFormat => {
            "parent-unreadable"
        }
        // An error of the system says nothing about the image.
        _ => return Err(Error::new(error.kind(), "parent", error.to_string())),
    };
    findings.add(Finding::of(error, rule, file));
    Ok(())
}
