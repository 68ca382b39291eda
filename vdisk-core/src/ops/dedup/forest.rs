//! Which segments lie over which, and the numbers of the images in them.
//!
//! Images over one segment get consecutive numbers, so that "all of them" is a range.

use crate::{Error, ErrorKind, Result, limits};
use std::ops::Range;

/// One segment of a chain, for the [`Count`](super::Count).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Size of the disk that its top layer shows, in bytes.
    pub size: u64,
    /// True if an image that is reported on ends here; false if only others lie over it.
    pub image: bool,
    /// The node below, which shows where this one records nothing; none if it records everything.
    /// Its disk has the same size, or is shorter. If it ends within a unit, that block is this node's own.
    pub parent: Option<usize>,
}

/// Nodes, numbered so that all nodes over one follow it: its *rank* is its place in that order.
#[derive(Debug)]
pub(super) struct Forest {
    nodes: Vec<Node>,
    /// By node.
    ranks: Vec<u32>,
    /// By rank: the node.
    order: Vec<u32>,
    /// By rank: behind the last rank over it.
    ends: Vec<u32>,
    /// By node: the numbers of the images over it, its own among them.
    spans: Vec<Range<u32>>,
    /// By image number: the node.
    images: Vec<u32>,
    /// Nodes of the longest path from a root upwards.
    height: usize,
}

impl Forest {
    /// Fails with [`Corrupt`](ErrorKind::Corrupt) unless `nodes` are trees whose disks fit on each other.
    pub(super) fn new(nodes: &[Node]) -> Result<Self> {
        // Spans are numbered too: nodes, then images.
        if nodes.len() > limits::FAMILY {
            let detail = format!("{} segments; at most {}", nodes.len(), limits::FAMILY);
            return Err(Error::new(ErrorKind::Limit, PART, detail));
        }
        let mut children = vec![vec![]; nodes.len()];
        let mut waiting = vec![];
        for (number, node) in nodes.iter().enumerate().rev() {
            check(number, node, nodes)?;
            match node.parent.and_then(|parent| children.get_mut(parent)) {
                Some(siblings) => siblings.push(number),
                None => waiting.push((number, 1)),
            }
        }
        let mut forest = Self {
            nodes: nodes.to_vec(),
            ranks: vec![0; nodes.len()],
            order: Vec::with_capacity(nodes.len()),
            ends: vec![0; nodes.len()],
            spans: vec![0..0; nodes.len()],
            images: vec![],
            height: 0,
        };
        while let Some((number, depth)) = waiting.pop() {
            if depth > limits::CHAIN_DEPTH {
                let most = limits::CHAIN_DEPTH;
                return Err(corrupt(
                    number,
                    format!("lies over more than {most} others"),
                ));
            }
            forest.height = forest.height.max(depth);
            forest.ranks[number] = index(forest.order.len());
            forest.order.push(index(number));
            waiting.extend(children[number].iter().map(|&child| (child, depth + 1)));
        }
        if forest.order.len() < nodes.len() {
            return Err(Error::corrupt(
                PART,
                "segments lie over each other in a circle",
            ));
        }
        forest.number();
        Ok(forest)
    }

    /// Numbers the images in the order of the ranks, and finds what lies over what.
    fn number(&mut self) {
        for &node in &self.order {
            let number = index(self.images.len());
            if self.nodes[node as usize].image {
                self.images.push(node);
            }
            self.spans[node as usize] = number..index(self.images.len());
        }
        for rank in (0..self.order.len()).rev() {
            let node = self.order[rank] as usize;
            self.ends[rank] = self.ends[rank].max(index(rank + 1));
            let (end, images) = (self.ends[rank], self.spans[node].end);
            if let Some(parent) = self.nodes[node].parent {
                let below = self.ranks[parent] as usize;
                self.ends[below] = self.ends[below].max(end);
                self.spans[parent].end = self.spans[parent].end.max(images);
            }
        }
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn rank(&self, node: usize) -> u32 {
        self.ranks[node]
    }

    /// The node of a rank, and behind the last rank over it.
    pub(super) fn at(&self, rank: u32) -> (usize, u32) {
        (self.order[rank as usize] as usize, self.ends[rank as usize])
    }

    /// True if nothing lies over or under `node`.
    pub(super) fn alone(&self, node: usize) -> bool {
        let rank = self.ranks[node];
        self.nodes[node].parent.is_none() && self.ends[rank as usize] == rank + 1
    }

    /// The numbers of the images over `node`.
    pub(super) fn images_over(&self, node: usize) -> Range<usize> {
        let span = &self.spans[node];
        span.start as usize..span.end as usize
    }

    /// By image number: its node.
    pub(super) fn images(&self) -> &[u32] {
        &self.images
    }

    /// Image numbers of all spans: those of the nodes, then each image on its own.
    pub(super) fn spans(&self) -> Vec<Range<u32>> {
        let single = (0..index(self.images.len())).map(|number| number..number + 1);
        self.spans.iter().cloned().chain(single).collect()
    }

    /// The span of the image of `node` alone, if it is one.
    pub(super) fn single(&self, node: usize) -> Option<u32> {
        // The image of a node comes before all over it.
        let image = self.nodes[node].image;
        image.then(|| index(self.nodes.len()) + self.spans[node].start)
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }
}

/// What errors are about.
pub(super) const PART: &str = "fingerprints";

/// An error about `node`.
pub(super) fn corrupt(node: usize, detail: impl std::fmt::Display) -> Error {
    Error::corrupt(PART, format!("segment {node} {detail}"))
}

/// A number of nodes or images: [`limits::FAMILY`] is far below 2^32.
fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or_else(|_| unreachable!())
}

fn check(number: usize, node: &Node, nodes: &[Node]) -> Result<()> {
    if node.size > limits::DISK_SIZE {
        return Err(corrupt(
            number,
            format!("has a disk of {} bytes", node.size),
        ));
    }
    let Some(parent) = node.parent else {
        return Ok(());
    };
    let Some(below) = nodes.get(parent) else {
        return Err(corrupt(
            number,
            format!("lies over number {parent}, of {}", nodes.len()),
        ));
    };
    if below.size > node.size {
        let detail = format!(
            "has a disk of {} bytes, which does not fit on one of {}",
            node.size, below.size
        );
        return Err(corrupt(number, detail));
    }
    Ok(())
}

#[cfg(test)]
#[path = "forest_tests.rs"]
mod tests;
