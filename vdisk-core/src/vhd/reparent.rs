//! Gives a differencing disk another parent: unique ID, time, name and locators in its header.
//!
//! The new locators lie where old ones did, if there is room; otherwise at the end of the file,
//! before the footer. Those that the writer does not make are taken out: they would lead to the
//! old parent.

use super::{
    disk_structs::{DIFFERENCING, HEADER_PARENT, LocatorEntry},
    locator::{self, parent_name},
    sound::Sound,
    table::Table,
    writer::{parent_uuid, timestamp},
};
use crate::{
    Error, ErrorKind, Result,
    edit::{Changed, Plan},
    format::ParentSpec,
    patch::Patch,
    units::{FileOffset, SECTOR, buffer_len},
};
use std::ops::Range;
use uuid::Uuid;

/// Plans `parent` for the image; returns where its footer is afterwards.
pub(super) fn plan(sound: &Sound, parent: &ParentSpec, plan: &mut Plan) -> Result<u64> {
    if sound.found.footer.disk_type != DIFFERENCING {
        let detail = "only a differencing VHD can have a parent";
        return Err(Error::new(ErrorKind::Usage, "parent", detail));
    }
    let table = Table::read(sound, false)?;
    let (file, data_end) = (&sound.file, sound.found.data_end);
    let encoded = locator::encode(parent, 0)?;
    let mut header = table.header.clone();
    header.parent_uuid = parent_uuid(parent)?;
    header.parent_timestamp = timestamp(parent.modified);
    header.parent_name = encoded.name;
    header.locators = [LocatorEntry::default(); 8];

    let mut rooms = rooms(sound, &table)?;
    let append_at = table.blocks.growth_at()?;
    let mut appended = Vec::new();
    let mut patches = Vec::new();
    let new = encoded.entries.iter().filter(|e| e.data_space > 0);
    for (place, entry) in header.locators.iter_mut().zip(new) {
        let start = buffer_len(entry.data_offset)?;
        let end = start.saturating_add(entry.data_space as usize);
        let data = encoded.data.get(start..end).unwrap_or_default();
        *place = *entry;
        match take(&mut rooms, entry) {
            Some(room) => {
                place.data_offset = room.start;
                let space = room.end.saturating_sub(room.start);
                place.data_space = u32::try_from(space).unwrap_or(u32::MAX);
                if file.read_part("parent locator", room.start, data.len() as u64)? != data {
                    patches.push(Patch::write(file, room.start, data.to_vec()));
                }
            }
            None => {
                let at = FileOffset(append_at).plus(appended.len() as u64)?;
                place.data_offset = at.0;
                appended.extend(data);
            }
        }
    }

    let mut footer_at = data_end;
    if !appended.is_empty() {
        footer_at = FileOffset(append_at).plus(appended.len() as u64)?.0;
        appended.extend(&sound.footer);
        if append_at > data_end {
            // Or it would lie within the last block.
            let zeros = vec![0; buffer_len(SECTOR.min(append_at.saturating_sub(data_end)))?];
            patches.push(Patch::write(file, data_end, zeros));
        }
        patches.insert(0, Patch::write(file, append_at, appended));
    }
    let bytes = header.to_bytes()?;
    let fields = HEADER_PARENT.map(|place| (place.clone(), bytes.get(place).unwrap_or_default()));
    let bytes = table.amended(&fields)?;
    if bytes != table.bytes {
        patches.push(Patch::flush(file));
        patches.push(Patch::write(file, table.header_at, bytes));
    }
    if !patches.is_empty() {
        changes(&table, parent, header.parent_uuid, plan);
    }
    plan.patches.extend(patches);
    Ok(footer_at)
}

/// Says what changes.
fn changes(table: &Table, parent: &ParentSpec, new: [u8; 16], plan: &mut Plan) {
    // All zero for a raw parent, as XenServer marks them.
    let id = |bytes: [u8; 16]| (bytes != [0; 16]).then(|| Uuid::from_bytes(bytes).to_string());
    let name = parent_name(&table.header).map(|n| n.to_string_lossy().into_owned());
    plan.changes.push(Changed {
        setting: "parent",
        from: name.filter(|n| !n.is_empty()),
        to: parent.relative.display().to_string(),
    });
    if table.header.parent_uuid != new {
        plan.changes.push(Changed {
            setting: "parent unique ID",
            from: id(table.header.parent_uuid),
            to: id(new).unwrap_or_else(|| "none: the parent is raw".to_owned()),
        });
    }
}

/// Room that an old locator has, and its code.
type Room = ([u8; 4], Range<u64>);

/// Takes room for `entry`: that of an old locator of its kind, or of any other.
fn take(rooms: &mut Vec<Room>, entry: &LocatorEntry) -> Option<Range<u64>> {
    let needed = u64::from(entry.data_space);
    let fits = |(_, room): &Room| room.end.saturating_sub(room.start) >= needed;
    let same = rooms.iter().position(|r| r.0 == entry.code && fits(r));
    let (_, room) = rooms.swap_remove(same.or_else(|| rooms.iter().position(fits))?);
    // Two old locators may have named one place.
    rooms.retain(|(_, other)| !overlap(other, &room));
    Some(room)
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// The places of the old locators, as far as nothing else lies there.
fn rooms(sound: &Sound, table: &Table) -> Result<Vec<Room>> {
    let taken = table.metadata(sound);
    let mut rooms: Vec<Room> = table
        .locators(sound)
        .into_iter()
        .map(|(locator, room)| (locator.code, room))
        .filter(|(_, room)| !taken.iter().any(|t| overlap(t, room)))
        .collect();
    let mut block = 0;
    while let Some((number, at)) = table.blocks.next_used(block)?
        && !rooms.is_empty()
    {
        let whole = at..at.saturating_add(table.blocks.whole_len());
        rooms.retain(|(_, room)| !overlap(room, &whole));
        block = number.saturating_add(1);
    }
    Ok(rooms)
}
