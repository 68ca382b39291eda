//! Opens what the extent lines of a descriptor name.
//!
//! Apart from the descriptor, which is only text: here its names become files, by the resolver.

use super::extent_line::{Access, ExtentKind, ExtentLine};
use super::extents::{Extent, Source};
use super::opening::Opening;
use super::sesparse_extent::SeSparseExtent;
use super::sparse_extent::SparseExtent;
use crate::{
    Error, ErrorKind, InFile, Place, Reference, Result, format::Context, limits,
    storage::ImageFile, units::Sectors,
};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// Opens all extents of a disk in order. `files` begins with the descriptor; the extents' files
/// are added.
pub(super) fn open_extents(
    lines: &[ExtentLine],
    files: &mut Vec<ImageFile>,
    context: &Context<'_>,
    hole: Place,
    opening: &mut Opening,
) -> Result<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut start = 0u64;
    for (line, number) in lines.iter().zip(1..) {
        let len = Sectors(line.sectors).bytes()?;
        let source = open_extent(line, number, files, context, hole, opening)?;
        extents.push(Extent { start, len, source });
        start = start
            .checked_add(len)
            .filter(|end| *end <= limits::DISK_SIZE)
            .ok_or_else(|| Error::new(ErrorKind::Limit, "extents", "are larger than any disk"))?;
    }
    // Empty extents hold nothing, and would make two extents start at one place.
    extents.retain(|e| e.len > 0);
    Ok(extents)
}

fn open_extent(
    line: &ExtentLine,
    number: usize,
    files: &mut Vec<ImageFile>,
    context: &Context<'_>,
    hole: Place,
    opening: &mut Opening,
) -> Result<Source> {
    if line.kind == ExtentKind::Zero {
        return Ok(Source::Zero); // also if it may not be read: there is nothing to withhold
    }
    if line.access == Access::None {
        return Ok(Source::Withheld { number });
    }
    let part = format!("extent {number}");
    if line.kind == ExtentKind::Unread {
        let detail = format!("is of type {}, which is not supported", line.word);
        return Err(Error::new(ErrorKind::Unsupported, part, detail));
    }
    let descriptor = files
        .first()
        .ok_or_else(|| Error::corrupt("descriptor", "is missing"))?;
    let file = find(line, descriptor, context)?;
    let path = file.tag.path.clone();
    let index = files.len();
    let len = Sectors(line.sectors).bytes()?;
    let long_enough = |size: u64| {
        if size >= len {
            return Ok(());
        }
        let detail = format!("has {size} bytes, and the descriptor says {len}");
        Err(Error::corrupt(part.clone(), detail).path(&path))
    };
    let source = match line.kind {
        ExtentKind::Flat | ExtentKind::Device => {
            let at = Sectors(line.offset).bytes()?;
            if at.checked_add(len).is_none_or(|end| end > file.size) {
                let detail = format!(
                    "needs {len} bytes from {at:#x}, but the file has {}; it is cut short",
                    file.size
                );
                return Err(Error::corrupt(part, detail).path(path));
            }
            Source::Flat {
                file: file.clone(),
                index,
                at,
                // A flat extent is complete, also in a child.
                hole: if context.overlay { hole } else { Place::Zero },
            }
        }
        ExtentKind::Sparse | ExtentKind::VmfsSparse => {
            let sparse =
                SparseExtent::open_any(file.clone(), index, hole, opening).in_file(&path)?;
            long_enough(sparse.size())?;
            Source::Sparse(Box::new(sparse))
        }
        ExtentKind::SeSparse => {
            let sparse = SeSparseExtent::open(file.clone(), index, hole, opening).in_file(&path)?;
            long_enough(sparse.size())?;
            Source::SeSparse(Box::new(sparse))
        }
        ExtentKind::Zero | ExtentKind::Unread => Source::Zero, // answered above
    };
    files.push(file);
    Ok(source)
}

/// Opens the file or the device of `line` by the first of its names that leads somewhere.
pub(super) fn find(
    line: &ExtentLine,
    descriptor: &ImageFile,
    context: &Context<'_>,
) -> Result<ImageFile> {
    let mut missing = None;
    for name in &line.names {
        let device = line.kind == ExtentKind::Device || is_device(name);
        let reference = match device {
            true => Reference::Device(name),
            false => Reference::Extent(name),
        };
        match context.resolver.find(descriptor, &reference) {
            Ok(found) => match found.into_iter().next() {
                Some(file) => return Ok(file),
                None => continue,
            },
            Err(error) if error.kind() == ErrorKind::Reference => {
                missing.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(missing.unwrap_or_else(|| Error::new(ErrorKind::Reference, "extent", "was not found")))
}

/// True for the names by which Unix, Windows and ESX know devices.
pub(super) fn is_device(name: &OsStr) -> bool {
    const DEVICES: [&[u8]; 4] = [b"/dev/", b"\\\\.\\", b"\\\\?\\", b"/vmfs/devices/"];
    let name = name.as_bytes();
    // A folder in memory, with files like any other.
    !name.starts_with(b"/dev/shm/") && DEVICES.iter().any(|d| name.starts_with(d))
}
