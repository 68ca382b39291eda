//! Fixed disks: the disk as it is, then the footer.

use super::{footer::Found, writer::ALIGNMENT};
use crate::{
    Error, ImageWriter, Layout, Place, Result, Run, raw,
    storage::ImageFile,
    target::Target,
    units::{FileOffset, SECTOR},
};
use std::ops::Range;

/// The layout of a fixed disk.
pub(crate) struct Fixed {
    file: ImageFile,
    size: u64,
    /// What holes of the file read as.
    hole: Place,
}

impl Fixed {
    /// Checks that the disk lies before its footer.
    pub(crate) fn new(file: &ImageFile, found: &Found, overlay: bool) -> Result<Self> {
        let size = found.footer.current_size;
        if size > found.data_end {
            let detail = format!(
                "is {size} bytes, but the footer follows after {}; the file is cut short or damaged",
                found.data_end
            );
            return Err(Error::corrupt("virtual size", detail).at(found.data_end));
        }
        Ok(Self {
            file: file.clone(),
            size,
            hole: if overlay { Place::Absent } else { Place::Zero },
        })
    }
}

impl Layout for Fixed {
    fn size(&self) -> u64 {
        self.size
    }

    fn locate(&self, pos: u64) -> Result<Run> {
        let rest = self.size.saturating_sub(pos);
        let (len, place) = raw::flat_run(&self.file, 0, pos, rest, self.hole)?;
        Ok(Run {
            end: FileOffset(pos).plus(len)?.0,
            place,
        })
    }
}

/// Writes a fixed disk, front to back.
pub(crate) struct FixedWriter<'a> {
    target: &'a mut dyn Target,
    size: u64,
    footer: Vec<u8>,
}

impl<'a> FixedWriter<'a> {
    /// Writes a disk of `size` bytes that ends with `footer`.
    pub(crate) fn new(target: &'a mut dyn Target, size: u64, footer: Vec<u8>) -> Self {
        Self {
            target,
            size,
            footer,
        }
    }
}

impl ImageWriter for FixedWriter<'_> {
    fn unit(&self) -> u64 {
        ALIGNMENT
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.target.write_at(range.start, bytes)
    }

    fn zero(&mut self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.target.write_at(self.size, &self.footer)?;
        self.target.set_size(FileOffset(self.size).plus(SECTOR)?.0)
    }
}
