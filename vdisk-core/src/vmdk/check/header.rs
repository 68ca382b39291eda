//! The header of a sparse extent: fields that products disagree about, and the two that a repair
//! resets.

use super::Sheet;
use crate::{
    Error, Result,
    check::{Finding, Repair, Severity},
    limits,
    patch::Patch,
    units::Sectors,
    vmdk::{
        descriptor::Descriptor,
        disk_structs::{
            FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, FLAG_REDUNDANT, FLAG_ZERO_GRAINS,
            GTES_PER_GT, NEWLINES, SparseHeader,
        },
        extent_line::ExtentKind,
    },
};

/// Where the flag of an unclean shutdown lies.
const UNCLEAN_AT: u64 = 72;
/// Where the newline bytes lie.
const NEWLINES_AT: u64 = 73;
/// Sectors of the smallest grain that all products take.
const SMALLEST_GRAIN: u64 = 8;

/// Checks what a reader depends on; `false` if the tables cannot be found by this header.
///
/// Damaged newline bytes are left to [`flags_to_reset`]: all else may be well.
pub(super) fn readable(sheet: &mut Sheet<'_>, header: &SparseHeader) -> bool {
    let fixed = SparseHeader {
        newlines: NEWLINES,
        ..header.clone()
    };
    if let Err(error) = fixed.check("header") {
        let finding = Finding::of(&error, "header", sheet.file);
        sheet.add(finding.at(0), None);
        return false;
    }
    true
}

/// Checks what products disagree about.
pub(super) fn habits(sheet: &mut Sheet<'_>, header: &SparseHeader) {
    let known = FLAG_NEWLINES | FLAG_REDUNDANT | FLAG_ZERO_GRAINS | FLAG_COMPRESSED | FLAG_MARKERS;
    if header.flags & !known != 0 {
        let detail = format!("has unknown flags {:#x}", header.flags & !known);
        sheet.note("unknown-flags", "header", detail, 8);
    }
    if header.version == 3 && !header.has(FLAG_COMPRESSED) {
        let detail = "has version 3 without compressed grains, which qemu opens for reading only";
        sheet.note("version-3", "header", detail, 4);
    }
    if header.capacity.checked_rem(header.grain_size) != Some(0) {
        let detail = format!(
            "has a capacity of {} sectors, not a whole number of grains of {}",
            header.capacity, header.grain_size
        );
        sheet.note("capacity-unaligned", "header", detail, 12);
    }
    if header.grain_size < SMALLEST_GRAIN {
        let detail = format!(
            "has grains of {} sectors; VirtualBox takes {SMALLEST_GRAIN} and more",
            header.grain_size
        );
        sheet.warning("grain-small", "header", detail, 20);
    }
    if header.gtes_per_gt != GTES_PER_GT {
        let detail = format!(
            "has {} entries per grain table; products expect {GTES_PER_GT}",
            header.gtes_per_gt
        );
        sheet.warning("table-entries", "header", detail, 44);
    }
}

/// The text inside the extent and where it lies. `None` if there is none, or none that can be read.
pub(super) fn embedded_text(
    sheet: &mut Sheet<'_>,
    header: &SparseHeader,
) -> Result<Option<(Vec<u8>, u64)>> {
    if header.descriptor_offset == 0 || header.descriptor_size == 0 {
        return Ok(None); // the reader says what this means
    }
    let file = sheet.file;
    let read = || {
        let at = Sectors(header.descriptor_offset).bytes()?;
        let len = Sectors(header.descriptor_size).bytes()?;
        if len > limits::DESCRIPTOR {
            let detail = format!("has {len} bytes, more than {}", limits::DESCRIPTOR);
            return Err(Error::new(crate::ErrorKind::Limit, "descriptor", detail).at(36));
        }
        Ok((file.read_part("descriptor", at, len)?, at))
    };
    sheet.found("descriptor-place", read())
}

