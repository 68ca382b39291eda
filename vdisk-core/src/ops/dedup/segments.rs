//! Chains of many images, cut where they part.
//!
//! What is cut is a forest: layers with the same name over the same layers are one.

use std::{collections::HashMap, hash::Hash, ops::Range};

/// Layers of a chain that are read together: all images over one of them lie over all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// A chain that has it: the one that ends here, if one does.
    pub chain: usize,
    /// Its layers there, counted from 0 at the top.
    pub layers: Range<usize>,
    /// True if its topmost layer is the top of a chain: that image ends here.
    pub image: bool,
    /// The segment below; none if it reaches down to the base.
    pub parent: Option<usize>,
}

/// A disk that is longer than its parent's lies over it only if that one ends at a multiple of this
/// many bytes: so no block of a usual size has its parts in both.
const WHOLE: u64 = 4 << 20;

/// Cuts `chains` into segments. A chain is a list of layers, topmost first, each with a name that
/// tells it from others and the size of its disk in bytes.
///
/// Every chain has one segment with `image` set, of that number: `segments[i]` is the top of
/// `chains[i]`. Those that only others lie over follow. A segment has a parent only if its disk has
/// the same size, or is longer than one that ends at a multiple of 4 MiB; otherwise it reaches further
/// down, to the next one that suits or to the base, and layers are read twice. Two chains with the same
/// top share only what lies below it.
///
/// ```
/// use vdisk_core::ops::dedup::segments;
/// let found = segments(&[
///     vec![("clone a", 4096), ("base", 4096)],
///     vec![("clone b", 4096), ("snapshot", 4096), ("base", 4096)],
/// ]);
/// assert_eq!(found[1].layers, 0..2);
/// assert_eq!((found[0].parent, found[1].parent), (Some(2), Some(2)));
/// assert_eq!((found[2].chain, &found[2].layers, found[2].image), (0, &(1..2), false));
/// ```
///
/// # Panics
/// If a chain has no layers.
pub fn segments<K: Eq + Hash>(chains: &[Vec<(K, u64)>]) -> Vec<Segment> {
    let forest = Forest::new(chains);
    let mut segments: Vec<Segment> = Vec::with_capacity(chains.len());
    let mut numbers: HashMap<usize, usize> = forest.tops.iter().copied().zip(0..).collect();
    let mut tops = forest.tops.clone();
    let mut next = 0;
    while let Some(&top) = tops.get(next) {
        let layer = &forest.layers[top];
        let below = forest.below(top);
        let len = below.map_or(layer.height, |b| layer.height - forest.layers[b].height);
        segments.push(Segment {
            chain: layer.chain,
            layers: layer.depth()..layer.depth() + len,
            image: layer.image,
            parent: below.map(|below| {
                *numbers.entry(below).or_insert_with(|| {
                    tops.push(below);
                    tops.len() - 1
                })
            }),
        });
        next += 1;
    }
    segments
}

/// A layer of the forest.
struct Layer {
    below: Option<usize>,
    size: u64,
    /// A chain that has it, and how many layers that has.
    chain: usize,
    len: usize,
    /// Layers from this one down to the base.
    height: usize,
    /// A chain has it as its top.
    image: bool,
    /// Layers that lie directly over it.
    over: usize,
}

impl Layer {
    /// Its number in its chain.
    fn depth(&self) -> usize {
        self.len - self.height
    }
}

struct Forest {
    layers: Vec<Layer>,
    /// By chain: its topmost layer.
    tops: Vec<usize>,
}

impl Forest {
    fn new<K: Eq + Hash>(chains: &[Vec<(K, u64)>]) -> Self {
        let mut forest = Self {
            layers: Vec::new(),
            tops: Vec::with_capacity(chains.len()),
        };
        // By the layer below, name and size.
        let mut known: HashMap<(Option<usize>, &K, u64), usize> = HashMap::new();
        for (chain, names) in chains.iter().enumerate() {
            let mut below = None;
            for (height, (name, size)) in (1..).zip(names.iter().rev()) {
                let image = height == names.len();
                let new = forest.layers.len();
                let mut number = *known.entry((below, name, *size)).or_insert(new);
                if image && number != new && forest.layers[number].image {
                    number = new; // another chain ends here already
                }
                if number == new {
                    if let Some(below) = below {
                        forest.layers[below].over += 1;
                    }
                    forest.layers.push(Layer {
                        below,
                        size: *size,
                        chain,
                        len: names.len(),
                        height,
                        image: false,
                        over: 0,
                    });
                }
                if image {
                    let layer = &mut forest.layers[number];
                    (layer.image, layer.chain, layer.len) = (true, chain, names.len());
                }
                below = Some(number);
            }
            forest.tops.push(below.expect("a chain has layers"));
        }
        forest
    }

    /// The top of the segment that the one with the top `top` lies over.
    fn below(&self, top: usize) -> Option<usize> {
        let over = self.layers[top].size;
        let step = |number: &usize| self.layers[*number].below;
        std::iter::successors(step(&top), step).find(|number| {
            let layer = &self.layers[*number];
            let parts = layer.image || layer.over > 1;
            parts && (layer.size == over || layer.size < over && layer.size.is_multiple_of(WHOLE))
        })
    }
}
