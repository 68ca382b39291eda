//! Writes streamOptimized, front to back, in the order of the specification.
//!
//! Header, descriptor, compressed grains in ascending order, each grain table after its grains,
//! then directory, footer and end marker. ESXi wants exactly this, in header version 3. A child is
//! written so to be carried elsewhere as a difference; other programs look for no parent of it.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sizes are ours, and far below 2^64"
)]

use super::{
    descriptor_text::{DESCRIPTOR_SECTORS, embedded},
    disk_structs::{
        FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, GD_AT_END, GTES_PER_GT, MARKER_DIRECTORY,
        MARKER_END, MARKER_FOOTER, MARKER_TABLE, Marker, NEWLINES, SparseHeader, entry_bytes,
    },
    sparse_writer::{GRAIN, GRAIN_SECTORS, TABLE_COVERS},
};
use crate::{
    Error, ErrorKind, ImageWriter, Packing, Result,
    format::Spec,
    ops::convert::deflate,
    target::Target,
    units::{SECTOR, Sectors, buffer_len, round_up},
};
use std::ops::Range;

/// Grains start here, in sectors: one grain for header and descriptor, as VMware does.
const OVERHEAD: u64 = 128;
/// Bytes collected before they are written.
const BUFFER: usize = 1 << 20;

/// See the module.
pub(crate) struct StreamWriter<T> {
    target: T,
    header: SparseHeader,
    level: u32,
    child: bool,
    /// A grain of zeros, packed, once one was needed.
    zeros: Vec<u8>,
    /// Bytes for the file from `flushed` on.
    buffer: Vec<u8>,
    flushed: u64,
    directory: Vec<u32>,
    /// The table being filled, and its number.
    table: Vec<u32>,
    number: u64,
}

impl<T: Target> StreamWriter<T> {
    pub(crate) fn new(target: T, spec: &Spec<'_>) -> Result<Self> {
        let header = SparseHeader {
            version: 3,
            flags: FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS,
            capacity: spec.size / SECTOR,
            grain_size: GRAIN_SECTORS,
            descriptor_offset: 1,
            descriptor_size: DESCRIPTOR_SECTORS,
            gtes_per_gt: GTES_PER_GT,
            rgd_offset: 0,
            gd_offset: GD_AT_END,
            overhead: OVERHEAD,
            unclean_shutdown: 0,
            newlines: NEWLINES,
            compression: 1,
        };
        let mut buffer = header.bytes()?;
        buffer.extend(embedded(spec)?);
        buffer.resize(buffer_len(Sectors(OVERHEAD).bytes()?)?, 0);
        Ok(Self {
            target,
            header,
            level: spec.level,
            child: spec.parent.is_some(),
            zeros: Vec::new(),
            buffer,
            flushed: 0,
            directory: vec![0; buffer_len(spec.size.div_ceil(TABLE_COVERS))?],
            table: Vec::new(),
            number: 0,
        })
    }

    /// The sector that comes next. Everything appended is whole sectors.
    fn sector(&self) -> Result<u32> {
        u32::try_from((self.flushed + self.buffer.len() as u64) / SECTOR).map_err(|_| {
            let detail = "has more than 2 TiB, which one sparse extent cannot hold";
            Error::new(ErrorKind::Unsupported, "image", detail)
        })
    }

    /// Appends `bytes` and fills their last sector.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.fill_sector()
    }

    fn fill_sector(&mut self) -> Result<()> {
        let whole = round_up(self.buffer.len() as u64, SECTOR);
        self.buffer.resize(buffer_len(whole)?, 0);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.target.write_at(self.flushed, &self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Appends metadata behind their marker; returns their sector.
    fn append_metadata(&mut self, kind: u32, bytes: &[u8]) -> Result<u32> {
        let marker = Marker::sector(kind, Sectors::holding(bytes.len() as u64).0)?;
        self.append(&marker)?;
        let sector = self.sector()?;
        self.append(bytes)?;
        Ok(sector)
    }

    fn write_table(&mut self) -> Result<()> {
        if self.table.is_empty() {
            return Ok(());
        }
        let bytes = entry_bytes(&self.table);
        self.table.clear();
        let sector = self.append_metadata(MARKER_TABLE, &bytes)?;
        if let Some(entry) = self.directory.get_mut(buffer_len(self.number)?) {
            *entry = sector;
        }
        Ok(())
    }

    /// Writes what remains, and gives the target back.
    pub(crate) fn complete(mut self) -> Result<T> {
        self.write_table()?;
        let directory = entry_bytes(&self.directory);
        let sector = self.append_metadata(MARKER_DIRECTORY, &directory)?;
        let footer = SparseHeader {
            gd_offset: u64::from(sector),
            ..self.header.clone()
        };
        self.append_metadata(MARKER_FOOTER, &footer.bytes()?)?;
        self.append(&Marker::sector(MARKER_END, 0)?)?;
        self.flush()?;
        let end = self.flushed;
        self.target.set_size(end)?;
        Ok(self.target)
    }
}

impl<T: Target> ImageWriter for StreamWriter<T> {
    fn unit(&self) -> u64 {
        GRAIN
    }

    fn packing(&self) -> Packing {
        Packing::Deflate(self.level)
    }

    fn data(&mut self, range: Range<u64>, packed: &[u8]) -> Result<()> {
        let table = range.start / TABLE_COVERS;
        if table != self.number || self.table.is_empty() {
            self.write_table()?;
            self.number = table;
            self.table = vec![0; GTES_PER_GT as usize];
        }
        let sector = self.sector()?;
        let entry = buffer_len(range.start % TABLE_COVERS / GRAIN)?;
        if let Some(entry) = self.table.get_mut(entry) {
            *entry = sector;
        }
        let size = u32::try_from(packed.len())
            .map_err(|_| Error::new(ErrorKind::Usage, "grain", "is too large"))?;
        let marker = Marker {
            value: range.start / SECTOR,
            size,
            kind: 0,
        };
        self.buffer.extend(marker.bytes()?);
        self.append(packed)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        if !self.child {
            return Ok(()); // what is not recorded reads as zero
        }
        // Zeros must hide the parent: they are grains like others.
        let mut zeros = std::mem::take(&mut self.zeros);
        let mut pos = range.start;
        while pos < range.end {
            let end = range.end.min(pos + GRAIN);
            if end - pos < GRAIN || zeros.is_empty() {
                zeros.clear();
                deflate(&vec![0; buffer_len(end - pos)?], self.level, &mut zeros)?;
            }
            self.data(pos..end, &zeros)?;
            pos = end;
        }
        // Only the last grain of a disk is shorter, and nothing follows it.
        self.zeros = zeros;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.complete().map(drop)
    }
}
