//! The footer of a stream, and its markers against its tables.
//!
//! Programs that import a stream read it front to back by its markers; others go by the tables.
//! Both must find the same.

use super::{
    Sheet,
    header::{habits, readable},
    markers::Markers,
    tables::{Geometry, Set, each_entry},
};
use crate::{
    Result,
    check::{Finding, Repair, Severity},
    patch::Patch,
    storage::ImageFile,
    units::SECTOR,
    vmdk::disk_structs::{
        FLAG_COMPRESSED, FLAG_MARKERS, GD_AT_END, MARKER_END, MARKER_FOOTER, Marker, NEWLINES,
        SparseHeader,
    },
};

/// Marker, footer and end marker.
const TAIL: u64 = 3 * SECTOR;

/// What stands where a footer should.
enum Footer {
    /// No marker of one.
    None,
    Damaged,
    Whole(SparseHeader),
}

/// Where a footer must lie, counted from the end of the file.
fn footer_at(file: &ImageFile) -> Option<u64> {
    file.size.checked_sub(TAIL)?.checked_add(SECTOR)
}

fn footer(file: &ImageFile) -> Result<Footer> {
    let Some(at) = file.size.checked_sub(TAIL) else {
        return Ok(Footer::None);
    };
    let bytes = file.read_part("footer", at, 2 * SECTOR)?;
    let (marker, footer) = bytes.split_at(bytes.len() / 2);
    let marker = Marker::parse(marker)?;
    if (marker.size, marker.kind, marker.value) != (0, MARKER_FOOTER, 1) {
        return Ok(Footer::None);
    }
    match SparseHeader::parse("footer", footer) {
        Ok(footer) if footer.gd_offset != GD_AT_END => Ok(Footer::Whole(footer)),
        _ => Ok(Footer::Damaged),
    }
}

/// Checks `header`, and against its footer if it has one. Returns the fields that count.
pub(super) fn effective_header(
    sheet: &mut Sheet<'_>,
    header: SparseHeader,
) -> Result<Option<SparseHeader>> {
    let footer = footer(sheet.file)?;
    if !is_readable(&header) {
        let Footer::Whole(footer) = footer else {
            readable(sheet, &header);
            return Ok(None);
        };
        header_from_footer(sheet, &header, &footer)?;
        return Ok(Some(footer));
    }
    habits(sheet, &header);
    if !header.has(FLAG_COMPRESSED) {
        return Ok(Some(header));
    }
    match footer {
        Footer::Whole(footer) => {
            let same = SparseHeader {
                gd_offset: header.gd_offset,
                rgd_offset: header.rgd_offset,
                descriptor_offset: header.descriptor_offset,
                descriptor_size: header.descriptor_size,
                unclean_shutdown: header.unclean_shutdown,
                newlines: header.newlines,
                ..footer.clone()
            };
            if same != header {
                let at = footer_at(sheet.file).unwrap_or(0);
                let detail = "differs from the header, and nothing says which is right";
                sheet.error("footer-differs", "footer", detail, at);
            }
            Ok(Some(SparseHeader {
                gd_offset: footer.gd_offset,
                rgd_offset: footer.rgd_offset,
                unclean_shutdown: header.unclean_shutdown,
                newlines: header.newlines,
                ..if same == header { header } else { footer }
            }))
        }
        Footer::None if header.gd_offset != GD_AT_END => Ok(Some(header)),
        other => rebuild_footer(sheet, header, matches!(other, Footer::None)),
    }
}

fn is_readable(header: &SparseHeader) -> bool {
    let fixed = SparseHeader {
        newlines: NEWLINES,
        ..header.clone()
    };
    fixed.check("header").is_ok()
}

/// Says what is wrong with the header of a stream whose footer, a copy, is whole.
fn header_from_footer(
    sheet: &mut Sheet<'_>,
    header: &SparseHeader,
    footer: &SparseHeader,
) -> Result<()> {
    let Err(error) = header.check("header") else {
        return Ok(());
    };
    let finding = Finding::of(&error, "header", sheet.file).at(0);
    let copy = SparseHeader {
        gd_offset: GD_AT_END,
        ..footer.clone()
    };
    // A footer that does not say where the descriptor is would lose it.
    let repair = (footer.descriptor_offset != 0 && footer.has(FLAG_COMPRESSED)).then_some(Repair {
        action: "copy the header from the footer".to_owned(),
        patches: vec![Patch::write(sheet.file, 0, copy.bytes()?)],
    });
    sheet.add(finding, repair);
    Ok(())
}

