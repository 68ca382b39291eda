//! Siblings merged: several disks made from one base, block by block.
//!
//! Changed in one sibling: taken. Changed alike: taken. Changed differently: a conflict, which is
//! never settled silently. Two file systems that each add one file to the same base choose the
//! same free blocks; "last one wins" would lose a file and leave a clean-looking disk.

use super::{CHUNK, Resized, diff::surely_alike, read_range};
use crate::{
    Disk, Error, ErrorKind, Extent, Kind, Result, disk::check_range, disk::part_len,
    units::round_down,
};
use std::{ops::Range, sync::Arc};

/// One of the disks being merged.
#[derive(Clone)]
pub struct Sibling {
    /// Its name, for reports.
    pub name: String,
    /// Its contents; may be shorter than the merged disk.
    pub disk: Arc<dyn Disk>,
}

/// Who wins a conflict in a range that the user vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// Index of the sibling whose blocks are taken.
    pub sibling: usize,
    /// Where this holds, in bytes of the disk.
    pub range: Range<u64>,
}

/// How siblings are merged.
#[derive(Clone, Debug)]
pub struct MergeOptions {
    /// Bytes of a block: changes by two siblings within one collide even if they are disjoint.
    /// A power of two from 512 to 1 MiB.
    pub granularity: u64,
    /// Earlier ones go first.
    pub preferences: Vec<Preference>,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            granularity: 512,
            preferences: Vec::new(),
        }
    }
}

/// A base and its siblings, read as the one disk they merge into.
///
/// Reading a block in conflict that no preference settles fails with [`ErrorKind::Conflict`].
pub struct Merged {
    base: Sibling,
    siblings: Vec<Sibling>,
    options: MergeOptions,
    size: u64,
}

/// What is known at a position without reading.
pub(super) struct Suspects {
    pub(super) base: Extent,
    /// The siblings that may differ from the base there.
    pub(super) differ: Vec<(usize, Extent)>,
    /// Until where that holds.
    pub(super) end: u64,
}

/// What becomes of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No sibling changed it.
    Base,
    /// Taken from this sibling: the only one that changed it.
    Taken(usize),
    /// Changed by these, alike.
    Alike(Vec<usize>),
    /// Changed by these, differently; settled for one of them or not at all.
    Conflict(Vec<usize>, Option<usize>),
}

impl Merged {
    /// Bytes of a block.
    pub(super) fn granularity(&self) -> u64 {
        self.options.granularity
    }

    /// How many siblings there are.
    pub(super) fn siblings(&self) -> usize {
        self.siblings.len()
    }

    /// Merges `siblings` of `base`. The disk is as long as the longest of them all. Past the end of
    /// a sibling the base shows, and past the end of the base zeros.
    pub fn new(base: Sibling, siblings: Vec<Sibling>, options: MergeOptions) -> Result<Self> {
        let granularity = options.granularity;
        if !granularity.is_power_of_two() || !(512..=CHUNK).contains(&granularity) {
            let detail = format!("{granularity} is not a power of two between 512 and {CHUNK}");
            return Err(Error::new(ErrorKind::Usage, "granularity", detail));
        }
        let all = || std::iter::once(&base).chain(&siblings);
        if let Some(odd) = all().find(|s| s.disk.sector_size() != base.disk.sector_size()) {
            let detail = format!(
                "'{}' has sectors of {} bytes, and the base of {}",
                odd.name,
                odd.disk.sector_size(),
                base.disk.sector_size()
            );
            return Err(Error::new(ErrorKind::Unsupported, "merge", detail));
        }
        let size = all().map(|s| s.disk.size()).max().unwrap_or(0);
        Ok(Self {
            base,
            siblings,
            options,
            size,
        })
    }

