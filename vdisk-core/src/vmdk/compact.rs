//! Compacts a disk: each of its sparse extents on its own.
//!
//! Flat extents have no gaps, and those that may only be read stay as they are.

use super::{
    compact_extent::Extent,
    descriptor_size::Described,
    disk_structs::{FLAG_COMPRESSED, MAGIC, SparseHeader},
    extent_line::{Access, ExtentKind},
};
use crate::{
    Disk, Error, ErrorKind, InFile, Kind, Layer, Result,
    format::{Compacted, Compactor, Update, fixed},
    transaction::Transaction,
    units::{SECTOR, Sectors},
};
use std::ops::Range;

/// Starts to compact the sparse extents of `layer`.
pub(super) fn compact<'a>(
    layer: &'a Layer,
    t: &'a Transaction<'a>,
    update: &Update<'_>,
) -> Result<Box<dyn Compactor + 'a>> {
    let refused = || fixed("vmdk", layer, "compacted in place");
    let main = layer.files().first().ok_or_else(refused)?;
    let described = Described::read(main).in_file(main.path())?;
    let child = layer.facts().parent.is_some() || update.context.overlay;
    let mut extents = Vec::new();
    if described.is_embedded() {
        let header = SparseHeader::parse("header", &main.read_part("header", 0, SECTOR)?);
        extents.push(Extent::new(t, main, 0..layer.size(), header?, child));
    }
    let mut files = layer.files().iter().skip(1);
    let mut start = 0u64;
    for line in &described.descriptor.extents {
        let end = start.saturating_add(Sectors(line.sectors).bytes()?);
        let range = std::mem::replace(&mut start, end)..end;
        if described.is_embedded() || line.kind == ExtentKind::Zero || line.access == Access::None {
            continue; // has no file of its own
        }
        let file = files.next().ok_or_else(refused)?;
        if line.kind == ExtentKind::Flat {
            continue; // has no gaps
        }
        let head = file.read_part("header", 0, SECTOR)?;
        if line.kind != ExtentKind::Sparse || !head.starts_with(MAGIC) {
            return Err(refused());
        }
        let header = SparseHeader::parse("header", &head).in_file(file.path())?;
        if line.access == Access::ReadWrite {
            extents.push(Extent::new(t, file, range, header, child));
        }
    }
    let packed = |e: &Extent<'_>| e.header.has(FLAG_COMPRESSED);
    if extents.is_empty() || extents.iter().any(packed) {
        return Err(refused());
    }
    let shared = |e: &Extent<'_>| {
        let same = layer.files().iter().filter(|f| f.tag.id == e.file.tag.id);
        same.count() > 1
    };
    if let Some(extent) = extents.iter().find(|e| shared(e)) {
        let detail = "holds more than one extent, so it cannot be compacted";
        let error = Error::new(ErrorKind::Unsupported, "file", detail);
        return Err(error.path(extent.file.path()));
    }
    let grains = extents.iter().map(|e| e.header.grain_size);
    let unit = Sectors(grains.max().unwrap_or(1)).bytes()?;
    Ok(Box::new(Extents {
        extents,
        unit,
        patch: described.patch(None, update.ids.as_ref())?,
        t,
    }))
}

/// All that is compacted of a disk.
struct Extents<'a> {
    t: &'a Transaction<'a>,
    extents: Vec<Extent<'a>>,
    unit: u64,
    /// The new identity.
    patch: Option<crate::patch::Patch>,
}

impl Compactor for Extents<'_> {
    fn unit(&self) -> u64 {
        self.unit
    }

    fn remove(&mut self, range: Range<u64>, kind: Kind) -> Result<()> {
        let after = self.extents.partition_point(|e| e.range.end <= range.start);
        for extent in self.extents.iter_mut().skip(after) {
            if extent.range.start >= range.end {
                break;
            }
            extent.remove(&range, kind)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Compacted> {
        let mut sum = Compacted::default();
        for extent in self.extents {
            let path = extent.file.path();
            let done = extent.finish().in_file(path)?;
            sum.freed = sum.freed.saturating_add(done.freed);
            sum.moved = sum.moved.saturating_add(done.moved);
            sum.punched = sum.punched.saturating_add(done.punched);
            sum.cut = sum.cut.saturating_add(done.cut);
            sum.kept = sum.kept.saturating_add(done.kept);
        }
        self.t.patch(self.patch.as_slice())?;
        Ok(sum)
    }
}