/// Says that the footer is missing or damaged, and writes it anew if the markers before it tell
/// where the directory is.
fn rebuild_footer(
    sheet: &mut Sheet<'_>,
    header: SparseHeader,
    missing: bool,
) -> Result<Option<SparseHeader>> {
    let file = sheet.file;
    let (rule, detail) = match missing {
        true => (
            "footer-missing",
            "is missing: the file is cut short, or was never finished",
        ),
        false => ("footer", "is damaged"),
    };
    let finding = Finding::new(Severity::Error, rule, file, "footer", detail).at(file.size);
    let markers = Markers::follow(sheet, &header, &Geometry::of(&header)?)?;
    // What comes before the directory is whole: the markers lead there.
    let whole = |(_, end): &(u64, u64)| markers.directories == 1 && *end <= file.size;
    let Some((sector, end)) = markers.directory.filter(whole) else {
        sheet.add(finding, None);
        return Ok(None);
    };
    let footer = SparseHeader {
        gd_offset: sector,
        ..header
    };
    let last = end.saturating_add(TAIL);
    let patches = if file.size > last && !markers.ended_at(end.saturating_add(2 * SECTOR)) {
        None // what is behind the directory is unknown
    } else {
        let mut tail = Marker::sector(MARKER_FOOTER, 1)?;
        tail.extend(footer.bytes()?);
        tail.extend(Marker::sector(MARKER_END, 0)?);
        Some(vec![
            Patch::write(file, end, tail),
            Patch::resize(file, last),
        ])
    };
    let repair = patches.map(|patches| Repair {
        action: "write the footer anew, behind the grain directory".to_owned(),
        patches,
    });
    sheet.add(finding, repair);
    Ok(Some(footer))
}

/// Checks the markers of a stream that has a footer against its tables, in which `stored` grains
/// were found.
pub(super) fn check(
    sheet: &mut Sheet<'_>,
    header: &SparseHeader,
    geometry: &Geometry,
    stored: u64,
) -> Result<()> {
    // Streams without a footer have few markers, or none.
    let (Some(at), Footer::Whole(_)) = (footer_at(sheet.file), footer(sheet.file)?) else {
        return Ok(());
    };
    if !header.has(FLAG_MARKERS) {
        return Ok(());
    }
    let markers = Markers::follow(sheet, header, geometry)?;
    markers.say(sheet);
    let end = at.saturating_add(SECTOR);
    let bytes = sheet.file.read_part("end marker", end, SECTOR)?;
    if bytes.iter().any(|b| *b != 0) {
        let detail = "is not there: the last sector holds something else";
        let repair = Repair {
            action: "write the end marker".to_owned(),
            patches: vec![Patch::write(sheet.file, end, vec![0; bytes.len()])],
        };
        let finding = Finding::new(
            Severity::Warning,
            "end-marker",
            sheet.file,
            "end marker",
            detail,
        );
        sheet.add(finding.at(end), Some(repair));
    }
    if markers.stopped.is_some() {
        return Ok(()); // what was not reached cannot be counted
    }
    let mut tables = 0u64;
    let set = Set::primary(header.gd_offset);
    each_entry(sheet, &set, geometry, |_, _, entry| {
        tables = tables.saturating_add((entry > 1).into());
        Ok(())
    })?;
    let at = set.entry_at(0);
    for (rule, part, found, expected) in [
        ("table-markers", "grain tables", markers.tables, tables),
        (
            "directory-markers",
            "grain directory",
            markers.directories,
            1,
        ),
        ("grain-markers", "grains", markers.grains, stored),
    ] {
        let severity = match rule {
            // VMware has been seen to write one more than the directory has.
            "table-markers" if found > expected => Severity::Note,
            _ => Severity::Warning,
        };
        if found != expected {
            let detail =
                format!("have {found} markers in the stream, and {expected} in the tables");
            sheet.say(severity, rule, part, detail, at);
        }
    }
    if let Some((sector, _)) = markers.directory.filter(|(s, _)| *s != header.gd_offset) {
        let detail = format!(
            "is marked at sector {sector}, and the footer says {}",
            header.gd_offset
        );
        sheet.warning("directory-markers", "grain directory", detail, at);
    }
    Ok(())
}
