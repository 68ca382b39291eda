//! What the operations share that change an image in place: which files, as when planned.

use super::Stamp;
use crate::{
    Chain, Error, ErrorKind, OpenOptions, Result,
    format::{self, Context},
    storage::{Access, FileId, ImageFile},
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

/// All files that a plan depends on, those of the image first.
pub(super) fn stamps(chain: &Chain) -> Result<Vec<Stamp>> {
    chain.files().map(|file| Stamp::of(file.path())).collect()
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
    let same = |(file, stamp): (&ImageFile, &Stamp)| {
        let id = fs::metadata(&stamp.path).ok().map(|m| FileId::of(&m));
        id.is_some() && file.tag.id == id
    };
    if chain.files().count() != stamps.len() || !chain.files().zip(stamps).all(same) {
        let detail = "is now made of other files than those that the change was planned for";
        return Err(Error::new(ErrorKind::Conflict, "plan", detail).path(image));
    }
    stamps.iter().try_for_each(Stamp::check)?;
    Ok(chain)
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

/// The same for the files of a plan.
pub(super) fn absolute_stamps(stamps: &mut [Stamp]) -> Result<()> {
    for stamp in stamps {
        stamp.path = absolute(&stamp.path)?;
    }
    Ok(())
}
