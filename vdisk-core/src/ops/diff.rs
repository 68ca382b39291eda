//! Where two disks differ.

use super::{CHUNK, Piece, Resized, aligned, read_range, runs};
use crate::{Disk, Extent, Job, Kind, Result, units::SECTOR};
use std::ops::Range;

/// What [`diff`] found, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// In sectors that differ. A sector past the end of the shorter disk differs if it is not zero.
    pub bytes: u64,
    /// Ranges that differ, neighbours joined.
    pub ranges: u64,
    /// That had to be read and compared: the rest is known to be alike from the maps.
    pub compared: u64,
}

/// Finds the ranges in which `a` and `b` differ, at sector granularity, in ascending order.
///
/// What both take from the same place of the same file, or both know to be zero, is not read.
/// The shorter disk is taken to be followed by zeros.
///
/// ```
/// # use vdisk_core::{Job, ops::diff, testing};
/// let a = testing::disk(&[(4096, Some(1)), (8192, None)]);
/// let b = testing::disk(&[(4096, Some(1)), (4608, Some(2)), (8192, None)]);
/// let mut ranges = vec![];
/// let found = diff::diff(&a, &b, &Job::default(), |range| ranges.push(range))?;
/// assert_eq!((found.bytes, ranges), (512, vec![4096..4608]));
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn diff(
    a: &dyn Disk,
    b: &dyn Disk,
    job: &Job<'_>,
    mut found: impl FnMut(Range<u64>),
) -> Result<Difference> {
    let size = a.size().max(b.size());
    let (a, b) = (Resized::new(a, size), Resized::new(b, size));
    let mut total = Difference::default();
    let mut open: Option<Range<u64>> = None;
    job.watch.phase("compare", size);
    job.in_order(
        suspects(&a, &b, SECTOR),
        |piece| {
            let differing = if piece.data {
                compare(&a, &b, &piece.range)?
            } else {
                Vec::new()
            };
            Ok((piece, differing))
        },
        |(piece, differing)| {
            let len = piece.range.end - piece.range.start;
            if piece.data {
                total.compared += len;
            }
            for range in differing {
                total.bytes += range.end - range.start;
                match &mut open {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => {
                        total.ranges += 1;
                        if let Some(done) = open.replace(range) {
                            found(done);
                        }
                    }
                }
            }
            job.advance(len)
        },
    )?;
    if let Some(last) = open {
        found(last);
    }
    Ok(total)
}

/// Cuts two disks of one size into pieces; those with `data` may differ and must be compared.
pub(crate) fn suspects<'a>(
    a: &'a dyn Disk,
    b: &'a dyn Disk,
    unit: u64,
) -> impl Iterator<Item = Result<Piece>> + 'a {
    let size = a.size();
    let mut pos = 0;
    let spans = std::iter::from_fn(move || {
        if pos >= size {
            return None;
        }
        let span = a.extent_at(pos).and_then(|x| {
            let y = b.extent_at(pos)?;
            Ok(Piece {
                range: pos..x.range.end.min(y.range.end),
                data: !surely_alike(&x, &y),
            })
        });
        pos = span.as_ref().map_or(size, |s| s.range.end);
        Some(span)
    });
    aligned(spans, size, unit, CHUNK)
}

/// True if two extents that start at the same position hold the same bytes without a look.
pub(crate) fn surely_alike(x: &Extent, y: &Extent) -> bool {
    match (&x.stored, &y.stored) {
        (Some(x), Some(y)) => x.same_place(y),
        _ => x.kind == y.kind && x.kind != Kind::Data,
    }
}

/// The sectors of `range` that differ, neighbours joined.
fn compare(a: &dyn Disk, b: &dyn Disk, range: &Range<u64>) -> Result<Vec<Range<u64>>> {
    let (x, y) = (read_range(a, range)?, read_range(b, range)?);
    if x == y {
        return Ok(Vec::new());
    }
    let classes = runs(range.start, x.len(), SECTOR, |part| {
        x.get(part.clone()) == y.get(part)
    });
    Ok(classes
        .into_iter()
        .filter(|(_, _, alike)| !alike)
        .map(|(disk, ..)| disk)
        .collect())
}
