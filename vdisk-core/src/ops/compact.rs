//! Takes out of an image what it need not hold, in place.
//!
//! What that is, is decided here: units that read as zero and, of a child, those that read as the
//! parent does. The format drops them and closes the gaps.

use super::{CHUNK, Piece, Resized, Stamp, aligned, in_place, read_range, redo::Redo, runs};
use crate::{
    Chain, Disk, Extent, Job, Kind, OpenOptions, Result,
    disk::extents,
    format::{Compacted, Compactor, Update},
    is_zero, open,
    transaction::{self, Medium, Totals, Transaction, Work},
};
use serde::{Deserialize, Serialize};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// What is to be done, and to which files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The files of the image as they were when this was planned, then those of its parents.
    pub files: Vec<Stamp>,
    /// The image.
    pub image: PathBuf,
    /// The name of its format.
    pub format: String,
}

/// What a compaction did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Bytes of a unit, the smallest piece that the format can drop.
    pub unit: u64,
    /// Bytes of the disk that are dropped because they read as zero.
    pub zero: u64,
    /// Bytes of the disk that are dropped because the parent reads the same.
    pub same: u64,
    /// Bytes of the disk that are stored and must be.
    pub needed: u64,
    /// What became of the files.
    pub compacted: Compacted,
    /// What that took.
    pub totals: Totals,
}

/// Plans to compact the image at `path`. Nothing is written, and no contents are read:
/// [`Plan::rehearse`] says what can be won.
///
/// # Errors
/// Those of opening the chain.
pub fn plan(path: &Path, options: &OpenOptions<'_>) -> Result<Plan> {
    let chain = open(path, &in_place::options(options))?;
    Ok(Plan {
        files: in_place::stamps(&chain)?,
        image: path.to_owned(),
        format: chain.top().format().name().to_owned(),
    })
}

impl Plan {
    /// The same plan for files that were restored: their times have changed.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut plan = self.clone();
        plan.files.iter_mut().for_each(|f| f.modified = None);
        plan
    }

    /// Makes the change: all of it or, after an error, none. What the image reads as stays the same.
    pub fn apply(
        &self,
        options: &OpenOptions<'_>,
        medium: &dyn Medium,
        job: &Job<'_>,
    ) -> Result<Done> {
        let chain = in_place::open(&self.image, &self.format, &self.files, options)?;
        let mut plan = self.clone();
        plan.image = in_place::absolute(&self.image)?;
        in_place::absolute_stamps(&mut plan.files)?;
        let redo = Redo::Compact(plan).text()?;
        let work = Work {
            files: &in_place::files(&chain),
            redo: &redo,
            medium,
        };
        let (done, totals) = transaction::run(&work, |t| {
            self.files.iter().try_for_each(Stamp::check)?;
            compact(&chain, t, options, job)
        })?;
        Ok(Done { totals, ..done })
    }

    /// Says what [`apply`](Self::apply) would do. Reads all that the image stores.
    pub fn rehearse(&self, options: &OpenOptions<'_>, job: &Job<'_>) -> Result<Done> {
        let chain = in_place::open(&self.image, &self.format, &self.files, options)?;
        let files = in_place::files(&chain);
        let (done, totals) = transaction::rehearse(&files, |t| compact(&chain, t, options, job))?;
        Ok(Done { totals, ..done })
    }
}

fn compact(
    chain: &Chain,
    transaction: &Transaction<'_>,
    options: &OpenOptions<'_>,
    job: &Job<'_>,
) -> Result<Done> {
    let top = chain.top();
    let update = Update {
        context: in_place::context(options),
        ids: None,
    };
    let compactor = top.format().compact(top, transaction, &update);
    let mut compactor = compactor.map_err(|e| e.path(top.path()))?;
    let mut done = find(chain, &mut *compactor, job)?;
    done.compacted = compactor.finish()?;
    Ok(done)
}

/// What becomes of a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It stays.
    Needed,
    /// It reads as zero.
    Zero,
    /// It reads as the parent does.
    Same,
}

/// Gives `compactor` all that need not be stored.
fn find(chain: &Chain, compactor: &mut dyn Compactor, job: &Job<'_>) -> Result<Done> {
    let (unit, size) = (compactor.unit(), chain.size());
    let below: Vec<_> = chain.layers().iter().skip(1).cloned().collect();
    let below = match below.is_empty() {
        true => None,
        false => Some(Chain::new(below)?),
    };
    // The parent as the child sees it: cut, or followed by zeros.
    let parent = below.as_ref().map(|below| Resized::new(below, size));
    let parent = parent.as_ref().map(|parent| parent as &dyn Disk);
    let top: &dyn Disk = chain.top();
    // Also zeros hide something, and can be dropped where it is the same.
    let recorded = |e: &Extent| e.kind == Kind::Data || (parent.is_some() && e.kind == Kind::Zero);
    let spans = extents(top, 0..size, |a, b| a.kind == b.kind).map(|extent| {
        extent.map(|e| Piece {
            data: recorded(&e),
            range: e.range,
        })
    });
    job.watch.phase("compact", size);
    let mut done = Done {
        unit,
        ..Done::default()
    };
    job.in_order(
        // A piece is whole units, whatever their size.
        aligned(spans, size, unit, CHUNK.max(unit)),
        |piece| {
            let fates = match piece.data {
                true => fates(chain, parent, &piece.range, unit)?,
                false => Vec::new(),
            };
            Ok((piece.range, fates))
        },
        |(all, fates)| {
            for (range, fate) in fates {
                let len = range.end - range.start;
                match fate {
                    Fate::Needed => done.needed += len,
                    Fate::Zero => {
                        done.zero += len;
                        compactor.drop(range, Kind::Zero)?;
                    }
                    Fate::Same => {
                        done.same += len;
                        compactor.drop(range, Kind::Absent)?;
                    }
                }
            }
            job.advance(all.end - all.start)
        },
    )?;
    Ok(done)
}

/// What becomes of the units of `range`, neighbours joined. One larger than a chunk is alone in it.
fn fates(
    disk: &dyn Disk,
    parent: Option<&dyn Disk>,
    range: &Range<u64>,
    unit: u64,
) -> Result<Vec<(Range<u64>, Fate)>> {
    let fate = |same, zero| match (same, zero) {
        (true, _) => Fate::Same,
        (_, true) => Fate::Zero,
        _ => Fate::Needed,
    };
    let (mut all_same, mut all_zero) = (true, true);
    let mut start = range.start;
    while start < range.end && (all_same || all_zero) {
        let part = start..range.end.min(start.saturating_add(CHUNK));
        start = part.end;
        let bytes = read_range(disk, &part)?;
        let below = parent.map(|parent| read_range(parent, &part)).transpose()?;
        let look = |inside: Range<usize>| {
            let own = bytes.get(inside.clone()).unwrap_or_default();
            let same = below.as_ref().is_some_and(|b| b.get(inside) == Some(own));
            (same, is_zero(own))
        };
        if unit <= CHUNK {
            let found = runs(part.start, bytes.len(), unit, |inside| {
                let (same, zero) = look(inside);
                fate(same, zero)
            });
            let found = found.into_iter().map(|(range, _, fate)| (range, fate));
            return Ok(found.collect());
        }
        let (same, zero) = look(0..bytes.len());
        (all_same, all_zero) = (all_same && same, all_zero && zero);
    }
    Ok(vec![(range.clone(), fate(all_same, all_zero))])
}
