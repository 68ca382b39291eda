//! For tests: disks with known contents, and a suite that every disk must pass.

use crate::{
    Deny, Disk, Error, Extent, Format, Ids, Job, Kind, Layer, OpenOptions, Result, Subformat,
    disk::{check_range, extents, same_kind},
    format::{Options, ParentSpec, Spec},
    open::open_file,
    ops::{changes, convert},
    storage::ImageFile,
    target::Target,
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
    let mut bytes: Vec<u8> = Vec::new();
    let (contents, spec_parent) = match parent {
        Some((contents, spec)) => (Some(contents), Some(spec)),
        None => (None, None),
    };
    let spec = Spec {
        size: disk.size(),
        subformat,
        name: "image",
        ids: Ids::derived(&[number; 32], "testing", 1_000_000_000),
        level: 1,
        parent: spec_parent,
        options: Options::default(),
    };
    let writer = format.create(&mut bytes, &spec)?;
    let job = Job::default();
    match contents {
        Some(parent) => drop(changes::write(parent, disk, writer, &job)?),
        None => convert::copy(disk, writer, &job)?,
    }
    Ok(bytes)
}

/// Opens an image in memory, alone, as `format`.
pub fn open_bytes(format: &'static dyn Format, bytes: Vec<u8>) -> Result<Layer> {
    let options = OpenOptions {
        format: Some(format),
        ..OpenOptions::new(&Deny)
    };
    open_file(ImageFile::from_storage("memory", bytes)?, &options)
}

/// A target that fails at the `left`-th write, and all after it: a disk that fills.
pub struct Failing<T> {
    /// Where bytes go until then.
    pub inner: T,
    /// Writes that still succeed.
    pub left: usize,
}

impl<T: Target> Failing<T> {
    fn step(&mut self) -> Result<()> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| Error::io("write", std::io::ErrorKind::StorageFull.into()))?;
        Ok(())
    }
}

impl<T: Target> Target for Failing<T> {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.step()?;
        self.inner.write_at(pos, bytes)
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        self.step()?;
        self.inner.set_size(size)
    }
}

/// What every disk must do, checked on `disk`; `Err` says what it does not.
///
/// Extents tile the disk and are not empty; zero reads zero; absent refuses; reads around every
/// boundary agree with one read of everything; requests outside fail; eight threads see the same.
/// For disks of up to some MiB.
pub fn conformance(disk: &dyn Disk) -> Result<(), String> {
    let size = disk.size();
    let sector = u64::from(disk.sector_size());
    ensure(sector == 512 || sector == 4096, || {
        format!("sector size {sector}")
    })?;
    ensure(size.is_multiple_of(sector), || {
        format!("size {size} is not whole sectors")
    })?;
    let mut edges = vec![0, size];
    let mut complete = true;
    let mut pos = 0;
    while pos < size {
        let extent = disk.extent_at(pos).map_err(|e| e.to_string())?;
        ensure(extent.range.start == pos, || {
            format!("extent {:?} at {pos}", extent.range)
        })?;
        ensure(extent.range.end > pos && extent.range.end <= size, || {
            format!("extent {:?} of a disk of {size}", extent.range)
        })?;
        complete &= extent.kind != Kind::Absent;
        edges.push(pos);
        pos = extent.range.end;
    }
    for extent in extents(disk, 0..size, same_kind) {
        let extent = extent.map_err(|e| e.to_string())?;
        let mut byte = [1];
        let read = disk.read_at(extent.range.start, &mut byte);
        match extent.kind {
            Kind::Absent => ensure(read.is_err(), || "an absent byte was read".into())?,
            Kind::Zero => ensure(read.is_ok() && byte == [0], || "zero is not zero".into())?,
            Kind::Data => ensure(read.is_ok(), || {
                format!("unreadable at {}", extent.range.start)
            })?,
        }
    }
    for (pos, len) in [
        (size, 1),
        (u64::MAX, 1),
        (u64::MAX - 1, 4),
        (size.saturating_sub(1), 2),
    ] {
        let kind = disk.read_at(pos, &mut vec![0; len]).map_err(|e| e.kind());
        ensure(kind == Err(crate::ErrorKind::OutOfRange), || {
            format!("{len} bytes at {pos}: {kind:?}")
        })?;
    }
    ensure(disk.extent_at(size).is_err(), || {
        "an extent past the end".into()
    })?;
    if !complete {
        return Ok(());
    }
    let whole = contents(disk).map_err(|e| e.to_string())?;
    let check = |edge: u64| -> Result<(), String> {
        for start in edge.saturating_sub(1)..=edge.saturating_add(1).min(size) {
            for len in [1, 2, 511, 513, 70_000] {
                let len = crate::disk::part_len(len, start, size);
                let mut part = vec![0xEE; len];
                disk.read_at(start, &mut part).map_err(|e| e.to_string())?;
                let at = usize::try_from(start).map_err(|e| e.to_string())?;
                ensure(whole.get(at..at + len) == Some(&part), || {
                    format!("{len} bytes at {start} differ")
                })?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| edges.iter().try_for_each(|&edge| check(edge))))
            .collect();
        threads
            .into_iter()
            .try_for_each(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
