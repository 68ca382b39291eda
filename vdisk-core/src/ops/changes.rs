//! Writes a disk as a child: only what differs from its parent.

use super::{
    Resized,
    convert::{Fate, Prepared},
    diff::suspects,
    read_range, runs,
};
use crate::{Disk, ImageWriter, Job, Packing, Result, is_zero};
use std::ops::Range;

/// Writes into `writer`, the writer of a child of `parent`, what makes it read as `disk`.
///
/// Units that are alike are left to the parent; units that read as zero, but not in the parent,
/// are recorded as zero. Ranges that both take from the same place in the same file are not read.
/// Returns the bytes recorded.
///
/// ```
/// # use vdisk_core::{Disk, Identity, Ids, Job, format::{self, ParentSpec, Spec}, ops::changes, testing};
/// # let parent = testing::disk(&[(1 << 20, Some(1))]);
/// # let disk = testing::disk(&[(512, Some(2)), (1 << 20, Some(1))]);
/// let vhd = format::named("vhd")?;
/// let mut image: Vec<u8> = vec![];
/// let spec = Spec {
///     size: disk.size(),
///     subformat: format::subformat(vhd, Some("differencing"))?,
///     name: "child.vhd",
///     ids: Ids::random(0),
///     level: 6,
///     parent: Some(ParentSpec {
///         relative: "parent.vhd".into(),
///         absolute: None,
///         identity: Some(Identity::Uuid([7; 16])),
///         modified: 0,
///     }),
///     options: format::Options::default(),
/// };
/// let bytes = changes::write(&parent, &disk, vhd.create(&mut image, &spec)?, &Job::default())?;
/// assert_eq!(bytes, 4096); // the unit of a VHD child
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn write(
    parent: &dyn Disk,
    disk: &dyn Disk,
    mut writer: Box<dyn ImageWriter + '_>,
    job: &Job<'_>,
) -> Result<u64> {
    let parent = Resized::new(parent, disk.size());
    job.watch.phase("compare", disk.size());
    let (unit, packing) = (writer.unit(), writer.packing());
    let mut recorded = 0;
    job.in_order(
        suspects(&parent, disk, unit),
        |piece| {
            if piece.data {
                changed(&parent, disk, piece.range, unit, packing)
            } else {
                Ok((Prepared::without_data(piece.range, Fate::Skip), 0))
            }
        },
        |(prepared, bytes)| {
            recorded += bytes;
            prepared.write_to(&mut *writer)?;
            job.advance(prepared.range.end - prepared.range.start)
        },
    )?;
    writer.finish()?;
    Ok(recorded)
}

fn changed(
    parent: &dyn Disk,
    disk: &dyn Disk,
    range: Range<u64>,
    unit: u64,
    packing: Packing,
) -> Result<(Prepared, u64)> {
    let (old, new) = (read_range(parent, &range)?, read_range(disk, &range)?);
    let parts = runs(range.start, new.len(), unit, |part| {
        let new = new.get(part.clone()).unwrap_or_default();
        match old.get(part) {
            Some(old) if old == new => Fate::Skip,
            _ if is_zero(new) => Fate::Zero,
            _ => Fate::Data,
        }
    });
    let bytes = parts
        .iter()
        .filter(|(.., fate)| *fate != Fate::Skip)
        .map(|(disk, ..)| disk.end - disk.start)
        .sum();
    Ok((Prepared::pack(range, new, parts, unit, packing)?, bytes))
}
