//! What lies on disk: the sparse extent header and the markers of stream-optimized extents.
//!
//! Source: VMware "Virtual Disk Format 5.0" (hosted sparse extents, stream-optimized compressed
//! sparse extents), corrected by what qemu, VirtualBox and open-vmdk write.

use crate::{Error, ErrorKind, Result, limits, units::Sectors};
use binrw::{BinRead, BinWrite};
use std::io::Cursor;

/// First bytes of a sparse extent.
pub(super) const MAGIC: &[u8; 4] = b"KDMV";
/// The same, as open-vmdk writes it into a file that is not finished.
pub(super) const MAGIC_UNFINISHED: &[u8; 4] = b"kdmv";

/// Header flag: the newline bytes are valid.
pub(super) const FLAG_NEWLINES: u32 = 1;
/// Header flag: there is a second grain directory with its own tables.
pub(super) const FLAG_REDUNDANT: u32 = 1 << 1;
/// Header flag: a table entry of 1 is a grain of zeros.
pub(super) const FLAG_ZERO_GRAINS: u32 = 1 << 2;
/// Header flag: grains are compressed.
pub(super) const FLAG_COMPRESSED: u32 = 1 << 16;
/// Header flag: each grain and table is preceded by a marker.
pub(super) const FLAG_MARKERS: u32 = 1 << 17;

/// `gd_offset` of a stream whose directory is named by the footer.
pub(super) const GD_AT_END: u64 = u64::MAX;
/// Bytes that a text-mode transfer changes.
pub(super) const NEWLINES: [u8; 4] = *b"\n \r\n";
/// Entries of a grain table, in every file that has been seen.
pub(super) const GTES_PER_GT: u32 = 512;

/// Marker type: end of stream.
pub(super) const MARKER_END: u32 = 0;
/// Marker type: a grain table follows.
pub(super) const MARKER_TABLE: u32 = 1;
/// Marker type: the grain directory follows.
pub(super) const MARKER_DIRECTORY: u32 = 2;
/// Marker type: the footer follows.
pub(super) const MARKER_FOOTER: u32 = 3;

/// The header of a sparse extent, 512 bytes at its start; the footer of a stream is a copy.
#[derive(Clone, Debug, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little, magic = b"KDMV")]
pub(super) struct SparseHeader {
    pub(super) version: u32,
    pub(super) flags: u32,
    /// Sectors.
    pub(super) capacity: u64,
    /// Sectors.
    pub(super) grain_size: u64,
    /// Sector; 0 if there is no descriptor inside.
    pub(super) descriptor_offset: u64,
    /// Sectors.
    pub(super) descriptor_size: u64,
    pub(super) gtes_per_gt: u32,
    /// Sector.
    pub(super) rgd_offset: u64,
    /// Sector, or [`GD_AT_END`].
    pub(super) gd_offset: u64,
    /// Sectors before the first grain.
    pub(super) overhead: u64,
    pub(super) unclean_shutdown: u8,
    pub(super) newlines: [u8; 4],
    #[brw(pad_after = 433)]
    pub(super) compression: u16,
}

impl SparseHeader {
    /// Parses and checks a header.
    pub(super) fn parse(part: &'static str, bytes: &[u8]) -> Result<Self> {
        let header = Self::unchecked(part, bytes)?;
        header.check(part)?;
        Ok(header)
    }

    /// Parses a header whose fields may be anything.
    pub(super) fn unchecked(part: &'static str, bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(MAGIC_UNFINISHED) {
            let detail = "is marked as unfinished: the program that wrote it was interrupted";
            return Err(Error::corrupt(part, detail));
        }
        Self::read(&mut Cursor::new(bytes))
            .map_err(|e| Error::corrupt(part, "is not a VMDK header").because(e))
    }

    /// Checks what reading depends on.
    pub(super) fn check(&self, part: &'static str) -> Result<()> {
        let unsupported = |detail: String| Err(Error::new(ErrorKind::Unsupported, part, detail));
        let corrupt = |detail: String| Err(Error::corrupt(part, detail));
        if !(1..=3).contains(&self.version) {
            return unsupported(format!("has version {}; known are 1 to 3", self.version));
        }
        let unknown = self.flags & 0xffff_0000 & !(FLAG_COMPRESSED | FLAG_MARKERS);
        if unknown != 0 {
            return unsupported(format!("has unknown incompatible flags {unknown:#x}"));
        }
        if self.flags & FLAG_NEWLINES != 0 && self.newlines != NEWLINES {
            return corrupt("was damaged by a text-mode transfer (newline bytes changed)".into());
        }
        if self.has(FLAG_MARKERS) && !self.has(FLAG_COMPRESSED) {
            return corrupt("has markers but no compressed grains".into());
        }
        if self.has(FLAG_COMPRESSED) && self.compression != 1 {
            return unsupported(format!("has unknown compression {}", self.compression));
        }
        let grain = self.grain_size;
        if !grain.is_power_of_two() || Sectors(grain).bytes().is_ok_and(|g| g > limits::GRAIN) {
            return corrupt(format!("has a grain size of {grain} sectors"));
        }
        if self.gtes_per_gt == 0 || self.gtes_per_gt > GTES_PER_GT {
            return corrupt(format!("has {} entries per grain table", self.gtes_per_gt));
        }
        match Sectors(self.capacity).bytes() {
            Ok(bytes) if bytes <= limits::DISK_SIZE => Ok(()),
            _ => corrupt(format!("has a capacity of {} sectors", self.capacity)),
        }
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The 512 bytes to write.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::with_capacity(512));
        self.write(&mut out)
            .map_err(|e| Error::new(ErrorKind::Io, "header", e.to_string()))?;
        Ok(out.into_inner())
    }
}

/// What precedes a compressed grain, or (with `size` 0) a table, the directory or the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BinRead, BinWrite)]
#[brw(little)]
pub(super) struct Marker {
    /// Of a grain: its first sector on the disk. Of metadata: its sectors in the file.
    pub(super) value: u64,
    /// Bytes of a compressed grain; 0 for metadata.
    pub(super) size: u32,
    /// Only for metadata: a `MARKER_` constant.
    #[br(if(size == 0))]
    #[bw(if(*size == 0))]
    pub(super) kind: u32,
}

/// Bytes of the marker of a grain; its data follow directly.
pub(super) const GRAIN_MARKER: usize = 12;

impl Marker {
    /// A metadata marker as the 512 bytes to write.
    pub(super) fn sector(kind: u32, sectors: u64) -> Result<Vec<u8>> {
        let marker = Self {
            value: sectors,
            size: 0,
            kind,
        };
        let mut bytes = marker.bytes()?;
        bytes.resize(512, 0);
        Ok(bytes)
    }

    /// The marker as bytes, without what follows it.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::with_capacity(16));
        self.write(&mut out)
            .map_err(|e| Error::new(ErrorKind::Io, "marker", e.to_string()))?;
        Ok(out.into_inner())
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        Self::read(&mut Cursor::new(bytes))
            .map_err(|e| Error::corrupt("marker", "is cut short").because(e))
    }
}

/// Little-endian table entries from their bytes.
pub(super) fn entries(bytes: &[u8]) -> Vec<u32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|entry| u32::from_le_bytes(*entry))
        .collect()
}

/// Table entries as bytes.
pub(super) fn entry_bytes(entries: &[u32]) -> Vec<u8> {
    entries.iter().flat_map(|e| e.to_le_bytes()).collect()
}
