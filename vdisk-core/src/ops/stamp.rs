//! How a file was when a change of it was planned, so that the plan is not made to another one.

use super::in_place;
use crate::{Error, ErrorKind, Result, storage::ImageFile};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A file that a plan is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Its last change in nanoseconds since 1970; none where only its length must be the same.
    pub modified: Option<i64>,
}

impl Stamp {
    /// The file as it is now.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("a.raw");
    /// std::fs::write(&path, b"planned").unwrap();
    /// let stamp = vdisk_core::ops::Stamp::of(&path)?;
    /// stamp.check()?;
    /// std::fs::write(&path, b"changed since").unwrap();
    /// assert!(stamp.check().is_err());
    /// # Ok::<(), vdisk_core::Error>(())
    /// ```
    pub fn of(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|e| Error::io("open", e).path(path))?;
        let seconds = metadata.mtime().saturating_mul(1_000_000_000);
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
            modified: Some(seconds.saturating_add(metadata.mtime_nsec())),
        })
    }

    /// Fails with [`Conflict`](ErrorKind::Conflict) if the file is not as it was.
    pub fn check(&self) -> Result<()> {
        let now = Self::of(&self.path)?;
        let other_time = self.modified.is_some() && self.modified != now.modified;
        if now.size != self.size || other_time {
            let detail = "was changed since the change was planned; nothing was written";
            return Err(Error::new(ErrorKind::Conflict, "plan", detail).path(&self.path));
        }
        Ok(())
    }
}

/// `files` as they are now.
pub(super) fn all<'a>(files: impl IntoIterator<Item = &'a ImageFile>) -> Result<Vec<Stamp>> {
    let files = files.into_iter();
    files.map(|file| Stamp::of(file.path())).collect()
}

/// The stamps of files that were restored since: their times have changed.
pub(super) fn restored(stamps: &[Stamp]) -> Vec<Stamp> {
    let forget = |stamp: &Stamp| Stamp {
        modified: None,
        ..stamp.clone()
    };
    stamps.iter().map(forget).collect()
}

/// The same for whoever is in another folder.
pub(super) fn absolute(stamps: &[Stamp]) -> Result<Vec<Stamp>> {
    let absolute = |stamp: &Stamp| {
        Ok(Stamp {
            path: in_place::absolute(&stamp.path)?,
            ..stamp.clone()
        })
    };
    stamps.iter().map(absolute).collect()
}
