//! What can be done to a tree of images: by the model, and by the library as the program calls it.

use crate::{
    model::{Model, Node, Shape, Tree, fits, shapes},
    peers::nobody_starts,
};
use proptest::prelude::*;
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

/// The byte of an edit that writes what the parent reads, so that it need not be stored.
const PARENT: u8 = 1;

/// A stretch of a disk: where in it, how many sectors, and the byte that they repeat.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    at: u16,
    sectors: u16,
    byte: u8,
    /// Zeros are written as data.
    stored: bool,
}

/// The size that a disk gets, in sectors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    Sectors(u32),
    /// As another disk, and so many more or less.
    Like(u8, i8),
}

/// Something to be done. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A new disk.
    Base {
        shape: u8,
        block: u8,
        sectors: u32,
        edits: Vec<Edit>,
    },
    /// A child that reads as its parent.
    Clone {
        of: u8,
        shape: u8,
        block: u8,
    },
    /// Something else in an image that has no children.
    Write {
        leaf: u8,
        edits: Vec<Edit>,
        renew: bool,
    },
    /// An image goes into one below it.
    Commit {
        child: u8,
        depth: u8,
        orphan: bool,
        keep: bool,
    },
    /// A child gets another parent, or a full disk its first.
    Rebase {
        image: u8,
        onto: u8,
    },
    Compact {
        image: u8,
    },
    Resize {
        image: u8,
        size: Size,
        force: bool,
    },
    /// A chain as a new disk.
    Flatten {
        image: u8,
        shape: u8,
        block: u8,
    },
}

impl Step {
    /// What it does, in a word.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Base { .. } => "base",
            Self::Clone { .. } => "clone",
            Self::Write { .. } => "write",
            Self::Commit { .. } => "commit",
            Self::Rebase { .. } => "rebase",
            Self::Compact { .. } => "compact",
            Self::Resize { .. } => "resize",
            Self::Flatten { .. } => "flatten",
        }
    }
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    // Often the same places again.
    let at = prop_oneof![any::<u16>(), (0..8u16).prop_map(|n| n << 13)];
    let sectors = prop_oneof![1..9u16, 1..9u16, 100..300u16, 1000..2500u16];
    let byte = prop_oneof![2 => Just(0u8), 1 => Just(PARENT), 3 => any::<u8>()];
    let edit = (at, sectors, byte, any::<bool>());
    let edit = edit.prop_map(|(at, sectors, byte, stored)| Edit {
        at,
        sectors,
        byte,
        stored,
    });
    prop::collection::vec(edit, 1..5)
}

/// Sizes around a few blocks, mostly odd; seldom, around what a table holds.
fn sectors() -> impl Strategy<Value = u32> {
    let blocks = (1..5u32).prop_map(|n| n * 2048);
    prop_oneof![
        4 => 1..40u32,
        16 => 1000..5000u32,
        4 => blocks,
        1 => 65_000..66_000u32,
    ]
}

pub(crate) fn base() -> impl Strategy<Value = Step> {
    let full = (0..5000u16, 2..255u8).prop_map(|(sectors, byte)| Edit {
        at: 0,
        sectors,
        byte,
        stored: true,
    });
    let base = (any::<u8>(), any::<u8>(), sectors(), full, edits());
    base.prop_map(|(shape, block, sectors, full, mut edits)| {
        edits.insert(0, full);
        Step::Base {
            shape,
            block,
            sectors,
            edits,
        }
    })
}

pub(crate) fn write() -> impl Strategy<Value = Step> {
    let write = (any::<u8>(), edits(), prop::bool::weighted(0.2));
    write.prop_map(|(leaf, edits, renew)| Step::Write { leaf, edits, renew })
}

pub(crate) fn clone() -> impl Strategy<Value = Step> {
    any::<(u8, u8, u8)>().prop_map(|(of, shape, block)| Step::Clone { of, shape, block })
}

pub(crate) fn commit() -> impl Strategy<Value = Step> {
    let keep = prop::bool::weighted(0.2);
    let orphan = prop::bool::weighted(0.7);
    let commit = (any::<u8>(), any::<u8>(), orphan, keep);
    commit.prop_map(|(child, depth, orphan, keep)| Step::Commit {
        child,
        depth,
        orphan,
        keep,
    })
}

