//! Takes blocks of segments, and says what is there how often.

use super::{
    Block, Chunk, LARGEST_BLOCK, Node, Options, Outcome,
    cuts::Cuts,
    deflated::Deflated,
    figures,
    forest::{Forest, corrupt},
    frame::Frame,
    position::Position,
    records::Records,
    resolve::Resolver,
    sorter::Sorter,
    tally::Class,
};
use crate::{Error, ErrorKind, Job, Result};

/// Counts the blocks of a set of images.
pub struct Count {
    pub(super) options: Options,
    pub(super) forest: Forest,
    pub(super) cuts: Cuts,
    pub(super) records: Records,
    /// What families of several nodes record.
    pub(super) positions: Option<Sorter<Position>>,
    pub(super) placed: u64,
    /// By node: up to where its blocks were added; none if nothing was.
    pub(super) added: Vec<Option<u64>>,
    /// The node that blocks are added of.
    pub(super) current: Option<usize>,
    /// Of a node without relatives: the group that its blocks are in, and its number.
    pub(super) frame: Frame,
    pub(super) group: u64,
    /// By image number.
    pub(super) alive: Vec<bool>,
    pub(super) deflated: Deflated,
    /// By image number: chunks, and bytes in them.
    pub(super) chunks: Option<Vec<(u64, u64)>>,
}

impl Count {
    /// A count over `nodes`. Fails with [`Usage`](crate::ErrorKind::Usage) if the options contradict
    /// themselves, and with [`Corrupt`](crate::ErrorKind::Corrupt) if the nodes do not form trees: they may come
    /// from files.
    pub fn new(nodes: &[Node], options: Options) -> Result<Self> {
        let count = Self::with_any_memory(nodes, options)?;
        let frames = Frame::bytes(&count.cuts) * count.forest.height() as u64;
        count.options.check_memory(frames)?;
        Ok(count)
    }

    /// The same with less than [`LEAST_MEMORY`](super::LEAST_MEMORY), to test what happens when it is used up.
    #[doc(hidden)]
    pub fn with_any_memory(nodes: &[Node], options: Options) -> Result<Self> {
        options.check(nodes.len())?;
        let cuts = Cuts::new(&options)?;
        let forest = Forest::new(nodes)?;
        let memory = options.memory;
        let related = forest.height() > 1;
        let temp = &options.temp;
        let sizes = cuts.sizes.len();
        Ok(Self {
            records: Records::new(memory / 2, temp, sizes, nodes.len(), options.sample_bits),
            positions: related.then(|| Sorter::new(memory / 4, temp)),
            placed: 0,
            added: vec![None; nodes.len()],
            current: None,
            frame: Frame::new(&cuts),
            group: 0,
            alive: vec![true; forest.images().len()],
            deflated: Deflated::new(memory / 8),
            chunks: None,
            options,
            forest,
            cuts,
        })
    }

    /// Says that only one in 2 to the power of `bits` units, or fewer, of those to come was deflated: the
    /// coarsest rule of all is used for the estimate.
    pub fn deflate_bits(&mut self, bits: u32) {
        self.deflated.at_least(bits);
    }

    /// Adds blocks of `node`: those of one node ascending, and all of one node before the next one's.
    ///
    /// Fails with [`Corrupt`](crate::ErrorKind::Corrupt) if a block lies outside the disk, or is not what
    /// [`Block`] promises: they may come from a file. The count can go on then without the node:
    /// see [`fail`](Self::fail).
    pub fn add(&mut self, node: usize, blocks: &[Block], job: &Job<'_>) -> Result<()> {
        self.exists(node)?;
        if self.dead(node) {
            return Ok(());
        }
        if self.current != Some(node) {
            self.flush(job)?;
            if self.added[node].is_some() {
                return Err(corrupt(node, "is added twice"));
            }
            self.current = Some(node);
        }
        for block in blocks {
            if let Err(error) = self.block(node, block, job) {
                self.added[node] = Some(u64::MAX); // never complete
                return Err(error);
            }
        }
        job.advance(0)
    }

    /// Fails with [`Corrupt`](crate::ErrorKind::Corrupt) unless all blocks of `node` were added: those of a
    /// node without a parent cover its disk. [`finish`](Self::finish) does so for all nodes that did not fail.
    pub fn complete(&self, node: usize) -> Result<()> {
        self.exists(node)?;
        let Node { size, parent, .. } = self.forest.nodes()[node];
        let end = self.added[node].unwrap_or(0);
        let whole = match parent {
            None => end == size,
            Some(_) => end <= size && self.seam(node).is_none_or(|seam| end > seam),
        };
        if !whole && !self.dead(node) {
            return Err(corrupt(
                node,
                "is not complete: its blocks do not cover its disk",
            ));
        }
        Ok(())
    }

    /// Adds chunks of the image of `node`, of up to [`LARGEST_BLOCK`] bytes.
    pub fn add_chunks(&mut self, node: usize, chunks: &[Chunk], job: &Job<'_>) -> Result<()> {
        self.exists(node)?;
        let usage = |detail| Error::new(ErrorKind::Usage, "chunks", detail);
        let Some(span) = self.forest.single(node) else {
            return Err(usage("are not those of an image"));
        };
        let images = self.alive.len();
        let image = self.forest.images_over(node).start;
        for &(print, len) in chunks {
            let len = u64::from(len);
            if len == 0 || len > LARGEST_BLOCK {
                return Err(usage("are longer than the largest block, or empty"));
            }
            let sums = self.chunks.get_or_insert_with(|| vec![(0, 0); images]);
            sums[image].0 += 1;
            sums[image].1 += len;
            self.records
                .push(span as usize, Class::Chunk, print, len, 1, job)?;
        }
        job.advance(0)
    }

    /// Leaves out the images of `node` and of all nodes over it, whatever was added already.
    pub fn fail(&mut self, node: usize) {
        if node < self.added.len() {
            self.alive[self.forest.images_over(node)].fill(false);
        }
    }

    /// Counts.
    pub fn finish(mut self, job: &Job<'_>) -> Result<Outcome> {
        self.flush(job)?;
        for node in 0..self.added.len() {
            self.complete(node)?;
        }
        let mut spilled = 0;
        if let Some(mut positions) = self.positions.take() {
            self.seams(&mut positions, job)?;
            let dead: Vec<bool> = (0..self.added.len()).map(|n| self.dead(n)).collect();
            let records = &mut self.records;
            let (forest, cuts) = (&self.forest, &self.cuts);
            let mut resolver = Resolver::new(forest, cuts, &dead, records, job);
            job.watch.phase("resolve", self.placed);
            spilled = positions.drain(job, &mut |position| {
                job.watch.advance(1);
                resolver.add(position)
            })?;
            resolver.finish()?;
        }
        figures::finish(self, spilled, job)
    }

    /// True if no image over `node` is counted.
    pub(super) fn dead(&self, node: usize) -> bool {
        !self.alive[self.forest.images_over(node)].contains(&true)
    }

    fn exists(&self, node: usize) -> Result<()> {
        if node < self.added.len() {
            return Ok(());
        }
        let detail = format!("{node} of {}", self.added.len());
        Err(Error::new(ErrorKind::Usage, "segment", detail))
    }
}
