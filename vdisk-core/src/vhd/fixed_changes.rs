//! Changes of fixed disks: the disk lies in the file as it is, so only its end needs care.

use super::{
    resize::Wanted,
    sound::{Sound, Tail},
    writer::ALIGNMENT,
};
use crate::{
    Error, ErrorKind, Ids, ImageWriter, Kind, Result,
    format::{Compacted, Compactor, Update},
    limits, raw,
    transaction::Transaction,
    units::{FileOffset, SECTOR},
};
use std::ops::Range;

/// Bytes of zeros that are written at once.
const PIECE: u64 = 1 << 20;

/// Writes to a fixed disk.
pub(super) struct Writer<'a> {
    sound: Sound,
    transaction: &'a Transaction<'a>,
    ids: Option<Ids>,
    /// Holes of the file are not zero, but what the parent holds.
    overlay: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(sound: Sound, transaction: &'a Transaction<'a>, update: &Update<'_>) -> Self {
        Self {
            sound,
            transaction,
            ids: update.ids,
            overlay: update.context.overlay,
        }
    }
}

impl ImageWriter for Writer<'_> {
    fn unit(&self) -> u64 {
        ALIGNMENT
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        inside(&self.sound, &range)?;
        self.transaction.write(&self.sound.file, range.start, bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        inside(&self.sound, &range)?;
        if !self.overlay {
            return self.sound.clear(self.transaction, range);
        }
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at.saturating_add(PIECE));
            let len = crate::units::buffer_len(end.saturating_sub(at))?;
            self.transaction
                .write(&self.sound.file, at, &vec![0; len])?;
            at = end;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.transaction.barrier()?;
        let at = self.sound.found.data_end;
        self.sound.write_footer(self.transaction, at, &[], self.ids)
    }
}

/// Fails if `range` goes past the end of the disk.
pub(super) fn inside(sound: &Sound, range: &Range<u64>) -> Result<()> {
    let size = sound.found.footer.current_size;
    if range.end <= size {
        return Ok(());
    }
    let detail = format!("goes past the end of the disk, {size:#x}");
    Err(Error::new(ErrorKind::OutOfRange, "write", detail))
}

/// Makes a fixed disk `size` bytes long: its footer moves.
pub(super) fn resize(
    sound: &Sound,
    transaction: &Transaction<'_>,
    update: &Update<'_>,
    size: u64,
) -> Result<()> {
    if size > limits::DISK_SIZE {
        let detail = format!("{size} bytes are more than {}", limits::DISK_SIZE);
        return Err(Error::new(ErrorKind::Limit, "virtual size", detail));
    }
    let (file, old) = (&sound.file, sound.found.footer.current_size);
    // Bytes between the disk and its footer would show.
    sound.clear(transaction, old..sound.found.data_end.min(size.max(old)))?;
    let mut tail = Tail::new(sound);
    tail.grow(sound, transaction, size)?;
    transaction.barrier()?;
    let wanted = Wanted::new(sound, size);
    sound.write_footer(transaction, size, &wanted.fields(), update.ids)?;
    let end = FileOffset(size).plus(SECTOR)?.0;
    if end != transaction.size(file)? {
        transaction.barrier()?;
        transaction.set_len(file, end)?;
    }
    Ok(())
}

/// Gives zeros of a fixed disk back to the file system.
pub(super) struct Holes<'a> {
    sound: Sound,
    transaction: &'a Transaction<'a>,
    ids: Option<Ids>,
    overlay: bool,
    /// Bytes that are given back.
    punched: u64,
}

impl<'a> Holes<'a> {
    pub(super) fn new(sound: Sound, transaction: &'a Transaction<'a>, update: &Update<'_>) -> Self {
        Self {
            sound,
            transaction,
            ids: update.ids,
            overlay: update.context.overlay,
            punched: 0,
        }
    }
}

impl Compactor for Holes<'_> {
    fn unit(&self) -> u64 {
        ALIGNMENT
    }

    fn remove(&mut self, range: Range<u64>, kind: Kind) -> Result<()> {
        inside(&self.sound, &range)?;
        // A file system need not make holes. In an overlay, only a hole lets the parent show; and
        // nothing else may become one.
        if self.overlay || kind == Kind::Data {
            return Ok(());
        }
        let punched = raw::give_back(self.transaction, &self.sound.file, range)?;
        self.punched = self.punched.saturating_add(punched);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Compacted> {
        let at = self.sound.found.data_end;
        self.sound
            .write_footer(self.transaction, at, &[], self.ids)?;
        Ok(Compacted {
            freed: self.punched,
            punched: self.punched,
            kept: self.punched,
            ..Compacted::default()
        })
    }
}
