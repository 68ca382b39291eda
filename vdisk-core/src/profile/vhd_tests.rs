//! What several profiles ask of a VHD. Each answers nothing for an image of another format.

use super::{Broken, Result, Verdict, size_text, subject::Subject};
use crate::{
    Deny,
    check::{Checkup, Findings, Severity, is_finding},
    format::Context,
    units::SECTOR,
    vhd::view::{DYNAMIC, FIXED, Geometry, NO_OFFSET, geometry},
};

/// 2000-01-01 00:00:00 UTC, in seconds since 1970.
const EPOCH: u64 = 946_684_800;
/// Most bytes of a VHD: what Windows and vhd-util take.
pub(super) const MOST: u64 = 2040 << 30;

/// The footer is the last sector of the file, and its checksum is right.
pub(super) fn footer(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(vhd) = &subject.vhd else {
        return Ok(None);
    };
    match &vhd.last {
        None => Broken::new("footer", "is not in the last 512 bytes of the file").found(),
        Some(last) if !last.sound => Broken::new("footer", "has a wrong checksum")
            .at(last.at)
            .found(),
        Some(_) => Ok(None),
    }
}

/// The copy of the footer at the start is the same, byte for byte.
pub(super) fn footer_copy(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(vhd) = subject.vhd.as_ref().filter(|v| v.footer.disk_type != FIXED) else {
        return Ok(None);
    };
    match (&vhd.first, &vhd.last) {
        (None, _) => Broken::new("footer copy", "is missing at the start of the file")
            .at(0)
            .found(),
        // With a bad footer at the end there is nothing to compare with, and that has its own rule.
        (Some(first), Some(last)) if last.sound && first.bytes != last.bytes => {
            Broken::new("footer copy", "is not the same as the footer at the end")
                .at(0)
                .found()
        }
        _ => Ok(None),
    }
}

/// The checksum of the dynamic header is right.
pub(super) fn header(subject: &Subject<'_>) -> Result<Verdict> {
    let header = subject.vhd.as_ref().and_then(|v| v.header.as_ref());
    match header.filter(|h| !h.sound) {
        Some(header) => Broken::new("dynamic header", "has a wrong checksum")
            .at(header.at)
            .found(),
        None => Ok(None),
    }
}

/// The unused offset in the dynamic header is 64 bits of ones.
pub(super) fn header_offset(subject: &Subject<'_>) -> Result<Verdict> {
    let header = subject.vhd.as_ref().and_then(|v| v.header.as_ref());
    match header.filter(|h| h.fields.data_offset != NO_OFFSET) {
        Some(header) => {
            let detail = format!("has the data offset {:#x}", header.fields.data_offset);
            Broken::new("dynamic header", detail)
                .at(header.at.saturating_add(8))
                .found()
        }
        None => Ok(None),
    }
}

/// Blocks have one of these sizes.
pub(super) fn blocks(subject: &Subject<'_>, taken: &[u64]) -> Result<Verdict> {
    let header = subject.vhd.as_ref().and_then(|v| v.header.as_ref());
    match header.filter(|h| !taken.contains(&u64::from(h.fields.block_size))) {
        Some(header) => {
            let detail = format!("says {}", size_text(header.fields.block_size.into()));
            Broken::new("block size", detail)
                .at(header.at.saturating_add(32))
                .found()
        }
        None => Ok(None),
    }
}

/// The disk is fixed, or has blocks, as `fixed` says.
pub(super) fn is_fixed(subject: &Subject<'_>, fixed: bool) -> Result<Verdict> {
    match &subject.vhd {
        Some(vhd) if (vhd.footer.disk_type == FIXED) != fixed => {
            Broken::new("disk type", format!("is {}", subject.subformat())).found()
        }
        _ => Ok(None),
    }
}

/// A fixed disk and its footer, and nothing else.
pub(super) fn fixed_file_size(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(vhd) = subject.vhd.as_ref().filter(|v| v.footer.disk_type == FIXED) else {
        return Ok(None);
    };
    let size = vhd.footer.current_size;
    if size.checked_add(SECTOR) == Some(subject.file.size) {
        return Ok(None);
    }
    let detail = format!(
        "is {} bytes, and the footer says {size}: with the footer that makes {}",
        subject.file.size,
        size.saturating_add(SECTOR)
    );
    Broken::new("file size", detail).found()
}

/// The disk is no larger than the format allows.
pub(super) fn size(subject: &Subject<'_>) -> Result<Verdict> {
    match &subject.vhd {
        Some(vhd) if vhd.footer.current_size > MOST => {
            let detail = format!(
                "is {}, and {} is the most",
                size_text(vhd.footer.current_size),
                size_text(MOST)
            );
            Broken::new("virtual size", detail).found()
        }
        _ => Ok(None),
    }
}

