//! Images in memory, as large as need be, that a test can write and then spoil.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex},
};
use vdisk_core::{
    Deny, Disk, Identity, Ids, Job, Layer, OpenOptions, Resolver, Result,
    check::{Finding, Severity},
    format::{self, Options, ParentSpec, Spec},
    open::open_file,
    ops::{Resized, convert},
    profile::{Profile, Shape},
    storage::{ImageFile, Storage},
    target::Target,
};

/// When the images are made, and looked at: seconds since 1970.
pub(crate) const NOW: u64 = 1_700_000_000;
const PAGE: u64 = 4096;

/// A file in memory whose holes take no room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pages: BTreeMap<u64, Vec<u8>>,
    size: u64,
    /// Whether to own up to the holes.
    pub(crate) shows_holes: bool,
}

impl Memory {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut memory = Self::default();
        memory.put(0, bytes);
        memory
    }

    pub(crate) fn len(&self) -> u64 {
        self.size
    }

    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        for (pos, byte) in (at..).zip(bytes) {
            let page = self
                .pages
                .entry(pos / PAGE)
                .or_insert_with(|| vec![0; PAGE as usize]);
            page[(pos % PAGE) as usize] = *byte;
        }
        self.size = self.size.max(at + bytes.len() as u64);
    }

    pub(crate) fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let byte = |pos: u64| {
            self.pages
                .get(&(pos / PAGE))
                .map_or(0, |p| p[(pos % PAGE) as usize])
        };
        (at..at + len as u64).map(byte).collect()
    }

    pub(crate) fn cut(&mut self, size: u64) {
        let rest = vec![0; (self.size - size) as usize];
        self.put(size, &rest);
        self.size = size;
    }
}

/// The files of an image that is being written.
#[derive(Clone, Default)]
struct Writing(Arc<Mutex<BTreeMap<String, Memory>>>, String);

impl Writing {
    fn file<R>(&self, work: impl FnOnce(&mut Memory) -> R) -> R {
        work(self.0.lock().unwrap().entry(self.1.clone()).or_default())
    }
}

impl Target for Writing {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.file(|f| f.write_at(pos, bytes))
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        self.file(|f| f.set_size(size))
    }
    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        Ok(Box::new(Self(Arc::clone(&self.0), name.to_owned())))
    }
}

impl Target for Memory {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.put(pos, bytes);
        Ok(())
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        assert!(size >= self.size, "no writer cuts what it wrote");
        self.size = size;
        Ok(())
    }
}

impl Storage for Memory {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        if pos
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > self.size)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.copy_from_slice(&self.get(pos, buf.len()));
        Ok(())
    }
    fn span_at(&self, pos: u64) -> io::Result<vdisk_core::storage::Span> {
        let hole = self.shows_holes && !self.pages.contains_key(&(pos / PAGE));
        let end = match self.shows_holes {
            true => ((pos / PAGE + 1) * PAGE).min(self.size),
            false => self.size,
        };
        Ok(vdisk_core::storage::Span { hole, end })
    }
}

/// An image to be linted.
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) format: &'static str,
    pub(crate) file: Memory,
    /// Other files of the image.
    pub(crate) extents: Vec<(String, Memory)>,
    /// The time at which it is looked at.
    pub(crate) now: u64,
}

struct Extents<'a>(&'a [(String, Memory)]);

impl Resolver for Extents<'_> {
    fn find(
        &self,
        _from: &ImageFile,
        reference: &vdisk_core::Reference<'_>,
    ) -> Result<Vec<ImageFile>> {
        let vdisk_core::Reference::Extent(name) = reference else {
            return Ok(Vec::new());
        };
        let named = self
            .0
            .iter()
            .filter(|(n, _)| Path::new(n) == Path::new(name));
        named
            .map(|(n, file)| ImageFile::from_storage(n, file.clone()))
            .collect()
    }
}

impl Image {
    /// What `profile` makes of a disk of `size` bytes in that shape.
    pub(crate) fn written(profile: &Profile, shape: &Shape, size: u64) -> Self {
        let disk = disk();
        let disk = Resized::new(&disk, size);
        let (format, subformat) = shape.resolve().unwrap();
        let name = match shape.format {
            "raw" => "disk.raw".to_owned(),
            _ => format!("image.{}", format.extensions()[0]),
        };
        let mut target = Writing(Arc::default(), name.clone());
        let spec = Spec {
            size,
            subformat,
            name: &name,
            ids: Ids::derived(&[1; 32], "profiles", NOW),
            level: 1,
            parent: None,
            options: shape.options(profile, Options::default()).unwrap(),
        };
        let writer = format.create(&mut target, &spec).unwrap();
        convert::copy(&disk, writer, &Job::default()).unwrap();
        let mut files = std::mem::take(&mut *target.0.lock().unwrap());
        Self {
            file: files.remove(&name).unwrap(),
            extents: files.into_iter().collect(),
            name,
            format: shape.format,
            now: NOW,
        }
    }

