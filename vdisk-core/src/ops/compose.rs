//! Layers put together into one disk: finds out how they belong together, or says why they do not.
//!
//! A chain reads as its top. Siblings of one base are merged block by block. Overlays lie on each
//! other, holes transparent, where the caller says that they are overlays.

use super::{
    lineage::parent_among,
    merge::{MergeOptions, Merged, Preference, Sibling},
};
use crate::{
    Chain, Disk, Error, ErrorKind, Identity, Layer, OpenOptions, Result, disk,
    open::{complete, open_layer},
};
use std::{path::PathBuf, sync::Arc};

/// How layers are composed.
#[derive(Clone, Copy)]
pub struct ComposeOptions<'a> {
    /// How the images are opened.
    pub open: OpenOptions<'a>,
    /// Layers without a parent are overlays: their holes show what lies below.
    pub overlay: bool,
    /// Bytes of a block when siblings are merged.
    pub granularity: u64,
    /// Who wins conflicts: a layer by its index among the images, and where (all of the disk, if
    /// no range is given).
    pub prefer: &'a [(usize, Option<(u64, u64)>)],
}

/// The composed disk, before anything is written.
pub enum Composed {
    /// One stack.
    Chain(Chain),
    /// A base and its siblings. The flag says which of them are full disks, not children of the base.
    Siblings {
        /// The merge.
        merged: Merged,
        /// Index among the images of each sibling.
        inputs: Vec<usize>,
        /// True for a sibling that names no parent: that it comes from the base is only supposed.
        full: Vec<bool>,
        /// What the merge reads: the base, then each sibling.
        chains: Vec<Chain>,
    },
}

impl Composed {
    /// The disk to read.
    pub fn disk(&self) -> &dyn Disk {
        match self {
            Self::Chain(chain) => chain,
            Self::Siblings { merged, .. } => merged,
        }
    }

    /// The chains that the disk is read from, for their files and facts.
    pub fn chains(&self) -> &[Chain] {
        match self {
            Self::Chain(chain) => std::slice::from_ref(chain),
            Self::Siblings { chains, .. } => chains,
        }
    }
}

/// An input on its way: its own layer and all that lies beneath it.
pub(super) struct Input {
    path: PathBuf,
    pub(super) stack: Vec<Arc<Layer>>,
    /// Index of the input that it lies on.
    on: Option<usize>,
    overlay: bool,
}

impl Input {
    pub(super) fn identity(&self) -> Option<Identity> {
        self.stack.first().and_then(|l| l.facts().identity)
    }
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Arranges `images`, the lowest first. The first is opened with all its parents; of each other,
/// the parent must be one of those before it.
///
/// # Errors
/// [`ErrorKind::Reference`] if a layer's parent is not among the images,
/// [`ErrorKind::Usage`] if the order contradicts the parents or an image is named twice.
///
/// ```no_run
/// # use vdisk_core::{FileResolver, OpenOptions, ops::compose::{ComposeOptions, compose}};
/// let resolver = FileResolver::default();
/// let options = ComposeOptions {
///     open: OpenOptions::new(&resolver),
///     overlay: false,
///     granularity: 512,
///     prefer: &[],
/// };
/// let images = ["base.vmdk", "apps.vmdk", "user.vmdk"].map(Into::into);
/// let composed = compose(&images, &options)?;
/// println!("{} bytes", composed.disk().size());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn compose(images: &[PathBuf], options: &ComposeOptions<'_>) -> Result<Composed> {
    let inputs = open_all(images, options)?;
    let leaves: Vec<usize> = (0..inputs.len())
        .filter(|i| !inputs.iter().any(|other| other.on == Some(*i)))
        // The base is what the others are compared with, also where none of them names it.
        .filter(|&i| i > 0 || inputs.len() == 1)
        .collect();
    let rooted = |leaf: usize| root(&inputs, leaf) == 0;
    if let [leaf] = leaves.as_slice()
        && rooted(*leaf)
    {
        let overlay = inputs.iter().any(|i| i.overlay);
        return stack(&inputs, *leaf).map(|chain| {
            Composed::Chain(if overlay {
                chain.as_long_as_any()
            } else {
                chain
            })
        });
    }
    let mut chains = Vec::new();
    let mut disks = Vec::new();
    for index in std::iter::once(0).chain(leaves.iter().copied()) {
        let chain = stack(&inputs, index)?;
        disks.push(Sibling {
            name: inputs.get(index).map(Input::name).unwrap_or_default(),
            disk: Arc::new(chain.clone()),
        });
        chains.push(chain);
    }
    let base = disks.remove(0);
    let merge = MergeOptions {
        granularity: options.granularity,
        preferences: preferences(&inputs, &leaves, options)?,
    };
    Ok(Composed::Siblings {
        merged: Merged::new(base, disks, merge)?,
        full: leaves.iter().map(|&leaf| !rooted(leaf)).collect(),
        inputs: leaves,
        chains,
    })
}

fn stack(inputs: &[Input], index: usize) -> Result<Chain> {
    Chain::new(
        inputs
            .get(index)
            .map(|i| i.stack.clone())
            .unwrap_or_default(),
    )
}

/// The lowest input beneath `index`.
fn root(inputs: &[Input], mut index: usize) -> usize {
    // Every input lies on an earlier one, so this ends.
    while let Some(below) = inputs.get(index).and_then(|i| i.on) {
        index = below;
    }
    index
}

