//! Full disks that were made from one base, as children of it: which images of a folder those are.
//!
//! The work on each is that of [`rebase`](super::rebase) or [`changes`](super::changes); here is only
//! what a folder adds: what must not be taken for a disk of its own.

use super::family::is_ours;
use crate::{
    Chain, Error, ErrorKind, Format, Layer, OpenOptions, Result, open_layer, storage::FileId,
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A file of the folder, and what is to be done with it.
#[derive(Debug)]
pub enum Found {
    /// A full disk that could be a child of the base.
    Disk(PathBuf),
    /// An image that is left alone, and why.
    Left(PathBuf, &'static str),
    /// An image that cannot be opened, or a file that cannot be read.
    Bad(PathBuf, Error),
}

impl Found {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(path) | Self::Left(path, _) | Self::Bad(path, _) => path,
        }
    }
}

/// The images directly in `folder`, by name. The files of `base` and of its parents are left out, and
/// so are extents of other images, links, backups, and files that are no images. Of a file with several
/// names, the first counts.
pub fn images(folder: &Path, base: &Chain, options: &OpenOptions<'_>) -> Result<Vec<Found>> {
    let list = |e| Error::io("list", e).path(folder);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(list)? {
        let entry = entry.map_err(list)?;
        if entry.file_type().map_err(list)?.is_file() && !is_hidden(&entry.path()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut parts: Vec<FileId> = base.files().filter_map(|f| f.tag.id).collect();
    let mut found: Vec<(Found, Option<FileId>)> = Vec::new();
    for path in paths {
        let Some((mut one, id, extents)) = examine(path, base.top(), options) else {
            continue;
        };
        parts.extend(extents);
        if let Found::Disk(path) = &one
            && id.is_some()
            && found.iter().any(|(_, other)| *other == id)
        {
            one = Found::Left(path.clone(), "is another name of an image before it");
        }
        found.push((one, id));
    }
    // Only now it is known what the extents of others are.
    found.retain(|(_, id)| id.is_none_or(|id| !parts.contains(&id)));
    Ok(found.into_iter().map(|(one, _)| one).collect())
}

/// Partial files and backups of this program and others, which nothing takes for images.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".") || is_ours(name)
}

/// What the file at `path` is, who it is, and the other files that belong to it; `None` if it is no
/// image.
fn examine(
    path: PathBuf,
    base: &Layer,
    options: &OpenOptions<'_>,
) -> Option<(Found, Option<FileId>, Vec<FileId>)> {
    let layer = match open_layer(&path, options) {
        Ok(layer) => layer,
        Err(error) => {
            let nothing = matches!(
                error.kind(),
                ErrorKind::WrongFormat | ErrorKind::Unsupported
            );
            let metadata = fs::metadata(&path).ok();
            let id = metadata.as_ref().map(FileId::of);
            return (!nothing).then(|| (Found::Bad(path, error), id, Vec::new()));
        }
    };
    let extents = layer.files().iter().skip(1).filter_map(|f| f.tag.id);
    let (id, extents) = (layer.file_id(), extents.collect());
    let one = match reason_to_leave(&layer, base) {
        Some(reason) => Found::Left(path, reason),
        None => Found::Disk(path),
    };
    Some((one, id, extents))
}

fn reason_to_leave(layer: &Layer, base: &Layer) -> Option<&'static str> {
    if layer.format().holds_disks() {
        return Some("is a package");
    }
    if layer.facts().parent.is_some() {
        return Some("has a parent already");
    }
    let own = layer.facts().identity;
    (own.is_some() && own == base.facts().identity)
        .then_some("has the identity of the base: it is a copy, and must get one of its own first")
}

/// Why the image `layer` cannot be replaced by a child of `format`, or why that would free nothing.
pub fn reason_to_keep(layer: &Layer, format: &dyn Format) -> Result<Option<String>> {
    let own = layer.format().name();
    if own != format.name() {
        let wanted = format.name();
        return Ok(Some(format!(
            "is {own}, and a child of the base is {wanted}"
        )));
    }
    if layer.files().len() > 1 {
        let reason = "consists of several files, which cannot be replaced in one step";
        return Ok(Some(reason.to_owned()));
    }
    let path = layer.path();
    let metadata = fs::metadata(path).map_err(|e| Error::io("read", e).path(path))?;
    let linked = "has several names (hard links), and replacing one of them frees nothing";
    Ok((metadata.nlink() > 1).then(|| linked.to_owned()))
}
