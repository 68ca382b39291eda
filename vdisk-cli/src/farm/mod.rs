//! The images that a report is about, and how their fingerprints are got: read from the images, or
//! from files that hold them.
//!
//! Images are opened to find out what they consist of, and closed: a thousand can be read one
//! after the other. Reading goes segment by segment, each after the one that it lies over.

mod candidates;
mod chains;
mod find;
mod folder;
mod left_out;
mod load;
mod notes;
mod read;
mod source;
mod stamps;
mod taker;
#[cfg(test)]
mod tests;
mod within;

use crate::{args::InputArgs, ui::Ui};
use chains::Found;
pub(crate) use read::{Action, Kept};
use source::Source;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Result,
    ops::dedup::{Count, Node},
};
use vdisk_fingerprints::{FileStamp, Folder};

/// All images, and the segments that they consist of.
#[derive(Default)]
pub(crate) struct Farm {
    /// The images, in the order of the report.
    pub(crate) images: Vec<Image>,
    /// The segments, for the count.
    pub(crate) nodes: Vec<Node>,
    /// What could not be read so far.
    pub(crate) errors: Vec<Trouble>,
    /// Files in folders that are no images, and links there, which are not followed.
    pub(crate) skipped: u64,
    /// Bytes that all files take on their medium, parents included, each file once.
    pub(crate) allocated: u64,
    /// Size of a fingerprinted block in bytes.
    pub(crate) unit: u64,
    /// By node: its files, or those of the whole chain, and the bytes that each takes. A file has one
    /// number wherever it occurs; none if nothing tells it from others.
    pub(crate) files: Vec<Vec<(Option<usize>, u64)>>,
    /// By node: where its fingerprints come from.
    sources: Vec<Source>,
    /// By image: its chain. None if the images are not at hand.
    chains: Vec<Found>,
    /// By image: it is left out.
    left_out: Vec<bool>,
    /// By image: its files when they were last read, also for an earlier count. None if they were not.
    stamps: Vec<Option<Vec<FileStamp>>>,
}

/// One image of the report.
#[derive(Clone)]
pub(crate) struct Image {
    /// How it is named in reports: as the user did, or `HOST:PATH` if fingerprints come from several hosts.
    pub(crate) name: String,
    /// Where it lies, or lay.
    pub(crate) path: PathBuf,
    /// Its node.
    pub(crate) node: usize,
    /// Format of its topmost layer.
    pub(crate) format: String,
    /// Layers of its chain.
    pub(crate) layers: u32,
    /// Bytes on the medium, without its parents.
    pub(crate) allocated: u64,
    /// First bytes of its partitions, ascending.
    pub(crate) partitions: Vec<u64>,
    /// First byte of its largest partition; none if it has none, or only its fingerprints are at hand.
    pub(crate) largest_partition: Option<u64>,
}

/// Something that could not be read.
#[derive(serde::Serialize, Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) path: String,
    pub(crate) error: String,
}

/// How a farm is read.
pub(crate) struct Reading<'a> {
    /// Where fingerprints are kept, if anywhere.
    pub(crate) cache: Option<&'a Path>,
    /// Average size of chunks in bytes, if they are wanted too.
    pub(crate) chunks: Option<u32>,
}

impl Farm {
    /// The name by which headers call this machine.
    pub(crate) fn host() -> String {
        stamps::host()
    }

    /// The images among `paths` and in the folders there. What cannot be opened is noted and said.
    pub(crate) fn find(paths: &[PathBuf], unit: u64, input: &InputArgs, ui: &Ui) -> Result<Self> {
        find::find(paths, unit, input, ui)
    }

    /// The images whose fingerprints are in the folders `from`.
    pub(crate) fn load(from: &[PathBuf], ui: &Ui) -> Result<Self> {
        load::load(from, ui)
    }

    /// All files that it is read from, as far as they are at hand.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Path> {
        let images = self.images.iter().map(|image| image.path.as_path());
        let layers = self.chains.iter().flat_map(|chain| &chain.layers);
        let files = layers.flat_map(|layer| layer.files.iter().map(PathBuf::as_path));
        let kept = self.sources.iter().filter_map(|source| match source {
            Source::File(path, _) => Some(path.as_path()),
            Source::Image { .. } => None,
        });
        images.chain(files).chain(kept)
    }

    /// Bytes that the files of `images` take on their medium, parents included, each file once.
    pub(crate) fn stored<'a>(&self, images: impl Iterator<Item = &'a Image>) -> u64 {
        let (mut nodes, mut counted) = (HashSet::new(), HashSet::new());
        let mut bytes = 0u64;
        for image in images {
            let mut next = Some(image.node);
            while let Some(node) = next.filter(|node| nodes.insert(*node)) {
                for (file, size) in self.files.get(node).into_iter().flatten() {
                    if file.is_none_or(|file| counted.insert(file)) {
                        bytes = bytes.saturating_add(*size);
                    }
                }
                next = self.nodes.get(node).and_then(|node| node.parent);
            }
        }
        bytes
    }

    /// Adds the blocks of all images to `count`. What cannot be read is noted, said, and left out of
    /// the count with all images over it; only a wish to stop, or a count or a folder that fails, is an
    /// error.
    pub(crate) fn read(
        &mut self,
        count: &mut Count,
        how: &Reading<'_>,
        input: &InputArgs,
        ui: &Ui,
    ) -> Result<()> {
        let folder = how.cache.map(|path| Self::folder(path, self.unit, ui));
        read::read(
            self,
            Some(count),
            folder.transpose()?,
            how.chunks,
            input,
            ui,
            &mut |_| {},
        )?;
        how.cache
            .map_or(Ok(()), |path| Self::gone(path, ui).map(drop))
    }

    /// Keeps the fingerprints of all images in `folder`, as far as they are not there. What cannot be
    /// read is noted and said; `kept` hears of all else.
    pub(crate) fn keep(
        &mut self,
        folder: Folder,
        input: &InputArgs,
        ui: &Ui,
        kept: &mut dyn FnMut(Kept),
    ) -> Result<()> {
        read::read(self, None, Some(folder), None, input, ui, kept)
    }

    /// The same images, for a count of blocks of `block` bytes that are cut from the start of the
    /// largest partition of each image, instead of the start of its disk; `None` if all those
    /// partitions start at a multiple of the block size, or the images cannot be read again. Images
    /// that were left out are not among them.
    pub(crate) fn shifted(&self, block: u64) -> Option<Self> {
        find::shifted(self, block)
    }

    /// Opens the folder at `path` to keep fingerprints of blocks of `unit` bytes there. Fails if it holds
    /// others.
    pub(crate) fn folder(path: &Path, unit: u64, ui: &Ui) -> Result<Folder> {
        folder::open(path, unit, ui)
    }

    /// Warns of the files in `folder` of images of this machine that are not there any more, and returns
    /// them.
    pub(crate) fn gone(folder: &Path, ui: &Ui) -> Result<Vec<String>> {
        folder::gone(folder, ui)
    }
}
