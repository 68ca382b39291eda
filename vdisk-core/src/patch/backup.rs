//! Backups: what a change replaces and what it writes, in a file beside the image.
//!
//! A backup carries its own digest, so that half of one is never written over an image.

use super::{Change, PIECE, Patch, stages::Stages};
use crate::{Error, ErrorKind, InFile, Result};
use sha2::{Digest, Sha256};
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::FileExt,
    },
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// First bytes of a backup. Then, little-endian: the length of the file's name and the name; the
/// length of the file; how many ranges of lengths it has while it is changed, and both ends of each;
/// for each piece its offset and length, the bytes that the file has there, how many parts of it
/// are written, and for each the offset, the length and the new bytes; an offset of all ones; and
/// the SHA-256 of everything before it.
const MAGIC: &[u8] = b"vdisk backup 2\n";
/// Ends the list of pieces.
const LAST: u64 = u64::MAX;
/// Ranges of lengths that a backup may hold. Repairs have two or three.
const LENGTHS: u64 = 4096;

/// Saves what `patches` replace in a new file beside theirs; `None` if they replace nothing.
pub(super) fn save(file: &File, patches: &[&Patch]) -> Result<Option<PathBuf>> {
    let Some(first) = patches.first() else {
        return Ok(None);
    };
    let path = first.file.path();
    if patches.iter().all(|p| p.change == Change::Flush) {
        return Ok(None);
    }
    let stages = Stages {
        file,
        size: first.file.size,
        patches,
    };
    let written = || -> io::Result<NamedTempFile> {
        // It gets its name when it is whole: a program that is killed leaves no half backup.
        let made = tempfile::Builder::new()
            .prefix(".vdisk-")
            .suffix(".partial")
            .tempfile_in(folder_name(path))?;
        // Who may not read the image may not read parts of it either.
        made.as_file()
            .set_permissions(file.metadata()?.permissions())?;
        write_backup(path, &stages, BufWriter::new(made.as_file()))?;
        made.as_file().sync_all()?;
        Ok(made)
    };
    let made = written()
        .map_err(|e| Error::io("backup", e))
        .in_file(path)?;
    publish(path, made).map(Some)
}

fn write_backup(path: &Path, stages: &Stages<'_>, out: impl Write) -> io::Result<()> {
    let mut out = Hashed::new(out);
    out.write_all(MAGIC)?;
    let name = path.file_name().unwrap_or(OsStr::new("")).as_bytes();
    out.bytes(name)?;
    out.number(stages.size)?;
    let lengths = stages.lengths();
    if lengths.len() as u64 > LENGTHS {
        return Err(io::Error::other("the length would change too often"));
    }
    out.number(lengths.len() as u64)?;
    for (low, high) in lengths {
        out.number(low)?;
        out.number(high)?;
    }
    for range in stages.ranges() {
        let mut at = range.start;
        while at < range.end {
            let len = crate::disk::part_len(PIECE, at, range.end) as u64;
            let piece = at..at.saturating_add(len);
            out.number(at)?;
            out.number(len)?;
            copy_from(stages.file, at, piece.end.min(stages.size), &mut out)?;
            let steps = 0..stages.patches.len();
            let mut written = Vec::new();
            for step in steps {
                written.extend(stages.written(step, &piece)?);
            }
            out.number(written.len() as u64)?;
            for (at, bytes) in written {
                out.number(at)?;
                out.bytes(&bytes)?;
            }
            at = piece.end;
        }
    }
    out.number(LAST)?;
    out.finish()
}

/// Gives the backup of the file `path` the next free name.
fn publish(path: &Path, mut made: NamedTempFile) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default();
    let highest = backups_of(path).pop().map_or(0, |(number, _)| number);
    for number in (highest..=u32::MAX).skip(1).take(100) {
        let mut name = name.to_owned();
        name.push(format!(".backup-{number}"));
        let backup = path.with_file_name(name);
        let io = |e| Error::io("backup", e).path(&backup);
        match made.persist_noclobber(&backup) {
            Ok(_) => {
                folder_of(path).and_then(|f| f.sync_all()).map_err(io)?;
                return Ok(backup);
            }
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => made = e.file,
            Err(e) => return Err(io(e.error)),
        }
    }
    let detail = "all names for a backup are taken; remove old backups";
    Err(Error::new(ErrorKind::Usage, "backup", detail).path(path))
}

/// The files beside `path` with the name of a backup of it, with their numbers, oldest first.
pub(super) fn backups_of(path: &Path) -> Vec<(u32, PathBuf)> {
    let name = path.file_name().unwrap_or_default();
    // A folder that cannot be listed has none to compare with.
    let entries = fs::read_dir(folder_name(path)).into_iter().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let file = entry.ok()?.file_name();
            Some((number_of(&file, name)?, path.with_file_name(&file)))
        })
        .collect();
    found.sort();
    found
}

