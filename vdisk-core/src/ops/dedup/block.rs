//! What a scan finds: one block with data, or a run of zeros.

use super::Fingerprint;

/// A piece of a segment: one block that is not all zero, or any number of zero bytes.
///
/// Starts at a multiple of the unit. A block of data is one unit long, or shorter at the end of the
/// disk. A run of zeros ends at a multiple of the unit or at the end of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Position on the virtual disk, in bytes.
    pub pos: u64,
    /// Length in bytes. Not zero.
    pub len: u64,
    /// What is there.
    pub content: Content,
}

/// What a [`Block`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeros, which hide whatever a parent holds there.
    Zero,
    /// Anything else.
    Data {
        /// Of the bytes.
        print: Fingerprint,
        /// For some blocks, chosen by their fingerprints: how many bytes they have after deflate,
        /// at most their length.
        deflated: Option<u32>,
    },
}
