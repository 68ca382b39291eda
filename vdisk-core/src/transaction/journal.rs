//! The journal of a transaction: what its files held before, a page at a time.
//!
//! All numbers are little-endian. Head: magic, length of the rest, its CRC-32C; the rest is the
//! text from which the change can be made again, and the files with their lengths; between the two,
//! how much of the journal is surely on the medium. Then records,
//! each with a CRC of its own: a page; how long the file may become; that it was cut, so that of what follows only pages that
//! are not zero need records; or the checksums of what is about to be written, by which an undo tells
//! its own traces from those of others. A record that is torn was never relied on: a file
//! is changed only after all records about it were flushed.

use super::Medium;
use crate::{Error, Result};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

/// Bytes that are saved at once. The pages of a file are numbered from its start.
pub(super) const PAGE: u64 = 64 << 10;

const MAGIC: &[u8; 16] = b"vdisk journal 1\n";
/// Where the head says how much of the journal was flushed, with a CRC: less is damage, not a tear. In
/// the first sector, so that it is written whole.
const FLUSHED: u64 = MAGIC.len() as u64 + 12;
const FLUSHED_LEN: usize = 12;
/// Bytes of a head: a few file names and the text.
const HEAD: u32 = 16 << 20;
/// Bytes that have a checksum of their own: no medium tears less.
pub(super) const SECTOR: u64 = 512;
const OLD: u32 = u32::from_le_bytes(*b"page");
const GROWN: u32 = u32::from_le_bytes(*b"grow");
const CUT: u32 = u32::from_le_bytes(*b"cut.");
const NEW: u32 = u32::from_le_bytes(*b"sums");
/// Bytes before the contents of a record: magic, file, file offset, length, CRC-32C.
const RECORD_HEAD: usize = 24;
/// Records are written in pieces of about this many bytes.
const BATCH: usize = 8 << 20;

/// A file that the transaction changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name if it lies beside the journal, otherwise its whole path.
    pub(super) path: PathBuf,
    /// Its length before, in bytes.
    pub(super) size: u64,
}

/// What the journal says of the transaction as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) redo: String,
    pub(super) members: Vec<Member>,
}

impl Head {
    fn bytes(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut text = |bytes: &[u8]| {
            rest.extend((bytes.len() as u64).to_le_bytes());
            rest.extend(bytes);
        };
        text(self.redo.as_bytes());
        for member in &self.members {
            text(member.path.as_os_str().as_bytes());
            text(&member.size.to_le_bytes());
        }
        let mut head = MAGIC.to_vec();
        head.extend((rest.len() as u64).to_le_bytes());
        head.extend(crc32c::crc32c(&rest).to_le_bytes());
        head.extend(flushed(0));
        head.extend(rest);
        head
    }

    fn parse(mut rest: &[u8]) -> Option<Self> {
        let mut text = || {
            let (len, after) = rest.split_first_chunk::<8>()?;
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            let (text, after) = after.split_at_checked(len)?;
            rest = after;
            Some(text.to_vec())
        };
        let redo = String::from_utf8(text()?).ok()?;
        let mut members = Vec::new();
        while let Some(path) = text() {
            let size = u64::from_le_bytes(text()?.try_into().ok()?);
            let path = OsString::from_vec(path).into();
            members.push(Member { path, size });
        }
        Some(Self { redo, members })
    }
}

/// What stands at [`FLUSHED`].
fn flushed(end: u64) -> [u8; FLUSHED_LEN] {
    let mut bytes = [0; FLUSHED_LEN];
    let (number, crc) = bytes.split_at_mut(8);
    number.copy_from_slice(&end.to_le_bytes());
    crc.copy_from_slice(&crc32c::crc32c(&end.to_le_bytes()).to_le_bytes());
    bytes
}

/// A journal that is being written.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    end: u64,
    batch: Vec<u8>,
    flushed: bool,
}

