//! VDI, the format of VirtualBox: read, so that people can leave it, and not written.
//!
//! Facts are from VirtualBox and qemu; see `disk_structs.rs`. The code is our own because no
//! crate that reads VDI says where each block lies.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod block_map;
mod check;
mod disk_structs;

use crate::{
    Error, ErrorKind, Format, Identity, Image, ImageWriter, Layer, ParentRef, Place, Result,
    Subformat,
    check::{Checkup, Findings, walk},
    format::{Context, Facts, Spec},
    storage::ImageFile,
    target::Target,
    units::SECTOR,
};
use block_map::BlockMap;
use disk_structs::{DIFFERENCING, DYNAMIC, FIXED, Header, SIGNATURE, SIGNATURE_AT, UNDO, text};

/// The VDI format.
#[derive(Clone, Copy, Debug)]
pub struct Vdi;

impl Format for Vdi {
    fn name(&self) -> &'static str {
        "vdi"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["vdi"]
    }

    fn subformats(&self) -> &'static [Subformat] {
        &[]
    }

    fn probe(&self, file: &ImageFile) -> Result<bool> {
        if file.size < SIGNATURE_AT.saturating_add(4) {
            return Ok(false);
        }
        Ok(file.read_part("signature", SIGNATURE_AT, 4)? == SIGNATURE)
    }

    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer> {
        let header = Header::read(&file)?;
        let facts = facts(&header)?;
        let hole = if facts.parent.is_some() || context.overlay {
            Place::Absent
        } else {
            Place::Zero
        };
        let map = BlockMap::new(file.clone(), &header, hole)?;
        let image = Image::new(vec![file], Box::new(map));
        Ok(Layer::new(&Vdi, image, facts))
    }

    fn check(&self, file: ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
        let header = Header::read(&file)?;
        let map = BlockMap::new(file.clone(), &header, Place::Zero)?;
        check::check(&map, &header, checkup, findings)?;
        let layer = self.open(file, &checkup.context)?;
        if checkup.deep {
            walk(&layer, checkup, findings)?;
        }
        Ok(())
    }

    fn create<'a>(
        &self,
        _target: &'a mut dyn Target,
        _spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        let detail = "is read, but not written";
        Err(Error::new(ErrorKind::Unsupported, "vdi", detail))
    }
}

fn facts(header: &Header) -> Result<Facts> {
    let subformat = match header.image_type {
        DYNAMIC => "dynamic",
        FIXED => "fixed",
        DIFFERENCING => "differencing",
        UNDO => {
            let detail = "is undo, which is not supported";
            return Err(Error::new(ErrorKind::Unsupported, "image type", detail).at(76));
        }
        other => {
            let detail = format!(
                "is {other}; known are 1 (dynamic), 2 (fixed), 3 (undo) and 4 (differencing)"
            );
            return Err(Error::corrupt("image type", detail).at(76));
        }
    };
    let mut details = vec![("block size", format!("{} bytes", header.block_size))];
    let comment = text(&header.comment);
    if !comment.is_empty() {
        details.push(("comment", comment));
    }
    let mut warnings = Vec::new();
    if !header.size.is_multiple_of(SECTOR) {
        warnings.push(format!(
            "the disk has {} bytes, not a whole number of sectors; the last sector is read whole",
            header.size
        ));
    }
    let program = text(&header.text);
    let program = program.trim_matches(['<', '>', ' ']).to_owned();
    Ok(Facts {
        subformat: subformat.to_owned(),
        creator: (!program.is_empty()).then_some(program),
        details,
        warnings,
        identity: Some(Identity::Vdi {
            uuid: header.uuid,
            modified: header.modified,
        }),
        other_identity: None,
        disk_id: None,
        notes: Vec::new(),
        parent_modified: None,
        parent: parent(header)?,
    })
}

/// The parent, of which a child records who it is, but no name.
fn parent(header: &Header) -> Result<Option<ParentRef>> {
    match (header.image_type, header.parent_uuid) {
        (DIFFERENCING, uuid) if uuid == [0; 16] => {
            let detail = "is differencing, but no parent is recorded";
            Err(Error::corrupt("image type", detail).at(424))
        }
        (DIFFERENCING, uuid) => Ok(Some(ParentRef {
            hints: Vec::new(),
            identity: Some(Identity::Vdi {
                uuid,
                modified: header.parent_modified,
            }),
            alternative: None,
            format: Some(Vdi.name()),
        })),
        (_, uuid) if uuid != [0; 16] => {
            let detail = "is not differencing, but a parent is recorded";
            Err(Error::corrupt("image type", detail).at(424))
        }
        _ => Ok(None),
    }
}
