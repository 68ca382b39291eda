//! VMDK: the disks of VMware, as written by many others.
//!
//! Read: monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, the flat
//! vmfs types and streamOptimized. Written: monolithicSparse, monolithicFlat, twoGbMaxExtentSparse,
//! twoGbMaxExtentFlat, vmfs and streamOptimized.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod descriptor;
mod descriptor_text;
mod disk_structs;
mod edit;
mod extents;
mod grain_directory;
mod inflate;
mod sparse_extent;
mod sparse_writer;
mod split_writer;
mod stream_writer;

use crate::{
    Error, ErrorKind, Format, Identity, Image, ImageWriter, InFile, Layer, ParentRef, Place,
    Reference, Result, Subformat,
    edit::{Edit, Plan},
    format::{Context, Facts, Spec},
    limits,
    storage::ImageFile,
    target::Target,
    units::Sectors,
};
use descriptor::{Access, Descriptor, ExtentKind, ExtentLine, NO_PARENT};
use disk_structs::{MAGIC, MAGIC_UNFINISHED, SparseHeader};
use extents::{Extent, Extents, Source};
use sparse_extent::{Opening, SparseExtent};

/// The VMDK format.
#[derive(Clone, Copy, Debug)]
pub struct Vmdk;

const SPARSE: Subformat = Subformat {
    name: "monolithicSparse",
    streams: false,
    child: true,
};
const STREAM: Subformat = Subformat {
    name: "streamOptimized",
    streams: true,
    child: false,
};

/// What is written, the default first.
const WRITTEN: [Subformat; 6] = [
    SPARSE,
    STREAM,
    Subformat {
        name: "monolithicFlat",
        streams: false,
        child: false,
    },
    Subformat {
        name: "twoGbMaxExtentSparse",
        streams: false,
        child: true,
    },
    Subformat {
        name: "twoGbMaxExtentFlat",
        streams: false,
        child: false,
    },
    Subformat {
        name: "vmfs",
        streams: false,
        child: false,
    },
];

/// Most bytes of a disk that VMware's products take.
const MOST: u64 = 62 << 40;

/// First bytes of VMDK files that are known, but not read.
const UNREAD: [(&[u8], &str); 2] = [
    (b"COWD", "a bare vmfsSparse extent: open its descriptor"),
    (
        b"\xbe\xba\xfe\xca\0\0\0\0\x01\0\0\0\x02\0\0\0",
        "a bare seSparse extent: open its descriptor",
    ),
];

impl Format for Vmdk {
    fn name(&self) -> &'static str {
        "vmdk"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["vmdk"]
    }

    fn subformats(&self) -> &'static [Subformat] {
        &WRITTEN
    }

    fn probe(&self, file: &ImageFile) -> Result<bool> {
        let head = head(file)?;
        let magic = head.starts_with(MAGIC)
            || head.starts_with(MAGIC_UNFINISHED)
            || UNREAD.iter().any(|(magic, _)| head.starts_with(magic));
        Ok(magic || descriptor::looks_like(&head))
    }

    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer> {
        let head = head(&file)?;
        if let Some((_, what)) = UNREAD.iter().find(|(magic, _)| head.starts_with(magic)) {
            let detail = format!("is {what}");
            return Err(Error::new(ErrorKind::Unsupported, "extent", detail));
        }
        if head.starts_with(MAGIC) || head.starts_with(MAGIC_UNFINISHED) {
            return open_monolithic(file, context);
        }
        if !descriptor::looks_like(&head) {
            let detail = "has neither a VMDK signature nor a descriptor";
            return Err(Error::new(ErrorKind::WrongFormat, "format", detail));
        }
        open_descriptor_file(file, context)
    }

    fn edit(&self, file: &ImageFile, edit: &Edit) -> Result<Plan> {
        edit::plan(file, edit)
    }

    fn create<'a>(
        &self,
        target: &'a mut dyn Target,
        spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        if spec.size == 0 || spec.size > MOST {
            let detail = format!("{} bytes are not between 512 bytes and 62 TiB", spec.size);
            return Err(Error::new(ErrorKind::Unsupported, "virtual size", detail));
        }
        if spec.subformat == &STREAM {
            return Ok(Box::new(stream_writer::StreamWriter::new(target, spec)?));
        }
        if spec.subformat == &SPARSE {
            let (size, child) = (spec.size, spec.parent.is_some());
            let text = descriptor_text::embedded(spec)?;
            let writer = sparse_writer::SparseWriter::new(target, size, child, text);
            return Ok(Box::new(writer));
        }
        Ok(Box::new(split_writer::SplitWriter::new(target, spec)?))
    }
}

