//! Changes raw disks in place: written to, resized, and rid of blocks that hold only zeros.
//!
//! Holes of the file are left as they are, so that a thin file stays thin.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::{
    Error, ErrorKind, ImageWriter, Kind, Layer, Result,
    format::{Compacted, Compactor, Update},
    storage::ImageFile,
    transaction::Transaction,
    units::{SECTOR, buffer_len},
};
use std::ops::Range;

/// Bytes of zeros that are written at once.
const ZEROS: u64 = 1 << 20;
/// What file systems keep holes in.
const BLOCK: u64 = 4096;

/// A raw disk that is changed as part of a transaction.
pub(super) struct InPlace<'a> {
    file: &'a ImageFile,
    transaction: &'a Transaction<'a>,
    /// Holes are the parent's, not zero.
    overlay: bool,
}

impl<'a> InPlace<'a> {
    pub(super) fn new(
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Self> {
        let file = layer
            .files()
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Usage, "image", "has no file"))?;
        if file.is_device()? {
            let detail = "is a device, which is not changed in place";
            return Err(Error::new(ErrorKind::Unsupported, "image", detail).path(file.path()));
        }
        Ok(Self {
            file,
            transaction,
            overlay: update.context.overlay,
        })
    }

    /// Makes the disk `size` bytes long. New bytes are zero.
    pub(super) fn resize(&self, size: u64) -> Result<()> {
        if size == 0 || !size.is_multiple_of(SECTOR) {
            let detail = format!("{size} bytes are not a whole number of sectors");
            return Err(Error::new(ErrorKind::Usage, "size", detail));
        }
        cut(self.transaction, self.file, size)?;
        self.transaction.set_len(self.file, size)
    }
}

/// Cuts the file at `size` if it is longer. What is cut off is saved, but for its holes: cut and
/// extended again, they would be as before.
pub(crate) fn cut(transaction: &Transaction<'_>, file: &ImageFile, size: u64) -> Result<()> {
    if size >= file.size {
        return Ok(());
    }
    each_span(file, size..file.size, |range, hole| match hole {
        true => transaction.disregard(file, range),
        false => Ok(()),
    })?;
    transaction.set_len(file, size)
}

/// Calls `each` with the stretches of `range` of the file that are holes, and those that are not.
fn each_span(
    file: &ImageFile,
    range: Range<u64>,
    mut each: impl FnMut(Range<u64>, bool) -> Result<()>,
) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let span = file
            .storage
            .span_at(at)
            .map_err(|e| Error::io("find holes", e).path(file.path()))?;
        let end = span.end.clamp(at.saturating_add(1), range.end);
        each(at..end, span.hole)?;
        at = end;
    }
    Ok(())
}

/// Gives what `range` takes on the medium back to the file system, once the change is done. Returns
/// how much of it was no hole, in bytes.
pub(crate) fn give_back(
    transaction: &Transaction<'_>,
    file: &ImageFile,
    range: Range<u64>,
) -> Result<u64> {
    let mut taken = 0u64;
    each_span(
        file,
        range.start..range.end.min(file.size),
        |range, hole| {
            if hole {
                return Ok(());
            }
            taken = taken.saturating_add(range.end.saturating_sub(range.start));
            transaction.release(file, range)
        },
    )?;
    Ok(taken)
}

impl ImageWriter for InPlace<'_> {
    fn unit(&self) -> u64 {
        SECTOR
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.transaction.write(self.file, range.start, bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        let zeros = |range: Range<u64>| {
            let mut at = range.start;
            while at < range.end {
                let len = range.end.saturating_sub(at).min(ZEROS);
                let bytes = vec![0; buffer_len(len)?];
                self.transaction.write(self.file, at, &bytes)?;
                at = at.saturating_add(len);
            }
            Ok(())
        };
        // Past the end of the file there is at most the rest of a sector, which reads as zero.
        let end = range.end.min(self.file.size);
        each_span(self.file, range.start..end, |range, hole| {
            match hole && !self.overlay {
                true => Ok(()),
                false => zeros(range),
            }
        })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Gives blocks of zeros back to the file system.
pub(super) struct Punch<'a> {
    image: InPlace<'a>,
    /// Data that is not needed, up to now; not yet handed on, because more may follow.
    next: Range<u64>,
    punched: u64,
}

impl<'a> Punch<'a> {
    pub(super) fn new(image: InPlace<'a>) -> Self {
        Self {
            image,
            next: 0..0,
            punched: 0,
        }
    }

    fn flush(&mut self) -> Result<()> {
        let range = std::mem::take(&mut self.next);
        self.punched = self
            .punched
            .saturating_add(range.end.saturating_sub(range.start));
        self.image.transaction.release(self.image.file, range)
    }
}

impl Compactor for Punch<'_> {
    fn unit(&self) -> u64 {
        BLOCK
    }

    fn remove(&mut self, range: Range<u64>, kind: Kind) -> Result<()> {
        if self.image.overlay && kind == Kind::Zero {
            return Ok(()); // a hole would show the parent
        }
        let file = self.image.file;
        let range = range.start..range.end.min(file.size);
        each_span(file, range, |range, hole| {
            if hole {
                return Ok(());
            }
            if range.start != self.next.end {
                self.flush()?;
                self.next.start = range.start;
            }
            self.next.end = range.end;
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>) -> Result<Compacted> {
        self.flush()?;
        Ok(Compacted {
            freed: self.punched,
            punched: self.punched,
            kept: self.punched,
            ..Compacted::default()
        })
    }
}
