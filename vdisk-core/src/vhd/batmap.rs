//! The batmap: XenServer's note of the blocks that keep all of their sectors.
//!
//! It only saves XenServer from reading bitmaps, so it is not needed to read an image. But one that
//! is wrong makes XenServer read other contents than everybody else.
//!
//! Not in the specification; the facts are from the source of blktap.

use super::disk_structs::{DynamicHeader, Footer};
use crate::{
    Result,
    storage::ImageFile,
    units::{SECTOR, Sectors, round_up},
};
use binrw::{BinRead, binrw};
use std::io::Cursor;

/// The newest version that is known.
pub(crate) const NEWEST: u32 = 0x0001_0002;
/// The version whose checksum takes bytes as signed.
const SIGNED: u32 = 0x0001_0001;
/// Bytes read at once.
const PIECE: u64 = 64 << 10;

/// The header of the batmap, in the sector after the block allocation table.
#[binrw]
#[brw(big, magic = b"tdbatmap")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batmap {
    /// Where the bits are.
    pub(crate) map_offset: u64,
    /// Sectors of the bits.
    pub(crate) sectors: u32,
    /// 1.1 or 1.2, as 16 bits each.
    pub(crate) version: u32,
    /// One's complement of the sum of all bytes of the bits.
    pub(crate) checksum: u32,
}

/// Where the header of a batmap would be.
pub(crate) fn place(header: &DynamicHeader) -> u64 {
    let len = u64::from(header.max_table_entries).saturating_mul(4);
    let end = header.table_offset.saturating_add(len);
    // Not beyond the largest position, which no file has.
    round_up(end.min(u64::MAX - SECTOR), SECTOR)
}

/// The batmap of an image by a creator that writes one, if it is there.
pub(crate) fn read(
    file: &ImageFile,
    footer: &Footer,
    header: &DynamicHeader,
) -> Result<Option<Batmap>> {
    let at = place(header);
    let inside = at.checked_add(SECTOR).is_some_and(|end| end <= file.size);
    if !footer.is_xen() || footer.is_first_xen() || !inside {
        return Ok(None);
    }
    let bytes = file.read_part("batmap", at, SECTOR)?;
    Ok(Batmap::read(&mut Cursor::new(bytes)).ok())
}

impl Batmap {
    /// Where the bits end; none if that is not in `file`.
    pub(crate) fn end(&self, file: &ImageFile) -> Option<u64> {
        let len = Sectors(self.sectors.into()).bytes().ok()?;
        let end = self.map_offset.checked_add(len)?;
        (end <= file.size).then_some(end)
    }

    /// The sum that the checksum field must have; the bits must lie in `file`.
    pub(crate) fn sum(&self, file: &ImageFile) -> Result<u32> {
        let end = self.end(file).unwrap_or(self.map_offset);
        let (mut at, mut sum) = (self.map_offset, 0u32);
        while at < end {
            let len = end.saturating_sub(at).min(PIECE);
            for byte in file.read_part("batmap", at, len)? {
                sum = sum.wrapping_add(match self.version {
                    SIGNED => i32::from(byte.cast_signed()).cast_unsigned(),
                    _ => u32::from(byte),
                });
            }
            at = at.saturating_add(len);
        }
        Ok(!sum)
    }

    /// True if `block` is said to keep all of its sectors.
    pub(crate) fn has(&self, file: &ImageFile, block: u64) -> Result<bool> {
        let bits = self.bits(file, block / (SECTOR * 8))?;
        let byte = usize::try_from(block % (SECTOR * 8) / 8).unwrap_or(usize::MAX);
        Ok(bits.get(byte).copied().unwrap_or(0) & (0x80 >> (block % 8)) != 0)
    }

    /// Sector `number` of the bits, the highest bit of each byte first; empty past their end.
    pub(crate) fn bits(&self, file: &ImageFile, number: u64) -> Result<Vec<u8>> {
        let at = self
            .map_offset
            .saturating_add(number.saturating_mul(SECTOR));
        match self.end(file) {
            Some(end) if at < end => file.read_part("batmap", at, SECTOR),
            _ => Ok(Vec::new()),
        }
    }
}
