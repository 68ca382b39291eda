//! The fields of the footer that is used: what is odd, and what other programs make of it.
//!
//! Nothing here stops anybody from reading the image.

use super::{
    super::{
        disk_structs::{FEATURE_RESERVED, FEATURE_TEMPORARY, FIXED, VERSION},
        footer::Candidate,
        geometry::geometry,
    },
    footers::add,
};
use crate::{
    check::{Findings, Severity},
    storage::ImageFile,
    zeros::is_zero,
};

/// What is odd in the footer that is used.
pub(super) fn check(file: &ImageFile, used: &Candidate, findings: &mut Findings) {
    let footer = &used.footer;
    let mut note = |rule, detail: String| {
        add(file, Severity::Note, rule, used, detail, findings);
    };
    if footer.version != VERSION {
        let version = footer.version;
        note(
            "footer-version",
            format!("has version {version:#010x}, which is not known"),
        );
    }
    let unknown = footer.features & !(FEATURE_RESERVED | FEATURE_TEMPORARY);
    if unknown != 0 || footer.features & FEATURE_RESERVED == 0 {
        let features = footer.features;
        note(
            "footer-features",
            format!("has features {features:#010x}, where only 2 and 3 are known"),
        );
    }
    let reserved = if footer.is_xen() { 86 } else { 85 };
    if used.bytes.get(reserved..).is_some_and(|b| !is_zero(b)) {
        note(
            "footer-reserved",
            "has reserved bytes that are not zero".to_owned(),
        );
    }
    let offset = footer.data_offset;
    if footer.disk_type == FIXED && offset != u64::MAX && offset != u64::from(u32::MAX) {
        note(
            "data-offset",
            format!("of a fixed disk names a header at {offset:#x}; there is none"),
        );
    }
    if footer.uuid == [0; 16] {
        note(
            "no-unique-id",
            "has no unique ID: children of the image could not tell it from another".to_owned(),
        );
    }
    if footer.saved_state != 0 {
        note(
            "saved-state",
            "belongs to a virtual machine in saved state, which expects the disk unchanged"
                .to_owned(),
        );
    }
    if footer.features & FEATURE_TEMPORARY != 0 {
        note(
            "temporary",
            "marks the disk as temporary: its owner may delete it".to_owned(),
        );
    }
    if footer.original_size != footer.current_size {
        note(
            "resized",
            format!(
                "tells that the disk was made with {} bytes",
                footer.original_size
            ),
        );
    }
    sizes(file, used, findings);
}

/// Creators whose size field qemu believed before version 10; of all others, but its own and
/// Virtual PC, it took the geometry.
const BELIEVED: [&[u8; 4]; 5] = [b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0"];

/// How other programs see the size of the disk.
fn sizes(file: &ImageFile, used: &Candidate, findings: &mut Findings) {
    let footer = &used.footer;
    let Some(seen) = footer.size_by_geometry() else {
        return;
    };
    let size = footer.current_size;
    let (severity, rule, detail) = if seen > size {
        (
            Severity::Warning,
            "geometry-too-large",
            format!(
                "has a geometry of {seen} bytes, more than the disk's {size}; XenServer refuses the image"
            ),
        )
    } else if footer.creator_goes_by_geometry() {
        (
            Severity::Note,
            "size-by-geometry",
            format!(
                "has a geometry of {seen} bytes for a disk of {size}; Virtual PC and qemu see the smaller disk"
            ),
        )
    } else if !BELIEVED.contains(&&footer.creator_app) {
        (
            Severity::Note,
            "size-by-geometry",
            format!(
                "has a geometry of {seen} bytes for a disk of {size}, and a creator that qemu before version 10 does not know; it sees the smaller disk"
            ),
        )
    } else if footer.geometry != geometry(size) {
        (
            Severity::Note,
            "geometry",
            format!("has a geometry of {seen} bytes that does not follow from the size, {size}"),
        )
    } else {
        return;
    };
    add(file, severity, rule, used, detail, findings);
}
