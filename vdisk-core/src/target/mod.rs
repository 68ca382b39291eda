//! Where a new image goes: files that appear whole or not at all, or a pipe.
//!
//! Writers know only [`Target`], so that one writer serves files, pipes and memory.

mod counting;
mod file;
mod output;

pub use counting::{Counting, FileSize};
pub use output::{Output, OutputOptions};

use crate::{Error, ErrorKind, Result};
use std::{
    io::{self, Write},
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
    /// Starts a further file of the same image: `name`, in the folder of this one.
    ///
    /// What can be checked of the name is checked now, so that a writer names all its files before
    /// long work. Fails with [`ErrorKind::Usage`] on a pipe, or if `name` may not be written.
    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        let detail = format!("takes one file, and the image also needs '{name}'");
        Err(Error::new(ErrorKind::Usage, "output", detail))
    }
}

impl<T: Target + ?Sized> Target for &mut T {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        (**self).write_at(pos, bytes)
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        (**self).set_size(size)
    }
    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        (**self).beside(name)
    }
}

impl<T: Target + ?Sized> Target for Box<T> {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        (**self).write_at(pos, bytes)
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        (**self).set_size(size)
    }
    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        (**self).beside(name)
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
