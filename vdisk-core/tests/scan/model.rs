//! A disk of sectors that each are data, zero or absent, and what a scan must find on it.

use crate::SECTOR;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;
use vdisk_core::{
    Disk, Error, ErrorKind, Extent, Job, Kind, Result,
    ops::dedup::{Block, Content, scan},
};

/// What a segment records, by sector, and what the chain from it down reads as.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) bytes: Vec<u8>,
}

/// What fills a stretch of sectors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fill {
    Zeros,
    /// All the same.
    Repeated,
    Random,
    /// One sector in 12 is not zero.
    Sparse,
}

impl Model {
    /// Stretches of sectors, one after the other.
    pub(crate) fn new(stretches: &[(usize, Kind, Fill)], seed: u64) -> Self {
        let mut model = Self {
            kinds: Vec::new(),
            bytes: Vec::new(),
        };
        let mut random = seed | 1;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for &(sectors, kind, fill) in stretches {
            for _ in 0..sectors {
                model.kinds.push(kind);
                let zero = [0; SECTOR];
                let sector = match fill {
                    _ if kind == Kind::Zero => zero,
                    Fill::Zeros => zero,
                    Fill::Repeated => [7; SECTOR],
                    Fill::Sparse if !next().is_multiple_of(12) => zero,
                    Fill::Random | Fill::Sparse => {
                        let mut sector = zero;
                        let words = sector.chunks_mut(8);
                        words.for_each(|w| w.copy_from_slice(&next().to_le_bytes()));
                        sector
                    }
                };
                model.bytes.extend(sector);
            }
        }
        model
    }

    pub(crate) fn strategy(kinds: &'static [Kind]) -> impl Strategy<Value = Self> {
        let sectors = prop_oneof![4 => 1..10usize, 2 => 20..100usize, 1 => 400..1500usize];
        let fill = prop::sample::select(vec![
            Fill::Zeros,
            Fill::Repeated,
            Fill::Random,
            Fill::Sparse,
        ]);
        let stretch = (sectors, prop::sample::select(kinds), fill);
        (prop::collection::vec(stretch, 1..16), any::<u64>())
            .prop_map(|(stretches, seed)| Self::new(&stretches, seed))
    }

    /// The kind of each unit: whether it must be read, is zero, or is not there.
    fn units(&self, unit: usize) -> Vec<Kind> {
        let all = |kinds: &[Kind], kind| kinds.iter().all(|k| *k == kind);
        let of = |kinds: &[Kind]| match kinds {
            _ if all(kinds, Kind::Absent) => Kind::Absent,
            _ if all(kinds, Kind::Zero) => Kind::Zero,
            _ => Kind::Data,
        };
        self.kinds.chunks(unit / SECTOR).map(of).collect()
    }

    /// What a scan must find: digests in place of fingerprints, none for zeros.
    pub(crate) fn blocks(&self, unit: usize) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let bytes = self.bytes.chunks(unit);
        for (number, (kind, bytes)) in (0..).zip(self.units(unit).into_iter().zip(bytes)) {
            let (pos, len) = (number * unit as u64, bytes.len() as u64);
            let zero = bytes.iter().all(|b| *b == 0);
            match found.last_mut() {
                _ if kind == Kind::Absent => {}
                Some((before, sum, None)) if zero && *before + *sum == pos => *sum += len,
                _ if zero => found.push((pos, len, None)),
                _ => found.push((pos, len, Some(first_half(bytes)))),
            }
        }
        found
    }
}

/// Position, length, and half of the digest unless it is zero.
pub(crate) type Found = (u64, u64, Option<[u8; 16]>);

pub(crate) fn first_half(bytes: &[u8]) -> [u8; 16] {
    Sha256::digest(bytes)[..16].try_into().unwrap()
}

pub(crate) fn found(block: &Block) -> Found {
    let print = match block.content {
        Content::Zero => None,
        Content::Data { print, .. } => Some(print.bytes()),
    };
    (block.pos, block.len, print)
}

pub(crate) fn job(threads: usize) -> Job<'static> {
    Job {
        threads: NonZeroUsize::new(threads).unwrap(),
        ..Job::default()
    }
}

/// All blocks that a scan finds. Also checks that pieces are not empty.
pub(crate) fn scanned(
    recorded: &dyn Disk,
    disk: &dyn Disk,
    unit: usize,
    threads: usize,
) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    scan(
        recorded,
        disk,
        unit as u64,
        200,
        &job(threads),
        &mut |some| {
            assert!(!some.is_empty());
            all.extend(some.iter().map(found));
            Ok(())
        },
    )?;
    Ok(all)
}

/// As the segment records it. Extents are cut every 37 sectors, as no format has to join them.
impl Disk for Model {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        vdisk_core::disk::check_range(self, pos, 1)?;
        let first = pos as usize / SECTOR;
        let same = |s: &usize| self.kinds.get(*s) == self.kinds.get(first) && !s.is_multiple_of(37);
        let mut end = first + 1;
        while same(&end) {
            end += 1;
        }
        let end = (end * SECTOR) as u64;
        Ok(Extent::empty(pos..end.min(self.size()), self.kinds[first]))
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        self.bytes.read_at(pos, buf)?;
        let sectors = pos as usize / SECTOR..(pos as usize + buf.len()).div_ceil(SECTOR);
        if self.kinds[sectors].contains(&Kind::Absent) {
            return Err(Error::new(ErrorKind::Reference, "model", "is absent"));
        }
        Ok(())
    }
}

/// The chain from the segment down: fails if units are read that need not be.
pub(crate) struct Whole<'a> {
    pub(crate) model: &'a Model,
    pub(crate) unit: usize,
}

impl Disk for Whole<'_> {
    fn size(&self) -> u64 {
        self.model.size()
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        self.model.bytes.extent_at(pos)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        let units = pos as usize / self.unit..(pos as usize + buf.len()).div_ceil(self.unit);
        for (unit, kind) in self.model.units(self.unit)[units.clone()]
            .iter()
            .enumerate()
        {
            assert_eq!(*kind, Kind::Data, "unit {unit} of {units:?} was read");
        }
        self.model.bytes.read_at(pos, buf)
    }
}
