//! The files that hold a disk of a package: one, or chunks of it, perhaps compressed.
//!
//! They are read as one file, so that formats need not know.

use super::{
    envelope::File,
    package::{Package, Source},
};
use crate::{
    Error, ErrorKind, Result, limits,
    storage::{FileTag, Gunzip, ImageFile, Joined, PartOf},
};
use std::sync::Arc;

/// A file of the package and its name there.
pub(super) type Piece = (String, ImageFile);

impl Package<'_> {
    fn missing(&self, what: &str, href: &str) -> Error {
        let (kind, part) = match self.source {
            Source::Archive(_) => (ErrorKind::Corrupt, "archive"),
            Source::Folder(_) => (ErrorKind::Reference, "extent"),
        };
        let detail = format!("{what} '{href}', which the OVF descriptor names, is missing");
        Error::new(kind, part, detail)
    }

    /// The files that hold `file`: itself, or its chunks in order.
    pub(super) fn pieces(&self, file: &File) -> Result<Vec<Piece>> {
        let plain = |e: Error| self.referenced(&file.href)?.map(|p| vec![p]).ok_or(e);
        let Some(chunk) = file.chunk else {
            return plain(self.missing("the file", &file.href));
        };
        let mut pieces: Vec<Piece> = Vec::new();
        let mut total = 0u64;
        let gap = loop {
            let number = pieces.len();
            let href = chunk_name(&file.href, number);
            let Some(piece) = self.referenced(&href)? else {
                let later = self.referenced(&chunk_name(&file.href, number.saturating_add(1)))?;
                break later.map(|_| href);
            };
            if number >= limits::ARCHIVE_MEMBERS {
                let detail = format!("has more than {number} chunks");
                return Err(Error::new(ErrorKind::Limit, file.href.clone(), detail));
            }
            total = total.saturating_add(piece.1.size);
            pieces.push(piece);
        };
        let next = chunk_name(&file.href, pieces.len());
        if pieces.is_empty() && gap.is_none() {
            // Some writers say how large chunks would be, and need none.
            return plain(self.missing("chunk 0", &next));
        }
        // Compressed files were packed before they were cut, and writers disagree on their size.
        let short = !file.gzip && file.size.is_some_and(|size| total < size);
        let all_full = pieces.iter().all(|(_, p)| p.size == chunk);
        if gap.is_some() || (short && all_full) {
            return Err(self.missing(&format!("chunk {}", pieces.len()), &next));
        }
        for (number, (name, piece)) in pieces.iter().enumerate() {
            let last = number.saturating_add(1) == pieces.len();
            if piece.size > chunk || (piece.size < chunk && !last) || (last && short) {
                let detail = format!(
                    "('{name}') has {} bytes, which does not fit chunks of {chunk} in a file of {}",
                    piece.size,
                    file.size
                        .map_or("unknown size".to_owned(), |s| s.to_string())
                );
                return Err(Error::corrupt(format!("chunk {number}"), detail));
            }
        }
        Ok(pieces)
    }

    /// `pieces` of `file` as one file: joined and unpacked, as far as needed. A compressed one may
    /// unpack to `most` bytes.
    pub(super) fn whole(&self, file: &File, pieces: &[Piece], most: u64) -> Result<ImageFile> {
        if let ([(_, only)], false) = (pieces, file.gzip) {
            return Ok(only.clone());
        }
        let mut path = self.file.path().as_os_str().to_owned();
        path.push("::");
        path.push(&file.href);
        let parts: Vec<ImageFile> = pieces.iter().map(|(_, piece)| piece.clone()).collect();
        let joined = Joined::new(&parts).map_err(|e| Error::io("open", e))?;
        let mut whole = ImageFile::from_storage(&path, joined)?;
        if file.gzip {
            whole = ImageFile::from_storage(&path, Gunzip::open(&whole, most)?)?;
        }
        // Its places are in no file, so they are the same as no others. But the package's own file
        // stands behind it, and is not to be written to.
        whole.part_of = Some(PartOf {
            file: Arc::clone(&whole.tag),
            at: 0,
        });
        whole.tag = Arc::new(FileTag {
            path: path.into(),
            id: self.file.tag.id,
            allocated: match self.source {
                Source::Archive(_) => parts.iter().map(|p| p.size).sum(),
                Source::Folder(_) => 0, // the pieces are listed for themselves
            },
        });
        Ok(whole)
    }

    /// The files of a folder that belong to an image made of `pieces`, besides the one it is read
    /// from. In an archive there is only that one.
    pub(super) fn companions(&self, image: &ImageFile, pieces: &[Piece]) -> Result<Vec<ImageFile>> {
        if self.archive().is_some() {
            return Ok(Vec::new());
        }
        let mut files = match image.tag.id == self.file.tag.id {
            true => pieces.iter().map(|(_, piece)| piece.clone()).collect(),
            false => vec![self.file.clone()],
        };
        files.extend(self.find(&self.beside(".mf"))?);
        Ok(files)
    }
}

/// DSP0243: the name, a point, and nine digits.
fn chunk_name(href: &str, number: usize) -> String {
    format!("{href}.{number:09}")
}
