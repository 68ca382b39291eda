//! The one place that opens files named inside images.
//!
//! Such names are the attacker's: an extent line can say `/etc/shadow`. By default an image may
//! open files beneath its own folder and nothing else, whatever links lead there.

mod names;

use crate::{
    Error, ErrorKind, ParentRef, Result, format,
    open::raw_by_name,
    storage::{Access, ImageFile},
};
pub(crate) use names::{bare_names, leads_to, literal_names};
use names::{describe, is_foreign, local, quoted, sought};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

/// A file that an image refers to, as the image wrote it.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    /// Holds part of this same disk.
    Extent(&'a OsStr),
    /// A device that holds part of this same disk.
    Device(&'a OsStr),
    /// Holds what this disk does not.
    Parent(&'a ParentRef),
}

/// Decides which files an image may pull in. Nothing else in the crate opens a name from an image.
pub trait Resolver: Send + Sync {
    /// Opens what `reference`, found in the image `from`, may stand for, best first.
    ///
    /// Never empty: an error says what was looked for. For a parent, the caller takes the first
    /// whose identity is the recorded one.
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>>;

    /// Why none of the names that `parent`, found in the image `from`, records was followed, if one
    /// of them may not be: what [`find`](Self::find) gave then has only the file name of the parent.
    fn refusal(&self, _from: &ImageFile, _parent: &ParentRef) -> Option<Error> {
        None
    }
}

/// Refuses every reference: for images that must stand alone.
///
/// ```
/// use vdisk_core::{Deny, ErrorKind, Reference, Resolver, storage::ImageFile};
/// let image = ImageFile::from_storage("a.vmdk", vec![]).unwrap();
/// let error = Deny.find(&image, &Reference::Extent("a-flat.vmdk".as_ref())).err().unwrap();
/// assert_eq!(error.kind(), ErrorKind::Policy);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Deny;

impl Resolver for Deny {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        let (part, name) = describe(reference);
        let detail = format!("{name} is another file, and no other file may be opened here");
        Err(Error::new(ErrorKind::Policy, part, detail).path(from.path()))
    }
}

/// Opens files beneath the image's own folder, and beneath the folders and the files it is given.
///
/// A link counts by where it leads. FIFOs and network names are never opened, and devices only if
/// [`devices`](Self::devices) says so.
///
/// A parent recorded by an absolute or foreign path is also looked for by its bare name in the
/// image's folder, if its identity is recorded: image sets are moved, and the identity is checked
/// anyway.
///
/// ```no_run
/// use vdisk_core::{FileResolver, OpenOptions};
/// let resolver = FileResolver { allowed: vec!["/gold".into()], ..FileResolver::default() };
/// let chain = vdisk_core::open("user.vmdk".as_ref(), &OpenOptions::new(&resolver))?;
/// # Ok::<(), vdisk_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FileResolver {
    /// Folders that images may refer to besides their own.
    pub allowed: Vec<PathBuf>,
    /// Files that may be the parent of any image opened with this resolver; their identity decides.
    /// Where none is recorded, as for raw disks and by qcow2, a file of the recorded format is taken
    /// (raw: by its ending), if it is the only one here and the recorded names lead nowhere.
    pub parents: Vec<PathBuf>,
    /// Images may name block devices as their extents. Such an image can stand for any disk of this
    /// machine.
    pub devices: bool,
    /// How the files are read.
    pub access: Access,
}

impl Resolver for FileResolver {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        if let Reference::Device(name) = reference {
            return Ok(vec![self.device(from, name)?]);
        }
        let folder = from.path().parent().unwrap_or(Path::new(""));
        let mut found: Vec<ImageFile> = Vec::new();
        let mut refused = None;
        if let Reference::Parent(ParentRef {
            identity: Some(_), ..
        }) = reference
        {
            for path in &self.parents {
                keep(&mut found, ImageFile::open(path, self.access)?);
            }
        }
        for (name, candidate) in self.candidates(folder, reference) {
            match self.open_beneath(folder, &candidate) {
                Ok(Some(file)) => keep(&mut found, file),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Policy => {
                    refused.get_or_insert((quoted(name), error));
                }
                Err(error) => return Err(error),
            }
        }
        if let Reference::Parent(parent) = reference
            && parent.identity.is_none()
            && found.is_empty()
        {
            found.extend(self.only_parent(from, parent)?);
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let (part, names) = sought(reference);
        let (kind, detail) = match refused {
            Some((name, error)) => (ErrorKind::Policy, format!("{name} {}", error.detail())),
            None => {
                let folder = here_if_empty(folder).display();
                let detail = format!("{names} was not found in {folder}");
                (ErrorKind::Reference, detail)
            }
        };
        Err(Error::new(kind, part, detail).path(from.path()))
    }

    fn refusal(&self, from: &ImageFile, parent: &ParentRef) -> Option<Error> {
        let folder = from.path().parent().unwrap_or(Path::new(""));
        let mut refused = None;
        for (name, candidate) in self.candidates(folder, &Reference::Parent(parent)) {
            if !leads_to(parent, &candidate) {
                continue;
            }
            match self.open_beneath(folder, &candidate) {
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Policy => {
                    refused.get_or_insert((name, error));
                }
                Ok(Some(_)) | Err(_) => return None,
            }
        }
        refused.map(|(name, error)| {
            let detail = format!("{} {}", quoted(name), error.detail());
            Error::new(ErrorKind::Policy, "parent", detail).path(from.path())
        })
    }
}

