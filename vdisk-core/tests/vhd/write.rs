//! What the writer makes is read back.

use crate::{
    SECTOR,
    builder::{PARENT, UUID, seal},
    child_spec, open_bytes,
    peers::sized,
    raw_layer, spec, write, write_child,
};
use proptest::prelude::*;
use std::sync::Arc;
use vdisk_core::{
    Chain, Deny, Disk, Error, ErrorKind, Identity, Job, Kind, OpenOptions, Reference, Resolver,
    Result,
    format::{self, Spec},
    open,
    ops::convert,
    storage::ImageFile,
    target::{Stream, Target},
    testing::{conformance, contents},
};

/// What every image with blocks must look like from outside.
fn check_structure(image: &[u8]) {
    check_structure_of(image, 2 << 20);
}

/// As [`check_structure`], with blocks of `block` bytes.
fn check_structure_of(image: &[u8], block: usize) {
    let end = image.len() - 512;
    assert!(image.len().is_multiple_of(512));
    assert_eq!(image[..512], image[end..], "the footer and its copy differ");
    let mut footer = image[..512].to_vec();
    seal(&mut footer, 64);
    assert_eq!(footer, image[..512]);
    let mut header = image[512..1536].to_vec();
    seal(&mut header, 36);
    assert_eq!(header, image[512..1536]);
    let at = u64::from_be_bytes(header[16..24].try_into().unwrap()) as usize;
    let count = u32::from_be_bytes(header[28..32].try_into().unwrap()) as usize;
    assert_eq!(image[512 + 32..][..4], (block as u32).to_be_bytes());
    let bitmap = (block / 512 / 8).next_multiple_of(512);
    for entry in image[at..][..count * 4].as_chunks().0 {
        let entry = u32::from_be_bytes(*entry) as usize;
        if entry != 0xffff_ffff {
            let data = entry * 512 + bitmap;
            assert!(data.is_multiple_of(4096), "data are not aligned");
            assert!(data + block <= end, "a block is cut");
        }
    }
}

/// A disk of some MiB: runs of sectors that are zero or hold bytes of their own.
fn disks() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((1..3000usize, prop::option::of(any::<u8>())), 1..8).prop_map(|runs| {
        let mut disk = Vec::new();
        for (len, byte) in runs {
            let start = disk.len();
            disk.extend((0..len * SECTOR).map(|i| match byte {
                Some(byte) => byte.wrapping_add((i / 100) as u8),
                None => 0,
            }));
            assert_eq!(disk.len(), start + len * SECTOR);
        }
        disk
    })
}

/// What a child records at once, in bytes.
const UNIT: usize = 4096;

/// Single sectors of `disk` changed, zeroed, and its end moved.
fn changed(mut disk: Vec<u8>, edits: &[(usize, u8)], sectors: usize) -> Vec<u8> {
    disk.resize(sectors * SECTOR, 0);
    for (at, byte) in edits {
        let at = at % sectors * SECTOR;
        disk[at..][..SECTOR].fill(*byte);
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn written_bases_read_back(disk in disks()) {
        for subformat in ["dynamic", "fixed"] {
            let image = write(&disk, &spec(subformat, disk.size()));
            if subformat == "dynamic" {
                check_structure(&image);
            } else {
                prop_assert_eq!(image.len(), disk.len() + 512);
                prop_assert_eq!(&image[..disk.len()], &disk);
            }
            let layer = open_bytes(image, false).unwrap();
            prop_assert!(layer.facts().warnings.is_empty());
            prop_assert_eq!(&layer.facts().subformat, subformat);
            let identity = Identity::Uuid(spec(subformat, 512).ids.uuid);
            prop_assert_eq!(layer.facts().identity, Some(identity));
            prop_assert!(contents(&layer).unwrap() == disk);
            prop_assert_eq!(conformance(&layer), Ok(()));
        }
    }

    #[test]
    fn written_children_read_back(
        parent in disks(),
        edits in prop::collection::vec((0..20_000usize, prop_oneof![Just(0), any::<u8>()]), 0..12),
        sectors in 1..9000usize,
    ) {
        let disk = changed(parent.clone(), &edits, sectors);
        let spec = child_spec(disk.size(), Some(Identity::Uuid(PARENT)));
        let (image, recorded) = write_child(&parent, &disk, &spec);
        check_structure(&image);
        let layer = open_bytes(image, false).unwrap();
        prop_assert_eq!(conformance(&layer), Ok(()));
        // Exactly the groups of eight sectors that differ are kept.
        let mut below = parent.clone();
        below.resize(disk.len(), 0);
        let mut differing = 0;
        for (pos, (new, old)) in disk.chunks(UNIT).zip(below.chunks(UNIT)).enumerate() {
            let kind = layer.extent_at((pos * UNIT) as u64).unwrap().kind;
            prop_assert_eq!(kind == Kind::Data, new != old);
            differing += if new == old { 0 } else { new.len() as u64 };
        }
        prop_assert_eq!(recorded, differing);
        let chain = Chain::new(vec![Arc::new(layer), raw_layer(parent)]).unwrap();
        prop_assert!(contents(&chain).unwrap() == disk);
    }
}

/// A folder in memory.
struct Folder(Vec<ImageFile>);

impl Resolver for Folder {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        let Reference::Parent(parent) = reference else {
            panic!("a VHD has no extents")
        };
        let wanted = |file: &&ImageFile| {
            parent
                .hints
                .iter()
                .any(|h| h.to_string_lossy().rsplit('\\').next() == file.path().to_str())
        };
        let found: Vec<ImageFile> = self.0.iter().filter(wanted).cloned().collect();
        if found.is_empty() {
            return Err(Error::new(ErrorKind::Reference, "parent", "missing").path(from.path()));
        }
        Ok(found)
    }
}

