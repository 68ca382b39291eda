//! Images of the builder are read as its model says.

use crate::{
    builder::{Block, Built, DATA_WRITE, MIB, PARENT, Shape, shapes},
    open_sparse, read_all,
    sparse::Sparse,
};
use proptest::prelude::*;
use std::fs;
use vdisk_core::{
    Disk, ErrorKind, FileResolver, Identity, Kind, Layer, OpenOptions, disk::same_kind,
    testing::conformance,
};

/// Checks that `layer` says of each of these sectors what the model does; `hole` is what it must
/// say where the model says nothing.
fn check(layer: &Layer, shape: &Shape, sectors: impl Iterator<Item = u64>, hole: Kind) {
    for number in sectors {
        let pos = number * shape.sector;
        let extent = layer.extent_at(pos).unwrap();
        let mut read = vec![0xee; shape.sector as usize];
        let readable = layer.read_at(pos, &mut read).is_ok();
        match shape.model(number) {
            None => {
                assert_eq!(extent.kind, hole, "sector {number}");
                assert_eq!(readable, hole == Kind::Zero);
                assert!(!readable || read.iter().all(|b| *b == 0));
            }
            Some(bytes) => {
                let zero = bytes.iter().all(|b| *b == 0);
                let kind = if zero { Kind::Zero } else { Kind::Data };
                assert_eq!(extent.kind, kind, "sector {number}");
                assert!(read == bytes, "sector {number}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn base_images_read_as_the_model(shape in shapes(false)) {
        let layer = open_sparse(shape.build().file, false).unwrap();
        prop_assert_eq!((layer.size(), layer.sector_size()), (shape.size(), shape.sector as u32));
        check(&layer, &shape, 0..shape.sectors, Kind::Zero);
        prop_assert_eq!(conformance(&layer), Ok(()));
        // As an overlay, the same image lets what is below it show through.
        let overlay = open_sparse(shape.build().file, true).unwrap();
        check(&overlay, &shape, 0..shape.sectors, Kind::Absent);
    }

    #[test]
    fn children_read_as_the_model(shape in shapes(true)) {
        let layer = open_sparse(shape.build().file, false).unwrap();
        check(&layer, &shape, 0..shape.sectors, Kind::Absent);
        prop_assert_eq!(conformance(&layer), Ok(()));
        let facts = layer.facts();
        prop_assert_eq!(&facts.subformat, "differencing");
        prop_assert_eq!(facts.identity, Some(Identity::Linkage(DATA_WRITE)));
        let parent = facts.parent.clone().unwrap();
        prop_assert_eq!(parent.identity, Some(Identity::Linkage(PARENT)));
        prop_assert_eq!(parent.hints, [r".\base.vhdx"]);
    }
}

/// Entries for bitmaps lie between those for blocks: the first blocks of the second and third
/// chunk would be mistaken for their neighbours.
#[test]
fn blocks_beyond_a_chunk_are_found() {
    for (sector, block, per_chunk) in [
        (512, MIB, 4096),
        (4096, MIB, 32768),
        (512, 32 * MIB, 128),
        (4096, 64 * MIB, 512),
        (512, 256 * MIB, 16),
    ] {
        let per_block = block / sector;
        let few = Block::Partial(vec![(3, 17), (per_block - 1, per_block)]);
        // Large blocks would take long to build: only the parts of them that matter.
        let whole = |n| match block == MIB {
            true => (n, Block::Whole),
            false => (n, Block::Partial(vec![(0, 1), (per_block - 2, per_block)])),
        };
        let blocks = vec![
            (0, few.clone()),
            whole(per_chunk - 1),
            (per_chunk, few.clone()),
            whole(per_chunk + 1),
            (2 * per_chunk - 1, few.clone()),
            whole(2 * per_chunk),
        ];
        // The last block has 20 sectors.
        let mut shape =
            Shape::new(sector, block, 2 * per_chunk * per_block + 20, blocks).into_child();
        shape.blocks[5].1 = Block::Partial(vec![(0, 5)]);
        shape.order = vec![3, 5, 1, 0, 2, 4];
        let layer = open_sparse(build_thin(&shape).file, false).unwrap();
        for number in [
            0,
            per_chunk - 1,
            per_chunk,
            per_chunk + 1,
            2 * per_chunk - 1,
        ] {
            let start = number * per_block;
            let edges = (start..start + 40).chain(start + per_block - 5..start + per_block);
            check(&layer, &shape, edges, Kind::Absent);
        }
        let start = 2 * per_chunk * per_block;
        check(&layer, &shape, start..start + 20, Kind::Absent);
        // All between is absent, in few extents.
        let extents = vdisk_core::disk::extents(&layer, 0..layer.size(), same_kind);
        let data: u64 = extents
            .map(|e| e.unwrap())
            .filter(|e| e.kind == Kind::Data)
            .map(|e| e.range.end - e.range.start)
            .sum();
        let kept: u64 = (shape.blocks.iter())
            .map(|(_, b)| match b {
                Block::Whole => per_block,
                Block::Partial(ranges) => ranges.iter().map(|(a, b)| b - a).sum(),
                Block::Without(_) => 0,
            })
            .sum();
        assert_eq!(data, kept * sector, "{sector} {block}");
    }
}

/// The image without the rubbish in sectors that are not kept: blocks of 256 MiB are large.
fn build_thin(shape: &Shape) -> Built {
    if shape.block == MIB {
        return shape.build();
    }
    let empty = Shape {
        blocks: Vec::new(),
        ..shape.clone()
    };
    let mut built = empty.build();
    let per_chunk = (1u64 << 23) * shape.sector / shape.block;
    let per_block = shape.block / shape.sector;
    let mut end = built.file.size;
    for chunk in 0..=2 {
        let (bitmap, index) = (end, (chunk + 1) * per_chunk + chunk);
        built.entry(index, 6, bitmap);
        end += MIB;
        for (number, block) in &shape.blocks {
            let Block::Partial(ranges) = block else {
                panic!("not thin")
            };
            if number / per_chunk != chunk {
                continue;
            }
            built.entry(number + chunk, 7, end);
            let mut bits = vec![0u8; (per_block / 8) as usize];
            for sector in ranges.iter().flat_map(|(a, b)| *a..*b) {
                bits[(sector / 8) as usize] |= 1 << (sector % 8);
                let bytes = shape.sector(number * per_block + sector);
                built.file.put(end + sector * shape.sector, &bytes);
            }
            let inside = number % per_chunk * per_block / 8;
            built.file.put(bitmap + inside, &bits);
            end += shape.block;
        }
    }
    built.file.size = end;
    built
}

#[test]
fn the_largest_disk_is_read_in_little_memory() {
    // 64 TiB in blocks of 1 MiB: a table of 512 MiB, of which one page is not a hole.
    let sectors = (64u64 << 40) / 512;
    let last = sectors / 2048 - 1;
    let shape = Shape::new(512, MIB, sectors, vec![(last, Block::Whole)]);
    let built = shape.build();
    assert!(built.file.held() < 4 * MIB);
    let layer = open_sparse(built.file, false).unwrap();
    assert_eq!(layer.size(), 64 << 40);
    check(&layer, &shape, sectors - 2049..sectors, Kind::Zero);
    // One sector more is refused.
    let larger = Shape::new(512, 256 * MIB, sectors + 1, Vec::new());
    let error = open_sparse(larger.build().file, false).err().unwrap();
    assert_eq!(
        (error.kind(), error.part()),
        (ErrorKind::Limit, "virtual size")
    );
}

fn sample() -> (Shape, Built) {
    let shape = Shape::new(
        512,
        MIB,
        3 * 2048,
        vec![(0, Block::Whole), (2, Block::Whole)],
    );
    let built = shape.build();
    (shape, built)
}

fn reads_as(shape: &Shape, file: Sparse) -> Layer {
    let layer = open_sparse(file, false).unwrap();
    check(&layer, shape, 0..shape.sectors, Kind::Zero);
    layer
}

#[test]
fn one_good_header_and_one_good_region_table_are_enough() {
    let (shape, good) = sample();
    assert_eq!(
        reads_as(&shape, good.file.clone()).facts().warnings,
        [""; 0]
    );
    for (at, word) in [
        (0, "vhdxfile"),
        (64 << 10, "header 1"),
        (128 << 10, "header 2"),
        (192 << 10, "region table 1"),
    ] {
        for damage in [&[0; 4096][..], &[0xff; 12]] {
            let mut built = good.clone();
            built.file.put(at, damage);
            let layer = reads_as(&shape, built.file);
            assert!(
                layer.facts().warnings[0].contains(word),
                "{:?}",
                layer.facts()
            );
        }
    }
    // Table 2 is not looked at if table 1 is good.
    let mut built = good.clone();
    built.file.put(256 << 10, &[0; 65536]);
    reads_as(&shape, built.file);
}

#[test]
fn the_header_with_the_higher_number_counts() {
    let (shape, good) = sample();
    for (first, second, current) in [(7, 8, 1), (9, 8, 0), (0, 1, 1), (u64::MAX, 0, 0)] {
        let mut built = good.clone();
        built.header(0, first, [0; 16]);
        built.header(1, second, [0; 16]);
        built.in_header(current, 32, b"the current one!");
        let layer = reads_as(&shape, built.file);
        let identity = Some(Identity::Linkage(*b"the current one!"));
        assert_eq!(layer.facts().identity, identity, "{first} {second}");
    }
    // Disk2vhd writes two of one number.
    let mut built = good.clone();
    built.header(0, 8, [0; 16]);
    reads_as(&shape, built.file);
}

#[test]
fn what_other_programs_do_otherwise_is_accepted() {
    let (shape, good) = sample();
    // qemu and FreeBSD mark no region as required.
    let mut built = good.clone();
    built.in_regions(16 + 28, &[0]);
    built.in_regions(48 + 28, &[0]);
    reads_as(&shape, built.file);
    // Regions, system items and user items that nobody knows and nobody needs.
    let mut built = good.clone();
    let end = built.file.size;
    built.file.size += MIB;
    let bat_len = MIB as u32;
    built.regions(&[
        (*b"nobody knows it!", end, MIB as u32, 0),
        (
            crate::builder::guid(crate::builder::BAT_ID),
            good.bat,
            bat_len,
            1,
        ),
        (
            crate::builder::guid(crate::builder::METADATA_ID),
            good.metadata,
            MIB as u32,
            1,
        ),
    ]);
    let mut items = shape.metadata();
    items.push((*b"nobody needs it!", 0, vec![1, 2, 3]));
    items.push((*b"nobody needs it!", 1, vec![4, 5, 6]));
    // A user's item of the same GUID is another thing.
    items.push((items[1].0, 1, vec![7]));
    items.push((*b"an empty item...", 1, vec![]));
    built.metadata_of(&items);
    reads_as(&shape, built.file);
    // The last block is cut where the disk ends.
    let cut = Shape::new(
        512,
        2 * MIB,
        4096 + 9,
        vec![(0, Block::Whole), (1, Block::Whole)],
    );
    let mut built = cut.build();
    built.file.size -= 2 * MIB - 9 * 512;
    reads_as(&cut, built.file);
}

#[test]
fn the_names_of_the_parent_come_in_their_order() {
    let mut shape = Shape::new(512, MIB, 10, Vec::new()).into_child();
    shape.locator = vec![
        ("absolute_win32_path", r"C:\vm\base.vhdx".into()),
        (
            "parent_linkage2",
            "{00000000-0000-0000-0000-000000000000}".into(),
        ),
        ("volume_path", r"\\?\Volume{1}\vm\base.vhdx".into()),
        ("a key of tomorrow", "x".into()),
        ("relative_path", r"..\vm\base.vhdx".into()),
        (
            "parent_linkage",
            "{00112233-4455-6677-8899-AABBCCDDEEFF}".into(),
        ),
    ];
    let layer = open_sparse(shape.build().file, false).unwrap();
    let parent = layer.facts().parent.clone().unwrap();
    assert_eq!(
        parent.hints,
        [
            r"..\vm\base.vhdx",
            r"\\?\Volume{1}\vm\base.vhdx",
            r"C:\vm\base.vhdx"
        ]
    );
    assert_eq!(parent.identity, Some(Identity::Linkage(PARENT)));
    assert_eq!(parent.alternative, None, "zeros are no second parent");
}

/// While a parent is being merged into, its children name what it was and what it will be.
#[test]
fn either_linkage_finds_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let base = Shape::new(512, MIB, 2048, vec![(0, Block::Whole)]);
    let mut built = base.build();
    built.in_headers(32, &PARENT);
    fs::write(folder.path().join("base.vhdx"), built.file.to_vec()).unwrap();
    let other = "{99999999-9999-9999-9999-999999999999}";
    let text = crate::builder::PARENT_TEXT;
    let mut found = Vec::new();
    for (first, second) in [(text, other), (other, text), (other, other)] {
        let mut child = Shape::new(512, MIB, 2048, Vec::new()).into_child();
        child.locator = vec![
            ("parent_linkage", first.into()),
            ("parent_linkage2", second.into()),
            ("relative_path", r".\base.vhdx".into()),
        ];
        let path = folder.path().join("child.vhdx");
        fs::write(&path, child.build().file.to_vec()).unwrap();
        let resolver = FileResolver::default();
        let chain = vdisk_core::open(&path, &OpenOptions::new(&resolver));
        found.push(chain.map(|c| c.layers().len()).map_err(|e| e.kind()));
    }
    assert_eq!(found, [Ok(2), Ok(2), Err(ErrorKind::Reference)]);
}

#[test]
fn an_empty_disk_has_nothing_to_read() {
    read_all(Shape::new(512, MIB, 0, Vec::new()).build().file).unwrap();
}
