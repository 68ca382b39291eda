//! The two structures of a VHD file, byte for byte, so that no other file knows an offset.
//!
//! Field meanings: "Virtual Hard Disk Image Format Specification" 1.0 (Microsoft). All numbers
//! are big-endian.

use crate::{Error, Result};
use binrw::{BinRead, BinWrite, binrw};
use std::{io::Cursor, ops::Range};

/// Bytes of the footer.
pub(crate) const FOOTER_LEN: usize = 512;
/// Bytes of the dynamic header.
pub(crate) const HEADER_LEN: usize = 1024;
/// First bytes of the footer.
pub(crate) const COOKIE: &[u8; 8] = b"conectix";
/// First bytes of a footer that XenServer disabled while it changes the image.
pub(crate) const POISON: &[u8; 8] = b"v_poison";
/// The version of both structures.
pub(crate) const VERSION: u32 = 0x0001_0000;
/// An offset that is not used.
pub(crate) const NO_OFFSET: u64 = u64::MAX;

/// Feature bit that is always set.
pub(crate) const FEATURE_RESERVED: u32 = 2;
/// Feature bit of a disk that its owner may delete.
pub(crate) const FEATURE_TEMPORARY: u32 = 1;

/// Disk type: the file is the disk.
pub(crate) const FIXED: u32 = 2;
/// Disk type: blocks are added as they are written.
pub(crate) const DYNAMIC: u32 = 3;
/// Disk type: blocks that differ from a parent.
pub(crate) const DIFFERENCING: u32 = 4;

/// Where the checksum of the footer lies in it.
pub(crate) const FOOTER_CHECKSUM: Range<usize> = 64..68;
/// Where the creator, its version and its system lie in the footer.
pub(crate) const FOOTER_CREATOR: Range<usize> = 28..40;
/// Where the original size lies in the footer.
pub(crate) const FOOTER_ORIGINAL_SIZE: Range<usize> = 40..48;
/// Where the current size lies in the footer.
pub(crate) const FOOTER_SIZE: Range<usize> = 48..56;
/// Where the geometry lies in the footer.
pub(crate) const FOOTER_GEOMETRY: Range<usize> = 56..60;
/// Where the unique ID lies in the footer.
pub(crate) const FOOTER_UUID: Range<usize> = 68..84;
/// Where the checksum of the dynamic header lies in it.
pub(crate) const HEADER_CHECKSUM: Range<usize> = 36..40;
/// Where the dynamic header tells where the table is.
pub(crate) const HEADER_TABLE: Range<usize> = 16..24;
/// Where the dynamic header tells how many entries the table has.
pub(crate) const HEADER_ENTRIES: Range<usize> = 28..32;
/// Where the dynamic header tells of the parent: unique ID and time; name and locators.
pub(crate) const HEADER_PARENT: [Range<usize>; 2] = [40..60, 64..768];

/// Cylinders, heads and sectors per track.
#[binrw]
#[brw(big)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) cylinders: u16,
    pub(crate) heads: u8,
    pub(crate) sectors: u8,
}

/// The footer: the last sector of the file, with a copy at its start unless the disk is fixed.
#[binrw]
#[brw(big, magic = b"conectix")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) features: u32,
    pub(crate) version: u32,
    /// Where the dynamic header is.
    pub(crate) data_offset: u64,
    /// Seconds since 2000-01-01 UTC.
    pub(crate) timestamp: u32,
    pub(crate) creator_app: [u8; 4],
    pub(crate) creator_version: u32,
    pub(crate) creator_os: [u8; 4],
    /// Bytes of the disk when it was made, says the specification; libvhdi takes it for the size now.
    pub(crate) original_size: u64,
    /// The virtual size in bytes.
    pub(crate) current_size: u64,
    pub(crate) geometry: Geometry,
    pub(crate) disk_type: u32,
    pub(crate) checksum: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) saved_state: u8,
    /// Not in the specification: XenServer keeps the image only as a parent of others.
    #[brw(pad_after = 426)]
    pub(crate) hidden: u8,
}

/// Where a name of the parent is kept, and in which encoding.
#[binrw]
#[brw(big)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocatorEntry {
    pub(crate) code: [u8; 4],
    /// Room for the name; in sectors or in bytes, writers disagree.
    pub(crate) data_space: u32,
    /// Bytes of the name.
    #[brw(pad_after = 4)]
    pub(crate) data_len: u32,
    pub(crate) data_offset: u64,
}

/// The header of dynamic and differencing disks.
#[binrw]
#[brw(big, magic = b"cxsparse")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DynamicHeader {
    pub(crate) data_offset: u64,
    /// Where the block allocation table is.
    pub(crate) table_offset: u64,
    pub(crate) version: u32,
    pub(crate) max_table_entries: u32,
    pub(crate) block_size: u32,
    pub(crate) checksum: u32,
    pub(crate) parent_uuid: [u8; 16],
    /// Seconds since 2000-01-01 UTC.
    #[brw(pad_after = 4)]
    pub(crate) parent_timestamp: u32,
    /// UTF-16, filled up with zeros.
    pub(crate) parent_name: [u16; 256],
    #[brw(pad_after = 256)]
    pub(crate) locators: [LocatorEntry; 8],
}

