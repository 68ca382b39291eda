//! The L1 and L2 tables: where each cluster, or subcluster, of the disk is kept.
//!
//! Both are read piece by piece when needed, so that a large disk costs no more memory than a
//! small one.

use super::{
    compressed::{Compression, WORK},
    disk_structs::{EXTENDED_L2, EXTERNAL_DATA, Header},
};
use crate::{
    Error, ErrorKind, Layout, Place, Result, Run,
    cache::Cache,
    limits,
    storage::ImageFile,
    units::{FileOffset, SECTOR, buffer_len, round_up},
};
use std::{num::NonZeroU64, sync::Arc};

/// Bytes of a table that are read at once.
pub(super) const PAGE: u64 = 4096;
/// Pages of the L1 table kept in memory: 64 KiB, for 4 TiB of disk with the usual clusters.
const L1_PAGES: usize = 16;
/// Pages of L2 tables kept in memory: 256 KiB, for 2 GiB of disk with the usual clusters.
const L2_PAGES: usize = 64;
/// Unpacked clusters kept in memory, for readers that ask for less than a cluster.
const CLUSTERS_KEPT: usize = 4;

/// Bits of an entry that are a file offset.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The cluster is used once; with an external data file: it has a place.
pub(super) const COPIED: u64 = 1 << 63;
pub(super) const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zero, since version 3.
pub(super) const ZERO: u64 = 1;
/// Subclusters of a cluster with extended entries.
const SUBCLUSTERS: u64 = 32;

pub(super) const L1: &str = "L1 table";

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
    subclusters: u64,
}

/// Some entries of an L2 table, which lie at `at` in the file.
pub(super) struct Page {
    pub(super) at: u64,
    /// The cluster of the first.
    pub(super) cluster: u64,
    pub(super) entries: Vec<Entry>,
}

/// The layout of a qcow2 image.
pub(super) struct Tables {
    pub(super) file: ImageFile,
    /// The file that keeps the clusters, and its number in the image.
    data: ImageFile,
    data_index: usize,
    pub(super) header: Header,
    pub(super) size: u64,
    /// Bytes of a cluster.
    pub(super) cluster: NonZeroU64,
    /// Bytes of the smallest piece that an entry tells about: a subcluster, or the cluster.
    pub(super) unit: NonZeroU64,
    /// Bytes of an entry of an L2 table.
    pub(super) entry_len: NonZeroU64,
    /// Entries of an L2 table.
    pub(super) table_len: NonZeroU64,
    compression: Compression,
    /// What a cluster reads as that is not recorded.
    hole: Place,
    l1: Cache<Vec<u64>>,
    l2: Cache<Page>,
    clusters: Cache<Vec<u8>>,
}

impl Tables {
    /// Checks the header's numbers against each other and the file. Reads nothing.
    ///
    /// `data` is the external data file, if the image has one.
    pub(super) fn new(
        file: ImageFile,
        data: Option<ImageFile>,
        header: Header,
        compression: Compression,
        hole: Place,
    ) -> Result<Self> {
        if header.size > limits::DISK_SIZE {
            let detail = format!("is {} bytes, more than any format holds", header.size);
            return Err(Error::new(ErrorKind::Limit, "virtual size", detail).at(24));
        }
        let extended = header.has(EXTENDED_L2);
        let cluster = nonzero(header.cluster())?;
        let entry_len = nonzero(if extended { 16 } else { 8 })?;
        let unit = if extended {
            nonzero(cluster.get() / SUBCLUSTERS)?
        } else {
            cluster
        };
        if unit.get() < SECTOR {
            let detail = format!("has subclusters of {unit} bytes, less than a sector");
            return Err(Error::corrupt("header", detail).at(20));
        }
        let table_len = nonzero(cluster.get() / entry_len)?;
        let entries = u64::from(header.l1_entries);
        let bytes = entries.saturating_mul(8);
        if bytes > limits::L1 {
            let detail = format!("has {bytes} bytes; at most {} are accepted", limits::L1);
            return Err(Error::new(ErrorKind::Limit, L1, detail).at(36));
        }
        let size = round_up(header.size, SECTOR);
        let needed = size.div_ceil(table_len.get().saturating_mul(cluster.get()));
        if entries < needed {
            let detail = format!(
                "has {entries} entries, but a disk of {} bytes needs {needed}",
                header.size
            );
            return Err(Error::corrupt(L1, detail).at(36));
        }
        if !header.l1_at.is_multiple_of(cluster.get()) {
            let detail = format!("lies at {:#x}, inside a cluster", header.l1_at);
            return Err(Error::corrupt(L1, detail).at(40));
        }
        if header.l1_at.saturating_add(bytes) > file.size {
            return Err(Error::corrupt(L1, "reaches past the end of the file").at(header.l1_at));
        }
        Ok(Self {
            data_index: usize::from(data.is_some()),
            data: data.unwrap_or_else(|| file.clone()),
            file,
            header,
            size,
            cluster,
            unit,
            entry_len,
            table_len,
            compression,
            hole,
            l1: Cache::new(L1_PAGES),
            l2: Cache::new(L2_PAGES),
            clusters: Cache::new(CLUSTERS_KEPT),
        })
    }

