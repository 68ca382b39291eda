//! A change of an image under way: new places at the end of the file, entries of the table a page at
//! a time, and the order in which all of it reaches the medium.
//!
//! Entries are visited in ascending order, and what was written is never read again: so a rehearsal,
//! in which reading gives what was there before, takes the same way.

use super::{
    bat::{ENTRY_LEN, Entry, Numbering, PAGE, TABLE},
    current::Current,
    disk_structs::MIB,
    header::Replacing,
    space,
};
use crate::{
    Error, Layer, Result,
    format::Update,
    is_zero, raw,
    storage::ImageFile,
    transaction::Transaction,
    units::{FileOffset, buffer_len, round_up},
};
use std::ops::Range;

/// Bytes that are looked at or written at once.
const PIECE: u64 = 1 << 20;

/// A change of the image that `current` describes.
pub(crate) struct Revision<'a> {
    transaction: &'a Transaction<'a>,
    pub(crate) current: Current,
    /// As before the change.
    pub(crate) numbering: Numbering,
    headers: Replacing,
    /// Entries that the table has before the change; what follows them means nothing.
    entries: u64,
    /// Where the table is afterwards.
    table: Range<u64>,
    page: Option<Page>,
    /// Where the next new place is.
    end: u64,
    /// Bytes that the file must have at least.
    length: u64,
    /// Where the file is cut off in the end.
    cut: Option<u64>,
    /// Something was written that entries may refer to, and is not on the medium yet.
    unsettled: bool,
}

/// A page of the table.
struct Page {
    number: u64,
    entries: Vec<u64>,
    changed: bool,
}

impl<'a> Revision<'a> {
    /// Starts to change the image of `layer`.
    pub(crate) fn begin(
        layer: &Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Self> {
        let current = Current::of(layer, update)?;
        let taken = space::taken(&current)?.end().saturating_mul(MIB);
        let numbering = current.numbering();
        Ok(Self {
            transaction,
            numbering,
            headers: current.headers(update.ids.as_ref())?,
            entries: numbering.entries(current.metadata.has_parent),
            table: current.regions.bat.clone(),
            page: None,
            end: round_up(current.file.size, MIB).max(taken),
            length: current.file.size,
            cut: None,
            unsettled: false,
            current,
        })
    }

    pub(crate) fn file(&self) -> &ImageFile {
        &self.current.file
    }

    pub(crate) fn child(&self) -> bool {
        self.current.metadata.has_parent
    }

    /// Takes `len` bytes at the end of the file, which are zero.
    pub(crate) fn allocate(&mut self, len: u64) -> Result<u64> {
        let at = self.end;
        self.end = FileOffset(at).plus(len)?.0;
        self.cover(self.end);
        Ok(at)
    }

    /// Makes the file at least `length` bytes long.
    pub(crate) fn cover(&mut self, length: u64) {
        self.length = self.length.max(length);
        self.unsettled = true;
    }

    /// Writes what entries refer to.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.unsettled = true;
        self.transaction.write(&self.current.file, at, bytes)
    }

    /// Makes `range` of the file zero, where it is not: nothing was written to it before.
    pub(crate) fn zero(&mut self, range: Range<u64>) -> Result<()> {
        // What is past the end will be zero when the file gets longer.
        let end = range.end.min(self.file().size);
        let mut at = range.start;
        while at < end {
            let len = end.saturating_sub(at).min(PIECE);
            let mut bytes = vec![0; buffer_len(len)?];
            self.file().read_at(at, &mut bytes)?;
            if !is_zero(&bytes) {
                bytes.fill(0);
                self.write(at, &bytes)?;
            }
            at = at.saturating_add(len);
        }
        Ok(())
    }

    /// Copies a block to where nothing is that is still needed.
    pub(crate) fn copy(&mut self, from: u64, at: u64, len: u64) -> Result<()> {
        self.unsettled = true;
        // Some programs cut the last block where the disk ends.
        let len = len.min(self.file().size.saturating_sub(from));
        self.transaction.copy(&self.current.file, from, at, len)
    }

    /// Says that nothing refers to `range` of the file, nor did before the change.
    pub(crate) fn disregard(&self, range: Range<u64>) -> Result<()> {
        let end = range.end.min(self.file().size);
        self.transaction.disregard(self.file(), range.start..end)
    }

    /// Cuts the file off at `length` in the end.
    pub(crate) fn shorten(&mut self, length: u64) {
        self.cut = Some(length);
    }

    /// Says that nothing refers to `range` of the file any more.
    /// Returns how many bytes of it were no hole.
    pub(crate) fn release(&self, range: Range<u64>) -> Result<u64> {
        raw::give_back(self.transaction, self.file(), range)
    }

    /// Bytes of a sector bitmap, as they were before the change.
    pub(crate) fn read(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        self.file().read_part("sector bitmap", at, len)
    }

