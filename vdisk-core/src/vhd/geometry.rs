//! Cylinders, heads and sectors: by the specification, and as some programs take them for the size.
//!
//! Programs disagree whether the size field or the geometry says how large a disk is, so the
//! difference must be known.

use super::disk_structs::{Footer, Geometry};
use crate::units::{SECTOR, Sectors};

/// The geometry that the specification's appendix computes for a disk of `size` bytes.
///
/// Virtual PC and old versions of qemu take the product of its numbers for the disk's size.
pub(crate) fn geometry(size: u64) -> Geometry {
    const MOST: u32 = 65_535 * 16 * 255;
    let total = u32::try_from(Sectors::holding(size).0).map_or(MOST, |n| n.min(MOST));
    let (mut sectors, mut heads, mut tracks);
    if total >= 65_535 * 16 * 63 {
        (sectors, heads, tracks) = (255, 16, total / 255);
    } else {
        tracks = total / 17;
        (sectors, heads) = (17, tracks.div_ceil(1024).max(4));
        if heads > 16 || tracks >= heads.saturating_mul(1024) {
            (sectors, heads, tracks) = (31, 16, total / 31);
        }
        if tracks >= heads.saturating_mul(1024) {
            (sectors, heads, tracks) = (63, 16, total / 63);
        }
    }
    Geometry {
        cylinders: tracks
            .checked_div(heads)
            .and_then(|c| u16::try_from(c).ok())
            .unwrap_or(u16::MAX),
        heads: u8::try_from(heads).unwrap_or(16),
        sectors,
    }
}

impl Geometry {
    /// The bytes that cylinders, heads and sectors multiply to.
    pub(crate) fn bytes(self) -> u64 {
        [u64::from(self.heads), u64::from(self.sectors), SECTOR]
            .into_iter()
            .fold(u64::from(self.cylinders), u64::saturating_mul)
    }
}

/// The largest geometry; it stands for all larger disks, so nobody takes it for their size.
const MOST_BYTES: u64 = 65_535 * 16 * 255 * SECTOR;

impl Footer {
    /// The size that programs see which go by the geometry, if it is not the size of the disk.
    pub(crate) fn size_by_geometry(&self) -> Option<u64> {
        let size = self.geometry.bytes();
        (size != self.current_size && size != MOST_BYTES).then_some(size)
    }

    /// Virtual PC, and qemu from version 10 on, go by the geometry of images that they made.
    pub(crate) fn creator_goes_by_geometry(&self) -> bool {
        matches!(&self.creator_app, b"vpc " | b"qemu")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chs(size: u64) -> (u16, u8, u8) {
        let g = geometry(size);
        (g.cylinders, g.heads, g.sectors)
    }

    #[test]
    fn geometry_is_that_of_other_programs() {
        // Footers written by Windows 10 (4 MiB, 10 MiB, 512 MiB) and Virtual PC (127 GiB).
        assert_eq!(chs(4 << 20), (120, 4, 17));
        assert_eq!(chs(10 << 20), (301, 4, 17));
        assert_eq!(chs(512 << 20), (1040, 16, 63));
        assert_eq!(geometry(136_365_211_648).bytes(), 136_363_130_880);
        // What the specification's algorithm gives around its own limits.
        assert_eq!(chs(0), (0, 4, 17));
        assert_eq!(chs(65_535 * 16 * 63 * 512), (16_191, 16, 255));
        assert_eq!(chs(2040 << 30), (65_535, 16, 255));
        assert_eq!(chs(u64::MAX), (65_535, 16, 255));
    }

    #[test]
    fn geometry_never_promises_more_than_there_is() {
        for size in (0..1 << 40).step_by(7_654_321 * 512) {
            assert!(geometry(size).bytes() <= size, "{size}");
        }
    }
}