/// Checks the extent against what its own descriptor says of it.
pub(super) fn against_descriptor(
    sheet: &mut Sheet<'_>,
    header: &SparseHeader,
    descriptor: &Descriptor,
    at: u64,
) {
    let lines = || {
        let lines = descriptor.extents.iter();
        lines.filter(|line| line.kind != ExtentKind::Zero)
    };
    let Some(line) = lines().next() else {
        sheet.warning("extent-line", "descriptor", "names no extent", at);
        return;
    };
    if lines().count() == 1 && line.sectors != header.capacity {
        let detail = format!(
            "says that the disk has {} sectors, and the header says {}",
            line.sectors, header.capacity
        );
        sheet.warning("size-differs", "descriptor", detail, at);
    }
    let stream = descriptor
        .create_type
        .eq_ignore_ascii_case("streamOptimized");
    if stream != header.has(FLAG_COMPRESSED) {
        let grains = if stream { "plain" } else { "compressed" };
        let detail = format!(
            "says that the disk is of type {}, but its grains are {grains}",
            descriptor.create_type
        );
        sheet.warning("create-type", "descriptor", detail, at);
    }
}

/// Checks the flag of an unclean shutdown and the newline bytes. They are put right only where
/// all else is.
pub(super) fn flags_to_reset(sheet: &mut Sheet<'_>, header: &SparseHeader) -> Result<()> {
    let clean = sheet.is_clean();
    if header.unclean_shutdown != 0 {
        unclean(sheet, UNCLEAN_AT, 1, clean);
    }
    if header.has(FLAG_NEWLINES) && header.newlines != NEWLINES {
        let converted = converted(header.newlines);
        let detail = match converted {
            true => "was damaged by a text-mode transfer, and so was the rest: copy the file again",
            false => "has damaged newline bytes",
        };
        let finding = Finding::new(Severity::Error, "newlines", sheet.file, "header", detail);
        // A transfer that changes line ends moves what follows, or changes it without a trace.
        let repair = (clean && !converted && sheet.file.size.is_multiple_of(512)).then(|| {
            let patch = Patch::write(sheet.file, NEWLINES_AT, NEWLINES.to_vec());
            Repair {
                action: "put the newline bytes back".to_owned(),
                patches: vec![patch],
            }
        });
        sheet.add(finding.at(NEWLINES_AT), repair);
    }
    Ok(())
}

/// Says that the flag of an unclean shutdown, of `len` bytes at `at`, is set.
pub(super) fn unclean(sheet: &mut Sheet<'_>, at: u64, len: usize, clean: bool) {
    let finding = Finding::new(
        Severity::Warning,
        "unclean-shutdown",
        sheet.file,
        "header",
        "says that a program had the image open and did not close it",
    );
    let repair = clean.then(|| Repair {
        action: "mark the image as closed".to_owned(),
        patches: vec![Patch::write(sheet.file, at, vec![0; len])],
    });
    sheet.add(finding.at(at), repair);
}

/// True if a change of line ends could have left these bytes.
fn converted(newlines: [u8; 4]) -> bool {
    matches!(
        newlines,
        [b'\n', b' ', b'\n', _]
            | [b'\r', b' ', b'\r', _]
            | [b'\r', b'\n', b' ', _]
            | [b'\n', b' ', b'\r', 0 | 1]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_line_ends_are_told_from_other_damage() {
        let followed = b"\n \r\n\x01\x00\x00";
        let text = |from: &[u8], to: &[u8]| {
            let mut out: Vec<u8> = Vec::new();
            let mut rest = followed.as_slice();
            while let Some(&byte) = rest.first() {
                let hit = rest.starts_with(from);
                out.extend(if hit { to } else { std::slice::from_ref(&byte) });
                rest = &rest[if hit { from.len() } else { 1 }..];
            }
            <[u8; 4]>::try_from(&out[..4]).unwrap_or_default()
        };
        for (from, to) in [
            (b"\r\n".as_slice(), b"\n".as_slice()),
            (b"\r\n", b"\r"),
            (b"\n", b"\r\n"),
            (b"\n", b"\r"),
            (b"\r", b"\n"),
            (b"\r", b""),
        ] {
            let bytes = text(from, to);
            assert!(bytes != NEWLINES && converted(bytes), "{bytes:?}");
        }
        for bytes in [NEWLINES, [0; 4], *b"\n!\r\n", *b"\n \r\x0b"] {
            assert!(!converted(bytes), "{bytes:?}");
        }
    }
}
