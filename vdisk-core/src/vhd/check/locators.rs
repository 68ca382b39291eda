//! The parent locators: whether the parent can be found by them.

use super::super::{
    disk_structs::{DynamicHeader, LocatorEntry},
    locator::{is_absolute, parent_name},
};
use crate::{
    Result,
    check::{Finding, Findings, Severity},
    claims::{Claims, Owner},
    storage::ImageFile,
};

/// Checks the locators of a differencing disk whose header is at `header_at`, and claims where
/// they are.
pub(super) fn check(
    file: &ImageFile,
    header: &DynamicHeader,
    header_at: u64,
    claims: &mut Claims,
    findings: &mut Findings,
) -> Result<()> {
    /// Where the entries are in the header, and the bytes of one.
    const ENTRIES: u64 = 576;
    const ENTRY_LEN: usize = 24;
    let mut names = 0usize;
    let places = (header_at.saturating_add(ENTRIES)..).step_by(ENTRY_LEN);
    for ((number, locator), entry_at) in header.locators.iter().enumerate().zip(places) {
        if locator.code == [0; 4] || locator.code == *b"Mac " {
            continue;
        }
        let part = format!("parent locator {number}");
        let mut say = |severity, rule, detail: String| {
            findings.add(Finding::new(severity, rule, file, part.clone(), detail).at(entry_at));
        };
        if !locator.names_a_path() {
            let code = locator.code.escape_ascii();
            let detail = format!("has the unknown code '{code}'; XenServer refuses the image");
            say(Severity::Note, "locator-code", detail);
            continue;
        }
        let Some(range) = locator.range(file) else {
            let detail = "lies outside the file, or is too long".to_owned();
            say(Severity::Warning, "locator-past-end", detail);
            continue;
        };
        if let Err(owner) = claims.claim(range, Owner::Named("parent locator")) {
            let detail = format!("overlaps {}", super::blocks::name(owner));
            say(Severity::Warning, "locator-overlap", detail);
        }
        match locator.name(file)? {
            None => {
                let detail = "holds no name that can be decoded".to_owned();
                say(Severity::Warning, "locator-name", detail);
            }
            Some(name) => {
                names = names.saturating_add(1);
                if let Some(detail) = wrong_kind(locator, is_absolute(&name)) {
                    say(Severity::Warning, "locator-kind", detail);
                }
            }
        }
    }
    if header.parent_name.iter().all(|u| *u != 0) || parent_name(header).is_none() {
        let detail = "holds no name of the parent that ends and can be decoded";
        let finding = Finding::new(
            Severity::Note,
            "parent-name",
            file,
            "dynamic header",
            detail,
        );
        findings.add(finding.at(header_at.saturating_add(64)));
    }
    let by_name = parent_name(header).is_some_and(|n| !n.is_empty());
    let (severity, detail) = match (names, by_name) {
        (1.., _) => return Ok(()),
        (0, true) => (
            Severity::Note,
            "are all empty; the parent is only named in the header, without a path",
        ),
        (0, false) => (
            Severity::Error,
            "are all empty, and the header does not name the parent either",
        ),
    };
    let at = header_at.saturating_add(ENTRIES);
    findings.add(Finding::new(severity, "no-locator", file, "parent locators", detail).at(at));
    Ok(())
}

/// What is wrong with a relative locator that holds an absolute path.
fn wrong_kind(locator: &LocatorEntry, absolute: bool) -> Option<String> {
    let relative = matches!(&locator.code, b"W2ru" | b"Wi2r");
    (relative && absolute).then(|| "is for a relative path, but holds an absolute one".to_owned())
}
