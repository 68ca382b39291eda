//! Several files, one after the other, as one.
//!
//! OVF packages cut big files into chunks; they are read where they lie.

use super::{ImageFile, Span, Storage};
use std::io;

/// Files end to end.
pub(crate) struct Joined {
    /// Where each begins, ascending.
    parts: Vec<(u64, ImageFile)>,
    size: u64,
}

impl Joined {
    /// Joins `files` in this order. Empty ones are left out.
    pub(crate) fn new(files: &[ImageFile]) -> io::Result<Self> {
        let mut parts = Vec::new();
        let mut size = 0u64;
        for file in files.iter().filter(|f| f.size > 0) {
            parts.push((size, file.clone()));
            size = size
                .checked_add(file.size)
                .ok_or(io::ErrorKind::FileTooLarge)?;
        }
        Ok(Self { parts, size })
    }

    /// The file that holds `pos`, and where it begins.
    fn part(&self, pos: u64) -> io::Result<&(u64, ImageFile)> {
        let after = self.parts.partition_point(|(start, _)| *start <= pos);
        after
            .checked_sub(1)
            .and_then(|index| self.parts.get(index))
            .filter(|(start, file)| pos - start < file.size)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Storage for Joined {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, mut pos: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let (start, file) = self.part(pos)?;
            let inside = pos - start;
            let len = crate::disk::part_len(buf.len(), inside, file.size);
            let (now, rest) = buf.split_at_mut(len);
            file.storage.read_at(inside, now)?;
            pos += len as u64;
            buf = rest;
        }
        Ok(())
    }

    fn span_at(&self, pos: u64) -> io::Result<Span> {
        let (start, file) = self.part(pos)?;
        let span = file.storage.span_at(pos - start)?;
        Ok(Span {
            hole: span.hole,
            end: start.saturating_add(span.end.min(file.size)),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn every_range_reads_as_the_parts_end_to_end() {
        let whole: Vec<u8> = (0..40u8).collect();
        let cuts = [0usize, 7, 7, 20, 40];
        let parts: Vec<ImageFile> = cuts
            .windows(2)
            .map(|w| ImageFile::from_storage("part", whole[w[0]..w[1]].to_vec()).unwrap())
            .collect();
        let joined = Joined::new(&parts).unwrap();
        assert_eq!(joined.size().unwrap(), 40);
        for start in 0..=40 {
            for end in start..=40 {
                let mut bytes = vec![0; end - start];
                joined.read_at(start as u64, &mut bytes).unwrap();
                assert_eq!(bytes, whole[start..end]);
            }
        }
        for (pos, len) in [(40, 1), (39, 2), (u64::MAX, 1)] {
            assert!(joined.read_at(pos, &mut vec![0; len]).is_err());
        }
        assert_eq!(joined.span_at(8).unwrap().end, 20);
        assert!(joined.span_at(40).is_err());
    }
}
