//! A sparse extent: grain directory, grain tables, grains; compressed or not.
//!
//! Hosted and vmfsSparse extents differ in their headers and in what those say of the tables
//! ([`Shape`]); the way from a position to a grain is the same.

use super::cowd_header::{COWD_HEADER, COWD_MAGIC, CowdHeader};
use super::disk_structs::{
    FLAG_COMPRESSED, GD_AT_END, MARKER_FOOTER, Marker, SparseHeader, entries,
};
use super::grain_directory::GrainDirectory;
use super::opening::{Opening, key};
use super::packed_grains::PackedGrains;
use super::shape::Shape;
use crate::{
    Error, ErrorKind, Place, Result, Run,
    cache::Cache,
    storage::ImageFile,
    units::{FileOffset, Sectors, buffer_len},
};
use std::{num::NonZeroU64, path::Path, sync::Arc};

/// An opened sparse extent.
pub(super) struct SparseExtent {
    file: ImageFile,
    /// Number of the file in the image.
    index: usize,
    shape: Shape,
    directory: GrainDirectory,
    /// Bytes of a grain.
    grain: NonZeroU64,
    /// Bytes of the disk that the extent holds.
    size: u64,
    /// Entries of a grain table.
    table_len: NonZeroU64,
    /// What an entry of 0 means.
    hole: Place,
    tables: Arc<Cache<Vec<u32>>>,
    packed: Option<PackedGrains>,
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

    /// Opens a hosted extent with that header.
    pub(super) fn open(
        file: ImageFile,
        index: usize,
        header: &SparseHeader,
        hole: Place,
        opening: &mut Opening,
    ) -> Result<Self> {
        Self::with_shape(file, index, Shape::from(header), hole, opening)
    }

    /// Opens the extent in `file`, hosted or vmfsSparse, as its first bytes say.
    pub(super) fn open_any(
        file: ImageFile,
        index: usize,
        hole: Place,
        opening: &mut Opening,
    ) -> Result<Self> {
        let shape = if file.read_part("header", 0, 4)? == COWD_MAGIC {
            Shape::from(&CowdHeader::parse(&file.read_part(
                "header",
                0,
                COWD_HEADER,
            )?)?)
        } else {
            Shape::from(&Self::header(&file)?)
        };
        Self::with_shape(file, index, shape, hole, opening)
    }

    fn with_shape(
        file: ImageFile,
        index: usize,
        shape: Shape,
        hole: Place,
        opening: &mut Opening,
    ) -> Result<Self> {
        let size = Sectors(shape.capacity).bytes()?;
        let grain = nonzero("grain size", Sectors(shape.grain_size).bytes()?)?;
        let table_len = nonzero("grain table", shape.table_len)?;
        let mut directory = |part, sector| {
            GrainDirectory::open(
                file.clone(),
                part,
                sector,
                size.div_ceil(grain.get()).div_ceil(table_len.get()),
                table_len.get().saturating_mul(4),
                opening,
            )
        };
        let directory = match (
            directory("grain directory", shape.directory),
            shape.redundant,
        ) {
            (Err(error), Some(sector)) if error.kind() == ErrorKind::Corrupt => {
                let copy = directory("redundant grain directory", sector).map_err(|_| error)?;
                opening
                    .warnings
                    .push("the grain directory is damaged; its redundant copy is used".to_owned());
                copy
            }
            (found, _) => found?,
        };
        if shape.unclean {
            opening.warnings.push(
                "was not closed cleanly: the program that wrote it may have been interrupted"
                    .to_owned(),
            );
        }
        let packed = || PackedGrains::new(file.clone(), index, grain, size, shape.markers, opening);
        let packed = shape.compressed.then(packed);
        let extent = Self {
            file,
            index,
            shape,
            directory,
            grain,
            size,
            table_len,
            hole,
            tables: Arc::clone(&opening.tables),
            packed,
        };
        extent.warn_if_short(opening);
        Ok(extent)
    }

    /// Warns if the file ends inside the last grain of a disk that does too.
    fn warn_if_short(&self, opening: &mut Opening) {
        let part = self.size % self.grain;
        let last = self.size.saturating_sub(part);
        if part == 0 || self.shape.compressed {
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

    /// The name of the file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The table number `table` at `sector`, from the cache or the file.
    fn table(&self, table: u64, sector: u32) -> Result<Arc<Vec<u32>>> {
        self.tables.get(key(self.index, table), || {
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
        if self.shape.stands_alone(sector) {
            // No table. A 1, like a grain entry of 1, hides the parent.
            return Ok(Run {
                end: table.saturating_add(alike).saturating_mul(covers),
                place: if sector == 0 { self.hole } else { Place::Zero },
            });
        }
        if u64::from(sector) < self.shape.first_free {
            let detail = format!("entry {table} points into the header or the descriptor");
            return Err(
                Error::corrupt("grain directory", detail).at(self.directory.offset_of(table))
            );
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
        if self.shape.stands_alone(first) {
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
        if u64::from(first) < self.shape.first_free {
            return wrong("points into the header or the descriptor");
        }
        let inside = pos.saturating_sub(grain.saturating_mul(self.grain.get()));
        if self.shape.compressed {
            return Ok(Run {
                end: run_to(1),
                place: Place::Packed {
                    file: self.index,
                    at: FileOffset(start),
                    inside,
                },
            });
        }
        let step = self.shape.grain_size;
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

    /// Inflates from `pos` of the extent into `buf`, which stays inside one grain.
    pub(super) fn unpack(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        match (&self.packed, self.locate(pos)?.place) {
            (Some(packed), Place::Packed { at, .. }) => packed.unpack(pos, at, buf),
            _ => Err(Error::corrupt("grain", "is not compressed")),
        }
    }
}

pub(super) fn nonzero(part: &'static str, value: u64) -> Result<NonZeroU64> {
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
