//! Makes the disk of an image longer or shorter.
//!
//! Entries keep their places in the table, because how they interleave follows from the sizes of
//! blocks and sectors alone. A table that gets too small moves to the end of the file.

use super::{
    bat::{BITMAP_LEN, Entry, Numbering, PAGE, Role, state},
    bitmap,
    chunk::Chunk,
    disk_structs::{BAT, REGION_TABLES_AT, TABLE_LEN, VIRTUAL_SIZE, sealed},
    metadata, regions,
    revision::Revision,
};
use crate::{
    Error, ErrorKind, Layer, Result, format::Update, limits, transaction::Transaction,
    units::FileOffset,
};

/// Makes the disk of `layer` `size` bytes long.
pub(super) fn resize(
    layer: &Layer,
    transaction: &Transaction<'_>,
    update: &Update<'_>,
    size: u64,
) -> Result<()> {
    let mut revision = Revision::begin(layer, transaction, update)?;
    let sector = revision.current.metadata.logical_sector;
    if !size.is_multiple_of(sector.into()) {
        let detail = format!("{size} bytes are not a whole number of sectors of {sector} bytes");
        return Err(Error::new(ErrorKind::Usage, "virtual size", detail));
    }
    if size > limits::VHDX_SIZE {
        let detail = format!("{size} bytes are more than a VHDX holds, which is 64 TiB");
        return Err(Error::new(ErrorKind::Unsupported, "virtual size", detail));
    }
    let old = revision.current.metadata.size;
    let new = Numbering::new(size, revision.numbering.block_size.get(), sector);
    match size.cmp(&old) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => shrink(&mut revision, &new, size)?,
        std::cmp::Ordering::Greater => grow(&mut revision, &new, size)?,
    }
    let changes = metadata_of(&revision, size)?;
    revision.finish(&changes)
}

/// The bytes of the metadata and the region tables that change, and where they are.
fn metadata_of(revision: &Revision<'_>, size: u64) -> Result<Vec<(u64, Vec<u8>)>> {
    let (file, region) = (revision.file(), &revision.current.regions.metadata);
    let entries = metadata::entries(file, region)?;
    let (_, item) = metadata::find(&entries, region, VIRTUAL_SIZE)?;
    let at = FileOffset(region.start).plus(item.offset.into())?;
    let mut changes = vec![(at.0, size.to_le_bytes().to_vec())];
    let place = revision.table();
    if place == revision.current.regions.bat {
        return Ok(changes);
    }
    let Ok(mut table) = regions::read_table(file, 0)? else {
        return Err(Error::corrupt("region table 1", "is damaged"));
    };
    for entry in table.entries.iter_mut().filter(|e| e.id == BAT) {
        entry.offset = place.start;
        entry.length = u32::try_from(place.end.saturating_sub(place.start)).unwrap_or(u32::MAX);
    }
    let bytes = sealed(&table, TABLE_LEN)?;
    changes.extend(REGION_TABLES_AT.map(|at| (at, bytes.clone())));
    Ok(changes)
}

/// Gives the disk the blocks up to `size`.
fn grow(revision: &mut Revision<'_>, new: &Numbering, size: u64) -> Result<()> {
    let old = revision.numbering;
    let child = revision.child();
    let first = old.entry_of(old.blocks.saturating_sub(1));
    if revision.reserve(new.entries(child))? {
        // All of the table moves.
        for page in 0..first / PAGE {
            revision.get(page.saturating_mul(PAGE))?;
        }
    }
    // The entry of the sector bitmap of the last block comes after those of new blocks.
    let mut bitmap = open_end(revision, new, size)?;
    let fixed = revision.current.metadata.leave_allocated && !child;
    for block in old.blocks..new.blocks {
        let index = new.entry_of(block);
        if let Some((at, entry)) = bitmap.take_if(|(at, _)| *at < index) {
            revision.set(at, entry)?;
        }
        let entry = match fixed {
            true => Entry::new(state::PRESENT, revision.allocate(new.block_size.get())?),
            false => Entry::new(state::NOT_PRESENT, 0),
        };
        revision.set(index, entry)?;
    }
    if let Some((at, entry)) = bitmap {
        revision.set(at, entry)?;
    }
    // Visited, so that nothing is left that was there before.
    revision.get(new.entries(child).saturating_sub(1))?;
    Ok(())
}