pub(crate) fn resize() -> impl Strategy<Value = Step> {
    let few = prop_oneof![Just(0i8), any::<i8>()];
    let size = prop_oneof![
        sectors().prop_map(Size::Sectors),
        (any::<u8>(), few).prop_map(|(image, few)| Size::Like(image, few)),
    ];
    let resize = (any::<u8>(), size, prop::bool::weighted(0.7));
    resize.prop_map(|(image, size, force)| Step::Resize { image, size, force })
}

pub(crate) fn compact() -> impl Strategy<Value = Step> {
    any::<u8>().prop_map(|image| Step::Compact { image })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let rebase = any::<(u8, u8)>().prop_map(|(image, onto)| Step::Rebase { image, onto });
    let flatten = any::<(u8, u8, u8)>();
    let flatten = flatten.prop_map(|(image, shape, block)| Step::Flatten {
        image,
        shape,
        block,
    });
    prop_oneof![
        1 => base(),
        5 => clone(),
        8 => write(),
        4 => commit(),
        2 => compact(),
        2 => resize(),
        4 => rebase,
        1 => flatten,
    ]
}

/// What must come of a step.
pub(crate) enum Fate {
    /// There is nothing that it could be done to.
    Skip,
    /// An error of this kind, and nothing is changed.
    Refuse(ErrorKind),
    Make(Box<After>),
}

/// How the tree is after a step.
pub(crate) struct After {
    pub(crate) model: Model,
    /// Layers through which something else shows now. Which sectors do, the format decides: each
    /// reads as before, or as this.
    pub(crate) shows: Vec<(usize, Vec<u8>)>,
    /// Children of what they were not made from; they must say so.
    pub(crate) lost: Vec<usize>,
}

fn made(model: Model) -> Fate {
    Fate::Make(Box::new(After {
        model,
        shows: Vec::new(),
        lost: Vec::new(),
    }))
}

/// The most images in a tree.
const IMAGES: usize = 8;

/// Often the last, so that trees grow deep.
fn pick_late(from: &[usize], number: u8) -> Option<usize> {
    match number {
        0..128 => pick(from, number),
        _ => from.last().copied(),
    }
}

fn pick<T: Copy>(from: &[T], number: u8) -> Option<T> {
    let index = usize::from(number).checked_rem(from.len())?;
    Some(from[index])
}

fn shape_of(step: &Step, model: &Model) -> Option<Shape> {
    match *step {
        Step::Base { shape, .. } | Step::Flatten { shape, .. } => {
            let mut all = shapes(false);
            all.retain(|s| model.kinds.contains(&s.0.name()));
            pick(&all, shape)
        }
        Step::Clone { of, shape, .. } => {
            let parent = model.node(pick_late(&model.alive(), of)?).format;
            let mut all = shapes(true);
            all.retain(|s| fits(s.0.name(), parent));
            pick(&all, shape)
        }
        _ => None,
    }
}

