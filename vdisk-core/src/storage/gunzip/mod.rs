//! A gzip file (RFC 1952) read at any position, without unpacking it to a file.
//!
//! Deflate can only be read from its start. So one pass at opening keeps copies of the
//! decompressor's state, and a read goes on from the nearest one. The distance between them grows
//! with the file, so that they never take more than some 23 MB.

mod cursor;
#[cfg(test)]
mod tests;

use super::{ImageFile, Storage};
use crate::{Error, ErrorKind, Result, limits};
use cursor::{CUT_SHORT, Cursor, Input, Step, TRAILER, Trouble, header};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// Unpacked bytes between two checkpoints, at first.
const SPACING: u64 = 1 << 20;
/// Checkpoints kept. Each takes about 44 KiB: the window and the Huffman tables.
const CHECKPOINTS: usize = 512;
/// Readers that stay where they are between calls: more than a job usually has threads.
const CURSORS: usize = 16;

/// See the module.
pub(crate) struct Gunzip {
    packed: Arc<dyn Storage>,
    packed_size: u64,
    size: u64,
    /// Ascending by position; the first is at 0.
    checkpoints: Vec<Cursor>,
    /// The least recently used first.
    cursors: Mutex<Vec<Cursor>>,
}

impl Gunzip {
    /// Unpacks all of `file` once, to learn its length and to check the CRCs. More than `most`
    /// bytes are refused.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the file is cut short, damaged, or holds something behind the
    /// last gzip member; [`ErrorKind::Limit`] beyond `most`.
    pub(crate) fn open(file: &ImageFile, most: u64) -> Result<Self> {
        Self::open_spaced(file, most, SPACING)
    }

    /// The same with other distances between checkpoints.
    fn open_spaced(file: &ImageFile, most: u64, spacing: u64) -> Result<Self> {
        let mut gunzip = Self {
            packed: Arc::clone(&file.storage),
            packed_size: file.size,
            size: 0,
            checkpoints: Vec::new(),
            cursors: Mutex::default(),
        };
        match gunzip.survey(most.min(limits::DISK_SIZE), spacing) {
            Ok(Some(size)) => {
                gunzip.size = size;
                Ok(gunzip)
            }
            Ok(None) => {
                let detail = format!(
                    "unpacks to more than {most} bytes, which no disk of its capacity needs"
                );
                Err(Error::new(ErrorKind::Limit, "gzip", detail).path(file.path()))
            }
            Err(Trouble::Damaged(what, at)) => {
                Err(Error::corrupt("gzip", what).at(at).path(file.path()))
            }
            Err(Trouble::Read(e)) => Err(Error::io("read", e).path(file.path())),
        }
    }

    /// The unpacked size, or `None` if it is beyond `most`. Sets the checkpoints.
    fn survey(&mut self, most: u64, mut spacing: u64) -> Result<Option<u64>, Trouble> {
        let mut input = Input::default();
        let mut cursor = Cursor::new(header(&*self.packed, self.packed_size, 0)?);
        let mut due = 0;
        let mut crc = flate2::Crc::new();
        loop {
            if cursor.out >= due {
                if self.checkpoints.len() >= CHECKPOINTS {
                    let mut keep = false;
                    self.checkpoints.retain(|_| {
                        keep = !keep;
                        keep
                    });
                    spacing = spacing.saturating_mul(2);
                }
                self.checkpoints.push(cursor.clone());
                due = cursor.out.saturating_add(spacing);
            }
            let step = cursor.step(&mut input, &*self.packed, self.packed_size)?;
            let (Step::Bytes(count) | Step::End(count)) = step;
            crc.update(cursor.last(count));
            if cursor.out > most {
                return Ok(None);
            }
            if let Step::End(_) = step {
                let mut trailer = [0; 8];
                let at = cursor.next;
                if at.saturating_add(TRAILER) > self.packed_size {
                    return Err(Trouble::Damaged(CUT_SHORT, self.packed_size));
                }
                self.packed.read_at(at, &mut trailer)?;
                let [a, b, c, d, e, f, g, h] = trailer;
                if u32::from_le_bytes([a, b, c, d]) != crc.sum() {
                    return Err(Trouble::Damaged("does not match its CRC-32", at));
                }
                if u32::from_le_bytes([e, f, g, h]) != crc.amount() {
                    return Err(Trouble::Damaged("does not match its recorded length", at));
                }
                if at.saturating_add(TRAILER) == self.packed_size {
                    return Ok(Some(cursor.out));
                }
                cursor.next_member(&*self.packed, self.packed_size)?;
                crc.reset();
            }
        }
    }

    /// The nearest cursor or checkpoint from which `pos` can be reached.
    fn nearest(&self, pos: u64) -> io::Result<Cursor> {
        let mut waiting = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let best = (0..waiting.len())
            .filter_map(|i| {
                waiting
                    .get(i)
                    .filter(|c| c.start() <= pos)
                    .map(|c| (c.out, i))
            })
            .max();
        let after = self.checkpoints.partition_point(|c| c.start() <= pos);
        let checkpoint = after.checked_sub(1).and_then(|i| self.checkpoints.get(i));
        match (best, checkpoint) {
            (Some((out, index)), checkpoint) if checkpoint.is_none_or(|c| c.out <= out) => {
                Ok(waiting.remove(index))
            }
            (_, Some(checkpoint)) => Ok(checkpoint.clone()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn put_back(&self, cursor: Cursor) {
        let mut waiting = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= CURSORS {
            waiting.remove(0);
        }
        waiting.push(cursor);
    }
}

impl Storage for Gunzip {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = pos
            .checked_add(buf.len() as u64)
            .filter(|end| *end <= self.size)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if buf.is_empty() {
            return Ok(());
        }
        let mut cursor = self.nearest(pos)?;
        let mut input = Input::default();
        let mut done = pos;
        loop {
            done += cursor.copy(done, end, pos, buf);
            if done >= end {
                self.put_back(cursor);
                return Ok(());
            }
            let step = cursor.step(&mut input, &*self.packed, self.packed_size);
            let next = match step {
                Ok(Step::Bytes(_)) => Ok(()),
                Ok(Step::End(_)) => {
                    // The last bytes of this member are in the window, which the next reuses.
                    done += cursor.copy(done, end, pos, buf);
                    match done >= end {
                        true => return Ok(()),
                        false => cursor.next_member(&*self.packed, self.packed_size),
                    }
                }
                Err(trouble) => Err(trouble),
            };
            // All of it was readable once: the file was changed since.
            next.map_err(|trouble| match trouble {
                Trouble::Read(error) => error,
                damaged => io::Error::new(io::ErrorKind::InvalidData, damaged.to_string()),
            })?;
        }
    }
}
