//! The virtual disk: what every operation reads, and all that later crates will see.

use crate::{Error, ErrorKind, Result, storage::FileTag, units::FileOffset};
use std::{ops::Range, sync::Arc};

/// What is known about a stretch of a disk without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stored here; may still be all zero.
    Data,
    /// Reads as zero, and hides whatever a parent holds.
    Zero,
    /// Not recorded here: the parent decides. Only a differencing layer says this.
    Absent,
}

/// Where the bytes at the start of an extent lie.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The file.
    pub file: Arc<FileTag>,
    /// The position in it; of the compressed grain, if `packed`.
    pub at: FileOffset,
    /// If compressed: bytes of the unpacked grain before the extent. `at` does not advance with
    /// the disk position.
    pub packed: Option<u64>,
}

impl Stored {
    /// True if both mean the same bytes.
    ///
    /// Storage without a file identity is never the same as another.
    pub fn same_place(&self, other: &Self) -> bool {
        let same_file = Arc::ptr_eq(&self.file, &other.file)
            || (self.file.id.is_some() && self.file.id == other.file.id);
        same_file && self.at == other.at && self.packed == other.packed
    }

    /// True if `next`, which starts `len` bytes later on the disk, continues this place.
    fn continues(&self, len: u64, next: &Self) -> bool {
        Arc::ptr_eq(&self.file, &next.file)
            && self.packed.is_none()
            && next.packed.is_none()
            && self.at.0.checked_add(len) == Some(next.at.0)
    }
}

/// A stretch of the disk of one kind, kept in one place.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Bytes of the virtual disk. Not empty.
    pub range: Range<u64>,
    /// What is known of them.
    pub kind: Kind,
    /// Which layer of a chain answered: 0 is the top.
    pub depth: usize,
    /// For [`Kind::Data`], where the bytes lie, if a file holds them.
    pub stored: Option<Stored>,
}

impl Extent {
    /// An extent that no file holds: zero or absent.
    pub fn empty(range: Range<u64>, kind: Kind) -> Self {
        Self {
            range,
            kind,
            depth: 0,
            stored: None,
        }
    }

    /// True if `next` follows without a break in kind, layer or place.
    pub fn continues(&self, next: &Self) -> bool {
        let same = self.kind == next.kind
            && self.depth == next.depth
            && self.range.end == next.range.start;
        same && match (&self.stored, &next.stored) {
            (None, None) => true,
            (Some(a), Some(b)) => a.continues(self.range.end - self.range.start, b),
            _ => false,
        }
    }
}

/// A virtual disk, read at any position from any thread.
///
/// A disk is *complete* when it never answers [`Kind::Absent`]. Base images and
/// [`Chain`](crate::Chain)s are complete; a differencing layer alone is not, and reading its
/// absent parts is an error rather than zeros.
///
/// # Contract
/// The disk checks every range itself: a request outside `0..size()` fails with
/// [`ErrorKind::OutOfRange`] and does not overflow. Size and sector size never change.
pub trait Disk: Send + Sync {
    /// Size in bytes; a multiple of the sector size.
    fn size(&self) -> u64;
    /// Logical sector size in bytes: 512 or 4096.
    fn sector_size(&self) -> u32;
    /// Says what lies at `pos`, and up to where that answer holds.
    ///
    /// The extent starts at `pos` and is not empty. It need not be the longest possible:
    /// [`extents`] joins neighbours.
    fn extent_at(&self, pos: u64) -> Result<Extent>;
    /// Fills `buf` from `pos`. Fails if any part is out of range or absent.
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()>;
}

/// Walks `range` of `disk` in order. Neighbours are joined where `join` says so.
///
/// Holds one extent at a time, whatever the disk's size. Ends after the first error.
///
/// ```
/// # use vdisk_core::{Disk, disk, testing};
/// # let disk = testing::disk(&[(4096, Some(1)), (8192, None)]);
/// for extent in disk::extents(&disk, 0..disk.size(), disk::same_kind) {
///     let extent = extent?;
///     println!("{:?} {:?}", extent.range, extent.kind);
/// }
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn extents<'a>(
    disk: &'a dyn Disk,
    range: Range<u64>,
    join: fn(&Extent, &Extent) -> bool,
) -> impl Iterator<Item = Result<Extent>> + 'a {
    let mut pos = range.start;
    let mut step = move || -> Option<Result<Extent>> {
        if pos >= range.end {
            return None;
        }
        let found = disk.extent_at(pos).map(|mut e| {
            e.range.end = e.range.end.min(range.end);
            e
        });
        pos = found.as_ref().map_or(range.end, |e| e.range.end);
        Some(found)
    };
    let mut ahead: Option<Result<Extent>> = None;
    std::iter::from_fn(move || {
        let mut current = match ahead.take().or_else(&mut step)? {
            Ok(extent) => extent,
            error => return Some(error),
        };
        loop {
            match step() {
                Some(Ok(next)) if join(&current, &next) => current.range.end = next.range.end,
                other => {
                    ahead = other;
                    return Some(Ok(current));
                }
            }
        }
    })
}

/// Joins extents of one kind, wherever they are kept. The place is that of the first.
pub fn same_kind(a: &Extent, b: &Extent) -> bool {
    a.kind == b.kind
}

/// Joins extents only where kind, layer and place go on without a break.
pub fn same_place(a: &Extent, b: &Extent) -> bool {
    a.continues(b)
}

/// The bounds check shared by every disk.
pub fn check_range(disk: &dyn Disk, pos: u64, len: usize) -> Result<()> {
    let end = pos.checked_add(len as u64);
    if end.is_some_and(|end| end <= disk.size()) {
        return Ok(());
    }
    let detail = format!(
        "{len} bytes at {pos} lie outside a disk of {} bytes",
        disk.size()
    );
    Err(Error::new(ErrorKind::OutOfRange, "read", detail))
}

/// The length of the part of a request for `wanted` bytes at `pos` that ends by `end`.
pub(crate) fn part_len(wanted: usize, pos: u64, end: u64) -> usize {
    usize::try_from(end.saturating_sub(pos)).map_or(wanted, |left| wanted.min(left))
}
