//! Reading what a segment records, once, and making fingerprints of it.
//!
//! All work on bytes is done by the workers of the job, piece by piece; what comes back from them
//! is some bytes for each block.

use super::{Block, Content, Fingerprint};
use crate::{
    Disk, Extent, Job, Kind, Result,
    disk::{extents, same_kind},
    is_zero,
    ops::convert::deflate,
    units::{buffer_len, round_down, round_up},
};
use std::{cell::RefCell, collections::VecDeque, ops::Range};

/// How much is read at once, in bytes. It is hashed right after, and should be in the core's cache by
/// then. Half or four times as much makes no difference that can be measured.
const READ: u64 = 256 << 10;

/// Bytes that all workers read into, at most, if one is not more already. What they deflate into
/// comes to about as much.
const BUFFERED: u64 = 16 << 20;

/// Runs that a worker gets at once, if they are short. 4096 bytes each make up a piece of usual size.
const RUNS: usize = 64;

/// What says most of the ratio that others reach: the level of gzip, zip and most file systems.
const LEVEL: u32 = 6;

/// Reads the blocks of `unit` bytes that `recorded` does not leave to its parent, and hands them to
/// `sink` in ascending order, in pieces, each not empty.
///
/// `recorded` says what the segment records: [`Kind::Absent`] is left out; a block of which it
/// records any part is read. `disk` is the whole chain from the segment's top down, and is read;
/// for a segment without a parent both are the same, and the blocks tile the disk. Zero and
/// absent ranges are not read.
///
/// One in 2 to the power of `deflate_bits` blocks of data, by fingerprint, is deflated too.
///
/// Progress is over all bytes of the disk, also those that are not read.
///
/// ```
/// # use vdisk_core::{Job, Result, ops::dedup, testing};
/// # let disk = testing::disk(&[(4096, Some(1)), (1 << 40, None)]);
/// let mut blocks = vec![];
/// dedup::scan(&disk, &disk, 4096, 10, &Job::default(), &mut |some| {
///     blocks.extend_from_slice(some);
///     Ok(())
/// })?;
/// assert_eq!(blocks.len(), 2); // one of data, and one long run of zeros
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn scan(
    recorded: &dyn Disk,
    disk: &dyn Disk,
    unit: u64,
    deflate_bits: u32,
    job: &Job<'_>,
    sink: &mut dyn FnMut(&[Block]) -> Result<()>,
) -> Result<()> {
    let size = recorded.size();
    let job = &job.within(BUFFERED, READ.max(unit));
    job.watch.phase("scan", size);
    let mut done = 0;
    // What the sink has not seen: zeros at the end, because more may follow.
    let mut ready: Vec<Block> = Vec::new();
    job.in_order(
        Pieces::new(recorded, unit),
        |piece| Ok((piece.end, read(disk, &piece, unit, deflate_bits)?)),
        |(end, blocks)| {
            blocks.into_iter().for_each(|b| push(&mut ready, b));
            let zeros = ready.pop_if(|b| b.content == Content::Zero);
            if !ready.is_empty() {
                sink(&ready)?;
                ready.clear();
            }
            ready.extend(zeros);
            job.advance(end - std::mem::replace(&mut done, end))
        },
    )?;
    if !ready.is_empty() {
        sink(&ready)?;
    }
    job.advance(size - done)
}

/// Appends `block`, joined to the last one if both are zeros.
fn push(blocks: &mut Vec<Block>, block: Block) {
    match blocks.last_mut() {
        Some(last)
            if (last.content, block.content) == (Content::Zero, Content::Zero)
                && last.pos + last.len == block.pos =>
        {
            last.len += block.len;
        }
        _ => blocks.push(block),
    }
}

thread_local! {
    /// What a worker reads into, and what it deflates into, taken once and kept.
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// The blocks of a piece.
fn read(disk: &dyn Disk, piece: &Piece, unit: u64, deflate_bits: u32) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let step = buffer_len(unit)?;
    BUFFERS.with_borrow_mut(|(buffer, packed)| {
        for run in &piece.runs {
            let (mut pos, len) = (run.range.start, run.range.end - run.range.start);
            if run.kind != Kind::Data {
                let content = Content::Zero;
                push(&mut blocks, Block { pos, len, content });
                continue;
            }
            let len = buffer_len(len)?;
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            let bytes = buffer.get_mut(..len).unwrap_or_default();
            disk.read_at(pos, bytes)?;
            for bytes in bytes.chunks(step) {
                let (len, content) = (bytes.len() as u64, content(bytes, deflate_bits, packed)?);
                push(&mut blocks, Block { pos, len, content });
                pos += len;
            }
        }
        Ok(blocks)
    })
}

