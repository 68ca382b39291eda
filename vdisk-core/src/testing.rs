//! For tests: disks with known contents, and a suite that every disk must pass.

use crate::{
    Deny, Disk, Error, ErrorKind, Extent, Format, Ids, Job, Kind, Layer, OpenOptions, Reference,
    Resolver, Result, Subformat,
    disk::{check_range, extents, same_kind},
    format::{Options, ParentSpec, Spec},
    open::open_file,
    ops::{changes, convert},
    storage::ImageFile,
    target::Target,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
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

/// A folder in memory: a target for images of several files, and the resolver that reads them.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Files {
    /// A target that makes the file `name`, and others beside it.
    pub fn target(&self, name: &str) -> impl Target + use<> {
        self.file(name, |_| ());
        FileInMemory {
            name: name.to_owned(),
            files: self.clone(),
        }
    }

    /// The names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// What the file `name` holds; nothing if there is none.
    pub fn get(&self, name: &str) -> Vec<u8> {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    fn file<R>(&self, name: &str, work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        work(self.lock().entry(name.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for Files {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        let name = match reference {
            Reference::Extent(name) => name.to_str().unwrap_or_default(),
            Reference::Parent(_) | Reference::Device(_) => "",
        };
        if !self.lock().contains_key(name) {
            let detail = format!("'{name}' is not in memory");
            return Err(Error::new(ErrorKind::Reference, "file", detail).path(from.path()));
        }
        Ok(vec![ImageFile::from_storage(name, self.get(name))?])
    }
}

struct FileInMemory {
    name: String,
    files: Files,
}

impl Target for FileInMemory {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.files.file(&self.name, |f| f.write_at(pos, bytes))
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        self.files.file(&self.name, |f| f.set_size(size))
    }
    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        if self.files.names().iter().any(|n| n == name) {
            let detail = format!("'{name}' exists already");
            return Err(Error::new(ErrorKind::Usage, "output", detail));
        }
        Ok(Box::new(self.files.target(name)))
    }
}

/// Opens an image in memory, alone, as `format`.
pub fn open_bytes(format: &'static dyn Format, bytes: Vec<u8>) -> Result<Layer> {
    let options = OpenOptions {
        format: Some(format),
        ..OpenOptions::new(&Deny)
    };
    open_file(ImageFile::from_storage("memory", bytes)?, &options)
}

/// A target that fails after a number of writes, in whatever files: a disk that fills.
pub struct Failing<T> {
    inner: T,
    left: Arc<AtomicUsize>,
}

impl<T: Target> Failing<T> {
    /// Passes the first `left` writes on to `inner` and refuses all others.
    pub fn new(inner: T, left: usize) -> Self {
        Self {
            inner,
            left: Arc::new(AtomicUsize::new(left)),
        }
    }

    fn step(&mut self) -> Result<()> {
        let left = self.left.load(Ordering::Relaxed).checked_sub(1);
        let left =
            left.ok_or_else(|| Error::io("write", std::io::ErrorKind::StorageFull.into()))?;
        self.left.store(left, Ordering::Relaxed);
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
    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        self.step()?;
        Ok(Box::new(Failing {
            inner: self.inner.beside(name)?,
            left: self.left.clone(),
        }))
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
