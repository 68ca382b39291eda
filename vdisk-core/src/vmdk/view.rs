//! The descriptor and the headers of a VMDK as they lie in the file, for rules that ask more than
//! what the disk holds.
//!
//! Reading an image forgives much; a profile must see what was forgiven.

pub(crate) use super::descriptor_text::ADAPTERS;
use super::{
    descriptor::{Descriptor, NO_PARENT},
    descriptor_text::{ADAPTER, Geometry, adapter},
    disk_structs::{FLAG_COMPRESSED, FLAG_MARKERS, FLAG_REDUNDANT, GD_AT_END, MAGIC, SparseHeader},
    embedded_descriptor,
};
use crate::{Result, storage::ImageFile, units::Sectors};

/// Cylinders, heads and sectors of the geometry that a new image of `size` bytes records.
pub(crate) fn geometry(size: u64, name: Option<&str>) -> [u64; 3] {
    let adapter = adapter(name.unwrap_or(ADAPTER)).unwrap_or(ADAPTER);
    let geometry = Geometry::of(Sectors::holding(size).0, adapter);
    [geometry.cylinders, geometry.heads, geometry.sectors]
}

/// The descriptor and the headers of a VMDK.
pub(crate) struct View {
    /// The descriptor's bytes up to the first NUL.
    pub(crate) text: Vec<u8>,
    /// Where the descriptor starts in its file.
    pub(crate) at: u64,
    /// Bytes reserved for the descriptor inside a sparse extent; `None` for a file of its own.
    pub(crate) room: Option<u64>,
    /// Where something else than zeros follows the descriptor in its area.
    pub(crate) after_text: Option<u64>,
    /// The sparse extents, by the number of their file.
    pub(crate) sparse: Vec<(usize, Sparse)>,
    descriptor: Descriptor,
}

/// What the header at the start of a sparse extent says.
pub(crate) struct Sparse {
    pub(crate) version: u32,
    /// Sectors.
    pub(crate) grain_size: u64,
    pub(crate) gtes_per_gt: u32,
    pub(crate) redundant: bool,
    pub(crate) compressed: bool,
    pub(crate) markers: bool,
    /// The header leaves it to a footer where the directory is.
    pub(crate) directory_at_end: bool,
    pub(crate) unclean: bool,
    /// Byte of the file where grains begin.
    pub(crate) data_start: u64,
}

impl View {
    /// Reads the metadata of the image that consists of `files`, and was opened as a VMDK.
    pub(crate) fn read(files: &[ImageFile]) -> Result<Self> {
        let mut sparse = Vec::new();
        let mut embedded = None;
        let mut text_file = None;
        for (number, file) in files.iter().enumerate() {
            let mut magic = [0; 4];
            if file.size >= 512 {
                file.read_at(0, &mut magic)?;
            }
            if magic == *MAGIC {
                let header = SparseHeader::parse("header", &file.read_part("header", 0, 512)?)?;
                if number == 0 {
                    let area = embedded_descriptor(file, &header)?;
                    embedded = Some((area, Sectors(header.descriptor_offset).bytes()?));
                }
                sparse.push((number, Sparse::of(&header)?));
            } else if number == 0 {
                let len = file.size.min(crate::limits::DESCRIPTOR);
                text_file = Some(file.read_part("descriptor", 0, len)?);
            }
        }
        let (area, at, room) = match (embedded, text_file) {
            (Some((area, at)), _) => {
                let room = area.len() as u64;
                (area, at, Some(room))
            }
            (None, text) => (text.unwrap_or_default(), 0, None),
        };
        let end = area.iter().position(|b| *b == 0).unwrap_or(area.len());
        let (text, rest) = area.split_at(end);
        let after_text = rest
            .iter()
            .position(|b| *b != 0)
            .map(|skip| at.saturating_add(end.saturating_add(skip) as u64));
        Ok(Self {
            descriptor: Descriptor::parse(text)?,
            text: text.to_vec(),
            at,
            room,
            after_text,
            sparse,
        })
    }

    /// The value of `key`, given in lower case.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.descriptor.get(key)
    }

    /// The variant, in lower case.
    pub(crate) fn create_type(&self) -> String {
        self.descriptor.create_type.to_ascii_lowercase()
    }

    /// The first extent, counted from 1, that is called FLAT. As data it is the same as VMFS, so
    /// the parsed lines do not tell.
    pub(crate) fn flat_extent(&self) -> Option<usize> {
        let flat = |line: &[u8]| {
            let mut words = line
                .split(u8::is_ascii_whitespace)
                .filter(|w| !w.is_empty());
            words
                .nth(2)
                .is_some_and(|kind| kind.eq_ignore_ascii_case(b"FLAT"))
        };
        let lines = self.text.split(|b| *b == b'\n');
        let access = |line: &&[u8]| {
            let line = line.trim_ascii_start().to_ascii_uppercase();
            [&b"RW "[..], b"RDONLY ", b"NOACCESS "]
                .iter()
                .any(|a| line.starts_with(a))
        };
        let found = lines.filter(access).position(flat)?;
        Some(found.saturating_add(1))
    }

    /// True if the disk needs a parent.
    pub(crate) fn has_parent(&self) -> bool {
        self.descriptor
            .parent_cid
            .is_some_and(|cid| cid != NO_PARENT)
            || self.has_uuid_parent()
    }

    /// True if the parent is named as VirtualBox does, by its UUID.
    pub(crate) fn has_uuid_parent(&self) -> bool {
        self.descriptor.has_uuid_parent()
    }

    /// The header of the file that was opened, if that is a sparse extent.
    pub(crate) fn own_header(&self) -> Option<&Sparse> {
        let (number, header) = self.sparse.first()?;
        (*number == 0).then_some(header)
    }
}

impl Sparse {
    fn of(header: &SparseHeader) -> Result<Self> {
        Ok(Self {
            version: header.version,
            grain_size: header.grain_size,
            gtes_per_gt: header.gtes_per_gt,
            redundant: header.has(FLAG_REDUNDANT),
            compressed: header.has(FLAG_COMPRESSED),
            markers: header.has(FLAG_MARKERS),
            directory_at_end: header.gd_offset == GD_AT_END,
            unclean: header.unclean_shutdown != 0,
            data_start: Sectors(header.overhead).bytes()?,
        })
    }
}
