//! The structures of a VHDX file, byte for byte, so that no other file knows an offset.
//!
//! Field meanings: "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format". All numbers are
//! little-endian; a GUID is kept as the 16 bytes of the file.

use crate::{Error, Result};
use binrw::{BinRead, BinWrite, binrw};
use std::{io::Cursor, ops::Range};
use uuid::Uuid;

pub(crate) type Guid = [u8; 16];

/// What regions, blocks and the log start at a multiple of.
pub(crate) const MIB: u64 = 1 << 20;
/// First bytes of the file.
pub(crate) const FILE_SIGNATURE: &[u8; 8] = b"vhdxfile";
/// Bytes of the name of the program that made the file, UTF-16, which follow.
pub(crate) const CREATOR_LEN: u64 = 512;
/// Where the two headers are.
pub(crate) const HEADERS_AT: [u64; 2] = [64 << 10, 128 << 10];
/// Bytes of a header.
pub(crate) const HEADER_LEN: usize = 4096;
/// Where the two region tables are.
pub(crate) const REGION_TABLES_AT: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a region table, and of the table that a metadata region begins with.
pub(crate) const TABLE_LEN: usize = 64 << 10;
/// Most entries of either table: what there is room for.
pub(crate) const TABLE_ENTRIES: u32 = 2047;
/// Bytes of a sector of the log, and of a page that it can replace.
pub(crate) const LOG_SECTOR: usize = 4096;
/// Bytes of the header of a log entry.
pub(crate) const LOG_ENTRY_LEN: usize = 64;
/// Bytes of an entry of all tables, and of a log descriptor.
pub(crate) const ROW_LEN: usize = 32;

/// In all checked structures: after the signature.
const CHECKSUM: Range<usize> = 4..8;

pub(crate) const BAT: Guid = guid(0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08);
pub(crate) const METADATA: Guid = guid(0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e);

pub(crate) const FILE_PARAMETERS: Guid = guid(0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b);
pub(crate) const VIRTUAL_SIZE: Guid = guid(0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8);
pub(crate) const DISK_ID: Guid = guid(0xbeca_12ab_b2e6_4523_93ef_c309_e000_c746);
pub(crate) const LOGICAL_SECTOR: Guid = guid(0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f);
pub(crate) const PHYSICAL_SECTOR: Guid = guid(0xcda3_48c7_445d_4471_9cc9_e988_5251_c556);
pub(crate) const PARENT_LOCATOR: Guid = guid(0xa8d3_5f2d_b30b_454d_abf7_d3d8_4834_ab0c);
/// Not in the specification: there while the image is being made.
pub(crate) const INCOMPLETE: Guid = guid(0x71cc_85f0_1b69_4e28_9558_c3bf_83ae_75d3);
/// Not in the specification, and of no matter for the contents: geometry, memory label.
pub(crate) const HARMLESS: [Guid; 2] = [
    guid(0xda02_d7bc_3d3a_423c_ac88_2a36_ab21_479b),
    guid(0x10e1_ae8a_4b7e_4169_a40f_cd70_de92_8393),
];

/// The only type of parent locator that is defined.
pub(crate) const LOCATOR_TYPE: Guid = guid(0xb04a_efb7_d19e_4a81_b789_25b8_e944_5913);

const fn guid(text: u128) -> Guid {
    Uuid::from_u128(text).to_bytes_le()
}

/// A GUID as people write it.
pub(crate) fn shown(guid: Guid) -> String {
    Uuid::from_bytes_le(guid).to_string()
}

/// One of the two headers.
#[binrw]
#[brw(little, magic = b"head")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) checksum: u32,
    /// The header with the higher number is current.
    pub(crate) sequence: u64,
    /// Changes when the file is first written to after it was opened.
    pub(crate) file_write: Guid,
    /// Changes with the contents of the disk: who the parent of a child is.
    pub(crate) data_write: Guid,
    /// Which log entries count; zero if the log is empty.
    pub(crate) log: Guid,
    pub(crate) log_version: u16,
    pub(crate) version: u16,
    pub(crate) log_length: u32,
    #[brw(pad_after = 4016)]
    pub(crate) log_offset: u64,
}

/// What precedes the entries of a region table.
#[binrw]
#[brw(little, magic = b"regi")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionTable {
    pub(crate) checksum: u32,
    #[br(temp)]
    #[bw(calc = u32::try_from(entries.len()).unwrap_or(u32::MAX))]
    count: u32,
    #[br(temp, assert(count <= TABLE_ENTRIES))]
    #[bw(calc = 0)]
    _reserved: u32,
    #[br(count = count)]
    pub(crate) entries: Vec<RegionEntry>,
}

#[binrw]
#[brw(little)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionEntry {
    pub(crate) id: Guid,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    /// Bit 0: whoever does not know the region must not use the file.
    pub(crate) required: u32,
}

/// What the metadata region begins with.
#[binrw]
#[brw(little, magic = b"metadata")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetadataTable {
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u16,
    #[br(temp, assert(u32::from(count) <= TABLE_ENTRIES))]
    #[bw(calc = u16::try_from(entries.len()).unwrap_or(u16::MAX))]
    count: u16,
    #[br(temp)]
    #[bw(calc = [0; 5])]
    _reserved2: [u32; 5],
    #[br(count = count)]
    pub(crate) entries: Vec<MetadataEntry>,
}

#[binrw]
#[brw(little)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetadataEntry {
    pub(crate) id: Guid,
    /// From the start of the region.
    pub(crate) offset: u32,
    pub(crate) length: u32,
    #[brw(pad_after = 4)]
    pub(crate) flags: u32,
}

