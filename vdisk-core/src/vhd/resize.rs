//! Makes the disk of an image with blocks larger or smaller.
//!
//! The table must have an entry for each block. If there is no room for more where it lies, it goes
//! to the end of the file: all programs find it by the header, and no block need move.
//!
//! The footer's *original size* follows the current one. The specification calls it the size at
//! creation, but libvhdi takes it for the size of the disk, and would cut off what a disk has grown
//! by. No program is known that needs the old one.

use super::{
    bat::TABLE,
    bitmap::clear_bits,
    disk_structs::{
        FOOTER_CREATOR, FOOTER_GEOMETRY, FOOTER_ORIGINAL_SIZE, FOOTER_SIZE, HEADER_ENTRIES,
        HEADER_TABLE,
    },
    geometry::geometry,
    sound::{Sound, Tail},
    table::Table,
    writer::{ALIGNMENT, MOST},
};
use crate::{
    Error, ErrorKind, Result,
    claims::Claims,
    format::Update,
    limits,
    transaction::Transaction,
    units::{FileOffset, SECTOR, round_up},
};
use std::ops::Range;

/// The fields of a footer that tell the size of the disk.
pub(super) struct Wanted {
    size: [u8; 8],
    geometry: [u8; 4],
    /// Another creator, where the old one would make programs go by the geometry.
    creator: Option<[u8; 12]>,
}

impl Wanted {
    /// For the image `sound` with a disk of `size` bytes.
    pub(super) fn new(sound: &Sound, size: u64) -> Self {
        let geometry = geometry(size);
        let mut footer = sound.found.footer.clone();
        (footer.current_size, footer.geometry) = (size, geometry);
        // Virtual PC and qemu take the geometry of disks of theirs for the size, which most sizes
        // are not. The creator is then the one that the writer gives to all images.
        let lost = footer.creator_goes_by_geometry() && footer.size_by_geometry().is_some();
        let [high, low] = geometry.cylinders.to_be_bytes();
        Self {
            size: size.to_be_bytes(),
            geometry: [high, low, geometry.heads, geometry.sectors],
            creator: lost.then_some(*b"win \x00\x0a\x00\x00Wi2k"),
        }
    }

    /// As fields to be written to a footer.
    pub(super) fn fields(&self) -> Vec<(Range<usize>, &[u8])> {
        let mut fields = vec![
            // So that libvhdi sees the same size as all others.
            (FOOTER_ORIGINAL_SIZE, self.size.as_slice()),
            (FOOTER_SIZE, self.size.as_slice()),
            (FOOTER_GEOMETRY, self.geometry.as_slice()),
        ];
        fields.extend(
            self.creator
                .as_ref()
                .map(|c| (FOOTER_CREATOR, c.as_slice())),
        );
        fields
    }
}

/// Makes the disk `size` bytes long.
pub(super) fn resize(
    sound: &Sound,
    transaction: &Transaction<'_>,
    update: &Update<'_>,
    size: u64,
) -> Result<()> {
    let mut table = Table::for_contents(sound, update.context.overlay)?;
    table.without_batmap("resized")?;
    let needed = size.div_ceil(table.blocks.block_size());
    if size > MOST {
        let detail =
            format!("{size} bytes are more than a VHD with blocks holds, which is 2040 GiB");
        return Err(Error::new(ErrorKind::Unsupported, "virtual size", detail));
    }
    if needed > limits::BAT_ENTRIES.into() {
        let detail = format!(
            "would need {needed} entries; at most {} are accepted",
            limits::BAT_ENTRIES
        );
        return Err(Error::new(ErrorKind::Limit, TABLE, detail));
    }
    let mut work = Work {
        sound,
        transaction,
        claims: table.survey(sound)?,
        tail: Tail::new(sound),
        old: sound.found.footer.current_size,
        size,
    };
    work.drop_entries(&mut table, needed)?;
    if size > work.old {
        work.grow_last_block(&mut table)?;
    } else {
        work.shrink_last_block(&table, needed)?;
    }
    let table_at = work.room_for_table(&table, needed)?;
    if table_at == table.blocks.table().start {
        table.write(&sound.file, transaction)?;
        work.fill_table(&table, needed)?;
    } else {
        transaction.write(&sound.file, table_at, &table.entries(needed)?)?;
    }
    transaction.barrier()?;
    let count = u32::try_from(needed).unwrap_or(u32::MAX).to_be_bytes();
    let place = table_at.to_be_bytes();
    let header = table.amended(&[(HEADER_TABLE, &place), (HEADER_ENTRIES, &count)])?;
    transaction.write(&sound.file, table.header_at, &header)?;
    let wanted = Wanted::new(sound, size);
    sound.write_footer(transaction, work.tail.end, &wanted.fields(), update.ids)
}

struct Work<'a> {
    sound: &'a Sound,
    transaction: &'a Transaction<'a>,
    /// What is taken of the file.
    claims: Claims,
    tail: Tail,
    /// Bytes of the disk before and after.
    old: u64,
    size: u64,
}

