//! Chains as they were found: enough to open them again, and to notice if they are others then.

use super::{
    candidates::{Candidate, Place, options},
    stamps::absolute,
    within::Within,
};
use crate::args::{InputArgs, shown};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use vdisk_core::{
    Chain, Disk, Error, ErrorKind, Layer, Result,
    ops::{self, resize::Partition},
    storage::ImageFile,
};

/// One layer, for all chains that have it.
pub(super) struct LayerInfo {
    /// Its absolute path, as text.
    pub(super) path: String,
    pub(super) format: &'static str,
    /// Size of its disk in bytes.
    pub(super) size: u64,
    /// Bytes of its files on their medium.
    pub(super) allocated: u64,
    /// Its files, or the package that it is in.
    pub(super) files: Vec<PathBuf>,
    place: Option<Place>,
    /// Tells it from all others.
    number: usize,
}

/// All layers found so far. A file that is read as two formats is two layers.
#[derive(Default)]
pub(super) struct Layers {
    known: HashMap<(Place, &'static str), Arc<LayerInfo>>,
    numbers: usize,
}

impl Layers {
    fn add(&mut self, layer: &Layer) -> Arc<LayerInfo> {
        let place = layer.files().first().and_then(Place::of);
        let key = place.clone().map(|place| (place, layer.format().name()));
        if let Some(known) = key.as_ref().and_then(|key| self.known.get(key)) {
            return Arc::clone(known);
        }
        let mut files: Vec<PathBuf> = layer.files().iter().map(outer).collect();
        files.dedup();
        let info = Arc::new(LayerInfo {
            path: shown(&absolute(layer.path())),
            format: layer.format().name(),
            size: layer.size(),
            allocated: layer.stored_size(),
            files,
            place,
            number: self.numbers,
        });
        self.numbers += 1;
        if let Some(key) = key {
            self.known.insert(key, Arc::clone(&info));
        }
        info
    }
}

/// The path of a file, or of the package that it is a part of.
fn outer(file: &ImageFile) -> PathBuf {
    match &file.part_of {
        Some(part) => part.file.path.clone(),
        None => vdisk_core::open::split_path(file.path()).0,
    }
}

/// An image and its parents.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) named: bool,
    pub(super) place: Option<Place>,
    /// Topmost first.
    pub(super) layers: Vec<Arc<LayerInfo>>,
    /// Files and their bytes on the medium, to count each once.
    pub(super) files: Vec<(Option<Place>, u64)>,
    pub(super) partitions: Vec<Partition>,
    /// Folders on the command line: it may refer to files there.
    pub(super) folders: Arc<[PathBuf]>,
    /// Zero bytes to put before its disk.
    pub(super) pad: u64,
}

impl Found {
    pub(super) fn of(
        chain: &Chain,
        candidate: &Candidate,
        folders: &Arc<[PathBuf]>,
        layers: &mut Layers,
    ) -> Self {
        let files = chain.files().map(|f| (Place::of(f), f.tag.allocated));
        Self {
            path: candidate.path.clone(),
            named: candidate.named,
            place: chain.top().files().first().and_then(Place::of),
            files: files.collect(),
            layers: chain.layers().iter().map(|l| layers.add(l)).collect(),
            // What cannot be read is said when all of the disk is read.
            partitions: ops::partitions(chain).unwrap_or_default(),
            folders: Arc::clone(folders),
            pad: 0,
        }
    }

    /// Opens it again. Fails if its layers are others than they were.
    pub(super) fn open(&self, input: &InputArgs) -> Result<Chain> {
        let resolver = Within::new(&self.folders, input);
        let chain = vdisk_core::open(&self.path, &options(self.named, input, &resolver))?;
        let same = |(layer, info): (&Arc<Layer>, &Arc<LayerInfo>)| {
            let place = layer.files().first().and_then(Place::of);
            place == info.place && layer.format().name() == info.format && layer.size() == info.size
        };
        let all = chain.layers().len() == self.layers.len();
        if !all || !chain.layers().iter().zip(&self.layers).all(same) {
            return Err(changed(&self.path));
        }
        Ok(chain)
    }

    /// First bytes of its partitions, ascending.
    pub(super) fn starts(&self) -> Vec<u64> {
        let mut starts: Vec<u64> = self.partitions.iter().map(|p| p.start).collect();
        starts.sort_unstable();
        starts.dedup();
        starts
    }

    /// The names and sizes of its layers, by which chains are cut.
    pub(super) fn keys(&self) -> Vec<((u64, usize), u64)> {
        let key = |l: &Arc<LayerInfo>| ((self.pad, l.number), l.size.saturating_add(self.pad));
        self.layers.iter().map(key).collect()
    }
}

/// The error of an image that others write to.
pub(super) fn changed(path: &Path) -> Error {
    let detail = "was changed while it was read";
    Error::new(ErrorKind::Conflict, "image", detail).path(path)
}
