//! A deflate decompressor that can be copied and left, and the gzip headers between its streams.
//!
//! A copy is all that is needed to go on reading from where it stands.

use crate::{Result, storage::Storage};
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, TINFL_LZ_DICT_SIZE as WINDOW, decompress,
        inflate_flags::TINFL_FLAG_HAS_MORE_INPUT,
    },
};
use std::{fmt, io};

/// Compressed bytes read at once.
pub(super) const INPUT: u64 = 64 << 10;
/// Bytes behind each deflate stream: CRC-32 and length.
pub(super) const TRAILER: u64 = 8;
/// Most bytes of a gzip header. It may hold a file name and a comment.
const HEADER: u64 = 64 << 10;

/// A decompressor at work, which can be copied and left.
#[derive(Clone)]
pub(super) struct Cursor {
    state: DecompressorOxide,
    /// The last bytes that came out, as a ring.
    window: Box<[u8]>,
    /// Where the compressed bytes go on.
    pub(super) next: u64,
    /// Unpacked bytes so far.
    pub(super) out: u64,
}

/// What a step of a [`Cursor`] led to.
pub(super) enum Step {
    /// This many bytes came out.
    Bytes(usize),
    /// The deflate stream has ended, after this many bytes.
    End(usize),
}

/// Compressed bytes at hand, and where they begin.
#[derive(Default)]
pub(super) struct Input {
    at: u64,
    bytes: Vec<u8>,
}

/// Why unpacking cannot go on.
pub(super) enum Trouble {
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

pub(super) const CUT_SHORT: &str = "ends too early: the file is cut short";

impl Cursor {
    pub(super) fn new(next: u64) -> Self {
        Self {
            state: DecompressorOxide::new(),
            window: vec![0; WINDOW].into(),
            next,
            out: 0,
        }
    }

    /// The first position whose byte is still in the window.
    pub(super) fn start(&self) -> u64 {
        self.out.saturating_sub(WINDOW as u64)
    }

    /// Unpacks some more: up to the end of the ring or of the input at hand.
    pub(super) fn step(
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
    pub(super) fn next_member(
        &mut self,
        packed: &dyn Storage,
        packed_size: u64,
    ) -> Result<(), Trouble> {
        let at = self.next.saturating_add(TRAILER);
        self.next = header(packed, packed_size, at)?;
        self.state = DecompressorOxide::new();
        Ok(())
    }

    /// The last `count` bytes that came out, of one step: they do not wrap.
    pub(super) fn last(&self, count: usize) -> &[u8] {
        let start = ring(self.out.saturating_sub(count as u64));
        self.window
            .get(start..start.saturating_add(count))
            .unwrap_or_default()
    }

    /// Copies what the window has of `from..end` into `buf`, which begins at `base`. Returns how
    /// many bytes.
    pub(super) fn copy(&self, from: u64, end: u64, base: u64, buf: &mut [u8]) -> u64 {
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
pub(super) fn header(packed: &dyn Storage, size: u64, at: u64) -> Result<u64, Trouble> {
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
