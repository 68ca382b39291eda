//! The journal of a transaction: what its files held before, a page at a time.
//!
//! All numbers are little-endian. Head: magic, length of the rest, its CRC-32C; the rest is the
//! text from which the change can be made again, and the files with their lengths. Then records: a
//! page each, with a CRC of its own. A record that is torn was never relied on: a page is changed
//! only after its record was flushed.

use super::Medium;
use crate::{Error, InFile, Result};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// Bytes that are saved at once. The pages of a file are numbered from its start.
pub(super) const PAGE: u64 = 64 << 10;

const MAGIC: &[u8; 16] = b"vdisk journal 1\n";
/// Bytes of a head: a few file names and the text.
const HEAD: u32 = 16 << 20;
const RECORD: u32 = u32::from_le_bytes(*b"page");
/// Bytes before the page in a record: magic, file, page number, length, CRC-32C.
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

    /// Adds what the page `page` of the file `member` holds.
    pub(super) fn page(
        &mut self,
        medium: &dyn Medium,
        member: u32,
        page: u64,
        bytes: &[u8],
    ) -> Result<()> {
        // A page of zeros is its length alone.
        let stored = if crate::is_zero(bytes) { &[] } else { bytes };
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(RECORD_HEAD + stored.len());
        record.extend(RECORD.to_le_bytes());
        record.extend(member.to_le_bytes());
        record.extend(page.to_le_bytes());
        // The highest bit: the bytes follow.
        record.extend((len | if stored.is_empty() { 0 } else { 1 << 31 }).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&record), stored);
        record.extend(crc.to_le_bytes());
        record.extend(stored);
        self.batch.extend(record);
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
        medium
            .sync(&self.file)
            .map_err(|e| Error::io("journal", e).path(&self.path))?;
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
    let file = File::open(path)
        .map_err(|e| Error::io("journal", e))
        .in_file(path)?;
    let mut input = BufReader::new(file);
    let head = read_head(&mut input).map_err(|e| Error::io("journal", e).path(path))?;
    let head = head.ok_or_else(|| {
        let detail = "is not a journal made by vdisk, or is damaged";
        Error::corrupt("journal", detail).path(path)
    })?;
    let buf = Vec::new();
    Ok((head, Records { input, buf }))
}

fn read_head(input: &mut impl Read) -> io::Result<Option<Head>> {
    let mut start = [0; MAGIC.len() + 12];
    if !fill(input, &mut start)? || !start.starts_with(MAGIC) {
        return Ok(None);
    }
    let (_, numbers) = start.split_at(MAGIC.len());
    let (len, crc) = numbers.split_at(8);
    let len = u64::from_le_bytes(len.try_into().unwrap_or_default());
    let crc = u32::from_le_bytes(crc.try_into().unwrap_or_default());
    let Some(len) = u32::try_from(len).ok().filter(|len| *len <= HEAD) else {
        return Ok(None);
    };
    let mut rest = vec![0; len as usize];
    let whole = fill(input, &mut rest)? && crc32c::crc32c(&rest) == crc;
    Ok(whole.then(|| Head::parse(&rest)).flatten())
}

/// True if there were enough bytes.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// The records of a journal, up to the first that is torn.
pub(super) struct Records<R> {
    input: R,
    buf: Vec<u8>,
}

impl<R: Read> Records<R> {
    /// The next: the file's number, the offset, and the bytes.
    pub(super) fn next(&mut self) -> io::Result<Option<(usize, u64, &[u8])>> {
        let mut head = [0; RECORD_HEAD];
        if !fill(&mut self.input, &mut head)? {
            return Ok(None);
        }
        let number = |at: usize| {
            let bytes = head.get(at..).and_then(|b| b.first_chunk::<4>());
            u32::from_le_bytes(bytes.copied().unwrap_or_default())
        };
        let page = u64::from(number(8)) | u64::from(number(12)) << 32;
        let (len, stored) = (number(16) & !(1 << 31), number(16) >> 31 == 1);
        if number(0) != RECORD || u64::from(len) > PAGE {
            return Ok(None);
        }
        self.buf.clear();
        self.buf.resize(len as usize, 0);
        if stored && !fill(&mut self.input, &mut self.buf)? {
            return Ok(None);
        }
        let (checked, _) = head.split_at(RECORD_HEAD - 4);
        let payload: &[u8] = if stored { &self.buf } else { &[] };
        let at = page.checked_mul(PAGE);
        if crc32c::crc32c_append(crc32c::crc32c(checked), payload) != number(20) {
            return Ok(None);
        }
        Ok(at.map(|at| (number(4) as usize, at, self.buf.as_slice())))
    }
}
