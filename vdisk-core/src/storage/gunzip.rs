//! A gzip file (RFC 1952) read at any position, without unpacking it to a file.
//!
//! Deflate can only be read from its start. So one pass at opening keeps copies of the
//! decompressor's state, and a read goes on from the nearest one. The distance between them grows
//! with the file, so that they never take more than some 23 MB.

use super::{ImageFile, Storage};
use crate::{Error, ErrorKind, Result, limits};
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, TINFL_LZ_DICT_SIZE as WINDOW, decompress,
        inflate_flags::TINFL_FLAG_HAS_MORE_INPUT,
    },
};
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

#[cfg(test)]
mod tests;

/// Unpacked bytes between two checkpoints, at first.
const SPACING: u64 = 1 << 20;
/// Checkpoints kept. Each takes about 44 KiB: the window and the Huffman tables.
const CHECKPOINTS: usize = 512;
/// Readers that stay where they are between calls: more than a job usually has threads.
const CURSORS: usize = 16;
/// Compressed bytes read at once.
const INPUT: u64 = 64 << 10;
/// Bytes behind each deflate stream: CRC-32 and length.
const TRAILER: u64 = 8;
/// Most bytes of a gzip header. It may hold a file name and a comment.
const HEADER: u64 = 64 << 10;

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

/// A decompressor at work, which can be copied and left.
#[derive(Clone)]
struct Cursor {
    state: DecompressorOxide,
    /// The last bytes that came out, as a ring.
    window: Box<[u8]>,
    /// Where the compressed bytes go on.
    next: u64,
    /// Unpacked bytes so far.
    out: u64,
}

/// What a step of a [`Cursor`] led to.
enum Step {
    /// This many bytes came out.
    Bytes(usize),
    /// The deflate stream has ended, after this many bytes.
    End(usize),
}

/// Compressed bytes at hand, and where they begin.
#[derive(Default)]
struct Input {
    at: u64,
    bytes: Vec<u8>,
}

/// Why unpacking cannot go on.
enum Trouble {
    Read(io::Error),
    /// What is wrong, and where in the compressed file.
    Damaged(&'static str, u64),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Damaged(what, _) => f.write_str(what),
        }
    }
}

const CUT_SHORT: &str = "ends too early: the file is cut short";

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

impl Cursor {
    fn new(next: u64) -> Self {
        Self {
            state: DecompressorOxide::new(),
            window: vec![0; WINDOW].into(),
            next,
            out: 0,
        }
    }

    /// The first position whose byte is still in the window.
    fn start(&self) -> u64 {
        self.out.saturating_sub(WINDOW as u64)
    }

    /// Unpacks some more: up to the end of the ring or of the input at hand.
    fn step(
        &mut self,
        input: &mut Input,
        packed: &dyn Storage,
        packed_size: u64,
    ) -> Result<Step, Trouble> {
        loop {
            let available = input.from(self.next, packed, packed_size)?;
            let ring_pos = ring(self.out);
            let (status, taken, made) = decompress(
                &mut self.state,
                available,
                &mut self.window,
                ring_pos,
                TINFL_FLAG_HAS_MORE_INPUT,
            );
            self.next = self.next.saturating_add(taken as u64);
            self.out = self.out.saturating_add(made as u64);
            match status {
                TINFLStatus::Done => return Ok(Step::End(made)),
                _ if made > 0 => return Ok(Step::Bytes(made)),
                TINFLStatus::NeedsMoreInput if self.next >= packed_size => {
                    return Err(Trouble::Damaged(CUT_SHORT, packed_size));
                }
                TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput if taken > 0 => {}
                _ => return Err(Trouble::Damaged("is not valid deflate data", self.next)),
            }
        }
    }

    /// Goes on behind the trailer of a member that has ended.
    fn next_member(&mut self, packed: &dyn Storage, packed_size: u64) -> Result<(), Trouble> {
        let at = self.next.saturating_add(TRAILER);
        self.next = header(packed, packed_size, at)?;
        self.state = DecompressorOxide::new();
        Ok(())
    }

    /// The last `count` bytes that came out, of one step: they do not wrap.
    fn last(&self, count: usize) -> &[u8] {
        let start = ring(self.out.saturating_sub(count as u64));
        self.window
            .get(start..start.saturating_add(count))
            .unwrap_or_default()
    }

    /// Copies what the window has of `from..end` into `buf`, which begins at `base`. Returns how
    /// many bytes.
    fn copy(&self, from: u64, end: u64, base: u64, buf: &mut [u8]) -> u64 {
        let end = end.min(self.out);
        let mut at = from;
        while at < end && at >= self.start() {
            let (ring_at, buf_at) = (ring(at), at.saturating_sub(base));
            let Ok(buf_at) = usize::try_from(buf_at) else {
                break;
            };
            let len = crate::disk::part_len(WINDOW.saturating_sub(ring_at), at, end);
            let source = self.window.get(ring_at..ring_at.saturating_add(len));
            let Some((source, room)) = source.zip(buf.get_mut(buf_at..buf_at.saturating_add(len)))
            else {
                break;
            };
            room.copy_from_slice(source);
            at = at.saturating_add(len as u64);
        }
        at.saturating_sub(from)
    }
}

/// The place of `pos` in the window.
fn ring(pos: u64) -> usize {
    usize::try_from(pos % WINDOW as u64).unwrap_or(0)
}

impl Input {
    /// The compressed bytes from `at`, at least one unless the file ends there.
    fn from(&mut self, at: u64, packed: &dyn Storage, size: u64) -> io::Result<&[u8]> {
        let held = at
            .checked_sub(self.at)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| *skip < self.bytes.len());
        let skip = match held {
            Some(skip) => skip,
            None => {
                let len = size.saturating_sub(at).min(INPUT);
                self.bytes.resize(usize::try_from(len).unwrap_or(0), 0);
                packed.read_at(at, &mut self.bytes)?;
                self.at = at;
                0
            }
        };
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }
}

/// Checks the gzip header at `at`; returns where the deflate stream begins.
fn header(packed: &dyn Storage, size: u64, at: u64) -> Result<u64, Trouble> {
    const FHCRC: u8 = 2;
    const FEXTRA: u8 = 4;
    const FNAME: u8 = 8;
    const FCOMMENT: u8 = 16;
    let len = size.saturating_sub(at).min(HEADER);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    packed.read_at(at, &mut bytes)?;
    let damaged = |what| Err(Trouble::Damaged(what, at));
    let flags = match bytes.as_slice() {
        [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, ..] => *flags,
        [0x1f, 0x8b, ..] => {
            return damaged("has a header that is cut short or not of deflate data");
        }
        _ if at == 0 => return damaged("has no gzip signature"),
        _ => return damaged("is followed by something that is not gzip"),
    };
    let mut rest = bytes.get(10..).unwrap_or_default();
    if flags & FEXTRA != 0 {
        let extra = match rest {
            [low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])),
            _ => return damaged(CUT_SHORT),
        };
        rest = rest.get(extra.saturating_add(2)..).unwrap_or_default();
    }
    for flag in [FNAME, FCOMMENT] {
        if flags & flag != 0 {
            let Some(zero) = rest.iter().position(|&b| b == 0) else {
                return damaged("has a name or comment without an end");
            };
            rest = rest.get(zero.saturating_add(1)..).unwrap_or_default();
        }
    }
    if flags & FHCRC != 0 {
        rest = rest.get(2..).unwrap_or_default();
    }
    if rest.is_empty() {
        return damaged(CUT_SHORT);
    }
    let used = bytes.len().saturating_sub(rest.len());
    Ok(at.saturating_add(used as u64))
}
