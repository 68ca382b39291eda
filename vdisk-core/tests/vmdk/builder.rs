//! Extents byte by byte, from what specifications and other readers say of them.

use proptest::prelude::*;

/// What a grain is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    Data(u8),
    Zero,
    /// Zeros because the guest discarded the grain; seSparse alone tells this apart.
    Unmapped,
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
    pub(crate) fn content(&self, index: usize, byte: u8) -> Vec<u8> {
        (0..self.grain)
            .flat_map(|sector| {
                let number = (index * self.grain + sector) as u32;
                let mut bytes = [byte; 512];
                bytes[..4].copy_from_slice(&number.to_le_bytes());
                bytes
            })
            .collect()
    }

    /// The whole grain number `index` as it is stored, if it is.
    pub(crate) fn grain(&self, index: usize) -> Vec<u8> {
        match self.cells[index] {
            Cell::Data(byte) => self.content(index, byte),
            _ => vec![0; self.grain * 512],
        }
    }

    /// Writes what the grains say over `model`, which may be longer.
    pub(crate) fn over(&self, model: &mut [u8]) {
        let disk = &mut model[..self.sectors * 512];
        for (index, part) in disk.chunks_mut(self.grain * 512).enumerate() {
            match self.cells[index] {
                Cell::Data(byte) => {
                    part.copy_from_slice(&self.content(index, byte)[..part.len()]);
                }
                Cell::Zero | Cell::Unmapped => part.fill(0),
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

    /// As an extent of a split disk: a hosted sparse extent without a descriptor. Tables are
    /// allocated when their first grain is.
    pub(crate) fn hosted(&self) -> Vec<u8> {
        let tables = self.sectors.div_ceil(512 * self.grain);
        let mut bytes = vec![0; 512 + (tables * 4).next_multiple_of(512)];
        bytes[..4].copy_from_slice(b"KDMV");
        put32(&mut bytes, 4, 1);
        put32(&mut bytes, 8, 1);
        put64(&mut bytes, 12, self.sectors as u64);
        put64(&mut bytes, 20, self.grain as u64);
        put32(&mut bytes, 44, 512);
        put64(&mut bytes, 56, 1);
        bytes[73..77].copy_from_slice(b"\n \r\n");
        let mut at_of_table = vec![0; tables];
        for &index in &self.order {
            if self.cells[index] == Cell::Hole {
                continue;
            }
            let table = index / 512;
            if at_of_table[table] == 0 {
                at_of_table[table] = bytes.len();
                let sector = (bytes.len() / 512) as u32;
                put32(&mut bytes, 512 + table * 4, sector);
                bytes.extend([0; 512 * 4]);
            }
            let mut entry = 1;
            if let Cell::Data(byte) = self.cells[index] {
                entry = (bytes.len() / 512) as u32;
                bytes.extend(self.content(index, byte));
            }
            put32(&mut bytes, at_of_table[table] + index % 512 * 4, entry);
        }
        bytes
    }

    /// As a seSparse extent: the areas in another order than VMware's, tables numbered and grains
    /// stored in the order given.
    pub(crate) fn sesparse(&self) -> Vec<u8> {
        assert_eq!(self.grain, 8);
        let tables = self.sectors.div_ceil(4096 * 8);
        let directory_sectors = (tables * 8).div_ceil(512);
        // header, volatile header, directory, one table more than there is, grains
        let (directory, table_area) = (2, 2 + directory_sectors);
        let grain_area = table_area + (tables + 1) * 64;
        let mut bytes = vec![0; grain_area * 512];
        for (at, value) in [
            (0, 0xcafe_babe),
            (8, 0x2_0000_0001),
            (16, self.sectors),
            (24, 8),
            (32, 64),
            (80, 1),
            (88, 1),
            (128, directory),
            (136, directory_sectors),
            (144, table_area),
            (152, (tables + 1) * 64),
            (192, grain_area),
            (200, self.cells.len() * 8),
            (512, 0xcafe_cafe),
        ] {
            put64(&mut bytes, at, value as u64);
        }
        let mut number_of_table = vec![None; tables];
        let mut next_table = 1;
        let mut next_grain = 0u64;
        for &index in &self.order {
            let kind = match self.cells[index] {
                Cell::Hole => continue,
                Cell::Unmapped => 1,
                Cell::Zero => 2,
                Cell::Data(_) => 3,
            };
            let table = index / 4096;
            let number = *number_of_table[table].get_or_insert_with(|| {
                next_table += 1;
                next_table - 1
            });
            let entry = SESPARSE_TABLE | number as u64;
            put64(&mut bytes, directory * 512 + table * 8, entry);
            let mut entry = kind << 60;
            if let Cell::Data(byte) = self.cells[index] {
                bytes.extend(self.content(index, byte));
                // The number's lower 12 bits stand above the others.
                entry |= (next_grain & 0xfff) << 48 | next_grain >> 12;
                next_grain += 1;
            }
            let at = (table_area + number * 64) * 512 + index % 4096 * 8;
            put64(&mut bytes, at, entry);
        }
        bytes
    }
}

/// The upper half of the directory entry of a seSparse grain table.
pub(crate) const SESPARSE_TABLE: u64 = 0x1000_0000_0000_0000;
