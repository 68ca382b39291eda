//! For tests: disks with known contents, and a suite that every disk must pass.

mod conformance;
mod faulty;
mod files;

pub use conformance::conformance;
pub use faulty::{Fault, Faulty};
pub use files::{Failing, Files};

use crate::{
    Deny, Disk, Error, ErrorKind, Extent, Format, Ids, Job, Kind, Layer, OpenOptions, Result,
    Subformat,
    disk::check_range,
    format::{Options, ParentSpec, Spec},
    open::open_file,
    ops::{changes, convert},
    storage::ImageFile,
};

/// A disk described by runs: each ends at a position and repeats a byte, or is a hole.
///
/// ```
/// use vdisk_core::{Disk, testing};
/// let disk = testing::disk(&[(512, Some(9)), (1024, None)]);
/// assert_eq!(disk.size(), 1024);
/// ```
pub fn disk(runs: &[(u64, Option<u8>)]) -> Marked {
    Marked {
        runs: runs.to_vec(),
    }
}

/// See [`disk`].
#[derive(Clone, Debug)]
pub struct Marked {
    runs: Vec<(u64, Option<u8>)>,
}

impl Marked {
    fn run_at(&self, pos: u64) -> (u64, Option<u8>) {
        self.runs
            .iter()
            .copied()
            .find(|(end, _)| *end > pos)
            .unwrap_or((u64::MAX, None))
    }
}

impl Disk for Marked {
    fn size(&self) -> u64 {
        self.runs.last().map_or(0, |r| r.0)
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        check_range(self, pos, 1)?;
        let (end, byte) = self.run_at(pos);
        let kind = byte.map_or(Kind::Zero, |_| Kind::Data);
        Ok(Extent::empty(pos..end, kind))
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, pos, buf.len())?;
        for (at, byte) in (pos..).zip(buf) {
            *byte = self.run_at(at).1.unwrap_or(0);
        }
        Ok(())
    }
}

/// A disk in memory with the given contents: the model that images are compared with.
impl Disk for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        check_range(self, pos, 1)?;
        Ok(Extent::empty(pos..self.size(), Kind::Data))
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, pos, buf.len())?;
        let start = crate::units::buffer_len(pos)?;
        if let Some(bytes) = self.get(start..start + buf.len()) {
            buf.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// All that `disk` reads as. For small disks.
pub fn contents(disk: &dyn Disk) -> Result<Vec<u8>> {
    let mut bytes = vec![0; crate::units::buffer_len(disk.size())?];
    disk.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The image that `format` makes of `disk`: as a base, or as a child holding what differs from
/// `parent`. Identities follow from `number`.
pub fn image(
    format: &dyn Format,
    subformat: &'static Subformat,
    disk: &dyn Disk,
    parent: Option<(&dyn Disk, ParentSpec)>,
    number: u8,
) -> Result<Vec<u8>> {
    let files = files(format, subformat, disk, parent, number)?;
    match files.names().as_slice() {
        [_] => Ok(files.get(IMAGE)),
        names => {
            let detail = format!("is of several files: {}", names.join(", "));
            Err(Error::new(ErrorKind::Usage, "image", detail))
        }
    }
}

/// The name of the main file of an image in memory.
const IMAGE: &str = "image";

/// As [`image`], for images of several files: those that are cut are cut into small extents.
pub fn files(
    format: &dyn Format,
    subformat: &'static Subformat,
    disk: &dyn Disk,
    parent: Option<(&dyn Disk, ParentSpec)>,
    number: u8,
) -> Result<Files> {
    let files = Files::default();
    let mut target = files.target(IMAGE);
    let (contents, spec_parent) = match parent {
        Some((contents, spec)) => (Some(contents), Some(spec)),
        None => (None, None),
    };
    let spec = Spec {
        size: disk.size(),
        subformat,
        name: IMAGE,
        ids: Ids::derived(&[number; 32], "testing", 1_000_000_000),
        level: 1,
        parent: spec_parent,
        options: small_extents(),
    };
    let writer = format.create(&mut target, &spec)?;
    let job = Job::default();
    match contents {
        Some(parent) => drop(changes::write(parent, disk, writer, &job)?),
        None => convert::copy(disk, writer, &job)?,
    }
    Ok(files)
}

/// Options that cut a disk of some MiB into several extents, if its subformat is cut at all.
pub fn small_extents() -> Options {
    Options {
        extent_size: Some((1 << 20) + (64 << 10)),
        ..Options::default()
    }
}

/// Opens an image in memory of one or several files, without parents, as `format`.
pub fn open_files(format: &'static dyn Format, files: &Files) -> Result<Layer> {
    let options = OpenOptions {
        format: Some(format),
        ..OpenOptions::new(files)
    };
    open_file(ImageFile::from_storage(IMAGE, files.get(IMAGE))?, &options)
}

/// Opens an image in memory, alone, as `format`.
pub fn open_bytes(format: &'static dyn Format, bytes: Vec<u8>) -> Result<Layer> {
    let options = OpenOptions {
        format: Some(format),
        ..OpenOptions::new(&Deny)
    };
    open_file(ImageFile::from_storage("memory", bytes)?, &options)
}
