//! What the writer makes is read back, and is what the specification asks for.

use crate::{
    builder::{BAT_ID, METADATA_ID, MIB, PARENT, crc, guid},
    child_spec, open_sparse,
    sparse::Sparse,
    spec, write, write_child,
};
use proptest::prelude::*;
use std::sync::Arc;
use vdisk_core::{
    Chain, Disk, Error, ErrorKind, Extent, Identity, Kind, Result,
    format::{self, Options, Spec},
    testing::{self, conformance, contents},
};

/// Entries of the table, as state and place, by what they are for.
struct Table {
    payload: Vec<(u64, u64)>,
    bitmaps: Vec<(u64, u64)>,
}

/// Checks what every image must look like from outside, by the letter of the specification.
fn check_structure(image: &Sparse) -> Table {
    assert!(image.size.is_multiple_of(MIB), "not whole MiB");
    assert_eq!(image.get(0, 8), b"vhdxfile");
    let creator: Vec<u16> = (image.get(8, 512).chunks(2))
        .map(|u| u16::from_le_bytes([u[0], u[1]]))
        .take_while(|u| *u != 0)
        .collect();
    let creator = String::from_utf16(&creator).unwrap();
    assert!(creator.starts_with("vdisk "), "{creator}");
    let sum_is_right = |at: u64, len: usize| {
        let mut bytes = image.get(at, len);
        bytes[4..8].fill(0);
        assert_eq!(crc(&bytes), image.u32_at(at + 4), "checksum at {at:#x}");
    };
    for at in [64 << 10, 128 << 10] {
        sum_is_right(at, 4096);
        assert_eq!(image.get(at, 4), b"head");
        assert_eq!(image.get(at + 48, 16), [0; 16], "the log is in use");
        assert_eq!(image.get(at + 64, 4), [0, 0, 1, 0]);
        assert_eq!(
            (image.u32_at(at + 68), image.u64_at(at + 72)),
            (MIB as u32, MIB)
        );
        for id in [16, 32] {
            assert_ne!(image.get(at + id, 16), [0; 16]);
        }
    }
    assert_eq!(
        image.u64_at((64 << 10) + 8) + 1,
        image.u64_at((128 << 10) + 8)
    );
    assert_eq!(
        image.get((64 << 10) + 16, 4080),
        image.get((128 << 10) + 16, 4080)
    );
    sum_is_right(192 << 10, 65536);
    assert_eq!(image.get(192 << 10, 65536), image.get(256 << 10, 65536));
    let mut taken = vec![(0, MIB), (MIB, MIB)];
    let mut regions = Vec::new();
    for row in 0..u64::from(image.u32_at((192 << 10) + 8)) {
        let at = (192 << 10) + 16 + 32 * row;
        let place = (image.u64_at(at + 16), u64::from(image.u32_at(at + 24)));
        assert_eq!(image.u32_at(at + 28), 1, "not marked as required");
        regions.push((image.get(at, 16), place));
        taken.push(place);
    }
    let region = |id: &str| regions.iter().find(|r| r.0 == guid(id)).unwrap().1;
    let (bat, metadata) = (region(BAT_ID), region(METADATA_ID).0);
    let item = |number: u64| {
        let at = metadata + 32 + 32 * number;
        (
            image.u32_at(at + 24),
            metadata + u64::from(image.u32_at(at + 16)),
        )
    };
    let flags: Vec<u32> = (0..5).map(|n| item(n).0).collect();
    assert_eq!(
        flags,
        [4, 6, 6, 6, 6],
        "of the items, as in the specification"
    );
    let block = u64::from(image.u32_at(item(0).1));
    let child = image.u32_at(item(0).1 + 4) & 2 != 0;
    assert_eq!(image.get(metadata, 8), b"metadata");
    assert_eq!(image.u32_at(metadata + 8), (5 + u32::from(child)) << 16);
    let (size, sector) = (image.u64_at(item(1).1), u64::from(image.u32_at(item(2).1)));
    let per_chunk = (sector << 23) / block;
    let blocks = size.div_ceil(block);
    let mut table = Table {
        payload: Vec::new(),
        bitmaps: Vec::new(),
    };
    for index in 0..bat.1 / 8 {
        let entry = image.u64_at(bat.0 + index * 8);
        let (state, at) = (entry & 7, entry >> 20 << 20);
        assert_eq!(entry & 0xf_fff8, 0, "reserved bits of entry {index}");
        assert_eq!(
            at != 0,
            state >= 6,
            "entry {index} of state {state} at {at:#x}"
        );
        let (chunk, inside) = (index / (per_chunk + 1), index % (per_chunk + 1));
        if inside == per_chunk {
            assert!(
                state == 0 || (state == 6 && child),
                "bitmap of chunk {chunk}"
            );
            if state == 6 {
                taken.push((at, MIB));
            }
            if chunk < blocks.div_ceil(per_chunk) {
                table.bitmaps.push((state, at));
            }
            continue;
        }
        let number = chunk * per_chunk + inside;
        assert!(number < blocks || entry == 0, "entry {index} past the disk");
        assert!(matches!(state, 0 | 6) || child, "state {state} in a base");
        if number < blocks {
            table.payload.push((state, at));
        }
        if state >= 6 {
            taken.push((at, block));
        }
    }
    for (number, (state, _)) in (0..).zip(&table.payload) {
        let bitmap = table.bitmaps.get((number / per_chunk) as usize);
        assert!(
            *state != 7 || bitmap.is_some_and(|b| b.0 == 6),
            "no bitmap for {number}"
        );
    }
    // All of the file is used, by one thing each.
    taken.sort_unstable();
    let mut end = 0;
    for (at, len) in taken {
        assert_eq!(at, end, "a gap or an overlap");
        end = at + len;
    }
    assert_eq!(end, image.size);
    table
}

