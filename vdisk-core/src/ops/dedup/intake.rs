//! Checking the blocks that come in, and putting them where they are counted.

use super::{
    Block, Content, Count, Node,
    forest::corrupt,
    position::{Length, Position, Units},
    sorter::Sorter,
};
use crate::{Error, Job, Result};

impl Count {
    /// Checks a block of the current node, and takes it up.
    pub(super) fn block(&mut self, node: usize, block: &Block, job: &Job<'_>) -> Result<()> {
        let Node { size, parent, .. } = self.forest.nodes()[node];
        let unit = self.options.unit;
        let Block { pos, len, content } = *block;
        let next = self.added[node].unwrap_or(0);
        let ordered = match parent {
            None => pos == next,
            Some(_) => pos >= next && pos.is_multiple_of(unit),
        };
        if self
            .seam(node)
            .is_some_and(|seam| next <= seam && pos > seam)
        {
            return Err(bad(node, block, "and none where the disk below ends"));
        }
        let end = pos.checked_add(len).filter(|&end| end <= size && len > 0);
        let Some(end) = end.filter(|_| ordered) else {
            return Err(bad(node, block, &format!("after byte {next} of {size}")));
        };
        match content {
            Content::Zero if end != size && !end.is_multiple_of(unit) => {
                return Err(bad(node, block, "which ends within a unit"));
            }
            Content::Data { .. } if len != unit.min(size - pos) => {
                return Err(bad(node, block, &format!("and units of {unit}")));
            }
            _ => {}
        }
        if let Content::Data { print, deflated } = content {
            let len = u32::try_from(len).unwrap_or(u32::MAX); // at most 16 MiB
            if let Some(deflated) = deflated {
                if deflated > len {
                    return Err(bad(node, block, "which deflate made larger"));
                }
                self.deflated.add(print, len, deflated);
            }
        }
        self.added[node] = Some(end);
        if self.forest.alone(node) {
            self.single(node, block, job)
        } else {
            self.relative(node, block, job)
        }
    }

    /// Where a unit starts in which the disk below ends and this one goes on: it has to be recorded,
    /// because no fingerprint of the one below says what is in it.
    pub(super) fn seam(&self, node: usize) -> Option<u64> {
        let nodes = self.forest.nodes();
        let below = nodes[nodes[node].parent?].size;
        let rest = below % self.options.unit;
        (rest > 0 && below < nodes[node].size).then(|| below - rest)
    }

    /// A block of a node without relatives.
    fn single(&mut self, node: usize, block: &Block, job: &Job<'_>) -> Result<()> {
        let Content::Data { print, .. } = block.content else {
            return Ok(()); // a frame is zeros where nothing is set
        };
        let (group, unit) = self.split(block.pos);
        if group != self.group || self.frame.untouched() {
            self.flush(job)?;
            self.group = group;
            self.frame.start(self.forest.nodes()[node].size, None);
        }
        self.frame.set(unit..unit + 1, Some(print));
        Ok(())
    }

    /// Counts the group at hand of a node without relatives.
    pub(super) fn flush(&mut self, job: &Job<'_>) -> Result<()> {
        let (Some(node), false) = (self.current, self.frame.untouched()) else {
            return Ok(());
        };
        let pos = self.group * self.cuts.group_bytes();
        let (frame, cuts) = (&mut self.frame, &self.cuts);
        let done = self.records.frame(node, frame, None, cuts, pos, job);
        self.frame.start(0, None);
        done
    }

    /// A block of a node with relatives.
    fn relative(&mut self, node: usize, block: &Block, job: &Job<'_>) -> Result<()> {
        let content = match block.content {
            Content::Data { print, .. } => Units::Data(print),
            // There is nothing that they could hide.
            Content::Zero if self.forest.nodes()[node].parent.is_none() => return Ok(()),
            Content::Zero => Units::Zeros(Length::new(block.len.div_ceil(self.options.unit))),
        };
        let position = self.position(node, block.pos, content);
        self.placed += 1;
        match &mut self.positions {
            Some(positions) => positions.push(position, job),
            None => Ok(()), // there is one if any node has relatives
        }
    }

    /// Marks where disks go on behind the end of the one below.
    pub(super) fn seams(&mut self, positions: &mut Sorter<Position>, job: &Job<'_>) -> Result<()> {
        let nodes = self.forest.nodes();
        for (number, node) in nodes.iter().enumerate() {
            let end = node.parent.map_or(node.size, |parent| nodes[parent].size);
            if end < node.size && !end.is_multiple_of(self.cuts.group_bytes()) {
                positions.push(self.position(number, end, Units::Seam), job)?;
                self.placed += 1;
            }
        }
        Ok(())
    }

    fn position(&self, node: usize, pos: u64, content: Units) -> Position {
        let (group, unit) = self.split(pos);
        Position {
            group,
            rank: self.forest.rank(node),
            unit: u16::try_from(unit).unwrap_or_else(|_| unreachable!()),
            content,
        }
    }

    /// The group of a position, and the unit in it: at most 32,768 are in a group.
    fn split(&self, pos: u64) -> (u64, usize) {
        let unit = pos % self.cuts.group_bytes() / self.options.unit;
        let unit = usize::try_from(unit).unwrap_or_else(|_| unreachable!());
        (pos / self.cuts.group_bytes(), unit)
    }
}

/// An error about a block.
fn bad(node: usize, block: &Block, why: &str) -> Error {
    let (pos, len) = (block.pos, block.len);
    corrupt(
        node,
        format!("has a block of {len} bytes at byte {pos}, {why}"),
    )
}