impl Journal {
    /// Makes the journal at `path`, flushed with its name: from here on it is found.
    pub(super) fn create(medium: &dyn Medium, path: &Path, head: &Head) -> Result<Self> {
        let made = || -> io::Result<(File, u64)> {
            let folder = path.parent().unwrap_or(Path::new("."));
            let new = tempfile::Builder::new()
                .prefix(".vdisk-")
                .suffix(".partial")
                .tempfile_in(folder)?;
            let head = head.bytes();
            medium.write_at(new.as_file(), 0, &head)?;
            medium.sync(new.as_file())?;
            Ok((medium.publish(new, path)?, head.len() as u64))
        };
        let (file, end) = made().map_err(|e| Error::io("journal", e).path(path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            end,
            batch: Vec::new(),
            flushed: true,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what the file `member` holds at `at`: at most a page.
    pub(super) fn old(
        &mut self,
        medium: &dyn Medium,
        member: u32,
        at: u64,
        bytes: &[u8],
    ) -> Result<()> {
        // A page of zeros is its length alone.
        let stored = if crate::is_zero(bytes) { &[] } else { bytes };
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // The highest bit: the bytes follow.
        let len = len | if stored.is_empty() { 0 } else { 1 << 31 };
        self.record(medium, OLD, member, at, len, stored)
    }

    /// Adds that the file `member` is cut at `at`.
    pub(super) fn cut(&mut self, medium: &dyn Medium, member: u32, at: u64) -> Result<()> {
        self.record(medium, CUT, member, at, 0, &[])
    }

    /// Adds that the file `member` may become as long as `end`.
    pub(super) fn grown(&mut self, medium: &dyn Medium, member: u32, end: u64) -> Result<()> {
        self.record(medium, GROWN, member, end, 0, &[])
    }

    /// Adds the checksums of what the file `member` will hold at `at`.
    pub(super) fn new_bytes(
        &mut self,
        medium: &dyn Medium,
        member: u32,
        at: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let piece = crate::disk::part_len(rest.len(), at, (at / PAGE + 1) * PAGE);
            let (now, after) = rest.split_at(piece);
            let mut sums = Vec::new();
            let mut chunk = now;
            let mut pos = at;
            while !chunk.is_empty() {
                let len = crate::disk::part_len(chunk.len(), pos, (pos / SECTOR + 1) * SECTOR);
                let (sector, more) = chunk.split_at(len);
                sums.extend(crc32c::crc32c(sector).to_le_bytes());
                (chunk, pos) = (more, pos + len as u64);
            }
            let len = u32::try_from(piece).unwrap_or(u32::MAX);
            self.record(medium, NEW, member, at, len, &sums)?;
            (rest, at) = (after, pos);
        }
        Ok(())
    }

    fn record(
        &mut self,
        medium: &dyn Medium,
        kind: u32,
        member: u32,
        at: u64,
        len: u32,
        contents: &[u8],
    ) -> Result<()> {
        let mut head = Vec::with_capacity(RECORD_HEAD);
        head.extend(kind.to_le_bytes());
        head.extend(member.to_le_bytes());
        head.extend(at.to_le_bytes());
        head.extend(len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), contents);
        head.extend(crc.to_le_bytes());
        self.batch.extend(head);
        self.batch.extend(contents);
        self.flushed = false;
        if self.batch.len() >= BATCH {
            self.write_batch(medium)?;
        }
        Ok(())
    }

    /// Waits until all records are on the medium.
    pub(super) fn flush(&mut self, medium: &dyn Medium) -> Result<()> {
        if self.flushed {
            return Ok(());
        }
        self.write_batch(medium)?;
        let synced = medium
            .sync(&self.file)
            // Need not be on the medium itself: it only tells what surely is.
            .and_then(|()| medium.write_at(&self.file, FLUSHED, &flushed(self.end)));
        synced.map_err(|e| Error::io("journal", e).path(&self.path))?;
        self.flushed = true;
        Ok(())
    }

    fn write_batch(&mut self, medium: &dyn Medium) -> Result<()> {
        medium
            .write_at(&self.file, self.end, &self.batch)
            .map_err(|e| Error::io("journal", e).path(&self.path))?;
        self.end += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }
}

/// Reads the journal at `path`: its head, and a reader of its records.
pub(super) fn read(path: &Path) -> Result<(Head, Records<impl Read>)> {
    let file = open(path).map_err(|e| Error::io("journal", e).path(path))?;
    let mut input = BufReader::new(file);
    let head = read_head(&mut input).map_err(|e| Error::io("journal", e).path(path))?;
    let (head, at, flushed) = head.ok_or_else(|| {
        let detail = "is not a journal made by vdisk, or is damaged";
        Error::corrupt("journal", detail).path(path)
    })?;
    let records = Records {
        input,
        buf: Vec::new(),
        at,
        flushed,
        path: path.to_owned(),
    };
    Ok((head, records))
}

/// Opens a regular file: anything else could hang.
fn open(path: &Path) -> io::Result<File> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(nonblock)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// The head, its length, and how much was flushed.
fn read_head(input: &mut impl Read) -> io::Result<Option<(Head, u64, u64)>> {
    let mut start = [0; MAGIC.len() + 12 + FLUSHED_LEN];
    if !fill(input, &mut start)? || !start.starts_with(MAGIC) {
        return Ok(None);
    }
    let number = |at: usize| {
        let bytes = start.get(at..).and_then(|b| b.first_chunk::<8>());
        u64::from_le_bytes(bytes.copied().unwrap_or_default())
    };
    let (len, synced) = (number(MAGIC.len()), number(MAGIC.len() + 12));
    if !start.ends_with(&flushed(synced)) {
        return Ok(None);
    }
    let crc = start.get(MAGIC.len() + 8..).and_then(|b| b.first_chunk());
    let crc = u32::from_le_bytes(crc.copied().unwrap_or_default());
    let Some(len) = u32::try_from(len).ok().filter(|len| *len <= HEAD) else {
        return Ok(None);
    };
    let mut rest = vec![0; len as usize];
    let whole = fill(input, &mut rest)? && crc32c::crc32c(&rest) == crc;
    let head = whole.then(|| Head::parse(&rest)).flatten();
    let end = (start.len() + rest.len()) as u64;
    Ok(head.map(|head| (head, end, synced)))
}

/// True if there were enough bytes.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// What a journal holds about a place of a file.
pub(super) struct Record<'a> {
    /// The file's number.
    pub(super) member: usize,
    /// The file offset.
    pub(super) at: u64,
    pub(super) what: What<'a>,
}

