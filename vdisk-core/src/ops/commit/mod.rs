//! Puts what the upper layers of a chain record into one of the layers below them, in place.
//!
//! What the top reads as stays the same at every moment, so that it can be read while the target
//! is written: where the layers above record nothing, the target keeps what it has, and elsewhere
//! the target is not read. The links between the layers are renewed in the same transaction.

mod apply;
mod relink;
mod view;

use super::{Stamp, family, in_place, stamp};
use crate::{
    Chain, Disk, Error, ErrorKind, Identity, Ids, Layer, OpenOptions, Result, open,
    storage::{FileId, ImageFile},
    transaction::Totals,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What is wanted besides the child.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// The ancestor to commit into; `None` is the child's own parent.
    pub into: Option<&'a Path>,
    /// Folders in which children of the changed layers are looked for, besides those of the chain.
    pub folders: &'a [PathBuf],
    /// Commit although other images are children of a layer that changes: they will not be
    /// readable, or will read as something else.
    pub orphan: bool,
    /// The target keeps its unique ID; only for formats in which that does not stand for contents
    /// (VHD).
    pub keep_identity: bool,
    /// Seconds since 1970-01-01 UTC.
    pub now: u64,
}

/// What is to be done, and to which files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// All files of the layers, as they were when this was planned; those of the target first,
    /// then those of the layers above it, the topmost last.
    pub files: Vec<Stamp>,
    /// The image whose contents are committed.
    pub child: PathBuf,
    /// The image that is written to.
    pub target: PathBuf,
    /// How many layers go into the target.
    pub layers: usize,
    /// The layers that get another identity because what they read as changes: the target last,
    /// before it those between it and the child. Empty if identities are kept.
    pub renewals: Vec<Renewal>,
    /// Images that will be unreadable or wrong: children of a layer that changes.
    pub siblings: Vec<PathBuf>,
    /// That is accepted.
    pub orphan: bool,
}

/// An identity that is renewed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Renewal {
    /// The layer.
    pub path: PathBuf,
    /// Who it is; `None` for formats that record nothing, as raw.
    pub from: Option<Identity>,
    /// Who it will be.
    pub to: Option<Identity>,
    /// What the new one is made from.
    pub ids: Ids,
}

/// What a commit did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Bytes of the disk that the target now records as data.
    pub data: u64,
    /// Bytes of the disk that it now records as zero.
    pub zero: u64,
    /// Stretches in which these lie, neighbours joined.
    pub ranges: u64,
    /// What that meant for the files.
    pub totals: Totals,
}

/// Plans to commit the image at `child` as `wish` says. Nothing is written, and no contents are
/// read: [`Plan::rehearse`] says how much it will be.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) if `child` has no such ancestor or is longer than it; those of
/// opening the chain.
pub fn plan(child: &Path, wish: &Wish<'_>, options: &OpenOptions<'_>) -> Result<Plan> {
    let chain = open(child, options)?;
    let layers = depth(&chain, wish.into)?;
    let below = below(&chain, layers)?;
    let target = below.top();
    if chain.size() > target.size() {
        let detail = format!(
            "has {} bytes, more than the {} of '{}': that must be resized first",
            chain.size(),
            target.size(),
            target.path().display()
        );
        return Err(Error::new(ErrorKind::Usage, "size", detail).path(child));
    }
    let changed = chain.layers().get(1..=layers).unwrap_or_default();
    let renewals = match wish.keep_identity {
        true => may_keep(changed)?,
        false => changed
            .iter()
            .map(|layer| renewal(layer, wish.now))
            .collect(),
    };
    Ok(Plan {
        files: stamp::all(files(&chain, layers))?,
        child: child.to_owned(),
        target: target.path().to_owned(),
        layers,
        renewals,
        siblings: siblings(&chain, changed, wish, options)?,
        orphan: wish.orphan,
    })
}

/// How many layers of `chain` lie above the target: the image at `into`, or the top's own parent.
pub fn depth(chain: &Chain, into: Option<&Path>) -> Result<usize> {
    let top = chain.top().path();
    let Some(path) = into else {
        return match chain.layers().len() {
            1 => {
                let detail = "has no parent that it could be committed into";
                Err(Error::new(ErrorKind::Usage, "commit", detail).path(top))
            }
            _ => Ok(1),
        };
    };
    let metadata = fs::metadata(path).map_err(|e| Error::io("open", e).path(path))?;
    let id = FileId::of(&metadata);
    let found = chain.layers().iter().position(|l| l.file_id() == Some(id));
    found.filter(|depth| *depth > 0).ok_or_else(|| {
        let detail = format!("is no parent of '{}'", top.display());
        Error::new(ErrorKind::Usage, "commit", detail).path(path)
    })
}

/// The target, above which are `layers` others, and what lies below it.
fn below(chain: &Chain, layers: usize) -> Result<Chain> {
    chain.below(layers).ok_or_else(|| {
        let detail = format!("has no layer {layers}");
        Error::new(ErrorKind::Usage, "chain", detail).path(chain.top().path())
    })
}

/// A new identity for `layer`.
pub(super) fn renewal(layer: &Layer, now: u64) -> Renewal {
    let ids = Ids::random(now);
    let from = layer.facts().identity;
    Renewal {
        path: layer.path().to_owned(),
        from,
        to: from.map(|from| from.renewed(&ids)),
        ids,
    }
}

/// No renewals, if every layer that changes goes by an ID that does not stand for its contents.
fn may_keep(changed: &[Arc<Layer>]) -> Result<Vec<Renewal>> {
    let by_contents = changed
        .iter()
        .find(|layer| !matches!(layer.facts().identity, None | Some(Identity::Uuid(_))));
    match by_contents {
        None => Ok(Vec::new()),
        Some(layer) => {
            let detail = format!(
                "a {} image has one that must change with its contents",
                layer.format().name()
            );
            Err(Error::new(ErrorKind::Usage, "identity", detail).path(layer.path()))
        }
    }
}

/// The children of layers that change, but those that are in the chain.
fn siblings(
    chain: &Chain,
    changed: &[Arc<Layer>],
    wish: &Wish<'_>,
    options: &OpenOptions<'_>,
) -> Result<Vec<PathBuf>> {
    let own: Vec<FileId> = chain.layers().iter().filter_map(|l| l.file_id()).collect();
    let id_of = |path: &Path| fs::metadata(path).ok().map(|m| FileId::of(&m));
    // Beside the layers, and beside the files that their names are links to.
    let paths = chain.layers().iter().map(|l| l.path().to_owned());
    let real = chain.layers().iter().map(|l| l.path().canonicalize());
    let paths: Vec<PathBuf> = paths.chain(real.flatten()).collect();
    let of_chain = paths.iter().map(|path| in_place::folder(path));
    let mut folders: Vec<&Path> = Vec::new();
    for path in of_chain.chain(wish.folders.iter().map(PathBuf::as_path)) {
        if folders.iter().all(|known| id_of(known) != id_of(path)) {
            folders.push(path);
        }
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for layer in changed {
        for folder in &folders {
            for path in family::children(layer, folder, options)? {
                let path = path.strip_prefix(".").map_or(path.clone(), Path::to_owned);
                let ours = id_of(&path).is_some_and(|id| own.contains(&id));
                if !ours && !found.contains(&path) {
                    found.push(path);
                }
            }
        }
    }
    Ok(found)
}

/// The files of the target, which lies below `layers` others, then of those.
fn files(chain: &Chain, layers: usize) -> Vec<&ImageFile> {
    let upper = chain.layers().get(..=layers).unwrap_or_default();
    upper.iter().rev().flat_map(|l| l.files()).collect()
}
