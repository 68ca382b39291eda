//! Starts images of all three kinds, and writes those with blocks.
//!
//! The layout is that of Windows, down to the alignment of blocks, because the readers of this
//! format were tested against little else.

use super::{
    bat::{SMALLEST_BLOCK, UNUSED},
    bitmap::set_bits,
    disk_structs::{
        DIFFERENCING, DYNAMIC, DynamicHeader, FEATURE_RESERVED, FIXED, FOOTER_LEN, Footer,
        HEADER_LEN, LocatorEntry, NO_OFFSET, VERSION,
    },
    fixed::FixedWriter,
    geometry::geometry,
    locator,
};
use crate::{
    Error, ErrorKind, Identity, ImageWriter, Result,
    format::{ParentSpec, Spec},
    limits,
    target::Target,
    units::{FileOffset, SECTOR, Sectors, buffer_len, round_up},
};
use std::ops::Range;

/// Bytes of a block, if none are asked for: the specification's default, and the most that
/// XenServer accepts.
const BLOCK: u64 = 2 << 20;
/// What file systems keep holes in, and disks sectors: data of a block start at a multiple.
pub(crate) const ALIGNMENT: u64 = 4096;
/// Most bytes of a disk with blocks: what Windows and qemu accept.
pub(crate) const MOST: u64 = 2040 << 30;
/// 2000-01-01 00:00:00 UTC, in seconds since 1970.
const EPOCH: u64 = 946_684_800;

/// Starts an image of the disk type `kind`.
pub(crate) fn create<'a>(
    target: &'a mut dyn Target,
    spec: &Spec<'_>,
    kind: u32,
) -> Result<Box<dyn ImageWriter + 'a>> {
    let usage = |part: &'static str, detail: &str| Err(Error::new(ErrorKind::Usage, part, detail));
    if !spec.size.is_multiple_of(SECTOR) {
        return usage("virtual size", "is not a whole number of sectors");
    }
    match (kind, &spec.parent) {
        (DIFFERENCING, None) => return usage("parent", "a differencing VHD needs a parent"),
        (FIXED | DYNAMIC, Some(_)) => {
            return usage("parent", "only a differencing VHD can have a parent");
        }
        _ => {}
    }
    let footer = footer(spec, kind).to_bytes()?;
    match kind {
        FIXED => Ok(Box::new(FixedWriter::new(target, spec.size, footer))),
        _ => Ok(Box::new(Blocks::new(target, spec, footer)?)),
    }
}

fn footer(spec: &Spec<'_>, kind: u32) -> Footer {
    Footer {
        features: FEATURE_RESERVED,
        version: VERSION,
        data_offset: match kind {
            FIXED => NO_OFFSET,
            _ => FOOTER_LEN as u64,
        },
        timestamp: timestamp(spec.ids.created),
        // qemu before 10.0 believes the size only of a few creators, Windows among them; the disks
        // of all others it cuts to what the geometry multiplies to.
        creator_app: *b"win ",
        creator_version: 0x000a_0000,
        creator_os: *b"Wi2k",
        original_size: spec.size,
        current_size: spec.size,
        geometry: geometry(spec.size),
        disk_type: kind,
        checksum: 0,
        uuid: spec.ids.uuid,
        saved_state: 0,
        hidden: 0,
    }
}

/// Seconds since 1970 of a time of the format; `None` if it is not set.
pub(crate) fn unix_time(timestamp: u32) -> Option<u64> {
    (timestamp != 0).then(|| EPOCH.saturating_add(timestamp.into()))
}

/// Seconds since 1970 as the format counts them, as far as it can.
pub(crate) fn timestamp(unix: u64) -> u32 {
    u32::try_from(unix.saturating_sub(EPOCH)).unwrap_or(u32::MAX)
}

