//! An image as it must be before anything in it is changed: its footers and its header agree.
//!
//! What is changed gets new checksums, which would make what was wrong before look right.

use super::{
    bat::Blocks,
    disk_structs::{DynamicHeader, FIXED, HEADER_CHECKSUM, HEADER_LEN, amended, header_checksum},
    footer::{self, Found},
    read_header, readable,
};
use crate::{Error, ErrorKind, Place, Result, storage::ImageFile, units::SECTOR};

/// The footer of a sound image.
pub(super) struct Sound {
    pub(super) file: ImageFile,
    pub(super) found: Found,
    /// The footer's bytes, which are also those of its copy.
    pub(super) footer: Vec<u8>,
}

/// The dynamic header of a sound image, and the table that it leads to.
pub(super) struct Table {
    pub(super) header_at: u64,
    pub(super) header: DynamicHeader,
    /// The header's bytes.
    pub(super) bytes: Vec<u8>,
    pub(super) blocks: Blocks,
}

impl Sound {
    /// Reads the footers of `file`.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if there is anything to be repaired.
    pub(super) fn read(file: &ImageFile) -> Result<Self> {
        let found = footer::find(file)?;
        readable(&found.footer)?;
        if !found.warnings.is_empty() {
            return unsound("footer", "is damaged or not where it belongs");
        }
        let footer = file.read_part("footer", found.data_end, SECTOR)?;
        if found.footer.disk_type != FIXED && file.read_part("footer copy", 0, SECTOR)? != footer {
            return unsound("footer", "differs from its copy at the start of the file");
        }
        Ok(Self {
            file: file.clone(),
            found,
            footer,
        })
    }

    /// True for a fixed disk, which has no table.
    pub(super) fn is_fixed(&self) -> bool {
        self.found.footer.disk_type == FIXED
    }

    /// Reads the header of an image with blocks. A sector that is not kept is a `hole`.
    pub(super) fn table(&self, hole: Place) -> Result<Table> {
        let header_at = self.found.footer.data_offset;
        let (header, bytes) = read_header(&self.file, header_at)?;
        if header.checksum != header_checksum(&bytes) {
            return unsound("dynamic header", "has a wrong checksum");
        }
        let blocks = Blocks::new(self.file.clone(), &self.found, &header, hole)?;
        Ok(Table {
            header_at,
            header,
            bytes,
            blocks,
        })
    }
}

impl Table {
    /// The header's bytes with other bytes in some places.
    pub(super) fn amended(&self, fields: &[(std::ops::Range<usize>, &[u8])]) -> Result<Vec<u8>> {
        amended(&self.bytes, HEADER_CHECKSUM, fields)
    }

    /// Where the header is.
    pub(super) fn header_range(&self) -> std::ops::Range<u64> {
        self.header_at..self.header_at.saturating_add(HEADER_LEN as u64)
    }
}

fn unsound<T>(part: &'static str, what: &str) -> Result<T> {
    let detail = format!("{what}; it must be repaired before it is changed");
    Err(Error::new(ErrorKind::Corrupt, part, detail))
}
