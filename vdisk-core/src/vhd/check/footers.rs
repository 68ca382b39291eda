//! The footer and its copy: whether they agree, and what can be repaired by the good one of them.

use super::{
    super::{
        disk_structs::{FIXED, FOOTER_LEN},
        footer::{Candidate, Footers, Found, OLD_LEN, differ},
    },
    Extent, fields,
};
use crate::{
    check::{Finding, Findings, Severity},
    patch::Patch,
    storage::ImageFile,
    units::{SECTOR, round_up},
};
use std::ops::Range;

/// The fields of a footer by their places, the checksum aside.
const FIELDS: [(&str, Range<usize>); 14] = [
    ("features", 8..12),
    ("version", 12..16),
    ("data offset", 16..24),
    ("time stamp", 24..28),
    ("creator", 28..32),
    ("creator version", 32..36),
    ("creator system", 36..40),
    ("original size", 40..48),
    ("current size", 48..56),
    ("geometry", 56..60),
    ("disk type", 60..64),
    ("unique ID", 68..84),
    ("saved state", 84..85),
    ("reserved bytes", 85..512),
];

/// What the footer at the end is called.
const FOOTER: &str = "footer";
/// What the one at the start is called.
const COPY: &str = "copy of the footer";

/// Checks the footers. `extent` is what the tables say; none if they could not be read.
pub(super) fn check(
    file: &ImageFile,
    footers: &Footers,
    found: &Found,
    extent: Option<&Extent>,
    findings: &mut Findings,
) {
    let sound = extent.filter(|e| e.sound);
    let fixed = found.footer.disk_type == FIXED;
    let copy = footers.copy.as_ref().filter(|_| !fixed);
    match (&footers.tail, copy) {
        (None, Some(copy)) => missing(file, copy, sound, findings),
        (Some(tail), _) if tail.good => {
            if !fixed {
                copy_of_good(file, tail, copy, sound.is_some(), findings);
            }
        }
        (Some(tail), Some(copy)) => damaged(file, tail, copy, sound.is_some(), findings),
        (Some(tail), None) => {
            let detail =
                "has a wrong checksum, and there is no copy that says which of its fields is wrong";
            add(
                file,
                Severity::Warning,
                "footer-checksum",
                tail,
                detail,
                findings,
            );
        }
        (None, None) => {} // such an image cannot be opened
    }
    if let Some(tail) = &footers.tail {
        place(file, tail, footers.after, findings);
    }
    let used = match (&footers.tail, copy) {
        (Some(tail), _) if tail.footer == found.footer => tail,
        (_, Some(copy)) => copy,
        _ => return,
    };
    fields::check(file, used, findings);
}

fn part(candidate: &Candidate) -> &'static str {
    if candidate.at == 0 { COPY } else { FOOTER }
}

pub(super) fn add(
    file: &ImageFile,
    severity: Severity,
    rule: &'static str,
    footer: &Candidate,
    detail: impl Into<String>,
    findings: &mut Findings,
) {
    findings.add(Finding::new(severity, rule, file, part(footer), detail).at(footer.at));
}

/// The footer is not there, but its copy is good.
fn missing(file: &ImageFile, copy: &Candidate, sound: Option<&Extent>, findings: &mut Findings) {
    let detail = match in_use(file) {
        true => {
            "is overwritten, as XenServer does while it has an image open; it is in use, or was when XenServer stopped"
        }
        false => "is missing at the end of the file",
    };
    let finding = Finding::new(Severity::Warning, "footer-missing", file, FOOTER, detail);
    let finding = finding.at(file.size.saturating_sub(SECTOR));
    findings.add(match sound {
        Some(extent) => {
            // What little follows the last block is what is left of the footer.
            let rest = file.size.saturating_sub(extent.end);
            let at = if rest <= SECTOR {
                extent.end
            } else {
                file.size
            };
            let at = round_up(at, SECTOR);
            finding.repair(
                format!("write the footer at {at:#x} from its copy at the start of the file"),
                vec![Patch::write(file, at, copy.bytes.to_vec())],
            )
        }
        None => finding,
    });
}

/// True if the last sector is what XenServer puts in the place of a footer.
fn in_use(file: &ImageFile) -> bool {
    let at = file.size.saturating_sub(SECTOR);
    let last = file.read_part("footer", at, SECTOR);
    last.is_ok_and(|bytes| bytes.iter().all(|b| *b == 0xc7))
}

