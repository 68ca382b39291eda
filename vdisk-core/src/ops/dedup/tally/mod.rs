//! From sorted records to counts.
//!
//! All records of one block come one after the other. Their spans and counts say in which images
//! it is, and how often; what is reported follows from that alone.

#[cfg(test)]
mod model;
mod print;
mod sets;
#[cfg(test)]
mod tests;
mod unique;

pub(super) use print::{Class, Print};
pub(super) use sets::Part;

use super::{
    ChunkCounts, Counts, Outcome, Refs, Sampled, SizeCounts,
    pairs::{Pairs, Table},
};
use crate::{Error, Result};
use sets::{Sets, Sums};
use std::ops::Range;
use unique::{Unique, error};

/// What the tally must know of the images; numbers are those of the forest.
pub(super) struct Plan {
    /// Image numbers of each span.
    pub(super) spans: Vec<Range<u32>>,
    /// By image number: false if it failed.
    pub(super) alive: Vec<bool>,
    /// By image number: its node.
    pub(super) nodes: Vec<u32>,
    /// By image number: its group. Empty: no groups.
    pub(super) groups: Vec<u32>,
    /// Number of the main size among the sizes.
    pub(super) main: u8,
    /// Block sizes, ascending.
    pub(super) sizes: Vec<u64>,
    pub(super) sample_bits: u32,
    /// Bytes for tables: half of them for pairs, which are left out if they need more, and a
    /// quarter for sets.
    pub(super) memory: u64,
    /// Count [`Class::Place`] for pairs.
    pub(super) places: bool,
}

/// Takes records ascending by key and counts.
///
/// Images that failed have no place in it: all others are numbered anew, and spans are ranges of these.
pub(super) struct Tally {
    plan: Plan,
    /// By span: its images.
    spans: Vec<(u32, u32)>,
    /// What the records at hand are about, and their spans and counts.
    block: Option<(u128, u32)>,
    records: Vec<(u32, i64)>,
    /// What becomes of them: changes along the images, and stretches of images that have it.
    steps: Vec<(u32, i64)>,
    parts: Vec<Part>,
    /// By size.
    sizes: Vec<Unique>,
    chunks: Unique,
    /// By power of two.
    refs: [Unique; 64],
    /// Of lengths of distinct blocks of the main size.
    squares: u128,
    sets: Sets,
}

/// What it found, by image number; scaled by the sample already. The counts that follow from single records
/// (total, zero, data, duplicate) are zero still.
pub(super) struct Found {
    /// By image number: distinct and exclusive bytes.
    pub(super) images: Vec<(u64, u64)>,
    /// The rest, pairs by node.
    pub(super) outcome: Outcome,
}

impl Tally {
    pub(super) fn new(plan: Plan) -> Self {
        let mut ranks = vec![0];
        let mut images = 0u32;
        for &alive in &plan.alive {
            images += u32::from(alive);
            ranks.push(images);
        }
        let rank = |image: u32| ranks[image as usize];
        let spans = plan.spans.iter().map(|s| (rank(s.start), rank(s.end)));
        let spans = spans.collect();

        let groups = plan.groups.iter().zip(&plan.alive);
        let group_of = groups.filter(|(_, alive)| **alive).map(|(g, _)| *g);
        let count = plan.groups.iter().max().map_or(0, |&g| g as usize + 1);
        let images = images as usize;
        let mut sets = Sets::new(images, group_of.collect(), count, plan.memory / 4);
        let fit = u128::from(plan.memory / 2)
            .checked_div(Table::bytes(images))
            .unwrap_or(2);
        sets.pairs = (fit >= 1).then(|| Table::new(images));
        sets.places = (fit >= 2 && plan.places).then(|| Table::new(images));
        Self {
            spans,
            block: None,
            records: Vec::new(),
            steps: Vec::new(),
            parts: Vec::new(),
            sizes: vec![Unique::default(); plan.sizes.len()],
            chunks: Unique::default(),
            refs: [Unique::default(); 64],
            squares: 0,
            sets,
            plan,
        }
    }

    /// Fails with [`Corrupt`](crate::ErrorKind::Corrupt) if an image would have a block less often than never.
    pub(super) fn add(&mut self, record: Print) -> Result<()> {
        let block = Some((record.print, record.kind));
        if self.block != block {
            self.close()?;
            self.block = block;
        }
        self.records.push((record.span, record.count));
        Ok(())
    }

