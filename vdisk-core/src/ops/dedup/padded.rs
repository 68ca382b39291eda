//! A disk behind some zeros, so that blocks are cut at other places of it.

use crate::{
    Disk, Extent, Kind, Result,
    disk::{check_range, part_len},
};

/// `disk` with zeros before it.
///
/// ```
/// use vdisk_core::{Disk, ops::dedup::Padded, testing};
/// let disk = testing::disk(&[(4096, Some(7))]);
/// let padded = Padded::new(&disk, 512);
/// assert_eq!(testing::contents(&padded)?[510..514], [0, 0, 7, 7]);
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub struct Padded<'a> {
    disk: &'a dyn Disk,
    pad: u64,
}

impl<'a> Padded<'a> {
    /// `pad` zero bytes, a multiple of 512, and then `disk`, whose size leaves room for that in a `u64`.
    pub fn new(disk: &'a dyn Disk, pad: u64) -> Self {
        Self { disk, pad }
    }
}

impl Disk for Padded<'_> {
    fn size(&self) -> u64 {
        self.disk.size() + self.pad
    }

    /// That of the disk, or 512 if it would not be whole sectors otherwise.
    fn sector_size(&self) -> u32 {
        let sector = self.disk.sector_size();
        if self.pad.is_multiple_of(u64::from(sector)) {
            sector
        } else {
            512
        }
    }

    fn extent_at(&self, pos: u64) -> Result<Extent> {
        check_range(self, pos, 1)?;
        if pos < self.pad {
            return Ok(Extent::empty(pos..self.pad, Kind::Zero));
        }
        let mut extent = self.disk.extent_at(pos - self.pad)?;
        extent.range.start += self.pad;
        extent.range.end += self.pad;
        Ok(extent)
    }

    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, pos, buf.len())?;
        let (zeros, rest) = buf.split_at_mut(part_len(buf.len(), pos, self.pad.max(pos)));
        zeros.fill(0);
        if rest.is_empty() {
            return Ok(());
        }
        self.disk.read_at(pos.max(self.pad) - self.pad, rest)
    }
}