/// The start of the file, as much as probing needs.
fn head(file: &ImageFile) -> Result<Vec<u8>> {
    file.read_part("signature", 0, file.size.min(4096))
}

/// Opens a single file that holds header, descriptor and grains.
fn open_monolithic(file: ImageFile, context: &Context<'_>) -> Result<Layer> {
    let header = SparseExtent::header(&file)?;
    let text = embedded_descriptor(&file, &header)?;
    let descriptor = Descriptor::parse(&text)?;
    let stored = descriptor
        .extents
        .iter()
        .filter(|e| e.kind != ExtentKind::Zero)
        .count();
    if stored > 1 {
        let detail = format!("inside a sparse extent names {stored} extents");
        return Err(Error::new(ErrorKind::Unsupported, "descriptor", detail));
    }
    // The one extent is this file, whatever the descriptor calls it: such disks get renamed.
    let mut facts = facts(&descriptor)?;
    let hole = hole(&facts, context);
    facts
        .details
        .push(("header version", header.version.to_string()));
    let mut opening = Opening::new();
    let sparse = SparseExtent::open(file.clone(), 0, header, hole, &mut opening)?;
    facts.warnings.append(&mut opening.warnings);
    let extents = Extents::new(vec![Extent {
        start: 0,
        len: sparse.size(),
        source: Source::Sparse(Box::new(sparse)),
    }]);
    Ok(Layer::new(
        &Vmdk,
        Image::new(vec![file], Box::new(extents)),
        facts,
    ))
}

/// The text inside a sparse extent. An extent of a split disk has none.
fn embedded_descriptor(file: &ImageFile, header: &SparseHeader) -> Result<Vec<u8>> {
    let part_of_split = || {
        let detail = "has no descriptor inside: it is one extent of a split disk; open the disk's descriptor";
        Err(Error::new(ErrorKind::Unsupported, "extent", detail))
    };
    if header.descriptor_offset == 0 || header.descriptor_size == 0 {
        return part_of_split();
    }
    let len = Sectors(header.descriptor_size).bytes()?;
    if len > limits::DESCRIPTOR {
        let detail = format!("has {len} bytes, more than {}", limits::DESCRIPTOR);
        return Err(Error::new(ErrorKind::Limit, "descriptor", detail));
    }
    let text = file.read_part(
        "descriptor",
        Sectors(header.descriptor_offset).bytes()?,
        len,
    )?;
    if text.first().is_none_or(|&b| b == 0) {
        return part_of_split();
    }
    Ok(text)
}

/// Opens a disk whose descriptor is a file of its own.
fn open_descriptor_file(file: ImageFile, context: &Context<'_>) -> Result<Layer> {
    if file.size > limits::DESCRIPTOR {
        let detail = format!("has {} bytes, more than {}", file.size, limits::DESCRIPTOR);
        return Err(Error::new(ErrorKind::Limit, "descriptor", detail));
    }
    let descriptor = Descriptor::parse(&file.read_part("descriptor", 0, file.size)?)?;
    let kind = descriptor.create_type.to_ascii_lowercase();
    if ["device", "rdm", "passthrough", "vmfsraw"]
        .iter()
        .any(|w| kind.contains(w))
    {
        let detail = format!(
            "is of type {}: it stands for a physical device, which is never opened",
            descriptor.create_type
        );
        return Err(Error::new(ErrorKind::Unsupported, "descriptor", detail));
    }
    if descriptor.extents.is_empty() {
        return Err(Error::corrupt("descriptor", "names no extents"));
    }
    let mut facts = facts(&descriptor)?;
    let hole = hole(&facts, context);
    let mut files = vec![file];
    let mut opening = Opening::new();
    let mut extents = Vec::new();
    let mut start = 0u64;
    for (line, number) in descriptor.extents.iter().zip(1..) {
        let len = Sectors(line.sectors).bytes()?;
        let source = open_extent(line, number, &mut files, context, hole, &mut opening)?;
        extents.push(Extent { start, len, source });
        start = start
            .checked_add(len)
            .filter(|end| *end <= limits::DISK_SIZE)
            .ok_or_else(|| Error::new(ErrorKind::Limit, "extents", "are larger than any disk"))?;
    }
    facts.warnings.append(&mut opening.warnings);
    // Empty extents hold nothing, and would make two extents start at one place.
    extents.retain(|e| e.len > 0);
    Ok(Layer::new(
        &Vmdk,
        Image::new(files, Box::new(Extents::new(extents))),
        facts,
    ))
}

