//! The files of a new image: under temporary names in their final folder until all are complete.
//!
//! A killed or failed run must not leave something that looks like an image, and a descriptor must
//! never name extents that are not whole.

use super::{
    Target,
    file::{Unpublished, Writing, check, folder_of, start},
};
use crate::{
    Error, ErrorKind, Format, InFile, Layer, OpenOptions, Reference, Resolver, Result,
    open::open_file,
    storage::{Access, FileId, FileTag, ImageFile},
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How an [`Output`] is made.
#[derive(Clone, Debug)]
pub struct OutputOptions {
    /// Replace existing files.
    pub force: bool,
    /// Flush to the medium before the files get their names.
    pub sync: bool,
    /// Files that must not be replaced whatever `force` says: the inputs.
    pub inputs: Vec<FileId>,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            force: false,
            sync: true,
            inputs: Vec::new(),
        }
    }
}

/// A file, or several of one image, under temporary names until [`Output::publish`] renames them.
///
/// Dropped without that, all are removed.
///
/// ```
/// use vdisk_core::target::{Output, OutputOptions, Target};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("new.vmdk");
/// let mut output = Output::create(&path, OutputOptions::default())?;
/// output.write_at(0, b"descriptor")?;
/// output.beside("new-flat.vmdk")?.write_at(0, b"bytes")?;
/// assert!(!path.exists() && !path.with_file_name("new-flat.vmdk").exists());
/// output.publish()?;
/// assert!(path.exists() && path.with_file_name("new-flat.vmdk").exists());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub struct Output {
    main: Unpublished,
    writing: Writing,
    /// The other files of the image, in the order in which they were started.
    others: Vec<Unpublished>,
    /// The name is a link: other files would lie beside what it leads to, where nobody who opens
    /// the link looks for them.
    linked: bool,
    options: OutputOptions,
}

impl Output {
    /// Starts the file that will be `path`.
    ///
    /// Fails with [`ErrorKind::Usage`] if `path` exists and may not be replaced, is an input, or is
    /// not a regular file, and with [`ErrorKind::Conflict`] if another program has it, or if the
    /// journal of a change that was cut short lies beside it.
    pub fn create(path: &Path, options: OutputOptions) -> Result<Self> {
        let (main, writing) = start(path, &options)?;
        Ok(Self {
            main,
            writing,
            others: Vec::new(),
            linked: path.is_symlink(),
            options,
        })
    }

    /// Fails as [`create`](Self::create) would, and writes nothing: for what is only planned.
    pub fn check(path: &Path, options: &OutputOptions) -> Result<()> {
        let (path, _) = check(path, options)?;
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(folder_of(&path), access)
            .map_err(|e| Error::io("create", e.into()).path(path))
    }

    /// The finished image as it will be, opened before anybody else can find it: to look at it
    /// before it takes the place of another one. Its parents are not opened.
    pub fn layer(&mut self, format: &'static dyn Format) -> Result<Layer> {
        self.flush()?;
        let options = OpenOptions {
            format: Some(format),
            verify: false, // who wrote it compares what it reads as
            ..OpenOptions::new(&*self)
        };
        open_file(hidden(&self.main)?, &options)
    }

    /// Flushes the files to the medium, if asked to.
    fn flush(&mut self) -> Result<()> {
        if self.options.sync {
            self.writing.flush()?;
            for other in &self.others {
                File::open(&other.temporary)
                    .and_then(|file| file.sync_all())
                    .map_err(|e| Error::io("flush", e))
                    .in_file(&other.path)?;
            }
        }
        Ok(())
    }

