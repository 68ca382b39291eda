//! How a child names a parent that lies somewhere: from its own folder.
//!
//! Then both can be moved together, and nothing of this machine is told to whoever gets the child.

use crate::{Error, Identity, Result, format::ParentSpec};
use std::{
    fs,
    path::{Component, Path, PathBuf},
    time::UNIX_EPOCH,
};

impl ParentSpec {
    /// What the image at `child` records of the one at `parent`, which is `identity`.
    pub fn of(child: &Path, parent: &Path, identity: Option<Identity>) -> Result<Self> {
        let io = |e| Error::io("parent", e).path(parent);
        let modified = fs::metadata(parent)
            .and_then(|m| m.modified())
            .map_err(io)?;
        let from = folder_of(child).canonicalize().map_err(io)?;
        let to = folder_of(parent).canonicalize().map_err(io)?;
        let shared = from
            .components()
            .zip(to.components())
            .take_while(|(a, b)| a == b)
            .count();
        let up = from.components().skip(shared).map(|_| Component::ParentDir);
        let mut relative: PathBuf = up.chain(to.components().skip(shared)).collect();
        relative.push(parent.file_name().unwrap_or_default());
        Ok(Self {
            relative,
            absolute: None,
            identity,
            modified: modified
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
        })
    }

    /// True if the name leads to the child's own folder or beneath it, from where images may be
    /// opened without anybody's leave.
    pub fn is_beneath(&self) -> bool {
        let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
        self.relative.components().all(inside)
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
