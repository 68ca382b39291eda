//! A sparse extent: grain directory, grain tables, grains; compressed or not.

use super::disk_structs::{
    FLAG_COMPRESSED, FLAG_MARKERS, FLAG_REDUNDANT, GD_AT_END, GRAIN_MARKER, MARKER_FOOTER, Marker,
    SparseHeader, entries,
};
use super::inflate::{WORK, inflate};
use crate::{
    Error, Place, Result, Run,
    cache::Cache,
    limits,
    storage::ImageFile,
    units::{FileOffset, Sectors, buffer_len},
};
use std::{num::NonZeroU64, sync::Arc};

/// Grain tables kept in memory for an extent; each covers 32 MiB with the usual grains.
const TABLES_KEPT: usize = 64;
/// Inflated grains kept for an extent, for readers that ask for less than a grain.
const GRAINS_KEPT: usize = 4;

/// An opened sparse extent.
pub(super) struct SparseExtent {
    file: ImageFile,
    /// Number of the file in the image.
    index: usize,
    header: SparseHeader,
    /// Sector of each grain table.
    directory: Vec<u32>,
    /// Bytes of a grain.
    grain: NonZeroU64,
    /// Bytes of the disk that the extent holds.
    size: u64,
    /// Entries of a grain table.
    table_len: NonZeroU64,
    /// What an entry of 0 means.
    hole: Place,
    tables: Cache<Vec<u32>>,
    grains: Cache<Vec<u8>>,
}

impl SparseExtent {
    /// Reads the header of `file`; of a stream with a footer, that one.
    pub(super) fn header(file: &ImageFile) -> Result<SparseHeader> {
        let header = SparseHeader::parse("header", &file.read_part("header", 0, 512)?)?;
        if !header.has(FLAG_COMPRESSED) {
            return Ok(header);
        }
        if let Some(footer) = footer(file)? {
            return Ok(SparseHeader {
                descriptor_offset: header.descriptor_offset,
                descriptor_size: header.descriptor_size,
                ..footer
            });
        }
        if header.gd_offset == GD_AT_END {
            let detail = "is missing: the file is cut short, or was never finished";
            return Err(Error::corrupt("footer", detail).at(file.size));
        }
        Ok(header)
    }

    /// Opens the extent with that header. Adds what users should know to `warnings`.
    pub(super) fn open(
        file: ImageFile,
        index: usize,
        header: SparseHeader,
        hole: Place,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let grain = nonzero("grain size", Sectors(header.grain_size).bytes()?)?;
        let table_len = nonzero("grain table", u64::from(header.gtes_per_gt))?;
        let mut extent = Self {
            size: Sectors(header.capacity).bytes()?,
            directory: Vec::new(),
            file,
            index,
            header,
            grain,
            table_len,
            hole,
            tables: Cache::new(TABLES_KEPT),
            grains: Cache::new(GRAINS_KEPT),
        };
        let redundant = extent.header.has(FLAG_REDUNDANT)
            && !extent.header.has(FLAG_COMPRESSED)
            && extent.header.rgd_offset != 0;
        extent.directory = match extent.read_directory("grain directory", extent.header.gd_offset) {
            Ok(directory) => directory,
            Err(error) if redundant => {
                let copy = extent
                    .read_directory("redundant grain directory", extent.header.rgd_offset)
                    .map_err(|_| error)?;
                warnings
                    .push("the grain directory is damaged; its redundant copy is used".to_owned());
                copy
            }
            Err(error) => return Err(error),
        };
        if extent.header.unclean_shutdown != 0 {
            warnings.push(
                "was not closed cleanly: the program that wrote it may have been interrupted"
                    .to_owned(),
            );
        }
        Ok(extent)
    }