/// Disks of some MiB: runs of sectors that are zero or hold bytes of their own.
fn disks(sector: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((1..700usize, prop::option::of(any::<u8>())), 1..8).prop_map(
        move |runs| {
            let mut disk = Vec::new();
            for (len, byte) in runs {
                disk.extend((0..len * sector).map(|i| match byte {
                    Some(byte) => byte.wrapping_add((i / 100) as u8) | 1,
                    None => 0,
                }));
            }
            disk
        },
    )
}

fn options(block_size: u64, sector_size: u32) -> Options {
    Options {
        block_size: Some(block_size),
        sector_size: Some(sector_size),
        ..Options::default()
    }
}

/// The disk `bytes` with sectors of another size.
struct Sectors<'a>(&'a Vec<u8>, u32);

impl Disk for Sectors<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn sector_size(&self) -> u32 {
        self.1
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        self.0.extent_at(pos)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(pos, buf)
    }
}

fn sized() -> impl Strategy<Value = (u32, u64, Vec<u8>)> {
    prop_oneof![Just(512u32), Just(4096)].prop_flat_map(|sector| {
        let blocks = prop_oneof![Just(MIB), Just(2 * MIB), Just(4 * MIB)];
        (Just(sector), blocks, disks(sector as usize))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bases_read_back((sector, block, disk) in sized()) {
        for subformat in ["dynamic", "fixed"] {
            let spec = Spec { options: options(block, sector), ..spec(subformat, disk.size()) };
            let image = write(&Sectors(&disk, sector), &spec);
            let table = check_structure(&image);
            for (number, (state, _)) in table.payload.iter().enumerate() {
                let start = number * block as usize;
                let data = disk[start..disk.len().min(start + block as usize)].iter().any(|b| *b != 0);
                let expected = if data || subformat == "fixed" { 6 } else { 0 };
                prop_assert_eq!(*state, expected, "block {}", number);
            }
            let layer = open_sparse(image, false).unwrap();
            prop_assert_eq!(layer.sector_size(), sector);
            prop_assert_eq!(&layer.facts().subformat, subformat);
            prop_assert!(layer.facts().warnings.is_empty());
            prop_assert!(contents(&layer).unwrap() == disk);
            prop_assert_eq!(conformance(&layer), Ok(()));
        }
    }

    #[test]
    fn children_read_back(
        (sector, block, parent) in sized(),
        edits in prop::collection::vec((any::<u32>(), 1..600usize, prop_oneof![Just(0u8), any::<u8>()]), 0..6),
    ) {
        let mut disk = parent.clone();
        let unit = sector as usize;
        for (at, len, byte) in edits {
            let start = at as usize % (disk.len() / unit) * unit;
            let end = disk.len().min(start + len * unit);
            disk[start..end].fill(byte);
        }
        let base_spec = Spec { options: options(MIB, sector), ..spec("dynamic", parent.size()) };
        let base = write(&Sectors(&parent, sector), &base_spec);
        let base = Arc::new(open_sparse(base, false).unwrap());
        let spec = Spec {
            options: options(block, sector),
            ..child_spec(disk.size(), base.facts().identity)
        };
        let (image, recorded) = write_child(&parent, &disk, &spec);
        let table = check_structure(&image);
        // What is recorded is what differs, in units of 8 sectors; the state says how.
        let mut changed = 0;
        for (number, (state, _)) in table.payload.iter().enumerate() {
            let start = number * block as usize;
            let end = disk.len().min(start + block as usize);
            let units: Vec<(bool, bool)> = (start..end).step_by(8 * unit).map(|at| {
                let unit = at..end.min(at + 8 * unit);
                changed += if disk[unit.clone()] == parent[unit.clone()] { 0 } else { unit.len() };
                (disk[unit.clone()] != parent[unit.clone()], disk[unit].iter().all(|b| *b == 0))
            }).collect();
            let all = units.iter().all(|u| u.0);
            let expected = match (units.iter().any(|u| u.0), all) {
                (false, _) => 0,
                (true, true) if units.iter().all(|u| u.1) => 2,
                (true, true) => 6,
                (true, false) => 7,
            };
            prop_assert_eq!(*state, expected, "block {}", number);
        }
        prop_assert_eq!(recorded, changed as u64);
        let layer = open_sparse(image, false).unwrap();
        prop_assert_eq!(conformance(&layer), Ok(()));
        prop_assert_eq!(layer.facts().parent.clone().unwrap().identity, base.facts().identity);
        let chain = Chain::new(vec![Arc::new(layer), base]).unwrap();
        prop_assert!(contents(&chain).unwrap() == disk);
    }
}

#[test]
fn the_defaults_are_those_of_windows() {
    let disk = vec![1; 512];
    let parent = Some(Identity::Linkage(PARENT));
    let specs = [
        (spec("dynamic", 512), 32 * MIB),
        (spec("fixed", 512), 2 * MIB),
        (child_spec(512, parent), 2 * MIB),
    ];
    for (spec, block) in specs {
        let image = match &spec.parent {
            None => write(&disk, &spec),
            Some(_) => write_child(&vec![0; 512], &disk, &spec).0,
        };
        check_structure(&image);
        assert_eq!(image.size, 4 * MIB + block);
        let layer = open_sparse(image, false).unwrap();
        let details = &layer.facts().details;
        for (name, value) in [
            ("block size", format!("{block} bytes")),
            ("logical sector", "512 bytes".into()),
            ("physical sector", "4096 bytes".into()),
        ] {
            assert!(details.contains(&(name, value)), "{details:?}");
        }
        // The data write GUID is the UUID that the image was given.
        let mut raw = spec.ids.uuid;
        raw[..4].reverse();
        raw[4..6].reverse();
        raw[6..8].reverse();
        assert_eq!(layer.facts().identity, Some(Identity::Linkage(raw)));
    }
}

#[test]
fn the_same_ids_give_the_same_bytes() {
    let disk = vec![7; 3 << 20];
    for subformat in ["dynamic", "fixed"] {
        let one = write(&disk, &spec(subformat, disk.size()));
        assert!(one == write(&disk, &spec(subformat, disk.size())));
        let mut other = spec(subformat, disk.size());
        other.ids.uuid[0] ^= 1;
        assert!(one != write(&disk, &other));
    }
}

/// Chunks that share no bitmap, in one image: 4 GiB each, of which a child takes some units.
#[test]
fn children_of_many_chunks_read_back() {
    let gib = 1u64 << 30;
    let size = 13 * gib + 512;
    let near = |pos: u64| [4 * gib - 4096, 4 * gib, 8 * gib + 8192, 12 * gib - 4096].contains(&pos);
    let mut image = Sparse::default();
    let vhdx = format::named("vhdx").unwrap();
    let spec = Spec {
        options: options(MIB, 512),
        ..child_spec(size, Some(Identity::Linkage(PARENT)))
    };
    let mut writer = vhdx.create(&mut image, &spec).unwrap();
    for pos in [4 * gib - 4096, 4 * gib, 8 * gib + 8192, 12 * gib - 4096] {
        writer.data(pos..pos + 4096, &[5; 4096]).unwrap();
    }
    // From within one chunk into the next, but for the first unit.
    writer.zero(12 * gib + 4096..size).unwrap();
    writer.finish().unwrap();
    let table = check_structure(&image);
    let states: Vec<u64> = table.bitmaps.iter().map(|b| b.0).collect();
    assert_eq!(states, [6, 6, 6, 6]);
    assert!(table.payload[12 * 1024 + 1..].iter().all(|p| p.0 == 2));
    assert!(image.held() < 16 * MIB, "{} bytes", image.held());
    let layer = open_sparse(image, false).unwrap();
    let mut data = Vec::new();
    for extent in vdisk_core::disk::extents(&layer, 0..size, vdisk_core::disk::same_kind) {
        let extent = extent.unwrap();
        match extent.kind {
            Kind::Data => data.push(extent.range),
            Kind::Zero => assert!(extent.range.start >= 12 * gib + 4096),
            Kind::Absent => assert!(extent.range.end <= 12 * gib + 4096),
        }
    }
    // The first two follow each other.
    let expected = [
        4 * gib - 4096..4 * gib + 4096,
        8 * gib + 8192..8 * gib + 12288,
        12 * gib - 4096..12 * gib,
    ];
    let joined: Vec<_> = data.into_iter().filter(|r| near(r.start)).collect();
    assert_eq!(joined, expected);
}

#[test]
fn the_largest_disk_is_written_in_little_memory() {
    let size = 64u64 << 40;
    for block in [MIB, 32 * MIB] {
        let mut image = Sparse::default();
        let vhdx = format::named("vhdx").unwrap();
        let spec = Spec {
            options: options(block, 512),
            ..spec("dynamic", size)
        };
        let mut writer = vhdx.create(&mut image, &spec).unwrap();
        writer.zero(0..size - 4096).unwrap();
        writer.data(size - 4096..size, &[9; 4096]).unwrap();
        writer.finish().unwrap();
        assert!(image.held() < MIB, "{} bytes", image.held());
        let layer = open_sparse(image, false).unwrap();
        let mut read = [0; 4096];
        layer.read_at(size - 4096, &mut read).unwrap();
        assert_eq!(read, [9; 4096]);
        assert_eq!(layer.extent_at(size - block - 1).unwrap().kind, Kind::Zero);
    }
    let vhdx = format::named("vhdx").unwrap();
    let mut image = Sparse::default();
    let error = vhdx.create(&mut image, &spec("dynamic", size + 512)).err();
    assert_eq!(error.unwrap().kind(), ErrorKind::Unsupported);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let parent = Some(Identity::Linkage(PARENT));
    let wrong = [
        Spec {
            parent: child_spec(4096, parent).parent,
            ..spec("dynamic", 4096)
        },
        spec("differencing", 4096),
        child_spec(4096, None),
        child_spec(4096, Some(Identity::Cid(5))),
        child_spec(4096, Some(Identity::Uuid(PARENT))),
        child_spec(4096, Some(Identity::Linkage([0; 16]))),
        spec("dynamic", 100),
        Spec {
            options: options(MIB, 4096),
            ..spec("fixed", 512)
        },
        Spec {
            options: options(MIB, 1024),
            ..spec("dynamic", 4096)
        },
        Spec {
            options: options(3 * MIB, 512),
            ..spec("dynamic", 4096)
        },
        Spec {
            options: options(512 << 10, 512),
            ..spec("fixed", 4096)
        },
        Spec {
            options: options(512 * MIB, 512),
            ..child_spec(4096, parent)
        },
        Spec {
            options: options(1 << 40, 512),
            ..child_spec(4096, parent)
        },
    ];
    let vhdx = format::named("vhdx").unwrap();
    for spec in &wrong {
        let mut image = Sparse::default();
        let error: Option<Error> = vhdx.create(&mut image, spec).err();
        assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::Usage), "{spec:?}");
        assert_eq!(image, Sparse::default());
    }
}

#[test]
fn a_child_under_a_parent_of_other_sectors_is_no_chain() {
    let disk = vec![3u8; 8192];
    let base = write(&disk, &spec("dynamic", 8192));
    let base = Arc::new(open_sparse(base, false).unwrap());
    let spec = Spec {
        options: options(MIB, 4096),
        ..child_spec(8192, base.facts().identity)
    };
    let (image, _) = write_child(&testing::disk(&[(8192, None)]), &disk, &spec);
    let child = Arc::new(open_sparse(image, false).unwrap());
    let error = Chain::new(vec![child, base]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
