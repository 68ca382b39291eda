//! An image as it must be before anything in it is changed: its footer and the copy of it agree.
//!
//! What is changed gets new checksums, which would make what was wrong before look right.

use super::{
    disk_structs::{FIXED, FOOTER_CHECKSUM, FOOTER_UUID, amended},
    footer::{self, Found},
    readable,
};
use crate::{
    Error, ErrorKind, Ids, Result,
    storage::ImageFile,
    transaction::Transaction,
    units::{SECTOR, buffer_len},
    zeros::is_zero,
};
use std::ops::Range;

/// Bytes that are looked at or set to zero at once.
const PIECE: u64 = 1 << 20;

/// A sound image, as it was before it is changed.
pub(super) struct Sound {
    pub(super) file: ImageFile,
    pub(super) found: Found,
    /// The footer's bytes, which are also those of its copy.
    pub(super) footer: Vec<u8>,
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

    /// Puts the footer at `at`, with other bytes in some of its `fields` and the unique ID of `ids`,
    /// if there is one; also its copy.
    pub(super) fn write_footer(
        &self,
        transaction: &Transaction<'_>,
        at: u64,
        fields: &[(Range<usize>, &[u8])],
        ids: Option<Ids>,
    ) -> Result<()> {
        let mut fields = fields.to_vec();
        fields.extend(ids.as_ref().map(|ids| (FOOTER_UUID, ids.uuid.as_slice())));
        let bytes = amended(&self.footer, FOOTER_CHECKSUM, &fields)?;
        let same = bytes == self.footer;
        if !same && !self.is_fixed() {
            transaction.write(&self.file, 0, &bytes)?;
            // Until the footer follows, readers go by the footer.
            transaction.barrier()?;
        }
        if !same || at != self.found.data_end {
            transaction.write(&self.file, at, &bytes)?;
        }
        Ok(())
    }

    /// Sets `range` of the file to zero, as far as it is in the file and is not zero.
    pub(super) fn clear(&self, transaction: &Transaction<'_>, range: Range<u64>) -> Result<()> {
        let end = range.end.min(transaction.size(&self.file)?);
        let mut at = range.start;
        while at < end {
            let len = end.saturating_sub(at).min(PIECE);
            let mut bytes = vec![0; buffer_len(len)?];
            // What was added to the file in a rehearsal cannot be read; it was zero.
            let known = buffer_len(len.min(self.file.size.saturating_sub(at)))?;
            let old = bytes.get_mut(..known).unwrap_or_default();
            transaction.read_at(&self.file, at, old)?;
            if !is_zero(&bytes) {
                bytes.fill(0);
                transaction.write(&self.file, at, &bytes)?;
            }
            at = at.saturating_add(len);
        }
        Ok(())
    }
}

/// Where the file ends while it grows: the footer comes there.
pub(super) struct Tail {
    pub(super) end: u64,
}

impl Tail {
    pub(super) fn new(sound: &Sound) -> Self {
        Self {
            end: sound.found.data_end,
        }
    }

    /// Makes room up to `end`, which reads as zero. To be called before anything is written there.
    pub(super) fn grow(
        &mut self,
        sound: &Sound,
        transaction: &Transaction<'_>,
        end: u64,
    ) -> Result<()> {
        if end <= self.end {
            return Ok(());
        }
        if self.end == sound.found.data_end {
            let footer = vec![0; sound.footer.len()];
            transaction.write(&sound.file, sound.found.data_end, &footer)?;
        }
        self.end = end;
        Ok(())
    }
}

pub(super) fn unsound<T>(part: &'static str, what: &str) -> Result<T> {
    let detail = format!("{what}; it must be repaired before it is changed");
    Err(Error::new(ErrorKind::Corrupt, part, detail))
}
