//! A disk seen at another size.

use crate::{
    Disk, Extent, Kind, Result,
    disk::{check_range, part_len},
};

/// `disk` cut to `size` bytes, or followed by zeros up to it.
///
/// ```
/// use vdisk_core::{Disk, ops::Resized, testing};
/// let disk = testing::disk(&[(4096, Some(7))]);
/// let longer = Resized::new(&disk, 8192);
/// let mut tail = [1; 4];
/// longer.read_at(4094, &mut tail)?;
/// assert_eq!(tail, [7, 7, 0, 0]);
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub struct Resized<'a> {
    disk: &'a dyn Disk,
    size: u64,
}

impl<'a> Resized<'a> {
    /// `disk` as one of `size` bytes.
    pub fn new(disk: &'a dyn Disk, size: u64) -> Self {
        Self { disk, size }
    }
}

impl Disk for Resized<'_> {
    fn size(&self) -> u64 {
        self.size
    }
    fn sector_size(&self) -> u32 {
        self.disk.sector_size()
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        check_range(self, pos, 1)?;
        if pos >= self.disk.size() {
            return Ok(Extent::empty(pos..self.size, Kind::Zero));
        }
        let mut extent = self.disk.extent_at(pos)?;
        extent.range.end = extent.range.end.min(self.size);
        Ok(extent)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, pos, buf.len())?;
        let inside = part_len(buf.len(), pos, self.disk.size());
        let (stored, rest) = buf.split_at_mut(inside);
        rest.fill(0);
        if stored.is_empty() {
            return Ok(());
        }
        self.disk.read_at(pos, stored)
    }
}