    /// Entry `index` as it was before the change.
    pub(crate) fn before(&self, index: u64) -> Result<Entry> {
        if index >= self.entries {
            return Ok(Entry(0));
        }
        let start = self.current.regions.bat.start;
        let at = start.saturating_add(index.saturating_mul(ENTRY_LEN));
        let bytes = self.file().read_part(TABLE, at, ENTRY_LEN)?;
        let entry = bytes.first_chunk().map(|e| u64::from_le_bytes(*e));
        Ok(Entry(entry.unwrap_or(0)))
    }

    /// Entry `index`; its page comes after those that were visited before, or is the same.
    pub(crate) fn get(&mut self, index: u64) -> Result<Entry> {
        self.slot(index).map(|(entry, _)| Entry(*entry))
    }

    /// Sets entry `index`, as [`get`](Self::get) finds it.
    pub(crate) fn set(&mut self, index: u64, entry: Entry) -> Result<()> {
        let (slot, changed) = self.slot(index)?;
        *changed |= *slot != entry.0;
        *slot = entry.0;
        Ok(())
    }

    fn slot(&mut self, index: u64) -> Result<(&mut u64, &mut bool)> {
        let number = index / PAGE;
        if self.page.as_ref().is_none_or(|p| p.number != number) {
            self.turn()?;
            self.page = Some(self.load(number)?);
        }
        let inside = buffer_len(index % PAGE)?;
        self.page
            .as_mut()
            .and_then(|p| Some((p.entries.get_mut(inside)?, &mut p.changed)))
            .ok_or_else(|| Error::corrupt(TABLE, format!("has no entry {index}")))
    }

    /// Page `number`, without what follows the last entry. A table that moves is written as a whole.
    fn load(&self, number: u64) -> Result<Page> {
        let old = &self.current.regions.bat;
        let mut changed = *old != self.table;
        let len = PAGE.saturating_mul(ENTRY_LEN);
        let at = old.start.saturating_add(number.saturating_mul(len));
        let mut entries = vec![0; buffer_len(PAGE)?];
        if at < old.end {
            // A table is of whole MiB, so of whole pages.
            let bytes = self.file().read_part(TABLE, at, len)?;
            let first = number.saturating_mul(PAGE);
            let found = (first..).zip(bytes.as_chunks().0);
            for (slot, (index, bytes)) in entries.iter_mut().zip(found) {
                match index < self.entries {
                    true => *slot = u64::from_le_bytes(*bytes),
                    false => changed |= *bytes != [0; 8],
                }
            }
        }
        Ok(Page {
            number,
            entries,
            changed,
        })
    }

    /// Writes the current page, after all that it refers to.
    fn turn(&mut self) -> Result<()> {
        let Some(page) = self.page.take().filter(|p| p.changed) else {
            return Ok(());
        };
        self.settle()?;
        let bytes: Vec<u8> = page.entries.iter().flat_map(|e| e.to_le_bytes()).collect();
        let inside = page.number.saturating_mul(bytes.len() as u64);
        let at = FileOffset(self.table.start).plus(inside)?.0;
        if at.saturating_add(bytes.len() as u64) > self.table.end {
            return Err(Error::corrupt(TABLE, "has no room for its last entries"));
        }
        self.transaction.write(&self.current.file, at, &bytes)?;
        // The headers follow on the medium.
        Ok(())
    }

    /// Waits until what was written is on the medium, in a file that is long enough.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if !self.unsettled {
            return Ok(());
        }
        let file = &self.current.file;
        if self.length > self.transaction.size(file)? {
            self.transaction.set_len(file, self.length)?;
        }
        self.transaction.barrier()?;
        self.unsettled = false;
        Ok(())
    }

    /// Makes room for `entries` entries of the table: at the end of the file if there is none where
    /// it is. Before any entry is visited.
    pub(crate) fn reserve(&mut self, entries: u64) -> Result<bool> {
        let len = entries.saturating_mul(ENTRY_LEN);
        let room = self.table.end.saturating_sub(self.table.start);
        if len <= room {
            return Ok(false);
        }
        let len = round_up(len, MIB);
        let start = self.allocate(len)?;
        self.table = start..FileOffset(start).plus(len)?.0;
        self.release(self.current.regions.bat.clone())?;
        Ok(true)
    }

    /// Where the table is after the change.
    pub(crate) fn table(&self) -> Range<u64> {
        self.table.clone()
    }

    /// Writes what remains: the last page, then `metadata`, then the headers in turn.
    pub(crate) fn finish(mut self, metadata: &[(u64, Vec<u8>)]) -> Result<()> {
        self.turn()?;
        // Also what no entry refers to yet has its place in the file.
        self.settle()?;
        let (transaction, file) = (self.transaction, &self.current.file);
        transaction.barrier()?;
        if let Some(length) = self.cut {
            transaction.set_len(file, length)?;
        }
        for (at, bytes) in metadata {
            transaction.write(file, *at, bytes)?;
        }
        for (at, bytes) in &self.headers {
            transaction.barrier()?;
            transaction.write(file, *at, bytes)?;
        }
        Ok(())
    }
}
