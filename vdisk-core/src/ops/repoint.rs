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
    /// It has the identity that the child records.
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
    let proof = if wanted.is(parent.top().facts()) {
        Proof::Identity
    } else if reads_the_same(layer, parent, options, job)? {
        Proof::Contents
    } else if accept {
        Proof::Accepted
    } else {
        let named = wanted.identity.map_or_else(
            || "a parent without an identity".to_owned(),
            |identity| identity.to_string(),
        );
        let facts = parent.top().facts();
        let has = wanted.sees(facts.identity, facts.other_identity);
        let has = has.map_or("none".to_owned(), |identity| identity.to_string());
        let detail = format!(
            "'{}' has {has}, but the image was made from {named}, and nothing shows that both read the same; nothing was written",
            parent.top().path().display()
        );
        return Err(Error::new(ErrorKind::Conflict, "new parent", detail).path(path));
    };
    let place = place(&wanted, parent.top(), path, absolute)?;
    let mut warnings = Vec::from_iter(place.warning);
    if proof == Proof::Accepted {
        warnings.push(
            "the new parent is not the one that the image was made from: it may read as something else"
                .to_owned(),
        );
    }
    Ok(Plan {
        image: Stamp::of(path)?,
        parent: Stamp::of(parent.top().path())?,
        absolute,
        proof,
        warnings,
    })
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

/// True if the old parent of `layer` is there, and `layer` reads the same over it and over `parent`.
fn reads_the_same(
    layer: Layer,
    parent: &Chain,
    options: &OpenOptions<'_>,
    job: &Job<'_>,
) -> Result<bool> {
    let (layers, trouble) = ancestors(layer, options);
    let Ok(chain) = Chain::new(layers) else {
        return Ok(false);
    };
    match (chain.layers().first(), chain.below(1)) {
        (Some(layer), Some(old)) if trouble.is_none() => {
            child::reads_alike(layer, &old, parent, job)
        }
        _ => Ok(false),
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
