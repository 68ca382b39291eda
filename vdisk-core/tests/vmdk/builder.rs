//! Extents byte by byte, from what specifications and other readers say of them.

use proptest::prelude::*;

/// What a grain is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    Data(u8),
    Hole,
}

/// The grains of an extent, and the order in which they are stored.
#[derive(Clone, Debug)]
pub(crate) struct Grains {
    pub(crate) cells: Vec<Cell>,
    pub(crate) order: Vec<usize>,
    /// Sectors of a grain.
    pub(crate) grain: usize,
    /// Sectors of the extent: the last grain may be partly outside.
    pub(crate) sectors: usize,
}

pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

impl Grains {
    /// All cells in the order of the disk.
    pub(crate) fn ascending(cells: &[Cell], grain: usize, sectors: usize) -> Self {
        Self {
            cells: cells.to_vec(),
            order: (0..cells.len()).collect(),
            grain,
            sectors,
        }
    }

    /// Runs of up to a few hundred cells, on a disk of up to `most` sectors.
    pub(crate) fn strategy(
        sizes: &'static [usize],
        most: usize,
        cell: impl Strategy<Value = Cell> + Clone + 'static,
    ) -> impl Strategy<Value = Self> {
        let runs = prop::collection::vec((cell, 1..700usize, 0..2000usize), 1..8);
        (prop::sample::select(sizes), 1..most, runs).prop_flat_map(|(grain, sectors, runs)| {
            let mut cells = vec![Cell::Hole; sectors.div_ceil(grain)];
            let mut at = 0;
            for (cell, len, gap) in runs {
                at = (at + gap / grain) % cells.len();
                let end = (at + len / grain + 1).min(cells.len());
                cells[at..end].fill(cell);
                at = end % cells.len();
            }
            let order = Just((0..cells.len()).collect::<Vec<_>>()).prop_shuffle();
            (Just(cells), order).prop_map(move |(cells, order)| Self {
                cells,
                order,
                grain,
                sectors,
            })
        })
    }

    /// The whole grain number `index`; no two sectors of a disk are alike.
    fn content(&self, index: usize, byte: u8) -> Vec<u8> {
        (0..self.grain)
            .flat_map(|sector| {
                let number = (index * self.grain + sector) as u32;
                let mut bytes = [byte; 512];
                bytes[..4].copy_from_slice(&number.to_le_bytes());
                bytes
            })
            .collect()
    }

    /// Writes what the grains say over `model`, which may be longer.
    pub(crate) fn over(&self, model: &mut [u8]) {
        let disk = &mut model[..self.sectors * 512];
        for (index, part) in disk.chunks_mut(self.grain * 512).enumerate() {
            match self.cells[index] {
                Cell::Data(byte) => {
                    part.copy_from_slice(&self.content(index, byte)[..part.len()]);
                }
                Cell::Hole => {}
            }
        }
    }

    /// The disk that these grains are, without a parent.
    pub(crate) fn disk(&self) -> Vec<u8> {
        let mut disk = vec![0; self.sectors * 512];
        self.over(&mut disk);
        disk
    }

    /// As a vmfsSparse extent. Tables are allocated when their first grain is, and neither they
    /// nor the grains are in the order of the disk.
    pub(crate) fn cowd(&self) -> Vec<u8> {
        let tables = self.sectors.div_ceil(4096 * self.grain);
        let mut bytes = vec![0; 2048 + (tables * 4).next_multiple_of(512)];
        bytes[..4].copy_from_slice(b"COWD");
        for (at, value) in [
            (4, 1),
            (8, 3),
            (12, self.sectors),
            (16, self.grain),
            (20, 4),
            (24, tables),
        ] {
            put32(&mut bytes, at, value as u32);
        }
        let mut at_of_table = vec![0; tables];
        for &index in &self.order {
            let Cell::Data(byte) = self.cells[index] else {
                continue;
            };
            let table = index / 4096;
            if at_of_table[table] == 0 {
                at_of_table[table] = bytes.len();
                let sector = (bytes.len() / 512) as u32;
                put32(&mut bytes, 2048 + table * 4, sector);
                bytes.extend([0; 4096 * 4]);
            }
            let sector = (bytes.len() / 512) as u32;
            put32(&mut bytes, at_of_table[table] + index % 4096 * 4, sector);
            bytes.extend(self.content(index, byte));
        }
        let end = (bytes.len() / 512) as u32;
        put32(&mut bytes, 28, end);
        bytes
    }
}
