//! Builds images by hand. It knows the format from its specification, not from the crate.

use flate2::{Compress, Compression, FlushCompress};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::ops::Range;

pub(crate) const SECTOR: usize = 512;
/// Bit 63 of an entry: the cluster is used once.
const ONCE: u64 = 1 << 63;

/// What a piece of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Hole,
    Zero,
    Data,
}

/// What a cluster is.
#[derive(Clone, Debug)]
pub(crate) enum Cluster {
    /// A hole, zero or data as a whole. Zero keeps a place in the file if the flag says so.
    Plain(Is, bool),
    Packed,
    /// What each of its 32 subclusters is.
    Parts(Vec<Is>),
}

/// An image to build by hand.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) version: u32,
    pub(crate) cluster_bits: u32,
    pub(crate) sectors: usize,
    pub(crate) clusters: Vec<Cluster>,
    /// Everything is placed in the order of these numbers: tables first, then clusters.
    pub(crate) order: Vec<u32>,
    /// Clusters left free before each piece.
    pub(crate) gap: usize,
    pub(crate) extended: bool,
    pub(crate) zstd: bool,
    /// Clusters are in a file of their own.
    pub(crate) external: bool,
    /// Name of the backing file, and of its format.
    pub(crate) backing: Option<(&'static str, Option<&'static str>)>,
    pub(crate) seed: u8,
}

impl Shape {
    /// A small image of this kind, for tests that change it: four clusters of 512 bytes, of which
    /// the first is data, the second packed, the third zero (absent in version 2), the fourth absent.
    pub(crate) fn sample(version: u32) -> Self {
        let third = if version == 2 { Is::Hole } else { Is::Zero };
        Self {
            version,
            cluster_bits: 9,
            sectors: 4,
            clusters: vec![
                Cluster::Plain(Is::Data, false),
                Cluster::Packed,
                Cluster::Plain(third, false),
                Cluster::Plain(Is::Hole, false),
            ],
            order: vec![],
            gap: 0,
            extended: false,
            zstd: false,
            external: false,
            backing: None,
            seed: 5,
        }
    }

    fn cluster(&self) -> usize {
        1 << self.cluster_bits
    }

    fn sector(&self, number: usize) -> Vec<u8> {
        (0..SECTOR)
            .map(|i| (number * 7 + i * 13 + usize::from(self.seed)) as u8 | 1)
            .collect()
    }

    /// What each sector of the disk is, and holds.
    pub(crate) fn model(&self) -> Vec<(Is, Vec<u8>)> {
        let per_cluster = self.cluster() / SECTOR;
        (0..self.sectors)
            .map(|s| {
                let is = match &self.clusters[s / per_cluster] {
                    Cluster::Plain(is, _) => *is,
                    Cluster::Packed => Is::Data,
                    Cluster::Parts(parts) => parts[s % per_cluster * 32 / per_cluster],
                };
                match is {
                    Is::Data => (is, self.sector(s)),
                    _ => (is, vec![0; SECTOR]),
                }
            })
            .collect()
    }

    /// All bytes of a cluster; rubbish where nothing of it may be seen.
    fn contents(&self, number: usize) -> Vec<u8> {
        let per_cluster = self.cluster() / SECTOR;
        let kept = |s: usize| match &self.clusters[number] {
            Cluster::Parts(parts) => parts[s * 32 / per_cluster] == Is::Data,
            Cluster::Plain(is, _) => *is == Is::Data,
            Cluster::Packed => true,
        };
        (0..per_cluster)
            .flat_map(|s| match kept(s) {
                true => self.sector(number * per_cluster + s),
                false => vec![0xdb; SECTOR],
            })
            .collect()
    }

    fn packed(&self, number: usize) -> Vec<u8> {
        let bytes = self.contents(number);
        if self.zstd {
            return compress_to_vec(bytes.as_slice(), CompressionLevel::Fastest);
        }
        let mut out = Vec::with_capacity(2 * bytes.len() + 64);
        Compress::new(Compression::best(), false)
            .compress_vec(&bytes, &mut out, FlushCompress::Finish)
            .unwrap();
        out
    }

