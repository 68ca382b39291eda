//! Reading what a segment records, once, and making fingerprints of it.

use super::Block;
use crate::{Disk, Job, Result};

/// Reads the blocks of `unit` bytes that `recorded` does not leave to its parent, and hands them to
/// `sink` in ascending order, in pieces, each not empty.
///
/// `recorded` says what the segment records: [`Kind::Absent`](crate::Kind::Absent) is left out; a block of which it
/// records any part is read. `disk` is the whole chain from the segment's top down, and is read;
/// for a segment without a parent both are the same, and the blocks tile the disk. Zero and
/// absent ranges are not read.
///
/// One in 2 to the power of `deflate_bits` blocks of data, by fingerprint, is deflated too.
pub fn scan(
    recorded: &dyn Disk,
    disk: &dyn Disk,
    unit: u64,
    deflate_bits: u32,
    job: &Job<'_>,
    sink: &mut dyn FnMut(&[Block]) -> Result<()>,
) -> Result<()> {
    let _ = (recorded, disk, unit, deflate_bits, job, sink);
    todo!("scan")
}
