//! What a format is, and the one list of them.

use crate::{
    Error, ErrorKind, Identity, Ids, Kind, Layer, ParentRef, Resolver, Result,
    check::{self, Checkup, Findings},
    edit::{Edit, Plan},
    ova, qcow2, raw,
    storage::ImageFile,
    target::Target,
    transaction::Transaction,
    vdi, vhd, vhdx, vmdk,
};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// Every format there is. Adding one is a module and a line here: help, probing, conformance and
/// fuzzing walk this list.
pub static FORMATS: &[&dyn Format] = &[
    &vmdk::Vmdk,
    &vhd::Vhd,
    &vhdx::Vhdx,
    &qcow2::Qcow2,
    &vdi::Vdi,
    &ova::Ova,
    &raw::Raw, // last: it takes what no other is
];

/// An image format.
pub trait Format: Send + Sync {
    /// Name on the command line and in reports.
    fn name(&self) -> &'static str;
    /// File name endings, without the dot, lower case.
    fn extensions(&self) -> &'static [&'static str];
    /// The subformats that can be written; the first is the default.
    fn subformats(&self) -> &'static [Subformat];
    /// True for packages: their files hold disks of other formats, perhaps several.
    fn holds_disks(&self) -> bool {
        false
    }
    /// The names of the disks in the package `file`, or of the one that `context` asks for.
    fn disks(&self, file: &ImageFile, context: &Context<'_>) -> Result<Vec<String>> {
        let _ = (file, context);
        Ok(Vec::new())
    }
    /// Says whether `file` carries this format's signature. Reads a few sectors.
    fn probe(&self, file: &ImageFile) -> Result<bool>;
    /// Parses and checks the metadata; reads no contents.
    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer>;
    /// Looks for what is wrong with the image, beyond what stops it from being opened.
    ///
    /// An error of a kind that [`is_finding`](check::is_finding) ends the check of this image and
    /// counts as one more finding. The default opens the image and looks at every entry of its
    /// tables; a format's own check should say more: overlaps, copies that differ, flags.
    fn check(&self, file: ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
        check::walk(&self.open(file, &checkup.context)?, checkup, findings)
    }
    /// Plans a change of what the image says about itself. The default has nothing to change.
    fn edit(&self, file: &ImageFile, edit: &Edit) -> Result<Plan> {
        let _ = (file, edit);
        let detail = format!("a {} image has none that can be changed", self.name());
        Err(Error::new(ErrorKind::Unsupported, "settings", detail))
    }
    /// Opens an image to change what it holds, as part of `transaction`, among whose files are all
    /// of the layer's. What is not written stays as it is.
    ///
    /// The writer takes pieces as that of a new image does. It keeps the image whole at every
    /// moment: data first, then a barrier, then what refers to them.
    fn update<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        let _ = (transaction, update);
        Err(fixed(self.name(), layer, "written to in place"))
    }
    /// Makes the disk of an image `size` bytes long, as part of `transaction`. New bytes read as
    /// zero, or as the parent does where that goes on; what is cut off is gone.
    fn resize(
        &self,
        layer: &Layer,
        transaction: &Transaction<'_>,
        update: &Update<'_>,
        size: u64,
    ) -> Result<()> {
        let _ = (transaction, update, size);
        Err(fixed(self.name(), layer, "resized"))
    }
    /// Starts to take out of an image what it need not hold, as part of `transaction`.
    fn compact<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn Compactor + 'a>> {
        let _ = (transaction, update);
        Err(fixed(self.name(), layer, "compacted in place"))
    }
    /// Starts a new image.
    fn create<'a>(
        &self,
        target: &'a mut dyn Target,
        spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>>;
}

/// The error for an image of a kind that cannot be changed so.
pub(crate) fn fixed(format: &str, layer: &Layer, what: &str) -> Error {
    let detail = format!(
        "{} images of {format} cannot be {what}",
        layer.facts().subformat
    );
    Error::new(ErrorKind::Unsupported, "image", detail).path(layer.path())
}

/// One way of writing a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subformat {
    /// Name on the command line; the format's own word.
    pub name: &'static str,
    /// Can be written front to back, so to a pipe.
    pub streams: bool,
    /// Can be a child that holds only differences to a parent.
    pub child: bool,
}