/// The footer is good; its copy may not be.
fn copy_of_good(
    file: &ImageFile,
    tail: &Candidate,
    copy: Option<&Candidate>,
    sound: bool,
    findings: &mut Findings,
) {
    let detail = match copy {
        Some(copy) if copy.good => {
            if differ(tail, copy) {
                let detail = format!(
                    "differs from its copy at the start of the file in {}; both have right checksums, so which is right cannot be told, and this one is used",
                    differences(tail, copy)
                );
                add(
                    file,
                    Severity::Warning,
                    "footers-differ",
                    tail,
                    detail,
                    findings,
                );
            }
            return;
        }
        Some(copy) => format!(
            "has a wrong checksum, and differs from the footer in {}",
            differences_or_none(tail, copy)
        ),
        None => "is missing at the start of the file".to_owned(),
    };
    let finding = Finding::new(Severity::Warning, "copy-damaged", file, COPY, detail).at(0);
    // A footer of 511 bytes does not tell what the last byte of its copy was.
    findings.add(if sound && tail.len == SECTOR {
        finding.repair(
            "write the copy of the footer from the footer at the end of the file",
            vec![Patch::write(file, 0, tail.bytes.to_vec())],
        )
    } else {
        finding
    });
}

/// The footer is damaged.
fn damaged(
    file: &ImageFile,
    tail: &Candidate,
    copy: &Candidate,
    sound: bool,
    findings: &mut Findings,
) {
    let certain = sound && tail.len == SECTOR;
    let same = differences(tail, copy).is_empty();
    let detail = match (copy.good, same) {
        (true, _) => format!(
            "has a wrong checksum, and differs from its good copy in {}",
            differences_or_none(tail, copy)
        ),
        (false, true) => {
            "has a wrong checksum, and so has its copy, which agrees with it in all fields"
                .to_owned()
        }
        (false, false) => format!(
            "has a wrong checksum, and so has its copy, which differs in {}; which is right cannot be told",
            differences(tail, copy)
        ),
    };
    let finding =
        Finding::new(Severity::Warning, "footer-checksum", file, FOOTER, detail).at(tail.at);
    findings.add(match (copy.good, same) {
        // The start of a fixed disk belongs to its guest.
        (true, _) if certain && copy.footer.disk_type != FIXED => finding.repair(
            "write the footer from its copy at the start of the file",
            vec![Patch::write(file, tail.at, copy.bytes.to_vec())],
        ),
        (false, true) if certain => match tail.footer.to_bytes() {
            // Only if nothing is lost that is not a field.
            Ok(bytes) if only_checksum(&bytes, tail) => finding.repair(
                "write the right checksum into the footer and its copy",
                [tail, copy]
                    .map(|c| Patch::write(file, c.at, bytes.clone()))
                    .to_vec(),
            ),
            _ => finding,
        },
        _ => finding,
    });
}

/// True if `bytes` are those of `candidate`, but for the checksum.
fn only_checksum(bytes: &[u8], candidate: &Candidate) -> bool {
    let same = |r: Range<usize>| bytes.get(r.clone()) == candidate.bytes.get(r);
    same(0..64) && same(68..FOOTER_LEN)
}

/// The names of the fields in which two footers differ.
fn differences(one: &Candidate, other: &Candidate) -> String {
    let differing = FIELDS
        .iter()
        .filter(|(_, r)| one.bytes.get(r.clone()) != other.bytes.get(r.clone()));
    let names: Vec<&str> = differing.map(|(name, _)| *name).collect();
    names.join(", ")
}

/// The same for a footer of which it was said that its checksum is wrong.
fn differences_or_none(one: &Candidate, other: &Candidate) -> String {
    Some(differences(one, other))
        .filter(|names| !names.is_empty())
        .unwrap_or_else(|| "nothing else".to_owned())
}

/// Where the footer is, and how long.
fn place(file: &ImageFile, tail: &Candidate, after: u64, findings: &mut Findings) {
    if tail.len == OLD_LEN {
        let detail = "has 511 bytes, as programs before Virtual PC 2004 wrote it";
        add(file, Severity::Note, "old-footer", tail, detail, findings);
    }
    if after > 0 {
        let detail = format!(
            "is not at the end of the file: {after} bytes follow it, and most programs will not find it"
        );
        add(
            file,
            Severity::Warning,
            "trailing-data",
            tail,
            detail,
            findings,
        );
    }
}
