//! The sector bitmap of a chunk of a child, while blocks of that chunk change.

use super::{
    bat::{BITMAP_LEN, Entry, state},
    revision::Revision,
};
use crate::{
    Result,
    units::{FileOffset, buffer_len},
};
use std::{num::NonZeroU64, ops::Range};

/// A sector bitmap.
pub(super) struct Chunk {
    number: u64,
    /// Blocks that share it.
    per_chunk: NonZeroU64,
    /// Where it is in the file, if it is.
    at: Option<u64>,
    bytes: Vec<u8>,
    /// The part that was changed.
    changed: Range<usize>,
}

impl Chunk {
    /// The bitmap of chunk `number` as it was before the change.
    pub(super) fn load(revision: &Revision<'_>, number: u64) -> Result<Self> {
        let numbering = revision.numbering;
        let entry = revision.before(numbering.bitmap_entry_of(number))?;
        let at = (entry.state() == state::PRESENT).then(|| entry.at());
        let bytes = match at {
            Some(at) => revision.read(at, BITMAP_LEN)?,
            None => vec![0; buffer_len(BITMAP_LEN)?],
        };
        Ok(Self {
            number,
            per_chunk: numbering.per_chunk,
            at,
            bytes,
            changed: 0..0,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The bytes that belong to `block`.
    fn part(&self, block: u64) -> Result<Range<usize>> {
        let len = BITMAP_LEN / self.per_chunk;
        let start = buffer_len((block % self.per_chunk).saturating_mul(len))?;
        Ok(start..start.saturating_add(buffer_len(len)?))
    }

    /// Which sectors of `block` are recorded.
    pub(super) fn bits(&self, block: u64) -> Result<Vec<u8>> {
        let part = self.part(block)?;
        Ok(self.bytes.get(part).unwrap_or_default().to_vec())
    }

    /// Sets the bits of `block`, which is a partial one from now on.
    pub(super) fn put(&mut self, block: u64, bits: &[u8]) -> Result<()> {
        let part = self.part(block)?;
        if let Some(room) = self.bytes.get_mut(part.clone())
            && room.len() == bits.len()
        {
            room.copy_from_slice(bits);
            self.changed = match self.changed.is_empty() {
                true => part,
                false => self.changed.start.min(part.start)..self.changed.end.max(part.end),
            };
        }
        Ok(())
    }

    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes what was changed, at the end of the file if there was no bitmap, and returns its
    /// entry. What the bits promise is on the medium before them.
    pub(super) fn write(self, revision: &mut Revision<'_>) -> Result<Entry> {
        let at = match self.at {
            Some(at) => {
                revision.settle()?;
                let from = FileOffset(at).plus(self.changed.start as u64)?;
                let part = self.bytes.get(self.changed).unwrap_or_default();
                revision.write(from.0, part)?;
                at
            }
            None => {
                let at = revision.allocate(BITMAP_LEN)?;
                revision.write(at, &self.bytes)?;
                at
            }
        };
        Ok(Entry::new(state::PRESENT, at))
    }
}
