//! The metadata region: size, block size, sector sizes and, in a child, the parent locator.

use super::disk_structs::{
    DISK_ID, FILE_PARAMETERS, Guid, HARMLESS, INCOMPLETE, LOGICAL_SECTOR, MetadataEntry,
    MetadataTable, PARENT_LOCATOR, PHYSICAL_SECTOR, TABLE_LEN, VIRTUAL_SIZE, parse, shown,
};
use crate::{Error, ErrorKind, Result, limits, storage::ImageFile, units::FileOffset};
use std::ops::Range;

/// What the metadata say.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) block_size: u32,
    /// Set in fixed images: blocks are never given back.
    pub(crate) leave_allocated: bool,
    pub(crate) has_parent: bool,
    pub(crate) size: u64,
    /// The number by which a guest knows the disk; children inherit it.
    pub(crate) disk_id: Guid,
    pub(crate) logical_sector: u32,
    pub(crate) physical_sector: u32,
    /// The parent locator item, as it is in the file.
    pub(crate) locator: Option<Vec<u8>>,
}

/// The name of the table in messages.
pub(crate) const TABLE: &str = "metadata table";
/// Blocks: from 1 MiB to 256 MiB.
pub(crate) const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 1 << 20..=256 << 20;
const LEAVE_ALLOCATED: u32 = 1;
const HAS_PARENT: u32 = 2;

/// Reads all items that matter from `region`, which lies inside `file`.
pub(crate) fn read(file: &ImageFile, region: &Range<u64>) -> Result<Metadata> {
    let items = Items::read(file, region)?;
    let [block_size, flags] = items.words(FILE_PARAMETERS, "file parameters")?;
    let [low, high] = items.words(VIRTUAL_SIZE, "virtual size")?;
    let [logical_sector] = items.words(LOGICAL_SECTOR, "logical sector size")?;
    let [physical_sector] = items.words(PHYSICAL_SECTOR, "physical sector size")?;
    let disk_id = items.bytes(DISK_ID, "virtual disk id")?;
    let disk_id = disk_id.as_slice().try_into().map_err(|_| {
        Error::corrupt(
            "virtual disk id",
            format!("has {} bytes, not 16", disk_id.len()),
        )
    })?;
    let has_parent = flags & HAS_PARENT != 0;
    let metadata = Metadata {
        block_size,
        leave_allocated: flags & LEAVE_ALLOCATED != 0,
        has_parent,
        size: u64::from(high) << 32 | u64::from(low),
        disk_id,
        logical_sector,
        physical_sector,
        locator: match has_parent {
            true => Some(items.bytes(PARENT_LOCATOR, "parent locator")?),
            false => None,
        },
    };
    check(&metadata)?;
    Ok(metadata)
}

/// Checks the numbers against the specification and each other.
fn check(metadata: &Metadata) -> Result<()> {
    let block = metadata.block_size;
    if !block.is_power_of_two() || !BLOCK_SIZES.contains(&block) {
        let detail = format!(
            "has blocks of {block} bytes, which is not a power of two from 1 MiB to 256 MiB"
        );
        return Err(Error::corrupt("file parameters", detail));
    }
    for (part, sector) in [
        ("logical sector size", metadata.logical_sector),
        ("physical sector size", metadata.physical_sector),
    ] {
        if !matches!(sector, 512 | 4096) {
            return Err(Error::corrupt(
                part,
                format!("is {sector}, not 512 or 4096"),
            ));
        }
    }
    let size = metadata.size;
    if size > limits::VHDX_SIZE {
        let detail = format!("is {size} bytes; at most 64 TiB are accepted");
        return Err(Error::new(ErrorKind::Limit, "virtual size", detail));
    }
    if !size.is_multiple_of(metadata.logical_sector.into()) {
        let detail = format!(
            "is {size} bytes, not a whole number of sectors of {} bytes",
            metadata.logical_sector
        );
        return Err(Error::corrupt("virtual size", detail));
    }
    Ok(())
}

/// The checked entries of the table of `region`.
pub(crate) fn entries(file: &ImageFile, region: &Range<u64>) -> Result<Vec<MetadataEntry>> {
    Ok(Items::read(file, region)?.entries)
}

