//! Ways from one file to another, so that both can be moved together.

use crate::{Error, Result};
use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

/// The folder that `path` lies in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The folder of the file `path`, without links.
pub(crate) fn canonical_folder(path: &Path) -> Result<PathBuf> {
    let folder = folder(path);
    folder
        .canonicalize()
        .map_err(|e| Error::io("open", e).path(folder))
}

/// The way from the folder `from` to the file `name` in the folder `to`; both are canonical.
pub(crate) fn relative(from: &Path, to: &Path, name: &OsStr) -> PathBuf {
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let down = to.components().skip(shared);
    let mut path: PathBuf = up.chain(down).collect();
    path.push(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_go_up_and_down() {
        for (from, to, way) in [
            ("/a/b", "/a/b", "p.vmdk"),
            ("/a/b", "/a/b/c", "c/p.vmdk"),
            ("/a/b/c", "/a/d", "../../d/p.vmdk"),
            ("/", "/x", "x/p.vmdk"),
        ] {
            let found = relative(from.as_ref(), to.as_ref(), "p.vmdk".as_ref());
            assert_eq!(found, Path::new(way), "{from} to {to}");
        }
    }
}