/// Bytes of a block of the image that `spec` wants.
fn block_size(spec: &Spec<'_>) -> Result<u64> {
    let size = spec.options.block_size.unwrap_or(BLOCK);
    let (least, most) = (u64::from(SMALLEST_BLOCK), u64::from(limits::BLOCK));
    if !size.is_power_of_two() || !(least..=most).contains(&size) {
        let detail = format!("is {size} bytes; a VHD takes a power of two from {least} to {most}");
        return Err(Error::new(ErrorKind::Usage, "block size", detail));
    }
    let blocks = spec.size.div_ceil(size);
    if blocks > limits::BAT_ENTRIES.into() {
        let detail = format!(
            "of {size} bytes gives {blocks} blocks; at most {} are accepted",
            limits::BAT_ENTRIES
        );
        return Err(Error::new(ErrorKind::Usage, "block size", detail));
    }
    Ok(size)
}

/// Bytes of the bitmap of a block of `block_size`.
fn bitmap_len(block_size: u64) -> u64 {
    round_up(Sectors::holding(block_size).0.div_ceil(8), SECTOR)
}

/// A dynamic or differencing disk: blocks in the order of the disk, the table at the end.
struct Blocks<'a> {
    target: &'a mut dyn Target,
    footer: Vec<u8>,
    header: DynamicHeader,
    /// Data of the parent locators, which follow the header.
    locators: Vec<u8>,
    /// A block of a child takes only the sectors it was given; of a base, all.
    child: bool,
    entries: Vec<u32>,
    /// Bytes of a block, and of the bitmap before it.
    block_size: u64,
    bitmap_len: u64,
    current: Option<Block>,
    /// Where the file ends so far.
    end: u64,
}

/// The block being written. Positions are those of the file.
struct Block {
    number: u64,
    data: u64,
    bitmap: Vec<u8>,
}

impl<'a> Blocks<'a> {
    fn new(target: &'a mut dyn Target, spec: &Spec<'_>, footer: Vec<u8>) -> Result<Self> {
        if spec.size > MOST {
            let detail = format!(
                "{} bytes are more than a VHD with blocks holds, which is 2040 GiB",
                spec.size
            );
            return Err(Error::new(ErrorKind::Unsupported, "virtual size", detail));
        }
        let block_size = block_size(spec)?;
        let locators_at = FOOTER_LEN.saturating_add(HEADER_LEN) as u64;
        let parent = match &spec.parent {
            Some(parent) => Some((parent, locator::encode(parent, locators_at)?)),
            None => None,
        };
        let (uuid, modified) = match &parent {
            Some((parent, _)) => (parent_uuid(parent)?, timestamp(parent.modified)),
            None => ([0; 16], 0),
        };
        let child = parent.is_some();
        let (parent_name, locator_entries, locators) = match parent {
            Some((_, encoded)) => (encoded.name, encoded.entries, encoded.data),
            None => ([0; 256], [LocatorEntry::default(); 8], Vec::new()),
        };
        let count = spec.size.div_ceil(block_size);
        let table_offset = locators_at.saturating_add(locators.len() as u64);
        let table_len = round_up(count.saturating_mul(4), SECTOR);
        let header = DynamicHeader {
            data_offset: NO_OFFSET,
            table_offset,
            version: VERSION,
            max_table_entries: u32::try_from(count).unwrap_or(u32::MAX),
            block_size: u32::try_from(block_size).unwrap_or(u32::MAX),
            checksum: 0,
            parent_uuid: uuid,
            parent_timestamp: modified,
            parent_name,
            locators: locator_entries,
        };
        Ok(Self {
            target,
            footer,
            header,
            locators,
            child,
            // The sector that the table ends in is filled up with unused entries.
            entries: vec![UNUSED; buffer_len(table_len / 4)?],
            block_size,
            bitmap_len: bitmap_len(block_size),
            current: None,
            end: table_offset.saturating_add(table_len),
        })
    }

