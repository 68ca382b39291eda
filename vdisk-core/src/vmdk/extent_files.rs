//! Opens what the extent lines of a descriptor name.
//!
//! Apart from the descriptor, which is only text: here its names become files, by the resolver.

use super::descriptor::{Access, ExtentKind, ExtentLine};
use super::extents::{Extent, Source};
use super::sesparse_extent::SeSparseExtent;
use super::sparse_extent::{Opening, SparseExtent};
use crate::{
    Error, ErrorKind, InFile, Place, Reference, Result, format::Context, limits,
    storage::ImageFile, units::Sectors,
};

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
    let Some(name) = &line.name else {
        return Ok(Source::Zero);
    };
    let part = format!("extent {number}");
    if line.access == Access::None {
        let detail = "is marked NOACCESS, which is not supported";
        return Err(Error::new(ErrorKind::Unsupported, part, detail));
    }
    let descriptor = files
        .first()
        .ok_or_else(|| Error::corrupt("descriptor", "is missing"))?;
    let file = context
        .resolver
        .find(descriptor, &Reference::Extent(name))?
        .into_iter()
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Reference, "extent", "was not found"))?;
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
    let source = match &line.kind {
        ExtentKind::Flat => {
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
        ExtentKind::Zero => Source::Zero,
        ExtentKind::Other(kind) => {
            let detail = format!("is of type {kind}, which is not supported");
            return Err(Error::new(ErrorKind::Unsupported, part, detail).path(path));
        }
    };
    files.push(file);
    Ok(source)
}
