//! The parts of a VHD as they lie in the file, for rules that ask more than what the disk holds.
//!
//! Reading an image forgives much; a profile must see what was forgiven.

pub(crate) use super::{
    disk_structs::{DYNAMIC, DynamicHeader, FIXED, Footer, Geometry, NO_OFFSET},
    geometry::geometry,
};
use super::{
    disk_structs::{HEADER_LEN, header_checksum},
    footer::{Candidate, Footers},
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
        let footers = Footers::read(file)?;
        let footer = footers.found(file)?.footer;
        let blocks = footer.disk_type != FIXED;
        let last = footers
            .tail
            .filter(|t| t.len == SECTOR && footers.after == 0);
        Ok(Self {
            last: last.map(Part::from),
            first: footers.copy.filter(|_| blocks).map(Part::from),
            header: match blocks {
                true => header(file, footer.data_offset)?,
                false => None,
            },
            footer,
        })
    }
}

impl From<Candidate> for Part<Footer> {
    fn from(candidate: Candidate) -> Self {
        Self {
            at: candidate.at,
            bytes: candidate.bytes.to_vec(),
            fields: candidate.footer,
            sound: candidate.good,
        }
    }
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
