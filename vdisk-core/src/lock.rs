//! Opens a file to be changed, so that no second program changes it meanwhile.
//!
//! Three kinds of lock are known: the whole-file lock that vdisk takes, the record locks that qemu
//! holds on the images it runs, and the folders beside a disk by which VMware marks it as in use.

use crate::{Error, ErrorKind, InFile, Result};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    path::Path,
};

/// Opens the file at `path` for reading and writing, and locks it until it is closed.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) that names the file if another program has it.
pub(crate) fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| Error::io("open for writing", e))
        .in_file(path)?;
    let conflict = |detail: String| Error::new(ErrorKind::Conflict, "lock", detail).path(path);
    let in_use = || conflict("is in use by another program; nothing was written".to_owned());
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use()),
        Err(TryLockError::Error(e)) => return Err(Error::io("lock", e).path(path)),
    }
    // qemu locks parts of the images that it runs with record locks, which do not see the above.
    use rustix::{fs::FlockOperation, io::Errno};
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => return Err(in_use()),
        Err(e) => return Err(Error::io("lock", e.into()).path(path)),
        Ok(()) => {}
    }
    if let Some(name) = vmware_lock(path) {
        return Err(conflict(format!(
            "is in use by VMware, which keeps the lock '{}'; nothing was written",
            name.display()
        )));
    }
    Ok(file)
}

/// Fails if another program has the file at `path`, which is about to be replaced.
///
/// A file that cannot be opened for writing or locked here is not known to be in use.
pub(crate) fn refuse_in_use(path: &Path) -> Result<()> {
    match open(path) {
        Err(error) if error.kind() == ErrorKind::Conflict => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The entry of the folder `NAME.lck` beside the file, where hosted VMware products keep a file for
/// each program that has the disk open; a lock file of that name counts too.
fn vmware_lock(path: &Path) -> Option<OsString> {
    let mut name = path.file_name()?.to_owned();
    name.push(".lck");
    let folder = path.with_file_name(&name);
    match fs::symlink_metadata(&folder) {
        Ok(metadata) if metadata.is_dir() => {
            let entry = fs::read_dir(&folder).ok()?.next()?.ok()?;
            let inside = Path::new(&name).join(entry.file_name());
            Some(inside.into_os_string())
        }
        Ok(_) => Some(name),
        Err(_) => None,
    }
}
