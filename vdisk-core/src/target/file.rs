//! One file of a new image: whether it may be made, its temporary name, and writing to it.
//!
//! All that can be refused is refused before work starts.

use super::{OutputOptions, Target};
pub(super) use crate::paths::folder as folder_of;
use crate::{
    Error, ErrorKind, InFile, Result, lock, storage::FileId, transaction::refuse_unfinished,
};
use std::{
    fs::{self, File},
    io,
    num::NonZeroU64,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};
use tempfile::TempPath;

/// A file that has its temporary name, which removes it when dropped.
pub(super) struct Unpublished {
    pub(super) path: PathBuf,
    pub(super) temporary: TempPath,
    /// Those of the file that it replaces.
    permissions: Option<fs::Permissions>,
}

/// A file while it is written.
pub(super) struct Writing {
    path: PathBuf,
    temporary: PathBuf,
    /// Opened by the first write: a disk can have more extents than a process may have open files.
    file: Option<File>,
    /// Up to where the medium was told to begin.
    begun: u64,
    sync: bool,
}

/// Bytes after which the system is asked to begin writing to the medium, so that the final flush
/// finds little left to do.
const WRITE_BEHIND: u64 = 16 << 20;

/// Makes the temporary file that will be `path`.
pub(super) fn start(path: &Path, options: &OutputOptions) -> Result<(Unpublished, Writing)> {
    let (path, permissions) = check(path, options)?;
    let file = tempfile::Builder::new()
        .prefix(".vdisk-") // not the name: that may be as long as names can be
        .suffix(".partial")
        .permissions(fs::Permissions::from_mode(0o666)) // less the umask
        .tempfile_in(folder_of(&path))
        .map_err(|e| Error::io("create", e))
        .in_file(&path)?;
    if let Some(permissions) = &permissions {
        // It is opened again for writing, but nobody else may look in the meantime.
        let writable = fs::Permissions::from_mode(permissions.mode() | 0o600);
        file.as_file()
            .set_permissions(writable)
            .map_err(|e| Error::io("create", e))
            .in_file(&path)?;
        // Only root can give files away; for others, the new file is theirs.
        if let Ok(old) = path.metadata() {
            let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        }
    }
    let temporary = file.into_temp_path();
    let writing = Writing {
        path: path.clone(),
        temporary: temporary.to_path_buf(),
        file: None,
        begun: 0,
        sync: options.sync,
    };
    let unpublished = Unpublished {
        path,
        temporary,
        permissions,
    };
    Ok((unpublished, writing))
}

/// The path to write, links followed, and the permissions of the file there, after all checks that
/// can be made before work starts.
pub(super) fn check(
    path: &Path,
    options: &OutputOptions,
) -> Result<(PathBuf, Option<fs::Permissions>)> {
    // It holds what the old files of an image were, which still may be wanted.
    refuse_unfinished(path)?;
    let usage = |detail: &str| Err(Error::new(ErrorKind::Usage, "output", detail).path(path));
    // Links are followed; nothing is opened, so a FIFO cannot hang the program.
    let existing = match path.metadata() {
        Ok(existing) => existing,
        Err(e) if path.is_symlink() => {
            return match e.kind() {
                io::ErrorKind::NotFound => usage("is a link that leads to no file"),
                _ => usage("is a link that cannot be followed"),
            };
        }
        Err(_) if path.file_name().is_none() => return usage("is not a file name"),
        Err(_) if !folder_of(path).is_dir() => return usage(&no_folder(path)),
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("output", e).path(path)); // such as a name that is too long
        }
        Err(_) => return Ok((path.to_owned(), None)),
    };
    if options.inputs.contains(&FileId::of(&existing)) {
        return usage("is also an input, and inputs are never written to");
    }
    if !existing.is_file() {
        return usage("exists and is not a regular file");
    }
    if !options.force {
        return usage("exists already");
    }
    lock::refuse_in_use(path)?;
    let real = path
        .canonicalize()
        .map_err(|e| Error::io("output", e))
        .in_file(path)?;
    Ok((real, Some(existing.permissions())))
}

/// Why nothing can be written at `path`, whose folder is none.
fn no_folder(path: &Path) -> String {
    match path.ancestors().skip(1).find(|p| p.exists()) {
        Some(file) if !file.is_dir() => {
            format!(
                "lies in '{}', which is a file, not a folder",
                file.display()
            )
        }
        _ => "is in a folder that does not exist".to_owned(),
    }
}

impl Unpublished {
    /// Fails if the file cannot be replaced any more: since it was started, another program took it
    /// into use or began to change it.
    pub(super) fn refuse_in_use(&self) -> Result<()> {
        refuse_unfinished(&self.path)?;
        match self.path.is_file() {
            true => lock::refuse_in_use(&self.path),
            false => Ok(()),
        }
    }

    pub(super) fn publish(self, options: &OutputOptions) -> Result<()> {
        let Self {
            path,
            temporary,
            permissions,
        } = self;
        if let Some(permissions) = permissions {
            fs::set_permissions(&temporary, permissions)
                .map_err(|e| Error::io("create", e))
                .in_file(&path)?;
        }
        let persisted = if options.force {
            temporary.persist(&path)
        } else {
            temporary.persist_noclobber(&path)
        };
        persisted
            .map_err(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => {
                    Error::new(ErrorKind::Usage, "output", "exists already")
                }
                _ => Error::io("rename", e.error),
            })
            .in_file(&path)
    }
}

impl Writing {
    fn file(&mut self) -> Result<&File> {
        if self.file.is_none() {
            let file = File::options()
                .write(true)
                .open(&self.temporary)
                .map_err(|e| Error::io("create", e))
                .in_file(&self.path)?;
            return Ok(self.file.insert(file));
        }
        self.file
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Io, "create", "is not open"))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.file()?
            .sync_all()
            .map_err(|e| Error::io("flush", e))
            .in_file(&self.path)
    }
}

impl Target for Writing {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.file()?
            .write_all_at(bytes, pos)
            .map_err(|e| Error::io("write", e))
            .in_file(&self.path)?;
        let end = pos + bytes.len() as u64;
        if self.sync && end >= self.begun + WRITE_BEHIND {
            // Only a hint: Linux starts to write such pages, and drops those that are written.
            let (begun, len) = (self.begun, NonZeroU64::new(end - self.begun));
            let _ = rustix::fs::fadvise(self.file()?, begun, len, rustix::fs::Advice::DontNeed);
            self.begun = end;
        }
        Ok(())
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        self.file()?
            .set_len(size)
            .map_err(|e| Error::io("write", e))
            .in_file(&self.path)
    }
}
