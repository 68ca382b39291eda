//! Backups: what a change replaces, in a file beside the image, and the way back.
//!
//! A backup carries its own digest, so that half of one is never written over an image.

use super::{Change, PIECE, Patch, open_locked};
use crate::{Error, ErrorKind, InFile, Result};
use sha2::{Digest, Sha256};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::FileExt,
    },
    path::{Path, PathBuf},
};

/// First bytes of a backup. Then, little-endian: the length of the file's name and the name, the
/// length of the file; for each saved piece its offset, its length and its bytes; an offset of all
/// ones; and the SHA-256 of everything before it.
const MAGIC: &[u8] = b"vdisk backup 1\n";
/// Ends the list of pieces.
const LAST: u64 = u64::MAX;

/// Saves what `patches` replace in a new file beside theirs; `None` if they replace nothing.
pub(super) fn save(file: &File, patches: &[&Patch]) -> Result<Option<PathBuf>> {
    let Some(first) = patches.first() else {
        return Ok(None);
    };
    let path = first.file.path();
    let size = first.file.size;
    if patches.iter().all(|p| p.change == Change::Flush) {
        return Ok(None);
    }
    let (backup, made) = create_backup(path)?;
    let written = || -> io::Result<()> {
        // Who may not read the image may not read parts of it either.
        made.set_permissions(file.metadata()?.permissions())?;
        let mut out = Hashed::new(BufWriter::new(&made));
        out.write_all(MAGIC)?;
        let name = path.file_name().unwrap_or(OsStr::new("")).as_bytes();
        out.number(name.len() as u64)?;
        out.write_all(name)?;
        out.number(size)?;
        for patch in patches {
            let (start, end) = match &patch.change {
                Change::Write { at, bytes } => (*at, at.saturating_add(bytes.len() as u64)),
                Change::Copy { at, len, .. } => (*at, at.saturating_add(*len)),
                Change::Resize(new) => (*new, size),
                Change::Replace(_) => (0, size),
                Change::Flush => continue,
            };
            let end = end.min(size);
            if start >= end {
                continue;
            }
            out.number(start)?;
            out.number(end - start)?;
            copy_from(file, start, end, &mut out)?;
        }
        out.number(LAST)?;
        out.finish()?;
        made.sync_all()?;
        folder_of(path).and_then(|f| f.sync_all())
    };
    let written = written();
    if written.is_err() {
        // A backup that is not whole is worth nothing, and nothing was changed yet.
        let _ = std::fs::remove_file(&backup);
    }
    written
        .map_err(|e| Error::io("backup", e))
        .in_file(&backup)?;
    Ok(Some(backup))
}

/// A new file `NAME.backup-N` beside `path`.
fn create_backup(path: &Path) -> Result<(PathBuf, File)> {
    for number in 1..=9999 {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".backup-{number}"));
        let backup = path.with_file_name(name);
        match File::create_new(&backup) {
            Ok(file) => return Ok((backup, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("backup", e).path(backup)),
        }
    }
    let detail = "all names for a backup are taken; remove old backups";
    Err(Error::new(ErrorKind::Usage, "backup", detail).path(path))
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
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder),
        _ => File::open("."),
    }
}

/// Restores what the backup at `backup` holds to the file beside it that it was made of. Returns
/// that file's path.
///
/// The backup is read to its end and its digest checked before anything is written. It is not
/// removed.
pub fn undo(backup: &Path) -> Result<PathBuf> {
    let (name, size) = read_backup(backup, |_, _| Ok(()))?;
    let path = backup.with_file_name(&name);
    let file = open_locked(&path)?;
    let io = |e| Error::io("write", e).path(&path);
    read_backup(backup, |at, bytes| file.write_all_at(bytes, at).map_err(io))?;
    file.set_len(size).map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok(path)
}

/// Reads a backup to its end, piece by piece, and checks it. Returns the file's name and length.
fn read_backup(
    backup: &Path,
    mut piece: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<(OsString, u64)> {
    let damaged = || Error::corrupt("backup", "is damaged, or no backup").path(backup);
    let io = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => damaged(),
        _ => Error::io("backup", e).path(backup),
    };
    let file = File::open(backup).map_err(io)?;
    let mut input = Hashed::new(BufReader::new(file));
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).map_err(io)?;
    let len = input.take_number().map_err(io)?;
    if magic != MAGIC || len > 255 {
        return Err(damaged());
    }
    let mut name = vec![0; crate::units::buffer_len(len)?];
    input.read_exact(&mut name).map_err(io)?;
    let name = OsString::from_vec(name);
    if Path::new(&name).file_name() != Some(name.as_os_str()) {
        return Err(damaged());
    }
    let size = input.take_number().map_err(io)?;
    let mut buf = vec![0; PIECE];
    loop {
        let mut at = input.take_number().map_err(io)?;
        if at == LAST {
            break;
        }
        let end = at
            .checked_add(input.take_number().map_err(io)?)
            .filter(|end| *end <= size)
            .ok_or_else(damaged)?;
        while at < end {
            let len = crate::disk::part_len(PIECE, at, end);
            let part = buf.get_mut(..len).unwrap_or_default();
            input.read_exact(part).map_err(io)?;
            piece(at, part)?;
            at += len as u64;
        }
    }
    if !input.digest_matches().map_err(io)? {
        return Err(damaged());
    }
    Ok((name, size))
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

    /// Reads the digest, and says whether it is that of what was read, and the last there is.
    fn digest_matches(self) -> io::Result<bool> {
        let Self { mut inner, digest } = self;
        let mut stored = [0; 32];
        inner.read_exact(&mut stored)?;
        let more = inner.read(&mut [0])?;
        Ok(more == 0 && digest.finalize().as_slice() == stored)
    }
}