impl Work<'_> {
    /// Takes out the entries past the end of the disk, also those that were there before: a disk
    /// that grows must not show their data.
    fn drop_entries(&self, table: &mut Table, needed: u64) -> Result<()> {
        let had = table.blocks.needed();
        let mut block = needed.min(had);
        while let Some((number, bitmap_at)) = table.blocks.next_used(block)? {
            if number < had && !self.claims.incomplete() {
                let stored = table.stored(number, bitmap_at)?;
                self.transaction.release(&self.sound.file, stored)?;
            }
            table.set(number, None)?;
            block = number.saturating_add(1);
        }
        Ok(())
    }

    /// What was past the end of the disk in the last block reads as nothing when the disk goes on.
    fn grow_last_block(&mut self, table: &mut Table) -> Result<()> {
        let blocks = &table.blocks;
        let Some(last) = blocks.needed().checked_sub(1) else {
            return Ok(());
        };
        let used = blocks.used_bytes(last);
        let (Some(bitmap_at), true) = (table.place(last)?, used < blocks.block_size()) else {
            return Ok(());
        };
        let stored = table.stored(last, bitmap_at)?;
        let whole = bitmap_at..bitmap_at.saturating_add(blocks.whole_len());
        let (start, len) = (used / SECTOR, stored.end.saturating_sub(stored.start));
        // Some programs cut the last block where the disk ends, and others go on there.
        let in_the_way = stored.end < whole.end
            && (self.claims.incomplete() || self.claims.owner(&(stored.end..whole.end)).is_some());
        if in_the_way {
            let at = self.tail.end.max(self.sound.found.data_end);
            let data = round_up(FileOffset(at).plus(blocks.bitmap_len())?.0, ALIGNMENT);
            let at = data.saturating_sub(blocks.bitmap_len());
            let end = FileOffset(data).plus(blocks.block_size())?.0;
            self.tail.grow(self.sound, self.transaction, end)?;
            self.transaction
                .copy(&self.sound.file, bitmap_at, at, len)?;
            self.forget(table, bitmap_at, at, start)?;
            return table.set(last, Some(at));
        }
        self.tail.grow(self.sound, self.transaction, whole.end)?;
        let old_end = whole.end.min(self.sound.found.data_end);
        self.sound.clear(self.transaction, stored.end..old_end)?;
        self.forget(table, bitmap_at, bitmap_at, start)
    }

    /// What was cut off of the last block must not come back when the disk grows again.
    fn shrink_last_block(&self, table: &Table, needed: u64) -> Result<()> {
        let Some(last) = needed.checked_sub(1) else {
            return Ok(());
        };
        let start = table.blocks.start_of(last);
        let used = self.size.saturating_sub(start);
        let (Some(bitmap_at), true) = (table.place(last)?, used < table.blocks.block_size()) else {
            return Ok(());
        };
        let stored = table.stored(last, bitmap_at)?;
        let data = bitmap_at.saturating_add(table.blocks.bitmap_len());
        self.sound
            .clear(self.transaction, data.saturating_add(used)..stored.end)?;
        self.forget(table, bitmap_at, bitmap_at, used / SECTOR)
    }

    /// In a child, leaves the sectors of a block from `sector` on to the parent. The block's bitmap
    /// was at `from` and is to be at `at`.
    fn forget(&self, table: &Table, from: u64, at: u64, sector: u64) -> Result<()> {
        if !table.child {
            return Ok(());
        }
        let old = table.bitmap(&self.sound.file, from)?;
        let mut bitmap = old.clone();
        clear_bits(&mut bitmap, sector..table.blocks.block_size() / SECTOR);
        match bitmap == old {
            true => Ok(()),
            false => self.transaction.write(&self.sound.file, at, &bitmap),
        }
    }

    /// Where a table of `needed` entries has room: where it is, or at the end of the file.
    fn room_for_table(&mut self, table: &Table, needed: u64) -> Result<u64> {
        let now = table.blocks.table();
        let len = round_up(needed.saturating_mul(4), SECTOR);
        let end = FileOffset(now.start).plus(len)?.0;
        let has = round_up(now.end, SECTOR);
        let (data_end, moved) = (self.sound.found.data_end, self.tail.end);
        let free = !self.claims.incomplete() && self.claims.owner(&(has..end)).is_none();
        if end <= has || free && (end <= data_end || moved == data_end) {
            self.tail.grow(self.sound, self.transaction, end)?;
            return Ok(now.start);
        }
        let at = round_up(moved, SECTOR);
        let end = FileOffset(at).plus(len)?.0;
        self.tail.grow(self.sound, self.transaction, end)?;
        if !self.claims.incomplete() {
            self.transaction.release(&self.sound.file, now)?;
        }
        Ok(at)
    }

    /// Makes the entries behind those that the table had unused.
    fn fill_table(&self, table: &Table, needed: u64) -> Result<()> {
        let entries = table.entries(needed)?;
        let had = table.blocks.entries();
        let kept = crate::units::buffer_len(had.saturating_mul(4))?;
        match entries.get(kept..) {
            Some(new) if needed > had => {
                let at = table.blocks.entry_at(had);
                self.transaction.write(&self.sound.file, at, new)
            }
            _ => Ok(()),
        }
    }
}
