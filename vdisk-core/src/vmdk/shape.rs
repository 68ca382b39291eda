//! What a header says of the tables and grains behind it, whoever wrote it.
//!
//! Hosted and vmfsSparse headers share no field, but lead to tables of one kind.

use super::cowd_header::{COWD_GTES_PER_GT, COWD_HEADER, CowdHeader};
use super::disk_structs::{FLAG_COMPRESSED, FLAG_MARKERS, FLAG_REDUNDANT, SparseHeader};
use crate::units::SECTOR;

/// The tables and grains of a sparse extent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Sectors.
    pub(super) capacity: u64,
    /// Sectors; a power of two.
    pub(super) grain_size: u64,
    /// Entries of a grain table.
    pub(super) table_len: u64,
    /// Sector of the grain directory.
    pub(super) directory: u64,
    /// Sector of its copy, if there is one.
    pub(super) redundant: Option<u64>,
    /// First sector after the header and the descriptor.
    pub(super) first_free: u64,
    /// An entry of 1 stands for zeros.
    pub(super) zero_entries: bool,
    pub(super) compressed: bool,
    /// Each compressed grain begins with its place on the disk.
    pub(super) markers: bool,
    /// The writer did not say that it had finished.
    pub(super) unclean: bool,
}

impl Shape {
    /// Grain tables of the extent.
    pub(super) fn tables(&self) -> u64 {
        let grains = self.capacity.div_ceil(self.grain_size.max(1));
        grains.div_ceil(self.table_len.max(1))
    }

    /// True for an entry that leads nowhere: 0, and 1 where that stands for zeros.
    pub(super) fn stands_alone(&self, entry: u32) -> bool {
        entry == 0 || (entry == 1 && self.zero_entries)
    }
}

impl From<&SparseHeader> for Shape {
    fn from(header: &SparseHeader) -> Self {
        let compressed = header.has(FLAG_COMPRESSED);
        let redundant = header.has(FLAG_REDUNDANT) && !compressed && header.rgd_offset != 0;
        Self {
            capacity: header.capacity,
            grain_size: header.grain_size,
            table_len: header.gtes_per_gt.into(),
            directory: header.gd_offset,
            redundant: redundant.then_some(header.rgd_offset),
            first_free: match header.descriptor_offset {
                0 => 1,
                offset => offset.saturating_add(header.descriptor_size).max(1),
            },
            // Also where the header forgets to say that there are some.
            zero_entries: true,
            compressed,
            markers: header.has(FLAG_MARKERS),
            unclean: header.unclean_shutdown != 0,
        }
    }
}

impl From<&CowdHeader> for Shape {
    fn from(header: &CowdHeader) -> Self {
        Self {
            capacity: header.capacity.into(),
            grain_size: header.grain_size.into(),
            table_len: COWD_GTES_PER_GT.into(),
            directory: header.gd_offset.into(),
            redundant: None,
            first_free: COWD_HEADER / SECTOR,
            zero_entries: false,
            compressed: false,
            markers: false,
            unclean: header.unclean_shutdown != 0,
        }
    }
}
