//! Changes what a VHDX says of itself and of its parent: the data write GUID in the headers, and
//! the parent locator in the metadata.
//!
//! All other items stay where they are; programs keep marks of their own among them.

use super::{
    current::Current,
    disk_structs::{MetadataEntry, PARENT_LOCATOR, ROW_LEN, TABLE_LEN, shown, to_bytes},
    locator::{self, Pair},
    metadata,
};
use crate::{
    Error, ErrorKind, Result,
    edit::{Changed, Edit, Plan, has_not},
    format::ParentSpec,
    limits,
    patch::Patch,
    storage::ImageFile,
    units::FileOffset,
};

/// Where the rows of the metadata table begin.
const ROWS: u64 = 32;

/// Plans `edit` for the image in `file`.
pub(super) fn plan(file: &ImageFile, edit: &Edit) -> Result<Plan> {
    has_not("VHDX", "adapter", edit.adapter.is_some())?;
    has_not("VHDX", "hardware version", edit.hardware_version.is_some())?;
    has_not("VHDX", "parent hint", edit.parent_hint.is_some())?;
    has_not("VHDX", "UUID", edit.uuid.is_some())?;
    let current = Current::read(file)?;
    let mut plan = Plan::default();
    if let Some(parent) = &edit.parent {
        change_parent(&current, parent, &mut plan)?;
    }
    let ids = edit.identity.as_ref();
    let (old, new) = (current.found.header.data_write, current.data_write(ids));
    if old != new {
        plan.changes.push(Changed {
            setting: "data write GUID",
            from: Some(shown(old)),
            to: shown(new),
        });
    }
    if !plan.changes.is_empty() {
        for (at, bytes) in current.headers(ids)? {
            plan.patches.push(Patch::flush(file));
            plan.patches.push(Patch::write(file, at, bytes));
        }
    }
    Ok(plan)
}

/// Plans that the image has `parent` as its parent.
fn change_parent(current: &Current, parent: &ParentSpec, plan: &mut Plan) -> Result<()> {
    let Some(old) = &current.metadata.locator else {
        let detail = "is none that the image has: only a child can get another one";
        return Err(Error::new(ErrorKind::Usage, "parent", detail));
    };
    let old = locator::pairs(old)?;
    let new = locator::renewed(&old, parent)?;
    let changes = compare(&old, &new);
    if changes.is_empty() {
        return Ok(());
    }
    plan.changes.extend(changes);
    let bytes = locator::pack(&new)?;
    let (file, region) = (&current.file, &current.regions.metadata);
    let entries = metadata::entries(file, region)?;
    let (number, entry) = metadata::find(&entries, region, PARENT_LOCATOR)?;
    let room = region.end.saturating_sub(region.start);
    let placed = place(&entries, number, bytes.len(), room)?;
    let at = FileOffset(region.start).plus(placed.offset.into())?;
    plan.patches.push(Patch::write(file, at.0, bytes));
    if placed != entry {
        let row = (number as u64).saturating_mul(ROW_LEN as u64);
        let at = FileOffset(region.start).plus(row.saturating_add(ROWS))?;
        plan.patches.push(Patch::flush(file));
        plan.patches
            .push(Patch::write(file, at.0, to_bytes(&placed)?));
    }
    Ok(())
}

/// Entry `number` for an item of `length` bytes: where it was if there is room, otherwise in the
/// first gap of the `room` bytes of the region.
fn place(
    entries: &[MetadataEntry],
    number: usize,
    length: usize,
    room: u64,
) -> Result<MetadataEntry> {
    let full = || {
        let detail = "does not fit into the metadata region";
        Error::new(ErrorKind::Usage, "parent locator", detail)
    };
    let length = u32::try_from(length)
        .ok()
        .filter(|l| *l <= limits::METADATA_ITEM)
        .ok_or_else(full)?;
    let entry = entries.get(number).ok_or_else(full)?;
    let end = |e: &MetadataEntry| u64::from(e.offset).saturating_add(e.length.into());
    let others = || {
        let all = entries.iter().enumerate();
        all.filter(|(n, e)| *n != number && e.length != 0)
            .map(|(_, e)| e)
    };
    let fits = |start: &u64| {
        let upto = start.saturating_add(length.into());
        upto <= room && others().all(|o| upto <= o.offset.into() || end(o) <= *start)
    };
    let start = [entry.offset.into(), TABLE_LEN as u64]
        .into_iter()
        .chain(others().map(end))
        .find(fits)
        .and_then(|start| u32::try_from(start).ok())
        .ok_or_else(full)?;
    Ok(MetadataEntry {
        offset: start,
        length,
        ..entry.clone()
    })
}

/// The keys whose values differ.
fn compare(old: &[Pair], new: &[Pair]) -> Vec<Changed> {
    // Known keys have names of their own; others are never changed.
    let keys = [
        locator::LINKAGE,
        locator::LINKAGE2,
        locator::RELATIVE,
        locator::VOLUME,
        locator::ABSOLUTE,
    ];
    let value =
        |pairs: &[Pair], key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    keys.into_iter()
        .map(|key| (key, value(old, key), value(new, key)))
        .filter(|(_, from, to)| from != to)
        .map(|(setting, from, to)| Changed {
            setting,
            from,
            to: to.unwrap_or_else(|| "none".to_owned()),
        })
        .collect()
}