    /// The image, and the external data file.
    pub(crate) fn build(&self) -> (Vec<u8>, Vec<u8>) {
        let cluster = self.cluster();
        let entry_len = if self.extended { 16 } else { 8 };
        let per_table = cluster / entry_len;
        let tables = self.clusters.len().div_ceil(per_table);
        let l1_clusters = (tables * 8).div_ceil(cluster).max(1);

        // Pieces: refcount table, L1 table, L2 tables, clusters.
        let count = 2 + tables + self.clusters.len();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|i| self.order.get(*i).copied().unwrap_or(0));
        let mut file = vec![0u8; cluster];
        let mut data = Vec::new();
        let mut places = vec![0u64; count];
        // What the image uses of the file; what shares a cluster counts for itself.
        let mut used = Vec::new();
        for piece in order {
            let number = piece.wrapping_sub(2 + tables);
            let contents = match piece {
                0 => vec![0; cluster],
                1 => vec![0; l1_clusters * cluster],
                _ if piece < 2 + tables => {
                    // A table without entries has no place.
                    let from = (piece - 2) * per_table;
                    let to = (from + per_table).min(self.clusters.len());
                    let empty = self.clusters[from..to]
                        .iter()
                        .all(|c| matches!(c, Cluster::Plain(Is::Hole, _)));
                    if empty {
                        continue;
                    }
                    vec![0; cluster]
                }
                _ => match &self.clusters[number] {
                    Cluster::Plain(Is::Hole, _) | Cluster::Plain(Is::Zero, false) => continue,
                    Cluster::Packed => {
                        // Anywhere, also right behind another.
                        file.resize(file.len() + number % 3 * 50, 0xdb);
                        places[piece] = file.len() as u64;
                        file.extend(self.packed(number));
                        used.push(places[piece] as usize..file.len());
                        continue;
                    }
                    Cluster::Parts(parts) if !parts.contains(&Is::Data) => continue,
                    _ => self.contents(number),
                },
            };
            let target = match self.external && piece >= 2 + tables {
                true => &mut data,
                false => &mut file,
            };
            target.resize(target.len().next_multiple_of(cluster), 0xdb);
            target.resize(target.len() + self.gap * cluster, 0xdb);
            places[piece] = target.len() as u64;
            let start = target.len();
            target.extend(contents);
            if piece >= 2 && !(self.external && piece >= 2 + tables) {
                used.push(start..start + cluster);
            }
        }

