//! How files are when they are read, so that fingerprints are used only as long as they are so.

use crate::args::shown;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};
use vdisk_core::{Error, Result, open::split_path};
use vdisk_fingerprints::FileStamp;

/// Systems note the time of a change in steps of up to 10 ms: two changes in one step look like one.
const STEP: Duration = Duration::from_millis(50);

/// The stamps of some files.
pub(super) struct Stamps {
    pub(super) files: Vec<FileStamp>,
    /// As they were opened.
    paths: Vec<PathBuf>,
    /// False if one of them is a device, whose changes leave no trace.
    pub(super) tell: bool,
}

impl Stamps {
    /// The files at `paths` as they are now. If one was changed this moment, the next moment is
    /// waited for, so that a further change will show.
    pub(super) fn of<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Self> {
        let mut stamps = Self {
            files: Vec::new(),
            paths: Vec::new(),
            tell: true,
        };
        for path in paths {
            let io = |e| Error::io("open", e).path(path);
            let mut metadata = fs::metadata(path).map_err(io)?;
            if is_new(&metadata) {
                thread::sleep(STEP);
                metadata = fs::metadata(path).map_err(io)?;
            }
            stamps.paths.push(path.clone());
            stamps.tell &= metadata.is_file();
            let nanoseconds = |seconds: i64, rest: i64| {
                seconds.saturating_mul(1_000_000_000).saturating_add(rest)
            };
            stamps.files.push(FileStamp {
                path: shown(&absolute(path)),
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.len(),
                allocated: metadata.blocks().saturating_mul(512),
                modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
                changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            });
        }
        Ok(stamps)
    }

    /// The first file that was in another state when `others` were taken, of all files or of those of the
    /// lower layers.
    pub(super) fn differs(&self, others: &[FileStamp]) -> Option<&Path> {
        let start = self.files.len().saturating_sub(others.len());
        let mut pairs = self.files.iter().zip(&self.paths).skip(start).zip(others);
        let changed = pairs.find(|((one, _), other)| !one.same(other));
        changed.map(|((_, path), _)| path.as_path())
    }
}

/// A change that set back `modified` still shows in the time of change of the inode.
fn is_new(metadata: &fs::Metadata) -> bool {
    let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    let changed = (u64::try_from(seconds).ok())
        .zip(u32::try_from(nanoseconds).ok())
        .map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let age = changed.and_then(|changed| now.ok()?.checked_sub(changed));
    age.is_some_and(|age| age < STEP)
}

/// The path from the root, without links; of a disk in a package, that of the package and its name.
pub(super) fn absolute(path: &Path) -> PathBuf {
    let (file, disk) = split_path(path);
    let mut full = file
        .canonicalize()
        .or_else(|_| std::path::absolute(&file))
        .unwrap_or(file)
        .into_os_string();
    if let Some(disk) = disk {
        full.push("::");
        full.push(disk);
    }
    full.into()
}

/// The name of this machine.
pub(super) fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
