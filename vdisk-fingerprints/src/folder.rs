//! A folder of fingerprints: which files it has, and which of them are out of date.

use crate::{Header, Reader, header::is_id};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::ErrorKind as Io,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::NamedTempFile;
use vdisk_core::{Error, ErrorKind, Result};

/// The end of a file's name.
const EXTENSION: &str = "parquet";
/// How long a temporary file may be without the lock of its writer.
const UNLOCKED: Duration = Duration::from_secs(60);
/// Bytes of an image's name that the name of its file begins with.
const NAME: usize = 64;

/// A folder with a file for each segment, whose name ends with the segment's.
///
/// What others do in it meanwhile is not noticed, but does no harm: a file appears whole.
pub struct Folder {
    path: PathBuf,
    /// Files by the name of their segment.
    files: BTreeMap<String, PathBuf>,
    /// Files with other names.
    others: Vec<PathBuf>,
    /// By file that lies over another one: the name of that one. Read when it is needed.
    parents: Option<HashMap<PathBuf, String>>,
}

impl Folder {
    /// Opens the folder at `path`, to read from it, or also to write: then it is made if it is not
    /// there, and what writers left that were killed is removed.
    pub fn open(path: &Path, write: bool) -> Result<Self> {
        let io = |e| Error::io("open", e).path(path);
        if write {
            fs::create_dir_all(path).map_err(|e| match e.kind() {
                Io::AlreadyExists => {
                    let path = path.display().to_string();
                    Error::new(ErrorKind::Usage, path, "is a file, not a folder")
                }
                _ => Error::io("create", e).path(path),
            })?;
        }
        let mut folder = Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
            others: Vec::new(),
            parents: None,
        };
        for entry in fs::read_dir(path).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if write && name.starts_with(".vdisk-") && name.ends_with(".partial") {
                remove_abandoned(&path);
            } else if path.extension().is_some_and(|e| e == EXTENSION) && !name.starts_with('.') {
                match id_in(&name) {
                    Some(id) => drop(folder.files.insert(id.to_owned(), path)),
                    None => folder.others.push(path),
                }
            }
        }
        folder.others.sort_unstable();
        Ok(folder)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The fingerprints of the segment `id`, if they are here.
    pub fn find(&self, id: &str) -> Result<Option<Reader>> {
        let Some(path) = self.files.get(id) else {
            return Ok(None);
        };
        open(path, Some(id)).map(Some)
    }

    /// The headers of all files, or why they cannot be read, in the order of the images' names.
    pub fn headers(&self) -> impl Iterator<Item = (&Path, Result<Header>)> {
        let named = self.files.iter().map(|(id, path)| (path, Some(id)));
        let others = self.others.iter().map(|path| (path, None));
        let mut paths: Vec<(&PathBuf, Option<&String>)> = named.chain(others).collect();
        paths.sort_unstable();
        paths.into_iter().map(|(path, id)| {
            let reader = open(path, id.map(String::as_str));
            (path.as_path(), reader.map(|r| r.header().clone()))
        })
    }

    /// Takes up `file`, which is whole. Fingerprints of the same image in another state go first:
    /// at no time are there two that would both be counted. In the same state, but with other
    /// layers, they stay as long as others lie over them, or while only they say that it is an image:
    /// who reads the folder counts such an image once.
    pub(crate) fn keep(&mut self, file: NamedTempFile, header: &Header) -> Result<PathBuf> {
        if !is_id(&header.id) {
            let detail = format!("'{}' is not 32 hexadecimal digits", header.id);
            return Err(Error::new(ErrorKind::Usage, "header", detail));
        }
        let path = self.path.join(file_name(header));
        let place = Header::place(&header.id).to_owned();
        let of_place = self.files.range(place.clone()..);
        let old: Vec<_> = of_place
            .take_while(|(id, _)| id.starts_with(&place))
            .filter(|(_, old)| **old != path)
            .map(|(id, old)| (id.clone(), old.clone()))
            .collect();
        for (id, old) in old {
            if self.needs(&id, &old, header) {
                continue;
            }
            if let Some(parents) = &mut self.parents {
                parents.remove(&old);
            }
            match fs::remove_file(&old) {
                Err(e) if e.kind() != Io::NotFound => {
                    return Err(Error::io("remove", e).path(old));
                }
                _ => drop(self.files.remove(&id)),
            }
        }
        file.persist(&path)
            .map_err(|e| Error::io("rename", e.error).path(&path))?;
        self.files.insert(header.id.clone(), path.clone());
        if let Some(parents) = &mut self.parents {
            parents.remove(&path);
            parents.extend(header.parent.clone().map(|parent| (path.clone(), parent)));
        }
        Ok(path)
    }

    /// True if the file `old` of the segment `id` says something beside a file of `new`, which is of the
    /// same image.
    fn needs(&mut self, id: &str, old: &Path, new: &Header) -> bool {
        let Ok(reader) = open(old, Some(id)) else {
            return false;
        };
        let header = reader.header();
        if header.state() != new.state() {
            return false; // what lies over it is as old
        }
        if header.image && !new.image {
            return true;
        }
        if self.parents.is_none() {
            let parents = self.headers().filter_map(|(path, header)| {
                let parent = header.ok()?.parent?;
                Some((path.to_owned(), parent))
            });
            self.parents = Some(parents.collect());
        }
        let mut parents = self.parents.iter().flatten();
        parents.any(|(_, parent)| parent == id)
    }
}

/// Opens the file at `path`, which has the segment `id` if it is named after one.
fn open(path: &Path, id: Option<&str>) -> Result<Reader> {
    let reader = Reader::open(path)?;
    match id {
        Some(id) if reader.header().id != id => {
            let detail = format!("is of {}, as the file's name is not", reader.header().id);
            Err(Error::corrupt("header", detail).path(path))
        }
        _ => Ok(reader),
    }
}

/// The segment's name at the end of a file's.
fn id_in(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let (_, id) = stem.rsplit_once('-')?;
    is_id(id).then_some(id)
}

/// The name of the image's file, as far as it may be part of a name everywhere, and the segment's.
/// Names that begin with a dot or a line are skipped by Spark.
fn file_name(header: &Header) -> String {
    let odd = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_');
    let name = header.path.rsplit('/').next().unwrap_or_default();
    let name = name.replace(odd, "_");
    let name = name.trim_start_matches(['.', '-', '_']);
    let name = name.get(..NAME).unwrap_or(name);
    let name = if name.is_empty() { "image" } else { name };
    format!("{name}-{}.{EXTENSION}", header.id)
}

/// Removes the temporary file at `path`, unless somebody writes to it.
fn remove_abandoned(path: &Path) {
    let age = || path.metadata().ok()?.modified().ok()?.elapsed().ok();
    let unlocked = |file: File| file.try_lock().is_ok();
    // Between its making and its lock it is young. What cannot be found out is left alone.
    if age().is_some_and(|age| age > UNLOCKED) && File::open(path).is_ok_and(unlocked) {
        let _ = fs::remove_file(path);
    }
}
