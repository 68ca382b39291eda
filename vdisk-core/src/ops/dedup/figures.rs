//! The end of a count: from sorted records and sums to what is reported.

use super::{
    ChunkCounts, Count, Counts, ImageCounts, Outcome,
    forest::PART,
    records::Records,
    tally::{Found, Plan, Tally},
};
use crate::{Error, Job, Result};

/// Counts the records. `spilled` bytes were written to temporary files before.
pub(super) fn finish(count: Count, spilled: u64, job: &Job<'_>) -> Result<Outcome> {
    let sums = (0..count.cuts.sizes.len())
        .map(|size| Sums::new(&count, size))
        .collect::<Result<Vec<_>>>()?;
    let mut tally = Tally::new(plan(&count));
    let Count {
        records,
        forest,
        alive,
        cuts,
        options,
        deflated,
        chunks,
        ..
    } = count;
    let Records { sorter, pushed, .. } = records;
    job.watch.phase("count", pushed);
    let mut left = pushed;
    let written = sorter.drain(job, &mut |record| {
        left = left.saturating_sub(1);
        job.watch.advance(1);
        tally.add(record)
    })?;
    job.watch.advance(left); // equal ones came as one
    let Found {
        images,
        mut outcome,
    } = tally.finish()?;

    let main = &sums[usize::from(cuts.main)];
    outcome.total = main.all(|_| true).with(&outcome.total);
    outcome.groups = (0u32..)
        .zip(&outcome.groups)
        .map(|(number, found)| {
            let of = |image: usize| options.groups[forest.images()[image] as usize];
            main.all(|image| of(image) == number).with(found)
        })
        .collect();
    for (size, sums) in outcome.sizes.iter_mut().zip(&sums) {
        size.counts = sums.all(|_| true).with(&size.counts);
    }
    outcome.images = vec![None; forest.nodes().len()];
    for (image, (distinct, exclusive)) in images.into_iter().enumerate() {
        let node = forest.images()[image] as usize;
        outcome.images[node] = alive[image].then(|| main.image(image, distinct, exclusive));
    }
    outcome.chunks = chunks.map(|chunks| {
        let found = outcome.chunks.unwrap_or_default();
        let mut all = ChunkCounts::default();
        for ((number, bytes), _) in chunks.iter().zip(&alive).filter(|(_, alive)| **alive) {
            all.chunks += number;
            all.data += bytes;
        }
        all.unique = found.unique.min(all.data);
        all
    });
    outcome.compression = deflated.finish();
    outcome.spilled = spilled + written;
    Ok(outcome)
}

/// What the tally must know.
fn plan(count: &Count) -> Plan {
    let nodes = count.forest.images().to_vec();
    let groups = &count.options.groups;
    Plan {
        spans: count.forest.spans(),
        alive: count.alive.clone(),
        // Either there are none, or one for each node.
        groups: nodes
            .iter()
            .filter_map(|&node| groups.get(node as usize).copied())
            .collect(),
        nodes,
        main: count.cuts.main,
        sizes: count.cuts.sizes.clone(),
        sample_bits: count.options.sample_bits,
        memory: count.options.memory / 2, // the records have the other half
        places: count.cuts.places,
    }
}

/// By image number, at one block size: what needs no sorting.
struct Sums {
    /// Virtual size, and bytes in blocks that are not all zero; none of images that failed.
    images: Vec<Option<(u64, u64)>>,
}

impl Sums {
    fn new(count: &Count, size: usize) -> Result<Self> {
        let Count { forest, alive, .. } = count;
        // What the span of a node adds, is added at its start and taken off behind its end.
        let mut steps = vec![0i64; alive.len() + 1];
        for (node, data) in count.records.data(size).iter().enumerate() {
            let over = forest.images_over(node);
            steps[over.start] += data;
            steps[over.end] -= data;
        }
        let mut sum = 0;
        let mut images = Vec::with_capacity(alive.len());
        for ((&node, &alive), step) in forest.images().iter().zip(alive).zip(steps) {
            sum += step;
            if !alive {
                images.push(None);
                continue;
            }
            let total = forest.nodes()[node as usize].size;
            let data = u64::try_from(sum).ok().filter(|&data| data <= total);
            // The blocks that are taken away are those that were added.
            let data = data.ok_or_else(|| Error::corrupt(PART, "add up to less than nothing"))?;
            images.push(Some((total, data)));
        }
        Ok(Self { images })
    }

    /// Over the images that did not fail and are `wanted`.
    fn all(&self, wanted: impl Fn(usize) -> bool) -> Counts {
        let mut all = Counts::default();
        for (image, sums) in self.images.iter().enumerate() {
            if let Some((total, data)) = sums.filter(|_| wanted(image)) {
                all.total += total;
                all.data += data;
            }
        }
        all.zero = all.total - all.data;
        all
    }

    fn image(&self, image: usize, distinct: u64, exclusive: u64) -> ImageCounts {
        let (total, data) = self.images[image].unwrap_or((0, 0));
        // What was scaled from a sample may be more than there is.
        let distinct = distinct.min(data);
        let exclusive = exclusive.min(distinct);
        ImageCounts {
            total,
            zero: total - data,
            data,
            distinct,
            internal_duplicate: data - distinct,
            exclusive,
            shared: distinct - exclusive,
        }
    }
}

impl Counts {
    /// These sums with what `found` says of distinct blocks.
    fn with(self, found: &Self) -> Self {
        let unique = found.unique.min(self.data); // may be scaled from a sample
        Self {
            unique,
            duplicate: self.data - unique,
            once: found.once.min(unique),
            ..self
        }
    }
}