/// The item `id` in the table of `region`: the number of its entry, and the entry.
pub(crate) fn find(
    entries: &[MetadataEntry],
    region: &Range<u64>,
    id: Guid,
) -> Result<(usize, MetadataEntry)> {
    let wanted = |e: &&MetadataEntry| e.id == id && e.flags & MetadataEntry::USER == 0;
    let mut numbered = (0..).zip(entries);
    let found = numbered.find(|(_, e)| wanted(e));
    found.map(|(n, e)| (n, e.clone())).ok_or_else(|| {
        let detail = format!("has no item {}", shown(id));
        Error::corrupt(TABLE, detail).at(region.start)
    })
}

/// The checked entries of the table, and where their items are.
struct Items<'a> {
    file: &'a ImageFile,
    region: &'a Range<u64>,
    entries: Vec<MetadataEntry>,
}

impl<'a> Items<'a> {
    fn read(file: &'a ImageFile, region: &'a Range<u64>) -> Result<Self> {
        let bytes = file.read_part(TABLE, region.start, TABLE_LEN as u64)?;
        if !bytes.starts_with(b"metadata") {
            let detail = "does not start with its signature 'metadata'";
            return Err(Error::corrupt(TABLE, detail).at(region.start));
        }
        let Some(table) = parse::<MetadataTable>(&bytes) else {
            let detail = "has more entries than there is room for";
            return Err(Error::corrupt(TABLE, detail).at(region.start));
        };
        for (number, entry) in table.entries.iter().enumerate() {
            let part = || format!("{TABLE}, entry {number}");
            check_entry(entry, region).map_err(|e| Error::new(e.0, part(), e.1))?;
            let same = |other: &MetadataEntry| {
                let user = (other.flags ^ entry.flags) & MetadataEntry::USER;
                other.id == entry.id && user == 0
            };
            if table.entries.iter().take(number).any(same) {
                let detail = format!("the item {} is there twice", shown(entry.id));
                return Err(Error::corrupt(part(), detail));
            }
        }
        Ok(Self {
            file,
            region,
            entries: table.entries,
        })
    }

    /// The bytes of the item `id`, which must be there.
    fn bytes(&self, id: Guid, part: &'static str) -> Result<Vec<u8>> {
        let wanted = |e: &&MetadataEntry| e.id == id && e.flags & MetadataEntry::USER == 0;
        let Some(entry) = self.entries.iter().find(wanted) else {
            return Err(Error::corrupt(part, "is missing").at(self.region.start));
        };
        let at = FileOffset(self.region.start).plus(entry.offset.into())?;
        self.file.read_part(part, at.0, entry.length.into())
    }

    /// The item `id` as that many numbers.
    fn words<const N: usize>(&self, id: Guid, part: &'static str) -> Result<[u32; N]> {
        let bytes = self.bytes(id, part)?;
        match bytes.as_chunks::<4>() {
            (words, []) if words.len() == N => {
                let mut numbers = [0; N];
                for (number, word) in numbers.iter_mut().zip(words) {
                    *number = u32::from_le_bytes(*word);
                }
                Ok(numbers)
            }
            _ => {
                let detail = format!("has {} bytes", bytes.len());
                Err(Error::corrupt(part, detail))
            }
        }
    }
}

/// Checks that the item lies in the region, and that it is known if it must be.
fn check_entry(entry: &MetadataEntry, region: &Range<u64>) -> Result<(), (ErrorKind, String)> {
    let id = shown(entry.id);
    let length = region.end.saturating_sub(region.start);
    let end = u64::from(entry.offset).saturating_add(entry.length.into());
    let inside = entry.offset as usize >= TABLE_LEN && end <= length;
    if entry.length != 0 && !inside {
        let detail = format!("the item {id} lies outside the metadata region");
        return Err((ErrorKind::Corrupt, detail));
    }
    if entry.length > limits::METADATA_ITEM {
        let detail = format!("the item {id} has {} bytes, more than 1 MiB", entry.length);
        return Err((ErrorKind::Limit, detail));
    }
    let user = entry.flags & MetadataEntry::USER != 0;
    if entry.id == INCOMPLETE && !user {
        let detail = "the image is marked as incomplete: its creation was not finished";
        return Err((ErrorKind::Corrupt, detail.to_owned()));
    }
    let known = [
        FILE_PARAMETERS,
        VIRTUAL_SIZE,
        DISK_ID,
        LOGICAL_SECTOR,
        PHYSICAL_SECTOR,
        PARENT_LOCATOR,
    ];
    let known = !user && (known.contains(&entry.id) || HARMLESS.contains(&entry.id));
    if !known && entry.flags & MetadataEntry::REQUIRED != 0 {
        let detail = format!("the item {id} is not known, and the image cannot be used without it");
        return Err((ErrorKind::Unsupported, detail));
    }
    Ok(())
}