    /// Counts the block at hand.
    fn close(&mut self) -> Result<()> {
        let Some((_, kind)) = self.block.take() else {
            return Ok(());
        };
        let refs = self.find()?;
        self.records.clear();
        if refs == 0 {
            return Ok(()); // only images that failed had it
        }
        let (class, len) = Print::class(kind);
        let bytes = u64::from(len);
        match class {
            Class::Size(size) => {
                self.sizes[usize::from(size)].add(len, refs);
                if size == self.plan.main {
                    self.refs[refs.ilog2() as usize].add(len, refs);
                    self.squares += u128::from(len).pow(2);
                    self.sets.block(&self.parts, bytes);
                }
            }
            Class::Place => self.sets.place(&self.parts, bytes),
            Class::Chunk => self.chunks.add(len, refs),
        }
        Ok(())
    }

    /// Finds the images that have the block at hand, and how often it occurs in all.
    fn find(&mut self) -> Result<u64> {
        self.parts.clear();
        self.steps.clear();
        for &(span, count) in &self.records {
            let (start, end) = self.spans[span as usize];
            if start < end {
                self.steps.extend([(start, count), (end, -count)]);
            }
        }
        if self.steps.len() > 2 {
            self.steps.sort_unstable();
        }
        let mut refs = 0u64;
        let (mut start, mut count) = (0, 0i64);
        for &(image, step) in &self.steps {
            if image > start && count != 0 {
                let times = u64::try_from(count).ok();
                refs = times
                    .and_then(|times| times.checked_mul(u64::from(image - start)))
                    .and_then(|times| times.checked_add(refs))
                    .ok_or_else(|| {
                        Error::corrupt("fingerprints", "some are taken away that were not there")
                    })?;
                let again = count > 1 && !self.plan.groups.is_empty();
                match self.parts.last_mut() {
                    Some(last) if last.end == start && last.again == again => last.end = image,
                    _ => self.parts.push(Part {
                        start,
                        end: image,
                        again,
                    }),
                }
            }
            start = image;
            count += step;
        }
        Ok(refs)
    }

    pub(super) fn finish(mut self) -> Result<Found> {
        self.close()?;
        let Self {
            plan,
            sizes,
            chunks,
            refs,
            squares,
            sets,
            ..
        } = self;
        let bits = plan.sample_bits;
        let scale = |n: u128| u64::try_from(n << bits).unwrap_or(u64::MAX);
        let counts = |unique: u64, once: u64| Counts {
            unique,
            once,
            ..Counts::default()
        };
        let sizes = plan.sizes.iter().zip(&sizes);
        let sizes: Vec<_> = sizes
            .map(|(&block, found)| SizeCounts {
                block,
                counts: counts(scale(found.bytes), scale(found.once)),
                blocks: scale(found.blocks),
            })
            .collect();
        let refs = refs.iter().enumerate();
        let refs = refs
            .filter(|(_, found)| found.blocks > 0)
            .map(|(power, found)| Refs {
                from: 1 << power,
                blocks: scale(found.blocks),
                unique: scale(found.bytes),
                data: scale(found.data),
            });
        let chunks = (chunks.blocks > 0).then(|| ChunkCounts {
            chunks: scale(chunks.refs),
            data: scale(chunks.data),
            unique: scale(chunks.bytes),
        });

        let mut rows = Vec::new();
        let mut rank = 0;
        for (&node, &alive) in plan.nodes.iter().zip(&plan.alive) {
            let node = node as usize;
            rows.resize(rows.len().max(node + 1), None);
            if alive {
                rows[node] = Some(rank);
                rank += 1;
            }
        }
        let Sums {
            images,
            groups,
            pairs,
            places,
        } = sets.finish(bits);
        let mut ranked = images.iter();
        let images = plan.alive.iter().map(|alive| {
            let image = if *alive { ranked.next() } else { None };
            image.map_or((0, 0), |image| (image.distinct, image.exclusive))
        });
        Ok(Found {
            images: images.collect(),
            outcome: Outcome {
                total: sizes[usize::from(plan.main)].counts,
                images: Vec::new(),
                groups: groups.iter().map(|g| counts(g.unique, g.once)).collect(),
                sizes,
                chunks,
                refs: refs.collect(),
                pairs: pairs.map(|table| Pairs::new(rows.clone(), table)),
                places: places.map(|table| Pairs::new(rows, table)),
                compression: None,
                sampled: Sampled {
                    bits,
                    unique_error: error(squares, bits),
                },
                spilled: 0,
            },
        })
    }
}
