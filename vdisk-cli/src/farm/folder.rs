//! The folder that fingerprints are kept in: what must hold before something is written there, and what is
//! said of what it has already.

use super::stamps::host;
use crate::{args::shown, size::human, ui::Ui};
use std::{io, path::Path};
use vdisk_core::{Error, ErrorKind, Result, open::split_path};
use vdisk_fingerprints::Folder;

/// Opens the folder at `path` to write fingerprints of blocks of `unit` bytes. Fails if it holds others:
/// no report could be made of both.
pub(super) fn open(path: &Path, unit: u64, ui: &Ui) -> Result<Folder> {
    let folder = Folder::open(path, true)?;
    for (_, header) in folder.headers() {
        ui.check_stop()?;
        // What cannot be read is made anew, or said by a report.
        let Ok(header) = header else { continue };
        if header.unit != unit {
            let detail = format!(
                "holds fingerprints of blocks of {}; use another folder for {}",
                human(header.unit),
                human(unit)
            );
            return Err(Error::new(ErrorKind::Usage, shown(path), detail));
        }
    }
    Ok(folder)
}

/// Warns of the files of images of this machine that are not there any more, and returns them.
pub(super) fn gone(folder: &Path, ui: &Ui) -> Result<Vec<String>> {
    let host = host();
    let mut found = Vec::new();
    for (file, header) in Folder::open(folder, false)?.headers() {
        ui.check_stop()?;
        let Ok(header) = header else { continue };
        let (image, _) = split_path(header.path.as_ref());
        let missing =
            matches!(image.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
        if header.image && header.host == host && missing {
            let file = shown(file);
            let sentence =
                "its image is not there any more; reports count it as long as the file is";
            ui.warn(&format!("{file}: {sentence}"));
            found.push(file);
        }
    }
    Ok(found)
}
