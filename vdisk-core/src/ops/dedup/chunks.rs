//! Chunks whose ends follow from the contents, for comparison with blocks of one size.

use super::{Fingerprint, UNIT};
use crate::{
    Disk, Error, ErrorKind, Job, Result, is_zero,
    ops::{CHUNK, Piece, pieces, runs},
    units::buffer_len,
};
use fastcdc::v2020::FastCDC;
use std::{cell::RefCell, collections::VecDeque, ops::Range};

/// Bytes of all buffers, at most, if those of one worker are not more already.
const BUFFERED: u64 = 48 << 20;

/// The fingerprint of a chunk, and its length in bytes.
pub type Chunk = (Fingerprint, u32);

/// Cuts every stretch of `disk` without all-zero blocks of 4 KiB into chunks of about `average`
/// bytes (FastCDC, a quarter to four times that), and hands them to `sink` in order.
///
/// Fails unless `average` is a power of two from 1 KiB to 1 MiB.
///
/// ```
/// # use vdisk_core::{Job, ops::dedup, testing};
/// # let disk = testing::disk(&[(100_000, Some(7)), (1 << 30, None)]);
/// let mut bytes = 0;
/// dedup::chunks(&disk, 4096, &Job::default(), &mut |chunks| {
///     bytes += chunks.iter().map(|c| u64::from(c.1)).sum::<u64>();
///     Ok(())
/// })?;
/// assert_eq!(bytes, 25 * 4096); // zeros inside a block stay
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn chunks(
    disk: &dyn Disk,
    average: u32,
    job: &Job<'_>,
    sink: &mut dyn FnMut(&[Chunk]) -> Result<()>,
) -> Result<()> {
    if !average.is_power_of_two() || !(1 << 10..=1 << 20).contains(&average) {
        let detail = format!("{average} is not a power of two from 1 KiB to 1 MiB");
        return Err(Error::new(ErrorKind::Usage, "chunk size", detail));
    }
    let cutter = RefCell::new(Cutter::new(average)?);
    let job = &job.within(BUFFERED, cutter.borrow().for_each_worker());
    job.watch.phase("chunks", disk.size());
    let mut pieces = pieces(disk, UNIT, CHUNK);
    // What is cut is hashed before more is read, so that it does not pile up.
    let tasks = std::iter::from_fn(|| {
        let mut cutter = cutter.borrow_mut();
        if let Some(cut) = cutter.ready.pop_front() {
            return Some(Ok(Task::Hash(cut)));
        }
        let piece = pieces.next()?;
        Some(piece.map(|p| Task::Read(p, cutter.buffer())))
    });
    let work = |task| match task {
        Task::Read(piece, buffer) => Ok(Outcome::Read(Stretches::read(disk, piece, buffer)?)),
        Task::Hash(cut) => Ok(Outcome::Hashed(cut.chunks(), cut.bytes)),
    };
    let mut done = |outcome| match outcome {
        Outcome::Hashed(chunks, buffer) => {
            cutter.borrow_mut().spare.push(buffer);
            sink(&chunks)
        }
        Outcome::Read(stretches) => {
            let mut cutter = cutter.borrow_mut();
            for (start, bytes) in stretches.parts() {
                cutter.add(start, bytes);
            }
            cutter.spare.push(stretches.bytes);
            job.advance(stretches.piece.range.end - stretches.piece.range.start)
        }
    };
    job.in_order(tasks, work, &mut done)?;
    cutter.borrow_mut().end();
    let rest = std::mem::take(&mut cutter.borrow_mut().ready);
    job.in_order(rest.into_iter().map(|c| Ok(Task::Hash(c))), work, done)
}

/// What a worker does. Between the two kinds, the calling thread cuts, which must be done in order.
enum Task {
    /// With the buffer to read into.
    Read(Piece, Vec<u8>),
    Hash(Cut),
}

enum Outcome {
    Read(Stretches),
    /// With the buffer that is free now.
    Hashed(Vec<Chunk>, Vec<u8>),
}

/// Bytes that are whole chunks, and where these end.
struct Cut {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Cut {
    fn chunks(&self) -> Vec<Chunk> {
        let mut start = 0;
        let chunk = |end: &usize| {
            let bytes = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            (Fingerprint::of(bytes), len)
        };
        self.ends.iter().map(chunk).collect()
    }
}

/// A piece and the parts of it that are not zero.
struct Stretches {
    piece: Piece,
    bytes: Vec<u8>,
    inside: Vec<Range<usize>>,
}

impl Stretches {
    fn read(disk: &dyn Disk, piece: Piece, mut bytes: Vec<u8>) -> Result<Self> {
        let mut inside = Vec::new();
        if piece.data {
            bytes.resize(buffer_len(piece.range.end - piece.range.start)?, 0);
            disk.read_at(piece.range.start, &mut bytes)?;
            let zero = |part| bytes.get(part).is_none_or(is_zero);
            let found = runs(piece.range.start, bytes.len(), UNIT, zero);
            inside.extend(found.into_iter().filter(|r| !r.2).map(|r| r.1));
        }
        Ok(Self {
            piece,
            bytes,
            inside,
        })
    }

    /// Positions on the disk, and the bytes there.
    fn parts(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.inside.iter().map(|inside| {
            let start = self.piece.range.start + inside.start as u64;
            (start, self.bytes.get(inside.clone()).unwrap_or_default())
        })
    }
}

/// Cuts stretches that come in parts as if each were in memory as a whole.
struct Cutter {
    least: usize,
    average: usize,
    most: usize,
    /// What is not cut yet, as more may belong to it, and where on the disk it ends.
    open: Vec<u8>,
    end: u64,
    /// What is cut, in order.
    ready: VecDeque<Cut>,
    /// Buffers to use again: memory that is new each time costs as much as the hashing.
    spare: Vec<Vec<u8>>,
}

impl Cutter {
    fn new(average: u32) -> Result<Self> {
        let average = buffer_len(average.into())?;
        Ok(Self {
            least: average / 4,
            average,
            most: average * 4,
            open: Vec::new(),
            end: 0,
            ready: VecDeque::new(),
            spare: Vec::new(),
        })
    }

    /// Bytes that each worker has under way: two buffers, which grow to twice what is in them.
    fn for_each_worker(&self) -> u64 {
        4 * (CHUNK + self.most as u64)
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn add(&mut self, start: u64, bytes: &[u8]) {
        if start != self.end {
            self.end();
        }
        self.end = start + bytes.len() as u64;
        self.open.extend_from_slice(bytes);
        // No cut depends on what is further away than the largest chunk.
        self.cut(self.most);
    }

    /// The stretch ends.
    fn end(&mut self) {
        self.cut(1);
    }

    /// Cuts while there are at least `needed` bytes.
    fn cut(&mut self, needed: usize) {
        let cutter = FastCDC::new(&self.open, self.least, self.average, self.most);
        let mut ends = Vec::new();
        let mut at = 0;
        while self.open.len() - at >= needed {
            at = cutter.cut(at, self.open.len() - at).1;
            ends.push(at);
        }
        if at > 0 {
            let mut rest = self.buffer();
            rest.clear();
            rest.extend_from_slice(self.open.get(at..).unwrap_or_default());
            let mut bytes = std::mem::replace(&mut self.open, rest);
            bytes.truncate(at);
            self.ready.push_back(Cut { bytes, ends });
        }
    }
}