    /// First disk position of cluster number `cluster`.
    pub(super) fn start_of(&self, cluster: u64) -> u64 {
        cluster.saturating_mul(self.cluster.get())
    }

    /// Where the L2 table of that number is, 0 if nowhere, and how many tables from there on have
    /// the same entry (at least 1).
    pub(super) fn l2_table(&self, table: u64) -> Result<(u64, u64)> {
        const ENTRIES: u64 = PAGE / 8;
        let inside = table % ENTRIES;
        let first = table.saturating_sub(inside);
        let page = self.l1.get(first, || {
            let count = u64::from(self.header.l1_entries)
                .saturating_sub(first)
                .min(ENTRIES);
            let at = self.header.l1_at.saturating_add(first.saturating_mul(8));
            let bytes = self.file.read_part(L1, at, count.saturating_mul(8))?;
            Ok(numbers(&bytes).map(|e| e & OFFSET).collect())
        })?;
        let rest = page.get(buffer_len(inside)?..).unwrap_or_default();
        let Some(&at) = rest.first() else {
            return Err(Error::corrupt(L1, format!("has no entry {table}")));
        };
        let wrong = |detail: &str| {
            let entry_at = self.header.l1_at.saturating_add(table.saturating_mul(8));
            Err(Error::corrupt(format!("{L1}, entry {table}"), detail).at(entry_at))
        };
        if !at.is_multiple_of(self.cluster.get()) {
            return wrong("points inside a cluster");
        }
        if at.saturating_add(self.cluster.get()) > self.file.size && at != 0 {
            return wrong("points past the end of the file");
        }
        if at != 0 && self.overlaps_l1(at) {
            return wrong("points into the L1 table itself");
        }
        Ok((at, rest.iter().take_while(|e| **e == at).count() as u64))
    }

    /// True if the cluster at file offset `at` holds a part of the L1 table.
    fn overlaps_l1(&self, at: u64) -> bool {
        let len = u64::from(self.header.l1_entries).saturating_mul(8);
        let l1 = self.header.l1_at;
        at < l1.saturating_add(len) && l1 < at.saturating_add(self.cluster.get())
    }

    /// The piece of the L2 table number `table`, at file offset `at`, that tells of `cluster`.
    pub(super) fn page(&self, table: u64, at: u64, cluster: u64) -> Result<Arc<Page>> {
        let per_page = nonzero(PAGE.min(self.cluster.get()) / self.entry_len)?;
        let index = cluster % self.table_len / per_page;
        let first = index.saturating_mul(per_page.get());
        let key = cluster / per_page;
        self.l2.get(key, || {
            let at = FileOffset(at).plus(first.saturating_mul(self.entry_len.get()))?;
            let len = per_page.get().saturating_mul(self.entry_len.get());
            let bytes = self.file.read_part("L2 table", at.0, len)?;
            let mut words = numbers(&bytes);
            let mut entries = Vec::with_capacity(buffer_len(per_page.get())?);
            while let Some(descriptor) = words.next() {
                let subclusters = match self.header.has(EXTENDED_L2) {
                    true => words.next().unwrap_or(0),
                    false => 0,
                };
                entries.push(Entry {
                    descriptor,
                    subclusters,
                });
            }
            Ok(Page {
                at: at.0,
                cluster: table
                    .saturating_mul(self.table_len.get())
                    .saturating_add(first),
                entries,
            })
        })
    }

    /// What `page` says of subcluster `sub` of `cluster`; `None` if it does not tell of that.
    fn unit(&self, page: &Page, cluster: u64, sub: u64) -> Result<Option<Unit>> {
        let index = cluster.saturating_sub(page.cluster);
        let Some(entry) = page.entries.get(buffer_len(index)?) else {
            return Ok(None);
        };
        self.parse(entry, sub).map(Some).map_err(|detail| {
            let number = cluster % self.table_len;
            let part = format!("L2 table {}, entry {number}", cluster / self.table_len);
            let at = index.saturating_mul(self.entry_len.get());
            Error::corrupt(part, detail).at(page.at.saturating_add(at))
        })
    }

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

    /// The page that tells of `cluster` and what it says of subcluster `sub`; or, for a cluster
    /// without a table, the cluster after those without one.
    fn lookup(
        &self,
        cluster: u64,
        sub: u64,
    ) -> Result<std::result::Result<(Arc<Page>, Unit), u64>> {
        let table = cluster / self.table_len;
        let (at, alike) = self.l2_table(table)?;
        if at == 0 {
            let next = table.saturating_add(alike);
            return Ok(Err(next.saturating_mul(self.table_len.get())));
        }
        let page = self.page(table, at, cluster)?;
        match self.unit(&page, cluster, sub)? {
            Some(unit) => Ok(Ok((page, unit))),
            None => Err(Error::corrupt("L2 table", format!("{table} is too short"))),
        }
    }

