//! The log: changes of metadata that a program had promised, but not yet made, when it stopped.
//!
//! An image with such a log is wrong until they are made. Here they are found and checked; whether
//! they then stand in memory or go to the file is for others to decide.

use super::{
    disk_structs::{
        DataSector, Descriptor, Guid, Header, LOG_ENTRY_LEN, LOG_SECTOR, LogEntry, MIB,
        REGION_TABLES_AT, ROW_LEN, checksum, parse,
    },
    header,
    overlay::{Patch, Patches},
};
use crate::{
    Error, ErrorKind, Result, limits,
    storage::ImageFile,
    units::{FileOffset, buffer_len, round_up},
};
use std::ops::Range;

/// What the log asks for.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// The bytes to change.
    pub(crate) patches: Patches,
    /// The length that the file must have at least.
    pub(crate) size: u64,
    /// How many entries asked for it.
    pub(crate) entries: usize,
}

const PART: &str = "log";

/// Bytes that may be checksummed for each byte of the log. Whole logs need two; a log in which
/// every sector claims to be a long entry would need thousands.
const WORK: usize = 16;

/// Reads the log of `file`; `None` if it is empty.
pub(crate) fn read(file: &ImageFile, current: &Header) -> Result<Option<Replay>> {
    if current.log == [0; 16] {
        return Ok(None);
    }
    let range = header::log(current, file)?;
    let length = range.end.saturating_sub(range.start);
    if length > limits::LOG {
        let detail = format!(
            "must be replayed and has {length} bytes; at most {} are accepted",
            limits::LOG
        );
        return Err(Error::new(ErrorKind::Limit, PART, detail).at(range.start));
    }
    let mut log = Log::new(file.read_part(PART, range.start, length)?, current.log);
    let active = log.active().map_err(|e| e.at(range.start))?;
    let Some(head) = active.last() else {
        let detail = "is marked as in use, but holds no whole sequence of entries";
        return Err(Error::corrupt(PART, detail).at(range.start));
    };
    if file.size < head.entry.flushed_file_offset {
        let detail = format!(
            "expects a file of {} bytes, but this one has {}: it is cut short",
            head.entry.flushed_file_offset, file.size
        );
        return Err(Error::corrupt(PART, detail).at(range.start));
    }
    let mut replay = Replay {
        size: file.size,
        entries: active.len(),
        ..Replay::default()
    };
    for found in &active {
        let wanted = found.entry.last_file_offset;
        if wanted > limits::DISK_SIZE {
            let detail = format!("wants a file of {wanted} bytes");
            return Err(Error::new(ErrorKind::Limit, PART, detail).at(range.start));
        }
        if wanted > replay.size {
            replay.size = round_up(wanted, MIB);
        }
        log.apply(found, &range, &mut replay)?;
    }
    Ok(Some(replay))
}

/// A valid entry, and where in the log it starts.
struct Found {
    at: usize,
    entry: LogEntry,
}

struct Log {
    /// The log twice, so that an entry that goes around its end is in one piece.
    twice: Vec<u8>,
    length: usize,
    id: Guid,
    /// Bytes that may still be checksummed.
    work: usize,
}

impl Log {
    fn new(bytes: Vec<u8>, id: Guid) -> Self {
        let length = bytes.len();
        let mut twice = bytes;
        twice.extend_from_within(..);
        Self {
            twice,
            length,
            id,
            work: length.saturating_mul(WORK),
        }
    }

    /// The entries to be applied, oldest first: the valid sequence with the highest number, from
    /// the tail that its last entry names.
    fn active(&mut self) -> Result<Vec<Found>> {
        let mut best: Vec<Found> = Vec::new();
        let mut at = 0;
        while at < self.length {
            let mut run = self.run_from(at)?;
            let passed: usize = run.iter().map(|f| f.entry.length as usize).sum();
            at = at.saturating_add(passed.max(LOG_SECTOR));
            let Some(head) = run.last() else {
                continue;
            };
            let tail = head.entry.tail as usize;
            let newer = best
                .last()
                .is_none_or(|b| b.entry.sequence < head.entry.sequence);
            if let Some(first) = run.iter().position(|f| f.at == tail)
                && newer
            {
                best = run.split_off(first);
            }
        }
        Ok(best)
    }

