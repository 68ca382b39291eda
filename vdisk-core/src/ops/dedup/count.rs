//! Takes blocks of segments, and says what is there how often.

use super::{Block, Fingerprint, Node, Outcome};
use crate::{Job, Result};
use std::path::PathBuf;

/// What is counted, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the blocks that come in, in bytes: see [`unit_of`](super::unit_of).
    pub unit: u64,
    /// The main block size: a multiple of the unit, up to [`LARGEST_BLOCK`](super::LARGEST_BLOCK).
    pub block: u64,
    /// Other block sizes to count with, multiples of the unit, at most 16. All sizes together must nest:
    /// their least common multiple is at most [`LARGEST_BLOCK`](super::LARGEST_BLOCK).
    pub sizes: Vec<u64>,
    /// Bytes of memory for records and tables, at least [`LEAST_MEMORY`].
    pub memory: u64,
    /// Where temporary files go.
    pub temp: PathBuf,
    /// Count only one in 2 to the power of this many blocks: 0 to 16.
    pub sample_bits: u32,
    /// By node: the group of its image, from 0. Empty: no groups.
    pub groups: Vec<u32>,
    /// Find what images share at the same positions.
    pub places: bool,
}

/// Least [`Options::memory`], in bytes.
pub const LEAST_MEMORY: u64 = 8 << 20;

/// Counts the blocks of a set of images.
pub struct Count {
    _options: Options,
}

impl Count {
    /// A count over `nodes`. Fails with [`Usage`](crate::ErrorKind::Usage) if the options contradict themselves, or
    /// nodes do not form trees.
    pub fn new(nodes: &[Node], options: Options) -> Result<Self> {
        let _ = nodes;
        Ok(Self { _options: options })
    }

    /// Adds blocks of `node`: those of one node ascending, and all of one node before the next one's.
    ///
    /// Fails if a block lies outside the disk, or is not what [`Block`] promises: they may come from a
    /// file.
    pub fn add(&mut self, node: usize, blocks: &[Block], job: &Job<'_>) -> Result<()> {
        let _ = (node, blocks, job);
        todo!("count")
    }

    /// Adds chunks of the image of `node`.
    pub fn add_chunks(
        &mut self,
        node: usize,
        chunks: &[(Fingerprint, u32)],
        job: &Job<'_>,
    ) -> Result<()> {
        let _ = (node, chunks, job);
        todo!("count")
    }

    /// Leaves out the images of `node` and of all nodes over it, whatever was added already.
    pub fn fail(&mut self, node: usize) {
        let _ = node;
        todo!("count")
    }

    /// Counts.
    pub fn finish(self, job: &Job<'_>) -> Result<Outcome> {
        let _ = job;
        todo!("count")
    }
}
