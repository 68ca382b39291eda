//! The images among the files on the command line and in the folders there, each once.
//!
//! What is only an extent of another image, or no image at all, is told apart before anything is
//! counted.

use super::{
    chains::{Found, Layers},
    notes::Notes,
    within::Within,
};
use crate::args::InputArgs;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use vdisk_core::{
    Error, ErrorKind, OpenOptions, Resolver, Result, format,
    open::{self, open_layer},
    storage::{Access, FileId, ImageFile},
};
use walkdir::WalkDir;

/// A file that may be an image, or a disk in a package.
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    id: Option<FileId>,
    /// On the command line: it is an image, whatever it looks like.
    pub(super) named: bool,
}

impl Candidate {
    fn options<'a>(&self, input: &InputArgs, resolver: &'a dyn Resolver) -> OpenOptions<'a> {
        options(self.named, input, resolver)
    }

    /// The disks in it, if it is a package; otherwise itself.
    fn disks(self, input: &InputArgs, resolver: &dyn Resolver) -> Result<Vec<Self>, (Self, Error)> {
        let (path, disk) = open::split_path(&self.path);
        let options = OpenOptions {
            disk: disk.as_deref(),
            ..self.options(input, resolver)
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

/// How an image is opened: the format given is that of images on the command line.
pub(super) fn options<'a>(
    named: bool,
    input: &InputArgs,
    resolver: &'a dyn Resolver,
) -> OpenOptions<'a> {
    let options = input.options(resolver);
    OpenOptions {
        format: options.format.filter(|_| named),
        ..options
    }
}

/// All files on the command line and in the folders there, each once, in a fixed order.
pub(super) fn candidates(paths: &[PathBuf], notes: &mut Notes<'_>) -> Result<Vec<Candidate>> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut seen = HashSet::new();
    // Named files first: they keep the name and the role that the user gave them.
    let (folders, files): (Vec<_>, Vec<_>) = paths.iter().partition(|p| p.is_dir());
    let mut add = |path: PathBuf, named: bool, notes: &mut Notes<'_>| {
        let (file, disk) = open::split_path(&path);
        match ImageFile::open(&file, Access::Positioned).map(|file| file.tag.id) {
            // A package can be named several times, for several disks.
            Ok(id) if disk.is_some() || id.is_none_or(|id| seen.insert(id)) => {
                found.push(Candidate { path, id, named });
            }
            Ok(_) => {}
            Err(error) => notes.failed(&path, error)?,
        }
        Ok::<(), Error>(())
    };
    for file in files {
        add(file.clone(), true, notes)?;
    }
    for folder in folders {
        for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
            notes.ui.check_stop()?;
            match entry {
                Ok(entry) if entry.file_type().is_file() => add(entry.into_path(), false, notes)?,
                Ok(entry) if entry.file_type().is_dir() => {}
                // A link is not followed, as by `vdisk chain`; the others hold no image.
                Ok(_) => notes.skipped += 1,
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_owned();
                    notes.failed(&path, Error::io("open", error.into()))?;
                }
            }
        }
    }
    Ok(found)
}

/// The images among the candidates, opened with all their parents. Notes those that should be
/// images, but cannot be opened. They may refer to files in the folders among `paths`.
pub(super) fn images(
    candidates: Vec<Candidate>,
    paths: &[PathBuf],
    input: &InputArgs,
    layers: &mut Layers,
    notes: &mut Notes<'_>,
) -> Result<Vec<Found>> {
    let folders = paths.iter().filter(|path| path.is_dir());
    let folders: Arc<[PathBuf]> = folders.cloned().collect();
    let resolver = Within::new(&folders, input);
    let mut extents = HashSet::new();
    let mut opened = Vec::new();
    for candidate in candidates {
        notes.ui.check_stop()?;
        let disks = match candidate.disks(input, &resolver) {
            Ok(disks) => disks,
            Err((candidate, error)) => {
                opened.push((candidate, Err(error), false));
                continue;
            }
        };
        for disk in disks {
            let options = OpenOptions {
                verify: false, // reading does
                ..disk.options(input, &resolver)
            };
            let mut own: Option<Vec<PathBuf>> = None;
            let found = open_layer(&disk.path, &options).and_then(|layer| {
                let files = layer.files().iter().map(|file| file.path().to_owned());
                own = Some(files.collect());
                let others = layer.files().iter().skip(1).filter_map(|f| f.tag.id);
                extents.extend(others.filter(|id| disk.id != Some(*id)));
                let chain = open::complete(layer, &options)?;
                Ok(Found::of(&chain, &disk, &folders, layers))
            });
            // Once its own layer is open, only its parents are opened.
            let parent = match (&found, &own) {
                (Err(error), Some(own)) => error
                    .file()
                    .is_some_and(|file| !own.iter().any(|own| own == file)),
                _ => false,
            };
            opened.push((disk, found, parent));
        }
    }
    let mut images = Vec::new();
    let mut seen = HashSet::new();
    for (candidate, found, parent) in opened {
        let extent = candidate.id.is_some_and(|id| extents.contains(&id));
        match found {
            _ if extent && !candidate.named => notes.skipped += 1,
            Err(error) if !candidate.named && is_no_image(&candidate.path, &error) => {
                notes.skipped += 1;
            }
            Err(error) if parent => notes.parent_failed(&candidate.path, error)?,
            Err(error) => notes.failed(&candidate.path, error)?,
            Ok(found) if found.place.clone().is_none_or(|place| seen.insert(place)) => {
                images.push(found);
            }
            Ok(_) => {} // a disk in a package, again
        }
    }
    Ok(images)
}

/// Which file it is: a file, or one in a package, whose parts have the identity of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
