//! The digests between the pages and the footer of a file, by which damage is found before
//! anything is decoded.
//!
//! Parquet does not look there: its footer says where the pages are. The two digests are apart, so
//! that the header can be believed without reading all rows.

use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};
use tempfile::NamedTempFile;
use vdisk_core::{Error, Result};

/// What the seal begins with.
const MAGIC: &[u8; 8] = b"vdisk-fp";
/// Bytes of the seal: what it begins with and two digests.
pub(crate) const LEN: u64 = ROOM.len() as u64;
/// Its place while it is not known.
const ROOM: [u8; 72] = [0; 72];
/// What every Parquet file ends with, after four bytes with the length of its footer.
const END: &[u8; 4] = b"PAR1";
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Two SHA-256.
pub(crate) struct Seal {
    /// Of all before the seal.
    pub(crate) pages: [u8; 32],
    /// Of all behind it.
    pub(crate) footer: [u8; 32],
}

impl Seal {
    fn bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &self.pages, &self.footer].concat()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (digests, rest) = bytes.strip_prefix(MAGIC)?.as_chunks::<32>();
        match digests {
            [pages, footer] if rest.is_empty() => Some(Self {
                pages: *pages,
                footer: *footer,
            }),
            _ => None,
        }
    }

    /// Reads the end of `file`, which has `len` bytes: its seal, where that begins, and the footer,
    /// which is as it was written.
    pub(crate) fn read(file: &File, len: u64) -> Result<(Self, u64, Vec<u8>)> {
        let io = |e| Error::io("read", e);
        let mut end = [0; 8];
        let Some(end_at) = len.checked_sub(end.len() as u64) else {
            return Err(Error::corrupt(
                "footer",
                "is not there: the file is too short",
            ));
        };
        file.read_exact_at(&mut end, end_at).map_err(io)?;
        let [a, b, c, d, magic @ ..] = end;
        if magic != *END {
            return Err(Error::corrupt(
                "footer",
                "is not there: this is no whole Parquet file",
            ));
        }
        let footer_len = u64::from(u32::from_le_bytes([a, b, c, d]));
        let start = end_at
            .checked_sub(footer_len)
            .and_then(|footer| footer.checked_sub(LEN))
            .filter(|_| footer_len <= crate::FOOTER);
        let Some(start) = start else {
            let detail = format!("has {footer_len} bytes, more than the file or than is accepted");
            return Err(Error::corrupt("footer", detail).at(end_at));
        };
        let mut bytes = vec![0; usize::try_from(len - start).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, start).map_err(io)?;
        let (seal, rest) = bytes.split_at_checked(ROOM.len()).unwrap_or_default();
        let Some(seal) = Self::parse(seal) else {
            let detail = "is not there: the file is damaged, or was not written by vdisk";
            return Err(Error::corrupt("seal", detail).at(start));
        };
        if Sha256::digest(rest)[..] != seal.footer {
            return Err(Error::corrupt("footer", "does not match its digest").at(start + LEN));
        }
        let footer = rest.get(..rest.len().saturating_sub(8)).unwrap_or_default();
        Ok((seal, start, footer.to_vec()))
    }

    /// Reads the first `len` bytes of `file` and compares.
    pub(crate) fn check_pages(&self, file: &File, len: u64) -> Result<()> {
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < len {
            let wanted = usize::try_from(len - at).unwrap_or(PIECE).min(PIECE);
            let part = piece.get_mut(..wanted).unwrap_or_default();
            file.read_exact_at(part, at)
                .map_err(|e| Error::io("read", e))?;
            hasher.update(&*part);
            at += wanted as u64;
        }
        match hasher.finalize()[..] == self.pages {
            true => Ok(()),
            false => Err(Error::corrupt("pages", "do not match their digest")),
        }
    }
}

/// A temporary file that knows the digest of what is written to it.
pub(crate) struct Sealing {
    pub(crate) file: NamedTempFile,
    hasher: Sha256,
    len: u64,
    /// Where the seal begins, and the digest of what lies before it.
    pages: Option<(u64, [u8; 32])>,
}

impl Sealing {
    pub(crate) fn new(file: NamedTempFile) -> Self {
        Self {
            file,
            hasher: Sha256::new(),
            len: 0,
            pages: None,
        }
    }

    /// Leaves room for the seal: all pages are written.
    pub(crate) fn leave_room(&mut self) -> io::Result<()> {
        let digest = std::mem::take(&mut self.hasher).finalize();
        self.pages = Some((self.len, digest.into()));
        self.file.write_all(&ROOM)?;
        self.len += LEN;
        Ok(())
    }

    /// Writes the seal: all else is written.
    pub(crate) fn seal(self) -> io::Result<NamedTempFile> {
        let footer = self.hasher.finalize().into();
        if let Some((at, pages)) = self.pages {
            let seal = Seal { pages, footer };
            self.file.as_file().write_all_at(&seal.bytes(), at)?;
        }
        self.file.as_file().sync_data()?;
        Ok(self.file)
    }
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.len += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
