//! Images that belong together: which of the images in a folder are children of one.

use crate::{Layer, OpenOptions, Result, open_layer};
use std::path::{Path, PathBuf};

/// The images directly in `folder` that record `parent` as theirs. Files that are no images, and
/// those that cannot be opened, are none.
pub fn children(parent: &Layer, folder: &Path, options: &OpenOptions<'_>) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| crate::Error::io("list", e).path(folder))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let layer = open_layer(&path, options).ok()?;
            let wanted = layer.facts().parent.as_ref()?;
            wanted.is(parent.facts()).then_some(path)
        })
        .collect();
    found.sort();
    Ok(found)
}
