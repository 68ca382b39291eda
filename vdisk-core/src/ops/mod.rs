//! Operations: plain functions over `&dyn Disk`. None of them knows a format.
//!
//! What they share is here: cutting a disk into pieces that are read, checked and written one at
//! a time, so that memory is bounded whatever the disk's size.

pub mod changes;
pub mod check;
pub mod child;
pub mod commit;
pub mod compact;
pub mod compose;
pub mod convert;
pub mod dedup;
pub mod delta;
pub mod diff;
pub mod family;
pub mod gpt;
pub mod hash;
mod in_place;
pub mod like;
mod lineage;
mod mbr;
pub mod measure;
pub mod merge;
pub mod merge_plan;
mod partitions;
pub mod rebase;
pub mod redo;
pub mod repoint;
pub mod resize;
mod resized;
pub mod split;
mod stamp;

pub use partitions::partitions;
pub use resized::Resized;
pub use stamp::Stamp;

use crate::{
    Disk, Extent, Kind, Result,
    disk::{extents, same_kind},
    units::{round_down, round_up},
};
use std::{iter::Peekable, ops::Range};

/// How much is read at once, in bytes.
pub const CHUNK: u64 = 1 << 20;

/// A part of the disk to be handled at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) range: Range<u64>,
    /// False where nothing is stored: the range need not be read.
    pub(crate) data: bool,
}

/// Cuts `disk` into pieces in ascending order that tile it.
///
/// Pieces start at multiples of `unit` and end at one or at the end of the disk. A piece with data
/// does not cross a multiple of `chunk`, which is a multiple of `unit`; a piece without has any
/// length.
pub(crate) fn pieces<'a>(
    disk: &'a dyn Disk,
    unit: u64,
    chunk: u64,
) -> impl Iterator<Item = Result<Piece>> + 'a {
    let spans = extents(disk, 0..disk.size(), same_kind).map(|e| {
        e.map(|Extent { range, kind, .. }| Piece {
            range,
            data: kind == Kind::Data,
        })
    });
    aligned(spans, disk.size(), unit, chunk)
}

/// Turns spans that tile `0..size` into pieces aligned as [`pieces`] says.
pub(crate) fn aligned<'a>(
    spans: impl Iterator<Item = Result<Piece>> + 'a,
    size: u64,
    unit: u64,
    chunk: u64,
) -> impl Iterator<Item = Result<Piece>> + 'a {
    let mut spans = spans.peekable();
    let mut pos = 0;
    std::iter::from_fn(move || {
        if pos >= size {
            return None;
        }
        let piece = next_piece(&mut spans, pos, size, unit, chunk);
        pos = piece.as_ref().map_or(size, |p| p.range.end);
        Some(piece)
    })
}

fn next_piece(
    spans: &mut Peekable<impl Iterator<Item = Result<Piece>>>,
    start: u64,
    size: u64,
    unit: u64,
    chunk: u64,
) -> Result<Piece> {
    let limit = size.min(round_down(start, chunk).saturating_add(chunk));
    let mut end = start;
    while let Some(span) = covering(spans, end)? {
        let span_end = span.range.end;
        if span.data {
            end = round_up(span_end, unit).min(limit);
        } else {
            // Whole units without data end a piece with data, and are a piece of their own.
            let empty_end = if span_end >= size {
                size
            } else {
                round_down(span_end, unit)
            };
            if empty_end > end {
                return Ok(match end == start {
                    true => Piece {
                        range: start..empty_end,
                        data: false,
                    },
                    false => Piece {
                        range: start..end,
                        data: true,
                    },
                });
            }
            end = (end + unit).min(limit);
        }
        if end >= limit {
            break;
        }
    }
    Ok(Piece {
        range: start..end.max(start + 1).min(limit),
        data: true,
    })
}

/// The span that contains `pos`; those before it are dropped.
fn covering(
    spans: &mut Peekable<impl Iterator<Item = Result<Piece>>>,
    pos: u64,
) -> Result<Option<Piece>> {
    loop {
        match spans.peek() {
            Some(Ok(span)) if span.range.end <= pos => {}
            Some(Ok(span)) => return Ok(Some(span.clone())),
            Some(Err(_)) => {}
            None => return Ok(None),
        }
        if let Some(Err(error)) = spans.next() {
            return Err(error);
        }
    }
}

/// Reads `range` of `disk` into a new buffer. The range is a piece: at most a chunk long.
pub(crate) fn read_range(disk: &dyn Disk, range: &Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; crate::units::buffer_len(range.end - range.start)?];
    disk.read_at(range.start, &mut bytes)?;
    Ok(bytes)
}

/// Walks `bytes`, which start at disk position `start`, in blocks of `unit` bytes, and joins
/// neighbours for which `class` answers alike: disk range and class.
pub(crate) fn runs<C: PartialEq>(
    start: u64,
    len: usize,
    unit: u64,
    mut class: impl FnMut(Range<usize>) -> C,
) -> Vec<(Range<u64>, Range<usize>, C)> {
    let step = usize::try_from(unit).unwrap_or(usize::MAX);
    let mut found: Vec<(Range<u64>, Range<usize>, C)> = Vec::new();
    let mut at = 0;
    while at < len {
        let end = len.min(at.saturating_add(step));
        let kind = class(at..end);
        match found.last_mut() {
            Some((disk, inside, last)) if *last == kind => {
                inside.end = end;
                disk.end = start + end as u64;
            }
            _ => found.push((start + at as u64..start + end as u64, at..end, kind)),
        }
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(u64, bool)]) -> Vec<Result<Piece>> {
        let mut start = 0;
        list.iter()
            .map(|&(end, data)| {
                let range = start..end;
                start = end;
                Ok(Piece { range, data })
            })
            .collect()
    }

    fn cut(list: &[(u64, bool)], unit: u64, chunk: u64) -> Vec<(u64, u64, bool)> {
        let size = list.last().map_or(0, |l| l.0);
        aligned(spans(list).into_iter(), size, unit, chunk)
            .map(|p| p.map(|p| (p.range.start, p.range.end, p.data)))
            .collect::<Result<_>>()
            .unwrap_or_default()
    }

    #[test]
    fn data_grows_to_whole_units_and_is_cut_at_chunks() {
        // Data in 5..6 of unit 4 makes 4..8 a data piece.
        assert_eq!(
            cut(&[(5, false), (6, true), (32, false)], 4, 16),
            [(0, 4, false), (4, 8, true), (8, 32, false)]
        );
        assert_eq!(
            cut(&[(40, true)], 4, 16),
            [(0, 16, true), (16, 32, true), (32, 40, true)]
        );
    }

    #[test]
    fn an_odd_end_belongs_to_the_last_piece() {
        assert_eq!(
            cut(&[(8, true), (11, false)], 4, 16),
            [(0, 8, true), (8, 11, false)]
        );
        assert_eq!(
            cut(&[(9, false), (11, true)], 4, 16),
            [(0, 8, false), (8, 11, true)]
        );
    }
}
