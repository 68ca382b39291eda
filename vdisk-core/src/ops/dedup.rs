//! How much of a set of disks is there more than once.
//!
//! Blocks are cut from what the guest sees, at multiples of the block size from the start of the
//! disk, so the container formats do not hide duplicates.

use super::{CHUNK, pieces, read_range};
use crate::{Disk, Error, ErrorKind, Job, Result, is_zero};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

/// Counts over the blocks of one disk or of many, in bytes of the virtual disks.
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
    /// In blocks that repeat an earlier one.
    pub duplicate: u64,
}

/// The distinct blocks seen so far, and the counts over all disks scanned.
///
/// Keeps about 48 bytes of memory for each distinct block of all disks, and as much again for those
/// of the disk being added.
///
/// ```
/// # use vdisk_core::{Job, ops::dedup::Scan, testing};
/// let disk = testing::disk(&[(8192, Some(1)), (12288, Some(2)), (16384, None)]);
/// let mut scan = Scan::new(4096)?;
/// let one = scan.add(&disk, &Job::default())?;
/// assert_eq!((one.data, one.unique, one.duplicate, one.zero), (12288, 8192, 4096, 4096));
/// scan.add(&disk, &Job::default())?; // the same again
/// assert_eq!((scan.total().unique, scan.total().duplicate), (8192, 16384));
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub struct Scan {
    block: u64,
    seen: HashSet<[u8; 32]>,
    total: Counts,
}

/// Largest block size accepted, in bytes.
pub const LARGEST_BLOCK: u64 = 16 << 20;

impl Scan {
    /// Starts a scan with blocks of `block` bytes: a multiple of 512, up to [`LARGEST_BLOCK`].
    pub fn new(block: u64) -> Result<Self> {
        if block == 0 || !block.is_multiple_of(512) || block > LARGEST_BLOCK {
            let detail =
                format!("{block} is not a multiple of 512 between 512 and {LARGEST_BLOCK}");
            return Err(Error::new(ErrorKind::Usage, "block size", detail));
        }
        Ok(Self {
            block,
            seen: HashSet::new(),
            total: Counts::default(),
        })
    }

    /// Counts over all disks added, each distinct block once.
    pub fn total(&self) -> Counts {
        self.total
    }

    /// Adds `disk`. Returns the counts of this disk alone.
    ///
    /// After an error, the totals are as they were before.
    pub fn add(&mut self, disk: &dyn Disk, job: &Job<'_>) -> Result<Counts> {
        let block = self.block;
        let mut own: HashMap<[u8; 32], u64> = HashMap::new();
        let mut one = Counts {
            total: disk.size(),
            ..Counts::default()
        };
        job.watch.phase("scan", disk.size());
        job.in_order(
            pieces(disk, block, (CHUNK / block).max(1) * block),
            |piece| {
                let prints = if piece.data {
                    fingerprints(&read_range(disk, &piece.range)?, block)
                } else {
                    Vec::new()
                };
                Ok((piece, prints))
            },
            |(piece, prints)| {
                let len = piece.range.end - piece.range.start;
                let mut data = 0;
                for (print, len) in prints {
                    data += len;
                    own.insert(print, len);
                }
                one.data += data;
                one.zero += len - data;
                job.advance(len)
            },
        )?;
        one.unique = own.values().sum();
        one.duplicate = one.data - one.unique;
        for (print, len) in own {
            if self.seen.insert(print) {
                self.total.unique += len;
            }
        }
        self.total.total += one.total;
        self.total.zero += one.zero;
        self.total.data += one.data;
        self.total.duplicate = self.total.data - self.total.unique;
        Ok(one)
    }
}

/// Fingerprint and length of each block of `bytes` that is not all zero.
fn fingerprints(bytes: &[u8], block: u64) -> Vec<([u8; 32], u64)> {
    bytes
        .chunks(usize::try_from(block).unwrap_or(usize::MAX))
        .filter(|b| !is_zero(b))
        .map(|b| (Sha256::digest(b).into(), b.len() as u64))
        .collect()
}
