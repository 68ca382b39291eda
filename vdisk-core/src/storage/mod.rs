//! Positioned access to the bytes of one file, whatever holds them.
//!
//! Everything above this file reads through [`Storage`], so that an image can lie in a file, in
//! memory or behind a network without the formats knowing.

mod gunzip;
mod joined;
mod window;

pub(crate) use gunzip::Gunzip;
pub(crate) use joined::Joined;

use crate::{Error, InFile, Result};
use std::{
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes that can be read at any position, from any thread.
///
/// Implement this for anything that holds an image file. `read_at` fills the buffer or fails; it
/// never returns short. Positions and lengths come from untrusted images: a request past the end
/// must fail with [`io::ErrorKind::UnexpectedEof`], not panic.
pub trait Storage: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `buf` with the bytes at `pos`.
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Says whether `pos` lies in a hole of the file, which reads as zero, and until where.
    ///
    /// Storage that cannot tell answers that all of it is data.
    fn span_at(&self, pos: u64) -> io::Result<Span> {
        let _ = pos;
        Ok(Span {
            hole: false,
            end: self.size()?,
        })
    }
}

/// A stretch of a file that is a hole, or is not. Ends after the position that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// True where the file has no blocks and reads as zero.
    pub hole: bool,
    /// First byte after the stretch.
    pub end: u64,
}

impl Storage for File {
    fn size(&self) -> io::Result<u64> {
        use std::os::unix::fs::FileTypeExt;
        let metadata = self.metadata()?;
        if metadata.file_type().is_block_device() {
            // A device reports no length in its metadata.
            return Ok(rustix::fs::seek(self, rustix::fs::SeekFrom::End(0))?);
        }
        Ok(metadata.len())
    }

    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, pos)
    }

    fn span_at(&self, pos: u64) -> io::Result<Span> {
        use rustix::{
            fs::{SeekFrom, seek},
            io::Errno,
        };
        let size = Storage::size(self)?;
        // The file's cursor moves, but positioned reads do not use it.
        match seek(self, SeekFrom::Data(pos)) {
            Ok(data) if data > pos => Ok(Span {
                hole: true,
                end: data,
            }),
            Ok(_) => Ok(Span {
                hole: false,
                end: seek(self, SeekFrom::Hole(pos)).map_or(size, |end| end.max(pos + 1)),
            }),
            // No data from here to the end of the file.
            Err(Errno::NXIO) if pos < size => Ok(Span {
                hole: true,
                end: size,
            }),
            // Not a file system that knows holes.
            Err(_) => Ok(Span {
                hole: false,
                end: size,
            }),
        }
    }
}

impl Storage for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(pos)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// Who a file is, by whatever name it was reached. Device and inode on Unix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The identity of the file that `metadata` describe.
    pub fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The name under which a file was opened, and who it is. Shared by everything read from it.
#[derive(Debug)]
pub struct FileTag {
    /// As opened; for messages and for resolving further references.
    pub path: PathBuf,
    /// `None` for storage that is not a file.
    pub id: Option<FileId>,
    /// Bytes that the file takes on its medium; its length where that is not known.
    pub allocated: u64,
}

/// A file that holds an image or a part of one, opened for reading.
#[derive(Clone)]
pub struct ImageFile {
    /// Its bytes.
    pub storage: Arc<dyn Storage>,
    /// Its name and identity.
    pub tag: Arc<FileTag>,
    /// Its length when it was opened, in bytes.
    pub size: u64,
    /// For a part of another file: where that part lies. `None` for a file of its own.
    pub part_of: Option<PartOf>,
}

/// Where an [`ImageFile`] lies that is a part of another file.
#[derive(Clone, Debug)]
pub struct PartOf {
    /// The file that holds it.
    pub file: Arc<FileTag>,
    /// Its first byte there.
    pub at: u64,
}

/// How files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Positioned reads. A file that shrinks meanwhile gives an error.
    #[default]
    Positioned,
    /// A memory map: faster for cached sequential reads, but a file that another process
    /// shortens meanwhile kills this one.
    Mapped,
}