/// What a format needs to know while it opens an image.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Opens extent files.
    pub resolver: &'a dyn Resolver,
    /// Treat an image without a parent as an overlay: its holes are absent, not zero.
    pub overlay: bool,
    /// The disk to take out of a package: its name there, or its number from 1.
    pub disk: Option<&'a str>,
    /// Compare the digests that a package records. That reads all of the disk's file.
    pub verify: bool,
}

/// How an image that exists is changed.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    /// As when it was opened.
    pub context: Context<'a>,
    /// The identity that it has from then on, for children to go by; `None` keeps its own.
    pub ids: Option<Ids>,
}

/// What to create.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// Virtual size in bytes; a multiple of 512.
    pub size: u64,
    /// One of the format's subformats.
    pub subformat: &'static Subformat,
    /// File name that the image will have, for formats that record it.
    pub name: &'a str,
    /// Identities and time.
    pub ids: Ids,
    /// Deflate level 1 to 9, for compressed subformats.
    pub level: u32,
    /// Set to create a differencing child.
    pub parent: Option<ParentSpec>,
    /// What most images leave at its default.
    pub options: Options,
}

/// Choices about a new image that most leave at their defaults. A format ignores what it has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a block (VHD, VHDX), where the format lets one choose.
    pub block_size: Option<u64>,
    /// Bytes of a logical sector, 512 or 4096, for formats that record it (VHDX).
    pub sector_size: Option<u32>,
    /// The id by which guests know the disk (VHDX: SCSI page 83). A child has that of its parent,
    /// as Windows makes it; without one here, it follows from `ids`.
    pub disk_id: Option<[u8; 16]>,
    /// Disk adapter that a VMDK descriptor names: `lsilogic`, `buslogic`, `ide`, `pvscsi`, ...
    pub adapter: Option<String>,
    /// Virtual hardware version that a VMDK descriptor names.
    pub hardware_version: Option<u32>,
    /// Most bytes of one extent of a disk that is cut into several (VMDK twoGbMaxExtent types): a
    /// multiple of 64 KiB, at most the 2047 MiB that products write.
    pub extent_size: Option<u64>,
    /// Keys and values of our own that a VMDK descriptor carries along, as `ddb.vdisk.KEY`. Keys are
    /// of lower-case letters, digits and `.-_`.
    pub notes: Vec<(String, String)>,
}

/// The parent that a new child records.
#[derive(Clone, Debug)]
pub struct ParentSpec {
    /// Path from the child's folder to the parent.
    pub relative: PathBuf,
    /// The absolute path, recorded only where the caller asks for it.
    pub absolute: Option<PathBuf>,
    /// Who the parent is; `None` for a raw parent.
    pub identity: Option<Identity>,
    /// Last change of the parent, in seconds since 1970-01-01 UTC.
    pub modified: u64,
}

/// How a writer wants its data prepared on worker threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As the guest sees it.
    Plain,
    /// Each unit deflated on its own (zlib, RFC 1950) at this level.
    Deflate(u32),
}

