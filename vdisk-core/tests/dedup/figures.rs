//! Every figure of random farms.

use crate::{farm::Farm, random::Random, truth::Truth};
use std::num::NonZeroUsize;
use vdisk_core::{
    Job,
    ops::dedup::{Count, LEAST_MEMORY, Options, Outcome},
};

/// Options that are always right, for tests that change some.
pub(crate) fn options(unit: u64) -> Options {
    Options {
        unit,
        block: unit,
        sizes: vec![],
        memory: LEAST_MEMORY,
        temp: std::env::temp_dir(),
        sample_bits: 0,
        groups: vec![],
        places: true,
    }
}

/// Adds all nodes but `failed` in random order and pieces. Of those some blocks may be added too.
fn count(farm: &Farm, options: &Options, failed: &[usize], random: &mut Random) -> Outcome {
    let job = Job {
        threads: NonZeroUsize::new(1 + random.below(2)).unwrap(),
        ..Job::default()
    };
    let mut count = Count::with_any_memory(&farm.nodes, options.clone()).unwrap();
    let mut order: Vec<usize> = (0..farm.nodes.len()).collect();
    random.shuffle(&mut order);
    for node in order {
        let mut blocks = farm.blocks(node, random.pick(&[1, 3, usize::MAX / farm.unit]));
        if failed.contains(&node) {
            blocks.truncate(random.below(blocks.len() + 1));
        }
        for blocks in blocks.chunks(1 + random.below(9)) {
            count.add(node, blocks, &job).unwrap();
        }
        if failed.contains(&node) {
            count.fail(node);
        }
        count.complete(node).unwrap();
    }
    count.finish(&job).unwrap()
}

/// Compares all of `found` with the bytes of `farm`, whose images come first among the nodes.
pub(crate) fn check(farm: &Farm, options: &Options, failed: &[usize], found: &Outcome) {
    let nodes = farm.nodes.len();
    let mut counted: Vec<bool> = farm.nodes.iter().map(|node| node.image).collect();
    for &node in failed {
        for (counted, over) in counted.iter_mut().zip(farm.over(node)) {
            *counted &= !over;
        }
    }
    let truth = |block: u64| Truth::new(farm, &counted, block as usize, false);
    let main = truth(options.block);
    assert_eq!(found.total, main.counts());
    for image in 0..nodes {
        assert_eq!(found.images[image], main.image(image), "image {image}");
    }
    assert_eq!(found.refs, main.refs());

    let mut sizes: Vec<u64> = options.sizes.clone();
    sizes.push(options.block);
    sizes.sort_unstable();
    sizes.dedup();
    let blocks: Vec<u64> = found.sizes.iter().map(|size| size.block).collect();
    assert_eq!(blocks, sizes);
    for size in &found.sizes {
        assert_eq!(size.counts, truth(size.block).counts(), "{}", size.block);
    }

    let groups = options.groups.iter().zip(&farm.nodes);
    let groups = groups.filter(|(_, n)| n.image).map(|(g, _)| g + 1).max();
    assert_eq!(found.groups.len(), groups.unwrap_or(0) as usize);
    for (number, group) in found.groups.iter().enumerate() {
        let here = |node: usize| counted[node] && options.groups[node] as usize == number;
        let here: Vec<bool> = (0..nodes).map(here).collect();
        let alone = Truth::new(farm, &here, options.block as usize, false);
        assert_eq!(*group, alone.counts(), "group {number}");
    }

    let places = Truth::new(farm, &counted, 64 << 10, true);
    assert_eq!(
        found.places.is_some(),
        options.places && options.unit == 4096
    );
    let pairs = found.pairs.as_ref().unwrap();
    for (a, b) in (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))) {
        assert_eq!(pairs.get(a, b), main.pair(a, b), "{a} and {b}");
        if let Some(found) = &found.places {
            assert_eq!(found.get(a, b), places.pair(a, b), "places of {a} and {b}");
        }
    }
    assert_eq!(found.sampled.unique_error, 0);
    assert!(found.compression.is_none() && found.chunks.is_none());
}

/// Unit, main block size, other sizes, and a size at which contents repeat, in units.
type Shape = (u64, u64, &'static [u64], usize);

const SHAPES: [Shape; 7] = [
    (4096, 4096, &[], 16),
    (4096, 65536, &[], 16),
    (4096, 12288, &[], 3),
    (4096, 8192, &[4096, 16384, 32768, 65536], 4),
    (4096, 4096, &[12288, 24576, 65536], 6),
    (512, 512, &[1024, 1536, 4096], 3),
    (1536, 1536, &[], 2),
];

#[test]
fn every_figure_is_that_of_the_bytes() {
    let seeds = std::env::var("VDISK_FARMS").map_or(250, |n| n.parse().unwrap());
    let mut spilled = 0;
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let (unit, block, sizes, large) = random.pick(&SHAPES);
        let farm = Farm::random(&mut random, unit as usize, large);
        let nodes = farm.nodes.len();
        let mut options = Options {
            block,
            sizes: sizes.to_vec(),
            memory: random.pick(&[4 << 10, 4 << 10, 16 << 10, LEAST_MEMORY]),
            places: !random.one_in(4),
            ..options(unit)
        };
        if random.one_in(2) {
            options.groups = (0..nodes)
                .map(|_| random.below(3.min(nodes)) as u32)
                .collect();
        }
        let failed: Vec<usize> = (0..nodes)
            .filter(|_| seed % 3 == 0 && random.one_in(4))
            .collect();
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let found = count(&farm, &options, &failed, &mut random);
            check(&farm, &options, &failed, &found);
            found.spilled
        }));
        match said {
            Ok(bytes) => spilled += usize::from(bytes > 0),
            Err(_) => panic!(
                "seed {seed}: {options:?}, failed {failed:?}, {:?}",
                farm.nodes
            ),
        }
    }
    assert!(spilled * 8 > seeds as usize, "{spilled} of {seeds} spilled");
}
