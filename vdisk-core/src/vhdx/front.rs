//! What a new image has before its blocks: headers, an empty log, metadata, and room for the
//! block allocation table.
//!
//! All of it stands where Windows puts it, and says what Windows says.

use super::{
    bat::{ENTRY_LEN, Numbering},
    disk_structs::{
        BAT, CREATOR_LEN, DISK_ID, FILE_PARAMETERS, FILE_SIGNATURE, Guid, HEADER_LEN, HEADERS_AT,
        Header, LOGICAL_SECTOR, METADATA, MIB, MetadataEntry, MetadataTable, PARENT_LOCATOR,
        PHYSICAL_SECTOR, REGION_TABLES_AT, RegionEntry, RegionTable, TABLE_LEN, VIRTUAL_SIZE,
        sealed, to_bytes,
    },
};
use crate::{
    Result,
    target::Target,
    units::{FileOffset, round_up},
};
use uuid::Uuid;

const LOG_AT: u64 = MIB;
const METADATA_AT: u64 = 2 * MIB;
pub(crate) const BAT_AT: u64 = 3 * MIB;
/// Bytes of the log and of the metadata region: the smallest there can be.
const REGION_LEN: u32 = 1 << 20;
/// What Windows gives new disks, which lie on disks with sectors of 4 KiB.
const PHYSICAL: u32 = 4096;
const LEAVE_ALLOCATED: u32 = 1;
const HAS_PARENT: u32 = 2;

/// What the front of an image is made from.
pub(crate) struct Front {
    pub(crate) size: u64,
    pub(crate) block_size: u32,
    pub(crate) sector: u32,
    pub(crate) fixed: bool,
    /// The parent locator item of a child.
    pub(crate) locator: Option<Vec<u8>>,
    /// From this all GUIDs of the image follow; it is itself the data write GUID.
    pub(crate) uuid: [u8; 16],
    /// As the parent has it.
    pub(crate) disk_id: Option<Guid>,
}

impl Front {
    pub(crate) fn numbering(&self) -> Numbering {
        Numbering::new(self.size, self.block_size.into(), self.sector)
    }

    /// Bytes of the block allocation table, in whole MiB.
    fn bat_len(&self) -> u64 {
        let entries = self.numbering().entries(self.locator.is_some());
        round_up(entries.saturating_mul(ENTRY_LEN).max(1), MIB)
    }

    /// Where the first block can be.
    pub(crate) fn end(&self) -> Result<u64> {
        Ok(FileOffset(BAT_AT).plus(self.bat_len())?.0)
    }

    /// Writes all but the block allocation table. What lies between is zero.
    pub(crate) fn write(&self, target: &mut dyn Target) -> Result<()> {
        target.write_at(0, &identifier())?;
        for (at, sequence) in HEADERS_AT.into_iter().zip(1..) {
            target.write_at(at, used(&sealed(&self.header(sequence), HEADER_LEN)?))?;
        }
        let regions = sealed(&self.regions(), TABLE_LEN)?;
        for at in REGION_TABLES_AT {
            target.write_at(at, used(&regions))?;
        }
        let (table, items) = self.metadata()?;
        target.write_at(METADATA_AT, &table)?;
        target.write_at(METADATA_AT.saturating_add(TABLE_LEN as u64), &items)
    }

    fn header(&self, sequence: u64) -> Header {
        Header {
            checksum: 0,
            sequence,
            file_write: file_write(self.uuid),
            data_write: data_write(self.uuid),
            log: [0; 16],
            log_version: 0,
            version: 1,
            log_length: REGION_LEN,
            log_offset: LOG_AT,
        }
    }

    fn regions(&self) -> RegionTable {
        // VirtualBox refuses regions that are not marked as required.
        let region = |id, offset, length| RegionEntry {
            id,
            offset,
            length,
            required: 1,
        };
        let bat_len = u32::try_from(self.bat_len()).unwrap_or(u32::MAX);
        RegionTable {
            checksum: 0,
            entries: vec![
                region(BAT, BAT_AT, bat_len),
                region(METADATA, METADATA_AT, REGION_LEN),
            ],
        }
    }

    /// The table of the metadata region, as far as it is used, and the items that follow it.
    fn metadata(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let flags = match (self.locator.is_some(), self.fixed) {
            (true, _) => HAS_PARENT,
            (false, true) => LEAVE_ALLOCATED,
            (false, false) => 0,
        };
        let disk = MetadataEntry::DISK | MetadataEntry::REQUIRED;
        let disk_id: Guid = self.disk_id.unwrap_or(derived(self.uuid, "virtual disk"));
        let mut items = vec![
            (
                FILE_PARAMETERS,
                MetadataEntry::REQUIRED,
                [self.block_size.to_le_bytes(), flags.to_le_bytes()].concat(),
            ),
            (VIRTUAL_SIZE, disk, self.size.to_le_bytes().to_vec()),
            (LOGICAL_SECTOR, disk, self.sector.to_le_bytes().to_vec()),
            (PHYSICAL_SECTOR, disk, PHYSICAL.to_le_bytes().to_vec()),
            (DISK_ID, disk, disk_id.to_vec()),
        ];
        if let Some(locator) = &self.locator {
            items.push((PARENT_LOCATOR, MetadataEntry::REQUIRED, locator.clone()));
        }
        let mut entries = Vec::new();
        let mut contents: Vec<u8> = Vec::new();
        for (id, flags, bytes) in items {
            let offset = TABLE_LEN.saturating_add(contents.len());
            entries.push(MetadataEntry {
                id,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                flags,
            });
            contents.extend(bytes);
        }
        Ok((to_bytes(&MetadataTable { entries })?, contents))
    }
}

/// `bytes` without the zeros at their end, which are a hole of the file.
fn used(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last.saturating_add(1));
    bytes.get(..end).unwrap_or_default()
}

/// The first bytes of the file: its signature, and the program that made it.
fn identifier() -> Vec<u8> {
    let name = concat!("vdisk ", env!("CARGO_PKG_VERSION"));
    let units = name.encode_utf16().flat_map(u16::to_le_bytes);
    let room = usize::try_from(CREATOR_LEN).unwrap_or_default();
    FILE_SIGNATURE
        .iter()
        .copied()
        .chain(units.take(room))
        .collect()
}

/// The data write GUID of the image whose UUID is `uuid`.
pub(crate) fn data_write(uuid: [u8; 16]) -> Guid {
    Uuid::from_bytes(uuid).to_bytes_le()
}

/// Its file write GUID.
pub(crate) fn file_write(uuid: [u8; 16]) -> Guid {
    derived(uuid, "file write")
}

/// Another GUID of the image whose own is `uuid`: reproducible where that is.
fn derived(uuid: [u8; 16], purpose: &str) -> Guid {
    Uuid::new_v5(&Uuid::from_bytes(uuid), purpose.as_bytes()).to_bytes_le()
}