fn content(bytes: &[u8], deflate_bits: u32, packed: &mut Vec<u8>) -> Result<Content> {
    if is_zero(bytes) {
        return Ok(Content::Zero);
    }
    let print = Fingerprint::of(bytes);
    let mut deflated = None;
    if print.ends_with_zeros(deflate_bits) {
        packed.clear();
        deflate(bytes, LEVEL, packed)?;
        deflated = u32::try_from(packed.len().min(bytes.len())).ok();
    }
    Ok(Content::Data { print, deflated })
}

/// What a worker gets at once.
struct Piece {
    /// Recorded, in order: data of about [`READ`] bytes, and zeros.
    runs: Vec<Run>,
    /// All before it was handed out, or is absent.
    end: u64,
}

/// Whole units of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    range: Range<u64>,
    kind: Kind,
}

/// Cuts what a disk records into pieces for the workers.
struct Pieces<'a> {
    runs: Box<dyn Iterator<Item = Result<Run>> + 'a>,
    /// The rest of a run that was cut.
    rest: Option<Run>,
    /// No read crosses a multiple of this: so compressed grains are unpacked once.
    most: u64,
}

impl<'a> Pieces<'a> {
    fn new(recorded: &'a dyn Disk, unit: u64) -> Self {
        let spans = extents(recorded, 0..recorded.size(), same_kind)
            .map(|e| e.map(|Extent { range, kind, .. }| Run { range, kind }));
        Self {
            runs: Box::new(Units::new(spans, recorded.size(), unit)),
            rest: None,
            most: round_down(READ, unit).max(unit),
        }
    }

    /// The next run, at most as long as may be read at once.
    fn run(&mut self) -> Option<Result<Run>> {
        let mut run = match self.rest.take() {
            Some(rest) => rest,
            None => match self.runs.next()? {
                Ok(run) => run,
                error => return Some(error),
            },
        };
        let limit = round_down(run.range.start, self.most) + self.most;
        if run.kind == Kind::Data && run.range.end > limit {
            self.rest = Some(Run {
                range: limit..run.range.end,
                kind: run.kind,
            });
            run.range.end = limit;
        }
        Some(Ok(run))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut runs = Vec::new();
        let mut bytes = 0;
        while bytes < self.most && runs.len() < RUNS {
            match self.run() {
                Some(Ok(run)) if run.kind == Kind::Absent => {}
                Some(Ok(run)) => {
                    if run.kind == Kind::Data {
                        bytes += run.range.end - run.range.start;
                    }
                    runs.push(run);
                }
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        let end = runs.last()?.range.end;
        Some(Ok(Piece { runs, end }))
    }
}

/// Turns spans that tile a disk into runs of whole units. A unit in which they meet is data, whatever
/// they are: its bytes must be looked at.
struct Units<I> {
    spans: I,
    size: u64,
    unit: u64,
    /// The last run, which may end inside a unit, and go on.
    open: Option<Run>,
    ready: VecDeque<Run>,
}

impl<I: Iterator<Item = Result<Run>>> Units<I> {
    fn new(spans: I, size: u64, unit: u64) -> Self {
        Self {
            spans,
            size,
            unit,
            open: None,
            ready: VecDeque::new(),
        }
    }

    fn add(&mut self, span: Run) {
        let Some(mut open) = self.open.take() else {
            self.open = Some(span);
            return;
        };
        let (meet, end) = (span.range.start, span.range.end);
        if open.kind == span.kind {
            open.range.end = end;
            self.open = Some(open);
            return;
        }
        if meet.is_multiple_of(self.unit) {
            self.ready.push_back(open);
            self.open = Some(span);
            return;
        }
        let first = round_down(meet, self.unit);
        let past = round_up(meet, self.unit).min(self.size);
        if open.kind != Kind::Data {
            if open.range.start < first {
                self.ready.push_back(Run {
                    range: open.range.start..first,
                    kind: open.kind,
                });
            }
            open = Run {
                range: first..meet,
                kind: Kind::Data,
            };
        }
        if span.kind == Kind::Data || end <= past {
            open.range.end = end;
            self.open = Some(open);
        } else {
            open.range.end = past;
            self.ready.push_back(open);
            self.open = Some(Run {
                range: past..end,
                kind: span.kind,
            });
        }
    }
}

impl<I: Iterator<Item = Result<Run>>> Iterator for Units<I> {
    type Item = Result<Run>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(run) = self.ready.pop_front() {
                return Some(Ok(run));
            }
            match self.spans.next() {
                Some(Ok(span)) => self.add(span),
                Some(Err(error)) => return Some(Err(error)),
                None => return self.open.take().map(Ok),
            }
        }
    }
}
