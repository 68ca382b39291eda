//! VMDK: the disks of VMware, as written by many others.
//!
//! Read: every type but those that only an ESX host can make sense of (vsanSparse, and raw device
//! mappings whose device is elsewhere). What decides is the extent lines and the first bytes of
//! their files, not `createType`, which is only shown. Written: monolithicSparse, monolithicFlat,
//! twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs, vmfsSparse (children) and streamOptimized.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod bare_extent;
mod check;
mod compact;
mod compact_extent;
mod cowd_header;
mod cowd_writer;
mod deferred;
mod descriptor;
mod descriptor_lines;
mod descriptor_size;
mod descriptor_text;
mod disk_structs;
mod edit;
mod extent_files;
mod extent_line;
mod extents;
mod facts;
mod grain_directory;
mod grain_tables;
mod inflate;
mod name_encoding;
mod opening;
mod packed_grains;
mod resize;
mod resize_extent;
mod sesparse_extent;
mod sesparse_headers;
mod shape;
mod sparse_extent;
mod sparse_update;
mod sparse_writer;
mod split_writer;
pub(crate) mod stream_view;
mod stream_writer;
mod table_sets;
mod update;
mod update_extents;
pub(crate) mod view;

use crate::{
    Error, ErrorKind, Format, Image, ImageWriter, Layer, Place, Result, Subformat,
    check::{Checkup, Findings},
    edit::{Edit, Plan},
    format::{Compactor, Context, Facts, Spec, Update},
    limits,
    storage::ImageFile,
    target::Target,
    transaction::Transaction,
    units::Sectors,
};
pub(crate) use bare_extent::descriptor_beside;
use cowd_header::COWD_MAGIC;
use descriptor::Descriptor;
use disk_structs::{MAGIC, MAGIC_UNFINISHED, SparseHeader};
use extent_files::open_extents;
use extent_line::ExtentKind;
use extents::{Extent, Extents, Source};
use facts::facts;
use opening::Opening;
use sesparse_extent::SeSparseExtent;
use sesparse_headers::SESPARSE_MAGIC;
use sparse_extent::SparseExtent;
pub(crate) use stream_writer::StreamWriter;

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
    child: true,
};

/// What is written, the default first.
const WRITTEN: [Subformat; 7] = [
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
    Subformat {
        name: "vmfsSparse",
        streams: false,
        child: true,
    },
];

/// Most bytes of a disk that VMware's products take.
const MOST: u64 = 62 << 40;

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
        let magics: [&[u8]; 4] = [MAGIC, MAGIC_UNFINISHED, COWD_MAGIC, SESPARSE_MAGIC];
        let magic = magics.iter().any(|magic| head.starts_with(magic));
        Ok(magic || descriptor::looks_like(&head))
    }

    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer> {
        let head = head(&file)?;
        if head.starts_with(COWD_MAGIC) || head.starts_with(SESPARSE_MAGIC) {
            return open_bare(file, context);
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

    fn check(&self, file: ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
        check::check(&file, checkup, findings)
    }

    fn edit(&self, file: &ImageFile, edit: &Edit) -> Result<Plan> {
        edit::plan(file, edit)
    }

    fn update<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        update::open(layer, transaction, update).map_err(|e| e.path(layer.path()))
    }

    fn resize(
        &self,
        layer: &Layer,
        transaction: &Transaction<'_>,
        update: &Update<'_>,
        size: u64,
    ) -> Result<()> {
        resize::resize(layer, transaction, update, size)
    }

    fn compact<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn Compactor + 'a>> {
        compact::compact(layer, transaction, update)
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
            return Ok(Box::new(StreamWriter::new(target, spec)?));
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
    let sparse = SparseExtent::open(file.clone(), 0, &header, hole, &mut opening)?;
    facts.warnings.append(&mut opening.warnings);
    Ok(one_extent(
        file,
        sparse.size(),
        Source::Sparse(Box::new(sparse)),
        facts,
    ))
}

/// A disk that is one sparse extent.
fn one_extent(file: ImageFile, len: u64, source: Source, facts: Facts) -> Layer {
    let extents = Extents::new(vec![Extent {
        start: 0,
        len,
        source,
    }]);
    Layer::new(&Vmdk, Image::new(vec![file], Box::new(extents)), facts)
}

/// Opens an extent of ESX without its descriptor.
///
/// Its header does not tell a disk from a redo log: what vmfsSparse has for a parent is out of
/// use, and all files have the flag of a root; seSparse has nothing. As a disk, a redo log would
/// read as zeros where its parent holds data. So it is opened only for a caller who says that its
/// holes are not zeros.
fn open_bare(file: ImageFile, context: &Context<'_>) -> Result<Layer> {
    let mut opening = Opening::new();
    let cowd = file.read_part("header", 0, 4)? == COWD_MAGIC;
    let subformat = if cowd { "vmfsSparse" } else { "seSparse" };
    if !context.overlay {
        let what = format!("a bare {subformat} extent");
        return Err(bare_extent::refused(&file, &what));
    }
    let (size, source) = if cowd {
        let sparse = SparseExtent::open_any(file.clone(), 0, Place::Absent, &mut opening)?;
        (sparse.size(), Source::Sparse(Box::new(sparse)))
    } else {
        let sparse = SeSparseExtent::open(file.clone(), 0, Place::Absent, &mut opening)?;
        (sparse.size(), Source::SeSparse(Box::new(sparse)))
    };
    let facts = Facts {
        subformat: subformat.to_owned(),
        warnings: opening.warnings,
        ..Facts::default()
    };
    Ok(one_extent(file, size, source, facts))
}

/// The text inside a sparse extent. An extent of a split disk has none.
fn embedded_descriptor(file: &ImageFile, header: &SparseHeader) -> Result<Vec<u8>> {
    let part_of_split = || Err(bare_extent::refused(file, "one extent of a split disk"));
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
    if descriptor.extents.is_empty() {
        return Err(Error::corrupt("descriptor", "names no extents"));
    }
    let mut facts = facts(&descriptor)?;
    let hole = hole(&facts, context);
    let mut files = vec![file];
    let mut opening = Opening::new();
    let extents = open_extents(&descriptor.extents, &mut files, context, hole, &mut opening)?;
    facts.warnings.append(&mut opening.warnings);
    Ok(Layer::new(
        &Vmdk,
        Image::new(files, Box::new(Extents::new(extents))),
        facts,
    ))
}

/// What unrecorded ranges are: the parent's, or zero.
fn hole(facts: &Facts, context: &Context<'_>) -> Place {
    match facts.parent.is_some() || context.overlay {
        true => Place::Absent,
        false => Place::Zero,
    }
}