pub(super) enum What<'a> {
    /// It held these bytes.
    Old(&'a [u8]),
    /// It was to become at most as long as this.
    Grown,
    /// It was to be cut here: what follows and has no record was zero.
    Cut,
    /// So many bytes were to be written: a checksum for each sector that they touch.
    New(u64, &'a [u8]),
}

/// The records of a journal, up to the first that is torn.
pub(super) struct Records<R> {
    input: R,
    buf: Vec<u8>,
    /// Where the next one begins.
    at: u64,
    /// So much is there, whatever happened.
    flushed: u64,
    path: PathBuf,
}

impl<R: Read> Records<R> {
    /// The next record.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>> {
        let read = self
            .read()
            .map_err(|e| Error::io("journal", e).path(&self.path))?;
        let Some((kind, member, at, len)) = read else {
            if self.at < self.flushed {
                let detail = "is damaged: a part of what it held is lost; nothing was written";
                return Err(Error::corrupt("journal", detail)
                    .at(self.at)
                    .path(&self.path));
            }
            return Ok(None);
        };
        self.at += (RECORD_HEAD + self.buf.len()) as u64;
        let what = match kind {
            CUT => What::Cut,
            GROWN => What::Grown,
            NEW => What::New(len, &self.buf),
            _ => {
                self.buf.resize(usize::try_from(len).unwrap_or(0), 0);
                What::Old(&self.buf)
            }
        };
        Ok(Some(Record { member, at, what }))
    }

    /// Kind, file, offset and length of the next record, whose contents are in the buffer then.
    fn read(&mut self) -> io::Result<Option<(u32, usize, u64, u64)>> {
        let mut head = [0; RECORD_HEAD];
        if !fill(&mut self.input, &mut head)? {
            return Ok(None);
        }
        let number = |at: usize| {
            let bytes = head.get(at..).and_then(|b| b.first_chunk::<4>());
            u32::from_le_bytes(bytes.copied().unwrap_or_default())
        };
        let at = u64::from(number(8)) | u64::from(number(12)) << 32;
        let (len, stored) = (u64::from(number(16) & !(1 << 31)), number(16) >> 31 == 1);
        let kind = number(0);
        let known = [OLD, NEW, CUT, GROWN].contains(&kind);
        let Some(end) = at.checked_add(len).filter(|_| known && len <= PAGE) else {
            return Ok(None);
        };
        let wanted = match kind {
            NEW => (end.div_ceil(SECTOR) - at / SECTOR) * 4,
            OLD if stored => len,
            _ => 0,
        };
        self.buf.clear();
        self.buf.resize(usize::try_from(wanted).unwrap_or(0), 0);
        if !fill(&mut self.input, &mut self.buf)? {
            return Ok(None);
        }
        let (checked, _) = head.split_at(RECORD_HEAD - 4);
        let crc = crc32c::crc32c_append(crc32c::crc32c(checked), &self.buf);
        Ok((crc == number(20)).then_some((kind, number(4) as usize, at, len)))
    }
}