impl FileResolver {
    /// Opens the block device `name`, if that is allowed.
    fn device(&self, from: &ImageFile, name: &OsStr) -> Result<ImageFile> {
        use std::os::unix::fs::FileTypeExt;
        let refused = |kind, what: &str| {
            let detail = format!("'{}' {what}", name.display());
            Err(Error::new(kind, "device", detail).path(from.path()))
        };
        if !self.devices {
            let what = "is a device, and images may not open devices";
            return refused(ErrorKind::Policy, what);
        }
        let path = Path::new(name);
        if !path.is_absolute() {
            return refused(ErrorKind::Reference, "is a device of another system");
        }
        match path.metadata() {
            Ok(metadata) if metadata.file_type().is_block_device() => {
                ImageFile::open(path, self.access)
            }
            Ok(_) => refused(ErrorKind::Reference, "is not a block device"),
            Err(_) => refused(ErrorKind::Reference, "is a device that is not here"),
        }
    }

    /// The one file among `parents` that can be `wanted`, of which no identity is recorded.
    fn only_parent(&self, from: &ImageFile, wanted: &ParentRef) -> Result<Option<ImageFile>> {
        let mut fitting: Vec<ImageFile> = Vec::new();
        for path in &self.parents {
            let file = ImageFile::open(path, self.access)?;
            let fits = match wanted.format {
                Some("raw") => raw_by_name(path),
                Some(name) => format::named(name)?.probe(&file)?,
                None => true,
            };
            if fits {
                keep(&mut fitting, file);
            }
        }
        if fitting.len() > 1 {
            let detail = "has no recorded identity, and several of the files given could be it";
            return Err(Error::new(ErrorKind::Reference, "parent", detail).path(from.path()));
        }
        Ok(fitting.pop())
    }

    /// The paths that `reference` may stand for, most literal first, each with the name it comes
    /// from. Nothing is opened.
    fn candidates<'a>(
        &self,
        folder: &Path,
        reference: &Reference<'a>,
    ) -> Vec<(&'a OsStr, PathBuf)> {
        let (names, bare_too): (Vec<&OsStr>, bool) = match reference {
            Reference::Extent(name) | Reference::Device(name) => (vec![name], false),
            Reference::Parent(parent) => {
                // Without an identity, nothing would tell a namesake from the parent.
                let checked = parent.identity.is_some();
                (
                    parent.hints.iter().map(OsString::as_os_str).collect(),
                    checked,
                )
            }
        };
        let folders = || std::iter::once(folder).chain(self.allowed.iter().map(PathBuf::as_path));
        let mut paths: Vec<(&OsStr, PathBuf)> = Vec::new();
        for name in &names {
            // A backslash can be the second half of a letter in an Asian encoding.
            if name.as_bytes().contains(&b'\\') {
                paths.extend(folders().map(|f| (*name, f.join(name))));
            }
            // A parent has other names, so that one which can be nowhere here is none to refuse.
            if matches!(reference, Reference::Parent(_)) && is_foreign(name) {
                continue;
            }
            // Joining an absolute path replaces the folder: `open_beneath` decides about it.
            paths.extend(folders().map(|f| (*name, f.join(local(name)))));
        }
        if bare_too {
            for name in names {
                if let Some(bare) = local(name).file_name() {
                    paths.extend(folders().map(|f| (name, f.join(bare))));
                }
            }
        }
        paths
    }

    /// Opens `path` if it is a regular file beneath `folder` or an allowed folder.
    ///
    /// `None` if there is no such file. Names that leave the folder are not even looked at unless
    /// an allowed folder could hold them.
    fn open_beneath(&self, folder: &Path, path: &Path) -> Result<Option<ImageFile>> {
        let outside = || {
            Err(Error::new(
                ErrorKind::Policy,
                "resolver",
                "lies outside the folders it may come from",
            ))
        };
        let bytes = path.as_os_str().as_bytes();
        if bytes.contains(&0) || bytes.len() > 4096 {
            let detail = "is not a usable file name";
            return Err(Error::new(ErrorKind::Policy, "resolver", detail));
        }
        let leaves = path.strip_prefix(folder).map_or(true, |inside| {
            !inside
                .components()
                .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
        });
        if leaves && self.allowed.is_empty() {
            return outside();
        }
        let Ok(real) = path.canonicalize() else {
            return Ok(None);
        };
        let beneath = std::iter::once(folder)
            .chain(self.allowed.iter().map(PathBuf::as_path))
            .filter_map(|f| here_if_empty(f).canonicalize().ok())
            .any(|f| real.starts_with(f));
        if !beneath {
            return outside();
        }
        if !real.is_file() {
            let detail = "is not a regular file";
            return Err(Error::new(ErrorKind::Policy, "resolver", detail));
        }
        let mut file = ImageFile::open(&real, self.access)?;
        if let Some(tag) = std::sync::Arc::get_mut(&mut file.tag) {
            tag.path = path.to_owned(); // the name people know
        }
        Ok(Some(file))
    }
}

/// The folder of a bare file name is the current one.
fn here_if_empty(folder: &Path) -> &Path {
    if folder == Path::new("") {
        Path::new(".")
    } else {
        folder
    }
}

/// Adds `file` unless it is there by another name.
fn keep(found: &mut Vec<ImageFile>, file: ImageFile) {
    if !found.iter().any(|f| f.tag.id == file.tag.id) {
        found.push(file);
    }
}