/// The number of the backup `file` of the file `name`, by its name.
pub(super) fn number_of(file: &OsStr, name: &OsStr) -> Option<u32> {
    let rest = file.as_bytes().strip_prefix(name.as_bytes())?;
    let digits = rest.strip_prefix(b".backup-")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn copy_from(file: &File, start: u64, end: u64, out: &mut impl Write) -> io::Result<()> {
    let mut buf = vec![0; PIECE];
    let mut pos = start;
    while pos < end {
        let len = crate::disk::part_len(PIECE, pos, end);
        let part = buf.get_mut(..len).unwrap_or_default();
        file.read_exact_at(part, pos)?;
        out.write_all(part)?;
        pos += len as u64;
    }
    Ok(())
}

fn folder_of(path: &Path) -> io::Result<File> {
    File::open(folder_name(path))
}

fn folder_name(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// What a backup says of its file as a whole.
pub(super) struct Head {
    /// The file's name.
    pub(super) name: OsString,
    /// Its length before the change.
    pub(super) size: u64,
    /// The lengths that it can have during the change and after it: ranges with both ends.
    pub(super) lengths: Vec<(u64, u64)>,
}

/// What a backup holds, in order.
pub(super) enum Entry<'a> {
    /// `len` bytes of the file at `at`, as far as it had them before the change.
    Piece { at: u64, len: usize, old: &'a [u8] },
    /// What the change wrote at `at`, within the piece before.
    Written { at: u64, bytes: &'a [u8] },
}

/// Reads a backup to its end, and checks it.
pub(super) fn read(backup: &Path, mut entry: impl FnMut(Entry<'_>) -> Result<()>) -> Result<Head> {
    let damaged =
        || Error::corrupt("backup", "is not a backup made by vdisk, or is damaged").path(backup);
    let io = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => damaged(),
        _ => Error::io("backup", e).path(backup),
    };
    let file = File::open(backup).map_err(io)?;
    let mut input = Hashed::new(BufReader::new(file));
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).map_err(io)?;
    if magic != MAGIC {
        return Err(damaged());
    }
    let mut name = [0; 255];
    let name = input.take_bytes(&mut name).map_err(io)?;
    let name = OsString::from_vec(name.ok_or_else(damaged)?.to_vec());
    if Path::new(&name).file_name() != Some(name.as_os_str()) {
        return Err(damaged());
    }
    let size = input.take_number().map_err(io)?;
    let count = input.take_number().map_err(io)?;
    if count > LENGTHS {
        return Err(damaged());
    }
    let mut lengths = Vec::new();
    for _ in 0..count {
        let low = input.take_number().map_err(io)?;
        lengths.push((low, input.take_number().map_err(io)?));
    }
    let mut buf = vec![0; PIECE];
    loop {
        let at = input.take_number().map_err(io)?;
        if at == LAST {
            break;
        }
        let len = input.take_number().map_err(io)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= PIECE);
        let len = len.ok_or_else(damaged)?;
        let end = at.checked_add(len as u64).ok_or_else(damaged)?;
        let old = crate::disk::part_len(len, at.min(size), end.min(size));
        let old = buf.get_mut(..old).unwrap_or_default();
        input.read_exact(old).map_err(io)?;
        entry(Entry::Piece { at, len, old })?;
        for _ in 0..input.take_number().map_err(io)? {
            let at = input.take_number().map_err(io)?;
            let bytes = input.take_bytes(&mut buf).map_err(io)?;
            let bytes = bytes.ok_or_else(damaged)?;
            entry(Entry::Written { at, bytes })?;
        }
    }
    if !input.digest_matches().map_err(io)? {
        return Err(damaged());
    }
    Ok(Head {
        name,
        size,
        lengths,
    })
}

/// Reads or writes, and keeps the digest of all that passed.
struct Hashed<T> {
    inner: T,
    digest: Sha256,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            digest: Sha256::new(),
        }
    }
}

impl<T: Write> Hashed<T> {
    fn number(&mut self, value: u64) -> io::Result<()> {
        self.write_all(&value.to_le_bytes())
    }

    /// Writes a length, and as many bytes.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.number(bytes.len() as u64)?;
        self.write_all(bytes)
    }

    /// Writes the digest.
    fn finish(self) -> io::Result<()> {
        let Self { mut inner, digest } = self;
        inner.write_all(&digest.finalize())?;
        inner.flush()
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..len).unwrap_or_default());
        Ok(len)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Hashed<T> {
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(buf)?;
        self.digest.update(&*buf);
        Ok(())
    }

    fn take_number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a length, and as many bytes; `None` if they are more than `buf` takes.
    fn take_bytes<'b>(&mut self, buf: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let len = usize::try_from(self.take_number()?).unwrap_or(usize::MAX);
        let Some(bytes) = buf.get_mut(..len) else {
            return Ok(None);
        };
        self.read_exact(bytes)?;
        Ok(Some(bytes))
    }

    /// Reads the digest, and says whether it is that of what was read, and the last there is.
    fn digest_matches(self) -> io::Result<bool> {
        let Self { mut inner, digest } = self;
        let mut stored = [0; 32];
        inner.read_exact(&mut stored)?;
        let more = inner.read(&mut [0])?;
        Ok(more == 0 && digest.finalize().as_slice() == stored)
    }
}
