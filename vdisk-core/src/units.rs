//! The units that are easy to mix up.
//!
//! A position on the *virtual disk* is a plain `u64` of bytes everywhere. [`Sectors`] is the only
//! place where 512 is multiplied; [`FileOffset`] is a position in an image *file*.

use crate::{Error, Result};

/// Bytes in a sector, as every format here counts them.
pub const SECTOR: u64 = 512;

/// A number of 512-byte sectors, as formats store sizes and offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sectors(pub u64);

impl Sectors {
    /// Converts to bytes; a corrupt count that overflows is an error.
    ///
    /// ```
    /// use vdisk_core::units::Sectors;
    /// assert_eq!(Sectors(3).bytes().unwrap(), 1536);
    /// assert!(Sectors(u64::MAX).bytes().is_err());
    /// ```
    pub fn bytes(self) -> Result<u64> {
        self.0
            .checked_mul(SECTOR)
            .ok_or_else(|| Error::corrupt("sector count", "does not fit in 64 bits of bytes"))
    }

    /// The sectors that hold `bytes`, the last one perhaps in part.
    pub fn holding(bytes: u64) -> Self {
        Self(bytes.div_ceil(SECTOR))
    }
}

/// A byte position in an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileOffset(pub u64);

impl FileOffset {
    /// Moves forward by `bytes`.
    ///
    /// ```
    /// use vdisk_core::units::FileOffset;
    /// assert_eq!(FileOffset(512).plus(24).unwrap(), FileOffset(536));
    /// assert!(FileOffset(u64::MAX).plus(1).is_err());
    /// ```
    pub fn plus(self, bytes: u64) -> Result<Self> {
        self.0
            .checked_add(bytes)
            .map(Self)
            .ok_or_else(|| Error::corrupt("file offset", "does not fit in 64 bits"))
    }
}

/// `len` as a buffer length. Only for lengths that a limit or a chunk size already bounds.
pub(crate) fn buffer_len(len: u64) -> Result<usize> {
    usize::try_from(len).map_err(|_| Error::corrupt("length", "does not fit in memory"))
}

/// `value` rounded up to a multiple of `unit`, which is not zero.
pub(crate) fn round_up(value: u64, unit: u64) -> u64 {
    value.next_multiple_of(unit)
}

/// `value` rounded down to a multiple of `unit`, which is not zero.
pub(crate) fn round_down(value: u64, unit: u64) -> u64 {
    value - value % unit
}