/// Makes the part of the last block that the disk did not have read as zero in a base, and as the
/// parent in a child. Returns the entry of a sector bitmap that is to be set, with its index.
fn open_end(
    revision: &mut Revision<'_>,
    new: &Numbering,
    size: u64,
) -> Result<Option<(u64, Entry)>> {
    let (old, old_size) = (revision.numbering, revision.current.metadata.size);
    let Some(block) = old.blocks.checked_sub(1) else {
        return Ok(None);
    };
    let (had, has) = (old.used(block, old_size), new.used(block, size));
    let index = old.entry_of(block);
    let entry = revision.get(index)?;
    let present = matches!(entry.state(), state::PRESENT | state::PARTIAL);
    if present {
        // Some programs cut the last block where the disk ends.
        let at = entry.at();
        revision.cover(at.saturating_add(old.block_size.get()));
        revision.zero(at.saturating_add(had)..at.saturating_add(has))?;
    }
    if had == has || !revision.child() || entry.state() == state::NOT_PRESENT {
        return Ok(None);
    }
    let sector = u64::from(revision.current.metadata.logical_sector);
    let sectors = had.checked_div(sector).unwrap_or(0);
    let chunk = block / old.per_chunk;
    let mut bitmap = Chunk::load(revision, chunk)?;
    let mut bits = bitmap.bits(block)?;
    let all = (bits.len() as u64).saturating_mul(8);
    if entry.state() != state::PARTIAL {
        bitmap::set(&mut bits, 0, sectors);
    }
    bitmap::clear(&mut bits, sectors, all);
    bitmap.put(block, &bits)?;
    let at = match present {
        true => entry.at(),
        false => revision.allocate(old.block_size.get())?,
    };
    revision.set(index, Entry::new(state::PARTIAL, at))?;
    let entry = bitmap.write(revision)?;
    Ok(Some((old.bitmap_entry_of(chunk), entry)))
}

/// Takes the blocks after `size` away.
fn shrink(revision: &mut Revision<'_>, new: &Numbering, size: u64) -> Result<()> {
    let old = revision.numbering;
    if let Some(last) = new.blocks.checked_sub(1) {
        cut_end(revision, last, new.used(last, size))?;
    }
    let first = match new.blocks {
        0 => 0,
        blocks => new.entry_of(blocks.saturating_sub(1)).saturating_add(1),
    };
    for index in first..old.entries(revision.child()) {
        let (gone, len) = match old.role(index) {
            Role::Block(_) => (true, old.block_size.get()),
            Role::Bitmap(chunk) => {
                let begins = chunk.saturating_mul(old.per_chunk.get());
                (begins >= new.blocks, BITMAP_LEN)
            }
            Role::Beyond => (true, 0),
        };
        if !gone {
            continue;
        }
        let entry = revision.get(index)?;
        if matches!(entry.state(), state::PRESENT | state::PARTIAL) {
            let at = entry.at();
            revision.release(at..at.saturating_add(len))?;
        }
        revision.set(index, Entry(0))?;
    }
    Ok(())
}

/// Makes what the last block holds after its first `used` bytes zero, so that it is when the disk
/// grows again, whoever lets it.
fn cut_end(revision: &mut Revision<'_>, block: u64, used: u64) -> Result<()> {
    let numbering = revision.numbering;
    let had = numbering.used(block, revision.current.metadata.size);
    let entry = revision.get(numbering.entry_of(block))?;
    if used == had || !matches!(entry.state(), state::PRESENT | state::PARTIAL) {
        return Ok(());
    }
    let at = entry.at();
    revision.zero(at.saturating_add(used)..at.saturating_add(had))
}
