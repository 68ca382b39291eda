//! The GUID partition table, as far as a disk that changes its size needs it.
//!
//! Its backup lies in the last sectors of a disk, and both headers say where. Sizes and positions
//! are those of the UEFI specification 2.10, chapter 5.3; guests write them, so none is believed
//! before both checksums are right.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::resize::Partition;
use crate::{Disk, Error, ErrorKind, Result, limits, units::buffer_len};
use flate2::Crc;
use std::ops::Range;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of a header that mean something; it may say more.
const HEADER: u32 = 92;
/// The kind of the partition that keeps programs that do not know the table off the disk.
const PROTECTIVE: u8 = 0xee;

/// A partition table whose primary header and entries are intact.
#[derive(Clone, Debug)]
pub struct Gpt {
    sector_size: u64,
    primary: Header,
    /// The backup, if it lies where the primary says, and both agree.
    backup: Option<Header>,
    entries: Vec<u8>,
    /// The first sector of the disk.
    mbr: Vec<u8>,
}

/// Bytes to be written, and where on the disk.
pub type Change = (u64, Vec<u8>);

/// A header whose checksum is right, as it lies on the disk.
#[derive(Clone, Debug)]
struct Header {
    bytes: Vec<u8>,
    size: u32,
    alternate: u64,
    first_usable: u64,
    last_usable: u64,
    entries: u64,
    count: u32,
    entry_size: u32,
    entries_crc: u32,
}

impl Header {
    /// The header at `lba`, if there is one that says it belongs there.
    fn read(disk: &dyn Disk, sector_size: u64, lba: u64) -> Result<Option<Self>> {
        let Some(bytes) = sectors(disk, sector_size, lba, sector_size)? else {
            return Ok(None);
        };
        Ok(Self::parse(bytes)
            .filter(|(own, _)| *own == lba)
            .map(|(_, h)| h))
    }

    /// The header, and the place that it says it has.
    fn parse(bytes: Vec<u8>) -> Option<(u64, Self)> {
        let size = u32_at(&bytes, 12)?;
        let checked = bytes.get(..usize::try_from(size).ok()?)?;
        let intact = bytes.starts_with(SIGNATURE)
            && size >= HEADER
            && header_crc(checked)? == u32_at(&bytes, 16)?;
        let header = Self {
            size,
            alternate: u64_at(&bytes, 32)?,
            first_usable: u64_at(&bytes, 40)?,
            last_usable: u64_at(&bytes, 48)?,
            entries: u64_at(&bytes, 72)?,
            count: u32_at(&bytes, 80)?,
            entry_size: u32_at(&bytes, 84)?,
            entries_crc: u32_at(&bytes, 88)?,
            bytes,
        };
        // The specification wants 128 times a power of two; nobody writes more than 128.
        let sound = header.entry_size.is_power_of_two()
            && (128..=4096).contains(&header.entry_size)
            && header.first_usable <= header.last_usable;
        let own = u64_at(&header.bytes, 24)?;
        (intact && sound).then_some((own, header))
    }

    /// The partition entries, if their checksum is right.
    fn entries(&self, disk: &dyn Disk, sector_size: u64) -> Result<Option<Vec<u8>>> {
        let len = u64::from(self.count).saturating_mul(self.entry_size.into());
        if len > limits::GPT_ENTRIES {
            return Ok(None);
        }
        let bytes = sectors(disk, sector_size, self.entries, len)?;
        Ok(bytes.filter(|bytes| crc(&[bytes]) == self.entries_crc))
    }

    /// The same header at another place.
    fn at(&self, own: u64, alternate: u64, last_usable: u64, entries: u64) -> Result<Vec<u8>> {
        let mut bytes = self.bytes.clone();
        for (at, value) in [(24, own), (32, alternate), (48, last_usable), (72, entries)] {
            put(&mut bytes, at, &value.to_le_bytes());
        }
        let checked = bytes.get(..buffer_len(self.size.into())?);
        let crc = checked.and_then(header_crc).unwrap_or_default();
        put(&mut bytes, 16, &crc.to_le_bytes());
        Ok(bytes)
    }
}

