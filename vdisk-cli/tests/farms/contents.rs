//! Contents of disks that have much in common: made of few kinds of pieces, most of which come again.

use crate::support::Dice;

/// The size of the blocks that most pieces consist of.
pub(crate) const BLOCK: usize = 4096;

/// What is written over a part of a disk.
pub(crate) enum Change {
    Bytes(usize, Vec<u8>),
    Zeros(usize, usize),
}

impl Change {
    pub(crate) fn apply(&self, disk: &mut [u8]) {
        match self {
            Self::Bytes(at, bytes) => disk[*at..at + bytes.len()].copy_from_slice(bytes),
            Self::Zeros(at, len) => disk[*at..at + len].fill(0),
        }
    }
}

/// Where pieces come from that several disks have.
pub(crate) struct Contents {
    pub(crate) dice: Dice,
    pool: Vec<u8>,
}

impl Contents {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let pool = noise(&mut dice, 96 * BLOCK);
        Self { dice, pool }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.dice.below(end as u64)).unwrap()
    }

    /// Bytes that no other disk has.
    pub(crate) fn noise(&mut self, len: usize) -> Vec<u8> {
        noise(&mut self.dice, len)
    }

    /// Some blocks of the pool.
    fn pooled(&mut self, most: usize) -> Vec<u8> {
        let blocks = 1 + self.below(most);
        let from = self.below(self.pool.len() / BLOCK - blocks);
        self.pool[from * BLOCK..][..blocks * BLOCK].to_vec()
    }

    /// A disk of `size` bytes, a multiple of 512.
    pub(crate) fn disk(&mut self, size: usize) -> Vec<u8> {
        let mut disk: Vec<u8> = Vec::with_capacity(size);
        while disk.len() < size {
            match self.below(16) {
                // Some sectors, so that what follows lies elsewhere for larger blocks.
                0 => disk.extend(noise(&mut self.dice, 512 * 3)),
                1 => disk.resize(disk.len() + 512 * (1 + self.below(15)), 0),
                // Back to where blocks start.
                2 | 3 => disk.resize(disk.len().next_multiple_of(BLOCK), 7),
                4 => disk.resize(disk.len().next_multiple_of(64 << 10), 0),
                5..8 => disk.resize(disk.len() + (64 << 10) * (1 + self.below(4)), 0),
                // Its own beginning again.
                8 => disk.extend_from_within(..disk.len().min(37 * BLOCK)),
                // One byte, as often as it fits.
                9 => disk.resize(disk.len() + BLOCK * (1 + self.below(8)), 0x5a),
                10..13 => disk.extend(self.pooled(40)),
                _ => {
                    let blocks = 1 + self.below(40);
                    disk.extend(noise(&mut self.dice, blocks * BLOCK));
                }
            }
        }
        disk.truncate(size);
        disk
    }

    /// What a guest does to `disk`: new data and pieces of the pool, a few sectors or many blocks, the
    /// same bytes once more, the beginning of the disk, zeros over data and zeros over zeros.
    pub(crate) fn changes(&mut self, disk: &[u8], number: usize) -> Vec<Change> {
        (0..number).map(|_| self.change(disk)).collect()
    }

    fn change(&mut self, disk: &[u8]) -> Change {
        let sectors = disk.len() / 512;
        let small = 512 * (1 + self.below(7));
        let large = BLOCK * (1 + self.below(30));
        let len = if self.below(2) == 0 { small } else { large };
        // Often where blocks start.
        let step = [1, 8, 8, 128][self.below(4)];
        let at = 512 * (self.below(sectors) / step * step);
        let len = len.min(disk.len() - at);
        match self.below(8) {
            0 => Change::Zeros(at, len),
            1 => Change::Bytes(at, disk[at..at + len].to_vec()),
            2 => Change::Bytes(at, disk[..len].to_vec()),
            3 | 4 => {
                let mut bytes = self.pooled(12);
                bytes.truncate(disk.len() - at);
                Change::Bytes(at, bytes)
            }
            _ => Change::Bytes(at, self.noise(len)),
        }
    }
}

fn noise(dice: &mut Dice, len: usize) -> Vec<u8> {
    let words = std::iter::repeat_with(|| dice.roll().to_le_bytes());
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}
