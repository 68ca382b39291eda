//! The files that a journal names: where they lie, and whether they may be changed.
//!
//! A journal comes with the folder that it lies in, perhaps from somebody else, so its names are
//! hostile. By default it may change files beneath its own folder and nothing else, whatever links
//! lead there.

use super::{Unfinished, recover::journal_of};
use crate::{
    Error, ErrorKind, InFile, Result,
    paths::{canonical_folder, relative},
};
use std::path::{Path, PathBuf};

/// The folder, without links, in which the journal of the image at `path` lies.
pub(crate) fn folder_of(path: &Path) -> Result<PathBuf> {
    // A link is followed: the journal lies beside the file.
    let real = path.canonicalize();
    canonical_folder(real.as_deref().unwrap_or(path))
}

/// The way to `path` from the canonical folder `folder`. A link at its end stays one.
pub(crate) fn seen_from(folder: &Path, path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default();
    Ok(relative(folder, &canonical_folder(path)?, name))
}

/// Where a file lies that the journal names by the way to it.
pub(crate) fn place(journal: &Path, way: &Path) -> PathBuf {
    journal.parent().unwrap_or(Path::new("")).join(way)
}

/// The files that the change may have changed, without links, if they may be changed: they lie
/// beneath the journal's folder or one of `allowed`, which are folders and files, and the image or
/// journal at `path` is of that change.
pub(crate) fn permitted(
    unfinished: &Unfinished,
    path: &Path,
    allowed: &[PathBuf],
) -> Result<Vec<PathBuf>> {
    let open = |path: &Path| {
        path.canonicalize()
            .map_err(|e| Error::io("open", e))
            .in_file(path)
    };
    let policy = |path: &Path, detail: String| {
        Err(Error::new(ErrorKind::Policy, "journal", detail).path(path))
    };
    let journal = unfinished.journal.display();
    let image = journal_of(path).unwrap_or_else(|| path.to_owned());
    let image = open(&image)?;
    let own = canonical_folder(&unfinished.journal)?;
    let allowed = allowed.iter().filter_map(|path| path.canonicalize().ok());
    let places: Vec<PathBuf> = std::iter::once(own).chain(allowed).collect();
    let mut found = Vec::new();
    for file in &unfinished.files {
        let real = open(file)?;
        if !places.iter().any(|place| real.starts_with(place)) {
            return policy(
                file,
                format!(
                    "lies outside the folder of '{journal}', which names it; nothing was written"
                ),
            );
        }
        let kind = real
            .metadata()
            .map_err(|e| Error::io("open", e))
            .in_file(file)?
            .file_type();
        if !kind.is_file() {
            let detail =
                format!("is not a regular file, and '{journal}' names it; nothing was written");
            return policy(file, detail);
        }
        found.push(real);
    }
    if !found.contains(&image) {
        let detail = format!("is none of the files that '{journal}' is of; nothing was written");
        return policy(path, detail);
    }
    Ok(found)
}
