//! What is to be counted, and with what.

use crate::{Error, ErrorKind, Result};
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

/// Most [`Options::sample_bits`].
const SAMPLE_BITS: u32 = 16;

impl Options {
    /// Fails with [`Usage`](ErrorKind::Usage) if they do not suit `nodes` nodes. Block sizes are checked
    /// where they are used.
    pub(super) fn check(&self, nodes: usize) -> Result<()> {
        let usage = |part: &'static str, detail: String| Error::new(ErrorKind::Usage, part, detail);
        if self.sample_bits > SAMPLE_BITS {
            let detail = format!("is one in 2^{}; at most 2^{SAMPLE_BITS}", self.sample_bits);
            return Err(usage("sample", detail));
        }
        if !self.groups.is_empty() && self.groups.len() != nodes {
            let detail = format!("are given for {} segments of {nodes}", self.groups.len());
            return Err(usage("groups", detail));
        }
        if self.groups.iter().any(|&group| group as usize >= nodes) {
            return Err(usage(
                "groups",
                "have numbers beyond their count".to_owned(),
            ));
        }
        Ok(())
    }

    /// The same if `frames` bytes, which the groups of a path take, leave room for all else.
    pub(super) fn check_memory(&self, frames: u64) -> Result<()> {
        let least = LEAST_MEMORY.max(frames * 4);
        if self.memory >= least {
            return Ok(());
        }
        let detail = format!("is {} bytes; this takes at least {least}", self.memory);
        Err(Error::new(ErrorKind::Usage, "memory", detail))
    }
}