fn open_extent(
    line: &ExtentLine,
    number: usize,
    files: &mut Vec<ImageFile>,
    context: &Context<'_>,
    hole: Place,
    opening: &mut Opening,
) -> Result<Source> {
    let Some(name) = &line.name else {
        return Ok(Source::Zero);
    };
    let part = format!("extent {number}");
    if line.access == Access::None {
        let detail = "is marked NOACCESS, which is not supported";
        return Err(Error::new(ErrorKind::Unsupported, part, detail));
    }
    let descriptor = files
        .first()
        .ok_or_else(|| Error::corrupt("descriptor", "is missing"))?;
    let file = context
        .resolver
        .find(descriptor, &Reference::Extent(name))?
        .into_iter()
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Reference, "extent", "was not found"))?;
    let path = file.tag.path.clone();
    let index = files.len();
    let len = Sectors(line.sectors).bytes()?;
    let source = match &line.kind {
        ExtentKind::Flat => {
            let at = Sectors(line.offset).bytes()?;
            if at.checked_add(len).is_none_or(|end| end > file.size) {
                let detail = format!(
                    "needs {len} bytes from {at:#x}, but the file has {}; it is cut short",
                    file.size
                );
                return Err(Error::corrupt(part, detail).path(path));
            }
            Source::Flat {
                file: file.clone(),
                index,
                at,
                // A flat extent is complete, also in a child.
                hole: if context.overlay { hole } else { Place::Zero },
            }
        }
        ExtentKind::Sparse => {
            let mut open = |file| {
                let header = SparseExtent::header(&file)?;
                SparseExtent::open(file, index, header, hole, opening)
            };
            let sparse = open(file.clone()).in_file(&path)?;
            if sparse.size() < len {
                let detail = format!("has {} bytes, and the descriptor says {len}", sparse.size());
                return Err(Error::corrupt(part, detail).path(path));
            }
            Source::Sparse(Box::new(sparse))
        }
        ExtentKind::Zero => Source::Zero,
        ExtentKind::Other(kind) => {
            let detail = format!("is of type {kind}, which is not supported");
            return Err(Error::new(ErrorKind::Unsupported, part, detail).path(path));
        }
    };
    files.push(file);
    Ok(source)
}

/// What unrecorded ranges are: the parent's, or zero.
fn hole(facts: &Facts, context: &Context<'_>) -> Place {
    match facts.parent.is_some() || context.overlay {
        true => Place::Absent,
        false => Place::Zero,
    }
}

fn facts(descriptor: &Descriptor) -> Result<Facts> {
    let parent = match descriptor.parent_cid {
        Some(cid) if cid != NO_PARENT => Some(ParentRef {
            hints: descriptor.parent_hint.clone().into_iter().collect(),
            identity: Some(Identity::Cid(cid)),
            format: None,
        }),
        _ if descriptor.has_uuid_parent() => {
            let detail = "names its parent only by a VirtualBox UUID, which is not supported";
            return Err(Error::new(ErrorKind::Unsupported, "descriptor", detail));
        }
        _ => None,
    };
    let mut facts = Facts {
        subformat: descriptor.create_type.clone(),
        creator: descriptor.creator(),
        identity: descriptor.cid.map(Identity::Cid),
        parent,
        ..Facts::default()
    };
    for (key, name) in [
        ("ddb.adaptertype", "adapter type"),
        ("ddb.virtualhwversion", "hardware version"),
        ("ddb.uuid", "UUID"),
        ("ddb.uuid.image", "VirtualBox UUID"),
        ("ddb.longcontentid", "long content ID"),
        ("encoding", "encoding"),
    ] {
        if let Some(value) = descriptor.get(key) {
            facts.details.push((name, value.to_owned()));
        }
    }
    if descriptor.get("changetrackpath").is_some() {
        facts.warnings.push(
            "changed block tracking is on; what is written from this image does not carry it over"
                .to_owned(),
        );
    }
    if descriptor.cid.is_none() {
        facts
            .warnings
            .push("the descriptor has no CID: no child can name this disk".to_owned());
    }
    Ok(facts)
}
