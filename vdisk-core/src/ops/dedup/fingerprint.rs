//! The name of a block's contents.

use sha2::{Digest, Sha256};

/// The first 128 bits of a SHA-256.
///
/// Among 10^12 distinct blocks the chance that any two have the same is below 10^-14.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Of the bytes of a block.
    ///
    /// ```
    /// use vdisk_core::ops::dedup::Fingerprint;
    /// let abc = Fingerprint::of(b"abc"); // FIPS 180-2, appendix B.1
    /// assert_eq!(abc.bytes()[..4], [0xba, 0x78, 0x16, 0xbf]);
    /// assert_eq!(Fingerprint::from_bytes(abc.bytes()), abc);
    /// ```
    pub fn of(bytes: &[u8]) -> Self {
        Self::cut(Sha256::digest(bytes).into())
    }

    /// Of a block of `len` bytes made of units with the fingerprints `units`; `None` for a unit of
    /// zeros, and the answer if there are no others.
    ///
    /// Two blocks get the same one only if they have the same contents. It is not what [`of`](Self::of)
    /// says of the whole block's bytes.
    ///
    /// ```
    /// use vdisk_core::ops::dedup::Fingerprint;
    /// let unit = Fingerprint::of(b"abc");
    /// let one = Fingerprint::joined(&[Some(unit), None], 8192);
    /// assert!(one.is_some());
    /// assert_ne!(one, Fingerprint::joined(&[None, Some(unit)], 8192));
    /// assert_eq!(Fingerprint::joined(&[None, None], 8192), None);
    /// ```
    pub fn joined(units: &[Option<Self>], len: u64) -> Option<Self> {
        if units.iter().all(Option::is_none) {
            return None;
        }
        let mut hasher = Sha256::new();
        for unit in units {
            hasher.update(unit.map_or([0; 16], |u| u.0));
        }
        hasher.update(len.to_le_bytes());
        Some(Self::cut(hasher.finalize().into()))
    }

    /// Of contents with the fingerprint `self` at position `pos` of a disk.
    pub(super) fn placed(self, pos: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(pos.to_le_bytes());
        Self::cut(hasher.finalize().into())
    }

    /// The fingerprint that [`bytes`](Self::bytes) gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to keep it.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// True for one in 2 to the power of `bits` contents: its first bits are zero. 0 to 32.
    pub(super) fn starts_with_zeros(self, bits: u32) -> bool {
        u128::from_be_bytes(self.0).leading_zeros() >= bits
    }

    /// The same, independent of it: its last bits are zero.
    pub(super) fn ends_with_zeros(self, bits: u32) -> bool {
        u128::from_be_bytes(self.0).trailing_zeros() >= bits
    }

    fn cut(digest: [u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(digest.split_at(16).0);
        Self(bytes)
    }
}
