//! Reads compressed grains: from the marker before one to its bytes on the disk.
//!
//! Apart from the tables, because only streamOptimized extents have such grains.

use super::disk_structs::{GRAIN_MARKER, Marker};
use super::inflate::{WORK, inflate};
use super::opening::{Opening, key};
use crate::{
    Error, Result,
    cache::Cache,
    storage::ImageFile,
    units::{FileOffset, SECTOR, buffer_len},
};
use std::{num::NonZeroU64, sync::Arc};

/// The compressed grains of one extent.
pub(super) struct PackedGrains {
    file: ImageFile,
    /// Number of the file in the image.
    index: usize,
    /// Bytes of a grain.
    grain: NonZeroU64,
    /// Bytes of the disk that the extent holds.
    size: u64,
    /// A grain begins with its place on the disk, not with its length alone.
    markers: bool,
    kept: Arc<Cache<Vec<u8>>>,
}

impl PackedGrains {
    pub(super) fn new(
        file: ImageFile,
        index: usize,
        grain: NonZeroU64,
        size: u64,
        markers: bool,
        opening: &Opening,
    ) -> Self {
        Self {
            file,
            index,
            grain,
            size,
            markers,
            kept: Arc::clone(&opening.grains),
        }
    }

    /// Inflates from `pos` of the extent into `buf`, which stays inside the grain stored at `at`.
    pub(super) fn unpack(&self, pos: u64, at: FileOffset, buf: &mut [u8]) -> Result<()> {
        let grain = pos / self.grain;
        let start = grain.saturating_mul(self.grain.get());
        let valid = self.grain.get().min(self.size.saturating_sub(start));
        if pos == start && buf.len() as u64 == valid {
            return self.inflate(grain, at, buf);
        }
        let bytes = self.kept.get(key(self.index, grain), || {
            let mut bytes = vec![0; buffer_len(valid)?];
            self.inflate(grain, at, &mut bytes)?;
            Ok(bytes)
        })?;
        let first = buffer_len(pos.saturating_sub(start))?;
        let found = bytes
            .get(first..first.saturating_add(buf.len()))
            .ok_or_else(|| Error::corrupt("grain", "is too short"))?;
        buf.copy_from_slice(found);
        Ok(())
    }

    /// Inflates all of grain number `grain` into `out`, as long as the grain's part of the disk.
    fn inflate(&self, grain: u64, FileOffset(at): FileOffset, out: &mut [u8]) -> Result<()> {
        WORK.with_borrow_mut(|work| {
            let packed = self.packed(grain, at, &mut work.packed)?;
            inflate(&mut work.inflater, packed, out, self.grain.get())
                .map_err(|detail| Error::corrupt(format!("grain {grain}"), detail).at(at))
        })
    }

    /// The compressed bytes of grain number `grain` at file offset `at`, read into `buffer`.
    fn packed<'a>(&self, grain: u64, at: u64, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let head = if self.markers { GRAIN_MARKER } else { 4 };
        // Most grains fit into their own size: one read gets marker and data.
        let guess = (head as u64).saturating_add(self.grain.get());
        let in_file = self.file.size.saturating_sub(at);
        buffer.resize(buffer_len(guess.min(in_file))?, 0);
        self.file.read_at(at, buffer)?;
        let corrupt = |detail: String| Error::corrupt(format!("grain {grain}"), detail).at(at);
        let size = if self.markers {
            let marker = Marker::parse(buffer).map_err(|e| e.at(at))?;
            let expected = grain.saturating_mul(self.grain.get() / SECTOR);
            if marker.value != expected {
                let found = marker.value;
                return Err(corrupt(format!(
                    "is marked as sector {found}, not {expected}"
                )));
            }
            marker.size
        } else {
            let size = buffer.first_chunk::<4>().copied().unwrap_or_default();
            u32::from_le_bytes(size)
        };
        // Deflate can grow incompressible data a little, never to twice its size.
        if size == 0 || u64::from(size) > self.grain.get().saturating_mul(2) {
            return Err(corrupt(format!("claims {size} compressed bytes")));
        }
        let end = head.saturating_add(buffer_len(u64::from(size))?);
        if end as u64 > in_file {
            return Err(corrupt("runs past the end of the file".into()));
        }
        if buffer.len() < end {
            buffer.resize(end, 0);
            self.file.read_at(at, buffer)?;
        }
        Ok(buffer.get(head..end).unwrap_or_default())
    }
}
