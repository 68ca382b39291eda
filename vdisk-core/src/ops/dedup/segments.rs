//! Chains of many images, cut where they part.

use std::{hash::Hash, ops::Range};

/// Layers of a chain that are read together: all images over one of them lie over all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// A chain that has it.
    pub chain: usize,
    /// Its layers there, counted from 0 at the top.
    pub layers: Range<usize>,
    /// True if its topmost layer is the top of a chain: that image ends here.
    pub image: bool,
    /// The segment below; none if it reaches down to the base.
    pub parent: Option<usize>,
}

/// Cuts `chains` into segments. A chain is a list of layers, topmost first, each with a name that
/// tells it from others and the size of its disk in bytes.
///
/// Every chain has one segment with `image` set, of that number: `segments[i]` is the top of
/// `chains[i]`. Those that only others lie over follow. A segment has a parent only if its disk has
/// the same size, or is longer than one that ends at a multiple of 4 MiB; otherwise it reaches down to
/// the base, and layers are read twice. Two chains with the same top do not share anything.
pub fn segments<K: Eq + Hash + Clone>(chains: &[Vec<(K, u64)>]) -> Vec<Segment> {
    let _ = chains;
    todo!("scan")
}