/// The image was not made later than half an hour from now.
pub(super) fn timestamp(subject: &Subject<'_>) -> Result<Verdict> {
    /// Seconds that clocks may differ.
    const SLACK: u64 = 1800;
    let Some(last) = subject.vhd.as_ref().and_then(|v| v.last.as_ref()) else {
        return Ok(None);
    };
    let made = u64::from(last.fields.timestamp).saturating_add(EPOCH);
    if made <= subject.now.saturating_add(SLACK) {
        return Ok(None);
    }
    let ahead = made.saturating_sub(subject.now);
    Broken::new("creation time", format!("is {ahead} seconds in the future"))
        .at(last.at.saturating_add(24))
        .found()
}

/// The geometry is not larger than the one that the specification computes.
pub(super) fn chs(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(last) = subject.vhd.as_ref().and_then(|v| v.last.as_ref()) else {
        return Ok(None);
    };
    let (found, most) = (last.fields.geometry, geometry(last.fields.current_size));
    // vhd-util compares the field as one number.
    let packed = |g: Geometry| (g.cylinders, g.heads, g.sectors);
    if packed(found) <= packed(most) {
        return Ok(None);
    }
    let show = |g: Geometry| format!("{}/{}/{}", g.cylinders, g.heads, g.sectors);
    let detail = format!("is {}, and {} is the most", show(found), show(most));
    Broken::new("geometry", detail)
        .at(last.at.saturating_add(56))
        .found()
}

/// Only known features are marked, the state fields hold 0 or 1, and the rest is zero.
pub(super) fn reserved(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(last) = subject.vhd.as_ref().and_then(|v| v.last.as_ref()) else {
        return Ok(None);
    };
    let (features, rest) = (last.fields.features, last.bytes.get(86..));
    if features & 2 == 0 || features & !3 != 0 {
        let detail = format!("has the features {features:#x}");
        return Broken::new("footer", detail)
            .at(last.at.saturating_add(8))
            .found();
    }
    let states = last.bytes.get(84..86).unwrap_or_default();
    if states.iter().any(|s| *s > 1) || rest.is_some_and(|r| r.iter().any(|b| *b != 0)) {
        return Broken::new("footer", "has bytes in its reserved area that are not zero")
            .at(last.at.saturating_add(84))
            .found();
    }
    Ok(None)
}

/// The table starts at a sector, and what the header reserves is zero.
pub(super) fn header_fields(subject: &Subject<'_>) -> Result<Verdict> {
    let header = subject.vhd.as_ref().and_then(|v| v.header.as_ref());
    let Some(header) = header else {
        return Ok(None);
    };
    if !header.fields.table_offset.is_multiple_of(SECTOR) {
        let detail = "places the block allocation table off a sector";
        return Broken::new("dynamic header", detail)
            .at(header.at.saturating_add(16))
            .found();
    }
    let reserved = [60..64, 768..1024]
        .into_iter()
        .filter_map(|range| header.bytes.get(range))
        .any(|bytes| bytes.iter().any(|b| *b != 0));
    if reserved {
        let detail = "has bytes in its reserved area that are not zero";
        return Broken::new("dynamic header", detail).at(header.at).found();
    }
    Ok(None)
}

/// A dynamic disk says nothing of a parent.
pub(super) fn no_parent_fields(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(vhd) = subject
        .vhd
        .as_ref()
        .filter(|v| v.footer.disk_type == DYNAMIC)
    else {
        return Ok(None);
    };
    let Some(header) = &vhd.header else {
        return Ok(None);
    };
    // Parent ID and time, name, locators; not the reserved word between.
    let set = [40..60, 64..768]
        .into_iter()
        .filter_map(|range| header.bytes.get(range))
        .any(|bytes| bytes.iter().any(|b| *b != 0));
    match set {
        true => Broken::new("dynamic header", "names a parent, but the disk is dynamic")
            .at(header.at.saturating_add(40))
            .found(),
        false => Ok(None),
    }
}

/// The batmap of an image by Xen is there and right, as the format's own check says.
pub(super) fn batmap(subject: &Subject<'_>) -> Result<Verdict> {
    let vhd = subject.vhd.as_ref();
    if !vhd.is_some_and(|v| v.header.is_some() && v.footer.is_xen()) {
        return Ok(None);
    }
    let checkup = Checkup {
        context: Context {
            resolver: &Deny,
            overlay: false,
            disk: None,
            verify: false,
        },
        job: subject.job,
        deep: false,
    };
    let mut findings = Findings::default();
    let file = subject.file.clone();
    match subject.layer.format().check(file, &checkup, &mut findings) {
        Err(error) if !is_finding(&error) => return Err(error),
        _ => {} // what else is wrong is not the question
    }
    let wrong = findings
        .list()
        .iter()
        .find(|f| f.rule.starts_with("batmap-") && f.severity != Severity::Note);
    Ok(wrong.map(|f| Broken {
        at: f.at,
        ..Broken::new(f.part.clone(), f.detail.clone())
    }))
}