impl MetadataEntry {
    /// The item is the user's: its GUID means nothing here.
    pub(crate) const USER: u32 = 1;
    /// The item describes the disk, not the file.
    pub(crate) const DISK: u32 = 2;
    /// Whoever does not know the item must not use the file.
    pub(crate) const REQUIRED: u32 = 4;
}

/// The first bytes of a log entry.
#[binrw]
#[brw(little, magic = b"loge")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    pub(crate) checksum: u32,
    pub(crate) length: u32,
    /// Where in the log the oldest entry is that still matters.
    pub(crate) tail: u32,
    pub(crate) sequence: u64,
    #[brw(pad_after = 4)]
    pub(crate) descriptors: u32,
    pub(crate) log: Guid,
    /// Length that the file had on the medium.
    pub(crate) flushed_file_offset: u64,
    /// Length that all structures of the file need.
    pub(crate) last_file_offset: u64,
}

/// What a log entry does to one page or one range of the file.
#[binrw]
#[brw(little)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Descriptor {
    /// The page at `offset` becomes the next data sector of the entry.
    #[brw(magic = b"desc")]
    Data {
        /// Bytes that the data sector keeps its own marks over.
        trailing: [u8; 4],
        leading: [u8; 8],
        offset: u64,
        sequence: u64,
    },
    /// `length` bytes at `offset` become zero.
    #[brw(magic = b"zero")]
    Zero {
        #[brw(pad_before = 4)]
        length: u64,
        offset: u64,
        sequence: u64,
    },
}

/// A page that a log entry writes, with its first 8 and last 4 bytes replaced.
#[binrw]
#[brw(little, magic = b"data")]
pub(crate) struct DataSector {
    pub(crate) sequence_high: u32,
    pub(crate) data: [u8; 4084],
    pub(crate) sequence_low: u32,
}

/// Key and value of a parent locator; positions count from its start.
#[binrw]
#[brw(little)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocatorEntry {
    pub(crate) key_offset: u32,
    pub(crate) value_offset: u32,
    pub(crate) key_length: u16,
    pub(crate) value_length: u16,
}

/// What a parent locator begins with.
#[binrw]
#[brw(little)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locator {
    #[brw(pad_after = 2)]
    pub(crate) kind: Guid,
    #[br(temp)]
    #[bw(calc = u16::try_from(entries.len()).unwrap_or(u16::MAX))]
    count: u16,
    #[br(count = count)]
    pub(crate) entries: Vec<LocatorEntry>,
}

/// Reads a structure from the first of `bytes`. `None` if they are none.
pub(crate) fn parse<T: for<'a> BinRead<Args<'a> = ()> + binrw::meta::ReadEndian>(
    bytes: &[u8],
) -> Option<T> {
    T::read(&mut Cursor::new(bytes)).ok()
}

/// The bytes of `structure`.
pub(crate) fn to_bytes<T: for<'a> BinWrite<Args<'a> = ()> + binrw::meta::WriteEndian>(
    structure: &T,
) -> Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    structure
        .write(&mut out)
        .map_err(|e| Error::corrupt("metadata", e.to_string()))?;
    Ok(out.into_inner())
}

/// The bytes of `structure` filled up to `len`, with a right checksum.
pub(crate) fn sealed<T: for<'a> BinWrite<Args<'a> = ()> + binrw::meta::WriteEndian>(
    structure: &T,
    len: usize,
) -> Result<Vec<u8>> {
    let mut bytes = to_bytes(structure)?;
    bytes.resize(len, 0);
    let sum = checksum(&bytes);
    if let Some(field) = bytes.get_mut(CHECKSUM) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
    Ok(bytes)
}

/// The checksum that a structure of these bytes must have: CRC-32C with its own field zero.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let head = bytes.get(..CHECKSUM.start).unwrap_or_default();
    let rest = bytes.get(CHECKSUM.end..).unwrap_or_default();
    let sum = crc32c::crc32c_append(crc32c::crc32c(head), &[0; 4]);
    crc32c::crc32c_append(sum, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_lengths_of_the_specification() {
        let header = Header {
            checksum: 0,
            sequence: 1,
            file_write: [1; 16],
            data_write: [2; 16],
            log: [0; 16],
            log_version: 0,
            version: 1,
            log_length: 1 << 20,
            log_offset: 1 << 20,
        };
        let bytes = sealed(&header, HEADER_LEN).unwrap();
        assert_eq!(to_bytes(&header).unwrap().len(), HEADER_LEN);
        assert_eq!(bytes.len(), HEADER_LEN);
        let read: Header = parse(&bytes).unwrap();
        assert_eq!(read.checksum, checksum(&bytes));
        assert_eq!(
            (read.log_offset, &bytes[72..80]),
            (1 << 20, &[0, 0, 16, 0, 0, 0, 0, 0][..])
        );
        let zero = Descriptor::Zero {
            length: 1,
            offset: 2,
            sequence: 3,
        };
        assert_eq!(to_bytes(&zero).unwrap().len(), ROW_LEN);
        let page = DataSector {
            sequence_high: 0,
            data: [0; 4084],
            sequence_low: 0,
        };
        assert_eq!(to_bytes(&page).unwrap().len(), LOG_SECTOR);
    }

    #[test]
    fn guids_are_stored_with_their_first_fields_turned() {
        assert_eq!(BAT[..8], [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42]);
        assert_eq!(shown(BAT), "2dc27766-f623-4200-9d64-115e9bfd4a08");
    }
}