impl ImageFile {
    /// Opens the file at `path`, which the caller vouches for. Names that come out of images go
    /// through a [`Resolver`](crate::Resolver) instead.
    ///
    /// Anything but a regular file or a block device is refused before it is read, so that a FIFO
    /// cannot hang the program.
    ///
    /// ```no_run
    /// use vdisk_core::storage::{Access, ImageFile};
    /// let file = ImageFile::open("base.vmdk".as_ref(), Access::Positioned)?;
    /// println!("{} bytes", file.size);
    /// # Ok::<(), vdisk_core::Error>(())
    /// ```
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options()
            .read(true)
            .custom_flags(nonblock)
            .open(path)
            .map_err(|e| Error::io("open", e))
            .in_file(path)?;
        let meta = file
            .metadata()
            .map_err(|e| Error::io("open", e))
            .in_file(path)?;
        let kind = meta.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let what = if kind.is_dir() {
                "is a folder, not an image"
            } else {
                "is not a regular file or block device"
            };
            return Err(Error::new(crate::ErrorKind::Usage, "open", what).path(path));
        }
        let size = Storage::size(&file)
            .map_err(|e| Error::io("open", e))
            .in_file(path)?;
        let tag = FileTag {
            path: path.to_owned(),
            id: Some(FileId::of(&meta)),
            allocated: meta.blocks().saturating_mul(512),
        };
        let storage: Arc<dyn Storage> = match access {
            Access::Positioned => Arc::new(file),
            Access::Mapped => Arc::new(
                crate::mmap::Mapped::new(file)
                    .map_err(|e| Error::io("map", e))
                    .in_file(path)?,
            ),
        };
        Ok(Self {
            storage,
            tag: Arc::new(tag),
            size,
            part_of: None,
        })
    }

    /// Storage that is not a file on this machine, under a name for messages.
    ///
    /// ```
    /// use vdisk_core::storage::ImageFile;
    /// let file = ImageFile::from_storage("memory.vmdk", vec![0u8; 512]).unwrap();
    /// assert_eq!(file.size, 512);
    /// ```
    pub fn from_storage(name: impl Into<PathBuf>, storage: impl Storage + 'static) -> Result<Self> {
        let path = name.into();
        let size = storage
            .size()
            .map_err(|e| Error::io("open", e))
            .in_file(&path)?;
        Ok(Self {
            storage: Arc::new(storage),
            tag: Arc::new(FileTag {
                path,
                id: None,
                allocated: size,
            }),
            size,
            part_of: None,
        })
    }

    /// The name, for messages.
    pub fn path(&self) -> &Path {
        &self.tag.path
    }

    /// True for a block device, whose length is not ours to change.
    pub(crate) fn is_device(&self) -> Result<bool> {
        use std::os::unix::fs::FileTypeExt;
        let metadata = std::fs::metadata(self.path())
            .map_err(|e| Error::io("open", e))
            .in_file(self.path())?;
        Ok(metadata.file_type().is_block_device())
    }

    /// Fills `buf` from `pos`; an error names the file and the place.
    pub fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        self.storage
            .read_at(pos, buf)
            .map_err(|e| Error::io("read", e).at(pos).path(self.path()))
    }

    /// Reads `len` bytes at `pos` for `part` of the metadata, which must lie inside the file.
    ///
    /// The file's length is checked before memory is taken.
    pub(crate) fn read_part(&self, part: &'static str, pos: u64, len: u64) -> Result<Vec<u8>> {
        let inside = pos.checked_add(len).is_some_and(|end| end <= self.size);
        if !inside {
            let detail = format!(
                "needs {len} bytes, but the file ends at {:#x}; it is cut short or damaged",
                self.size
            );
            return Err(Error::corrupt(part, detail).at(pos).path(self.path()));
        }
        let mut buf = vec![0; crate::units::buffer_len(len)?];
        self.read_at(pos, &mut buf)?;
        Ok(buf)
    }
}
