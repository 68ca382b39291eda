//! What each image of the families sees, from what each of its segments records.
//!
//! Group by group, of all families at once, in the order of the ranks: so what a node inherits is in
//! the topmost frame of those under it, and memory is bounded by the height of the tallest family,
//! whatever their sizes.

use super::{
    cuts::Cuts,
    forest::Forest,
    frame::Frame,
    position::{Position, Units},
    records::Records,
};
use crate::{Job, Result};
use std::{collections::BTreeMap, ops::Range};

/// Takes positions in their order and counts what they change.
pub(super) struct Resolver<'a> {
    forest: &'a Forest,
    cuts: &'a Cuts,
    /// By node: true if no image over it is counted.
    dead: &'a [bool],
    records: &'a mut Records,
    job: &'a Job<'a>,
    /// The group at hand.
    group: u64,
    /// What nodes record in it, from the base up the path: the first `stack.len()` of them are in use.
    frames: Vec<Frame>,
    /// Their nodes, and behind the last ranks over them.
    stack: Vec<(usize, u32)>,
    /// What the node at hand records in the group.
    rank: u32,
    pieces: Vec<(u16, Units)>,
    /// By rank: zeros that a node recorded before, up to this unit of the disk. One entry in place
    /// of one for each group, because nodes may well record terabytes of zeros.
    zeros: BTreeMap<u32, u64>,
    /// Nodes before this rank are done with the group.
    next: u32,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        forest: &'a Forest,
        cuts: &'a Cuts,
        dead: &'a [bool],
        records: &'a mut Records,
        job: &'a Job<'a>,
    ) -> Self {
        Self {
            forest,
            cuts,
            dead,
            records,
            job,
            group: 0,
            frames: vec![],
            stack: vec![],
            rank: 0,
            pieces: vec![],
            zeros: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn add(&mut self, position: Position) -> Result<()> {
        let Position {
            group, rank, unit, ..
        } = position;
        if (group, rank) != (self.group, self.rank) {
            self.node()?;
        }
        if group != self.group {
            self.zeros_before(u32::MAX)?;
            self.stack.clear();
            self.group = group;
            self.next = 0;
        }
        self.rank = rank;
        self.pieces.push((unit, position.content));
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.node()?;
        self.zeros_before(u32::MAX)
    }

    /// Counts the node at hand, and those before it.
    fn node(&mut self) -> Result<()> {
        let pieces = std::mem::take(&mut self.pieces);
        if !pieces.is_empty() {
            self.zeros_before(self.rank)?;
            self.enter(self.rank, &pieces)?;
        }
        self.pieces = pieces;
        self.pieces.clear();
        Ok(())
    }

    /// Counts the nodes before `rank` that have only zeros from an earlier group here, as far as they
    /// lie over one that has something.
    fn zeros_before(&mut self, rank: u32) -> Result<()> {
        while let Some(&(_, end)) = self.stack.first() {
            let behind = rank.min(end).max(self.next);
            let Some((&rank, _)) = self.zeros.range(self.next..behind).next() else {
                break;
            };
            self.enter(rank, &[])?;
        }
        Ok(())
    }

    /// Counts the node of `rank`, which records `pieces` here.
    fn enter(&mut self, rank: u32, pieces: &[(u16, Units)]) -> Result<()> {
        self.next = rank + 1;
        let (node, end) = self.forest.at(rank);
        let all = self.cuts.group;
        let begin = self.group * all as u64;
        let zeros = self.zeros_here(rank, begin, all);
        self.remember(rank, begin, pieces);
        while self.stack.last().is_some_and(|&(_, end)| end <= rank) {
            self.stack.pop();
        }
        let data = pieces.iter().any(|(_, p)| matches!(p, Units::Data(_)));
        let hides = self.stack.last().is_some() && (!pieces.is_empty() || !zeros.is_empty());
        if self.dead[node] || !(data || hides) {
            return Ok(());
        }
        let depth = self.stack.len();
        if self.frames.len() == depth {
            self.frames.push(Frame::new(self.cuts));
        }
        let (below, above) = self.frames.split_at_mut(depth);
        let (Some(frame), mut below) = (above.first_mut(), below.last_mut()) else {
            return Ok(()); // there is one: it was made just now
        };
        frame.start(self.forest.nodes()[node].size, below.as_deref());
        if !zeros.is_empty() {
            frame.set(zeros, None);
        }
        for &(unit, content) in pieces {
            let unit = usize::from(unit);
            match content {
                Units::Seam => frame.touch(unit),
                Units::Data(print) => frame.set(unit..unit + 1, Some(print)),
                Units::Zeros(units) => {
                    let units = usize::try_from(units.get()).unwrap_or(all);
                    frame.set(unit..unit.saturating_add(units).min(all), None);
                }
            }
        }
        let pos = self.group * self.cuts.group_bytes();
        self.records
            .frame(node, frame, below.take(), self.cuts, pos, self.job)?;
        self.stack.push((node, end));
        Ok(())
    }

    /// The units of the group, from the first on, that the node of `rank` has zeros in since an earlier one.
    fn zeros_here(&mut self, rank: u32, begin: u64, all: usize) -> Range<usize> {
        let end = self.zeros.get(&rank).copied().unwrap_or(0);
        if end <= begin {
            self.zeros.remove(&rank);
            return 0..0;
        }
        0..usize::try_from(end - begin).map_or(all, |units| units.min(all))
    }

    /// Keeps zeros that go on behind the group.
    fn remember(&mut self, rank: u32, begin: u64, pieces: &[(u16, Units)]) {
        for &(unit, content) in pieces {
            let Units::Zeros(units) = content else {
                continue;
            };
            let end = begin + u64::from(unit) + units.get();
            if end > begin + self.cuts.group as u64 {
                self.zeros.insert(rank, end);
            }
        }
    }
}
