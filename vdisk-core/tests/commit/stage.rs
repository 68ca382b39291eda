//! Chains in files, and what each of their layers reads as.

use std::{
    fs,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Disk, FORMATS, FileResolver, Format, Ids, Job, OpenOptions, Subformat,
    check::Severity,
    format::{ParentSpec, Spec, by_extension},
    open, open_layer,
    ops::{changes, check, convert},
    target::{Output, OutputOptions},
    testing,
};

/// A format and how it is written.
pub(crate) type Shape = (&'static dyn Format, &'static Subformat);

/// Formats whose only way to be a child is a subformat of its own.
fn only_child(subformat: &Subformat) -> bool {
    ["differencing", "vmfsSparse"].contains(&subformat.name)
}

fn shapes() -> impl Iterator<Item = Shape> {
    let all = FORMATS.iter().copied();
    all.flat_map(|f| f.subformats().iter().map(move |s| (f, s)))
}

/// Every pair of a base and a child that can be made of it.
pub(crate) fn pairs() -> Vec<(Shape, Shape)> {
    let bases = shapes().filter(|(f, s)| !only_child(s) && !f.holds_disks());
    let fits = |base: Shape, child: Shape| {
        let same = base.0.name() == child.0.name();
        child.1.child && (same || (base.0.name() == "raw" && child.0.name() == "vhd"))
    };
    bases
        .flat_map(|base| {
            let children = shapes().filter(move |child| fits(base, *child));
            children.map(move |child| (base, child))
        })
        .collect()
}

/// A folder with a chain: the base is number 0, its child number 1.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    endings: Vec<&'static str>,
    /// What each layer reads as.
    pub(crate) models: Vec<Vec<u8>>,
}

impl Stage {
    pub(crate) fn new(base: Shape, child: Shape, models: &[Vec<u8>]) -> Self {
        let mut stage = Self {
            folder: tempfile::tempdir().unwrap(),
            endings: Vec::new(),
            models: Vec::new(),
        };
        for (number, model) in models.iter().enumerate() {
            let shape = if number == 0 { base } else { child };
            stage.endings.push(shape.0.extensions()[0]);
            let parent = number.checked_sub(1).map(|below| stage.path(below));
            stage.write(shape, &stage.path(number), model, parent.as_deref());
            stage.models.push(model.clone());
        }
        stage
    }

    pub(crate) fn path(&self, number: usize) -> PathBuf {
        self.named(&format!("{number}.{}", self.endings[number]))
    }

    pub(crate) fn named(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes one more image.
    pub(crate) fn write(&self, shape: Shape, path: &Path, model: &[u8], parent: Option<&Path>) {
        let resolver = FileResolver::default();
        let below = parent.map(|p| open(p, &OpenOptions::new(&resolver)).unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        let spec = Spec {
            size: model.len() as u64,
            subformat: shape.1,
            name,
            ids: Ids::random(1_000_000_000),
            level: 1,
            parent: below.as_ref().map(|below| ParentSpec {
                relative: below.top().path().file_name().unwrap().into(),
                absolute: None,
                identity: below.top().facts().identity,
                modified: 1_000_000_000,
            }),
            options: testing::small_extents(),
        };
        let options = OutputOptions {
            sync: false,
            ..OutputOptions::default()
        };
        let mut output = Output::create(path, options).unwrap();
        let writer = shape.0.create(&mut output, &spec).unwrap();
        let (model, job) = (model.to_vec(), Job::default());
        match below {
            Some(below) => drop(changes::write(&below, &model, writer, &job).unwrap()),
            None => convert::copy(&model, writer, &job).unwrap(),
        }
        output.publish().unwrap();
    }

    /// What the layer, opened anew with its parents, reads as; the error, if it does not.
    pub(crate) fn read(&self, path: &Path) -> vdisk_core::Result<Vec<u8>> {
        let resolver = FileResolver::default();
        testing::contents(&open(path, &OpenOptions::new(&resolver))?)
    }

    /// Nothing is wrong with the layer.
    pub(crate) fn check(&self, number: usize) {
        let resolver = FileResolver::default();
        let extent = check::Extent {
            deep: true,
            chain: true,
        };
        let options = OpenOptions::new(&resolver);
        let outcome = check::check(&self.path(number), &options, extent, &Job::default()).unwrap();
        let worst = outcome.findings.worst();
        let clean = matches!(worst, None | Some(Severity::Note));
        assert!(clean, "layer {number}: {:?}", outcome.findings.list());
    }

    /// All files and their bytes, by name.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut files: Vec<(PathBuf, Vec<u8>)> = entries
            .map(|e| e.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Makes the folder hold these files and no others. The files keep their inodes.
    pub(crate) fn restore(&self, files: &[(PathBuf, Vec<u8>)]) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if files.iter().all(|(known, _)| *known != path) {
                fs::remove_file(path).unwrap();
            }
        }
        for (path, bytes) in files {
            fs::write(path, bytes).unwrap();
        }
    }

    /// The size of the disk of the layer.
    pub(crate) fn size(&self, number: usize) -> u64 {
        let resolver = FileResolver::default();
        let layer = open_layer(&self.path(number), &OpenOptions::new(&resolver)).unwrap();
        layer.size()
    }

    /// True if the ending of the layer's name stands for a format without identities.
    pub(crate) fn is_raw(&self, number: usize) -> bool {
        by_extension(&self.path(number)).is_some_and(|f| f.name() == "raw")
    }
}