/// What `edits` make of `bytes`, whose parent reads as `below`, and which of its sectors they touch:
/// with data or with zeros.
fn edited(mut bytes: Vec<u8>, below: &[u8], edits: &[Edit]) -> (Vec<u8>, Vec<Option<bool>>) {
    let sectors = bytes.len() / 512;
    let mut touched = vec![None; sectors];
    for (number, edit) in edits.iter().enumerate() {
        let start = (usize::from(edit.at) * sectors) >> 16;
        let end = sectors.min(start + usize::from(edit.sectors));
        for sector in start..end {
            let at = sector * 512..(sector + 1) * 512;
            let target = &mut bytes[at.clone()];
            match (edit.byte, below.get(at)) {
                (0, _) | (PARENT, None) => target.fill(0),
                (PARENT, Some(below)) => target.copy_from_slice(below),
                // Not one byte only, so that misplaced sectors are seen.
                (byte, _) => target.fill((byte ^ sector as u8).rotate_left(number as u32) | 1),
            }
            touched[sector] = Some(edit.byte != 0 || edit.stored);
        }
    }
    (bytes, touched)
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

/// Kinds of which neither the size nor the order of what they store can be changed.
const UNSIZED: [&str; 2] = ["streamOptimized", "vmfsSparse"];

impl Tree {
    /// What must come of `step`.
    pub(crate) fn expect(&self, step: &Step) -> Fate {
        let model = &self.model;
        let alive = model.alive();
        match *step {
            Step::Base { .. } | Step::Clone { .. } | Step::Flatten { .. } => self.new_image(step),
            Step::Write {
                leaf, ref edits, ..
            } => {
                let Some(index) = pick(&self.leaves(), leaf) else {
                    return Fate::Skip;
                };
                if self.subformat(index) == "streamOptimized" {
                    return Fate::Refuse(ErrorKind::Unsupported);
                }
                let mut model = model.clone();
                model.node_mut(index).bytes = self.edited(index, edits).0;
                made(model)
            }
            Step::Commit { .. } => self.commit(step),
            Step::Rebase { image, onto } => {
                let (Some(image), Some(onto)) = (pick(&alive, image), pick(&alive, onto)) else {
                    return Fate::Skip;
                };
                let (own, parent) = (model.node(image).format, model.node(onto).format);
                if !fits(own, parent) || model.family(image).contains(&onto) {
                    return Fate::Refuse(ErrorKind::Usage);
                }
                if self.layer(image).files().len() > 1 {
                    return Fate::Refuse(ErrorKind::Unsupported);
                }
                let mut model = model.clone();
                model.node_mut(image).parent = Some(onto);
                made(model)
            }
            Step::Compact { image } => match pick(&alive, image) {
                Some(index) if self.fixed(index) => Fate::Refuse(ErrorKind::Unsupported),
                Some(_) => made(model.clone()),
                None => Fate::Skip,
            },
            Step::Resize { image, size, force } => match pick(&alive, image) {
                Some(index) => self.resized(index, self.bytes(size), force),
                None => Fate::Skip,
            },
        }
    }

    fn bytes(&self, size: Size) -> usize {
        match size {
            Size::Sectors(sectors) => sectors as usize * 512,
            Size::Like(image, more) => {
                let other = pick(&self.model.alive(), image).unwrap();
                let sectors = self.model.node(other).bytes.len() / 512;
                sectors.saturating_add_signed(more.into()).max(1) * 512
            }
        }
    }

    fn edited(&self, index: usize, edits: &[Edit]) -> (Vec<u8>, Vec<Option<bool>>) {
        let Node { bytes, parent, .. } = self.model.node(index);
        let below = parent.map(|i| self.model.node(i).bytes.as_slice());
        edited(bytes.clone(), below.unwrap_or_default(), edits)
    }

    fn leaves(&self) -> Vec<usize> {
        let mut leaves = self.model.alive();
        leaves.retain(|i| self.model.children(*i).is_empty());
        leaves
    }

    fn subformat(&self, index: usize) -> String {
        self.layer(index).facts().subformat.clone()
    }

    /// True for images that cannot be compacted in place.
    fn fixed(&self, index: usize) -> bool {
        let flat = ["monolithicFlat", "twoGbMaxExtentFlat", "vmfs"];
        let kind = self.subformat(index);
        UNSIZED.contains(&&*kind) || flat.contains(&&*kind)
    }

    /// True for images that cannot get that many sectors in place.
    fn stays(&self, index: usize, sectors: usize) -> bool {
        let layer = self.layer(index);
        let kind = &*layer.facts().subformat;
        // Of several extents only the last one changes, and does not go away.
        let extents = layer.files().len().saturating_sub(1).max(1);
        let extent = testing::small_extents().extent_size.unwrap() as usize / 512;
        let gone = kind.starts_with("twoGb") && sectors <= (extents - 1) * extent;
        UNSIZED.contains(&kind) || gone
    }

    fn new_image(&self, step: &Step) -> Fate {
        let model = &self.model;
        let alive = model.alive();
        let Some(shape) = shape_of(step, model).filter(|_| alive.len() < IMAGES) else {
            return Fate::Skip;
        };
        let (parent, bytes) = match *step {
            Step::Base {
                sectors, ref edits, ..
            } => {
                let disk = vec![0; sectors as usize * 512];
                (None, edited(disk, &[], edits).0)
            }
            Step::Clone { of, .. } => {
                let of = pick_late(&alive, of).unwrap();
                (Some(of), model.node(of).bytes.clone())
            }
            Step::Flatten { image, .. } => match pick(&alive, image) {
                Some(image) => (None, model.node(image).bytes.clone()),
                None => return Fate::Skip,
            },
            _ => return Fate::Skip,
        };
        let mut model = model.clone();
        model.nodes.push(Some(Node {
            path: self.next_path(shape.0),
            format: shape.0.name(),
            parent,
            bytes,
        }));
        made(model)
    }

    /// The child of a commit, and how deep the target lies below it.
    fn committed(&self, child: u8, depth: u8) -> Option<(usize, usize)> {
        let mut children = self.model.alive();
        children.retain(|i| self.model.node(*i).parent.is_some());
        let child = pick_late(&children, child)?;
        let most = self.model.ancestors(child).len();
        Some((child, usize::from(depth) % most + 1))
    }

    /// The images that are children of what a commit changes, but not themselves in the chain.
    fn siblings(&self, child: usize, depth: usize) -> Vec<usize> {
        let chain = self.model.ancestors(child);
        let of_changed = chain[..depth].iter();
        let mut all: Vec<usize> = of_changed.flat_map(|i| self.model.children(*i)).collect();
        all.retain(|i| *i != child && !chain.contains(i));
        all.sort_unstable();
        all
    }

    fn commit(&self, step: &Step) -> Fate {
        let Step::Commit {
            child,
            depth,
            orphan,
            keep,
        } = *step
        else {
            return Fate::Skip;
        };
        let Some((child, depth)) = self.committed(child, depth) else {
            return Fate::Skip;
        };
        let chain = self.model.ancestors(child);
        let target = chain[depth - 1];
        let (from, into) = (self.model.node(child), self.model.node(target));
        if from.bytes.len() > into.bytes.len() {
            return Fate::Refuse(ErrorKind::Usage);
        }
        let by_contents = |i: &usize| !["vhd", "raw"].contains(&self.model.node(*i).format);
        if keep && chain[..depth].iter().any(by_contents) {
            return Fate::Refuse(ErrorKind::Usage);
        }
        let siblings = self.siblings(child, depth);
        if !siblings.is_empty() && !orphan {
            return Fate::Refuse(ErrorKind::Conflict);
        }
        if self.subformat(target) == "streamOptimized" {
            return Fate::Refuse(ErrorKind::Unsupported);
        }
        let mut model = self.model.clone();
        let bytes = &mut model.node_mut(target).bytes;
        bytes[..from.bytes.len()].copy_from_slice(&from.bytes);
        let through = chain[..depth - 1].iter().map(|i| {
            let mut below = model.node(target).bytes.clone();
            below.resize(model.node(*i).bytes.len(), 0);
            (*i, below)
        });
        let shows = through.collect();
        // A raw parent has no identity that could tell.
        let knows = |i: &&usize| {
            let parent = self.model.node(**i).parent.unwrap();
            !keep && self.model.node(parent).format != "raw"
        };
        let lost = siblings.iter().filter(knows).copied().collect();
        for sibling in siblings {
            for index in self.model.family(sibling) {
                model.nodes[index] = None;
            }
        }
        Fate::Make(Box::new(After { model, shows, lost }))
    }

    fn resized(&self, index: usize, size: usize, force: bool) -> Fate {
        let mut model = self.model.clone();
        let node = model.node_mut(index);
        let raw = node.format == "raw";
        let cut = !is_zero(node.bytes.get(size..).unwrap_or_default());
        let (shorter, same) = (size < node.bytes.len(), size == node.bytes.len());
        node.bytes.resize(size, 0);
        let children = self.model.children(index);
        if shorter && !force && (cut || !children.is_empty()) {
            return Fate::Refuse(ErrorKind::Conflict);
        }
        if same {
            return made(model);
        }
        if self.stays(index, size / 512) {
            return Fate::Refuse(ErrorKind::Unsupported);
        }
        let mut lost = Vec::new();
        if cut {
            for child in children {
                for index in self.model.family(child) {
                    model.nodes[index] = None;
                }
                lost.push(child);
            }
        }
        if raw {
            lost.clear();
        }
        Fate::Make(Box::new(After {
            model,
            shows: Vec::new(),
            lost,
        }))
    }

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

    /// The image that `step` changes, or whose kind is that of the new one.
    pub(crate) fn subject(&self, step: &Step) -> Option<usize> {
        let alive = self.model.alive();
        match *step {
            Step::Write { leaf, .. } => pick(&self.leaves(), leaf),
            Step::Commit { child, depth, .. } => {
                let (child, depth) = self.committed(child, depth)?;
                Some(self.model.ancestors(child)[depth - 1])
            }
            Step::Rebase { image, .. }
            | Step::Compact { image }
            | Step::Resize { image, .. }
            | Step::Flatten { image, .. } => pick(&alive, image),
            Step::Clone { of, .. } => pick_late(&alive, of),
            Step::Base { .. } => None,
        }
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