    pub(super) fn base(&self) -> Resized<'_> {
        Resized::new(&*self.base.disk, self.size)
    }

    fn sibling(&self, index: usize) -> Result<Over<'_>> {
        self.siblings
            .get(index)
            .map(|s| Over {
                disk: &*s.disk,
                base: self.base(),
            })
            .ok_or_else(|| Error::new(ErrorKind::Usage, "preference", "names no sibling"))
    }

    /// Which siblings may differ from the base at `pos`.
    pub(super) fn suspects(&self, pos: u64) -> Result<Suspects> {
        let base = self.base().extent_at(pos)?;
        let mut end = base.range.end;
        let mut suspects = Vec::new();
        for index in 0..self.siblings.len() {
            let extent = self.sibling(index)?.extent_at(pos)?;
            end = end.min(extent.range.end);
            if !surely_alike(&base, &extent) {
                suspects.push((index, extent));
            }
        }
        Ok(Suspects {
            base,
            differ: suspects,
            end,
        })
    }

    /// The siblings that may differ from the base anywhere in `range`.
    fn suspects_in(&self, range: &Range<u64>) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        let mut pos = range.start;
        while pos < range.end {
            let here = self.suspects(pos)?;
            found.extend(here.differ.into_iter().map(|(index, _)| index));
            pos = here.end;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn preferred(&self, among: &[usize], block: &Range<u64>) -> Option<usize> {
        self.options
            .preferences
            .iter()
            .find(|p| {
                among.contains(&p.sibling)
                    && p.range.start <= block.start
                    && block.end <= p.range.end
            })
            .map(|p| p.sibling)
    }

    /// Decides the block `range`, given what the base and the suspects hold there.
    fn verdict(&self, range: &Range<u64>, base: &[u8], suspects: &[(usize, &[u8])]) -> Verdict {
        let changed: Vec<_> = suspects
            .iter()
            .filter(|(_, bytes)| *bytes != base)
            .collect();
        match changed.as_slice() {
            [] => Verdict::Base,
            [(index, _)] => Verdict::Taken(*index),
            [(_, bytes), others @ ..] => {
                let among: Vec<usize> = changed.iter().map(|(index, _)| *index).collect();
                if others.iter().all(|(_, b)| b == bytes) {
                    return Verdict::Alike(among);
                }
                let settled = self.preferred(&among, range);
                Verdict::Conflict(among, settled)
            }
        }
    }

    /// Reads `range`, which starts and ends on a block, and calls `each` with the verdict and the
    /// merged bytes of every block. Bytes in conflict are those of the base.
    pub(super) fn decide(
        &self,
        range: &Range<u64>,
        mut each: impl FnMut(Range<u64>, Verdict, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let base = read_range(&self.base(), range)?;
        let mut suspects = Vec::new();
        for index in self.suspects_in(range)? {
            suspects.push((index, read_range(&self.sibling(index)?, range)?));
        }
        let step = usize::try_from(self.options.granularity).unwrap_or(usize::MAX);
        for at in (0..base.len()).step_by(step) {
            let inside = at..base.len().min(at + step);
            let of =
                |bytes: &'_ [u8]| -> Range<usize> { inside.start..inside.end.min(bytes.len()) };
            let here = base.get(of(&base)).unwrap_or_default();
            let theirs: Vec<(usize, &[u8])> = suspects
                .iter()
                .map(|(index, bytes)| (*index, bytes.get(of(bytes)).unwrap_or_default()))
                .collect();
            let block = range.start + inside.start as u64..range.start + inside.end as u64;
            let verdict = self.verdict(&block, here, &theirs);
            let winner = match &verdict {
                Verdict::Taken(index) => Some(*index),
                Verdict::Alike(among) => among.first().copied(),
                Verdict::Conflict(_, settled) => *settled,
                Verdict::Base => None,
            };
            let merged = theirs
                .iter()
                .find(|(index, _)| Some(*index) == winner)
                .map_or(here, |(_, bytes)| bytes);
            each(block, verdict, here, merged)?;
        }
        Ok(())
    }

    /// The names of the siblings `indexes`, for messages.
    fn names(&self, indexes: &[usize]) -> String {
        let names: Vec<String> = indexes
            .iter()
            .filter_map(|&i| self.siblings.get(i))
            .map(|s| format!("'{}'", s.name))
            .collect();
        names.join(" and ")
    }
}

impl Disk for Merged {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector_size(&self) -> u32 {
        self.base.disk.sector_size()
    }

    fn extent_at(&self, pos: u64) -> Result<Extent> {
        check_range(self, pos, 1)?;
        let Suspects { base, differ, end } = self.suspects(pos)?;
        let mut extent = match differ.as_slice() {
            [] => base,
            // One sibling's word is the result there, whether it really changed anything or not.
            [(_, only)] if self.options.granularity == 512 => only.clone(),
            several => {
                let zero =
                    base.kind == Kind::Zero && several.iter().all(|(_, e)| e.kind == Kind::Zero);
                Extent::empty(pos..end, if zero { Kind::Zero } else { Kind::Data })
            }
        };
        extent.range.end = end;
        Ok(extent)
    }

    fn read_at(&self, mut pos: u64, mut buf: &mut [u8]) -> Result<()> {
        check_range(self, pos, buf.len())?;
        let block = self.options.granularity;
        while !buf.is_empty() {
            let start = round_down(pos, block);
            let here = self.suspects(pos)?;
            if block == 512 && here.differ.len() < 2 {
                let (part, rest) = buf.split_at_mut(part_len(buf.len(), pos, here.end));
                match here.differ.first() {
                    None => self.base().read_at(pos, part)?,
                    Some((index, _)) => self.sibling(*index)?.read_at(pos, part)?,
                }
                pos += part.len() as u64;
                buf = rest;
                continue;
            }
            let limit = (pos + buf.len() as u64).next_multiple_of(block);
            let range = start..limit.min(start + CHUNK).min(self.size);
            let (part, rest) = buf.split_at_mut(part_len(buf.len(), pos, range.end));
            self.decide(&range, |at, verdict, _, bytes| {
                if let Verdict::Conflict(among, None) = verdict {
                    let detail = format!(
                        "{} changed bytes {}..{} in different ways",
                        self.names(&among),
                        at.start,
                        at.end
                    );
                    return Err(Error::new(ErrorKind::Conflict, "merge", detail));
                }
                copy_overlap(at.start, bytes, pos, part);
                Ok(())
            })?;
            pos += part.len() as u64;
            buf = rest;
        }
        Ok(())
    }
}

/// A sibling, followed by the base where that is longer: past its end a sibling says nothing.
struct Over<'a> {
    disk: &'a dyn Disk,
    base: Resized<'a>,
}

impl Disk for Over<'_> {
    fn size(&self) -> u64 {
        self.base.size()
    }
    fn sector_size(&self) -> u32 {
        self.disk.sector_size()
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        match pos < self.disk.size() {
            true => self.disk.extent_at(pos),
            false => self.base.extent_at(pos),
        }
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        let (own, rest) = buf.split_at_mut(part_len(buf.len(), pos, self.disk.size()));
        if !own.is_empty() {
            self.disk.read_at(pos, own)?;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => self.base.read_at(pos + own.len() as u64, rest),
        }
    }
}

/// Copies from `bytes`, which lie at `at`, what falls into `buf`, which lies at `pos`.
fn copy_overlap(at: u64, bytes: &[u8], pos: u64, buf: &mut [u8]) {
    let skip = usize::try_from(pos.saturating_sub(at)).unwrap_or(usize::MAX);
    let lead = usize::try_from(at.saturating_sub(pos)).unwrap_or(usize::MAX);
    if let (Some(from), Some(to)) = (bytes.get(skip..), buf.get_mut(lead..)) {
        let len = from.len().min(to.len());
        if let (Some(from), Some(to)) = (from.get(..len), to.get_mut(..len)) {
            to.copy_from_slice(from);
        }
    }
}
