//! The classic partition table in the first sector of a disk, as far as a disk that gets smaller
//! needs it.
//!
//! Guests write it, and boot sectors without a table end with the same two bytes, so that only what
//! can be a table is taken for one. Positions are those of the UEFI specification 2.10, chapter 5.2.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::{Disk, Result, ops::resize::Partition};

/// Where the four entries are, of 16 bytes each.
const TABLE: std::ops::Range<usize> = 446..510;
/// The kind of the partition that stands for a GUID partition table.
const PROTECTIVE: u8 = 0xee;

/// The partitions of `disk`. One that contains others ends where the last of them may.
pub(super) fn partitions(disk: &dyn Disk) -> Result<Vec<Partition>> {
    let mut sector = [0; 512];
    if disk.size() < 512 {
        return Ok(Vec::new());
    }
    disk.read_at(0, &mut sector)?;
    let entries = sector.get(TABLE).unwrap_or_default();
    let (entries, _) = entries.as_chunks::<16>();
    let sound = |entry: &[u8; 16]| matches!(entry, [0 | 0x80, ..]);
    if !sector.ends_with(&[0x55, 0xaa]) || !entries.iter().all(sound) {
        return Ok(Vec::new());
    }
    let sector_size = u64::from(disk.sector_size());
    let found = (1..).zip(entries).filter_map(|(number, entry)| {
        let [_, _, _, _, kind, _, _, _, a, b, c, d, e, f, g, h] = *entry;
        let start = u64::from(u32::from_le_bytes([a, b, c, d]));
        let count = u64::from(u32::from_le_bytes([e, f, g, h]));
        let partition = Partition {
            number,
            start: start.saturating_mul(sector_size),
            end: start.saturating_add(count).saturating_mul(sector_size),
        };
        let there = ![0, PROTECTIVE].contains(&kind) && start > 0 && count > 0;
        // One that starts past the end of the disk loses nothing.
        (there && partition.start < disk.size()).then_some(partition)
    });
    Ok(found.collect())
}
