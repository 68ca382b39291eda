//! The two headers of a seSparse extent, in which ESX 6.5 and later keep redo logs.
//!
//! VMware never published this format. Source: what the readers of qemu, Xen Orchestra and dissect
//! agree on. What they check to be zero is checked here too, because nobody knows what else it
//! would mean.

use crate::{Error, ErrorKind, Result, limits, units::Sectors};
use binrw::BinRead;
use std::io::Cursor;

/// First bytes of a seSparse extent.
pub(super) const SESPARSE_MAGIC: &[u8; 8] = b"\xbe\xba\xfe\xca\0\0\0\0";
/// Sectors of a grain.
pub(super) const GRAIN_SECTORS: u64 = 8;
/// Sectors of a grain table.
pub(super) const TABLE_SECTORS: u64 = 64;
/// Entries of a grain table, 8 bytes each.
pub(super) const TABLE_ENTRIES: u64 = 4096;

/// The version that is known: 2.1.
const VERSION: u64 = 0x2_0000_0001;

/// A part of the file: first sector and number of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BinRead)]
#[br(little)]
pub(super) struct Area {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The header that never changes, the first 512 bytes of the extent.
#[derive(Clone, Debug, PartialEq, Eq, BinRead)]
#[br(little, magic = b"\xbe\xba\xfe\xca\0\0\0\0")]
pub(super) struct ConstHeader {
    pub(super) version: u64,
    /// Sectors.
    pub(super) capacity: u64,
    /// Sectors; 8 in every known file.
    pub(super) grain_size: u64,
    /// Sectors; 64 in every known file.
    pub(super) grain_table_size: u64,
    pub(super) flags: u64,
    pub(super) reserved: [u64; 4],
    pub(super) volatile_header: Area,
    pub(super) journal_header: Area,
    pub(super) journal: Area,
    pub(super) grain_directory: Area,
    pub(super) grain_tables: Area,
    pub(super) free_bitmap: Area,
    pub(super) backmap: Area,
    pub(super) grains: Area,
}

impl ConstHeader {
    /// Parses and checks the header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let header = Self::read(&mut Cursor::new(bytes))
            .map_err(|e| Error::corrupt("header", "is not a seSparse header").because(e))?;
        let unsupported =
            |detail: String| Err(Error::new(ErrorKind::Unsupported, "header", detail));
        if header.version != VERSION {
            return unsupported(format!(
                "has version {:#x}; known is {VERSION:#x}",
                header.version
            ));
        }
        if header.flags != 0 || header.reserved != [0; 4] {
            return unsupported("has flags or reserved fields that are not known".to_owned());
        }
        if header.grain_size != GRAIN_SECTORS || header.grain_table_size != TABLE_SECTORS {
            return unsupported(format!(
                "has grains of {} and grain tables of {} sectors; known are {GRAIN_SECTORS} and {TABLE_SECTORS}",
                header.grain_size, header.grain_table_size
            ));
        }
        match Sectors(header.capacity).bytes() {
            Ok(bytes) if bytes <= limits::DISK_SIZE => {}
            _ => {
                let detail = format!("has a capacity of {} sectors", header.capacity);
                return Err(Error::corrupt("header", detail));
            }
        }
        let held = header.grain_directory.size.saturating_mul(64); // entries in a sector
        if held < header.tables() {
            let detail = format!(
                "has room for {held} grain tables; {} sectors need {}",
                header.capacity,
                header.tables()
            );
            return Err(Error::corrupt("header", detail));
        }
        Ok(header)
    }

    /// Grain tables that the disk needs, if all of it is allocated.
    pub(super) fn tables(&self) -> u64 {
        let covers = GRAIN_SECTORS.saturating_mul(TABLE_ENTRIES);
        self.capacity.div_ceil(covers)
    }
}

/// The header that changes with each transaction.
#[derive(Clone, Debug, PartialEq, Eq, BinRead)]
#[br(little, magic = b"\xfe\xca\xfe\xca\0\0\0\0")]
pub(super) struct VolatileHeader {
    pub(super) free_grain_table: u64,
    pub(super) next_transaction: u64,
    /// Not 0 if the journal holds what the tables do not yet.
    pub(super) replay_journal: u64,
}

impl VolatileHeader {
    /// Parses the header; one whose journal must be replayed first is refused.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let part = "volatile header";
        let header = Self::read(&mut Cursor::new(bytes))
            .map_err(|e| Error::corrupt(part, "is not a seSparse volatile header").because(e))?;
        if header.replay_journal != 0 {
            let detail = "says that the journal must be replayed, which only ESX can: the disk was not closed";
            return Err(Error::new(ErrorKind::Unsupported, part, detail));
        }
        Ok(header)
    }
}
