//! What the extents of one image share: a budget, warnings and caches.
//!
//! A descriptor may name 65,536 extents. What each of them could hold in memory for itself would
//! add up to gigabytes.

use crate::{Error, ErrorKind, Result, cache::Cache, limits};
use std::sync::Arc;

/// Grain tables kept for an image; each covers 32 MiB with the usual grains. At most 16 KiB each.
/// A prime, as the others are, so that tables of one number of several extents do not meet.
const TABLES_KEPT: usize = 67;
/// Tables of seSparse extents kept, 32 KiB each.
const WIDE_TABLES_KEPT: usize = 31;
/// Inflated grains kept for an image, for readers that ask for less than a grain.
const GRAINS_KEPT: usize = 7;

/// What opening an image adds up over its extents.
pub(super) struct Opening {
    /// What users should know.
    pub(super) warnings: Vec<String>,
    /// Bytes of grain directories that may still be read.
    directories: u64,
    /// Grain tables by [`key`].
    pub(super) tables: Arc<Cache<Vec<u32>>>,
    /// Those of seSparse extents.
    pub(super) wide_tables: Arc<Cache<Vec<u64>>>,
    /// Inflated grains by [`key`].
    pub(super) grains: Arc<Cache<Vec<u8>>>,
}

impl Opening {
    pub(super) fn new() -> Self {
        Self {
            warnings: Vec::new(),
            directories: limits::GRAIN_DIRECTORY,
            tables: Arc::new(Cache::new(TABLES_KEPT)),
            wide_tables: Arc::new(Cache::new(WIDE_TABLES_KEPT)),
            grains: Arc::new(Cache::new(GRAINS_KEPT)),
        }
    }

    /// Counts `bytes` of a grain directory against what an image may have.
    pub(super) fn spend(&mut self, part: &'static str, bytes: u64) -> Result<()> {
        self.directories = self.directories.checked_sub(bytes).ok_or_else(|| {
            let detail = format!(
                "of {bytes} bytes makes more than {} for the image",
                limits::GRAIN_DIRECTORY
            );
            Error::new(ErrorKind::Limit, part, detail)
        })?;
        Ok(())
    }
}

/// The key of table or grain `number` of the extent in file number `file` of the image.
///
/// Files are numbered below 2^17 ([`limits::EXTENTS`]), and numbers are below 2^44
/// ([`limits::DISK_SIZE`] in sectors), so no two are alike.
pub(super) fn key(file: usize, number: u64) -> u64 {
    (file as u64).rotate_left(46) ^ number
}
