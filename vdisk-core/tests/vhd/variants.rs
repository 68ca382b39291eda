//! What programs write that the specification does not say, or says otherwise.

use crate::{
    SECTOR,
    builder::{PARENT, Shape, footer, put, seal, shapes},
    open_bytes, raw_layer, sectors,
};
use proptest::prelude::*;
use std::{ffi::OsString, sync::Arc};
use vdisk_core::{
    Chain, Deny, Disk, ErrorKind, Identity, Kind, Layer, OpenOptions, Result, open,
    storage::ImageFile,
    testing::{conformance, contents},
};

/// One block of 4 KiB, all of it kept.
fn small(kind: u32) -> Vec<u8> {
    Shape {
        kind,
        sectors: 8,
        block: 4096,
        blocks: vec![Some(vec![true; 8])],
        order: vec![0],
        gap: 8, // room for names after the header
        spare: 0,
        table_last: false,
        cut: false,
        seed: 3,
    }
    .build()
}

/// Changes both footers.
fn in_footers(image: &mut [u8], at: usize, what: &[u8]) {
    let end = image.len() - 512;
    for start in [0, end] {
        put(&mut image[start..start + 512], at, what);
        seal(&mut image[start..start + 512], 64);
    }
}

fn in_header(image: &mut [u8], at: usize, what: &[u8]) {
    put(&mut image[512..1536], at, what);
    seal(&mut image[512..1536], 36);
}

fn warnings(layer: &Layer) -> Vec<String> {
    layer.facts().warnings.clone()
}

fn detail(layer: &Layer, name: &str) -> Option<String> {
    let details = layer.facts().details.iter();
    let mut found = details.filter(|(n, _)| *n == name).map(|(_, v)| v.clone());
    found.next()
}

fn flat(model: &[Option<Vec<u8>>]) -> Vec<u8> {
    let zero = vec![0; SECTOR];
    let sectors = model.iter().map(|s| s.as_ref().unwrap_or(&zero));
    sectors.flatten().copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Its bitmaps begin with the lowest bit.
    #[test]
    fn the_first_driver_of_xenserver_is_read(shape in shapes(3)) {
        let model = shape.model();
        let mut image = shape.build();
        in_footers(&mut image, 28, b"tap\0\0\0\0\x01");
        let table = u64::from_be_bytes(image[528..536].try_into().unwrap()) as usize;
        for block in 0..shape.blocks.len() {
            let entry = u32::from_be_bytes(image[table + block * 4..][..4].try_into().unwrap());
            if entry != u32::MAX {
                let bytes = (shape.block / SECTOR).div_ceil(8);
                for byte in &mut image[entry as usize * SECTOR..][..bytes] {
                    *byte = byte.reverse_bits();
                }
            }
        }
        let layer = open_bytes(image, false).unwrap();
        prop_assert_eq!(contents(&layer).unwrap(), flat(&model));
        prop_assert_eq!(conformance(&layer), Ok(()));
    }
}

#[test]
fn xenserver_hides_without_a_checksum() {
    let plain = sectors(&open_bytes(small(3), false).unwrap());
    // Creator version, byte that marks, and whether that is a damaged footer.
    let rows = [
        (*b"\0\0\0\x01", 1, false),
        (*b"\0\x01\0\x01", 1, false),
        (*b"\0\x01\0\x03", 1, true),
        (*b"\0\x01\0\x01", 0x80, false),
    ];
    for (version, mark, damaged) in rows {
        let mut image = small(3);
        in_footers(&mut image, 28, b"tap\0");
        in_footers(&mut image, 32, &version);
        let end = image.len() - 512;
        image[85] = mark;
        image[end + 85] = mark;
        let layer = open_bytes(image, false).unwrap();
        assert_eq!(!warnings(&layer).is_empty(), damaged, "{version:?}");
        assert!(detail(&layer, "hidden").is_some());
        if version != *b"\0\0\0\x01" {
            assert_eq!(sectors(&layer), plain);
        }
    }
}

#[test]
fn a_batmap_is_shown_and_changes_nothing() {
    let plain = sectors(&open_bytes(small(4), false).unwrap());
    let table = 1536 + 8 * 512;
    for (creator, version, shown) in [
        (*b"tap\0", 0x10003u32, true),
        (*b"tap\0", 0x10001, true),
        (*b"tap\0", 1, false),
        (*b"win ", 0x10003, false),
    ] {
        let mut image = small(4);
        in_footers(&mut image, 28, &creator);
        in_footers(&mut image, 32, &version.to_be_bytes());
        // In the gap before the first block, after the table's sector. All bits are set.
        let at = table + 512;
        put(&mut image, at, b"tdbatmap");
        put(&mut image, at + 8, &(at as u64 + 512).to_be_bytes());
        put(&mut image, at + 19, &[1]);
        put(&mut image, at + 20, &0x10002u32.to_be_bytes());
        image[at + 512..at + 1024].fill(0xff);
        let layer = open_bytes(image, false).unwrap();
        let found = detail(&layer, "batmap");
        assert_eq!(found.as_deref(), shown.then_some("version 1.2"));
        if version != 1 {
            assert_eq!(sectors(&layer), plain);
        }
    }
}

