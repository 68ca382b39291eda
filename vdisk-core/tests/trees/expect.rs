//! What must come of a step, by the model.

use crate::{
    model::{Model, Node, Shape, Tree, fits, shapes},
    steps::{Edit, PARENT, Size, Step},
};
use vdisk_core::{ErrorKind, is_zero, testing};

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

pub(crate) fn pick<T: Copy>(from: &[T], number: u8) -> Option<T> {
    let index = usize::from(number).checked_rem(from.len())?;
    Some(from[index])
}

pub(crate) fn shape_of(step: &Step, model: &Model) -> Option<Shape> {
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
pub(crate) fn edited(
    mut bytes: Vec<u8>,
    below: &[u8],
    edits: &[Edit],
) -> (Vec<u8>, Vec<Option<bool>>) {
    let sectors = bytes.len() / 512;
    let mut touched = vec![None; sectors];
    for (number, edit) in edits.iter().enumerate() {
        let start = (usize::from(edit.at) * sectors) >> 16;
        let end = sectors.min(start + usize::from(edit.sectors));
        let places = touched.iter_mut().enumerate();
        for (sector, touched) in places.take(end).skip(start) {
            let at = sector * 512..(sector + 1) * 512;
            let target = &mut bytes[at.clone()];
            match (edit.byte, below.get(at)) {
                (0, _) | (PARENT, None) => target.fill(0),
                (PARENT, Some(below)) => target.copy_from_slice(below),
                // Not one byte only, so that misplaced sectors are seen.
                (byte, _) => target.fill((byte ^ sector as u8).rotate_left(number as u32) | 1),
            }
            *touched = Some(edit.byte != 0 || edit.stored);
        }
    }
    (bytes, touched)
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

    pub(crate) fn bytes(&self, size: Size) -> usize {
        match size {
            Size::Sectors(sectors) => sectors as usize * 512,
            Size::Like(image, more) => {
                let other = pick(&self.model.alive(), image).unwrap();
                let sectors = self.model.node(other).bytes.len() / 512;
                sectors.saturating_add_signed(more.into()).max(1) * 512
            }
        }
    }

    pub(crate) fn edited(&self, index: usize, edits: &[Edit]) -> (Vec<u8>, Vec<Option<bool>>) {
        let Node { bytes, parent, .. } = self.model.node(index);
        let below = parent.map(|i| self.model.node(i).bytes.as_slice());
        edited(bytes.clone(), below.unwrap_or_default(), edits)
    }

    pub(crate) fn leaves(&self) -> Vec<usize> {
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

    pub(crate) fn new_image(&self, step: &Step) -> Fate {
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
    pub(crate) fn committed(&self, child: u8, depth: u8) -> Option<(usize, usize)> {
        let mut children = self.model.alive();
        children.retain(|i| self.model.node(*i).parent.is_some());
        let child = pick_late(&children, child)?;
        let most = self.model.ancestors(child).len();
        Some((child, usize::from(depth) % most + 1))
    }

    /// The images that are children of what a commit changes, but not themselves in the chain.
    pub(crate) fn siblings(&self, child: usize, depth: usize) -> Vec<usize> {
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
}
