//! What a count says. All figures are bytes of the virtual disks unless their name says otherwise.

use super::Pairs;

/// Counts over the blocks of a set of disks.
///
/// `total = zero + data` and `data = unique + duplicate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Virtual size.
    pub total: u64,
    /// In blocks that are all zero, absent ones included.
    pub zero: u64,
    /// In blocks that are not all zero.
    pub data: u64,
    /// In distinct blocks: each counted once.
    pub unique: u64,
    /// In blocks that repeat another one: `data - unique`.
    pub duplicate: u64,
    /// In blocks that occur exactly once in the whole set.
    pub once: u64,
}

/// Counts of one image among the others.
///
/// `data = distinct + internal_duplicate` and `distinct = exclusive + shared`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageCounts {
    /// Virtual size.
    pub total: u64,
    /// In blocks that are all zero, absent ones included.
    pub zero: u64,
    /// In blocks that are not all zero.
    pub data: u64,
    /// In its distinct blocks: each counted once.
    pub distinct: u64,
    /// In blocks that repeat another one of the same image.
    pub internal_duplicate: u64,
    /// In distinct blocks that no other image has: what deleting it would free of a deduplicated set.
    pub exclusive: u64,
    /// In distinct blocks that another image has too.
    pub shared: u64,
}

/// Counts over the whole set with another block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeCounts {
    /// The block size in bytes.
    pub block: u64,
    /// What it would find.
    pub counts: Counts,
    /// How many distinct blocks.
    pub blocks: u64,
}

/// Counts over chunks whose ends follow from the contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkCounts {
    /// Chunks, each as often as it occurs.
    pub chunks: u64,
    /// In chunks.
    pub data: u64,
    /// In distinct chunks.
    pub unique: u64,
}

/// Distinct blocks that occur `from` times or more, but less often than twice that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refs {
    /// A power of two.
    pub from: u64,
    /// How many distinct blocks.
    pub blocks: u64,
    /// In them, each counted once.
    pub unique: u64,
    /// In them, each as often as it occurs.
    pub data: u64,
}

/// What deflate made of a sample of the distinct units, one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compression {
    /// Units in the sample.
    pub units: u64,
    /// In the sample.
    pub bytes: u64,
    /// In the sample after deflate.
    pub deflated: u64,
    /// `deflated / bytes`.
    pub ratio: f64,
    /// Half of the 95 % confidence interval of `ratio`.
    pub error: f64,
}

/// How much of the blocks was counted, and how far off the figures may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// One in 2 to the power of this was counted, chosen by fingerprint; 0: all, exactly.
    pub bits: u32,
    /// Half of the 95 % confidence interval of the total's `unique`, in bytes.
    pub unique_error: u64,
}

/// All that a count found. If it was sampled, `total`, `zero` and `data` are exact, and all else
/// is scaled.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Over all images that did not fail.
    pub total: Counts,
    /// Of each node that is an image and did not fail, in the order of the nodes.
    pub images: Vec<Option<ImageCounts>>,
    /// Of each group on its own, by its number.
    pub groups: Vec<Counts>,
    /// With the other block sizes asked for, ascending, the main one among them.
    pub sizes: Vec<SizeCounts>,
    /// With chunks, if any were added.
    pub chunks: Option<ChunkCounts>,
    /// How often distinct blocks occur, ascending; powers of two that no block has are left out.
    pub refs: Vec<Refs>,
    /// Bytes of distinct blocks that two images share; none if that would take too much memory.
    pub pairs: Option<Pairs>,
    /// Bytes of 64 KiB blocks that two images share at the same position, zeros not counted: what
    /// a child need not record. None if that would take too much memory, or was not asked for, or
    /// the unit does not allow it.
    pub places: Option<Pairs>,
    /// None if no unit was sampled.
    pub compression: Option<Compression>,
    /// How exact all this is.
    pub sampled: Sampled,
    /// Bytes that were written to temporary files.
    pub spilled: u64,
}
