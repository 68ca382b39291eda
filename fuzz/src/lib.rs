//! What the fuzz targets share: made-up disks, images of them in memory, and a bounded look at
//! whatever could be opened.

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use std::{num::NonZeroUsize, path::PathBuf, sync::Arc};
use vdisk_core::{
    Chain, Disk, FORMATS, Format, Identity, Ids, Job, Kind, Layer, OpenOptions, Resolver,
    Subformat,
    check::{Checkup, Findings, Severity},
    format::{Context, ParentSpec, Spec},
    open::open_file,
    ops::{changes, convert},
    storage::ImageFile,
    testing,
};

/// Sectors of the largest made-up disk: three blocks of a VHD, and some.
const SECTORS: usize = 12_500;

/// Extents looked at in one disk.
const EXTENTS: usize = 2_000;

/// Opens `bytes` as `format`, alone.
pub fn open(
    format: &'static dyn Format,
    bytes: Vec<u8>,
    resolver: &dyn Resolver,
) -> vdisk_core::Result<Layer> {
    let options = OpenOptions {
        format: Some(format),
        ..OpenOptions::new(resolver)
    };
    open_file(ImageFile::from_storage("input", bytes)?, &options)
}

/// Checks `bytes` as `format`. What cannot be opened must not be called whole.
pub fn check(format: &'static dyn Format, bytes: Vec<u8>, resolver: &dyn Resolver, opens: bool) {
    let file = ImageFile::from_storage("input", bytes).expect("memory has a size");
    let context = Context {
        resolver,
        overlay: false,
        disk: None,
        verify: false,
    };
    let job = job();
    let checkup = Checkup {
        context,
        job: &job,
        deep: false,
    };
    let mut findings = Findings::default();
    let ended = format.check(file, &checkup, &mut findings);
    let worst = findings.worst();
    assert!(
        opens || ended.is_err() || worst == Some(Severity::Error),
        "{findings:#?}"
    );
}

/// Looks at the map of `disk` and at some bytes at each border, in bounded time. Reading may fail,
/// but what the map says must hold.
pub fn look_at(disk: &dyn Disk) {
    let size = disk.size();
    let mut pos = 0;
    for _ in 0..EXTENTS {
        if pos >= size {
            break;
        }
        let Ok(extent) = disk.extent_at(pos) else {
            break;
        };
        let (start, end) = (extent.range.start, extent.range.end);
        assert!(start == pos && end > pos && end <= size, "{extent:?}");
        for from in [start, end.saturating_sub(600).max(start)] {
            let len = usize::try_from((end - from).min(600)).unwrap_or(600);
            let mut bytes = vec![0xEE; len];
            let read = disk.read_at(from, &mut bytes);
            match extent.kind {
                Kind::Zero => assert!(read.is_ok() && vdisk_core::is_zero(&bytes), "{extent:?}"),
                Kind::Absent => assert!(read.is_err(), "absent, but read: {extent:?}"),
                Kind::Data => {}
            }
        }
        pos = end;
    }
    let mut last = [0; 513];
    assert!(disk.read_at(size, &mut last).is_err());
    assert!(disk.read_at(u64::MAX - 5, &mut last).is_err());
    let _ = disk.read_at(size.saturating_sub(513), &mut last);
}

/// Which format and subformat to write, and the contents, as sectors that repeat a byte.
#[derive(Arbitrary, Clone, Debug)]
pub struct Plan {
    choice: u8,
    sectors: u16,
    fill: u8,
    writes: Vec<(u16, u16, u8)>,
    /// What a child changes. Without any, there is no child.
    pub changes: Vec<(u16, u16, u8)>,
}

impl Plan {
    fn format(&self) -> &'static dyn Format {
        let written: Vec<_> = FORMATS
            .iter()
            .filter(|f| !f.subformats().is_empty())
            .collect();
        *written[usize::from(self.choice) % written.len()]
    }

    fn subformat(&self, child: bool) -> Option<&'static Subformat> {
        let mut fit = self.format().subformats().iter();
        let number = usize::from(self.choice) / FORMATS.len();
        if child {
            return fit.find(|s| s.child);
        }
        // These can be nothing but a child.
        let only_child = ["differencing", "vmfsSparse"];
        let whole: Vec<_> = fit.filter(|s| !only_child.contains(&s.name)).collect();
        whole.get(number % whole.len()).copied()
    }

    /// The contents of the base.
    pub fn base(&self) -> Vec<u8> {
        let sectors = 1 + usize::from(self.sectors) % SECTORS;
        let mut bytes = vec![self.fill; sectors * 512];
        apply(&mut bytes, &self.writes);
        bytes
    }

    /// An image with `bytes`, opened again.
    pub fn base_layer(&self, bytes: &Vec<u8>) -> Layer {
        let subformat = self
            .subformat(false)
            .expect("every format writes something");
        let image = self.image(subformat, bytes.size(), None, |writer| {
            convert::copy(bytes, writer, &job()).expect("memory takes everything");
        });
        testing::open_files(self.format(), &image).expect("what was written can be opened")
    }

    /// A child on `base` that changes what the plan says, and the contents it stands for; `None`
    /// if the format has no children or nothing is changed.
    pub fn child_chain(&self, base: Layer, contents: &[u8]) -> Option<(Chain, Vec<u8>)> {
        let subformat = self.subformat(true)?;
        if self.changes.is_empty() {
            return None;
        }
        let mut changed = contents.to_vec();
        apply(&mut changed, &self.changes);
        let identity: Option<Identity> = base.facts().identity;
        let image = self.image(subformat, changed.size(), identity, |writer| {
            changes::write(&base, &changed, writer, &job()).expect("memory takes everything");
        });
        let child =
            testing::open_files(self.format(), &image).expect("what was written can be opened");
        look_at(&child);
        let layers = vec![Arc::new(child), Arc::new(base)];
        Some((Chain::new(layers).expect("sector sizes agree"), changed))
    }

    fn image(
        &self,
        subformat: &'static Subformat,
        size: u64,
        parent: Option<Identity>,
        write: impl FnOnce(Box<dyn vdisk_core::ImageWriter + '_>),
    ) -> testing::Files {
        let spec = Spec {
            size,
            subformat,
            name: "image",
            ids: Ids::derived(&[self.fill; 32], "fuzz", 1_700_000_000),
            level: 1,
            parent: parent.map(|identity| ParentSpec {
                relative: PathBuf::from("parent"),
                absolute: None,
                identity: Some(identity),
                modified: 1_700_000_000,
            }),
            options: testing::small_extents(),
        };
        let files = testing::Files::default();
        let mut target = files.target(spec.name);
        write(
            self.format()
                .create(&mut target, &spec)
                .expect("any whole number of sectors can be written"),
        );
        drop(target);
        files
    }
}

fn apply(bytes: &mut [u8], writes: &[(u16, u16, u8)]) {
    let sectors = bytes.len() / 512;
    for &(at, len, byte) in writes.iter().take(64) {
        let start = usize::from(at) % sectors;
        let end = sectors.min(start + usize::from(len % 5000) + 1);
        for (index, b) in bytes[start * 512..end * 512].iter_mut().enumerate() {
            // Odd bytes make noise that deflate cannot shorten much.
            *b = match byte % 2 {
                0 => byte,
                _ => (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] ^ byte,
            };
        }
    }
}

/// All that `disk` reads as.
pub fn contents(disk: &dyn Disk) -> Vec<u8> {
    testing::contents(disk).expect("a complete disk can be read")
}

fn job() -> Job<'static> {
    Job {
        threads: NonZeroUsize::MIN,
        ..Job::default()
    }
}