    pub(crate) fn open(&self) -> Layer {
        let extents = Extents(&self.extents);
        let resolver: &dyn Resolver = if self.extents.is_empty() {
            &Deny
        } else {
            &extents
        };
        let options = OpenOptions {
            format: Some(format::named(self.format).unwrap()),
            ..OpenOptions::new(resolver)
        };
        let file = ImageFile::from_storage(&self.name, self.file.clone()).unwrap();
        open_file(file, &options).unwrap()
    }

    pub(crate) fn lint(&self, profile: &Profile) -> Vec<Finding> {
        let layer = self.open();
        let findings = profile.lint(&layer, self.now, &Job::default()).unwrap();
        findings.list().to_vec()
    }

    /// The big-endian number of 4 or 8 bytes at `at` of a VHD's structure.
    pub(crate) fn set(&mut self, at: u64, bytes: &[u8]) {
        self.file.put(at, bytes);
    }

    /// Replaces `from` by `to` in the descriptor of a VMDK whose area is sectors 1 to 20.
    pub(crate) fn edit(&mut self, from: &str, to: &str) {
        const AREA: usize = 20 * 512;
        let area = self.file.get(512, AREA);
        let end = area.iter().position(|b| *b == 0).unwrap();
        let text = String::from_utf8(area[..end].to_vec()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        let mut area = text.replacen(from, to, 1).into_bytes();
        assert!(area.len() < AREA);
        area.resize(AREA, 0);
        self.file.put(512, &area);
    }

    /// Both footers of a VHD: changed at `at`, and sealed again.
    pub(crate) fn footers(&mut self, at: u64, bytes: &[u8]) {
        self.last_footer(at, bytes);
        self.first_footer(at, bytes);
    }

    pub(crate) fn last_footer(&mut self, at: u64, bytes: &[u8]) {
        let start = self.file.len() - 512;
        self.sealed(start, 512, 64, at, bytes);
    }

    pub(crate) fn first_footer(&mut self, at: u64, bytes: &[u8]) {
        self.sealed(0, 512, 64, at, bytes);
    }

    /// The dynamic header of a VHD, changed at `at` and sealed again.
    pub(crate) fn header(&mut self, at: u64, bytes: &[u8]) {
        self.sealed(512, 1024, 36, at, bytes);
    }

    /// Changes a structure of a VHD and gives it the checksum of the specification: the complement
    /// of the sum of its bytes.
    fn sealed(&mut self, start: u64, len: usize, checksum: u64, at: u64, bytes: &[u8]) {
        self.file.put(start + at, bytes);
        self.file.put(start + checksum, &[0; 4]);
        let sum: u32 = self
            .file
            .get(start, len)
            .iter()
            .map(|b| u32::from(*b))
            .sum();
        self.file.put(start + checksum, &(!sum).to_be_bytes());
    }

    /// Gives a structure of a VHDX its checksum, which follows the signature.
    pub(crate) fn crc(&mut self, start: u64, len: usize) {
        self.file.put(start + 4, &[0; 4]);
        let sum = crc32c::crc32c(&self.file.get(start, len));
        self.file.put(start + 4, &sum.to_le_bytes());
    }

    /// A differencing VHDX.
    pub(crate) fn vhdx_child() -> Self {
        let format = format::named("vhdx").unwrap();
        let mut file = Memory::default();
        let spec = Spec {
            size: 1 << 20,
            subformat: format::subformat(format, Some("differencing")).unwrap(),
            name: "image.vhdx",
            ids: Ids::derived(&[2; 32], "profiles", NOW),
            level: 1,
            parent: Some(ParentSpec {
                relative: "base.vhdx".into(),
                absolute: None,
                identity: Some(Identity::Linkage([7; 16])),
                modified: NOW,
            }),
            options: Options::default(),
        };
        format.create(&mut file, &spec).unwrap().finish().unwrap();
        Self {
            name: "image.vhdx".to_owned(),
            format: "vhdx",
            file,
            extents: Vec::new(),
            now: NOW,
        }
    }

    /// Moves the last sector of the file up by `bytes`.
    pub(crate) fn insert_before_footer(&mut self, bytes: &[u8]) {
        let at = self.file.len() - 512;
        let footer = self.file.get(at, 512);
        self.file.put(at, bytes);
        self.file.put(at + bytes.len() as u64, &footer);
    }
}

/// One MiB with a partition table's signature and two pieces of data.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[200 << 10..210 << 10].fill(7);
    disk[1000 << 10..1001 << 10].fill(9);
    assert_eq!(Disk::size(&disk), 1 << 20);
    disk
}

/// The rules that were broken, as text, with what matters of them.
pub(crate) fn rules(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|f| f.rule).collect()
}

/// True if something more than a note was found.
pub(crate) fn refused(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.severity != Severity::Note)
}
