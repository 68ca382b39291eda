//! The header of a vmfsSparse extent ("COWD"), in which ESX keeps redo logs on VMFS.
//!
//! Apart from the hosted sparse header, with which it shares ideas but no field. Source: VMware
//! "Virtual Disk Format 5.0" (ESX Server sparse extents).

use crate::{
    Error, ErrorKind, Result, limits,
    units::{SECTOR, Sectors},
};
use binrw::{BinRead, BinWrite};
use std::io::Cursor;

/// First bytes of a vmfsSparse extent.
pub(super) const COWD_MAGIC: &[u8; 4] = b"COWD";
/// Bytes of the header: four sectors.
pub(super) const COWD_HEADER: u64 = 2048;
/// Where the number of the first free sector lies.
pub(super) const FREE_SECTOR_AT: u64 = 28;
/// Entries of a grain table; one is allocated when its first grain is.
pub(super) const COWD_GTES_PER_GT: u32 = 4096;

/// The header, 2048 bytes at the start of the extent.
#[derive(Clone, Debug, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"COWD")]
pub(super) struct CowdHeader {
    pub(super) version: u32,
    /// Bit 0 root disk, bit 1 can be checked, bit 2 is inconsistent. Redo logs, too, have 3.
    pub(super) flags: u32,
    /// Sectors of the disk that the extent holds.
    pub(super) capacity: u32,
    /// Sectors.
    pub(super) grain_size: u32,
    /// Sector.
    pub(super) gd_offset: u32,
    pub(super) gd_entries: u32,
    /// First sector that nothing occupies.
    pub(super) free_sector: u32,
    /// A root's geometry or a child's parent: 1024 bytes of name and a generation. Unused today.
    pub(super) origin: [u8; 1028],
    pub(super) generation: u32,
    pub(super) name: [u8; 60],
    pub(super) description: [u8; 512],
    #[brw(pad_after = 8)]
    pub(super) saved_generation: u32,
    #[brw(pad_after = 396)]
    pub(super) unclean_shutdown: u32,
}

impl CowdHeader {
    /// Parses and checks a header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let header = Self::read(&mut Cursor::new(bytes))
            .map_err(|e| Error::corrupt("header", "is not a vmfsSparse header").because(e))?;
        let corrupt = |detail: String| Err(Error::corrupt("header", detail));
        if header.version != 1 {
            let detail = format!("has version {}; known is 1", header.version);
            return Err(Error::new(ErrorKind::Unsupported, "header", detail));
        }
        let grain = u64::from(header.grain_size);
        if !grain.is_power_of_two() || Sectors(grain).bytes()? > limits::GRAIN {
            return corrupt(format!("has a grain size of {grain} sectors"));
        }
        let covers = grain.saturating_mul(u64::from(COWD_GTES_PER_GT));
        let needed = u64::from(header.capacity).div_ceil(covers);
        if u64::from(header.gd_entries) < needed {
            return corrupt(format!(
                "has a grain directory of {} entries; {} sectors need {needed}",
                header.gd_entries, header.capacity
            ));
        }
        if u64::from(header.gd_offset) < COWD_HEADER / SECTOR {
            return corrupt(format!(
                "has its grain directory in sector {}, inside the header",
                header.gd_offset
            ));
        }
        Ok(header)
    }

    /// The bytes to write.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::new());
        self.write(&mut out)
            .map_err(|e| Error::new(ErrorKind::Io, "header", e.to_string()))?;
        Ok(out.into_inner())
    }
}