/// A fixed disk that begins with what a guest may have put there.
fn fixed(start: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut disk: Vec<u8> = (0..8192u32).map(|i| (i / 60) as u8).collect();
    disk[..start.len()].copy_from_slice(start);
    let mut image = disk.clone();
    let mut footer = footer(2, 8192, u64::MAX);
    seal(&mut footer, 64);
    image.extend(footer);
    (image, disk)
}

fn open_as(name: &str, bytes: Vec<u8>) -> Result<Layer> {
    let file = ImageFile::from_storage(name, bytes)?;
    open::open_file(file, &OpenOptions::new(&Deny))
}

#[test]
fn a_footer_with_bytes_behind_it_is_found() {
    let mut lure = footer(3, 1 << 20, 512);
    put(&mut lure, 68, b"some other image");
    seal(&mut lure, 64);
    for start in [&[][..], &lure] {
        for padding in [512, 4096, 1 << 19] {
            let (mut image, disk) = fixed(start);
            image.resize(image.len() + padding, 0);
            let layer = open_as("a.vhd", image.clone()).unwrap();
            assert_eq!(layer.facts().subformat, "fixed");
            assert!(contents(&layer).unwrap() == disk);
            let said = warnings(&layer);
            assert!(
                said.len() == 1 && said[0].contains("bytes follow"),
                "{said:?}"
            );
            if start.is_empty() {
                // A name that does not say VHD promises nothing.
                assert!(open_as("a.bin", image).is_err());
            }
        }
    }
    let (mut image, _) = fixed(&[]);
    image.resize(image.len() + (2 << 20), 0);
    assert!(open_as("a.vhd", image).is_err(), "too far from the end");
    // The guest's own footer does not fit the place where it is.
    let (mut image, _) = fixed(&[]);
    let inner = image.split_off(8192);
    put(&mut image, 512, &inner);
    assert!(open_as("a.vhd", image).is_err());

    let plain = sectors(&open_bytes(small(3), false).unwrap());
    let mut image = small(3);
    image.resize(image.len() + 12_345, 0);
    let layer = open_as("a.vhd", image).unwrap();
    assert_eq!(sectors(&layer), plain);
    let said = warnings(&layer);
    assert!(
        said.len() == 1 && said[0].contains("12345 bytes follow"),
        "{said:?}"
    );
}

/// A program that adds a block behind the footer, and stops before it writes a new one.
#[test]
fn blocks_behind_a_footer_are_read() {
    let plain = sectors(&open_bytes(small(3), false).unwrap());
    let mut image = small(3);
    let footer = image.split_off(image.len() - 512);
    // In the gap between the table and the first block.
    put(&mut image, 1536 + 9 * 512, &footer);
    let layer = open_as("a.vhd", image).unwrap();
    assert_eq!(sectors(&layer), plain);
    assert!(warnings(&layer)[0].contains("bytes follow"));
}

#[test]
fn the_footer_at_the_end_goes_before_its_copy() {
    let uuid_of = |image: Vec<u8>| open_bytes(image, false).unwrap().facts().identity;
    let good = uuid_of(small(3));
    for (damage_end, damage_start, expected) in [
        (false, false, Some(good)),
        (false, true, Some(good)),
        (true, false, None),      // the good one may be of a disk inside this one
        (true, true, Some(good)), // neither is good, so the last
    ] {
        let mut image = small(3);
        put(&mut image[..512], 68, b"another identity");
        seal(&mut image[..512], 64);
        let end = image.len() - 512;
        image[end + 64] ^= u8::from(damage_end);
        image[64] ^= u8::from(damage_start);
        match expected {
            Some(id) => assert_eq!(uuid_of(image), id, "{damage_end} {damage_start}"),
            None => {
                let error = open_bytes(image, false).err().unwrap();
                assert_eq!((error.kind(), error.part()), (ErrorKind::Corrupt, "footer"));
            }
        }
    }
}

