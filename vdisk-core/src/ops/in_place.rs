//! What the operations share that change an image in place: which files, as when planned.

use super::{Stamp, redo::Redo};
use crate::{
    Chain, Error, ErrorKind, OpenOptions, Result,
    format::{self, Context},
    storage::{Access, FileId, ImageFile},
    transaction::{self, Medium, Totals, Transaction, Work},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Options for an image that is going to change: a map of a file that is cut would be no more.
pub(super) fn options<'a>(options: &OpenOptions<'a>) -> OpenOptions<'a> {
    OpenOptions {
        access: Access::Positioned,
        ..*options
    }
}

/// The files of the image, which are changed.
pub(super) fn files(chain: &Chain) -> Vec<&ImageFile> {
    chain.top().files().iter().collect()
}

/// Opens the image again, if it is of the files that were planned for, and these are as they were.
pub(super) fn open(
    image: &Path,
    format: &str,
    stamps: &[Stamp],
    given: &OpenOptions<'_>,
) -> Result<Chain> {
    let options = OpenOptions {
        format: Some(format::named(format)?),
        ..options(given)
    };
    let chain = crate::open(image, &options)?;
    same_files(image, chain.files(), stamps)?;
    Ok(chain)
}

/// Fails if `image` is made of other `files` than those that were planned for, or one of them was
/// changed.
pub(super) fn same_files<'a>(
    image: &Path,
    files: impl Iterator<Item = &'a ImageFile>,
    stamps: &[Stamp],
) -> Result<()> {
    let ids = files.map(|file| file.tag.id);
    let wanted = stamps.iter().map(|stamp| {
        let metadata = fs::metadata(&stamp.path);
        metadata.ok().map(|m| FileId::of(&m))
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.contains(&None) || !ids.eq(wanted) {
        let detail = "is now made of other files than those that the change was planned for";
        return Err(Error::new(ErrorKind::Conflict, "plan", detail).path(image));
    }
    stamps.iter().try_for_each(Stamp::check)
}

/// Makes `change` as one transaction on `files`, if all that the plan depends on is as it was.
pub(super) fn run<T>(
    files: &[&ImageFile],
    stamps: &[Stamp],
    redo: &Redo,
    medium: &dyn Medium,
    change: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<(T, Totals)> {
    let redo = redo.text()?;
    let work = Work {
        files,
        redo: &redo,
        medium,
    };
    transaction::run(&work, |t| {
        // Now that nobody else can change them.
        stamps.iter().try_for_each(Stamp::check)?;
        change(t)
    })
}

/// The image as a transaction has left it so far, over the parents that it has.
pub(super) fn reopen(chain: &Chain, options: &OpenOptions<'_>) -> Result<Chain> {
    let top = chain.top();
    // Not by the opener of images, which refuses those that are being changed.
    let file = ImageFile::open(top.path(), Access::Positioned)?;
    let layer = top.format().open(file, &context(options));
    let layer = Arc::new(layer.map_err(|e| e.path(top.path()))?);
    let parents = chain.layers().iter().skip(1).cloned();
    Chain::new(std::iter::once(layer).chain(parents).collect())
}

/// What a format needs to know of how the image was opened.
pub(super) fn context<'a>(options: &OpenOptions<'a>) -> Context<'a> {
    Context {
        resolver: options.resolver,
        overlay: false,
        disk: None,
        verify: false,
    }
}

/// The folder that `path` lies in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// `path` for whoever is in another folder.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("open", e).path(path))
}

/// The names of `paths`, for an error.
pub(super) fn quoted(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths
        .iter()
        .map(|path| format!("'{}'", path.display()))
        .collect();
    names.join(", ")
}
