//! The images among the files on the command line and in the folders there, each once.
//!
//! What is only an extent of another image, or no image at all, is told apart before anything is
//! counted.

use super::{Args, DedupReport};
use crate::ui::Ui;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Error, ErrorKind, FileResolver, OpenOptions, Result, format,
    open::{self, open_layer},
    storage::{Access, FileId, ImageFile},
};
use walkdir::WalkDir;

/// A file that may be an image, or a disk in a package.
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    id: Option<FileId>,
    /// On the command line: it is an image, whatever it looks like.
    named: bool,
}

impl Candidate {
    pub(super) fn options<'a>(&self, args: &Args, resolver: &'a FileResolver) -> OpenOptions<'a> {
        let options = args.input.options(resolver);
        OpenOptions {
            format: options.format.filter(|_| self.named),
            ..options
        }
    }

    /// The disks in it, if it is a package; otherwise itself.
    fn disks(self, args: &Args, resolver: &FileResolver) -> Result<Vec<Self>, (Self, Error)> {
        let (path, disk) = open::split_path(&self.path);
        let options = OpenOptions {
            disk: disk.as_deref(),
            ..self.options(args, resolver)
        };
        let names =
            ImageFile::open(&path, options.access).and_then(|file| open::disks_in(&file, &options));
        match names {
            Err(error) => Err((self, error)),
            Ok(names) if names.is_empty() => Ok(vec![self]),
            Ok(names) => Ok(names
                .into_iter()
                .map(|name| Self {
                    path: inside(&path, &name),
                    ..self
                })
                .collect()),
        }
    }
}

/// All files on the command line and in the folders there, each once, in a fixed order.
pub(super) fn candidates(args: &Args, report: &mut DedupReport, ui: &Ui) -> Result<Vec<Candidate>> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut seen = HashSet::new();
    // Named files first: they keep the name and the role that the user gave them.
    let (folders, files): (Vec<_>, Vec<_>) = args.paths.iter().partition(|p| p.is_dir());
    let mut add = |path: PathBuf, named: bool, report: &mut DedupReport| {
        let (file, disk) = open::split_path(&path);
        match ImageFile::open(&file, Access::Positioned).map(|file| file.tag.id) {
            // A package can be named several times, for several disks.
            Ok(id) if disk.is_some() || id.is_none_or(|id| seen.insert(id)) => {
                found.push(Candidate { path, id, named });
            }
            Ok(_) => {}
            Err(error) => report.failed(&path, error, ui)?,
        }
        Ok::<(), Error>(())
    };
    for file in files {
        add(file.clone(), true, report)?;
    }
    for folder in folders {
        for entry in WalkDir::new(folder).sort_by_file_name() {
            ui.check_stop()?;
            match entry {
                Ok(entry) if entry.file_type().is_file() => add(entry.into_path(), false, report)?,
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_owned();
                    report.failed(&path, Error::io("open", error.into()), ui)?;
                }
            }
        }
    }
    Ok(found)
}

/// The images among the candidates. Notes those that should be images, but cannot be opened.
pub(super) fn images(
    candidates: Vec<Candidate>,
    args: &Args,
    resolver: &FileResolver,
    report: &mut DedupReport,
    ui: &Ui,
) -> Result<Vec<Candidate>> {
    let mut extents = HashSet::new();
    let mut opened = Vec::new();
    for candidate in candidates {
        ui.check_stop()?;
        let disks = match candidate.disks(args, resolver) {
            Ok(disks) => disks,
            Err((candidate, error)) => {
                opened.push((candidate, Err(error)));
                continue;
            }
        };
        for disk in disks {
            let options = OpenOptions {
                verify: false, // the second pass does
                ..disk.options(args, resolver)
            };
            let layer = open_layer(&disk.path, &options);
            if let Ok(layer) = &layer {
                let others = layer.files().iter().skip(1).filter_map(|f| f.tag.id);
                extents.extend(others.filter(|id| disk.id != Some(*id)));
            }
            opened.push((disk, layer.map(|l| l.files().first().and_then(Place::of))));
        }
    }
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for (candidate, place) in opened {
        let extent = candidate.id.is_some_and(|id| extents.contains(&id));
        match place {
            _ if extent && !candidate.named => report.skipped += 1,
            Err(error) if !candidate.named && is_no_image(&candidate.path, &error) => {
                report.skipped += 1;
            }
            Err(error) => report.failed(&candidate.path, error, ui)?,
            Ok(place) if place.clone().is_none_or(|place| seen.insert(place)) => {
                found.push(candidate)
            }
            Ok(_) => {} // a disk in a package, again
        }
    }
    Ok(found)
}

/// Which file it is: a file, or one in a package, whose parts have the identity of the whole.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    id: FileId,
    disk: Option<String>,
}

impl Place {
    pub(super) fn of(file: &ImageFile) -> Option<Self> {
        Some(Self {
            id: file.tag.id?,
            disk: match file.part_of {
                Some(_) => open::split_path(file.path()).1,
                None => None,
            },
        })
    }
}

/// The path of the disk `name` in `package`.
fn inside(package: &Path, name: &str) -> PathBuf {
    let mut path = package.as_os_str().to_owned();
    path.push("::");
    path.push(name);
    path.into()
}

/// True if `error` means that the file, found in a folder, is something else than an image.
fn is_no_image(path: &Path, error: &Error) -> bool {
    let foreign = matches!(
        error.kind(),
        ErrorKind::WrongFormat | ErrorKind::Unsupported
    ) && error.part() == "format";
    foreign && format::by_extension(path).is_none()
}