    /// Flushes the files if asked to, and gives them their names: the main file last.
    ///
    /// Where files of an older image are replaced, its main file goes first: no descriptor ever
    /// names extents of two images. If a file cannot get its name, those that were made are removed
    /// again; files that were replaced by then are lost, and the error says so.
    pub fn publish(mut self) -> Result<()> {
        self.flush()?;
        std::iter::once(&self.main)
            .chain(&self.others)
            .try_for_each(Unpublished::refuse_in_use)?;
        let Self {
            main,
            others,
            options,
            ..
        } = self;
        let exists = |path: &Path| path.symlink_metadata().is_ok();
        let mut replaced = Vec::new();
        if options.force && exists(&main.path) && others.iter().any(|o| exists(&o.path)) {
            fs::remove_file(&main.path)
                .map_err(|e| Error::io("replace", e))
                .in_file(&main.path)?;
            replaced.push(main.path.clone());
            flush_folders(&options, [main.path.as_path()])?;
        }
        let mut made = Vec::new();
        let undo = |error: Error, made: &[PathBuf], replaced: &[PathBuf]| {
            for path in made {
                let _ = fs::remove_file(path); // the first error is the one to tell
            }
            unfinished(error, replaced)
        };
        for other in others {
            let path = other.path.clone();
            let existed = exists(&path);
            match other.publish(&options) {
                Ok(()) if existed => replaced.push(path),
                Ok(()) => made.push(path),
                Err(error) => return Err(undo(error, &made, &replaced)),
            }
        }
        flush_folders(&options, made.iter().chain(&replaced).map(PathBuf::as_path))
            .map_err(|error| undo(error, &made, &replaced))?;
        let path = main.path.clone();
        main.publish(&options)
            .map_err(|error| undo(error, &made, &replaced))?;
        flush_folders(&options, [path.as_path()])
    }
}

/// Opens a file that has its temporary name, under the one that it will have.
fn hidden(file: &Unpublished) -> Result<ImageFile> {
    let mut image = ImageFile::open(&file.temporary, Access::Positioned).in_file(&file.path)?;
    image.tag = Arc::new(FileTag {
        path: file.path.clone(),
        id: image.tag.id,
        allocated: image.tag.allocated,
    });
    Ok(image)
}

/// Finds the extents of the image among the files that have no name yet.
impl Resolver for Output {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        let name = match reference {
            Reference::Extent(name) => Some(*name),
            Reference::Parent(_) | Reference::Device(_) => None,
        };
        let mut others = self.others.iter();
        match others.find(|o| name.is_some() && o.path.file_name() == name) {
            Some(other) => Ok(vec![hidden(other)?]),
            None => crate::Deny.find(from, reference),
        }
    }
}

/// `error`, and what it left behind that cannot be undone.
fn unfinished(error: Error, replaced: &[PathBuf]) -> Error {
    if replaced.is_empty() {
        return error;
    }
    let names: Vec<String> = replaced
        .iter()
        .filter_map(|path| path.file_name())
        .map(|name| name.display().to_string())
        .collect();
    let detail = format!(
        "{}; the old image is lost: {} had been replaced or removed",
        error.detail(),
        names.join(", ")
    );
    let file = error.file().map(Path::to_owned);
    let told = Error::new(error.kind(), error.part().to_owned(), detail).because(error);
    match file {
        Some(file) => told.path(file),
        None => told,
    }
}

/// Flushes the folders of `paths`, so that the names in them last.
fn flush_folders<'a>(
    options: &OutputOptions,
    paths: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let mut done: Vec<&Path> = Vec::new();
    for folder in paths.into_iter().map(folder_of) {
        if !options.sync || done.contains(&folder) {
            continue;
        }
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(|e| Error::io("flush", e))
            .in_file(folder)?;
        done.push(folder);
    }
    Ok(())
}

impl Target for Output {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.writing.write_at(pos, bytes)
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        self.writing.set_size(size)
    }

    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        let usage = |detail: String| {
            Err(Error::new(ErrorKind::Usage, "output", detail).path(&self.main.path))
        };
        if self.linked {
            let detail = "was named by a link, and an image of several files needs its own name";
            return usage(detail.to_owned());
        }
        if Path::new(name).file_name() != Some(OsStr::new(name)) {
            return usage(format!("'{name}' is not a file name"));
        }
        let (other, writing) = start(&self.main.path.with_file_name(name), &self.options)?;
        let same = |one: &Unpublished| one.path == other.path;
        if same(&self.main) || self.others.iter().any(same) {
            return usage(format!("'{name}' stands for two files of the image"));
        }
        self.others.push(other);
        Ok(Box::new(writing))
    }
}
