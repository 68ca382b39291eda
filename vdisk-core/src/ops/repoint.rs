//! Makes a child name another file as its parent, without touching what it holds: for parents that
//! were moved, renamed or copied.
//!
//! Under a parent with other contents the child would read as something else, so a plan says how it is
//! known that they are the same.

use super::{
    Stamp,
    child::{self, Place},
};
use crate::{
    Chain, Error, ErrorKind, Job, Layer, OpenOptions, ParentRef, Result,
    edit::{self, Edit},
    open::ancestors,
    open_layer, patch,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How it is known that the child reads the same under its new parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// It has the identity that the child records. Of a VHD, that is less than a proof: it stays when
    /// the VHD is written to. So it counts only where the old parent is not there to be compared.
    Identity,
    /// The child reads the same over it as over the old parent, which was compared.
    Contents,
    /// It is not: the caller takes whatever the child reads as then.
    Accepted,
}

/// What is to be done, and to which files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The child's main file as it was when this was planned.
    pub image: Stamp,
    /// The new parent's.
    pub parent: Stamp,
    /// Record the absolute path of the parent.
    pub absolute: bool,
    /// Why the child may have this parent.
    pub proof: Proof,
    /// What a user should know before, a sentence each.
    pub warnings: Vec<String>,
}

/// Plans to make the image at `path` name `parent` as its parent. With `accept`, whatever it holds.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) if nothing shows that the image reads the same under it.
pub fn plan(
    path: &Path,
    parent: &Chain,
    absolute: bool,
    accept: bool,
    options: &OpenOptions<'_>,
    job: &Job<'_>,
) -> Result<Plan> {
    let layer = open_layer(path, options)?;
    let wanted = wanted(&layer)?.clone();
    child::check(parent, layer.format())?;
    child::refuse_loop(parent, &layer)?;
    let same_identity = wanted.is(parent.top().facts());
    // A VHD keeps its unique ID when it is written to.
    let keeps_identity = layer.format().name() == "vhd";
    let same_contents = match same_identity && !keeps_identity {
        true => None,
        false => reads_the_same(layer, parent, options, job)?,
    };
    let proof = match (same_identity, same_contents) {
        (_, Some(true)) => Proof::Contents,
        (true, None) => Proof::Identity,
        _ if accept => Proof::Accepted,
        (true, Some(false)) => {
            let detail = format!(
                "'{}' has the recorded unique ID, but was written to since or the old parent was: the image reads as something else over it; nothing was written",
                parent.top().path().display()
            );
            return Err(Error::new(ErrorKind::Conflict, "new parent", detail).path(path));
        }
        (false, _) => return Err(stranger(&wanted, parent.top(), path)),
    };
    let place = place(&wanted, parent.top(), path, absolute)?;
    let mut warnings = Vec::from_iter(place.warning);
    match proof {
        Proof::Accepted => warnings.push(
            "the new parent is not the one that the image was made from: it may read as something else"
                .to_owned(),
        ),
        Proof::Identity if keeps_identity => warnings.push(
            "a VHD keeps its unique ID when it is written to, and the old parent is not there to compare: only the ID says that the new one is the same"
                .to_owned(),
        ),
        Proof::Identity | Proof::Contents => {}
    }
    Ok(Plan {
        image: Stamp::of(path)?,
        parent: Stamp::of(parent.top().path())?,
        absolute,
        proof,
        warnings,
    })
}

/// The error for a new parent that is neither by its identity nor by its contents the one that the
/// image at `path` wants.
fn stranger(wanted: &ParentRef, parent: &Layer, path: &Path) -> Error {
    let named = wanted.identity.map_or_else(
        || "a parent without an identity".to_owned(),
        |identity| identity.to_string(),
    );
    let facts = parent.facts();
    let has = wanted.sees(facts.identity, facts.other_identity);
    let has = has.map_or("none".to_owned(), |identity| identity.to_string());
    let detail = format!(
        "'{}' has {has}, but the image was made from {named}, and nothing shows that both read the same; nothing was written",
        parent.path().display()
    );
    Error::new(ErrorKind::Conflict, "new parent", detail).path(path)
}

/// The parent that `layer` records.
fn wanted(layer: &Layer) -> Result<&ParentRef> {
    layer.facts().parent.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Usage, "image", "records no parent").path(layer.path())
    })
}

/// How the image at `path`, which records `wanted`, names `parent`: by the identity that it goes by.
fn place(wanted: &ParentRef, parent: &Layer, path: &Path, absolute: bool) -> Result<Place> {
    let facts = parent.facts();
    let identity = wanted.sees(facts.identity, facts.other_identity);
    Place::of(path, parent.path(), identity, absolute)
}

/// True if `layer` reads the same over its old parent and over `parent`; `None` if the old parent is
/// not there.
fn reads_the_same(
    layer: Layer,
    parent: &Chain,
    options: &OpenOptions<'_>,
    job: &Job<'_>,
) -> Result<Option<bool>> {
    let (layers, trouble) = ancestors(layer, options);
    let Ok(chain) = Chain::new(layers) else {
        return Ok(None);
    };
    match (chain.layers().first(), chain.below(1)) {
        (Some(layer), Some(old)) if trouble.is_none() => {
            child::reads_alike(layer, &old, parent, job).map(Some)
        }
        _ => Ok(None),
    }
}

impl Plan {
    /// The lines and fields that change, and the patches that do it.
    pub fn edits(&self, options: &OpenOptions<'_>) -> Result<edit::Plan> {
        self.image.check()?;
        self.parent.check()?;
        let parent = open_layer(&self.parent.path, options)?;
        let child = open_layer(&self.image.path, options)?;
        let place = place(wanted(&child)?, &parent, &self.image.path, self.absolute)?;
        let wanted = Edit {
            parent: Some(place.spec),
            ..Edit::default()
        };
        Ok(edit::plan(&self.image.path, options, &wanted)?.1)
    }

    /// Makes the change. Returns the backups that were made, for [`patch::undo`].
    pub fn apply(&self, options: &OpenOptions<'_>) -> Result<Vec<PathBuf>> {
        patch::apply(&self.edits(options)?.patches)
    }
}