    /// The first disk position after the run of `first`, which begins with subcluster `sub` of
    /// `cluster`, as far as `page` tells.
    fn run_end(&self, page: &Page, first: Unit, cluster: u64, sub: u64) -> u64 {
        let per_cluster = self.cluster.get() / self.unit;
        let (mut cluster, mut sub, mut last) = (cluster, sub, first);
        loop {
            sub = sub.saturating_add(1);
            if sub == per_cluster {
                (cluster, sub) = (cluster.saturating_add(1), 0);
            }
            let expected = match last {
                Unit::At(at) => Unit::At(at.saturating_add(self.unit.get())),
                other => other,
            };
            // What is wrong with a later entry is said when it is read.
            if !matches!(self.unit(page, cluster, sub), Ok(Some(found)) if found == expected) {
                let inside = sub.saturating_mul(self.unit.get());
                return self.start_of(cluster).saturating_add(inside);
            }
            last = expected;
        }
    }

    /// The run at `pos`, kept from `at` on, cut where the file ends.
    pub(super) fn stored(&self, pos: u64, end: u64, at: u64) -> Result<Run> {
        let used = end.min(self.size).saturating_sub(pos);
        let in_file = self.data.size.saturating_sub(at);
        let run = |end| Run {
            end,
            place: Place::Stored {
                file: self.data_index,
                at: FileOffset(at),
            },
        };
        if used <= in_file {
            return Ok(run(end));
        }
        let whole = (pos.saturating_add(in_file) / self.unit).saturating_mul(self.unit.get());
        if whole > pos {
            return Ok(run(whole));
        }
        let cluster = pos / self.cluster;
        let part = format!(
            "L2 table {}, entry {}",
            cluster / self.table_len,
            cluster % self.table_len
        );
        let detail = format!("points to {at:#x}, past the end of the file that keeps the clusters");
        Err(Error::corrupt(part, detail).path(self.data.path()))
    }

    /// Unpacks all of `cluster` into `out`, which has the size of one.
    fn unpack_cluster(&self, cluster: u64, out: &mut [u8]) -> Result<()> {
        let Ok((_, Unit::Packed { at, len })) = self.lookup(cluster, 0)? else {
            return Err(Error::corrupt("cluster", "is not compressed"));
        };
        WORK.with_borrow_mut(|work| {
            work.packed.resize(buffer_len(len)?, 0);
            self.file.read_at(at, &mut work.packed)?;
            work.unpack(self.compression, out)
                .map_err(|detail| Error::corrupt(format!("cluster {cluster}"), detail).at(at))
        })
    }
}

impl Layout for Tables {
    fn size(&self) -> u64 {
        self.size
    }

    fn locate(&self, pos: u64) -> Result<Run> {
        let cluster = pos / self.cluster;
        let inside = pos % self.cluster;
        let (page, unit) = match self.lookup(cluster, inside / self.unit)? {
            Ok(found) => found,
            Err(next) => {
                return Ok(Run {
                    end: self.start_of(next),
                    place: self.hole,
                });
            }
        };
        if let Unit::Packed { at, .. } = unit {
            return Ok(Run {
                end: self.start_of(cluster.saturating_add(1)),
                place: Place::Packed {
                    file: 0,
                    at: FileOffset(at),
                    inside,
                },
            });
        }
        let end = self.run_end(&page, unit, cluster, inside / self.unit);
        let place = match unit {
            Unit::At(at) => return self.stored(pos, end, at.saturating_add(pos % self.unit)),
            Unit::Zero => Place::Zero,
            _ => self.hole,
        };
        Ok(Run { end, place })
    }

    fn unpack(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        let cluster = pos / self.cluster;
        if buf.len() as u64 == self.cluster.get() {
            return self.unpack_cluster(cluster, buf);
        }
        let bytes = self.clusters.get(cluster, || {
            let mut bytes = vec![0; buffer_len(self.cluster.get())?];
            self.unpack_cluster(cluster, &mut bytes)?;
            Ok(bytes)
        })?;
        let at = buffer_len(pos % self.cluster)?;
        let found = bytes
            .get(at..at.saturating_add(buf.len()))
            .ok_or_else(|| Error::corrupt("cluster", "is too short"))?;
        buf.copy_from_slice(found);
        Ok(())
    }
}

pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks().0.iter().map(|b| u64::from_be_bytes(*b))
}

fn nonzero(value: u64) -> Result<NonZeroU64> {
    NonZeroU64::new(value).ok_or_else(|| Error::corrupt("header", "has clusters of no size"))
}