#[test]
fn a_child_finds_its_parent_and_no_other() {
    let base: Vec<u8> = (0..3 << 20).map(|i: u32| (i / 700) as u8).collect();
    let mut disk = base.clone();
    disk[512 * 9..512 * 11].fill(0);
    disk[2_500_000] ^= 1;
    let open_child = |parent: ImageFile, child: &[u8]| {
        let folder = Folder(vec![parent]);
        let options = OpenOptions::new(&folder);
        let file = ImageFile::from_storage("child.vhd", child.to_vec()).unwrap();
        open::complete(open::open_file(file, &options).unwrap(), &options)
    };
    let parent_spec = spec("dynamic", base.size());
    let parent = ImageFile::from_storage("base.vhd", write(&base, &parent_spec)).unwrap();
    let identity = Some(Identity::Uuid(parent_spec.ids.uuid));
    let (child, recorded) = write_child(&base, &disk, &child_spec(disk.size(), identity));
    assert_eq!(recorded, 2 * UNIT as u64);
    let chain = open_child(parent.clone(), &child).unwrap();
    assert_eq!(chain.layers().len(), 2);
    assert!(contents(&chain).unwrap() == disk);
    conformance(&chain).unwrap();

    let stranger = Some(Identity::Uuid(UUID));
    let (child, _) = write_child(&base, &disk, &child_spec(disk.size(), stranger));
    let error = open_child(parent, &child).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Reference);

    // Without an identity the parent is raw, whatever it looks like.
    let raw = ImageFile::from_storage("base.vhd", base.clone()).unwrap();
    let (child, _) = write_child(&base, &disk, &child_spec(disk.size(), None));
    assert!(contents(&open_child(raw, &child).unwrap()).unwrap() == disk);
}

#[test]
fn fixed_disks_can_be_streamed() {
    let mut disk = vec![0u8; 3 << 20];
    disk[1 << 20..][..5000].fill(7);
    let spec = spec("fixed", disk.size());
    let mut piped: Vec<u8> = Vec::new();
    let mut stream = Stream::new(&mut piped);
    let writer = format::named("vhd")
        .unwrap()
        .create(&mut stream, &spec)
        .unwrap();
    convert::copy(&disk, writer, &Job::default()).unwrap();
    assert!(piped == write(&disk, &spec));
}

/// Keeps what is written, but no gaps.
#[derive(Default)]
struct Sparse {
    parts: Vec<(u64, Vec<u8>)>,
    size: u64,
}

impl Target for Sparse {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.parts.push((pos, bytes.to_vec()));
        Ok(())
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        self.size = size;
        Ok(())
    }
}

impl vdisk_core::storage::Storage for Sparse {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.size)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> std::io::Result<()> {
        buf.fill(0);
        for (at, bytes) in &self.parts {
            for (i, byte) in buf.iter_mut().enumerate() {
                let inside = (pos + i as u64).checked_sub(*at);
                if let Some(b) = inside.and_then(|i| bytes.get(i as usize)) {
                    *byte = *b;
                }
            }
        }
        Ok(())
    }
}

/// Sizes of blocks from the smallest to one that no test disk fills.
pub(crate) const BLOCKS: [u64; 6] = [4096, 65_536, 512 << 10, 1 << 20, 4 << 20, 16 << 20];

