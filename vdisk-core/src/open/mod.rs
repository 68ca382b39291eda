//! From a path to a disk: which format, which parents, and whether they are the recorded ones.

mod parents;
mod probe;

pub use parents::ancestors;
pub(crate) use parents::{format_of, open_parent, unfinished};
pub use probe::probe;
pub(crate) use probe::{is_part, raw_by_name};

use crate::{
    Chain, Deny, Disk, Error, ErrorKind, Format, InFile, Layer, Resolver, Result,
    format::Context,
    limits,
    storage::{Access, ImageFile},
};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// How images are opened.
#[derive(Clone, Copy)]
pub struct OpenOptions<'a> {
    /// The format; `None` finds it out. Raw must be named unless the file name says raw.
    pub format: Option<&'static dyn Format>,
    /// Opens parents and extent files.
    pub resolver: &'a dyn Resolver,
    /// How the files are read.
    pub access: Access,
    /// Treat an image without a parent as an overlay: its holes are absent, not zero.
    pub overlay: bool,
    /// The disk to take out of a package: its name there, or its number from 1. A path
    /// `PACKAGE::NAME` says the same.
    pub disk: Option<&'a str>,
    /// Compare the digests that a package (OVA, OVF) records of the disk before it is opened. That
    /// reads all of its file once more, so those who only look at metadata turn it off.
    pub verify: bool,
}

impl<'a> OpenOptions<'a> {
    /// Finds the format out, reads by position, opens references by `resolver`.
    pub fn new(resolver: &'a dyn Resolver) -> Self {
        Self {
            format: None,
            resolver,
            access: Access::Positioned,
            overlay: false,
            disk: None,
            verify: true,
        }
    }
}

/// Opens the image at `path` with all its parents: a complete disk, or an error.
///
/// # Errors
/// [`ErrorKind::WrongFormat`] if no format fits, [`ErrorKind::Corrupt`] if the metadata are
/// damaged, [`ErrorKind::Reference`] if a parent or extent is missing or not the recorded one,
/// [`ErrorKind::Policy`] if the resolver refuses it.
///
/// ```no_run
/// use vdisk_core::{Disk, FileResolver, OpenOptions};
/// let disk = vdisk_core::open("user.vmdk".as_ref(), &OpenOptions::new(&FileResolver::default()))?;
/// println!("{} bytes in {} layers", disk.size(), disk.layers().len());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn open(path: &Path, options: &OpenOptions<'_>) -> Result<Chain> {
    complete(open_layer(path, options)?, options)
}

/// Opens the image at `path` alone. A differencing image answers absent where its parents decide.
pub fn open_layer(path: &Path, options: &OpenOptions<'_>) -> Result<Layer> {
    with_file(path, options, open_file)
}

/// Opens the file that `path` names, for `then`: the image, or the package that holds it.
pub(crate) fn with_file<T>(
    path: &Path,
    options: &OpenOptions<'_>,
    then: impl FnOnce(ImageFile, &OpenOptions<'_>) -> Result<T>,
) -> Result<T> {
    let (file, disk) = split_path(path);
    let options = OpenOptions {
        disk: disk.as_deref().or(options.disk),
        ..*options
    };
    then(ImageFile::open(&file, options.access)?, &options)
}

/// The file that `path` names, and the disk in it if `path` is `PACKAGE::NAME`.
///
/// ```
/// let (file, disk) = vdisk_core::open::split_path("a.vmdk".as_ref());
/// assert_eq!((file.to_str(), disk), (Some("a.vmdk"), None));
/// ```
pub fn split_path(path: &Path) -> (PathBuf, Option<String>) {
    match package_and_disk(path) {
        Some((file, disk)) => (file, Some(disk)),
        None => (path.to_owned(), None),
    }
}

/// The names of the disks in the package `file`, or of the one that `options` name; none if it is
/// no package.
pub fn disks_in(file: &ImageFile, options: &OpenOptions<'_>) -> Result<Vec<String>> {
    let (format, context) = proceed(file, options)?;
    match format.holds_disks() {
        true => format.disks(file, &context).in_file(file.path()),
        false => Ok(Vec::new()),
    }
}

/// The two parts of `PACKAGE::NAME`. A file that has the whole as its name is meant literally.
fn package_and_disk(path: &Path) -> Option<(PathBuf, String)> {
    if path.symlink_metadata().is_ok() {
        return None;
    }
    let bytes = path.as_os_str().as_bytes();
    let (file, disk) = (0..bytes.len()).find_map(|at| {
        let (file, rest) = bytes.split_at(at);
        let disk = rest.strip_prefix(b"::").filter(|d| !d.is_empty())?;
        let file = Path::new(OsStr::from_bytes(file));
        file.is_file().then_some((file, disk))
    })?;
    Some((file.to_owned(), String::from_utf8_lossy(disk).into_owned()))
}

/// Opens an image from any storage, alone.
///
/// ```
/// use vdisk_core::{Deny, Disk, OpenOptions, format, open, storage::ImageFile};
/// let file = ImageFile::from_storage("memory", vec![0u8; 1024])?;
/// let options = OpenOptions { format: Some(format::named("raw")?), ..OpenOptions::new(&Deny) };
/// assert_eq!(open::open_file(file, &options)?.size(), 1024);
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn open_file(file: ImageFile, options: &OpenOptions<'_>) -> Result<Layer> {
    let path = file.tag.path.clone();
    let (format, context) = proceed(&file, options)?;
    let layer = format.open(file, &context).in_file(&path)?;
    if must_stand_alone(&path, options) && layer.facts().parent.is_some() {
        let detail = format!(
            "is {} by its contents and names a parent, but its own name says raw; name the input format",
            format.name()
        );
        return Err(Error::new(ErrorKind::Policy, "format", detail).path(path));
    }
    if layer.size() > limits::DISK_SIZE {
        let detail = format!("claims {} bytes, more than any format holds", layer.size());
        return Err(Error::new(ErrorKind::Limit, "virtual size", detail).path(path));
    }
    Ok(layer)
}

/// The format of `file`, and what it may pull in while it is opened.
pub(crate) fn proceed<'a>(
    file: &ImageFile,
    options: &OpenOptions<'a>,
) -> Result<(&'static dyn Format, Context<'a>)> {
    if file.tag.id.is_some() && file.part_of.is_none() {
        crate::transaction::refuse_unfinished(file.path())?;
    }
    let format = match options.format {
        Some(format) => format,
        None => probe(file)?,
    };
    let context = Context {
        resolver: match must_stand_alone(file.path(), options) {
            true => &Deny,
            false => options.resolver,
        },
        overlay: options.overlay,
        disk: options.disk,
        verify: options.verify,
    };
    if let Some(disk) = options.disk
        && !format.holds_disks()
    {
        let detail = format!(
            "is one {} image, not a package that could hold '{disk}'",
            format.name()
        );
        return Err(Error::new(ErrorKind::Usage, "disk", detail).path(file.path()));
    }
    Ok((format, context))
}

/// `disk.img` may be a raw disk whose guest wrote a descriptor that names its neighbour.
fn must_stand_alone(path: &Path, options: &OpenOptions<'_>) -> bool {
    options.format.is_none() && raw_by_name(path)
}

/// Adds the parents of `top`: a complete disk, or an error.
pub fn complete(top: Layer, options: &OpenOptions<'_>) -> Result<Chain> {
    let (layers, trouble) = ancestors(top, options);
    match trouble {
        Some(error) => Err(error),
        None => Chain::new(layers),
    }
}
