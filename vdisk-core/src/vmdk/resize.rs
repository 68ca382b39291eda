//! Gives a disk another size: its last extent, and what the descriptor says of it.
//!
//! The number of extents stays: a transaction neither makes files nor removes them.

use super::{
    MOST,
    descriptor_size::Described,
    disk_structs::{FLAG_COMPRESSED, MAGIC, SparseHeader},
    extent_line::{Access, ExtentKind},
    grain_tables::GrainTables,
    resize_extent::Resize,
};
use crate::{
    Disk, Error, ErrorKind, InFile, Layer, Result,
    format::{Update, fixed},
    raw,
    storage::ImageFile,
    transaction::Transaction,
    units::{SECTOR, Sectors},
};

/// Sectors of an extent of a disk of 2 GiB extents, as VMware and VirtualBox cut it.
const SPLIT: u64 = 2047 << 11;
/// What images of other kinds cannot be.
const RESIZED: &str = "resized; convert to another size instead";

/// Makes the disk of `layer` `size` bytes long.
pub(super) fn resize(
    layer: &Layer,
    t: &Transaction<'_>,
    update: &Update<'_>,
    size: u64,
) -> Result<()> {
    if size == 0 || size > MOST || !size.is_multiple_of(SECTOR) {
        let detail = format!("{size} bytes are not whole sectors between 512 bytes and 62 TiB");
        return Err(Error::new(ErrorKind::Unsupported, "virtual size", detail));
    }
    let main = layer
        .files()
        .first()
        .ok_or_else(|| Error::corrupt("descriptor", "is missing"))?;
    let described = Described::read(main).in_file(main.path())?;
    let Some(last) = Last::of(layer, &described)? else {
        return Err(fixed("vmdk", layer, RESIZED));
    };
    let sectors = last.sectors(layer, &described, size / SECTOR)?;
    match last.flat {
        Some(start) => last.resize_flat(t, start, sectors)?,
        None => last
            .resize_sparse(layer, t, sectors)
            .in_file(last.file.path())?,
    }
    t.barrier()?;
    let patch = described.patch(Some((last.number, sectors)), update.ids.as_ref());
    t.patch(patch.in_file(main.path())?.as_slice())
}

/// The extent at the end of the disk, which alone changes.
struct Last<'a> {
    /// Of its line in the descriptor, from 0.
    number: usize,
    file: &'a ImageFile,
    /// Sectors of the disk before it.
    before: u64,
    /// Sectors that it holds now.
    sectors: u64,
    /// Of a flat extent, its first sector in the file.
    flat: Option<u64>,
}

impl<'a> Last<'a> {
    /// `None` if that extent is of a kind that stays as it is.
    fn of(layer: &'a Layer, described: &Described<'_>) -> Result<Option<Self>> {
        let lines = &described.descriptor.extents;
        let (Some(line), Some(file)) = (lines.last(), layer.files().last()) else {
            return Ok(None);
        };
        let number = lines.len().saturating_sub(1);
        let before = lines.iter().take(number);
        let before = before.fold(0u64, |sum, line| sum.saturating_add(line.sectors));
        if line.access != Access::ReadWrite {
            return Ok(None);
        }
        let flat = match line.kind {
            ExtentKind::Flat if !file.is_device()? => Some(line.offset),
            ExtentKind::Sparse => None,
            _ => return Ok(None),
        };
        if described.is_embedded() && (flat.is_some() || before > 0) {
            return Ok(None);
        }
        let others = layer.files().iter().rev().skip(1);
        if others.filter(|other| other.tag.id == file.tag.id).count() > 0 {
            let detail = "holds more than the last extent, so it cannot be resized";
            let error = Error::new(ErrorKind::Unsupported, "file", detail);
            return Err(error.path(file.path()));
        }
        Ok(Some(Self {
            number,
            file,
            before,
            sectors: match described.is_embedded() {
                true => layer.size() / SECTOR, // by the header, whatever the line says
                false => line.sectors,
            },
            flat,
        }))
    }

    /// The sectors that the extent gets on a disk of `disk` sectors.
    fn sectors(&self, layer: &Layer, described: &Described<'_>, disk: u64) -> Result<u64> {
        let refused = |what: String| {
            let detail = format!("{what}; convert to another size instead");
            let error = Error::new(ErrorKind::Unsupported, "virtual size", detail);
            Err(error.path(layer.path()))
        };
        let sectors = disk.saturating_sub(self.before);
        if sectors == 0 {
            return refused(format!(
                "{disk} sectors would leave nothing of the last extent, which begins at sector {}",
                self.before
            ));
        }
        let descriptor = &described.descriptor;
        let kind = descriptor.create_type.to_ascii_lowercase();
        let longest = descriptor.extents.iter().map(|line| line.sectors).max();
        let most = longest.unwrap_or(0).max(SPLIT);
        if kind.starts_with("twogbmaxextent") && sectors > most {
            return refused(format!(
                "the disk would need further extents: the last one can have {most} sectors, and \
                 would need {sectors}"
            ));
        }
        Ok(sectors)
    }

    fn resize_flat(&self, t: &Transaction<'_>, start: u64, sectors: u64) -> Result<()> {
        let end = |sectors: u64| Sectors(start.saturating_add(sectors)).bytes();
        // What lies behind the extent must not become part of the disk.
        raw::cut(t, self.file, end(sectors.min(self.sectors))?)?;
        t.set_len(self.file, end(sectors)?)
    }

    fn resize_sparse(&self, layer: &Layer, t: &Transaction<'_>, sectors: u64) -> Result<()> {
        let bytes = self.file.read_part("header", 0, SECTOR)?;
        if !bytes.starts_with(MAGIC) {
            return Err(fixed("vmdk", layer, RESIZED));
        }
        let header = SparseHeader::parse("header", &bytes)?;
        if header.has(FLAG_COMPRESSED) {
            return Err(fixed("vmdk", layer, RESIZED));
        }
        let tables = GrainTables::open(self.file, &header)?;
        let kept = self.sectors.min(header.capacity).min(sectors);
        Resize {
            kept: Sectors(kept).bytes()?,
            capacity: sectors,
            tables,
            t,
        }
        .run()
    }
}
