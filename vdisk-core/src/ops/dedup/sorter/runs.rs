//! Sorted runs of records in a temporary file, and merging them.
//!
//! One file for all: it has no name, so nothing is left of it however the process ends.

use super::Record;
use crate::{
    Error, ErrorKind, Job, Result,
    storage::Storage,
    transaction::{Files, Medium},
};
use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
    fs::File,
    io,
    marker::PhantomData,
    ops::Range,
    path::{Path, PathBuf},
};

/// Records after which a job is asked whether it should stop.
pub(super) const STEPS: usize = 4096;

/// Bytes read or written at once, where memory allows.
const PIECE: usize = 256 << 10;

/// Bytes read at once, at least: less costs more calls than merging in two steps.
const LEAST_PIECE: usize = 8 << 10;

/// Bytes that are given back to the file system when they were merged, at least: each time costs a call.
const HOLE: u64 = 128 << 10;

/// Runs merged at once, at most: 32 GiB of 128 MiB buffers. Reading from more places than this
/// makes disks seek.
const FAN_IN: usize = 256;

/// Runs, each ascending by key.
pub(super) struct Runs<R> {
    memory: usize,
    temp: PathBuf,
    /// Made for the first run.
    pub(super) file: Option<File>,
    /// Where each lies in the file; what was merged comes last.
    runs: VecDeque<Range<u64>>,
    /// End of the file, to which everything is appended.
    end: u64,
    record: PhantomData<R>,
}

impl<R: Record> Runs<R> {
    pub(super) fn new(memory: usize, temp: &Path) -> Self {
        Self {
            memory,
            temp: temp.to_owned(),
            file: None,
            runs: VecDeque::new(),
            end: 0,
            record: PhantomData,
        }
    }

    /// Bytes that [`add`](Self::add) takes of the memory.
    pub(super) fn piece(&self) -> usize {
        PIECE.min(self.memory / 8).max(R::LEN)
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.end
    }

    /// Writes `records` as a run.
    pub(super) fn add(&mut self, records: &[R], job: &Job<'_>) -> Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.temp).map_err(|e| self.failed(e))?,
        };
        let mut writer = self.writer(&file, self.piece());
        records.iter().try_for_each(|r| writer.push(r, job))?;
        let run = writer.finish(job)?;
        self.file = Some(file);
        self.end = run.end;
        self.runs.push_back(run);
        Ok(())
    }

    /// Hands all records to `sink`, ascending by key, one for each key, without void ones. Returns
    /// the bytes written to the file in all.
    pub(super) fn drain(
        mut self,
        job: &Job<'_>,
        sink: &mut dyn FnMut(R) -> Result<()>,
    ) -> Result<u64> {
        let Some(file) = self.file.take() else {
            return Ok(0);
        };
        let fan_in = (self.memory / LEAST_PIECE)
            .saturating_sub(1)
            .clamp(2, FAN_IN);
        while self.runs.len() > fan_in {
            // The oldest are the shortest. No more of them than it takes to merge the rest at once.
            let several = fan_in.min(self.runs.len() - fan_in + 1);
            let old: Vec<_> = self.runs.drain(..several).collect();
            let mut writer = self.writer(&file, self.piece_of(several));
            self.merge(&file, &old, job, &mut |r| writer.push(&r, job))?;
            let run = writer.finish(job)?;
            self.end = run.end;
            self.runs.push_back(run);
            for run in old.into_iter().filter(|run| run.end - run.start >= HOLE) {
                let _ = Files.punch(&file, run); // not every file system can, and it only saves room
            }
        }
        let last: Vec<_> = self.runs.drain(..).collect();
        self.merge(&file, &last, job, sink)?;
        Ok(self.end)
    }

    fn merge(
        &self,
        file: &File,
        runs: &[Range<u64>],
        job: &Job<'_>,
        sink: &mut dyn FnMut(R) -> Result<()>,
    ) -> Result<()> {
        let piece = self.piece_of(runs.len());
        let mut cursors: Vec<_> = runs.iter().map(|run| Cursor::new(run, piece)).collect();
        let mut heads = BinaryHeap::<Head<R>>::with_capacity(runs.len());
        for (i, cursor) in cursors.iter_mut().enumerate() {
            if let Some(record) = cursor.next(file).map_err(|e| self.failed(e))? {
                heads.push(Head { record, cursor: i });
            }
        }
        let mut kept: Option<R> = None;
        let mut steps = 0;
        while let Some(mut head) = heads.peek_mut() {
            let record = head.record;
            match cursors[head.cursor]
                .next(file)
                .map_err(|e| self.failed(e))?
            {
                Some(next) => head.record = next,
                None => {
                    PeekMut::pop(head);
                }
            }
            match &mut kept {
                Some(kept) if kept.key() == record.key() => kept.combine(&record),
                _ => {
                    if let Some(done) = kept.replace(record).filter(|r| !r.is_void()) {
                        sink(done)?;
                    }
                }
            }
            steps += 1;
            if steps % STEPS == 0 {
                job.advance(0)?;
            }
        }
        kept.filter(|r| !r.is_void()).map_or(Ok(()), sink)
    }

    /// Bytes for each of `runs` that are merged, and for what is written of them.
    fn piece_of(&self, runs: usize) -> usize {
        (self.memory / (runs + 1)).clamp(LEAST_PIECE, PIECE)
    }

    fn writer<'a>(&'a self, file: &'a File, piece: usize) -> Writer<'a, R> {
        Writer {
            runs: self,
            file,
            run: self.end..self.end,
            bytes: Vec::with_capacity(piece.max(R::LEN)),
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        let part = "temporary file";
        let error = match error.kind() {
            // It is the folder that is missing.
            io::ErrorKind::NotFound => {
                Error::new(ErrorKind::Io, part, "there is no such folder").because(error)
            }
            _ => Error::io(part, error),
        };
        error.path(&self.temp)
    }
}

