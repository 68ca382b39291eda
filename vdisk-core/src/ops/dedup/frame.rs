//! One group of units as a node sees it, and the blocks that they make.

use super::{
    Fingerprint,
    cuts::{Cut, Cuts},
};
use crate::Result;
use std::ops::Range;

/// A group of a disk: what each unit holds, and which of them are the node's own.
pub(super) struct Frame {
    /// Size of the node's disk in bytes.
    size: u64,
    /// Zeros are none.
    units: Vec<Option<Fingerprint>>,
    /// Of blocks of several units, by cut: what was worked out already.
    prints: Vec<Vec<Option<Option<Fingerprint>>>>,
    /// Ascending.
    own: Vec<Range<usize>>,
}

/// A block that is not all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) print: Fingerprint,
    /// In bytes.
    pub(super) len: u64,
}

/// Receives what a node changes: the cut, what images over it have more of, and what less.
pub(super) type Changes<'a> = dyn FnMut(&Cut, Option<Seen>, Option<Seen>) -> Result<()> + 'a;

impl Frame {
    pub(super) fn new(cuts: &Cuts) -> Self {
        let blocks = |cut: &Cut| match cut.units {
            1 => 0,
            units => cuts.group / units,
        };
        Self {
            size: 0,
            units: vec![None; cuts.group],
            prints: cuts.all.iter().map(|c| vec![None; blocks(c)]).collect(),
            own: vec![],
        }
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(cuts: &Cuts) -> u64 {
        let entries: usize = cuts.all.iter().map(|c| cuts.group / c.units).sum();
        (entries + cuts.group) as u64 * size_of::<Option<Fingerprint>>() as u64
    }

    /// Makes it a group of a disk of `size` bytes, which holds what `below` does so far.
    pub(super) fn start(&mut self, size: u64, below: Option<&Self>) {
        self.size = size;
        self.own.clear();
        for prints in &mut self.prints {
            prints.fill(None);
        }
        match below {
            Some(below) => self.units.copy_from_slice(&below.units),
            None => self.units.fill(None),
        }
    }

    /// True if nothing was set since it started.
    pub(super) fn untouched(&self) -> bool {
        self.own.is_empty()
    }

    /// Sets the node's own `units`, ascending: to zeros, or one to `print`.
    pub(super) fn set(&mut self, units: Range<usize>, print: Option<Fingerprint>) {
        self.units[units.clone()].fill(print);
        match self.own.last_mut().filter(|last| last.end >= units.start) {
            Some(last) => last.end = last.end.max(units.end),
            None => self.own.push(units),
        }
    }

    /// Makes `unit` the node's own as it is, because its disk is longer there than that below.
    pub(super) fn touch(&mut self, unit: usize) {
        let at = self.own.partition_point(|range| range.end <= unit);
        if self.own.get(at).is_none_or(|range| range.start > unit) {
            self.own.insert(at, unit..unit + 1);
        }
    }

    /// Says in which blocks, of all cuts, it differs from `below`; the group starts at `pos`.
    pub(super) fn changes(
        &mut self,
        mut below: Option<&mut Self>,
        cuts: &Cuts,
        pos: u64,
        sink: &mut Changes<'_>,
    ) -> Result<()> {
        let own = std::mem::take(&mut self.own);
        for (number, cut) in cuts.all.iter().enumerate() {
            let mut next = 0;
            for range in &own {
                let first = (range.start / cut.units).max(next);
                next = range.end.div_ceil(cut.units);
                for block in first..next {
                    let old = below
                        .as_deref_mut()
                        .and_then(|b| b.block(number, cut, pos, block));
                    let new = self.block(number, cut, pos, block);
                    if new != old {
                        sink(cut, new, old)?;
                    }
                }
            }
        }
        self.own = own;
        Ok(())
    }

    /// Block number `block` of the group; none if it is all zero, or behind the end of the disk.
    fn block(&mut self, number: usize, cut: &Cut, pos: u64, block: usize) -> Option<Seen> {
        let start = pos + block as u64 * cut.bytes;
        let len = self.size.checked_sub(start)?.min(cut.bytes);
        let print = if cut.units == 1 {
            self.units[block]
        } else {
            let units = &self.units[block * cut.units..][..cut.units];
            let known = &mut self.prints[number][block];
            *known.get_or_insert_with(|| cut.print(units, len, start))
        };
        print.map(|print| Seen { print, len })
    }
}
