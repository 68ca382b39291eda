//! The extents of a disk, one after the other: the map of a VMDK.

use super::sesparse_extent::SeSparseExtent;
use super::sparse_extent::SparseExtent;
use crate::{
    Error, ErrorKind, InFile, Layout, Place, Result, Run, raw::flat_run, storage::ImageFile,
    units::FileOffset,
};

/// One extent in its place on the disk, in bytes.
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) source: Source,
}

/// What holds an extent.
pub(super) enum Source {
    /// A file as it is, from an offset.
    Flat {
        file: ImageFile,
        index: usize,
        at: u64,
        hole: Place,
    },
    Sparse(Box<SparseExtent>),
    SeSparse(Box<SeSparseExtent>),
    Zero,
    /// Marked as not to be read. The number, from 1, is for people.
    Withheld {
        number: usize,
    },
}

/// All extents, in order and without gaps.
pub(super) struct Extents {
    extents: Vec<Extent>,
    size: u64,
}

impl Extents {
    /// `extents` must be in order and tile the disk.
    pub(super) fn new(extents: Vec<Extent>) -> Self {
        let size = extents
            .last()
            .map_or(0, |last| last.start.saturating_add(last.len));
        Self { extents, size }
    }

    fn at(&self, pos: u64) -> Result<&Extent> {
        let after = self.extents.partition_point(|e| e.start <= pos);
        after
            .checked_sub(1)
            .and_then(|index| self.extents.get(index))
            .ok_or_else(|| Error::corrupt("extents", format!("none holds position {pos:#x}")))
    }
}

impl Layout for Extents {
    fn size(&self) -> u64 {
        self.size
    }

    fn locate(&self, pos: u64) -> Result<Run> {
        let extent = self.at(pos)?;
        let inside = pos.saturating_sub(extent.start);
        let (end, place) = match &extent.source {
            Source::Zero => (extent.len, Place::Zero),
            Source::Withheld { .. } => (extent.len, Place::Withheld),
            Source::Sparse(sparse) => {
                let run = sparse.locate(inside).in_file(sparse.path())?;
                (run.end, run.place)
            }
            Source::SeSparse(sparse) => {
                let run = sparse.locate(inside).in_file(sparse.path())?;
                (run.end, run.place)
            }
            Source::Flat {
                file,
                index,
                at,
                hole,
            } => {
                let FileOffset(at) = FileOffset(*at).plus(inside)?;
                let left = extent.len.saturating_sub(inside);
                let (len, place) = flat_run(file, *index, at, left, *hole)?;
                (inside.saturating_add(len), place)
            }
        };
        Ok(Run {
            end: extent.start.saturating_add(end.min(extent.len)),
            place,
        })
    }

    fn unpack(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        let extent = self.at(pos)?;
        match &extent.source {
            Source::Sparse(sparse) => sparse
                .unpack(pos.saturating_sub(extent.start), buf)
                .in_file(sparse.path()),
            Source::Withheld { number } => {
                let detail = format!(
                    "is marked NOACCESS: what it holds may not be read (position {pos:#x} of the disk)"
                );
                let part = format!("extent {number}");
                Err(Error::new(ErrorKind::Unsupported, part, detail))
            }
            _ => Err(Error::corrupt("extent", "has no compressed grains")),
        }
    }
}