        for number in 0..self.clusters.len() {
            let table = places[2 + number / per_table] as usize;
            if table != 0 {
                let (entry, parts) = self.entry(number, places[2 + tables + number]);
                let at = table + number % per_table * entry_len;
                put(&mut file, at, &entry.to_be_bytes());
                if self.extended {
                    put(&mut file, at + 8, &parts.to_be_bytes());
                }
            }
        }
        let l1 = places[1] as usize;
        for table in 0..tables {
            let at = places[2 + table];
            let entry = if at == 0 { 0 } else { at | ONCE };
            put(&mut file, l1 + table * 8, &entry.to_be_bytes());
        }
        let header = self.header(places[0], places[1], tables);
        put(&mut file, 0, &header);
        used.extend([0..cluster, places[0] as usize..places[0] as usize + cluster]);
        used.push(l1..l1 + l1_clusters * cluster);
        self.refcounts(&mut file, &used, places[0] as usize);
        (file, data)
    }

    /// Adds blocks of refcounts of 16 bits to the end, for the parts of the file that are `used`.
    fn refcounts(&self, file: &mut Vec<u8>, used: &[Range<usize>], table: usize) {
        let cluster = self.cluster();
        let per_block = cluster / 2;
        file.resize(file.len().next_multiple_of(cluster), 0xdb);
        let first = file.len() / cluster;
        let blocks = (1..).find(|n| n * per_block >= first + n).unwrap();
        assert!(blocks * 8 <= cluster);
        let mut counts = vec![0u16; blocks * per_block];
        for range in used {
            for count in &mut counts[range.start / cluster..range.end.div_ceil(cluster)] {
                *count += 1;
            }
        }
        counts[first..first + blocks].fill(1);
        for block in 0..blocks {
            let at = (file.len() as u64).to_be_bytes();
            put(file, table + block * 8, &at);
            let counts = &counts[block * per_block..][..per_block];
            file.extend(counts.iter().flat_map(|c| c.to_be_bytes()));
        }
    }

    /// The two words of a cluster's entry.
    fn entry(&self, number: usize, at: u64) -> (u64, u64) {
        match &self.clusters[number] {
            Cluster::Plain(is, _) => {
                let place = match at != 0 || *is == Is::Data {
                    true => at | ONCE,
                    false => 0,
                };
                match (is, self.extended) {
                    (Is::Hole, _) => (0, 0),
                    (Is::Data, false) => (place, 0),
                    (Is::Zero, false) => (place | 1, 0),
                    (Is::Data, true) => (place, 0xffff_ffff),
                    (Is::Zero, true) => (place, 0xffff_ffff << 32),
                }
            }
            Cluster::Packed => {
                let shift = 62 - (self.cluster_bits - 8);
                let len = self.packed(number).len();
                let further = (at as usize % SECTOR + len).div_ceil(SECTOR) - 1;
                assert!(further < 1 << (self.cluster_bits - 8));
                (1 << 62 | (further as u64) << shift | at, 0)
            }
            Cluster::Parts(parts) => {
                let bits = |is| {
                    let set = parts.iter().enumerate().filter(|(_, p)| **p == is);
                    set.fold(0u64, |bits, (i, _)| bits | 1 << i)
                };
                let place = match parts.contains(&Is::Data) {
                    true => at | ONCE,
                    false => 0,
                };
                (place, bits(Is::Data) | bits(Is::Zero) << 32)
            }
        }
    }

    fn header(&self, refcounts: u64, l1: u64, tables: usize) -> Vec<u8> {
        let mut header = vec![0u8; 72];
        put(&mut header, 0, b"QFI\xfb");
        put(&mut header, 4, &self.version.to_be_bytes());
        put(&mut header, 20, &self.cluster_bits.to_be_bytes());
        put(&mut header, 24, &(self.sectors as u64 * 512).to_be_bytes());
        put(&mut header, 36, &(tables as u32).to_be_bytes());
        put(&mut header, 40, &l1.to_be_bytes());
        put(&mut header, 48, &refcounts.to_be_bytes());
        put(&mut header, 56, &1u32.to_be_bytes());
        if self.version == 3 {
            header.resize(112, 0);
            let features = u64::from(self.external) << 2
                | u64::from(self.zstd) << 3
                | u64::from(self.extended) << 4;
            put(&mut header, 72, &features.to_be_bytes());
            put(&mut header, 96, &4u32.to_be_bytes());
            put(&mut header, 100, &112u32.to_be_bytes());
            header[104] = u8::from(self.zstd);
        }
        if self.external {
            extension(&mut header, 0x4441_5441, b"disk.data");
        }
        extension(&mut header, 0x1234_5678, b"nobody knows me");
        if let Some((name, format)) = self.backing {
            if let Some(format) = format {
                extension(&mut header, 0xe279_2aca, format.as_bytes());
            }
            extension(&mut header, 0, b"");
            let at = header.len() as u64;
            put(&mut header, 8, &at.to_be_bytes());
            put(&mut header, 16, &(name.len() as u32).to_be_bytes());
            header.extend(name.as_bytes());
        }
        assert!(header.len() <= self.cluster());
        header
    }
}

fn extension(header: &mut Vec<u8>, kind: u32, data: &[u8]) {
    header.extend(kind.to_be_bytes());
    header.extend((data.len() as u32).to_be_bytes());
    header.extend(data);
    header.resize(header.len().next_multiple_of(8), 0);
}

pub(crate) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..][..what.len()].copy_from_slice(what);
}
