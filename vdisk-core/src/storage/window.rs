//! A part of a file as a file of its own.
//!
//! The members of an archive are read where they lie: nothing is unpacked.

use super::{FileTag, ImageFile, PartOf, Span, Storage};
use crate::{Error, Result};
use std::{io, path::PathBuf, sync::Arc};

struct Window {
    whole: Arc<dyn Storage>,
    at: u64,
    len: u64,
}

impl Storage for Window {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        let inside = pos
            .checked_add(buf.len() as u64)
            .is_some_and(|end| end <= self.len);
        match self.at.checked_add(pos) {
            Some(at) if inside => self.whole.read_at(at, buf),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn span_at(&self, pos: u64) -> io::Result<Span> {
        let span = self.whole.span_at(self.at.saturating_add(pos))?;
        Ok(Span {
            hole: span.hole,
            end: span.end.saturating_sub(self.at).min(self.len),
        })
    }
}

impl ImageFile {
    /// The `len` bytes at `at`, which must lie inside this file, under a name for messages.
    ///
    /// The part has the identity of the whole, and reports places in it
    /// ([`Stored`](crate::disk::Stored)), so that `diff` sees when two disks share them.
    pub(crate) fn window(&self, name: PathBuf, at: u64, len: u64) -> Result<Self> {
        if at.checked_add(len).is_none_or(|end| end > self.size) {
            let detail = format!("ends after the file, which has {} bytes", self.size);
            return Err(Error::corrupt("window", detail).at(at).path(self.path()));
        }
        let part_of = match &self.part_of {
            Some(outer) => PartOf {
                file: Arc::clone(&outer.file),
                at: outer.at.saturating_add(at),
            },
            None => PartOf {
                file: Arc::clone(&self.tag),
                at,
            },
        };
        Ok(Self {
            storage: Arc::new(Window {
                whole: Arc::clone(&self.storage),
                at,
                len,
            }),
            tag: Arc::new(FileTag {
                path: name,
                id: self.tag.id,
                allocated: len,
            }),
            size: len,
            part_of: Some(part_of),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn a_window_shows_its_bytes_and_no_others() {
        let whole = ImageFile::from_storage("whole", (0..100u8).collect::<Vec<u8>>()).unwrap();
        let part = whole.window("part".into(), 10, 20).unwrap();
        let mut bytes = [0; 5];
        part.read_at(15, &mut bytes).unwrap();
        assert_eq!(bytes, [25, 26, 27, 28, 29]);
        for pos in [16, 20, u64::MAX - 12, u64::MAX] {
            assert!(part.read_at(pos, &mut bytes).is_err(), "{pos}");
        }
        assert_eq!(part.storage.span_at(3).unwrap().end, 20);
        // A window in a window still knows the outermost file.
        let inner = part.window("inner".into(), 4, 2).unwrap();
        let place = inner.part_of.unwrap();
        assert!(Arc::ptr_eq(&place.file, &whole.tag));
        assert_eq!(place.at, 14);
        assert!(whole.window("outside".into(), 90, 11).is_err());
        assert!(whole.window("outside".into(), u64::MAX, 2).is_err());
    }
}
