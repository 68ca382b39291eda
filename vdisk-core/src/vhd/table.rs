//! The block allocation table while it is changed, and the header that leads to it.
//!
//! Entries reach the file last, so pages that differ are kept until then: at most as much as the
//! table has, which is limited.

use super::{
    bat::{Blocks, PAGE, TABLE, UNUSED},
    batmap::{self, Batmap},
    disk_structs::{
        DIFFERENCING, DynamicHeader, HEADER_CHECKSUM, HEADER_LEN, LocatorEntry, amended,
        header_checksum,
    },
    read_header,
    sound::{Sound, unsound},
};
use crate::{
    Error, ErrorKind, Place, Result,
    claims::{Claims, Owner},
    storage::ImageFile,
    transaction::Transaction,
    units::{FileOffset, SECTOR, Sectors, buffer_len, round_down, round_up},
};
use std::{collections::BTreeMap, ops::Range};

/// The header of a sound image and its table.
pub(super) struct Table {
    pub(super) header_at: u64,
    pub(super) header: DynamicHeader,
    /// The header's bytes.
    pub(super) bytes: Vec<u8>,
    /// The entries as they were.
    pub(super) blocks: Blocks,
    pub(super) batmap: Option<Batmap>,
    /// A block keeps only the sectors whose bits are set; of a base, all others are zero.
    pub(super) child: bool,
    /// The pages of entries that were changed.
    changed: BTreeMap<u64, Vec<u32>>,
}

impl Table {
    /// Reads the header of an image with blocks. As an `overlay`, a base is taken for a child.
    pub(super) fn read(sound: &Sound, overlay: bool) -> Result<Self> {
        let (file, footer) = (&sound.file, &sound.found.footer);
        let header_at = footer.data_offset;
        let (header, bytes) = read_header(file, header_at)?;
        if header.checksum != header_checksum(&bytes) {
            return unsound("dynamic header", "has a wrong checksum");
        }
        Ok(Self {
            header_at,
            blocks: Blocks::new(file.clone(), &sound.found, &header, Place::Absent)?,
            batmap: batmap::read(file, footer, &header)?,
            child: overlay || footer.disk_type == DIFFERENCING,
            header,
            bytes,
            changed: BTreeMap::new(),
        })
    }

    /// As [`read`](Self::read), for changes of contents.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for images of XenServer's first driver.
    pub(super) fn for_contents(sound: &Sound, overlay: bool) -> Result<Self> {
        if sound.found.footer.is_first_xen() {
            let detail = "was made by XenServer's first driver, whose bitmaps have another bit order; such images are only read";
            return Err(Error::new(ErrorKind::Unsupported, "image", detail));
        }
        Self::read(sound, overlay)
    }

    /// Fails if XenServer has notes about blocks that would be wrong afterwards.
    pub(super) fn without_batmap(&self, what: &str) -> Result<()> {
        if self.batmap.is_none() {
            return Ok(());
        }
        let detail =
            format!("is XenServer's note about the blocks; an image with one cannot be {what}");
        Err(Error::new(ErrorKind::Unsupported, "batmap", detail))
    }

    /// The header's bytes with other bytes in some places.
    pub(super) fn amended(&self, fields: &[(Range<usize>, &[u8])]) -> Result<Vec<u8>> {
        amended(&self.bytes, HEADER_CHECKSUM, fields)
    }

    /// The sectors of the file that hold the entries.
    pub(super) fn sectors(&self) -> Range<u64> {
        let entries = self.blocks.table();
        entries.start..round_up(entries.end, SECTOR)
    }

    /// The sectors of the file that hold metadata.
    pub(super) fn metadata(&self, sound: &Sound) -> Vec<Range<u64>> {
        let header = self.header_at..self.header_at.saturating_add(HEADER_LEN as u64);
        let mut all = vec![0..SECTOR, header, self.sectors()];
        if let Some(map) = &self.batmap {
            let at = batmap::place(&self.header);
            all.push(at..at.saturating_add(SECTOR));
            all.extend(map.end(&sound.file).map(|end| map.map_offset..end));
        }
        all
    }

    /// The room of each parent locator, as far as it lies before the footer.
    pub(super) fn locators(&self, sound: &Sound) -> Vec<(LocatorEntry, Range<u64>)> {
        let used = self.header.locators.iter().filter(|l| l.code != [0; 4]);
        let rooms = used.filter_map(|locator| {
            let space = match u64::from(locator.data_space) {
                0 => round_up(locator.data_len.into(), SECTOR),
                // In sectors, as the specification has it; all others write bytes.
                sectors @ 1..SECTOR => sectors.saturating_mul(SECTOR),
                bytes => round_down(bytes, SECTOR),
            };
            let end = locator.data_offset.checked_add(space)?;
            (end <= sound.found.data_end).then_some((*locator, locator.data_offset..end))
        });
        rooms.collect()
    }

