//! Makes a child name another file as its parent, without touching what it holds: for parents that
//! were moved, renamed or copied.
//!
//! Under a parent with other contents the child would read as something else, so a plan says how it is
//! known that they are the same.

use super::{Resized, Stamp, child, diff};
use crate::{
    Chain, Disk, Error, ErrorKind, Job, OpenOptions, Result,
    edit::{self, Edit},
    open::{ancestors, complete},
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
    /// It reads as the old parent does, which was compared.
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
    let usage = |part: &'static str, detail: &str| Err(Error::new(ErrorKind::Usage, part, detail));
    let Some(wanted) = layer.facts().parent.clone() else {
        return usage("image", "records no parent").map_err(|e| e.path(path));
    };
    child::check(parent, layer.format())?;
    let own = layer.file_id();
    if parent.files().any(|f| own.is_some() && f.tag.id == own) {
        let detail = "is the image itself or has it as a parent: that would be a loop";
        return usage("parent", detail).map_err(|e| e.path(parent.top().path()));
    }
    let size = layer.size();
    let proof = if wanted.is(parent.top().facts()) {
        Proof::Identity
    } else if same_contents(layer, parent, size, options, job)? {
        Proof::Contents
    } else if accept {
        Proof::Accepted
    } else {
        let named = wanted.identity.map_or_else(
            || "a parent without an identity".to_owned(),
            |identity| identity.to_string(),
        );
        let has = parent.top().facts().identity;
        let has = has.map_or("none".to_owned(), |identity| identity.to_string());
        let detail = format!(
            "'{}' has {has}, but the image was made from {named}, and nothing shows that both read the same; nothing was written",
            parent.top().path().display()
        );
        return Err(Error::new(ErrorKind::Conflict, "new parent", detail).path(path));
    };
    let place = child::place(parent, path, absolute)?;
    let mut warnings = Vec::new();
    if !place.beneath {
        warnings.push(format!(
            "the parent {} lies outside its folder: opening it will need --allow-path or --parent",
            parent.top().path().display()
        ));
    }
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

/// True if the old parent of `layer` is there and reads as `parent`, as far as the child's `size`.
fn same_contents(
    layer: crate::Layer,
    parent: &Chain,
    size: u64,
    options: &OpenOptions<'_>,
    job: &Job<'_>,
) -> Result<bool> {
    let (layers, trouble) = ancestors(layer, options);
    let old: Vec<_> = layers.into_iter().skip(1).collect();
    if trouble.is_some() || old.is_empty() {
        return Ok(false);
    }
    let Ok(old) = Chain::new(old) else {
        return Ok(false);
    };
    let (old, new) = (Resized::new(&old, size), Resized::new(parent, size));
    Ok(diff::diff(&old, &new, job, |_| {})?.bytes == 0)
}

impl Plan {
    /// The lines and fields that change, and the patches that do it.
    pub fn edits(&self, options: &OpenOptions<'_>) -> Result<edit::Plan> {
        self.image.check()?;
        self.parent.check()?;
        let parent = complete(open_layer(&self.parent.path, options)?, options)?;
        let place = child::place(&parent, &self.image.path, self.absolute)?;
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
