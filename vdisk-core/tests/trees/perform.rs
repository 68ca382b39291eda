//! Has the library make a step, as the program calls it, and compares all with the model.

use crate::{
    expect::{After, Fate, edited, pick, shape_of},
    model::Tree,
    peers::nobody_starts,
    steps::{Edit, Step},
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};
use vdisk_core::{
    ErrorKind, Ids, ImageWriter, Job, Result,
    format::{Context, Options, Spec, Update},
    is_zero,
    ops::{child, commit, compact, convert, rebase, resize},
    storage::ImageFile,
    target::{Output, OutputOptions},
    testing,
    transaction::{self, Medium, Work},
};

/// The files of this machine, without waiting for the medium: no test here cuts the power.
pub(crate) struct Unflushed;

impl Medium for Unflushed {
    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
    fn publish(&self, file: tempfile::NamedTempFile, path: &Path) -> io::Result<File> {
        file.persist_noclobber(path).map_err(|e| e.error)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Gives `writer` the units that are touched, neighbours joined.
fn give(writer: &mut dyn ImageWriter, bytes: &[u8], touched: &[Option<bool>]) -> Result<()> {
    let unit = writer.unit() as usize;
    let kind = |start: usize| {
        let end = bytes.len().min(start + unit);
        let sectors = &touched[start / 512..end / 512];
        let data = sectors.contains(&Some(true)) || !is_zero(&bytes[start..end]);
        sectors.iter().any(Option::is_some).then_some(data)
    };
    let mut start = 0;
    while start < bytes.len() {
        let here = kind(start);
        let mut end = start;
        while end < bytes.len() && kind(end) == here {
            end = bytes.len().min(end + unit);
        }
        match here {
            Some(true) => writer.data(start as u64..end as u64, &bytes[start..end])?,
            Some(false) => writer.zero(start as u64..end as u64)?,
            None => {}
        }
        start = end;
    }
    Ok(())
}

impl Tree {
    /// Has the library make `step`.
    pub(crate) fn perform(&self, step: &Step, medium: &dyn Medium) -> Result<()> {
        let _guard = nobody_starts();
        let (options, job) = (self.options(), Job::default());
        let alive = self.model.alive();
        let path = |number: u8| &self.model.node(pick(&alive, number).unwrap()).path;
        match *step {
            Step::Base { .. } | Step::Clone { .. } | Step::Flatten { .. } => self.create(step),
            Step::Write {
                leaf,
                ref edits,
                renew,
            } => self.write(pick(&self.leaves(), leaf).unwrap(), edits, renew, medium),
            Step::Commit {
                child,
                depth,
                orphan,
                keep,
            } => {
                let (child, depth) = self.committed(child, depth).unwrap();
                let target = self.model.ancestors(child)[depth - 1];
                let wish = commit::Wish {
                    into: Some(&self.model.node(target).path),
                    folders: &[],
                    orphan,
                    keep_identity: keep,
                    now: 1_000_000_000,
                };
                let plan = commit::plan(&self.model.node(child).path, &wish, &options)?;
                assert_eq!(
                    sorted(&plan.siblings),
                    self.paths(&self.siblings(child, depth))
                );
                let would = plan.rehearse(&options, &job);
                let done = plan.apply(&options, medium, &job)?;
                assert_eq!(would.unwrap(), done);
                Ok(())
            }
            Step::Rebase { image, onto } => {
                let image = pick(&alive, image).unwrap();
                let (image, onto) = (self.open(image)?, self.open(pick(&alive, onto).unwrap())?);
                let wish = rebase::Wish {
                    created: 1_000_000_000,
                    ..rebase::Wish::default()
                };
                let plan = rebase::plan(&image, &onto, &wish)?;
                drop((image, onto));
                let done = plan.apply(&options, false, &job)?;
                assert!(done.kept);
                Ok(())
            }
            Step::Compact { image } => {
                let plan = compact::plan(path(image), &options)?;
                let would = plan.rehearse(&options, &job);
                let done = plan.apply(&options, medium, &job)?;
                assert_eq!(would.unwrap(), done);
                Ok(())
            }
            Step::Resize { image, size, force } => {
                let wish = resize::Wish {
                    size: self.bytes(size) as u64,
                    fix_gpt: false,
                    force,
                    now: 1_000_000_000,
                };
                let plan = resize::plan(path(image), &wish, &options, &job)?;
                let children = self.model.children(pick(&alive, image).unwrap());
                assert_eq!(sorted(&plan.children), self.paths(&children));
                plan.apply(&options, medium, &job).map(drop)
            }
        }
    }

    fn paths(&self, images: &[usize]) -> Vec<PathBuf> {
        let paths = images.iter().map(|i| self.model.node(*i).path.clone());
        sorted(&paths.collect::<Vec<_>>())
    }

    fn create(&self, step: &Step) -> Result<()> {
        let shape = shape_of(step, &self.model).unwrap();
        let path = self.next_path(shape.0);
        let Fate::Make(after) = self.new_image(step) else {
            return Ok(());
        };
        let node = after.model.nodes.last().unwrap().as_ref().unwrap();
        let parent = node.parent.map(|i| self.open(i)).transpose()?;
        let block = match *step {
            Step::Base { block, .. } | Step::Clone { block, .. } | Step::Flatten { block, .. } => {
                u64::from(block % 2)
            }
            _ => 0,
        };
        let place = parent.as_ref().map(|p| child::place(p, &path, false));
        let spec = Spec {
            size: node.bytes.len() as u64,
            subformat: shape.1,
            name: path.file_name().unwrap().to_str().unwrap(),
            ids: Ids::random(1_000_000_000),
            level: 1,
            parent: place.transpose()?.map(|p| p.spec),
            options: Options {
                block_size: Some((1 << 20) << block),
                disk_id: parent.as_ref().and_then(|p| p.top().facts().disk_id),
                ..testing::small_extents()
            },
        };
        let output = OutputOptions {
            sync: false,
            ..OutputOptions::default()
        };
        let mut output = Output::create(&path, output)?;
        let mut writer = shape.0.create(&mut output, &spec)?;
        match *step {
            Step::Base { ref edits, .. } if shape.1.name != "streamOptimized" => {
                let touched = edited(vec![0; node.bytes.len()], &[], edits).1;
                give(&mut *writer, &node.bytes, &touched)?;
                writer.finish()?;
            }
            Step::Base { .. } => convert::copy(&node.bytes, writer, &Job::default())?,
            Step::Flatten { image, .. } => {
                let chain = self.open(pick(&self.model.alive(), image).unwrap())?;
                convert::copy(&chain, writer, &Job::default())?;
            }
            _ => writer.finish()?,
        }
        output.publish()
    }

    fn write(&self, leaf: usize, edits: &[Edit], renew: bool, medium: &dyn Medium) -> Result<()> {
        let layer = self.layer(leaf);
        let files: Vec<&ImageFile> = layer.files().iter().collect();
        let work = Work {
            files: &files,
            redo: "",
            medium,
        };
        let update = Update {
            context: Context {
                resolver: &self.resolver,
                overlay: false,
                disk: None,
                verify: false,
            },
            ids: renew.then(|| Ids::random(1_000_000_001)),
        };
        let (bytes, touched) = self.edited(leaf, edits);
        transaction::run(&work, |t| {
            let mut writer = layer.format().update(&layer, t, &update)?;
            give(&mut *writer, &bytes, &touched)?;
            writer.finish()
        })?;
        Ok(())
    }

    /// Makes `step`, and compares all with the model. False if there was nothing to do.
    pub(crate) fn make(&mut self, step: &Step) -> bool {
        match self.expect(step) {
            Fate::Skip => false,
            Fate::Refuse(kind) => {
                let before = self.files();
                let error = self.perform(step, &Unflushed).unwrap_err();
                assert_eq!(error.kind(), kind, "{error}");
                assert!(self.files() == before, "{error}: but something was written");
                false
            }
            Fate::Make(after) => {
                if let Err(error) = self.perform(step, &Unflushed) {
                    panic!("{error}");
                }
                self.settle(*after);
                true
            }
        }
    }

    /// Takes `after` for how things are, if they are so.
    pub(crate) fn settle(&mut self, after: After) {
        let After {
            mut model,
            shows,
            lost,
        } = after;
        for index in lost {
            let error = self.open(index).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Reference, "{error}");
        }
        for index in self.model.alive() {
            if model.nodes[index].is_none() {
                self.remove(index);
            }
        }
        for (index, below) in shows {
            let found = testing::contents(&self.open(index).unwrap()).unwrap();
            let old = &self.model.node(index).bytes;
            assert_eq!(found.len(), old.len());
            for (at, sector) in found.chunks(512).enumerate() {
                let at = at * 512..at * 512 + sector.len();
                let known = sector == &old[at.clone()] || sector == &below[at.clone()];
                assert!(known, "layer {index} at {at:?}");
            }
            model.node_mut(index).bytes = found;
        }
        self.model = model;
        if let Some(trouble) = self.differs(&self.model) {
            panic!("{trouble}");
        }
    }
}

fn sorted(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut paths = paths.to_vec();
    paths.sort();
    paths
}
