//! Takes out of an image what it need not hold, in place or by writing it anew.
//!
//! What that is, is decided here: units that read as zero and, of a child, those that read as the
//! parent does. The format drops them and closes the gaps.

use super::{
    CHUNK, Piece, Resized, Stamp, aligned, changes, child, convert, hash, in_place,
    like::{self, LEVEL, Like},
    read_range,
    redo::Redo,
    runs, stamp,
};
use crate::{
    Chain, Disk, Extent, InFile, Job, Kind, OpenOptions, Result,
    disk::extents,
    format::{Compacted, Compactor, Spec, Update},
    is_zero, open,
    target::{Output, OutputOptions},
    transaction::{self, Medium, Totals, Transaction},
};
use serde::{Deserialize, Serialize};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a new image goes.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Its path.
    pub path: &'a Path,
    /// How it is made.
    pub options: OutputOptions,
    /// The time to stamp it with, in seconds since 1970-01-01 UTC.
    pub created: u64,
}

/// A new image that takes the place of an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its format.
    pub format: &'static str,
    /// Its subformat.
    pub subformat: &'static str,
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// Bytes that the old image takes on the medium.
    pub stored_before: u64,
    /// Bytes that the new one takes.
    pub stored: u64,
    /// SHA-256 of what both read as.
    pub sha256: [u8; 32],
    /// What the new image could not keep, a sentence each.
    pub lost: Vec<String>,
}

/// Writes an image like the topmost of `chain` anew, in order, without what it need not hold, and
/// gives it its name if it reads as the old one. It has the same parent and identity.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) if no images of its kind are written.
pub fn copy(chain: &Chain, target: &Target<'_>, job: &Job<'_>) -> Result<Copied> {
    let top = chain.top();
    like::check_name(top.format(), target.path)?;
    let like = Like::of(top, target.created)?;
    let below = chain.below(1);
    if let Some(below) = &below {
        child::check(below, top.format())?;
    }
    let mut output = Output::create(target.path, target.options.clone())?;
    let place = match &below {
        Some(below) => Some(child::place(below, target.path, false)?.spec),
        None => None,
    };
    let sha256 = hash::digest(chain, job)?;
    let name = target.path.file_name().unwrap_or_default().display();
    let spec = Spec {
        size: chain.size(),
        subformat: like.subformat,
        name: &name.to_string(),
        ids: like.ids,
        level: LEVEL,
        parent: place,
        options: like.options,
    };
    let writer = top.format().create(&mut output, &spec);
    let writer = writer.map_err(|e| e.path(target.path))?;
    match &below {
        Some(below) => changes::write(below, chain, writer, job).map(drop)?,
        None => convert::copy(chain, writer, job)?,
    }
    let layer = output.layer(top.format())?;
    let stored = layer.stored_size();
    let above = below.iter().flat_map(|b| b.layers().iter().cloned());
    let new = Chain::new(std::iter::once(Arc::new(layer)).chain(above).collect())?;
    child::reads_as(&new, chain.size(), &sha256, job).in_file(target.path)?;
    output.publish()?;
    Ok(Copied {
        format: top.format().name(),
        subformat: like.subformat.name,
        virtual_size: chain.size(),
        stored_before: top.stored_size(),
        stored,
        sha256,
        lost: like.lost,
    })
}

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
    /// Bytes of a unit, the smallest piece that the format can remove.
    pub unit: u64,
    /// Bytes of the disk that are stored and read as zero. Where a unit is part of a larger block,
    /// that stays while something else in it is needed.
    pub zero: u64,
    /// Bytes of the disk that are stored although the parent reads the same.
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
        files: stamp::all(chain.files())?,
        image: path.to_owned(),
        format: chain.top().format().name().to_owned(),
    })
}

impl Plan {
    /// The same plan for files that were restored: their times have changed.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            files: stamp::restored(&self.files),
            ..self.clone()
        }
    }

    /// Every path of the plan.
    pub(super) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let files = self.files.iter_mut().map(|stamp| &mut stamp.path);
        files.chain([&mut self.image]).collect()
    }

    /// Makes the change: all of it or, after an error, none. What the image reads as stays the same.
    pub fn apply(
        &self,
        options: &OpenOptions<'_>,
        medium: &dyn Medium,
        job: &Job<'_>,
    ) -> Result<Done> {
        let chain = in_place::open(&self.image, &self.format, &self.files, options)?;
        let redo = Redo::Compact(self.clone());
        let files = in_place::files(&chain);
        let (done, totals) = in_place::run(&files, &self.files, &redo, medium, |t| {
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
    let below = chain.below(1);
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
                        compactor.remove(range, Kind::Zero)?;
                    }
                    Fate::Same => {
                        done.same += len;
                        compactor.remove(range, Kind::Absent)?;
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
