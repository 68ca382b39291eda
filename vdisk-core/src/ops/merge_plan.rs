//! What merging siblings would do, and where they collide, before anything is written.

use super::{
    CHUNK, Piece, aligned,
    merge::{Merged, Verdict},
};
use crate::{Disk, Job, Kind, Result, is_zero};
use std::ops::Range;

/// Neighbouring blocks that the same siblings changed in different ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// From the first to the last block; blocks between may agree.
    pub range: Range<u64>,
    /// In blocks that are in conflict.
    pub bytes: u64,
    /// Indexes of the siblings.
    pub siblings: Vec<usize>,
    /// Who wins by preference, if somebody does.
    pub settled: Option<usize>,
}

/// Conflicts closer than this are shown as one, in bytes.
pub const CONFLICT_GAP: u64 = 64 << 10;

/// Conflicts that are listed; further ones are only counted.
pub const CONFLICTS_LISTED: usize = 10_000;

/// What merging would do, in bytes of the merged disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergePlan {
    /// Not changed by any sibling, zeros included.
    pub base: u64,
    /// Changed by one sibling alone, or won by preference; a number for each sibling.
    pub taken: Vec<u64>,
    /// Changed by several siblings, alike.
    pub alike: u64,
    /// In conflict and not settled.
    pub conflict: u64,
    /// In conflict, but settled by a preference; counted in `taken` as well.
    pub settled: u64,
    /// Groups of neighbouring conflicts, settled or not, in order; at most [`CONFLICTS_LISTED`].
    pub conflicts: Vec<Conflict>,
    /// Groups of conflicts not listed.
    pub unlisted: u64,
    /// The group that further blocks may still join.
    last: Option<Conflict>,
    /// Bytes of the base that are not zero.
    pub base_data: u64,
    /// Bytes, not zero, in which each sibling is as the base: none at all means another origin.
    pub shared: Vec<u64>,
}

impl MergePlan {
    fn add(&mut self, block: &Range<u64>, verdict: Verdict) {
        let len = block.end - block.start;
        let mut take = |index: usize| {
            if let Some(taken) = self.taken.get_mut(index) {
                *taken += len;
            }
        };
        match verdict {
            Verdict::Base => self.base += len,
            Verdict::Taken(index) => take(index),
            Verdict::Alike(_) => self.alike += len,
            Verdict::Conflict(siblings, settled) => {
                match settled {
                    Some(index) => {
                        take(index);
                        self.settled += len;
                    }
                    None => self.conflict += len,
                }
                self.list(block, siblings, settled);
            }
        }
    }

    fn list(&mut self, block: &Range<u64>, siblings: Vec<usize>, settled: Option<usize>) {
        let len = block.end - block.start;
        match self.last.as_mut() {
            Some(last)
                if last.siblings == siblings
                    && last.settled == settled
                    && block.start - last.range.end <= CONFLICT_GAP =>
            {
                last.range.end = block.end;
                last.bytes += len;
            }
            _ => {
                self.close();
                self.last = Some(Conflict {
                    range: block.clone(),
                    bytes: len,
                    siblings,
                    settled,
                });
            }
        }
    }

    /// Lists the group in hand, or counts it if the list is full.
    fn close(&mut self) {
        match self.last.take() {
            Some(last) if self.conflicts.len() < CONFLICTS_LISTED => self.conflicts.push(last),
            Some(_) => self.unlisted += 1,
            None => {}
        }
    }
}

/// Looks at all that may differ, and says what merging would do. Writes nothing.
///
/// ```
/// # use std::sync::Arc;
/// # use vdisk_core::{Disk, Job, ops::{merge::{Merged, Sibling}, merge_plan}, testing};
/// let disk = |marks: &[(u64, Option<u8>)]| -> Arc<dyn Disk> { Arc::new(testing::disk(marks)) };
/// let named = |name: &str, disk| Sibling { name: name.into(), disk };
/// let base = named("base", disk(&[(2048, Some(1))]));
/// let a = named("a", disk(&[(512, Some(2)), (2048, Some(1))]));
/// let b = named("b", disk(&[(1536, Some(1)), (2048, Some(3))]));
/// let merged = Merged::new(base, vec![a, b], Default::default())?;
/// let plan = merge_plan::plan(&merged, &Job::default())?;
/// assert_eq!((plan.base, plan.taken, plan.conflict), (1024, vec![512, 512], 0));
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn plan(merged: &Merged, job: &Job<'_>) -> Result<MergePlan> {
    let siblings = merged.siblings();
    let mut plan = MergePlan {
        taken: vec![0; siblings],
        shared: vec![0; siblings],
        ..MergePlan::default()
    };
    job.watch.phase("plan", merged.size());
    let block = merged.granularity();
    let mut pos = 0;
    let spans = std::iter::from_fn(|| {
        if pos >= merged.size() {
            return None;
        }
        let span = merged.suspects(pos).map(|here| Piece {
            range: pos..here.end,
            data: !here.differ.is_empty(),
        });
        pos = span.as_ref().map_or(merged.size(), |s| s.range.end);
        Some(span)
    });
    job.in_order(
        aligned(spans, merged.size(), block, CHUNK),
        |piece| examine(merged, piece),
        |found| {
            plan.base += found.base;
            plan.base_data += found.base_data;
            for (total, more) in plan.shared.iter_mut().zip(&found.shared) {
                *total += more;
            }
            for (range, verdict) in found.changed {
                plan.add(&range, verdict);
            }
            job.advance(found.len)
        },
    )?;
    plan.close();
    Ok(plan)
}

/// What one piece adds to the plan.
struct Examined {
    len: u64,
    base: u64,
    base_data: u64,
    shared: Vec<u64>,
    changed: Vec<(Range<u64>, Verdict)>,
}

fn examine(merged: &Merged, piece: Piece) -> Result<Examined> {
    let range = piece.range;
    let len = range.end - range.start;
    let mut found = Examined {
        len,
        base: 0,
        base_data: 0,
        shared: vec![0; merged.siblings()],
        changed: Vec::new(),
    };
    if !piece.data {
        found.base = len;
        let stored = merged.base().extent_at(range.start)?.kind == Kind::Data;
        if stored {
            found.base_data = len;
            found.shared.fill(len);
        }
        return Ok(found);
    }
    merged.decide(&range, |block, verdict, base, _| {
        let len = block.end - block.start;
        let changed_by = |index: usize| match &verdict {
            Verdict::Base => false,
            Verdict::Taken(one) => *one == index,
            Verdict::Alike(among) | Verdict::Conflict(among, _) => among.contains(&index),
        };
        if !is_zero(base) {
            found.base_data += len;
            for (index, shared) in found.shared.iter_mut().enumerate() {
                if !changed_by(index) {
                    *shared += len;
                }
            }
        }
        match verdict {
            Verdict::Base => found.base += len,
            verdict => found.changed.push((block, verdict)),
        }
        Ok(())
    })?;
    Ok(found)
}
