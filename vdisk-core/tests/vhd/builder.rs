//! Builds images by hand. It knows the format from its specification, not from the crate.

use crate::SECTOR;
use proptest::prelude::*;

/// The unique ID of every image built.
pub(crate) const UUID: [u8; 16] = *b"the child itself";
/// The unique ID that differencing images expect of their parent.
pub(crate) const PARENT: [u8; 16] = *b"the parent of it";

/// A dynamic or differencing image to build by hand.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: u32,
    pub(crate) sectors: usize,
    pub(crate) block: usize,
    /// Per block: none, or which of its sectors it keeps.
    pub(crate) blocks: Vec<Option<Vec<bool>>>,
    /// Blocks are placed in the order of these numbers.
    pub(crate) order: Vec<u32>,
    /// Sectors left free before the table and before each block.
    pub(crate) gap: usize,
    /// Table entries more than needed.
    pub(crate) spare: usize,
    /// The table follows the blocks.
    pub(crate) table_last: bool,
    /// The last block in the file ends where the disk does, if it is the last of the disk.
    pub(crate) cut: bool,
    pub(crate) seed: u8,
}

impl Shape {
    fn sector(&self, number: usize) -> Vec<u8> {
        (0..SECTOR)
            .map(|i| (number * 7 + i * 13 + usize::from(self.seed)) as u8 | 1)
            .collect()
    }

    /// What each sector of the disk holds; none where the image keeps nothing.
    pub(crate) fn model(&self) -> Vec<Option<Vec<u8>>> {
        let per_block = self.block / SECTOR;
        (0..self.sectors)
            .map(|s| {
                let bits = self.blocks[s / per_block].as_ref()?;
                bits[s % per_block].then(|| self.sector(s))
            })
            .collect()
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let per_block = self.block / SECTOR;
        let bitmap_len = per_block.div_ceil(8).next_multiple_of(SECTOR);
        let table_len = ((self.blocks.len() + self.spare) * 4).next_multiple_of(SECTOR);
        let mut table = vec![0xff; table_len];
        let mut file = vec![0u8; 1536];
        file.resize(1536 + self.gap * SECTOR, 0xdb);
        let mut table_at = file.len();
        if !self.table_last {
            file.resize(table_at + table_len, 0);
        }
        let mut order: Vec<usize> = (0..self.blocks.len()).collect();
        order.sort_by_key(|b| self.order[*b]);
        for number in order {
            let Some(bits) = &self.blocks[number] else {
                continue;
            };
            file.resize(file.len() + self.gap * SECTOR, 0xdb);
            let entry = (file.len() / SECTOR) as u32;
            table[number * 4..][..4].copy_from_slice(&entry.to_be_bytes());
            let mut bitmap = vec![0u8; bitmap_len];
            for (i, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
                bitmap[i / 8] |= 0x80 >> (i % 8);
            }
            file.extend(bitmap);
            for (i, bit) in bits.iter().enumerate() {
                // Sectors that are not kept hold rubbish, which must not be seen.
                match bit {
                    true => file.extend(self.sector(number * per_block + i)),
                    false => file.extend([0xdb; SECTOR]),
                }
            }
            let past = (number + 1) * self.block;
            if self.cut && past > self.sectors * SECTOR && !self.table_last {
                // Only right at the end of the file; else the next block lies in the free part.
                file.truncate(file.len() - (past - self.sectors * SECTOR));
            }
        }
        if self.table_last {
            table_at = file.len();
            file.resize(table_at + table_len, 0);
        }
        file[table_at..][..table_len].copy_from_slice(&table);
        let mut footer = footer(self.kind, (self.sectors * SECTOR) as u64, 512);
        seal(&mut footer, 64);
        let mut header = vec![0u8; 1024];
        put(&mut header, 0, b"cxsparse");
        put(&mut header, 8, &[0xff; 8]);
        put(&mut header, 16, &(table_at as u64).to_be_bytes());
        put(&mut header, 24, &0x10000u32.to_be_bytes());
        put(
            &mut header,
            28,
            &((self.blocks.len() + self.spare) as u32).to_be_bytes(),
        );
        put(&mut header, 32, &(self.block as u32).to_be_bytes());
        if self.kind == 4 {
            put(&mut header, 40, &PARENT);
            let name: Vec<u8> = "base.vhd"
                .encode_utf16()
                .flat_map(u16::to_be_bytes)
                .collect();
            put(&mut header, 64, &name);
        }
        seal(&mut header, 36);
        put(&mut file, 0, &footer);
        put(&mut file, 512, &header);
        file.extend(footer);
        file
    }
}

pub(crate) fn footer(kind: u32, size: u64, data_offset: u64) -> Vec<u8> {
    let mut bytes = vec![0u8; 512];
    put(&mut bytes, 0, b"conectix");
    put(&mut bytes, 8, &2u32.to_be_bytes());
    put(&mut bytes, 12, &0x10000u32.to_be_bytes());
    put(&mut bytes, 16, &data_offset.to_be_bytes());
    put(&mut bytes, 28, b"test");
    put(&mut bytes, 40, &size.to_be_bytes());
    put(&mut bytes, 48, &size.to_be_bytes());
    put(&mut bytes, 60, &kind.to_be_bytes());
    put(&mut bytes, 68, &UUID);
    bytes
}

pub(crate) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..][..what.len()].copy_from_slice(what);
}

/// Writes the checksum of a structure, whose field is at `at`.
pub(crate) fn seal(bytes: &mut [u8], at: usize) {
    put(bytes, at, &[0; 4]);
    let sum: u32 = bytes.iter().map(|b| u32::from(*b)).sum();
    put(bytes, at, &(!sum).to_be_bytes());
}

pub(crate) fn shapes(kind: u32) -> impl Strategy<Value = Shape> {
    let bits = |n| {
        prop_oneof![
            Just(vec![true; n]),
            Just(vec![false; n]),
            prop::collection::vec(any::<bool>(), n),
            (0..n, 0..n).prop_map(move |(a, b)| (0..n).map(|i| i >= a && i < b).collect()),
        ]
    };
    (12..16u32, 1..6usize, 1..9usize)
        .prop_flat_map(move |(log, count, last)| {
            let block = 1usize << log;
            let n = block / SECTOR;
            let sectors = (count - 1) * n + last.min(n);
            (
                prop::collection::vec(prop::option::weighted(0.7, bits(n)), count),
                prop::collection::vec(any::<u32>(), count),
                (
                    0..3usize,
                    0..3usize,
                    any::<bool>(),
                    any::<bool>(),
                    any::<u8>(),
                ),
                Just((block, sectors)),
            )
        })
        .prop_map(
            move |(blocks, order, (gap, spare, table_last, cut, seed), (block, sectors))| Shape {
                kind,
                sectors,
                block,
                blocks,
                order,
                gap,
                spare,
                table_last,
                cut,
                seed,
            },
        )
        .prop_map(|mut shape| {
            // A block can only be cut if it comes last in the file.
            if shape.cut
                && let Some(last) = shape.order.last_mut()
            {
                *last = u32::MAX;
            }
            shape
        })
}