impl Footer {
    /// Parses a footer. `None` if these bytes are none.
    pub(crate) fn parse(bytes: &[u8; FOOTER_LEN]) -> Option<Self> {
        Self::read(&mut Cursor::new(bytes)).ok()
    }

    /// The bytes of the footer with a right checksum.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        sealed(self, FOOTER_LEN, FOOTER_CHECKSUM)
    }
}

impl DynamicHeader {
    /// Parses a header. `None` if these bytes are none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        Self::read(&mut Cursor::new(bytes)).ok()
    }

    /// The bytes of the header with a right checksum.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        sealed(self, HEADER_LEN, HEADER_CHECKSUM)
    }
}

/// The checksum that a footer of these bytes must have.
pub(crate) fn footer_checksum(bytes: &[u8]) -> u32 {
    checksum(bytes, &FOOTER_CHECKSUM)
}

/// The checksum that a dynamic header of these bytes must have.
pub(crate) fn header_checksum(bytes: &[u8]) -> u32 {
    checksum(bytes, &HEADER_CHECKSUM)
}

/// The `bytes` of a structure with other bytes in some places, and the checksum that goes with them.
///
/// All others stay as they are; programs keep marks of their own in reserved ones.
pub(crate) fn amended(
    bytes: &[u8],
    checksum_at: Range<usize>,
    fields: &[(Range<usize>, &[u8])],
) -> Result<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let short = || Error::corrupt("metadata", "are shorter than they must be");
    for (place, new) in fields {
        let place = bytes.get_mut(place.clone());
        let place = place.filter(|p| p.len() == new.len()).ok_or_else(short)?;
        place.copy_from_slice(new);
    }
    let sum = checksum(&bytes, &checksum_at).to_be_bytes();
    let place = bytes.get_mut(checksum_at).ok_or_else(short)?;
    place.copy_from_slice(&sum);
    Ok(bytes)
}

/// One's complement of the sum of all bytes but those of the checksum itself.
fn checksum(bytes: &[u8], field: &Range<usize>) -> u32 {
    !bytes
        .iter()
        .enumerate()
        .filter(|(at, _)| !field.contains(at))
        .fold(0u32, |sum, (_, &byte)| sum.wrapping_add(u32::from(byte)))
}

fn sealed<T>(value: &T, len: usize, field: Range<usize>) -> Result<Vec<u8>>
where
    T: for<'a> BinWrite<Args<'a> = ()> + binrw::meta::WriteEndian,
{
    let mut out = Cursor::new(Vec::with_capacity(len));
    value.write(&mut out).map_err(|e| {
        Error::new(crate::ErrorKind::Io, "write", "cannot lay out the metadata").because(e)
    })?;
    let mut bytes = out.into_inner();
    bytes.resize(len, 0);
    amended(&bytes, field, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The footer of a fixed disk of 4 MiB made by Windows 10 (`ntfs-parent.vhd` of dfVFS).
    fn sample() -> Footer {
        Footer {
            features: FEATURE_RESERVED,
            version: VERSION,
            data_offset: NO_OFFSET,
            timestamp: 0x2715_ab0f,
            creator_app: *b"win ",
            creator_version: 0x000a_0000,
            creator_os: *b"Wi2k",
            original_size: 4 << 20,
            current_size: 4 << 20,
            geometry: Geometry {
                cylinders: 120,
                heads: 4,
                sectors: 17,
            },
            disk_type: FIXED,
            checksum: 0,
            uuid: 0xe7ea_9200_8493_954e_a816_9572_339b_e931_u128.to_be_bytes(),
            saved_state: 0,
            hidden: 0,
        }
    }

    #[test]
    fn structures_have_their_sizes_and_survive_a_round_trip() {
        let bytes = sample().to_bytes().unwrap();
        assert_eq!(bytes.len(), FOOTER_LEN);
        let read = Footer::parse(bytes.as_slice().try_into().unwrap()).unwrap();
        assert_eq!(read.checksum, 0xffff_e7c3); // as in the file
        assert_eq!(read.checksum, footer_checksum(&bytes));
        assert_eq!(
            Footer {
                checksum: 0,
                ..read
            },
            sample()
        );

        let header = DynamicHeader {
            data_offset: NO_OFFSET,
            table_offset: 1536,
            version: VERSION,
            max_table_entries: 2,
            block_size: 2 << 20,
            checksum: 0,
            parent_uuid: [0; 16],
            parent_timestamp: 0,
            parent_name: [0; 256],
            locators: [LocatorEntry::default(); 8],
        };
        let bytes = header.to_bytes().unwrap();
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(
            DynamicHeader::parse(&bytes).unwrap().checksum,
            header_checksum(&bytes)
        );
    }

    #[test]
    fn fields_lie_where_the_specification_says() {
        let bytes = sample().to_bytes().unwrap();
        assert_eq!(&bytes[..8], COOKIE);
        assert_eq!(&bytes[28..32], b"win ");
        assert_eq!(&bytes[48..56], &(4u64 << 20).to_be_bytes());
        assert_eq!(&bytes[56..60], &[0, 120, 4, 17]);
        assert_eq!(&bytes[60..64], &2u32.to_be_bytes());
        assert_eq!(&bytes[68..70], &[0xe7, 0xea]);
        assert!(bytes[84..].iter().all(|b| *b == 0));
    }
}
