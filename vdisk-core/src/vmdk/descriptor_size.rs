//! What the descriptor says of a disk that gets another size: an extent line, the geometry, and
//! who the disk is from then on.

use super::{
    descriptor::{Descriptor, looks_like},
    descriptor_lines::Text,
    descriptor_text::Geometry,
    disk_structs::MAGIC,
    edit::{identity, in_area, text_len},
    embedded_descriptor, head,
    sparse_extent::SparseExtent,
};
use crate::{
    Error, ErrorKind, Ids, Result, limits,
    patch::Patch,
    storage::ImageFile,
    units::{SECTOR, Sectors, buffer_len, round_up},
};

/// A descriptor in its file.
pub(super) struct Described<'a> {
    file: &'a ImageFile,
    /// Where it lies inside a sparse extent; none for a file of its own.
    area: Option<u64>,
    bytes: Vec<u8>,
    pub(super) descriptor: Descriptor,
}

impl<'a> Described<'a> {
    /// Reads the descriptor that `file`, which was opened as an image, is or holds.
    pub(super) fn read(file: &'a ImageFile) -> Result<Self> {
        let head = head(file)?;
        if !head.starts_with(MAGIC) && (!looks_like(&head) || file.size > limits::DESCRIPTOR) {
            let detail = "has no descriptor; change the one that names this extent";
            return Err(Error::new(ErrorKind::Unsupported, "image", detail));
        }
        let (area, bytes) = match head.starts_with(MAGIC) {
            true => {
                let header = SparseExtent::header(file)?;
                let at = Sectors(header.descriptor_offset).bytes()?;
                (Some(at), embedded_descriptor(file, &header)?)
            }
            false => (None, file.read_part("descriptor", 0, file.size)?),
        };
        Ok(Self {
            file,
            area,
            descriptor: Descriptor::parse(&bytes)?,
            bytes,
        })
    }

    /// True if the descriptor lies inside the only extent.
    pub(super) fn is_embedded(&self) -> bool {
        self.area.is_some()
    }

    /// The change to extent line `number`, from 0, of `sectors`. `None` leaves all lines.
    pub(super) fn patch(
        &self,
        size: Option<(usize, u64)>,
        ids: Option<&Ids>,
    ) -> Result<Option<Patch>> {
        let old = &self.descriptor;
        let mut text = Text::new(self.bytes.get(..text_len(&self.bytes)).unwrap_or_default());
        let mut expected = old.extents.clone();
        if let Some((number, sectors)) = size {
            text.set_sectors(number, sectors);
            if let Some(line) = expected.get_mut(number) {
                line.sectors = sectors;
            }
            for (key, value) in geometry(old, sectors_of(&expected)) {
                text.set(key, value.to_string().as_bytes())?;
            }
        }
        for (key, value) in ids.map(|ids| identity(old, ids)).unwrap_or_default() {
            text.set(key, value.as_bytes())?;
        }
        let text = text.bytes();
        if Descriptor::parse(&text)?.extents != expected {
            let detail = "cannot be changed: its lines are not as any program writes them";
            return Err(Error::new(ErrorKind::Unsupported, "descriptor", detail));
        }
        self.put(text)
    }

    fn put(&self, mut text: Vec<u8>) -> Result<Option<Patch>> {
        if let Some(at) = self.area {
            return in_area(self.file, at, &self.bytes, text);
        }
        if text_len(&self.bytes) < self.bytes.len() {
            // qemu fills the last sector; so does this, in what it has filled.
            let whole = round_up(text.len() as u64, SECTOR).max(self.file.size);
            text.resize(buffer_len(whole)?, 0);
        }
        Ok((text != self.bytes).then(|| Patch::replace(self.file, text)))
    }
}

fn sectors_of(lines: &[super::extent_line::ExtentLine]) -> u64 {
    lines
        .iter()
        .fold(0, |sum, line| line.sectors.saturating_add(sum))
}

/// The keys of the geometry of a disk that gets `sectors`, as far as the descriptor has them.
///
/// What follows from the size does so again. Another number of heads or sectors a track stays:
/// whoever chose it had a reason.
fn geometry(old: &Descriptor, sectors: u64) -> Vec<(&'static str, u64)> {
    const KEYS: [&str; 3] = [
        "ddb.geometry.cylinders",
        "ddb.geometry.heads",
        "ddb.geometry.sectors",
    ];
    let values = KEYS.map(|key| old.get(key)?.parse().ok());
    let [Some(cylinders), Some(heads), Some(track)] = values else {
        return Vec::new();
    };
    let adapter = old.get("ddb.adaptertype").unwrap_or_default();
    let found = Geometry {
        cylinders,
        heads,
        sectors: track,
    };
    let new = Geometry::of(sectors, adapter);
    if found == Geometry::of(sectors_of(&old.extents), adapter) {
        return KEYS
            .into_iter()
            .zip([new.cylinders, new.heads, new.sectors])
            .collect();
    }
    let most = if adapter == "ide" { 16_383 } else { 65_535 };
    match sectors.checked_div(heads.saturating_mul(track)) {
        Some(cylinders) => vec![("ddb.geometry.cylinders", cylinders.clamp(1, most))],
        None => Vec::new(),
    }
}
