//! From sorted records to counts.

use super::{Outcome, Pairs, sorter::Record};
use crate::Result;
use std::ops::Range;

/// What a record is about, beside the main block size: each is counted on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Blocks of size number n of the sizes asked for, ascending; the main size is one of them.
    Size(u8),
    /// 64 KiB at a position.
    Place,
    /// Chunks.
    Chunk,
}

/// So many more (or fewer) of one block in each image of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    /// The fingerprint as a number.
    pub(super) print: u128,
    /// Class and length of the block in bytes, see [`Print::kind`].
    pub(super) kind: u32,
    /// Number of the span.
    pub(super) span: u32,
    pub(super) count: i32,
}

impl Print {
    /// Class and length (up to 16 MiB) in one number.
    pub(super) fn kind(class: Class, len: u64) -> u32 {
        let _ = (class, len);
        todo!("tally")
    }
}

impl Record for Print {
    const LEN: usize = 28;
    type Key = (u128, u32, u32);
    fn key(&self) -> Self::Key {
        (self.print, self.kind, self.span)
    }
    fn combine(&mut self, next: &Self) {
        self.count += next.count;
    }
    fn is_void(&self) -> bool {
        self.count == 0
    }
    fn write(&self, bytes: &mut [u8]) {
        let _ = bytes;
        todo!("tally")
    }
    fn read(bytes: &[u8]) -> Self {
        let _ = bytes;
        todo!("tally")
    }
}

/// What the tally must know of the images; numbers are those of the forest.
pub(super) struct Plan {
    /// Image numbers of each span.
    pub(super) spans: Vec<Range<u32>>,
    /// By image number: false if it failed.
    pub(super) alive: Vec<bool>,
    /// By image number: its group.
    pub(super) groups: Vec<u32>,
    /// Number of the main size among the sizes.
    pub(super) main: u8,
    /// Block sizes, ascending.
    pub(super) sizes: Vec<u64>,
    pub(super) sample_bits: u32,
    /// Bytes for the tables of pairs and sets.
    pub(super) memory: u64,
    /// Count [`Class::Place`] for pairs.
    pub(super) places: bool,
}

/// Takes records ascending by key and counts.
pub(super) struct Tally {
    _plan: Plan,
}

/// What it found, by image number; scaled by the sample already. The counts that follow from single records
/// (total, zero, data) are zero still.
pub(super) struct Found {
    /// By image number: distinct and exclusive bytes.
    pub(super) images: Vec<(u64, u64)>,
    /// The rest.
    pub(super) outcome: Outcome,
    pub(super) pairs: Option<Pairs>,
}

impl Tally {
    pub(super) fn new(plan: Plan) -> Self {
        Self { _plan: plan }
    }
    pub(super) fn add(&mut self, record: Print) -> Result<()> {
        let _ = record;
        todo!("tally")
    }
    pub(super) fn finish(self) -> Result<Found> {
        todo!("tally")
    }
}