/// Appends a run to the file.
struct Writer<'a, R> {
    runs: &'a Runs<R>,
    file: &'a File,
    /// What is written.
    run: Range<u64>,
    /// What is not: as much as it was allocated for.
    bytes: Vec<u8>,
}

impl<R: Record> Writer<'_, R> {
    fn push(&mut self, record: &R, job: &Job<'_>) -> Result<()> {
        if self.bytes.len() + R::LEN > self.bytes.capacity() {
            self.flush(job)?;
        }
        let at = self.bytes.len();
        self.bytes.resize(at + R::LEN, 0);
        record.write(&mut self.bytes[at..]);
        Ok(())
    }

    fn flush(&mut self, job: &Job<'_>) -> Result<()> {
        Files
            .write_at(self.file, self.run.end, &self.bytes)
            .map_err(|e| self.runs.failed(e))?;
        self.run.end += self.bytes.len() as u64;
        self.bytes.clear();
        job.advance(0)
    }

    fn finish(mut self, job: &Job<'_>) -> Result<Range<u64>> {
        self.flush(job)?;
        Ok(self.run)
    }
}

/// Reads a run from its start.
struct Cursor {
    /// What is not read yet.
    run: Range<u64>,
    piece: usize,
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
}

impl Cursor {
    fn new(run: &Range<u64>, piece: usize) -> Self {
        Self {
            run: run.clone(),
            piece,
            bytes: Vec::new(),
            taken: 0,
        }
    }

    fn next<R: Record>(&mut self, file: &File) -> io::Result<Option<R>> {
        if self.taken == self.bytes.len() {
            let whole = (self.piece / R::LEN).max(1) * R::LEN;
            let left = usize::try_from(self.run.end - self.run.start).unwrap_or(usize::MAX);
            self.bytes.resize(left.min(whole), 0);
            Storage::read_at(file, self.run.start, &mut self.bytes)?;
            self.run.start += self.bytes.len() as u64;
            self.taken = 0;
        }
        let bytes = self.bytes.get(self.taken..self.taken + R::LEN);
        self.taken += bytes.map_or(0, <[u8]>::len);
        Ok(bytes.map(R::read))
    }
}

/// The first record of what is left of a run; the greatest one is to be taken next.
struct Head<R> {
    record: R,
    cursor: usize,
}

impl<R: Record> Ord for Head<R> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.record.key().cmp(&self.record.key())
    }
}

impl<R: Record> PartialOrd for Head<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Record> PartialEq for Head<R> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<R: Record> Eq for Head<R> {}
