//! Real images, from their layers to the figures.

use crate::{
    farm::Farm,
    figures::{check, options},
    random::Random,
};
use std::sync::Arc;
use vdisk_core::{
    Chain, Disk, FORMATS, Format, Job, Layer,
    format::ParentSpec,
    ops::dedup::{self, Count, Node, Options, segments},
    testing,
};

/// A layer, what its image reads as, and the layers under it: the last one is the base.
struct Image {
    layer: Arc<Layer>,
    bytes: Vec<u8>,
    below: Vec<usize>,
}

/// The image of `bytes` as a child of number `parent`, or on its own.
fn image(
    format: &'static dyn Format,
    images: &[Image],
    parent: Option<usize>,
    bytes: Vec<u8>,
) -> Image {
    let child = parent.is_some();
    let subformat = format.subformats().iter().find(|s| s.child == child);
    let over = parent.map(|parent| {
        let below: &dyn Disk = &images[parent].bytes;
        let spec = ParentSpec {
            relative: "below".into(),
            absolute: None,
            identity: images[parent].layer.facts().identity,
            modified: 0,
        };
        (below, spec)
    });
    let number = images.len() as u8;
    let files = testing::files(format, subformat.unwrap(), &bytes, over, number).unwrap();
    let below = parent.map_or(vec![], |p| [vec![p], images[p].below.clone()].concat());
    Image {
        layer: Arc::new(testing::open_files(format, &files).unwrap()),
        bytes,
        below,
    }
}

/// A base of 4 MiB, clones of it, clones of clones, one that is longer than what it lies over, and a
/// copy on its own.
fn images(format: &'static dyn Format) -> Vec<Image> {
    let mut random = Random::new(7);
    let mut base = vec![0; 4 << 20];
    for sector in base[..3 << 20].chunks_mut(512) {
        if !random.one_in(3) {
            sector.fill(random.below(5) as u8);
            sector[random.below(512)] = random.below(40) as u8;
        }
    }
    let mut images = vec![image(format, &[], None, base)];
    for (parent, longer) in [(0, 0), (0, 0), (1, 0), (3, 0), (0, 700 << 10), (5, 0)] {
        let mut bytes = images[parent].bytes.clone();
        bytes.resize(bytes.len() + longer, 0);
        for _ in 0..9 {
            let start = random.below(bytes.len() / 512) * 512;
            let end = (start + (1 + random.below(300)) * 512).min(bytes.len());
            match random.below(3) {
                0 => bytes[start..end].fill(0),
                1 => bytes[start..end].fill(random.below(3) as u8),
                _ => bytes.copy_within(..end - start, start),
            }
        }
        images.push(image(format, &images, Some(parent), bytes));
    }
    let copy = images[4].bytes.clone();
    images.push(image(format, &images, None, copy));
    images
}

/// Counts the images `shown` through segments, scan and count.
fn count(images: &[Image], shown: &[usize], options: &Options) -> dedup::Outcome {
    let job = Job::default();
    let chain =
        |shown: usize| -> Vec<usize> { [vec![shown], images[shown].below.clone()].concat() };
    let named = |layer: usize| (layer, images[layer].layer.size());
    let chains: Vec<Vec<(usize, u64)>> = shown
        .iter()
        .map(|&image| chain(image).into_iter().map(named).collect())
        .collect();
    let segments = segments(&chains);
    assert!(segments.len() > shown.len(), "none is shared");
    let nodes: Vec<Node> = segments
        .iter()
        .map(|segment| Node {
            size: chains[segment.chain][segment.layers.start].1,
            image: segment.image,
            parent: segment.parent,
        })
        .collect();
    let mut count = Count::with_any_memory(&nodes, options.clone()).unwrap();
    for (node, segment) in segments.iter().enumerate() {
        let layers = &chains[segment.chain][segment.layers.start..];
        let layers = layers.iter().map(|&(layer, _)| images[layer].layer.clone());
        let disk = Chain::new(layers.collect()).unwrap();
        let recorded = disk.above(segment.layers.len());
        let mut sink = |blocks: &[dedup::Block]| count.add(node, blocks, &job);
        dedup::scan(&recorded, &disk, options.unit, 4, &job, &mut sink).unwrap();
        count.complete(node).unwrap();
    }
    count.finish(&job).unwrap()
}

#[test]
fn every_figure_of_real_chains_is_that_of_their_bytes() {
    let sizes: [(u64, &[u64]); 5] = [
        (4096, &[65_536, 1 << 20, 4 << 20]),
        (65_536, &[]),
        (12_288, &[]),
        (512, &[4096]),
        (1536, &[]),
    ];
    let mut tried = 0;
    for format in FORMATS {
        if !format.subformats().iter().any(|s| s.child) {
            continue;
        }
        let images = images(*format);
        for (block, sizes) in sizes {
            // The base and the first clone only have others over them.
            let shown = [2, 3, 4, 5, 6, 7];
            let options = Options {
                block,
                sizes: sizes.to_vec(),
                memory: 64 << 10,
                ..options(dedup::unit_of(block).unwrap())
            };
            let mut found = count(&images, &shown, &options);
            let compression = found.compression.take().unwrap();
            assert!(compression.ratio < 1.0 && compression.units > 0);
            let all = shown.iter().map(|&n| images[n].bytes.clone()).collect();
            check(&Farm::of(all), &options, &[], &found);
        }
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}
