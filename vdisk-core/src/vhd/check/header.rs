//! The dynamic header: what a reader can do without, but other programs mind.

use super::super::disk_structs::{DYNAMIC, DynamicHeader, Footer, VERSION, header_checksum};
use crate::{
    check::{Finding, Findings, Severity},
    storage::ImageFile,
    zeros::is_zero,
};

/// Bytes of the header that have no meaning.
const RESERVED: [std::ops::Range<usize>; 2] = [60..64, 768..1024];

/// Checks `header`, whose bytes are `bytes`.
pub(super) fn check(
    file: &ImageFile,
    footer: &Footer,
    header: &DynamicHeader,
    bytes: &[u8],
    findings: &mut Findings,
) {
    let mut say = |severity, rule, offset: u64, detail: String| {
        let at = footer.data_offset.saturating_add(offset);
        findings.add(Finding::new(severity, rule, file, "dynamic header", detail).at(at));
    };
    let sum = header_checksum(bytes);
    if header.checksum != sum {
        let detail = format!(
            "has checksum {:#010x}, but its bytes give {sum:#010x}; there is no copy that says which of its fields is wrong",
            header.checksum
        );
        say(Severity::Warning, "header-checksum", 36, detail);
    }
    if header.version != VERSION {
        let detail = format!("has version {:#010x}, which is not known", header.version);
        say(Severity::Note, "header-version", 24, detail);
    }
    if header.data_offset != u64::MAX {
        let detail = format!(
            "names a next structure at {:#x}; there is none, and XenServer refuses the image",
            header.data_offset
        );
        say(Severity::Note, "header-next", 8, detail);
    }
    let strange = |r: &std::ops::Range<usize>| bytes.get(r.clone()).is_some_and(|b| !is_zero(b));
    if RESERVED.iter().any(strange) {
        let detail = "has reserved bytes that are not zero".to_owned();
        say(Severity::Note, "header-reserved", 0, detail);
    }
    let parent = header.parent_uuid != [0; 16]
        || header.parent_name.iter().any(|u| *u != 0)
        || header.locators.iter().any(|l| l.code != [0; 4]);
    if footer.disk_type == DYNAMIC && parent {
        let detail = "names a parent, but the disk has none; XenServer refuses the image";
        say(Severity::Note, "parent-of-none", 40, detail.to_owned());
    }
}
