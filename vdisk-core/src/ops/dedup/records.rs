//! What is counted of every block, on its way to be sorted.

use super::{
    Fingerprint,
    cuts::{Cut, Cuts},
    frame::{Frame, Seen},
    sorter::Sorter,
    tally::{Class, Print},
};
use crate::{Job, Result};
use std::path::Path;

/// Takes changes of what images hold, and sums what needs no sorting.
pub(super) struct Records {
    pub(super) sorter: Sorter<Print>,
    /// How many it was given.
    pub(super) pushed: u64,
    /// By size and node: bytes of data that images over the node have more than those below it.
    data: Vec<i64>,
    nodes: usize,
    sample_bits: u32,
}

impl Records {
    pub(super) fn new(
        memory: u64,
        temp: &Path,
        sizes: usize,
        nodes: usize,
        sample_bits: u32,
    ) -> Self {
        Self {
            sorter: Sorter::new(memory, temp),
            pushed: 0,
            data: vec![0; sizes * nodes],
            nodes,
            sample_bits,
        }
    }

    /// Counts what `frame` of `node`, a group that starts at `pos`, has other than `below`.
    pub(super) fn frame(
        &mut self,
        node: usize,
        frame: &mut Frame,
        below: Option<&mut Frame>,
        cuts: &Cuts,
        pos: u64,
        job: &Job<'_>,
    ) -> Result<()> {
        frame.changes(below, cuts, pos, &mut |cut, new, old| {
            self.change(node, cut, new, old, job)
        })
    }

    /// A block of `node`: what images over it have now, and what they would have without it.
    pub(super) fn change(
        &mut self,
        node: usize,
        cut: &Cut,
        new: Option<Seen>,
        old: Option<Seen>,
        job: &Job<'_>,
    ) -> Result<()> {
        for (seen, sign) in [(new, 1i8), (old, -1)] {
            let Some(Seen { print, len }) = seen else {
                continue;
            };
            if let Class::Size(size) = cut.class {
                // A block has at most 16 MiB, and a disk at most 2^53 bytes: no overflow.
                let sum = &mut self.data[usize::from(size) * self.nodes + node];
                *sum += i64::from(sign) * i64::try_from(len).unwrap_or(0);
            }
            self.push(node, cut.class, print, len, sign, job)?;
        }
        Ok(())
    }

    /// A record about images of span `span`, if it is in the sample.
    pub(super) fn push(
        &mut self,
        span: usize,
        class: Class,
        print: Fingerprint,
        len: u64,
        sign: i8,
        job: &Job<'_>,
    ) -> Result<()> {
        if !print.starts_with_zeros(self.sample_bits) {
            return Ok(());
        }
        self.pushed += 1;
        let record = Print {
            print: u128::from_be_bytes(print.bytes()),
            kind: Print::kind(class, len),
            span: u32::try_from(span).unwrap_or_else(|_| unreachable!()),
            count: sign.into(),
        };
        self.sorter.push(record, job)
    }

    /// By node: bytes of data, at block size number `size`, more than images below it have.
    pub(super) fn data(&self, size: usize) -> &[i64] {
        &self.data[size * self.nodes..][..self.nodes]
    }
}