fn open_all(images: &[PathBuf], options: &ComposeOptions<'_>) -> Result<Vec<Input>> {
    let mut opened = Vec::new();
    for (index, path) in images.iter().enumerate() {
        let open = OpenOptions {
            overlay: options.overlay && index > 0,
            ..options.open
        };
        opened.push((path.clone(), open_layer(path, &open)?));
    }
    for (index, (path, layer)) in opened.iter().enumerate() {
        let twice = opened
            .iter()
            .take(index)
            .any(|(_, other)| other.same_file(layer));
        if twice {
            return Err(Error::new(ErrorKind::Usage, "compose", "is given twice").path(path));
        }
    }
    let identities: Vec<Option<Identity>> =
        opened.iter().map(|(_, l)| l.facts().identity).collect();
    let names: Vec<PathBuf> = opened.iter().map(|(path, _)| path.clone()).collect();
    let mut inputs: Vec<Input> = Vec::new();
    for (index, (path, layer)) in opened.into_iter().enumerate() {
        // A copy of a lower layer is told by its identity. A child may have that of its parent.
        let full = layer.facts().parent.is_none();
        let beneath = |l: &Arc<Layer>| {
            l.same_file(&layer)
                || (full
                    && l.facts().identity.is_some()
                    && l.facts().identity == layer.facts().identity)
        };
        if let Some(base) = inputs.first()
            && base.stack.iter().skip(1).any(beneath)
        {
            let detail = format!("is below '{}' already and must come before it", base.name());
            return Err(Error::new(ErrorKind::Usage, "order", detail).path(path));
        }
        let input = if index == 0 {
            let base = complete(layer, &options.open)?;
            Input {
                path,
                stack: base.layers().to_vec(),
                on: None,
                overlay: false,
            }
        } else if layer.facts().parent.is_some() {
            let on = parent_among(&inputs, &layer, &names, &identities, options.open.resolver)?;
            lay(&inputs, on, path, layer, false)
        } else if options.overlay {
            if inputs.iter().skip(1).any(|i| i.on != Some(0)) && branches(&inputs) {
                let detail = "is an overlay above siblings: compose the siblings first";
                return Err(Error::new(ErrorKind::Usage, "compose", detail).path(path));
            }
            lay(&inputs, index - 1, path, layer, true)
        } else {
            Input {
                path,
                stack: vec![Arc::new(layer)],
                on: None,
                overlay: false,
            }
        };
        inputs.push(input);
    }
    Ok(inputs)
}

/// True if two inputs lie on the same one.
fn branches(inputs: &[Input]) -> bool {
    inputs
        .iter()
        .enumerate()
        .any(|(i, a)| a.on.is_some() && inputs.iter().skip(i + 1).any(|b| b.on == a.on))
}

fn lay(inputs: &[Input], on: usize, path: PathBuf, layer: Layer, overlay: bool) -> Input {
    let mut stack = vec![Arc::new(layer)];
    if let Some(below) = inputs.get(on) {
        stack.extend(below.stack.iter().cloned());
    }
    Input {
        path,
        stack,
        on: Some(on),
        overlay,
    }
}

/// Preferences by sibling, from those by input. A layer stands for the sibling it is part of.
fn preferences(
    inputs: &[Input],
    leaves: &[usize],
    options: &ComposeOptions<'_>,
) -> Result<Vec<Preference>> {
    let mut found = Vec::new();
    for &(input, range) in options.prefer {
        let sibling = leaves.iter().position(|&leaf| {
            let mut at = Some(leaf);
            while at.is_some_and(|i| i != input) {
                at = at.and_then(|i| inputs.get(i)).and_then(|i| i.on);
            }
            at.is_some() && input > 0
        });
        let Some(sibling) = sibling else {
            let name = inputs.get(input).map(Input::name).unwrap_or_default();
            let detail = format!("'{name}' is not one of the siblings");
            return Err(Error::new(ErrorKind::Usage, "preference", detail));
        };
        let (start, end) = range.unwrap_or((0, u64::MAX));
        found.push(Preference {
            sibling,
            range: start..end,
        });
    }
    Ok(found)
}

/// Bytes of stored data that each layer of `chain` contributes, topmost first, and bytes that
/// read as zero. Reads maps only.
///
/// ```no_run
/// # use vdisk_core::{FileResolver, Job, OpenOptions, ops::compose};
/// # let chain = vdisk_core::open("c.vmdk".as_ref(), &OpenOptions::new(&FileResolver::default()))?;
/// let (layers, zero) = compose::contributions(&chain, &Job::default())?;
/// assert_eq!(layers.len(), chain.layers().len());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn contributions(chain: &Chain, job: &crate::Job<'_>) -> Result<(Vec<u64>, u64)> {
    let mut layers = vec![0; chain.layers().len()];
    let mut zero = 0;
    job.watch.phase("plan", chain.size());
    for extent in disk::extents(chain, 0..chain.size(), disk::same_place) {
        let extent = extent?;
        let len = extent.range.end - extent.range.start;
        match layers.get_mut(extent.depth) {
            Some(bytes) if extent.kind == disk::Kind::Data => *bytes += len,
            _ => zero += len,
        }
        job.advance(len)?;
    }
    Ok((layers, zero))
}