    /// What is taken of the file: the metadata and the blocks of the disk.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if two of them overlap: a change of one would change both.
    pub(super) fn survey(&self, sound: &Sound) -> Result<Claims> {
        let mut claims = Claims::default();
        for range in self.metadata(sound) {
            if claims.claim(range, Owner::Named("metadata")).is_err() {
                return unsound("metadata", "overlap each other");
            }
        }
        for (locator, room) in self.locators(sound) {
            // Their room may be less than they say; what they hold is theirs.
            let held = room.start..room.start.saturating_add(locator.data_len.into());
            let _ = claims.claim(held, Owner::Named("parent locator"));
        }
        let (mut block, needed) = (0, self.blocks.needed());
        while let Some((number, bitmap_at)) = self.blocks.next_used(block)?
            && number < needed
        {
            let range = self.stored(number, bitmap_at)?;
            if claims.claim(range, Owner::Unit(number)).is_err() {
                let part = format!("{TABLE}, entry {number}");
                let detail = "points to a place that something else has; the image must be repaired before it is changed";
                return Err(Error::corrupt(part, detail).at(self.blocks.entry_at(number)));
            }
            block = number.saturating_add(1);
        }
        Ok(claims)
    }

    /// What `block`, whose bitmap is at `bitmap_at`, has of the file: the bitmap, and the data as far
    /// as they belong to the disk.
    pub(super) fn stored(&self, block: u64, bitmap_at: u64) -> Result<Range<u64>> {
        let data = FileOffset(self.blocks.data_of(block, bitmap_at)?);
        Ok(bitmap_at..data.plus(self.blocks.used_bytes(block))?.0)
    }

    /// Where the bitmap of `block` is, by the table as changed so far.
    pub(super) fn place(&self, block: u64) -> Result<Option<u64>> {
        let index = usize::try_from(block % PAGE).unwrap_or(usize::MAX);
        let entry = match self.changed.get(&(block / PAGE)) {
            Some(page) => page.get(index).copied(),
            None => self.blocks.page(block / PAGE)?.get(index).copied(),
        };
        match entry {
            Some(UNUSED) | None => Ok(None),
            Some(sector) => Sectors(sector.into()).bytes().map(Some),
        }
    }

    /// Sets where the bitmap of `block` is; `None` if the block is not kept.
    pub(super) fn set(&mut self, block: u64, bitmap_at: Option<u64>) -> Result<()> {
        let entry = match bitmap_at {
            None => UNUSED,
            Some(at) => u32::try_from(at / SECTOR)
                .ok()
                .filter(|s| *s != UNUSED)
                .ok_or_else(|| {
                    let detail = format!("has no room for block {block}");
                    Error::new(ErrorKind::Limit, TABLE, detail)
                })?,
        };
        let number = block / PAGE;
        if !self.changed.contains_key(&number) {
            let page = self.blocks.page(number)?.to_vec();
            self.changed.insert(number, page);
        }
        let index = usize::try_from(block % PAGE).unwrap_or(usize::MAX);
        let place = self.changed.get_mut(&number);
        let place = place.and_then(|page| page.get_mut(index)).ok_or_else(|| {
            let detail = format!("has no entry for block {block}");
            Error::corrupt(TABLE, detail)
        })?;
        *place = entry;
        Ok(())
    }

    /// Writes the entries that were changed to their places.
    pub(super) fn write(&self, file: &ImageFile, transaction: &Transaction<'_>) -> Result<()> {
        for (number, page) in &self.changed {
            let at = self.blocks.entry_at(number.saturating_mul(PAGE));
            let bytes: Vec<u8> = page.iter().flat_map(|e| e.to_be_bytes()).collect();
            transaction.write(file, at, &bytes)?;
        }
        Ok(())
    }

    /// The bitmap of a block as it was, which is at `bitmap_at`.
    pub(super) fn bitmap(&self, file: &ImageFile, bitmap_at: u64) -> Result<Vec<u8>> {
        file.read_part("sector bitmap", bitmap_at, self.blocks.bitmap_len())
    }

    /// The first `count` entries as changed so far, filled up to whole sectors with unused ones; as
    /// the file has them.
    pub(super) fn entries(&self, count: u64) -> Result<Vec<u8>> {
        let len = round_up(count.saturating_mul(4), SECTOR);
        let mut bytes = Vec::with_capacity(buffer_len(len)?);
        let kept = count.min(self.blocks.entries());
        for number in 0..kept.div_ceil(PAGE) {
            let page = match self.changed.get(&number) {
                Some(page) => page.clone(),
                None => self.blocks.page(number)?.to_vec(),
            };
            bytes.extend(page.iter().flat_map(|e| e.to_be_bytes()));
        }
        bytes.truncate(buffer_len(kept.saturating_mul(4))?);
        bytes.resize(buffer_len(len)?, 0xff);
        Ok(bytes)
    }
}
