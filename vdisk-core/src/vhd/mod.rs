//! VHD, the format of Virtual PC, Hyper-V, Azure and XenServer.
//!
//! Facts are from the "Virtual Hard Disk Image Format Specification" 1.0; where programs do
//! otherwise, a comment says which and what.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        reason = "a test may fail by a panic"
    )
)]

mod bat;
mod batmap;
mod bitmap;
mod check;
mod compact;
mod disk_structs;
mod edit;
mod facts;
mod fixed;
mod fixed_changes;
mod footer;
mod geometry;
mod locator;
mod reparent;
mod resize;
mod sound;
mod survey;
mod table;
mod update;
pub(crate) mod view;
mod writer;

use crate::{
    Error, ErrorKind, Format, Identity, Image, ImageWriter, Layer, Layout, ParentRef, Place,
    Result, Subformat,
    check::{Checkup, Findings},
    edit::{Edit, Plan},
    format::{Compactor, Context, Facts, Spec, Update},
    storage::ImageFile,
    target::Target,
    transaction::Transaction,
    units::SECTOR,
};
use bat::Blocks;
use disk_structs::{
    DIFFERENCING, DYNAMIC, DynamicHeader, FIXED, Footer, HEADER_LEN, VERSION, header_checksum,
};
use fixed::Fixed;
use footer::Found;
use sound::Sound;

/// The VHD format.
#[derive(Clone, Copy, Debug)]
pub struct Vhd;

impl Format for Vhd {
    fn name(&self) -> &'static str {
        "vhd"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["vhd", "vpc"]
    }
    fn subformats(&self) -> &'static [Subformat] {
        &[
            Subformat {
                name: "dynamic",
                streams: false,
                child: false,
            },
            Subformat {
                name: "fixed",
                streams: true,
                child: false,
            },
            Subformat {
                name: "differencing",
                streams: false,
                child: true,
            },
        ]
    }
    fn probe(&self, file: &ImageFile) -> Result<bool> {
        footer::probe(file)
    }
    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer> {
        let found = footer::find(&file)?;
        readable(&found.footer)?;
        let mut facts = facts::of(&found);
        let layout = if found.footer.disk_type == FIXED {
            Box::new(Fixed::new(&file, &found, context.overlay)?) as Box<dyn Layout>
        } else {
            Box::new(open_blocks(&file, &found, context.overlay, &mut facts)?)
        };
        Ok(Layer::new(&Vhd, Image::new(vec![file], layout), facts))
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
        let sound = sound_of(layer)?;
        match sound.is_fixed() {
            true => Ok(Box::new(fixed_changes::Writer::new(
                sound,
                transaction,
                update,
            ))),
            false => Ok(Box::new(update::Writer::new(sound, transaction, update)?)),
        }
    }
    fn resize(
        &self,
        layer: &Layer,
        transaction: &Transaction<'_>,
        update: &Update<'_>,
        size: u64,
    ) -> Result<()> {
        let sound = sound_of(layer)?;
        if !size.is_multiple_of(SECTOR) {
            let detail = "is not a whole number of sectors";
            return Err(Error::new(ErrorKind::Usage, "virtual size", detail));
        }
        match sound.is_fixed() {
            true => fixed_changes::resize(&sound, transaction, update, size),
            false => resize::resize(&sound, transaction, update, size),
        }
    }
    fn compact<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn Compactor + 'a>> {
        let sound = sound_of(layer)?;
        match sound.is_fixed() {
            true => Ok(Box::new(fixed_changes::Holes::new(
                sound,
                transaction,
                update,
            ))),
            false => Ok(Box::new(compact::Blocks::new(sound, transaction, update)?)),
        }
    }
    fn create<'a>(
        &self,
        target: &'a mut dyn Target,
        spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        let kind = match spec.subformat.name {
            "fixed" => FIXED,
            "differencing" => DIFFERENCING,
            _ => DYNAMIC,
        };
        writer::create(target, spec, kind)
    }
}

/// The image of `layer`, if nothing in it must be repaired before it is changed.
fn sound_of(layer: &Layer) -> Result<Sound> {
    let Some(file) = layer.files().first() else {
        return Err(Error::new(ErrorKind::Usage, "image", "has no file"));
    };
    Sound::read(file).map_err(|e| e.path(file.path()))
}

/// Refuses what the footer alone shows to be unreadable.
fn readable(footer: &Footer) -> Result<()> {
    let unsupported =
        |part: &'static str, detail| Err(Error::new(ErrorKind::Unsupported, part, detail));
    if footer.version >> 16 != VERSION >> 16 {
        let detail = format!("has version {:#010x}; known is 1.0", footer.version);
        return unsupported("footer", detail);
    }
    match footer.disk_type {
        FIXED | DYNAMIC | DIFFERENCING => {}
        0 => return Err(Error::corrupt("disk type", "is 0, which means no disk")),
        1 | 5 | 6 => {
            let detail = format!(
                "is {}, which the specification reserves; nothing is known to write it",
                footer.disk_type
            );
            return unsupported("disk type", detail);
        }
        other => return Err(Error::corrupt("disk type", format!("is {other}"))),
    }
    if !footer.current_size.is_multiple_of(SECTOR) {
        let detail = format!(
            "is {} bytes, not a whole number of sectors",
            footer.current_size
        );
        return Err(Error::corrupt("virtual size", detail));
    }
    Ok(())
}

/// Reads what dynamic and differencing disks have in common.
fn open_blocks(
    file: &ImageFile,
    found: &Found,
    overlay: bool,
    facts: &mut Facts,
) -> Result<Blocks> {
    let footer = &found.footer;
    let (header, bytes) = read_header(file, footer.data_offset)?;
    if header.checksum != header_checksum(&bytes) {
        let warning =
            "the checksum of the dynamic header is wrong; its fields are used as they are";
        facts.warnings.push(warning.to_owned());
    }
    facts
        .details
        .push(("block size", format!("{} bytes", header.block_size)));
    if let Some(map) = batmap::read(file, footer, &header)? {
        let version = format!("version {}.{}", map.version >> 16, map.version & 0xffff);
        facts.details.push(("batmap", version));
    }
    let child = footer.disk_type == DIFFERENCING;
    if child {
        let raw_parent = header.parent_uuid == [0; 16]; // as XenServer marks it
        facts.parent = Some(ParentRef {
            hints: locator::hints(file, &header, &mut facts.warnings)?,
            identity: (!raw_parent).then_some(Identity::Uuid(header.parent_uuid)),
            alternative: None,
            format: raw_parent.then_some("raw"),
        });
        facts.parent_modified = writer::unix_time(header.parent_timestamp);
    }
    let hole = if child || overlay {
        Place::Absent
    } else {
        Place::Zero
    };
    Blocks::new(file.clone(), found, &header, hole)
}

/// Reads the dynamic header at `at`; also its bytes, for what they tell besides.
fn read_header(file: &ImageFile, at: u64) -> Result<(DynamicHeader, Vec<u8>)> {
    let bytes = file.read_part("dynamic header", at, HEADER_LEN as u64)?;
    let Some(header) = DynamicHeader::parse(&bytes) else {
        let detail = "does not start with its signature 'cxsparse'";
        return Err(Error::corrupt("dynamic header", detail).at(at));
    };
    if header.version >> 16 != VERSION >> 16 {
        let detail = format!("has version {:#010x}; known is 1.0", header.version);
        return Err(Error::new(ErrorKind::Unsupported, "dynamic header", detail).at(at));
    }
    Ok((header, bytes))
}