    /// Makes `number` the current block, which it is already or which comes after it.
    fn enter(&mut self, number: u64) -> Result<&mut Block> {
        if self.current.as_ref().is_none_or(|b| b.number != number) {
            self.leave()?;
            // Aligned are the data, not the bitmap before them.
            let data = round_up(FileOffset(self.end).plus(self.bitmap_len)?.0, ALIGNMENT);
            let sector = data.saturating_sub(self.bitmap_len) / SECTOR;
            let sector = u32::try_from(sector).ok().filter(|s| *s != UNUSED);
            let entry = usize::try_from(number)
                .ok()
                .and_then(|n| self.entries.get_mut(n));
            let (Some(sector), Some(entry)) = (sector, entry) else {
                let detail = format!("has no room for block {number}");
                return Err(Error::new(
                    ErrorKind::Limit,
                    "block allocation table",
                    detail,
                ));
            };
            *entry = sector;
            self.end = FileOffset(data).plus(self.block_size)?.0;
            let bits = if self.child { 0 } else { 0xff };
            self.current = Some(Block {
                number,
                data,
                bitmap: vec![bits; buffer_len(self.bitmap_len)?],
            });
        }
        self.current
            .as_mut()
            .ok_or_else(|| Error::new(ErrorKind::Usage, "write", "no block was begun"))
    }

    /// Writes the bitmap of the current block, which is complete.
    fn leave(&mut self) -> Result<()> {
        match self.current.take() {
            Some(block) => {
                let at = block.data.saturating_sub(self.bitmap_len);
                self.target.write_at(at, &block.bitmap)
            }
            None => Ok(()),
        }
    }

    /// Records `range`, with these bytes or, without any, as zero.
    fn record(&mut self, range: Range<u64>, mut bytes: Option<&[u8]>) -> Result<()> {
        let mut pos = range.start;
        while pos < range.end {
            let inside = pos & self.block_size.saturating_sub(1); // a power of two
            let len = self
                .block_size
                .saturating_sub(inside)
                .min(range.end.saturating_sub(pos));
            let block = self.enter(pos.checked_div(self.block_size).unwrap_or(0))?;
            let end = inside.saturating_add(len);
            set_bits(&mut block.bitmap, inside / SECTOR..end.div_ceil(SECTOR));
            let at = FileOffset(block.data).plus(inside)?;
            if let Some(all) = bytes {
                let (part, rest) = all
                    .split_at_checked(buffer_len(len)?)
                    .ok_or_else(|| Error::new(ErrorKind::Usage, "write", "has too few bytes"))?;
                self.target.write_at(at.0, part)?;
                bytes = Some(rest);
            }
            pos = pos.saturating_add(len);
        }
        Ok(())
    }
}

impl ImageWriter for Blocks<'_> {
    fn unit(&self) -> u64 {
        // Not single sectors: libvhdi takes all bits of a bitmap byte after the first set one for
        // set, so a child's bitmap has only full and empty bytes.
        ALIGNMENT
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.record(range, Some(bytes))
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        // What a base does not record is zero; a child must hide what its parent holds.
        match self.child {
            true => self.record(range, None),
            false => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.leave()?;
        let table: Vec<u8> = self.entries.iter().flat_map(|e| e.to_be_bytes()).collect();
        let mut head = self.footer.clone();
        head.extend(self.header.to_bytes()?);
        head.extend(&self.locators);
        head.extend(table);
        self.target.write_at(0, &head)?;
        self.target.write_at(self.end, &self.footer)?;
        self.target.set_size(FileOffset(self.end).plus(SECTOR)?.0)
    }
}

/// The unique ID by which a child knows `parent`; all zero for a raw parent, as XenServer does.
pub(crate) fn parent_uuid(parent: &ParentSpec) -> Result<[u8; 16]> {
    let detail = match parent.identity {
        None => return Ok([0; 16]),
        Some(Identity::Uuid(uuid)) if uuid != [0; 16] => return Ok(uuid),
        Some(Identity::Uuid(_)) => {
            "has no unique ID, so a VHD child could not tell it from another"
        }
        Some(Identity::Cid(_) | Identity::Linkage(_) | Identity::Vdi { .. }) => {
            "a VHD child needs a VHD or raw parent"
        }
    };
    Err(Error::new(ErrorKind::Usage, "parent", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_the_format_are_cut() {
        assert_eq!(timestamp(0), 0);
        assert_eq!(timestamp(EPOCH + 5), 5);
        assert_eq!(timestamp(u64::MAX), u32::MAX);
    }
}
