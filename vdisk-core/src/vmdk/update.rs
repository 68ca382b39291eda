//! Writes into an image that exists: each extent in the way of its kind.
//!
//! Apart from the writers of new images, which know where everything lies: here the file decides,
//! and what it says is looked at before anything is written by it.

use super::{
    deferred::Deferred,
    descriptor::{Descriptor, looks_like},
    disk_structs::MAGIC,
    edit, head,
    update_extents::{Lines, Way, refused},
};
use crate::{
    Disk, Error, ErrorKind, ImageWriter, Layer, Place, Result,
    edit::Edit,
    format::Update,
    ops::CHUNK,
    patch::Patch,
    raw::flat_run,
    storage::ImageFile,
    transaction::Transaction,
    units::{SECTOR, Sectors, buffer_len},
};
use std::{collections::VecDeque, ops::Range};

/// Opens `layer` to be written to.
pub(super) fn open<'a>(
    layer: &'a Layer,
    transaction: &'a Transaction<'a>,
    update: &Update<'_>,
) -> Result<Box<dyn ImageWriter + 'a>> {
    let Some((main, files)) = layer.files().split_first() else {
        return Err(refused(layer));
    };
    let head = head(main)?;
    let mut lines = Lines::new(layer, files, transaction, update.context.overlay);
    let mut extents = VecDeque::new();
    if head.starts_with(MAGIC) {
        extents.push_back((0..layer.size(), Way::Sparse(lines.sparse(main)?)));
    } else if looks_like(&head) {
        let descriptor = Descriptor::parse(&main.read_part("descriptor", 0, main.size)?)?;
        let mut start = 0u64;
        for (line, number) in descriptor.extents.iter().zip(1u64..) {
            let range = start..start.saturating_add(Sectors(line.sectors).bytes()?);
            start = range.end;
            let way = lines.way(line, number, &range)?;
            if !range.is_empty() {
                extents.push_back((range, way));
            }
        }
    } else {
        return Err(refused(layer)); // an extent of ESX without its descriptor
    }
    let grains = extents.iter().map(|(_, way)| match way {
        Way::Sparse(sparse) => sparse.grain(),
        _ => SECTOR,
    });
    let unit = grains.max().unwrap_or(SECTOR);
    if unit > CHUNK {
        let detail = format!("of {unit} bytes are larger than {CHUNK}, and not written to");
        return Err(Error::new(ErrorKind::Unsupported, "grains", detail));
    }
    let identity = match update.ids {
        Some(ids) => {
            let edit = Edit {
                identity: Some(ids),
                ..Edit::default()
            };
            edit::plan(main, &edit)?.patches
        }
        None => Vec::new(),
    };
    Ok(Box::new(UpdateWriter {
        transaction,
        unit,
        extents,
        deferred: Deferred::new(transaction),
        identity,
    }))
}

/// See the module.
struct UpdateWriter<'a> {
    transaction: &'a Transaction<'a>,
    unit: u64,
    /// Extents that are not done, in order, and the part of the disk that each holds.
    extents: VecDeque<(Range<u64>, Way<'a>)>,
    deferred: Deferred<'a>,
    /// What makes the image another one to its children.
    identity: Vec<Patch>,
}

impl<'a> UpdateWriter<'a> {
    /// Cuts `range` at the ends of extents; `give` gets the way of each, the range as the extent
    /// counts, and what comes before it in `range`, in bytes.
    fn each(
        &mut self,
        range: Range<u64>,
        mut give: impl FnMut(&mut Way<'a>, Range<u64>, u64, &mut Deferred<'a>) -> Result<()>,
    ) -> Result<()> {
        let mut pos = range.start;
        while pos < range.end {
            let Some((holds, way)) = self.extents.front_mut() else {
                let detail = format!("none holds position {pos:#x}");
                return Err(Error::new(ErrorKind::OutOfRange, "extents", detail));
            };
            if holds.end <= pos {
                if let Some((_, Way::Sparse(sparse))) = self.extents.pop_front() {
                    sparse.finish(&mut self.deferred)?;
                }
                continue;
            }
            let end = range.end.min(holds.end);
            let inside = pos.saturating_sub(holds.start)..end.saturating_sub(holds.start);
            let before = pos.saturating_sub(range.start);
            give(way, inside, before, &mut self.deferred)?;
            pos = end;
        }
        Ok(())
    }
}

impl ImageWriter for UpdateWriter<'_> {
    fn unit(&self) -> u64 {
        self.unit
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        let transaction = self.transaction;
        self.each(range, |way, inside, before, deferred| {
            let start = buffer_len(before)?;
            let len = buffer_len(inside.end.saturating_sub(inside.start))?;
            let bytes = bytes.get(start..start.saturating_add(len));
            let bytes = bytes.unwrap_or_default();
            match way {
                Way::Flat { file, at } => {
                    transaction.write(file, at.saturating_add(inside.start), bytes)
                }
                Way::Sparse(sparse) => sparse.data(inside, bytes, deferred),
                Way::Zeros(reason) | Way::Closed(reason) => Err(closed(reason)),
            }
        })
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        let transaction = self.transaction;
        self.each(range, |way, inside, _, deferred| match way {
            Way::Flat { file, at } => {
                let range = at.saturating_add(inside.start)..at.saturating_add(inside.end);
                zero_file(transaction, file, range)
            }
            Way::Sparse(sparse) => sparse.zero(inside, deferred),
            Way::Zeros(_) => Ok(()),
            Way::Closed(reason) => Err(closed(reason)),
        })
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        for (_, way) in std::mem::take(&mut self.extents) {
            if let Way::Sparse(sparse) = way {
                sparse.finish(&mut self.deferred)?;
            }
        }
        self.deferred.settle()?;
        if !self.identity.is_empty() {
            // Children are told only of contents that are there.
            self.transaction.barrier()?;
            self.transaction.patch(&self.identity)?;
        }
        Ok(())
    }
}

fn closed(reason: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "image", reason.to_owned())
}

/// Writes zeros over `range` of a flat file, but where it has none but zeros: holes stay.
fn zero_file(transaction: &Transaction<'_>, file: &ImageFile, range: Range<u64>) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let left = range.end.saturating_sub(at).min(CHUNK);
        let (len, place) = flat_run(file, 0, at, left, Place::Zero)?;
        if place != Place::Zero {
            transaction.write(file, at, &vec![0; buffer_len(len)?])?;
        }
        at = at.saturating_add(len);
    }
    Ok(())
}
