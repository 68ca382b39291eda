//! From paths to images: which files are worth opening, and what those are that do not open.
//!
//! A folder of virtual machines holds mostly other files. Only what claims to be an image and is
//! none is worth a word.

use super::{Family, Member, Trouble};
use crate::{
    Error, ErrorKind, Job, Layer, OpenOptions, Result, format, limits,
    open::{is_part, open_file, proceed},
    storage::{FileId, ImageFile},
    transaction,
};
use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// What a file is.
pub(super) enum Read {
    /// An image.
    Image(Box<Layer>),
    /// Part of an image, a package, or nothing to do with images.
    Other,
}

/// Opens all images at and beneath `paths`.
pub(super) fn images(
    paths: &[PathBuf],
    options: &OpenOptions<'_>,
    job: &Job<'_>,
) -> Result<Family> {
    let mut walk = Walk {
        options: *options,
        job,
        family: Family::default(),
        seen: HashSet::new(),
        extents: HashSet::new(),
    };
    for path in paths {
        let metadata = fs::metadata(path).map_err(|e| Error::io("open", e).path(path))?;
        if metadata.is_dir() {
            walk.folder(path)?;
        } else {
            walk.file(path, true)?;
        }
    }
    let Walk {
        mut family,
        extents,
        ..
    } = walk;
    let whole = |id: Option<FileId>| id.is_none_or(|id| !extents.contains(&id));
    family.images.retain(|m| whole(m.id));
    family.troubles.retain(|t| whole(t.id));
    family.images.sort_by(|a, b| a.path.cmp(&b.path));
    family.troubles.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(family)
}

struct Walk<'a> {
    options: OpenOptions<'a>,
    job: &'a Job<'a>,
    family: Family,
    seen: HashSet<FileId>,
    /// Files that other images consist of.
    extents: HashSet<FileId>,
}

impl Walk<'_> {
    fn folder(&mut self, top: &Path) -> Result<()> {
        let mut folders = vec![top.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) => {
                    self.trouble(&folder, &Error::io("list", e).path(&folder), None);
                    continue;
                }
            };
            for entry in entries {
                let (path, kind) = match entry.and_then(|e| Ok((e.path(), e.file_type()?))) {
                    Ok(found) => found,
                    Err(e) => {
                        self.trouble(&folder, &Error::io("list", e).path(&folder), None);
                        continue;
                    }
                };
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    self.file(&path, false)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at one file; `named` if a person gave its name.
    fn file(&mut self, path: &Path, named: bool) -> Result<()> {
        self.job.advance(0)?;
        if self.family.images.len() + self.family.troubles.len() >= limits::FAMILY {
            let detail = format!("holds more than {} images", limits::FAMILY);
            return Err(Error::new(ErrorKind::Limit, "folder", detail).path(path));
        }
        let name = path.file_name().unwrap_or_default();
        if transaction::is_journal(path) {
            self.journal(path);
            return Ok(());
        }
        if is_ours(name) && !named {
            return Ok(());
        }
        let options = OpenOptions {
            format: self.options.format.filter(|_| named),
            ..self.options
        };
        let file = match ImageFile::open(path, options.access) {
            Ok(file) => file,
            Err(error) => {
                if named || format::by_extension(path).is_some() {
                    self.trouble(path, &error, None);
                }
                return Ok(());
            }
        };
        if file.tag.id.is_some_and(|id| !self.seen.insert(id)) {
            return Ok(()); // by another name
        }
        match read(&file, &options) {
            Ok(Read::Image(layer)) => {
                let others = layer.files().iter().skip(1);
                self.extents.extend(others.filter_map(|f| f.tag.id));
                self.family.images.push(Member::of(&layer, false));
            }
            Ok(Read::Other) if named => {
                let detail = "is part of an image, or a package; it has no place in a chain";
                let error = Error::new(ErrorKind::Unsupported, "image", detail).path(path);
                self.trouble(path, &error, file.tag.id);
            }
            Ok(Read::Other) => {}
            Err(error) if named || is_worth_a_word(path, &error) => {
                self.trouble(path, &error, file.tag.id);
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// A journal whose image is there stops that from being opened, which says it all.
    fn journal(&mut self, path: &Path) {
        let image = transaction::journal_of(path);
        if image.is_some_and(|image| image.exists()) {
            return;
        }
        let detail = "a change of an image was cut short that is not here any more";
        let error = Error::new(ErrorKind::Conflict, "journal", detail).path(path);
        self.trouble(path, &error, None);
    }

    fn trouble(&mut self, path: &Path, error: &Error, id: Option<FileId>) {
        self.family.troubles.push(Trouble {
            path: path.to_owned(),
            detail: error.to_string(),
            unfinished: transaction::is_unfinished(error),
            id,
        });
    }
}

/// Opens `file` if it is an image that can be part of a chain.
pub(super) fn read(file: &ImageFile, options: &OpenOptions<'_>) -> Result<Read> {
    let opened = proceed(file, options).and_then(|(format, _)| match format.holds_disks() {
        true => Ok(Read::Other),
        false => Ok(Read::Image(Box::new(open_file(file.clone(), options)?))),
    });
    match opened {
        // The descriptor beside it is looked at, too, and what is wrong with it is said there.
        Err(error) if error.kind() != ErrorKind::Conflict && is_part(file) => Ok(Read::Other),
        other => other,
    }
}

/// True if an error about a file that nobody named should be told: its name says that it is an
/// image, or its contents do.
fn is_worth_a_word(path: &Path, error: &Error) -> bool {
    let by_name = format::by_extension(path).is_some_and(|f| !f.holds_disks());
    let no_image = error.part() == "format";
    by_name || !no_image
}

/// Files that programs leave beside images: backups, parts of outputs, locks.
pub(in crate::ops) fn is_ours(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let digits = name.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let stem = name
        .get(..name.len().saturating_sub(digits))
        .unwrap_or_default();
    let backup = digits > 0 && stem.ends_with(b".backup-");
    let partial = name.starts_with(b".vdisk-") && name.ends_with(b".partial");
    backup || partial || name.ends_with(b".lck") || name.ends_with(b".vdisk-journal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_images_is_told_by_its_name() {
        for (name, ours) in [
            ("a.vmdk.backup-1", true),
            ("a.vmdk.backup-", false),
            ("a.backup-1.vmdk", false),
            (".vdisk-Ab3.partial", true),
            ("a.vmdk.lck", true),
            ("a.vmdk.vdisk-journal", true),
            ("a.vmdk", false),
            ("1", false),
            ("", false),
        ] {
            assert_eq!(is_ours(name.as_ref()), ours, "{name}");
        }
    }
}
