//! Which MiB of a file are taken, so that a change takes none that belongs to something else.
//!
//! A change also relies on no two entries having one place: writing to one block would change the
//! other. So images in which they do are refused here.

use super::{
    bat::{self, BITMAP_LEN, ENTRY_LEN, Entry, Numbering, PAGE, Role, TABLE, state},
    current::Current,
    disk_structs::MIB,
};
use crate::{Error, ErrorKind, Result, bits::Bits, limits};
use std::ops::Range;

/// The MiB of the file that `range` touches.
pub(crate) fn slots(range: Range<u64>) -> Range<u64> {
    range.start / MIB..range.end.div_ceil(MIB)
}

/// The number of MiB of the file, with those that its last block would need to be whole.
pub(crate) fn count(current: &Current) -> Result<u64> {
    let block = u64::from(current.metadata.block_size);
    let count = current.file.size.saturating_add(block).div_ceil(MIB);
    if count > limits::SLOTS {
        let detail = format!("has room for {count} MiB, more than {}", limits::SLOTS);
        return Err(Error::new(ErrorKind::Limit, "file", detail));
    }
    Ok(count)
}

/// Calls `each` with all entries that the disk has, as they are in the file.
pub(crate) fn entries(
    current: &Current,
    mut each: impl FnMut(u64, Role, Entry) -> Result<()>,
) -> Result<()> {
    let metadata = &current.metadata;
    let numbering = current.numbering();
    let needed = numbering.entries(metadata.has_parent);
    let mut first = 0u64;
    while first < needed {
        let count = needed.saturating_sub(first).min(PAGE);
        let at = (current.regions.bat.start).saturating_add(first.saturating_mul(ENTRY_LEN));
        let bytes = (current.file).read_part(TABLE, at, count.saturating_mul(ENTRY_LEN))?;
        for (index, bytes) in (first..).zip(bytes.as_chunks().0) {
            let entry = Entry(u64::from_le_bytes(*bytes));
            each(index, numbering.role(index), entry)?;
        }
        first = first.saturating_add(count);
    }
    Ok(())
}

/// The bytes of the file that entry `index` refers to, if any, checked.
pub(crate) fn place(
    current: &Current,
    numbering: &Numbering,
    index: u64,
    role: Role,
    entry: Entry,
) -> Result<Option<Range<u64>>> {
    let child = current.metadata.has_parent;
    let (len, whole) = match (role, entry.state()) {
        (_, state::NOT_PRESENT) => return Ok(None),
        (
            Role::Block(_),
            state::UNDEFINED | state::ZERO | state::UNMAPPED | state::UNMAPPED_OLD,
        ) => {
            return Ok(None);
        }
        (Role::Block(block), state::PRESENT) => {
            let used = numbering.used(block, current.metadata.size);
            (used, numbering.block_size.get())
        }
        (Role::Block(block), state::PARTIAL) if child => {
            let used = numbering.used(block, current.metadata.size);
            (used, numbering.block_size.get())
        }
        (Role::Bitmap(_), state::PRESENT) if child => (BITMAP_LEN, BITMAP_LEN),
        (Role::Beyond, _) | (Role::Bitmap(_), state::PRESENT) => return Ok(None),
        (_, other) => {
            let detail = format!("has state {other}, which it cannot have here");
            return Err(bat::wrong(&current.regions, index, detail));
        }
    };
    let start = bat::place(&current.file, &current.regions, index, entry, len)?;
    Ok(Some(start..start.saturating_add(whole)))
}

/// All MiB that are taken.
pub(crate) fn taken(current: &Current) -> Result<Bits> {
    let mut taken = Bits::new(count(current)?);
    for range in &current.regions.reserved {
        taken.add(slots(range.clone()));
    }
    let numbering = current.numbering();
    entries(current, |index, role, entry| {
        let Some(range) = place(current, &numbering, index, role, entry)? else {
            return Ok(());
        };
        let slots = slots(range);
        if taken.next(slots.start, true) < slots.end {
            let detail = "points to what is a part of something else";
            return Err(bat::wrong(&current.regions, index, detail));
        }
        taken.add(slots);
        Ok(())
    })?;
    Ok(taken)
}
