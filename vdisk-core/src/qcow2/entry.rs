//! The entries of L2 tables: what their bits say of a cluster or subcluster.

use super::{
    disk_structs::{EXTENDED_L2, EXTERNAL_DATA},
    tables::Tables,
};
use crate::units::SECTOR;

/// Bits of an entry that are a file offset.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The cluster is used once; with an external data file: it has a place.
pub(super) const COPIED: u64 = 1 << 63;
pub(super) const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zero, since version 3.
pub(super) const ZERO: u64 = 1;
/// Subclusters of a cluster with extended entries.
pub(super) const SUBCLUSTERS: u64 = 32;

/// What an entry of an L2 table says of a cluster, or of one of its subclusters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Not recorded.
    Hole,
    Zero,
    /// Kept as it is.
    At(u64),
    /// All of the cluster is kept compressed, in at most `len` bytes.
    Packed {
        at: u64,
        len: u64,
    },
}

/// An entry of an L2 table; `subclusters` is 0 unless entries are extended.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) descriptor: u64,
    pub(super) subclusters: u64,
}

impl Tables {
    /// True if an entry that is not compressed points anywhere. In an external data file, that may
    /// be to its start.
    pub(super) fn has_place(&self, descriptor: u64) -> bool {
        let external = self.header.has(EXTERNAL_DATA);
        descriptor & OFFSET != 0 || (external && descriptor & COPIED != 0)
    }

    /// What `entry` says of its subcluster `sub`.
    pub(super) fn parse(&self, entry: &Entry, sub: u64) -> std::result::Result<Unit, &'static str> {
        let descriptor = entry.descriptor;
        let extended = self.header.has(EXTENDED_L2);
        let external = self.header.has(EXTERNAL_DATA);
        if descriptor & COMPRESSED != 0 {
            if external {
                return Err("is compressed, but the clusters are in a file of their own");
            }
            return self.parse_packed(descriptor);
        }
        if !extended && descriptor & ZERO != 0 {
            if self.header.version < 3 {
                return Err("marks zeros, which version 2 does not know");
            }
            return Ok(Unit::Zero);
        }
        let at = descriptor & OFFSET;
        let has_place = self.has_place(descriptor);
        if !at.is_multiple_of(self.cluster.get()) {
            return Err("points inside a cluster");
        }
        if has_place && !external && self.overlaps_l1(at) {
            return Err("points into the L1 table");
        }
        let bit = |number: u64| {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            entry.subclusters.checked_shr(number).unwrap_or(0) & 1 == 1
        };
        match (extended, bit(sub), bit(sub.saturating_add(SUBCLUSTERS))) {
            (false, ..) if has_place => Ok(Unit::At(at)),
            (false, ..) => Ok(Unit::Hole),
            (true, true, true) => Err("marks a subcluster both as stored and as zeros"),
            (true, true, false) if !has_place => Err("marks a subcluster as stored, but nowhere"),
            (true, true, false) => {
                let inside = sub.saturating_mul(self.unit.get());
                Ok(Unit::At(at.saturating_add(inside)))
            }
            (true, false, true) => Ok(Unit::Zero),
            (true, false, false) => Ok(Unit::Hole),
        }
    }

    /// Offset and length share the bits of the entry of a compressed cluster: the larger the
    /// clusters, the more bits the length has.
    pub(super) fn parse_packed(&self, descriptor: u64) -> std::result::Result<Unit, &'static str> {
        let length_bits = self.header.cluster_bits.saturating_sub(8);
        let offset_bits = 62u32.saturating_sub(length_bits);
        let low = |bits: u32| 1u64.checked_shl(bits).unwrap_or(0).saturating_sub(1);
        let at = descriptor & low(offset_bits);
        let further = descriptor.checked_shr(offset_bits).unwrap_or(0) & low(length_bits);
        if at < self.cluster.get() {
            return Err("points into the header");
        }
        if at >= self.file.size {
            return Err("points past the end of the file");
        }
        let len = further
            .saturating_add(1)
            .saturating_mul(SECTOR)
            .saturating_sub(at % SECTOR);
        Ok(Unit::Packed {
            at,
            // The file may end inside the last sector.
            len: len.min(self.file.size.saturating_sub(at)),
        })
    }
}