/// Writes a new image, front to back.
///
/// # Contract
/// Calls come in ascending order of position and do not overlap. A range starts at a multiple of
/// [`unit`](Self::unit) and ends at one or at the end of the disk. What is never mentioned reads
/// as zero in a base image, and as the parent does in a child.
pub trait ImageWriter {
    /// Bytes of the smallest piece that the image can record on its own; a power of two, at least
    /// 512 and at most [`CHUNK`](crate::ops::CHUNK).
    fn unit(&self) -> u64;
    /// How the bytes given to [`data`](Self::data) are packed; if deflated, each call is one unit.
    fn packing(&self) -> Packing {
        Packing::Plain
    }
    /// Records what `range` of the disk holds.
    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()>;
    /// Records that `range` reads as zero, also where a parent holds something else.
    fn zero(&mut self, range: Range<u64>) -> Result<()>;
    /// Writes what remains and makes the image valid. The target is not flushed.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Makes an image smaller without changing what it reads as.
///
/// # Contract
/// Calls come in ascending order of position and do not overlap. A range starts at a multiple of
/// [`unit`](Self::unit) and ends at one or at the end of the disk.
pub trait Compactor {
    /// Bytes of the smallest piece that can be removed on its own.
    fn unit(&self) -> u64;
    /// `range` is recorded no more: [`Kind::Zero`] if it reads as zero, [`Kind::Absent`] if the
    /// parent decides. Of a base, both mean zero.
    fn remove(&mut self, range: Range<u64>, kind: Kind) -> Result<()>;
    /// Makes what is left lie together, or gives its gaps back to the file system, and cuts the end.
    fn finish(self: Box<Self>) -> Result<Compacted>;
}

/// What a [`Compactor`] did, in bytes of the image's files.
///
/// `freed` is `cut` and `kept` together, and `cut` is by how much the files got shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Compacted {
    /// What the image does without: nothing refers to it, because it was removed now or is left over
    /// from earlier changes; or a hole of the file stands for it, as it is zero.
    pub freed: u64,
    /// Contents moved to fill gaps.
    pub moved: u64,
    /// The part of `kept` that takes room on the medium until now, and is given back where the file
    /// system can do that.
    pub punched: u64,
    /// Cut off at the ends of the files.
    pub cut: u64,
    /// Gaps and holes that stay part of the files' length: what lies behind them cannot be moved, or
    /// need not be.
    pub kept: u64,
}

/// The format of that name, as on the command line.
///
/// ```
/// assert_eq!(vdisk_core::format::named("vhd")?.name(), "vhd");
/// assert!(vdisk_core::format::named("floppy").is_err());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn named(name: &str) -> Result<&'static dyn Format> {
    FORMATS
        .iter()
        .copied()
        .find(|f| f.name() == name)
        .ok_or_else(|| {
            let known: Vec<&str> = FORMATS.iter().map(|f| f.name()).collect();
            let detail = format!(
                "'{name}' is not a known format; known are {}",
                known.join(", ")
            );
            Error::new(ErrorKind::Usage, "format", detail)
        })
}

/// The format that the file name's ending stands for, if any.
///
/// ```
/// let format = vdisk_core::format::by_extension("a/b.VMDK".as_ref()).unwrap();
/// assert_eq!(format.name(), "vmdk");
/// ```
pub fn by_extension(path: &Path) -> Option<&'static dyn Format> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    FORMATS
        .iter()
        .copied()
        .find(|f| f.extensions().contains(&ending.as_str()))
}

/// The writable subformat of `format` with that name (any case), or its default.
///
/// ```
/// let vmdk = vdisk_core::format::named("vmdk")?;
/// let stream = vdisk_core::format::subformat(vmdk, Some("streamOptimized"))?;
/// assert!(stream.streams);
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn subformat(format: &dyn Format, name: Option<&str>) -> Result<&'static Subformat> {
    let all = format.subformats();
    let found = match name {
        None => all.first(),
        Some(name) => all.iter().find(|s| s.name.eq_ignore_ascii_case(name)),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|s| s.name).collect();
        let detail = format!(
            "{} has no subformat '{}' that can be written; choose {}",
            format.name(),
            name.unwrap_or_default(),
            names.join(" or ")
        );
        Error::new(ErrorKind::Usage, "subformat", detail)
    })
}

/// What a format finds out about an image besides where its bytes are.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The format's own word for the variant: `monolithicSparse`, `dynamic`.
    pub subformat: String,
    /// The program that wrote the image, as far as it can be told.
    pub creator: Option<String>,
    /// Further facts worth showing, name and value.
    pub details: Vec<(&'static str, String)>,
    /// What a user of the image should know, a sentence each.
    pub warnings: Vec<String>,
    /// Who this image is, for a child to check.
    pub identity: Option<Identity>,
    /// Who it is to children that go by something else: the VirtualBox UUID of a VMDK.
    pub other_identity: Option<Identity>,
    /// Set for a differencing image.
    pub parent: Option<ParentRef>,
    /// When the file of the parent was last written to as the child was made, in seconds since
    /// 1970-01-01 UTC, if that is recorded (VHD).
    pub parent_modified: Option<u64>,
    /// The id by which guests know the disk (VHDX: SCSI page 83).
    pub disk_id: Option<[u8; 16]>,
    /// Keys and values that vdisk left in the image ([`Options::notes`]), in order.
    pub notes: Vec<(String, String)>,
}