impl Gpt {
    /// The partition table of `disk`, if it has an intact one, in sectors of the disk's size or of
    /// 4096 bytes: a raw image does not say which its guest uses.
    pub fn find(disk: &dyn Disk) -> Result<Option<Self>> {
        for sector_size in [u64::from(disk.sector_size()), 4096] {
            let Some(primary) = Header::read(disk, sector_size, 1)? else {
                continue;
            };
            let Some(entries) = primary.entries(disk, sector_size)? else {
                continue;
            };
            let agrees = |other: &Header| {
                let numbers = |h: &Header| {
                    (
                        h.first_usable,
                        h.last_usable,
                        h.count,
                        h.entry_size,
                        h.entries_crc,
                    )
                };
                other.alternate == 1 && numbers(other) == numbers(&primary)
            };
            let mut backup = Header::read(disk, sector_size, primary.alternate)?.filter(agrees);
            if let Some(header) = &backup
                && header.entries(disk, sector_size)?.is_none()
            {
                backup = None;
            }
            let mbr = sectors(disk, sector_size, 0, sector_size)?.unwrap_or_default();
            return Ok(Some(Self {
                sector_size,
                primary,
                backup,
                entries,
                mbr,
            }));
        }
        Ok(None)
    }

    /// True if the last sectors of `disk` hold an intact backup, wherever the primary is.
    pub fn backup_at_end(disk: &dyn Disk) -> Result<bool> {
        for sector_size in [u64::from(disk.sector_size()), 4096] {
            let sectors = disk.size().checked_div(sector_size).unwrap_or(0);
            let header = Header::read(disk, sector_size, sectors.saturating_sub(1))?;
            if let Some(header) = header
                && header.entries(disk, sector_size)?.is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Bytes of the sectors in which the table counts.
    pub fn sector_size(&self) -> u64 {
        self.sector_size
    }

    /// True if the backup is there and intact.
    pub fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// True if the backup is to lie at the end of a disk of `size` bytes.
    pub fn ends_at(&self, size: u64) -> bool {
        let end = self.primary.alternate.checked_add(1);
        end.and_then(|sectors| sectors.checked_mul(self.sector_size)) == Some(size)
    }

    /// Where on the disk the backup lies, in ascending order: its entries, and its header.
    pub fn backup(&self) -> Vec<Range<u64>> {
        let Some(backup) = &self.backup else {
            return Vec::new();
        };
        let bytes = |lba: u64, count: u64| {
            let start = lba.saturating_mul(self.sector_size);
            start..start.saturating_add(count.saturating_mul(self.sector_size))
        };
        let mut found = Vec::new();
        // Elsewhere they may be those of the primary, or lie in a partition.
        let entries = backup.entries..backup.entries.saturating_add(self.entry_sectors());
        if entries.start > backup.last_usable && entries.end <= self.primary.alternate {
            found.push(bytes(entries.start, self.entry_sectors()));
        }
        found.push(bytes(self.primary.alternate, 1));
        found
    }

    /// First byte after the last partition.
    pub fn used(&self) -> u64 {
        self.partitions().map(|p| p.end).max().unwrap_or(0)
    }

    /// The partitions, in the order of their numbers.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + '_ {
        let size = usize::try_from(self.primary.entry_size).unwrap_or(usize::MAX);
        let entries = (1..).zip(self.entries.chunks_exact(size.max(1)));
        entries.filter_map(|(number, entry)| {
            let taken = entry.get(..16)?.iter().any(|b| *b != 0);
            let end = u64_at(entry, 40)?.saturating_add(1);
            taken.then_some(Partition {
                number,
                start: u64_at(entry, 32)?.saturating_mul(self.sector_size),
                end: end.saturating_mul(self.sector_size),
            })
        })
    }

    /// What makes this the table of a disk of `size` bytes: the backup at its new end, and zeros
    /// where it was; both headers, and the sector that protects the disk from older programs. A
    /// backup that is missing or damaged is made anew; what lies in its place then stays.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if the partitions reach into the sectors that the backup
    /// needs.
    pub fn moved_to(&self, size: u64) -> Result<Vec<Change>> {
        let fail = |detail: String| Error::new(ErrorKind::Conflict, "partition table", detail);
        let sectors = size.checked_div(self.sector_size).unwrap_or(0);
        let last = sectors.checked_sub(1);
        let entries = last.and_then(|last| last.checked_sub(self.entry_sectors()));
        let usable = entries.and_then(|entries| entries.checked_sub(1));
        let room = |usable: &u64| {
            let end = usable.saturating_add(1).saturating_mul(self.sector_size);
            self.used() <= end && self.primary.first_usable <= *usable
        };
        let (true, Some(last), Some(entries), Some(usable)) = (
            size.is_multiple_of(self.sector_size),
            last,
            entries,
            usable.filter(room),
        ) else {
            let detail = format!(
                "has partitions up to byte {}, and no room for its backup before the end of a disk of {size} bytes in sectors of {}",
                self.used(),
                self.sector_size
            );
            return Err(fail(detail));
        };
        let primary = self.primary.at(1, last, usable, self.primary.entries)?;
        let backup = self.backup.as_ref().unwrap_or(&self.primary);
        let backup = backup.at(last, 1, usable, entries)?;
        let mut changes = Vec::new();
        for old in self.backup().into_iter().filter(|old| old.end <= size) {
            let len = old.end.saturating_sub(old.start);
            changes.push((old.start, vec![0; buffer_len(len)?]));
        }
        changes.push((0, self.protective(last)));
        changes.push((self.sector_size, primary));
        changes.push((
            entries.saturating_mul(self.sector_size),
            self.entries.clone(),
        ));
        changes.push((last.saturating_mul(self.sector_size), backup));
        Ok(changes)
    }

    fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.sector_size)
    }

    /// The first sector, whose one partition covers all up to `last`. One that holds others besides
    /// is left as it is: it was made by hand.
    fn protective(&self, last: u64) -> Vec<u8> {
        let mut mbr = self.mbr.clone();
        let table = mbr.get(446..510).unwrap_or_default();
        let kinds: Vec<u8> = table.iter().skip(4).step_by(16).copied().collect();
        let taken = kinds.iter().filter(|kind| **kind != 0).count();
        let slot = kinds.iter().position(|kind| *kind == PROTECTIVE);
        if let (1, Some(slot), Some([0x55, 0xaa])) = (taken, slot, mbr.get(510..512)) {
            let at = slot.saturating_mul(16).saturating_add(446);
            if u32_at(&mbr, at.saturating_add(8)) == Some(1) {
                let count = u32::try_from(last).unwrap_or(u32::MAX);
                put(&mut mbr, at.saturating_add(12), &count.to_le_bytes());
            }
        }
        mbr
    }
}

/// `len` bytes of `disk` from sector `lba` on, if it has them.
fn sectors(disk: &dyn Disk, sector_size: u64, lba: u64, len: u64) -> Result<Option<Vec<u8>>> {
    let start = lba.checked_mul(sector_size);
    let end = start.and_then(|start| start.checked_add(len));
    let (Some(start), true) = (start, end.is_some_and(|end| end <= disk.size())) else {
        return Ok(None);
    };
    let mut bytes = vec![0; buffer_len(len)?];
    disk.read_at(start, &mut bytes)?;
    Ok(Some(bytes))
}

/// The checksum of a header, whose own place counts as zero.
fn header_crc(bytes: &[u8]) -> Option<u32> {
    Some(crc(&[bytes.get(..16)?, &[0; 4], bytes.get(20..)?]))
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = Crc::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.sum()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    field.try_into().ok().map(u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let end = at.saturating_add(value.len());
    if let Some(field) = bytes.get_mut(at..end) {
        field.copy_from_slice(value);
    }
}
