//! From a path to a disk: which format, which parents, and whether they are the recorded ones.

use crate::{
    Chain, Deny, Disk, Error, ErrorKind, FORMATS, Format, Identity, InFile, Layer, ParentRef,
    Reference, Resolver, Result, format,
    format::Context,
    limits, raw,
    storage::{Access, ImageFile},
    vdi, vhd, vhdx, vmdk,
};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
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
    let Some((file, disk)) = package_and_disk(path) else {
        return then(ImageFile::open(path, options.access)?, options);
    };
    let options = OpenOptions {
        disk: Some(&disk),
        ..*options
    };
    then(ImageFile::open(&file, options.access)?, &options)
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

/// Walks from `top` to its parents as far as they can be opened and are the recorded ones.
///
/// The only chain walk: identity, depth and loops are checked here for all formats. Returns the
/// layers found, topmost first, and what stopped the walk before its end.
pub fn ancestors(top: Layer, options: &OpenOptions<'_>) -> (Vec<Arc<Layer>>, Option<Error>) {
    let mut layers = vec![Arc::new(top)];
    loop {
        let Some(child) = layers.last() else {
            return (layers, None);
        };
        let Some(wanted) = child.facts().parent.clone() else {
            return (layers, None);
        };
        let path = child.path().to_owned();
        match parent(child, &wanted, &layers, options).in_file(&path) {
            Ok(layer) => layers.push(Arc::new(layer)),
            Err(error) => return (layers, Some(error)),
        }
    }
}

/// Opens the parent that `child` records, and checks that it is the one.
fn parent(
    child: &Layer,
    wanted: &ParentRef,
    above: &[Arc<Layer>],
    options: &OpenOptions<'_>,
) -> Result<Layer> {
    if above.len() >= limits::CHAIN_DEPTH {
        let detail = format!("has more than {} layers", limits::CHAIN_DEPTH);
        return Err(Error::new(ErrorKind::Limit, "chain", detail));
    }
    let Some(file) = child.files().first() else {
        return Err(Error::new(
            ErrorKind::Reference,
            "parent",
            "has no child file",
        ));
    };
    let found = options.resolver.find(file, &Reference::Parent(wanted))?;
    let mut mismatch = None;
    for candidate in found {
        let (id, name) = (candidate.tag.id, candidate.tag.path.clone());
        let opened = open_parent(candidate, wanted, options);
        let reason = match opened {
            Ok(layer) if is_wanted(&layer, wanted) => {
                if id.is_none() || above.iter().all(|l| l.file_id() != id) {
                    return Ok(layer);
                }
                let detail = format!("'{}' is its own ancestor: a loop", name.display());
                Error::corrupt("parent", detail)
            }
            // A file given for a layer above is not this parent, and no reason to complain.
            Ok(_) if above.iter().any(|l| l.file_id() == id) => continue,
            Ok(layer) => changed(&layer, wanted),
            // Another candidate may be the one.
            Err(error) => error,
        };
        mismatch.get_or_insert(reason);
    }
    Err(mismatch.unwrap_or_else(|| {
        let names: Vec<String> = wanted
            .hints
            .iter()
            .map(|h| format!("'{}'", h.display()))
            .collect();
        let detail = format!("{} was not found", names.join(" or "));
        Error::new(ErrorKind::Reference, "parent", detail)
    }))
}

/// True if `found` is the parent that is recorded, as far as anything about it is.
fn is_wanted(found: &Layer, wanted: &ParentRef) -> bool {
    wanted.identity.is_none() || wanted.is(found.facts())
}

/// Opens `file` as the parent that is recorded.
///
/// The child's word decides of which format it is, not what the contents look like: guests write
/// the contents. Where the child says nothing, the file must say it as a file named by a person
/// must, and names a parent of its own only if its name stands for the same format.
fn open_parent(file: ImageFile, wanted: &ParentRef, options: &OpenOptions<'_>) -> Result<Layer> {
    let recorded = format_of(wanted)?;
    let path = file.tag.path.clone();
    let found = match recorded {
        Some(format) => format,
        None => probe(&file).map_err(|e| unclear(&path).because(e))?,
    };
    let agreed = format::by_extension(&path).is_some_and(|f| f.name() == found.name());
    let alone = recorded.is_none() && !agreed;
    let options = OpenOptions {
        format: Some(found),
        disk: None,
        resolver: if alone { &Deny } else { options.resolver },
        overlay: false,
        ..*options
    };
    let layer = open_file(file, &options)?;
    if alone && layer.facts().parent.is_some() {
        return Err(unclear(&path));
    }
    Ok(layer)
}

fn unclear(path: &Path) -> Error {
    let detail = format!(
        "the format of '{}' is not recorded, and its name and contents do not agree on one",
        path.display()
    );
    Error::new(ErrorKind::Policy, "parent", detail)
}

