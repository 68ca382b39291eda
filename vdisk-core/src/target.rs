//! Where a new image goes: a file that appears whole or not at all, or a pipe.

use crate::{Error, ErrorKind, InFile, Result, storage::FileId};
use std::{
    fs::{self, File},
    io::{self, Write},
    num::NonZeroU64,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Receives the bytes of a new image.
///
/// Pipes accept only ascending positions and fill gaps with zeros; the subformats that can be
/// written to one say so ([`Subformat::streams`](crate::format::Subformat)).
pub trait Target: Send {
    /// Writes all of `bytes` at `pos`, growing the file if needed. Gaps read as zero.
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()>;
    /// Sets the final length; new bytes read as zero.
    fn set_size(&mut self, size: u64) -> Result<()>;
}

impl<T: Target + ?Sized> Target for &mut T {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        (**self).write_at(pos, bytes)
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        (**self).set_size(size)
    }
}

/// How an [`Output`] file is made.
#[derive(Clone, Debug)]
pub struct OutputOptions {
    /// Replace an existing file.
    pub force: bool,
    /// Flush to the medium before the file gets its name.
    pub sync: bool,
    /// Files that must not be replaced whatever `force` says: the inputs.
    pub inputs: Vec<FileId>,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            force: false,
            sync: true,
            inputs: Vec::new(),
        }
    }
}

/// A file under a temporary name in its final folder, until [`Output::publish`] renames it.
///
/// Dropped without that, it is removed.
///
/// ```
/// use vdisk_core::target::{Output, OutputOptions, Target};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("new.raw");
/// let mut output = Output::create(&path, OutputOptions::default())?;
/// output.write_at(0, b"bytes")?;
/// assert!(!path.exists());
/// output.publish()?;
/// assert!(path.exists());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub struct Output {
    path: PathBuf,
    file: tempfile::NamedTempFile,
    /// Up to where the medium was told to begin.
    begun: u64,
    options: OutputOptions,
}

/// Bytes after which the system is asked to begin writing to the medium, so that the final flush
/// finds little left to do.
const WRITE_BEHIND: u64 = 16 << 20;

impl Output {
    /// Starts the file that will be `path`.
    ///
    /// Fails with [`ErrorKind::Usage`] if `path` exists and may not be replaced, is an input, or is
    /// not a regular file.
    pub fn create(path: &Path, options: OutputOptions) -> Result<Self> {
        let (path, replaced) = Self::check(path, &options)?;
        let folder = folder_of(&path);
        let file = tempfile::Builder::new()
            .prefix(".vdisk-") // not the name: that may be as long as names can be
            .suffix(".partial")
            .permissions(fs::Permissions::from_mode(0o666)) // less the umask
            .tempfile_in(folder)
            .map_err(|e| Error::io("create", e))
            .in_file(&path)?;
        if let Some(permissions) = replaced {
            file.as_file()
                .set_permissions(permissions)
                .map_err(|e| Error::io("create", e))
                .in_file(&path)?;
        }
        Ok(Self {
            path,
            file,
            begun: 0,
            options,
        })
    }

    /// The path to write, links followed, and the permissions of the file there, after all checks
    /// that can be made before work starts.
    fn check(path: &Path, options: &OutputOptions) -> Result<(PathBuf, Option<fs::Permissions>)> {
        let usage = |detail: &str| Err(Error::new(ErrorKind::Usage, "output", detail).path(path));
        // Links are followed; nothing is opened, so a FIFO cannot hang the program.
        let Ok(existing) = path.metadata() else {
            return match path.symlink_metadata() {
                Ok(_) => usage("exists and cannot be looked at"),
                Err(_) if path.file_name().is_none() => usage("is not a file name"),
                Err(_) if !folder_of(path).is_dir() => usage("is in a folder that does not exist"),
                Err(_) => Ok((path.to_owned(), None)),
            };
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
        let real = path
            .canonicalize()
            .map_err(|e| Error::io("output", e))
            .in_file(path)?;
        Ok((real, Some(existing.permissions())))
    }

    /// Flushes the file if asked to, and gives it its name.
    pub fn publish(self) -> Result<()> {
        let Self {
            path,
            file,
            options,
            ..
        } = self;
        if options.sync {
            file.as_file()
                .sync_all()
                .map_err(|e| Error::io("flush", e))
                .in_file(&path)?;
        }
        let persisted = if options.force {
            file.persist(&path)
        } else {
            file.persist_noclobber(&path)
        };
        persisted
            .map_err(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => {
                    Error::new(ErrorKind::Usage, "output", "exists already")
                }
                _ => Error::io("rename", e.error),
            })
            .in_file(&path)?;
        if options.sync {
            let folder = folder_of(&path);
            File::open(folder)
                .and_then(|f| f.sync_all())
                .map_err(|e| Error::io("flush", e))
                .in_file(folder)?;
        }
        Ok(())
    }
}

/// The folder that `path` lies in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

impl Target for Output {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .as_file()
            .write_all_at(bytes, pos)
            .map_err(|e| Error::io("write", e))
            .in_file(&self.path)?;
        let end = pos + bytes.len() as u64;
        if self.options.sync && end >= self.begun + WRITE_BEHIND {
            // Only a hint: Linux starts to write such pages, and drops those that are written.
            let len = NonZeroU64::new(end - self.begun);
            let _ = rustix::fs::fadvise(
                self.file.as_file(),
                self.begun,
                len,
                rustix::fs::Advice::DontNeed,
            );
            self.begun = end;
        }
        Ok(())
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        self.file
            .as_file()
            .set_len(size)
            .map_err(|e| Error::io("write", e))
            .in_file(&self.path)
    }
}

/// A pipe, or anything else that takes bytes in order.
///
/// ```
/// use vdisk_core::target::{Stream, Target};
/// let mut bytes = vec![];
/// let mut stream = Stream::new(&mut bytes);
/// stream.write_at(2, b"ab")?;
/// stream.set_size(5)?;
/// assert!(stream.write_at(0, b"late").is_err());
/// assert_eq!(bytes, b"\0\0ab\0");
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub struct Stream<W> {
    out: W,
    written: u64,
    stop: Arc<AtomicBool>,
}

impl<W: Write + Send> Stream<W> {
    /// Writes to `out` from position 0.
    pub fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            stop: Arc::default(),
        }
    }

    /// Also looks at `stop` while it writes zeros into a gap, which can be terabytes long.
    #[must_use]
    pub fn stopped_by(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|e| Error::io("output stream", e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl<W: Write + Send> Target for Stream<W> {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        if pos < self.written {
            let error = io::Error::from(io::ErrorKind::NotSeekable);
            return Err(Error::io("write", error));
        }
        self.set_size(pos)?;
        self.put(bytes)
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        while self.written < size {
            let len = crate::disk::part_len(ZEROS.len(), self.written, size);
            self.put(ZEROS.get(..len).unwrap_or_default())?;
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    "write",
                    "stopped on request",
                ));
            }
        }
        self.out.flush().map_err(|e| Error::io("output stream", e))
    }
}

impl Target for Vec<u8> {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        let start = crate::units::buffer_len(pos)?;
        let end = start + bytes.len();
        if self.len() < end {
            self.resize(end, 0);
        }
        if let Some(room) = self.get_mut(start..end) {
            room.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        self.resize(crate::units::buffer_len(size)?, 0);
        Ok(())
    }
}
