//! Where the partitions of a disk are, whichever table says so.

use super::{gpt::Gpt, mbr, resize::Partition};
use crate::{Disk, Result};

/// The partitions of `disk` in the order of their numbers: those of its GUID partition table if that
/// is intact, otherwise of the one in its first sector. None if it has neither.
///
/// ```
/// use vdisk_core::{ops::partitions, testing};
/// let disk = testing::disk(&[(1 << 20, Some(7))]);
/// assert!(partitions(&disk)?.is_empty());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn partitions(disk: &dyn Disk) -> Result<Vec<Partition>> {
    listed(disk, Gpt::find(disk)?.as_ref())
}

/// The same for a disk whose GUID partition table was looked for already.
pub(super) fn listed(disk: &dyn Disk, gpt: Option<&Gpt>) -> Result<Vec<Partition>> {
    match gpt {
        Some(gpt) => Ok(gpt.partitions().collect()),
        None => mbr::partitions(disk),
    }
}