#[test]
fn blocks_have_the_size_asked_for() {
    let base: Vec<u8> = (0..5 << 20)
        .map(|i: u32| if i >> 18 & 3 == 1 { 0 } else { (i / 900) as u8 })
        .collect();
    let disk = changed(
        base.clone(),
        &[(3, 9), (5000, 0), (9000, 8), (10_239, 7)],
        10_240,
    );
    for block in BLOCKS {
        let sized = |spec| sized(block, spec);
        let image = write(&base, &sized(spec("dynamic", base.size())));
        check_structure_of(&image, block as usize);
        let layer = open_bytes(image, false).unwrap();
        assert!(contents(&layer).unwrap() == base, "{block}");
        conformance(&layer).unwrap();

        let identity = Some(Identity::Uuid(PARENT));
        let child = sized(child_spec(disk.size(), identity));
        let (image, _) = write_child(&base, &disk, &child);
        check_structure_of(&image, block as usize);
        let layer = open_bytes(image, false).unwrap();
        let chain = Chain::new(vec![Arc::new(layer), raw_layer(base.clone())]).unwrap();
        assert!(contents(&chain).unwrap() == disk, "{block}");

        // A fixed disk has no blocks.
        let image = write(&base, &sized(spec("fixed", base.size())));
        assert!(image == write(&base, &spec("fixed", base.size())));
    }
    for (block, size) in [
        (0, 4096),
        (2048, 4096),
        (3 << 20, 4096),
        (512 << 20, 4096),
        (4096, 2040 << 30), // more blocks than a table may have
    ] {
        let spec = sized(block, spec("dynamic", size));
        let vhd = format::named("vhd").unwrap();
        let error = vhd.create(&mut Vec::new(), &spec).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains("block size"), "{error}");
    }
}

#[test]
fn the_largest_disk_can_be_written_and_read() {
    let size = 2040 << 30;
    let vhd = format::named("vhd").unwrap();
    let mut target = Sparse::default();
    let mut writer = vhd.create(&mut target, &spec("dynamic", size)).unwrap();
    writer.data(size - 4096..size, &[9; 4096]).unwrap();
    writer.finish().unwrap();
    let file = ImageFile::from_storage("big.vhd", target).unwrap();
    let layer = open::open_file(file, &OpenOptions::new(&Deny)).unwrap();
    assert_eq!(layer.size(), size);
    let mut buf = [0; 2];
    layer.read_at(size - 4097, &mut buf).unwrap();
    assert_eq!(buf, [0, 9]);
    assert_eq!(layer.extent_at(0).unwrap().kind, Kind::Zero);

    let mut target = Vec::new();
    for spec in [
        spec("dynamic", size + 512),
        child_spec(size + 512, Some(Identity::Uuid(PARENT))),
    ] {
        let error = vhd.create(&mut target, &spec).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("2040 GiB"), "{error}");
    }
    assert!(vhd.create(&mut target, &spec("fixed", size + 512)).is_ok());
}

#[test]
fn wishes_that_make_no_sense_are_refused() {
    let vhd = format::named("vhd").unwrap();
    let parent = child_spec(4096, None).parent;
    for spec in [
        spec("dynamic", 100),
        spec("differencing", 4096),
        Spec {
            parent: parent.clone(),
            ..spec("dynamic", 4096)
        },
        Spec {
            parent,
            ..spec("fixed", 4096)
        },
        child_spec(4096, Some(Identity::Cid(5))),
        child_spec(4096, Some(Identity::Uuid([0; 16]))),
    ] {
        let error = vhd.create(&mut Vec::new(), &spec).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
}

#[test]
fn the_absolute_path_of_the_parent_is_recorded_only_on_request() {
    let disk = vec![1u8; 4096];
    let mut spec = child_spec(disk.size(), Some(Identity::Uuid(PARENT)));
    let hints = |spec: &Spec<'_>| {
        let (image, _) = write_child(&disk, &disk, spec);
        let parent = open_bytes(image, false)
            .unwrap()
            .facts()
            .parent
            .clone()
            .unwrap();
        assert_eq!(parent.identity, Some(Identity::Uuid(PARENT)));
        parent.hints
    };
    assert_eq!(hints(&spec), [".\\base.vhd", "base.vhd"]);
    if let Some(parent) = &mut spec.parent {
        parent.relative = "../gold/base.vhd".into();
        parent.absolute = Some("/images/gold/base.vhd".into());
    }
    assert_eq!(
        hints(&spec),
        ["..\\gold\\base.vhd", "base.vhd", "\\images\\gold\\base.vhd"]
    );
}
