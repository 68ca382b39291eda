//! The parts of a VHD as they lie in the file, for rules that ask more than what the disk holds.
//!
//! Reading an image forgives much; a profile must see what was forgiven.

pub(crate) use super::{
    disk_structs::{DYNAMIC, DynamicHeader, FIXED, Footer, Geometry, NO_OFFSET},
    geometry::geometry,
};
use super::{
    disk_structs::{FOOTER_LEN, HEADER_LEN, footer_checksum, header_checksum},
    footer,
};
use crate::{Result, storage::ImageFile, units::SECTOR};

/// One structure of the file.
pub(crate) struct Part<T> {
    /// Where it starts.
    pub(crate) at: u64,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// What they say.
    pub(crate) fields: T,
    /// Whether its checksum is right.
    pub(crate) sound: bool,
}

/// The structures of a VHD.
pub(crate) struct View {
    /// The footer that the image is read by, wherever it was found.
    pub(crate) footer: Footer,
    /// The footer in the last sector of the file, where every program looks first.
    pub(crate) last: Option<Part<Footer>>,
    /// The copy in the first sector; that of a fixed disk belongs to the guest and is left out.
    pub(crate) first: Option<Part<Footer>>,
    /// The dynamic header; a fixed disk has none.
    pub(crate) header: Option<Part<DynamicHeader>>,
}

impl View {
    /// Reads the structures of `file`, which was opened as a VHD.
    pub(crate) fn read(file: &ImageFile) -> Result<Self> {
        let footer = footer::find(file)?.footer;
        let blocks = footer.disk_type != FIXED;
        Ok(Self {
            last: part(file, file.size.checked_sub(SECTOR))?,
            first: part(file, blocks.then_some(0))?,
            header: match blocks {
                true => header(file, footer.data_offset)?,
                false => None,
            },
            footer,
        })
    }
}

/// The footer at `at`, if there is one.
fn part(file: &ImageFile, at: Option<u64>) -> Result<Option<Part<Footer>>> {
    let Some(at) = at.filter(|_| file.size >= SECTOR) else {
        return Ok(None);
    };
    let mut bytes = [0; FOOTER_LEN];
    file.read_at(at, &mut bytes)?;
    Ok(Footer::parse(&bytes).map(|fields| Part {
        at,
        sound: fields.checksum == footer_checksum(&bytes),
        bytes: bytes.to_vec(),
        fields,
    }))
}

fn header(file: &ImageFile, at: u64) -> Result<Option<Part<DynamicHeader>>> {
    let bytes = file.read_part("dynamic header", at, HEADER_LEN as u64)?;
    Ok(DynamicHeader::parse(&bytes).map(|fields| Part {
        at,
        sound: fields.checksum == header_checksum(&bytes),
        bytes,
        fields,
    }))
}
