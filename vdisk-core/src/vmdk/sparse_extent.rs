//! A sparse extent: grain directory, grain tables, grains; compressed or not.

use super::disk_structs::{
    FLAG_COMPRESSED, FLAG_MARKERS, FLAG_REDUNDANT, GD_AT_END, GRAIN_MARKER, MARKER_FOOTER, Marker,
    SparseHeader, entries,
};
use super::grain_directory::GrainDirectory;
use super::inflate::{WORK, inflate};
use crate::{
    Error, ErrorKind, Place, Result, Run,
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

/// What opening an image adds up over its extents.
pub(super) struct Opening {
    /// What users should know.
    pub(super) warnings: Vec<String>,
    /// Bytes of grain directories that may still be read.
    directories: u64,
}

impl Opening {
    pub(super) fn new() -> Self {
        Self {
            warnings: Vec::new(),
            directories: limits::GRAIN_DIRECTORY,
        }
    }
}

/// An opened sparse extent.
pub(super) struct SparseExtent {
    file: ImageFile,
    /// Number of the file in the image.
    index: usize,
    header: SparseHeader,
    directory: GrainDirectory,
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

    /// Opens the extent with that header.
    pub(super) fn open(
        file: ImageFile,
        index: usize,
        header: SparseHeader,
        hole: Place,
        opening: &mut Opening,
    ) -> Result<Self> {
        let size = Sectors(header.capacity).bytes()?;
        let grain = nonzero("grain size", Sectors(header.grain_size).bytes()?)?;
        let table_len = nonzero("grain table", u64::from(header.gtes_per_gt))?;
        let mut directory = |part, sector| {
            GrainDirectory::open(
                file.clone(),
                part,
                sector,
                size.div_ceil(grain.get()).div_ceil(table_len.get()),
                table_len.get().saturating_mul(4),
                &mut opening.directories,
            )
        };
        let redundant =
            header.has(FLAG_REDUNDANT) && !header.has(FLAG_COMPRESSED) && header.rgd_offset != 0;
        let directory = match directory("grain directory", header.gd_offset) {
            Err(error) if redundant && error.kind() == ErrorKind::Corrupt => {
                let copy =
                    directory("redundant grain directory", header.rgd_offset).map_err(|_| error)?;
                opening
                    .warnings
                    .push("the grain directory is damaged; its redundant copy is used".to_owned());
                copy
            }
            other => other?,
        };
        if header.unclean_shutdown != 0 {
            opening.warnings.push(
                "was not closed cleanly: the program that wrote it may have been interrupted"
                    .to_owned(),
            );
        }
        let extent = Self {
            file,
            index,
            header,
            directory,
            grain,
            size,
            table_len,
            hole,
            tables: Cache::new(TABLES_KEPT),
            grains: Cache::new(GRAINS_KEPT),
        };
        extent.warn_if_short(opening);
        Ok(extent)
    }

    /// Warns if the file ends inside the last grain of a disk that does too.
    fn warn_if_short(&self, opening: &mut Opening) {
        let part = self.size % self.grain;
        let last = self.size.saturating_sub(part);
        if part == 0 || self.header.has(FLAG_COMPRESSED) {
            return;
        }
        // What is wrong with this grain otherwise is found when it is read.
        if self.locate(last).is_ok_and(|run| run.end < self.size) {
            opening.warnings.push(
                "the file ends inside the last grain; the rest of that grain reads as zeros"
                    .to_owned(),
            );
        }
    }

    /// Bytes of the disk that the extent holds.
    pub(super) fn size(&self) -> u64 {
        self.size
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
        let (sector, alike) = self.directory.entry(table)?;
        if sector <= 1 {
            // No table. A 1, like a grain entry of 1, hides the parent.
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
        let wrong = |detail: &str| {
            let at = Sectors(u64::from(sector))
                .bytes()?
                .saturating_add(entry.saturating_mul(4));
            let part = format!("grain table {table}, entry {entry}");
            Err(Error::corrupt(part, detail).at(at))
        };
        if start >= self.file.size {
            return wrong("points past the end of the file");
        }
        if u64::from(first) < self.metadata_end() {
            return wrong("points into the header or the descriptor");
        }
        let inside = pos.saturating_sub(grain.saturating_mul(self.grain.get()));
        if self.header.has(FLAG_COMPRESSED) {
            return Ok(Run {
                end: run_to(1),
                place: Place::Packed {
                    file: self.index,
                    at: FileOffset(start),
                    inside,
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
        let at = FileOffset(start).plus(inside)?;
        let in_file = self.file.size.saturating_sub(at.0);
        let stored = |end| Run {
            end,
            place: Place::Stored {
                file: self.index,
                at,
            },
        };
        if end.saturating_sub(pos) <= in_file {
            return Ok(stored(end));
        }
        // The file ends before this run does. Whole grains before that are there.
        let whole = (pos.saturating_add(in_file) / self.grain).saturating_mul(self.grain.get());
        if whole > pos {
            return Ok(stored(whole));
        }
        // Only a disk that ends inside its last grain may leave that one short.
        let last = self.size.saturating_sub(self.size % self.grain);
        match in_file {
            _ if pos < last || last == self.size => wrong("points past the end of the file"),
            0 => Ok(Run {
                end: self.size,
                place: Place::Zero,
            }),
            _ => Ok(stored(pos.saturating_add(in_file))),
        }
    }

    /// First sector after the header and the descriptor.
    fn metadata_end(&self) -> u64 {
        let descriptor = self
            .header
            .descriptor_offset
            .saturating_add(self.header.descriptor_size);
        if self.header.descriptor_offset == 0 {
            1
        } else {
            descriptor.max(1)
        }
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