    /// The valid entries from `at` on with consecutive numbers.
    fn run_from(&mut self, at: usize) -> Result<Vec<Found>> {
        let mut run: Vec<Found> = Vec::new();
        let (mut next, mut left) = (at, self.length);
        loop {
            let wanted = run.last().map(|f| f.entry.sequence.wrapping_add(1));
            let Some(entry) = self.entry_at(next, left, wanted)? else {
                return Ok(run);
            };
            let length = entry.length as usize;
            run.push(Found { at: next, entry });
            left = left.saturating_sub(length);
            next = next.saturating_add(length);
            if next >= self.length {
                next = next.saturating_sub(self.length);
            }
            if left < LOG_SECTOR {
                return Ok(run);
            }
        }
    }

    /// The entry at `at`, of at most `left` bytes and with the sequence number `wanted`, if one is
    /// given. `None` if there is no valid one.
    fn entry_at(
        &mut self,
        at: usize,
        left: usize,
        wanted: Option<u64>,
    ) -> Result<Option<LogEntry>> {
        let head = self.twice.get(at..).unwrap_or_default();
        let Some(entry) = parse::<LogEntry>(head) else {
            return Ok(None);
        };
        let (length, tail) = (entry.length as usize, entry.tail as usize);
        let fits = length.is_multiple_of(LOG_SECTOR)
            && (LOG_SECTOR..=left).contains(&length)
            && tail.is_multiple_of(LOG_SECTOR)
            && tail < self.length;
        let ours = entry.log == self.id && entry.sequence != 0;
        if !fits || !ours || wanted.is_some_and(|w| w != entry.sequence) {
            return Ok(None);
        }
        let Some(work) = self.work.checked_sub(length) else {
            let detail = "has more damaged entries than can be looked through";
            return Err(Error::new(ErrorKind::Limit, PART, detail));
        };
        self.work = work;
        let bytes = head.get(..length).unwrap_or_default();
        let valid = checksum(bytes) == entry.checksum && steps(bytes, &entry).is_some();
        Ok(valid.then_some(entry))
    }

    /// Adds what the entry asks for to `replay`.
    fn apply(&self, found: &Found, log: &Range<u64>, replay: &mut Replay) -> Result<()> {
        let end = found.at.saturating_add(found.entry.length as usize);
        let bytes = self.twice.get(found.at..end).unwrap_or_default();
        for (number, (range, patch)) in (0..).zip(steps(bytes, &found.entry).unwrap_or_default()) {
            let wrong = |detail: &str| {
                let sequence = found.entry.sequence;
                let part = format!("log entry {sequence}, descriptor {number}");
                let at = FileOffset(log.start).plus(found.at as u64)?;
                Err(Error::corrupt(part, detail).at(at.0))
            };
            let [tables, _] = REGION_TABLES_AT;
            if !range.start.is_multiple_of(LOG_SECTOR as u64)
                || !range.end.is_multiple_of(LOG_SECTOR as u64)
            {
                return wrong("does not change whole pages of 4 KiB");
            }
            if range.start < tables {
                return wrong("would change the headers");
            }
            if range.start < log.end && log.start < range.end {
                return wrong("would change the log itself");
            }
            if range.end > replay.size {
                return wrong("changes what lies past the end of the file");
            }
            replay.patches.put(range, patch);
        }
        Ok(())
    }
}

/// What the entry `bytes` does, in order. `None` if it contradicts itself.
fn steps(bytes: &[u8], entry: &LogEntry) -> Option<Vec<(Range<u64>, Patch)>> {
    let count = entry.descriptors as usize;
    // Descriptors follow the header of 64 bytes; 126 of them fill its sector.
    let end = count.checked_mul(ROW_LEN)?.checked_add(LOG_ENTRY_LEN)?;
    let rows = bytes.get(LOG_ENTRY_LEN..end)?;
    let data_at = buffer_len(round_up(end as u64, LOG_SECTOR as u64)).ok()?;
    let mut pages = bytes.get(data_at..)?.chunks_exact(LOG_SECTOR);
    let mut steps = Vec::new();
    for row in rows.chunks_exact(ROW_LEN) {
        let (own, offset, length, patch) = match parse::<Descriptor>(row)? {
            Descriptor::Data {
                trailing,
                leading,
                offset,
                sequence,
            } => {
                let page: DataSector = parse(pages.next()?)?;
                let low = u64::from(page.sequence_low);
                if u64::from(page.sequence_high) << 32 | low != entry.sequence {
                    return None;
                }
                let page = [&leading[..], &page.data, &trailing].concat();
                (
                    sequence,
                    offset,
                    LOG_SECTOR as u64,
                    Patch::Bytes(page.into()),
                )
            }
            Descriptor::Zero {
                length,
                offset,
                sequence,
            } => (sequence, offset, length, Patch::Zero),
        };
        if own != entry.sequence {
            return None;
        }
        steps.push((offset..offset.checked_add(length)?, patch));
    }
    Some(steps)
}
