//! From paths to segments.

use super::{
    Farm, Image,
    candidates::{Place, candidates, images},
    chains::{Found, Layers},
    notes::Notes,
    source::Source,
};
use crate::{
    args::{InputArgs, list, shown},
    ui::Ui,
};
use std::{collections::HashMap, path::PathBuf};
use vdisk_core::{
    Error, ErrorKind, Result,
    ops::{
        dedup::{Node, segments},
        resize::Partition,
    },
};

/// See [`Farm::find`].
pub(super) fn find(paths: &[PathBuf], unit: u64, input: &InputArgs, ui: &Ui) -> Result<Farm> {
    let mut notes = Notes::new(ui);
    let candidates = candidates(paths, &mut notes)?;
    let mut layers = Layers::default();
    let chains = images(candidates, paths, input, &mut layers, &mut notes)?;
    let images = chains.iter().enumerate().map(image).collect();
    if chains.is_empty() && notes.errors.is_empty() {
        return Err(Error::new(ErrorKind::Usage, list(paths), "no images found"));
    }
    Ok(Farm {
        errors: notes.errors,
        skipped: notes.skipped,
        ..farm(images, chains, unit)
    })
}

/// See [`Farm::shifted`].
pub(super) fn shifted(farm: &Farm, block: u64) -> Option<Farm> {
    let whole = farm.images.iter().zip(&farm.chains).zip(&farm.left_out);
    let (images, chains): (Vec<Image>, Vec<Found>) = whole
        .filter(|(_, left_out)| !**left_out)
        .zip(0..)
        .map(|(((image, chain), _), node)| {
            let start = image.largest_partition.unwrap_or(0);
            let image = Image {
                node,
                ..image.clone()
            };
            let chain = Found {
                pad: start.next_multiple_of(block) - start,
                ..chain.clone()
            };
            (image, chain)
        })
        .unzip();
    let moved = chains.iter().any(|chain| chain.pad > 0);
    let stamps = farm.stamps.iter().zip(&farm.left_out);
    let stamps = stamps.filter(|(_, left_out)| !**left_out);
    let stamps = stamps.map(|(stamps, _)| stamps.clone()).collect();
    moved.then(|| Farm {
        stamps,
        ..self::farm(images, chains, farm.unit)
    })
}

/// A farm of `images`, which have these chains.
fn farm(images: Vec<Image>, chains: Vec<Found>, unit: u64) -> Farm {
    let keys: Vec<_> = chains.iter().map(Found::keys).collect();
    let (nodes, sources) = segments(&keys)
        .into_iter()
        .map(|segment| {
            let chain = &keys[segment.chain];
            let node = Node {
                size: chain[segment.layers.start].1,
                image: segment.image,
                parent: segment.parent,
            };
            let source = Source::Image {
                chain: segment.chain,
                top: chain.len() - segment.layers.start,
                layers: segment.layers.len(),
            };
            (node, source)
        })
        .unzip();
    let mut farm = Farm {
        left_out: vec![false; images.len()],
        images,
        nodes,
        sources,
        files: files(&chains),
        chains,
        unit,
        ..Farm::default()
    };
    farm.allocated = farm.stored(farm.images.iter());
    farm
}

/// By chain: its files by numbers, and their bytes.
fn files(chains: &[Found]) -> Vec<Vec<(Option<usize>, u64)>> {
    let mut numbers = HashMap::new();
    let mut number = |place: &Place| {
        let next = numbers.len();
        *numbers.entry(place.clone()).or_insert(next)
    };
    let chains = chains.iter().map(|chain| {
        let files = chain.files.iter();
        files
            .map(|(place, bytes)| (place.as_ref().map(&mut number), *bytes))
            .collect()
    });
    chains.collect()
}

/// What is to be said of an image. Its segment has its number.
fn image((node, chain): (usize, &Found)) -> Image {
    let len = |p: &&Partition| p.end.saturating_sub(p.start);
    let top = chain.layers.first();
    Image {
        name: shown(&chain.path),
        path: chain.path.clone(),
        node,
        format: top.map(|l| l.format.to_owned()).unwrap_or_default(),
        layers: u32::try_from(chain.layers.len()).unwrap_or(u32::MAX),
        allocated: top.map_or(0, |l| l.allocated),
        partitions: chain.starts(),
        largest_partition: chain.partitions.iter().max_by_key(len).map(|p| p.start),
    }
}
