//! The record of a block: which one, in which images, how often.

use super::super::{LARGEST_BLOCK, sorter::Record};

/// What a record is about: each class is counted on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Class {
    /// Blocks of size number n of the sizes asked for, ascending; the main size is one of them.
    Size(u8),
    /// 64 KiB at a position.
    Place,
    /// Chunks.
    Chunk,
}

/// So many more (or fewer) of one block in each image of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Print {
    /// The fingerprint as a number.
    pub(in super::super) print: u128,
    /// Class and length of the block in bytes, see [`Print::kind`].
    pub(in super::super) kind: u32,
    /// Number of the span.
    pub(in super::super) span: u32,
    /// Sums stay far from the ends: each record adds or takes off one.
    pub(in super::super) count: i64,
}

/// Bits for the length: one more than lengths below the largest block need.
const LEN_BITS: u32 = 25;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;
const _: () = assert!(LARGEST_BLOCK <= LEN_MASK as u64);

const PLACE: u8 = 126;
const CHUNK: u8 = 127;

impl Print {
    /// Class and length in one number. The length, up to [`LARGEST_BLOCK`], has been checked.
    pub(in super::super) fn kind(class: Class, len: u64) -> u32 {
        debug_assert!(len <= LARGEST_BLOCK);
        let class = match class {
            Class::Size(number) => number,
            Class::Place => PLACE,
            Class::Chunk => CHUNK,
        };
        let len = u32::try_from(len).unwrap_or(LEN_MASK) & LEN_MASK;
        (u32::from(class) << LEN_BITS) | len
    }

    /// What [`kind`](Self::kind) was made of.
    pub(super) fn class(kind: u32) -> (Class, u32) {
        let class = match (kind >> LEN_BITS).to_le_bytes()[0] {
            PLACE => Class::Place,
            CHUNK => Class::Chunk,
            number => Class::Size(number),
        };
        (class, kind & LEN_MASK)
    }
}

impl Record for Print {
    const LEN: usize = 32;
    type Key = (u128, u32, u32);

    fn key(&self) -> Self::Key {
        (self.print, self.kind, self.span)
    }

    fn combine(&mut self, next: &Self) {
        self.count += next.count;
    }

    fn is_void(&self) -> bool {
        self.count == 0
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..16].copy_from_slice(&self.print.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.kind.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.span.to_le_bytes());
        bytes[24..].copy_from_slice(&self.count.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
            *bytes.first_chunk().unwrap_or(&[0; N])
        }
        Self {
            print: u128::from_le_bytes(array(&bytes[..16])),
            kind: u32::from_le_bytes(array(&bytes[16..20])),
            span: u32::from_le_bytes(array(&bytes[20..24])),
            count: i64::from_le_bytes(array(&bytes[24..])),
        }
    }
}