/// What is done to the copy, and words of the warning.
type Damage = (fn(&mut [u8]), &'static str);

#[test]
fn what_is_wrong_with_the_copy_is_said() {
    let plain = sectors(&open_bytes(small(3), false).unwrap());
    let rows: [Damage; 3] = [
        (|copy| copy.fill(0), "missing"),
        (|copy| copy[66] ^= 1, "damaged"),
        (
            |copy| {
                copy[28] = b'x';
                seal(copy, 64);
            },
            "differ",
        ),
    ];
    for (damage, text) in rows {
        let mut image = small(3);
        damage(&mut image[..512]);
        let layer = open_bytes(image, false).unwrap();
        let said = warnings(&layer);
        assert!(said.len() == 1 && said[0].contains(text), "{said:?}");
        assert_eq!(sectors(&layer), plain);
    }
}

#[test]
fn data_offsets_of_fixed_disks_mean_nothing() {
    for offset in [u64::MAX, 0xffff_ffff, 0, 512] {
        let (mut image, disk) = fixed(&[]);
        put(&mut image[8192..], 16, &offset.to_be_bytes());
        seal(&mut image[8192..], 64);
        let layer = open_bytes(image, false).unwrap();
        assert!(contents(&layer).unwrap() == disk);
        assert_eq!(warnings(&layer), [""; 0]);
    }
}

#[test]
fn the_size_field_counts_and_the_geometry_is_mentioned() {
    // Creator, sectors per track, and whether a program takes the geometry: 2 * 2 * S sectors.
    for (creator, track, mentioned) in [
        (*b"vpc ", 1, true),
        (*b"qemu", 1, true),
        (*b"vpc ", 2, false), // as large as the disk
        (*b"win ", 1, false),
        (*b"wa\0\0", 1, false),
    ] {
        let mut image = small(3);
        in_footers(&mut image, 28, &creator);
        in_footers(&mut image, 56, &[0, 2, 2, track]);
        let layer = open_bytes(image, false).unwrap();
        assert_eq!(layer.size(), 4096);
        let said = warnings(&layer);
        assert_eq!(said.iter().any(|w| w.contains("see 2048 bytes")), mentioned);
        assert_eq!(said.len(), usize::from(mentioned));
    }
}

fn utf16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(order).collect()
}

/// Code of a locator, the room it claims, its data, and the name that they are.
type Name = (&'static [u8; 4], u32, Vec<u8>, Option<&'static str>);

#[test]
fn names_of_all_kinds_lead_to_the_parent() {
    let le = |text| utf16(text, u16::to_le_bytes);
    let mut marked = b"\xfe\xff".to_vec();
    marked.extend(utf16("marked.vhd", u16::to_be_bytes));
    // The room for a name in bytes and in sectors; both occur.
    let rows: [Name; 9] = [
        (b"W2ru", 512, le(".\\a.vhd"), Some(".\\a.vhd")),
        (b"W2ru", 1, le(".\\a.vhd"), Some(".\\a.vhd")),
        (b"W2ku", 65_536, le("C:\\x\\a.vhd"), Some("C:\\x\\a.vhd")),
        (b"W2ru", 0, le("a.vhd\0\0"), Some("a.vhd")),
        (b"Wi2r", 512, b".\\a.vhd\0".to_vec(), Some(".\\a.vhd")),
        (b"Wi2k", 512, b"D:\\a.vhd".to_vec(), Some("D:\\a.vhd")),
        (
            b"MacX",
            1,
            b"file://./a%20b.vhd".to_vec(),
            Some("./a b.vhd"),
        ),
        (b"W2ku", 512, marked, Some("marked.vhd")),
        (b"Mac ", 512, b"alias".to_vec(), None),
    ];
    for (code, space, data, expected) in rows {
        let mut image = small(4);
        in_header(&mut image, 576, code);
        in_header(&mut image, 580, &space.to_be_bytes());
        in_header(&mut image, 584, &(data.len() as u32).to_be_bytes());
        in_header(&mut image, 592, &1600u64.to_be_bytes());
        put(&mut image, 1600, &data);
        let layer = open_bytes(image, false).unwrap();
        let parent = layer.facts().parent.clone().unwrap();
        let mut hints: Vec<OsString> = expected.map(OsString::from).into_iter().collect();
        // The name in the header is the last resort, but goes before absolute paths.
        let absolute = expected.is_some_and(|e| e[1..].starts_with(':'));
        hints.insert(if absolute { 0 } else { hints.len() }, "base.vhd".into());
        assert_eq!(parent.hints, hints, "{code:?}");
        assert_eq!(parent.identity, Some(Identity::Uuid(PARENT)));
        assert_eq!(warnings(&layer), [""; 0]);
    }
}

#[test]
fn a_parent_without_an_id_is_raw_and_its_time_is_not_believed() {
    let mut image = small(4);
    in_header(&mut image, 40, &[0; 16]);
    for time in [0u32, 1, u32::MAX] {
        in_header(&mut image, 56, &time.to_be_bytes());
        let layer = open_bytes(image.clone(), false).unwrap();
        assert_eq!(layer.facts().parent.as_ref().unwrap().identity, None);
        let chain = Chain::new(vec![Arc::new(layer), raw_layer(vec![9; 8192])]).unwrap();
        assert_eq!(chain.extent_at(0).unwrap().kind, Kind::Data);
    }
}

#[test]
fn blocks_of_all_sizes_are_read() {
    for log in [12, 16, 19, 20, 21, 22, 24] {
        let block = 1usize << log;
        let n = block / SECTOR;
        let shape = Shape {
            kind: 3,
            sectors: n + n / 2 + 1,
            block,
            blocks: vec![
                Some((0..n).map(|s| s % 5 != 0).collect()),
                Some((0..n).map(|s| s % 7 != 1).collect()),
            ],
            order: vec![1, 0],
            gap: 1,
            spare: 300,
            table_last: log % 2 == 0,
            cut: false,
            seed: 9,
        };
        let layer = open_bytes(shape.build(), false).unwrap();
        assert!(contents(&layer).unwrap() == flat(&shape.model()), "{block}");
    }
}
