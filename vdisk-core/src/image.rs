//! One opened image: a format's layout plus the files it points into.
//!
//! Formats say *where* bytes are ([`Layout`]); this file alone reads them. The loop that splits a
//! request at run boundaries exists once, here.

use crate::{
    Disk, Error, ErrorKind, Extent, Kind, Result,
    disk::{self, Stored, part_len},
    storage::ImageFile,
    units::FileOffset,
};

/// Where one run of the virtual disk is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As is, in file number `file` of the image, contiguous from `at`.
    Stored {
        /// Index into the image's files.
        file: usize,
        /// Where the run starts.
        at: FileOffset,
    },
    /// Compressed in file number `file`, in the piece at `at`: only the format can unpack it.
    Packed {
        /// Index into the image's files.
        file: usize,
        /// Where the compressed piece starts.
        at: FileOffset,
        /// Bytes of the unpacked piece before the run.
        inside: u64,
    },
    /// Reads as zero.
    Zero,
    /// The parent decides.
    Absent,
    /// Data that the image says may not be read: reading is an error.
    Withheld,
}

/// A run of the virtual disk and its place, from the position asked for up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First byte after the run.
    pub end: u64,
    /// Where it is kept.
    pub place: Place,
}

/// What a format implements: a map from disk positions to places.
pub trait Layout: Send + Sync {
    /// Virtual size in bytes.
    fn size(&self) -> u64;
    /// Logical sector size in bytes.
    fn sector_size(&self) -> u32 {
        512
    }
    /// Finds the run that contains `pos`, which is inside the disk.
    ///
    /// The run may be shorter than it could be, and may reach past the end of the disk, but its
    /// end is greater than `pos`. A packed run is at most one compressed piece long.
    fn locate(&self, pos: u64) -> Result<Run>;
    /// Unpacks from `pos` into `buf`, which stays inside one packed run. In a withheld one this says
    /// why it cannot be read.
    fn unpack(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        let _ = (pos, buf);
        Err(Error::new(
            ErrorKind::Unsupported,
            "layout",
            "has no packed runs",
        ))
    }
}

/// An opened image file, with the extent files it names.
pub struct Image {
    files: Vec<ImageFile>,
    layout: Box<dyn Layout>,
}

impl Image {
    /// Joins a layout to its files; the first is the file that was opened.
    pub fn new(files: Vec<ImageFile>, layout: Box<dyn Layout>) -> Self {
        Self { files, layout }
    }

    /// The same image with files that it does not read from, but which belong to it.
    pub(crate) fn with_files(mut self, more: Vec<ImageFile>) -> Self {
        self.files.extend(more);
        self
    }

    /// The files that the image consists of; the first is the one that was opened.
    pub fn files(&self) -> &[ImageFile] {
        &self.files
    }

    fn file(&self, index: usize) -> Result<&ImageFile> {
        self.files.get(index).ok_or_else(|| {
            Error::corrupt("layout", format!("names file {index}, which it has not"))
        })
    }

    fn run_at(&self, pos: u64) -> Result<Run> {
        let mut run = self.layout.locate(pos)?;
        run.end = run.end.min(self.size());
        debug_assert!(run.end > pos, "layout returned an empty run");
        Ok(run)
    }

    fn stored(&self, file: usize, at: FileOffset, packed: Option<u64>) -> Result<Option<Stored>> {
        let file = self.file(file)?;
        let (file, at) = match &file.part_of {
            // Two views of one file have the same places.
            Some(whole) => (whole.file.clone(), at.plus(whole.at)?),
            None => (file.tag.clone(), at),
        };
        Ok(Some(Stored { file, at, packed }))
    }
}

impl Disk for Image {
    fn size(&self) -> u64 {
        self.layout.size()
    }

    fn sector_size(&self) -> u32 {
        self.layout.sector_size()
    }

    fn extent_at(&self, pos: u64) -> Result<Extent> {
        disk::check_range(self, pos, 1)?;
        let run = self.run_at(pos)?;
        let (kind, stored) = match run.place {
            Place::Stored { file, at } => (Kind::Data, self.stored(file, at, None)?),
            Place::Packed { file, at, inside } => {
                (Kind::Data, self.stored(file, at, Some(inside))?)
            }
            Place::Withheld => (Kind::Data, None),
            Place::Zero => (Kind::Zero, None),
            Place::Absent => (Kind::Absent, None),
        };
        Ok(Extent {
            range: pos..run.end,
            kind,
            depth: 0,
            stored,
        })
    }

    fn read_at(&self, mut pos: u64, mut buf: &mut [u8]) -> Result<()> {
        disk::check_range(self, pos, buf.len())?;
        while !buf.is_empty() {
            let run = self.run_at(pos)?;
            let (part, rest) = buf.split_at_mut(part_len(buf.len(), pos, run.end));
            match run.place {
                Place::Stored { file, at } => self.file(file)?.read_at(at.0, part)?,
                Place::Packed { .. } | Place::Withheld => self.layout.unpack(pos, part)?,
                Place::Zero => part.fill(0),
                Place::Absent => {
                    let detail = format!("the parent holds position {pos:#x} of the disk");
                    return Err(Error::new(ErrorKind::Reference, "read", detail));
                }
            }
            pos += part.len() as u64;
            buf = rest;
        }
        Ok(())
    }
}
