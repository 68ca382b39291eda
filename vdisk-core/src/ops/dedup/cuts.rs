//! The ways in which a disk is cut into blocks, all at once.

use super::{Fingerprint, LARGEST_BLOCK, Options, UNIT, tally::Class};
use crate::{Error, ErrorKind, Result};

/// Blocks of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) class: Class,
    /// Of a block.
    pub(super) bytes: u64,
    /// In a block.
    pub(super) units: usize,
}

impl Cut {
    /// Of the block at `start` with `len` bytes, made of `units`; none if it is all zero.
    pub(super) fn print(
        &self,
        units: &[Option<Fingerprint>],
        len: u64,
        start: u64,
    ) -> Option<Fingerprint> {
        let joined = Fingerprint::joined(units, len)?;
        Some(match self.class {
            Class::Place => joined.placed(start),
            _ => joined,
        })
    }
}

/// All cuts of a count.
#[derive(Debug)]
pub(super) struct Cuts {
    pub(super) unit: u64,
    /// Ascending by size, then places.
    pub(super) all: Vec<Cut>,
    /// Ascending; the main one among them.
    pub(super) sizes: Vec<u64>,
    /// Number of the main size among them.
    pub(super) main: u8,
    pub(super) places: bool,
    /// Units in which whole blocks of every cut fit: a *group*.
    pub(super) group: usize,
}

/// Size of the blocks that are compared by place too: what a child of most formats records at least.
const PLACE: u64 = 64 << 10;

/// Most sizes beside the main one.
const SIZES: usize = 16;

impl Cuts {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let unit = options.unit;
        if unit == 0 || !unit.is_multiple_of(512) || unit > LARGEST_BLOCK {
            return Err(usage(format!("{unit} bytes cannot be hashed as one")));
        }
        if options.sizes.len() > SIZES {
            return Err(usage(format!("more than {SIZES} sizes at once")));
        }
        let mut sizes = options.sizes.clone();
        sizes.push(options.block);
        sizes.sort_unstable();
        sizes.dedup();
        let mut group = unit;
        for &size in &sizes {
            if size == 0 || !size.is_multiple_of(unit) {
                return Err(usage(format!("{size} is not a multiple of {unit}")));
            }
            group = common(group, size).ok_or_else(|| {
                usage(format!(
                    "{size} does not nest with the other sizes asked for"
                ))
            })?;
        }
        let with_places = (options.places && unit == UNIT)
            .then(|| common(group, PLACE))
            .flatten();
        let main = sizes.iter().position(|&s| s == options.block);
        let classes = (0..).map(Class::Size).zip(sizes.iter().copied());
        let mut all = vec![];
        for (class, bytes) in classes.chain(with_places.map(|_| (Class::Place, PLACE))) {
            all.push(Cut {
                class,
                bytes,
                units: count(bytes / unit),
            });
        }
        Ok(Self {
            unit,
            all,
            main: main.and_then(|m| u8::try_from(m).ok()).unwrap_or(0),
            sizes,
            places: with_places.is_some(),
            group: count(with_places.unwrap_or(group) / unit),
        })
    }

    /// Bytes of a group.
    pub(super) fn group_bytes(&self) -> u64 {
        self.group as u64 * self.unit
    }
}

/// Units of a block or group: at most 32,768.
fn count(units: u64) -> usize {
    usize::try_from(units).unwrap_or_else(|_| unreachable!())
}

/// The least common multiple, if it is not above [`LARGEST_BLOCK`].
fn common(a: u64, b: u64) -> Option<u64> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).checked_mul(b).filter(|&m| m <= LARGEST_BLOCK)
}

fn usage(detail: String) -> Error {
    Error::new(ErrorKind::Usage, "block size", detail)
}
