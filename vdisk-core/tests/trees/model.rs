//! A folder with a tree of images, and the byte array that each of them must read as.

use std::{fs, path::PathBuf};
use vdisk_core::{
    Chain, Disk, FORMATS, FileResolver, Format, Job, Layer, OpenOptions, Result, Subformat,
    check::Severity, open, open_layer, ops::check, testing,
};

/// A format and how it is written.
pub(crate) type Shape = (&'static dyn Format, &'static Subformat);

/// Every way of writing an image that needs no parent, or every way of writing one that has one.
pub(crate) fn shapes(child: bool) -> Vec<Shape> {
    let only_child = |s: &Subformat| ["differencing", "vmfsSparse"].contains(&s.name);
    let all = FORMATS.iter().copied().filter(|f| !f.holds_disks());
    all.flat_map(|f| f.subformats().iter().map(move |s| (f, s)))
        .filter(|(_, s)| if child { s.child } else { !only_child(s) })
        .collect()
}

/// True if an image of the format `child` can name one of the format `parent`.
pub(crate) fn fits(child: &str, parent: &str) -> bool {
    child != "raw" && (child == parent || (child, parent) == ("vhd", "raw"))
}

/// An image.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) path: PathBuf,
    pub(crate) format: &'static str,
    pub(crate) parent: Option<usize>,
    /// What it reads as.
    pub(crate) bytes: Vec<u8>,
}

/// All images. An index is that of an image for ever; those that are lost are `None`.
#[derive(Clone)]
pub(crate) struct Model {
    /// The formats that new disks may have.
    pub(crate) kinds: &'static [&'static str],
    pub(crate) nodes: Vec<Option<Node>>,
}

impl Model {
    pub(crate) fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().unwrap()
    }

    pub(crate) fn node_mut(&mut self, index: usize) -> &mut Node {
        self.nodes[index].as_mut().unwrap()
    }

    /// The images that there are.
    pub(crate) fn alive(&self) -> Vec<usize> {
        let all = 0..self.nodes.len();
        all.filter(|i| self.nodes[*i].is_some()).collect()
    }

    /// The parent, its parent, and so on.
    pub(crate) fn ancestors(&self, index: usize) -> Vec<usize> {
        let above = |i: &usize| self.node(*i).parent;
        std::iter::successors(self.node(index).parent, above).collect()
    }

    pub(crate) fn children(&self, index: usize) -> Vec<usize> {
        let mut all = self.alive();
        all.retain(|i| self.node(*i).parent == Some(index));
        all
    }

    /// The image and all that rely on it.
    pub(crate) fn family(&self, index: usize) -> Vec<usize> {
        let mut all = self.alive();
        all.retain(|i| *i == index || self.ancestors(*i).contains(&index));
        all
    }
}

/// The images in files.
pub(crate) struct Tree {
    folder: tempfile::TempDir,
    pub(crate) resolver: FileResolver,
    pub(crate) model: Model,
}

impl Tree {
    pub(crate) fn new(kinds: &'static [&'static str]) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            resolver: FileResolver::default(),
            model: Model {
                kinds,
                nodes: Vec::new(),
            },
        }
    }

    pub(crate) fn options(&self) -> OpenOptions<'_> {
        OpenOptions::new(&self.resolver)
    }

    /// The name that the next image gets.
    pub(crate) fn next_path(&self, format: &dyn Format) -> PathBuf {
        let name = format!("{}.{}", self.model.nodes.len(), format.extensions()[0]);
        self.folder.path().join(name)
    }

    pub(crate) fn open(&self, index: usize) -> Result<Chain> {
        open(&self.model.node(index).path, &self.options())
    }

    /// The image without its parents, which may be gone.
    pub(crate) fn layer(&self, index: usize) -> Layer {
        open_layer(&self.model.node(index).path, &self.options()).unwrap()
    }

    /// What is wrong with how the images read, if they are to read as `model` says.
    pub(crate) fn differs(&self, model: &Model) -> Option<String> {
        for index in model.alive() {
            let Node { path, bytes, .. } = model.node(index);
            let name = path.file_name().unwrap().display();
            let chain = match open(path, &self.options()) {
                Ok(chain) => chain,
                Err(error) => return Some(format!("{name}: {error}")),
            };
            if chain.size() != bytes.len() as u64 {
                let (size, model) = (chain.size(), bytes.len());
                return Some(format!("{name}: has {size} bytes and not {model}"));
            }
            let layers = self.model.ancestors(index).len() + 1;
            if chain.layers().len() != layers {
                return Some(format!("{name}: {} layers", chain.layers().len()));
            }
            let found = match testing::contents(&chain) {
                Ok(found) => found,
                Err(error) => return Some(format!("{name}: {error}")),
            };
            if found != *bytes {
                let at = found.iter().zip(bytes).position(|(a, b)| a != b).unwrap();
                let (found, bytes) = (found[at], bytes[at]);
                return Some(format!("{name}: byte {at} is {found} and not {bytes}"));
            }
        }
        None
    }

    /// Nothing is wrong with any image, and nothing is left over.
    pub(crate) fn check(&self) {
        for index in self.model.alive() {
            let path = &self.model.node(index).path;
            let extent = check::Extent {
                deep: true,
                chain: false,
            };
            let outcome = check::check(path, &self.options(), extent, &Job::default()).unwrap();
            let clean = matches!(outcome.findings.worst(), None | Some(Severity::Note));
            let name = path.file_name().unwrap().display();
            assert!(clean, "{name}: {:?}", outcome.findings.list());
        }
        for (path, _) in self.files() {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(!name.contains("vdisk"), "{name} is left over");
        }
    }

    /// All files and their bytes, by name; without those that never got their name.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut files: Vec<(PathBuf, Vec<u8>)> = entries
            .map(|e| e.unwrap().path())
            .filter(|path| !path.to_string_lossy().ends_with(".partial"))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Makes the folder hold these files and no others. Files that are there keep their inodes.
    pub(crate) fn restore(&self, files: &[(PathBuf, Vec<u8>)]) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if files.iter().all(|(known, _)| *known != path) {
                fs::remove_file(path).unwrap();
            }
        }
        for (path, bytes) in files {
            if fs::read(path).ok().as_ref() != Some(bytes) {
                fs::write(path, bytes).unwrap();
            }
        }
    }

    /// Removes the files of an image that is lost.
    pub(crate) fn remove(&self, index: usize) {
        for file in self.layer(index).files() {
            fs::remove_file(file.path()).unwrap();
        }
    }
}