/// The format that `parent` must have: as recorded, or as its identity implies; `None` if neither
/// is known.
fn format_of(parent: &ParentRef) -> Result<Option<&'static dyn Format>> {
    if let Some(name) = parent.format {
        return format::named(name).map(Some);
    }
    Ok(match parent.identity {
        Some(Identity::Cid(_)) => Some(&vmdk::Vmdk),
        Some(Identity::Uuid(_)) => Some(&vhd::Vhd),
        Some(Identity::Linkage(_)) => Some(&vhdx::Vhdx),
        Some(Identity::Vdi { .. }) => Some(&vdi::Vdi),
        None => None,
    })
}

fn changed(found: &Layer, wanted: &ParentRef) -> Error {
    let name =
        |identity: Option<Identity>| identity.map_or("no identity".to_owned(), |i| i.to_string());
    // What the child goes by, if the found one has it too.
    let has = match (wanted.identity, found.facts().other_identity) {
        (Some(Identity::Uuid(_)), Some(uuid)) => Some(uuid),
        _ => found.facts().identity,
    };
    let detail = format!(
        "'{}' has {}, but the child was made from {}; it was changed or is another image",
        found.path().display(),
        name(has),
        name(wanted.identity),
    );
    Error::new(ErrorKind::Reference, "parent", detail)
}

/// File name endings that mean raw and nothing else. `.img` is used for every format.
const SURELY_RAW: [&str; 2] = ["raw", "dd"];

/// Finds the format of `file`. Raw only where the name says so and nothing else matches.
///
/// A guest can write any signature into its disk. So a file that is raw by its name and something
/// else by its contents, or a fixed VHD that begins like a VMDK, is refused until somebody names
/// the format.
pub fn probe(file: &ImageFile) -> Result<&'static dyn Format> {
    let mut matching: Vec<&'static dyn Format> = Vec::new();
    for format in FORMATS.iter().copied() {
        if format.probe(file).in_file(file.path())? {
            matching.push(format);
        }
    }
    if let [one, another, ..] = matching.as_slice() {
        let detail = format!(
            "has the signatures of {} and of {}; name the input format",
            one.name(),
            another.name()
        );
        return Err(Error::new(ErrorKind::WrongFormat, "format", detail).path(file.path()));
    }
    let ending = file.path().extension().map(|e| e.to_ascii_lowercase());
    let surely_raw = SURELY_RAW
        .iter()
        .any(|r| ending.as_deref() == Some((*r).as_ref()));
    let raw_by_name = raw_by_name(file.path());
    match (matching.first(), foreign(file)?) {
        (Some(format), _) if !surely_raw => Ok(*format),
        (Some(format), _) => Err(two_faced(file, format.name())),
        (None, Some(name)) if raw_by_name => Err(two_faced(file, name)),
        (None, None) if raw_by_name => Ok(&raw::Raw),
        (None, other) => Err(unknown(file, other)),
    }
}

/// True if the ending of the name stands for a raw disk.
pub(crate) fn raw_by_name(path: &Path) -> bool {
    format::by_extension(path).is_some_and(|f| f.name() == raw::Raw.name())
}

fn two_faced(file: &ImageFile, contents: &str) -> Error {
    let detail =
        format!("is raw by its name and {contents} by its contents; name the input format");
    Error::new(ErrorKind::WrongFormat, "format", detail).path(file.path())
}

/// What the first bytes of the file say, if that is something known that cannot be read.
fn foreign(file: &ImageFile) -> Result<Option<&'static str>> {
    let head = file.read_part("signature", 0, file.size.min(16))?;
    let found = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic));
    Ok(found.map(|(_, name)| *name))
}

/// Says why no format fits.
fn unknown(file: &ImageFile, foreign: Option<&str>) -> Error {
    if let Some(name) = foreign {
        let ending = file.path().extension();
        let name = match ending.is_some_and(|e| e.eq_ignore_ascii_case("box")) {
            true => "a Vagrant box, a compressed archive with an image inside",
            false => name,
        };
        let detail = format!("is {name}, which is not supported");
        return Error::new(ErrorKind::Unsupported, "format", detail).path(file.path());
    }
    let by_name = format::by_extension(file.path()).map(|f| f.name());
    if by_name == Some("vmdk")
        && let Some(name) = vmdk::descriptor_beside(file)
    {
        let detail = format!(
            "has no VMDK signature: it looks like the data of a flat disk; open its descriptor '{}'",
            name.display()
        );
        return Error::new(ErrorKind::WrongFormat, "format", detail).path(file.path());
    }
    let detail = match by_name {
        _ if file.size == 0 => "is empty",
        Some("vmdk") => {
            "has no VMDK signature or descriptor (if it is the data of a flat disk, open its descriptor)"
        }
        Some("vhd") => "has no VHD footer: it is cut short, or something else",
        Some("vhdx") => {
            "does not start as a VHDX file: its first bytes are lost, or it is something else"
        }
        Some("ova") => {
            "has neither a tar header nor an OVF envelope: it is damaged, or something else"
        }
        _ => {
            "is none of the image formats that can be read (if it is a raw disk, name the input format)"
        }
    };
    Error::new(ErrorKind::WrongFormat, "format", detail).path(file.path())
}

/// First bytes of formats that are told apart only to refuse them by name.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"\xfd7zXZ\0", "xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"PK\x03\x04", "a ZIP archive"),
];
