//! The L1 and L2 tables: where each cluster, or subcluster, of the disk is kept.
//!
//! Both are read piece by piece when needed, so that a large disk costs no more memory than a
//! small one.

use super::{
    compressed::Compression,
    disk_structs::{EXTENDED_L2, Header},
    entry::{Entry, OFFSET, SUBCLUSTERS, Unit},
};
use crate::{
    Error, ErrorKind, Place, Result,
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

pub(super) const L1: &str = "L1 table";

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
    pub(super) data: ImageFile,
    pub(super) data_index: usize,
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
    pub(super) compression: Compression,
    /// What a cluster reads as that is not recorded.
    pub(super) hole: Place,
    l1: Cache<Vec<u64>>,
    l2: Cache<Page>,
    pub(super) clusters: Cache<Vec<u8>>,
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
    pub(super) fn overlaps_l1(&self, at: u64) -> bool {
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
    pub(super) fn unit(&self, page: &Page, cluster: u64, sub: u64) -> Result<Option<Unit>> {
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
}

pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks().0.iter().map(|b| u64::from_be_bytes(*b))
}

fn nonzero(value: u64) -> Result<NonZeroU64> {
    NonZeroU64::new(value).ok_or_else(|| Error::corrupt("header", "has clusters of no size"))
}