    /// Bytes of the disk that the extent holds.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads the directory at `sector`, and checks that its tables lie in the file.
    fn read_directory(&self, part: &'static str, sector: u64) -> Result<Vec<u32>> {
        let tables = self
            .size
            .div_ceil(self.grain.get())
            .div_ceil(self.table_len.get());
        let bytes = tables.saturating_mul(4);
        if bytes > limits::GRAIN_DIRECTORY {
            let detail = format!("would need {bytes} bytes for {} bytes of disk", self.size);
            return Err(Error::new(crate::ErrorKind::Limit, part, detail));
        }
        let at = Sectors(sector).bytes()?;
        let directory = entries(&self.file.read_part(part, at, bytes)?);
        let table_bytes = self.table_len.get().saturating_mul(4);
        for (entry, number) in directory.iter().zip(0u64..) {
            let end = Sectors(u64::from(*entry))
                .bytes()?
                .saturating_add(table_bytes);
            if *entry > 1 && end > self.file.size {
                let detail = format!("entry {number} points past the end of the file");
                return Err(
                    Error::corrupt(part, detail).at(at.saturating_add(number.saturating_mul(4)))
                );
            }
        }
        Ok(directory)
    }

    /// The table number `table` at `sector`, from the cache or the file.
    fn table(&self, table: u64, sector: u32) -> Result<Arc<Vec<u32>>> {
        self.tables.get(table, || {
            let at = Sectors(u64::from(sector)).bytes()?;
            let bytes =
                self.file
                    .read_part("grain table", at, self.table_len.get().saturating_mul(4))?;
            Ok(entries(&bytes))
        })
    }

    /// Finds the run at `pos` of the extent; its end is relative to the extent as well.
    pub(super) fn locate(&self, pos: u64) -> Result<Run> {
        let grain = pos / self.grain;
        let (table, entry) = (grain / self.table_len, grain % self.table_len);
        let covers = self.table_len.get().saturating_mul(self.grain.get());
        let index = buffer_len(table)?;
        let sector = self.directory.get(index).copied().unwrap_or(0);
        if sector <= 1 {
            // No table. A 1, like a grain entry of 1, hides the parent.
            let rest = self.directory.get(index..).unwrap_or_default();
            let alike = rest.iter().take_while(|s| **s == sector).count().max(1) as u64;
            return Ok(Run {
                end: table.saturating_add(alike).saturating_mul(covers),
                place: if sector == 0 { self.hole } else { Place::Zero },
            });
        }
        let entries = self.table(table, sector)?;
        let rest = entries.get(buffer_len(entry)?..).unwrap_or_default();
        let Some(&first) = rest.first() else {
            return Err(Error::corrupt(
                "grain table",
                format!("{table} is too short"),
            ));
        };
        let run_to =
            |grains: usize| (grain.saturating_add(grains as u64)).saturating_mul(self.grain.get());
        if first <= 1 {
            // 1 is a grain of zeros, also where the header forgets to say that there are some.
            return Ok(Run {
                end: run_to(rest.iter().take_while(|e| **e == first).count()),
                place: if first == 0 { self.hole } else { Place::Zero },
            });
        }
        let start = Sectors(u64::from(first)).bytes()?;
        if start >= self.file.size {
            return Err(self.past_the_end(table, entry, start));
        }
        if self.header.has(FLAG_COMPRESSED) {
            return Ok(Run {
                end: run_to(1),
                place: Place::Packed {
                    file: self.index,
                    at: FileOffset(start),
                },
            });
        }
        let step = self.header.grain_size;
        let alike = rest
            .iter()
            .zip(0u64..)
            .take_while(|(e, i)| {
                u64::from(**e) == u64::from(first).saturating_add(i.saturating_mul(step))
            })
            .count();
        let end = run_to(alike).min(self.size);
        let inside = pos.saturating_sub(grain.saturating_mul(self.grain.get()));
        let at = FileOffset(start).plus(inside)?;
        let in_file = self.file.size.saturating_sub(at.0);
        if end.saturating_sub(pos) <= in_file {
            return Ok(Run {
                end,
                place: Place::Stored {
                    file: self.index,
                    at,
                },
            });
        }
        self.locate_at_end(pos, at, in_file, (table, entry))
    }

