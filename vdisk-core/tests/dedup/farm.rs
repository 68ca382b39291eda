//! Images as byte arrays, clones of clones among them, and their blocks.

use crate::random::Random;
use std::ops::Range;
use vdisk_core::{
    is_zero,
    ops::dedup::{Block, Content, Fingerprint, Node},
};

/// Nodes and what is seen through each.
pub(crate) struct Farm {
    pub(crate) unit: usize,
    pub(crate) nodes: Vec<Node>,
    /// By node: all bytes of its disk.
    pub(crate) bytes: Vec<Vec<u8>>,
    /// By node and unit: recorded by itself.
    own: Vec<Vec<bool>>,
}

impl Farm {
    pub(crate) fn new(unit: usize) -> Self {
        Self {
            unit,
            nodes: vec![],
            bytes: vec![],
            own: vec![],
        }
    }

    /// Images on their own, to be looked at only.
    pub(crate) fn of(images: Vec<Vec<u8>>) -> Self {
        let mut farm = Self::new(512);
        for bytes in &images {
            farm.root(bytes.len());
        }
        farm.bytes = images;
        farm
    }

    /// A disk of its own of `size` bytes, all zeros.
    pub(crate) fn root(&mut self, size: usize) -> usize {
        self.push(size, None)
    }

    /// A disk of `size` bytes over `parent`, which shows all of it.
    pub(crate) fn child(&mut self, parent: usize, size: usize) -> usize {
        self.push(size, Some(parent))
    }

    fn push(&mut self, size: usize, parent: Option<usize>) -> usize {
        let mut bytes = parent.map_or(vec![], |p| self.bytes[p].clone());
        bytes.resize(size, 0);
        self.nodes.push(Node {
            size: size as u64,
            image: true,
            parent,
        });
        let mut own = vec![parent.is_none(); size.div_ceil(self.unit)];
        if let Some(below) = parent.map(|p| self.bytes[p].len()) {
            // What is in a unit that goes on behind the end of the one below, it alone knows.
            if below < size && !below.is_multiple_of(self.unit) {
                own[below / self.unit] = true;
            }
        }
        self.own.push(own);
        self.bytes.push(bytes);
        self.nodes.len() - 1
    }

    /// Fills `units` of `node`, as far as there are so many, with `bytes` again and again.
    pub(crate) fn write(&mut self, node: usize, units: Range<usize>, bytes: &[u8]) {
        let size = self.bytes[node].len();
        let range = (units.start * self.unit).min(size)..(units.end * self.unit).min(size);
        for (byte, new) in self.bytes[node][range].iter_mut().zip(bytes.iter().cycle()) {
            *byte = *new;
        }
        let count = self.own[node].len();
        self.own[node][units.start.min(count)..units.end.min(count)].fill(true);
    }

    /// What `node` records, as blocks: zeros joined into runs of up to `most` units.
    pub(crate) fn blocks(&self, node: usize, most: usize) -> Vec<Block> {
        let mut blocks: Vec<Block> = vec![];
        let units = self.bytes[node].chunks(self.unit).zip(&self.own[node]);
        for (number, (bytes, _)) in units.enumerate().filter(|(_, (_, own))| **own) {
            let (pos, len) = ((number * self.unit) as u64, bytes.len() as u64);
            if !is_zero(bytes) {
                let print = Fingerprint::of(bytes);
                let content = Content::Data {
                    print,
                    deflated: None,
                };
                blocks.push(Block { pos, len, content });
                continue;
            }
            match blocks.last_mut() {
                Some(last)
                    if last.content == Content::Zero
                        && last.pos + last.len == pos
                        && last.len < (most * self.unit) as u64 =>
                {
                    last.len += len;
                }
                _ => blocks.push(Block {
                    pos,
                    len,
                    content: Content::Zero,
                }),
            }
        }
        blocks
    }

    /// By node: true if it is over `below`, or is it.
    pub(crate) fn over(&self, below: usize) -> Vec<bool> {
        let lies_over = |mut node: usize| loop {
            if node == below {
                return true;
            }
            match self.nodes[node].parent {
                Some(parent) => node = parent,
                None => return false,
            }
        };
        (0..self.nodes.len()).map(lies_over).collect()
    }

    /// Trees of clones of clones and disks of their own, with few distinct contents, so that all kinds of
    /// duplicates occur. `large` is a size in units at whose multiples contents often repeat.
    pub(crate) fn random(random: &mut Random, unit: usize, large: usize) -> Self {
        let mut farm = Self::new(unit);
        let distinct = random.pick(&[1, 3, 12, 200]);
        let pool: Vec<Vec<u8>> = (0..distinct)
            .map(|_| (0..unit).map(|_| random.next() as u8).collect())
            .collect();
        let most = large * random.pick(&[2, 6, 25]);
        let odd = 512 * random.below(unit / 512) * random.below(2);
        let usual = random.below(most) * unit + odd;
        for _ in 0..1 + random.below(10) {
            let parent = (!farm.nodes.is_empty() && !random.one_in(4))
                .then(|| random.below(farm.nodes.len()));
            let node = match parent {
                Some(parent) => {
                    let below = farm.bytes[parent].len();
                    let longer = random.one_in(3);
                    let more = (random.below(most * unit) / 512 + 1) * 512;
                    farm.child(parent, below + if longer { more } else { 0 })
                }
                None if random.one_in(2) => farm.root(usual),
                None => farm.root(random.below(most * unit / 512) * 512),
            };
            for _ in 0..random.below(12) {
                farm.change(random, node, &pool, large);
            }
            farm.nodes[node].image = !random.one_in(4);
        }
        farm
    }

    /// One change of some units of `node`.
    fn change(&mut self, random: &mut Random, node: usize, pool: &[Vec<u8>], large: usize) {
        let units = self.own[node].len();
        if units == 0 {
            return;
        }
        let mut start = random.below(units);
        if random.one_in(2) {
            start -= start % large;
        }
        let len = match random.below(4) {
            0 => 1,
            1 => 1 + random.below(4),
            2 => large,
            _ => 1 + random.below(units),
        };
        let range = start..(start + len).min(units);
        match random.below(6) {
            0 => self.write(node, range, &[0]),
            1 => {
                // The same again.
                let at = (range.start * self.unit).min(self.bytes[node].len());
                let bytes = self.bytes[node][at..].to_vec();
                let bytes = bytes[..bytes.len().min(range.len() * self.unit)].to_vec();
                self.write(node, range, &bytes);
            }
            2 | 3 => {
                // What another disk has, at this place or another one.
                let from = &self.bytes[random.below(self.nodes.len())];
                let at = if random.one_in(2) {
                    range.start
                } else {
                    random.below(5) * large
                };
                let at = (at * self.unit).min(from.len());
                let bytes = from[at..(at + range.len() * self.unit).min(from.len())].to_vec();
                if !bytes.is_empty() {
                    self.write(node, range, &bytes);
                }
            }
            _ => {
                for unit in range {
                    let bytes = &pool[random.below(pool.len())];
                    self.write(node, unit..unit + 1, bytes);
                }
            }
        }
    }
}
