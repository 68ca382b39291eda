//! The extent files of a disk: whether they are there, and hold what the descriptor says.

use super::{Sheet, cowd, sesparse, sparse_extent};
use crate::{
    Error, ErrorKind, Result,
    check::{Checkup, Finding, is_finding},
    claims::{Claims, Owner},
    storage::{FileId, ImageFile},
    units::Sectors,
    vmdk::{
        cowd_header::COWD_MAGIC,
        descriptor::Descriptor,
        extent_files,
        extent_line::{Access, ExtentKind, ExtentLine},
    },
};
use std::collections::HashMap;

/// Checks all extents of `descriptor`, which lies in the file of `sheet`.
pub(super) fn check(
    sheet: &mut Sheet<'_>,
    descriptor: &Descriptor,
    checkup: &Checkup<'_>,
) -> Result<()> {
    let mut taken: HashMap<FileId, Claims> = HashMap::new();
    for (line, number) in descriptor.extents.iter().zip(1u64..) {
        sheet.job.advance(0)?;
        use ExtentKind::{Flat, SeSparse, Sparse, VmfsSparse};
        if line.access == Access::None
            || !matches!(line.kind, Flat | Sparse | VmfsSparse | SeSparse)
        {
            continue; // the reader says what it thinks of them
        }
        let part = format!("extent {number}");
        let file = match extent_files::find(line, sheet.file, &checkup.context) {
            Ok(file) => file,
            Err(error) if is_finding(&error) || error.kind() == ErrorKind::Policy => {
                missing(sheet, part, &error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut own = Sheet::new(&file, sheet.job);
        let used = match line.kind {
            Flat => flat(&mut own, line, part.clone())?,
            _ => sparse(&mut own, line, part.clone())?,
        };
        if let Some(id) = file.tag.id {
            let claims = taken.entry(id).or_default();
            if let Err(owner) = claims.claim(used, Owner::Unit(number)) {
                let whose = match owner {
                    Owner::Unit(number) => format!("extent {number}"),
                    _ => "another extent".to_owned(),
                };
                own.error("extent-shared", part, format!("uses bytes of {whose}"), 0);
            }
        }
        let said = own.findings;
        sheet.findings.append(said);
    }
    Ok(())
}

fn missing(sheet: &mut Sheet<'_>, part: String, error: &Error) {
    let rule = match error.kind() {
        ErrorKind::Policy => "extent-refused",
        _ => "extent-missing",
    };
    let mut finding = Finding::of(error, rule, sheet.file);
    finding.part = part.into();
    sheet.add(finding, None);
}

/// Checks a flat extent. Returns the bytes of its file that it uses.
fn flat(sheet: &mut Sheet<'_>, line: &ExtentLine, part: String) -> Result<std::ops::Range<u64>> {
    let file: &ImageFile = sheet.file;
    let (Ok(start), Ok(len)) = (Sectors(line.offset).bytes(), Sectors(line.sectors).bytes()) else {
        let detail = "has a size or an offset that no file has";
        sheet.error("extent-line", part, detail, 0);
        return Ok(0..0);
    };
    let end = start.saturating_add(len);
    if end > file.size {
        let detail = format!(
            "needs the file up to {end:#x}, but it ends at {:#x}",
            file.size
        );
        sheet.error("extent-cut-short", part, detail, file.size);
    } else if end < file.size {
        let left = file.size.saturating_sub(end);
        let detail = format!("is {left} bytes shorter than its file");
        sheet.note("extent-longer", part, detail, end);
    }
    Ok(start..end)
}

/// Checks a sparse extent. Returns the bytes of its file that it uses: all.
fn sparse(sheet: &mut Sheet<'_>, line: &ExtentLine, part: String) -> Result<std::ops::Range<u64>> {
    let is_cowd = sheet.file.size >= 4 && sheet.file.read_part("header", 0, 4)? == COWD_MAGIC;
    let capacity = match line.kind {
        ExtentKind::SeSparse => sesparse::check(sheet)?,
        _ if is_cowd => cowd::check(sheet)?,
        _ => sparse_extent(sheet)?.map(|header| header.capacity),
    };
    let Some(capacity) = capacity else {
        return Ok(0..sheet.file.size);
    };
    let detail = || {
        format!(
            "has {capacity} sectors by its header, and {} by the descriptor",
            line.sectors
        )
    };
    // What the header has more, readers do not see; what it has less, they miss.
    if capacity < line.sectors {
        sheet.error("extent-size", part, detail(), 12);
    } else if capacity > line.sectors {
        sheet.warning("extent-size", part, detail(), 12);
    }
    Ok(0..sheet.file.size)
}