    /// A run that the file does not hold to its end: whole grains first; then, only for the last
    /// grain of the extent, the part that is there, and zeros (qemu may leave that grain short).
    fn locate_at_end(
        &self,
        pos: u64,
        at: FileOffset,
        in_file: u64,
        (table, entry): (u64, u64),
    ) -> Result<Run> {
        let whole = (pos.saturating_add(in_file) / self.grain).saturating_mul(self.grain.get());
        let last = (self.size.saturating_sub(1) / self.grain).saturating_mul(self.grain.get());
        let place = Place::Stored {
            file: self.index,
            at,
        };
        if whole > pos {
            return Ok(Run { end: whole, place });
        }
        if pos < last {
            return Err(self.past_the_end(table, entry, at.0));
        }
        Ok(match in_file {
            0 => Run {
                end: self.size,
                place: Place::Zero,
            },
            _ => Run {
                end: pos.saturating_add(in_file),
                place,
            },
        })
    }

    fn past_the_end(&self, table: u64, entry: u64, at: u64) -> Error {
        let part = format!("grain table {table}, entry {entry}");
        Error::corrupt(part, "points past the end of the file").at(at)
    }

    /// Inflates from `pos` of the extent into `buf`, which stays inside one grain.
    pub(super) fn unpack(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        let grain = pos / self.grain;
        let start = grain.saturating_mul(self.grain.get());
        let valid = self.grain.get().min(self.size.saturating_sub(start));
        if pos == start && buf.len() as u64 == valid {
            return self.inflate(grain, buf);
        }
        let bytes = self.grains.get(grain, || {
            let mut bytes = vec![0; buffer_len(valid)?];
            self.inflate(grain, &mut bytes)?;
            Ok(bytes)
        })?;
        let at = buffer_len(pos.saturating_sub(start))?;
        let found = bytes
            .get(at..at.saturating_add(buf.len()))
            .ok_or_else(|| Error::corrupt("grain", "is too short"))?;
        buf.copy_from_slice(found);
        Ok(())
    }

    /// Inflates all of grain number `grain` into `out`, as long as the grain's part of the disk.
    fn inflate(&self, grain: u64, out: &mut [u8]) -> Result<()> {
        let Place::Packed {
            at: FileOffset(at), ..
        } = self.locate(grain.saturating_mul(self.grain.get()))?.place
        else {
            return Err(Error::corrupt("grain", "is not compressed"));
        };
        WORK.with_borrow_mut(|work| {
            let packed = self.packed(grain, at, &mut work.packed)?;
            inflate(&mut work.inflater, packed, out, self.grain.get())
                .map_err(|detail| Error::corrupt(format!("grain {grain}"), detail).at(at))
        })
    }

    /// The compressed bytes of grain number `grain` at file offset `at`, read into `buffer`.
    fn packed<'a>(&self, grain: u64, at: u64, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let markers = self.header.has(FLAG_MARKERS);
        let head = if markers { GRAIN_MARKER } else { 4 };
        // Most grains fit into their own size: one read gets marker and data.
        let guess = (head as u64).saturating_add(self.grain.get());
        let in_file = self.file.size.saturating_sub(at);
        buffer.resize(buffer_len(guess.min(in_file))?, 0);
        self.file.read_at(at, buffer)?;
        let corrupt = |detail: String| Error::corrupt(format!("grain {grain}"), detail).at(at);
        let size = if markers {
            let marker = Marker::parse(buffer).map_err(|e| e.at(at))?;
            let expected = grain.saturating_mul(self.header.grain_size);
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

fn nonzero(part: &'static str, value: u64) -> Result<NonZeroU64> {
    NonZeroU64::new(value).ok_or_else(|| Error::corrupt(part, "is zero"))
}

/// The footer of a stream, if it has one: three markers before the end of the file say so.
fn footer(file: &ImageFile) -> Result<Option<SparseHeader>> {
    let Some(at) = file.size.checked_sub(1536) else {
        return Ok(None);
    };
    let bytes = file.read_part("footer", at, 1024)?;
    let (marker, footer) = bytes.split_at(512);
    let marker = Marker::parse(marker)?;
    if marker.size != 0 || marker.kind != MARKER_FOOTER || marker.value != 1 {
        return Ok(None);
    }
    let footer = SparseHeader::parse("footer", footer).map_err(|e| e.at(at.saturating_add(512)))?;
    if footer.gd_offset == GD_AT_END {
        return Err(Error::corrupt("footer", "names no grain directory").at(at.saturating_add(512)));
    }
    Ok(Some(footer))
}
