//! Where the fingerprints of a segment come from.

use super::{
    Farm,
    chains::{Found, LayerInfo, changed},
    stamps::Stamps,
};
use crate::args::InputArgs;
use std::{path::PathBuf, sync::Arc};
use vdisk_core::{Chain, Error, Result};
use vdisk_fingerprints::Header;

/// Where the fingerprints of a segment come from.
pub(super) enum Source {
    /// Layers of an image.
    Image {
        /// A chain that has them: by number.
        chain: usize,
        /// How many layers there are from its topmost one down to the base.
        top: usize,
        /// Its layers.
        layers: usize,
    },
    /// A file of the segment with this id.
    File(PathBuf, String),
}

/// A segment of images.
pub(super) struct Segment<'a> {
    pub(super) chain: &'a Found,
    top: usize,
    pub(super) layers: usize,
}

impl<'a> Segment<'a> {
    /// The segment of the chain number `chain` of `farm`.
    pub(super) fn new(farm: &'a Farm, chain: usize, top: usize, layers: usize) -> Self {
        Self {
            chain: &farm.chains[chain],
            top,
            layers,
        }
    }

    /// Its layers and those below it, topmost first.
    pub(super) fn infos(&self) -> &'a [Arc<LayerInfo>] {
        &self.chain.layers[self.chain.layers.len() - self.top..]
    }

    /// Its files and those below it, as they are now.
    pub(super) fn stamps(&self) -> Result<Stamps> {
        Stamps::of(self.infos().iter().flat_map(|layer| &layer.files))
    }

    /// What its fingerprints are of. `parent` is the id of the segment below.
    pub(super) fn header(
        &self,
        node: &vdisk_core::ops::dedup::Node,
        parent: Option<&String>,
        unit: u64,
        stamps: &Stamps,
    ) -> Header {
        let top = &self.infos()[0];
        let partitions = match node.image {
            true => self.chain.starts(),
            false => Vec::new(),
        };
        Header {
            parent: parent.cloned(),
            host: super::stamps::host(),
            path: top.path.clone(),
            image: node.image,
            format: top.format.to_owned(),
            layers: u32::try_from(self.layers).unwrap_or(u32::MAX),
            size: top.size,
            allocated: top.allocated,
            unit,
            partitions,
            files: stamps.files.clone(),
            ..Header::default()
        }
        .named()
    }

    /// Opens its layers and those below. If the image that was found first is gone, another one of
    /// `images` over it will do.
    pub(super) fn open(
        &self,
        images: impl Iterator<Item = &'a Found>,
        input: &InputArgs,
    ) -> Result<Chain> {
        let mut first: Option<Error> = None;
        for image in std::iter::once(self.chain).chain(images) {
            match image.open(input) {
                Ok(chain) => {
                    let above = chain.layers().len().checked_sub(self.top);
                    let below = above.and_then(|above| chain.below(above));
                    return below.ok_or_else(|| changed(&image.path));
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| changed(&self.chain.path)))
    }
}
