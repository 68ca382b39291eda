//! Hosted sparse and stream-optimized extents: shuffled grains, odd sizes, one wrong field at a time.

use crate::builder::{put32, put64};
use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;
use std::io::Write;
use std::sync::Arc;
use vdisk_core::{Chain, ErrorKind, Layer, format::named, testing};

/// What a grain of the model is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Data(u8),
    Zero,
    Hole,
}

const GRAIN: usize = 4096;

struct Built {
    bytes: Vec<u8>,
    /// File offset of the first grain table.
    table: usize,
    directory: usize,
}

/// A sparse extent of `sectors` with the given grains, stored in the order `order` says.
fn build(cells: &[Cell], sectors: u64, order: &[usize], packed: bool, parent: &str) -> Built {
    let tables = cells.len().div_ceil(512);
    let directory_sectors = (tables * 4).div_ceil(512);
    let (directory, table) = (21 * 512, (21 + directory_sectors) * 512);
    let mut bytes = vec![0u8; table + tables * 2048];
    bytes[..4].copy_from_slice(b"KDMV");
    put32(&mut bytes, 4, if packed { 3 } else { 2 });
    put32(&mut bytes, 8, if packed { 0x3_0001 } else { 5 });
    put64(&mut bytes, 12, sectors);
    put64(&mut bytes, 20, (GRAIN / 512) as u64);
    put64(&mut bytes, 28, 1);
    put64(&mut bytes, 36, 20);
    put32(&mut bytes, 44, 512);
    put64(&mut bytes, 56, 21);
    let overhead = (bytes.len() / 512) as u64;
    put64(&mut bytes, 64, overhead);
    bytes[73..77].copy_from_slice(b"\n \r\n");
    bytes[77] = u8::from(packed);
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID={parent}\n\
         createType=\"{}\"\nRW {sectors} SPARSE \"any name.vmdk\"\n",
        if packed {
            "streamOptimized"
        } else {
            "monolithicSparse"
        },
    );
    bytes[512..512 + text.len()].copy_from_slice(text.as_bytes());
    for t in 0..tables {
        put32(
            &mut bytes,
            directory + t * 4,
            ((table + t * 2048) / 512) as u32,
        );
    }
    for &grain in order {
        let entry = table + grain * 4;
        match cells[grain] {
            Cell::Hole => {}
            Cell::Zero => put32(&mut bytes, entry, 1),
            Cell::Data(byte) => {
                bytes.resize(bytes.len().next_multiple_of(512), 0);
                let sector = (bytes.len() / 512) as u32;
                put32(&mut bytes, entry, sector);
                let content = content(byte);
                if packed {
                    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
                    zlib.write_all(&content).unwrap();
                    let zlib = zlib.finish().unwrap();
                    bytes.extend(((grain * GRAIN / 512) as u64).to_le_bytes());
                    bytes.extend((zlib.len() as u32).to_le_bytes());
                    bytes.extend(zlib);
                } else {
                    bytes.extend(content);
                }
            }
        }
    }
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    Built {
        bytes,
        table,
        directory,
    }
}

fn content(byte: u8) -> Vec<u8> {
    (0..GRAIN)
        .map(|i| byte.wrapping_add((i / 512) as u8))
        .collect()
}

fn open(bytes: Vec<u8>) -> vdisk_core::Result<Layer> {
    testing::open_bytes(named("vmdk").unwrap(), bytes)
}

fn cells() -> impl Strategy<Value = (Vec<Cell>, u64, Vec<usize>)> {
    let cell = prop_oneof![
        any::<u8>().prop_map(Cell::Data),
        Just(Cell::Zero),
        Just(Cell::Hole)
    ];
    (prop::collection::vec(cell, 1..700), 1..=8u64).prop_flat_map(|(cells, last)| {
        let sectors = (cells.len() as u64 - 1) * 8 + last;
        let order = Just((0..cells.len()).collect::<Vec<_>>()).prop_shuffle();
        (Just(cells), Just(sectors), order)
    })
}

fn overlay(model: &mut [u8], cells: &[Cell]) {
    for (grain, cell) in model.chunks_mut(GRAIN).zip(cells) {
        match cell {
            Cell::Data(byte) => grain.copy_from_slice(&content(*byte)[..grain.len()]),
            Cell::Zero => grain.fill(0),
            Cell::Hole => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn shuffled_grains_read_as_the_model((base, sectors, order) in cells(), child in cells(), packed: bool) {
        let mut model = vec![0; sectors as usize * 512];
        overlay(&mut model, &base);
        let base = open(build(&base, sectors, &order, packed, "ffffffff").bytes).unwrap();
        testing::conformance(&base).unwrap();
        prop_assert!(testing::contents(&base).unwrap() == model);

        let (cells, sectors, order) = child;
        model.resize(sectors as usize * 512, 0);
        overlay(&mut model, &cells);
        let child = open(build(&cells, sectors, &order, packed, "12345678").bytes).unwrap();
        testing::conformance(&child).unwrap();
        let chain = Chain::new(vec![Arc::new(child), Arc::new(base)]).unwrap();
        testing::conformance(&chain).unwrap();
        prop_assert!(testing::contents(&chain).unwrap() == model);
    }

    #[test]
    fn any_damage_is_an_error_or_other_bytes_never_a_panic(
        at in 0..16_000usize, value: u8, cut in 0..20_000usize, packed: bool,
    ) {
        let mut bytes = build(&[Cell::Data(1), Cell::Zero, Cell::Data(2)], 20, &[2, 1, 0], packed, "ffffffff").bytes;
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Ok(layer) = open(bytes) {
            let _ = testing::contents(&layer);
        }
    }
}

/// One wrong field, the kind of error it must give, and the part it must name.
#[test]
fn each_rule_has_an_image_that_breaks_it() {
    type Break = fn(&mut Built);
    let rows: &[(&str, bool, Break, ErrorKind, &str)] = &[
        (
            "magic",
            false,
            |b| b.bytes[0] = b'X',
            ErrorKind::WrongFormat,
            "format",
        ),
        (
            "unfinished",
            false,
            |b| b.bytes[..4].copy_from_slice(b"kdmv"),
            ErrorKind::Corrupt,
            "header",
        ),
        (
            "version",
            false,
            |b| b.bytes[4] = 9,
            ErrorKind::Unsupported,
            "header",
        ),
        (
            "unknown flag",
            false,
            |b| b.bytes[11] = 0x40,
            ErrorKind::Unsupported,
            "header",
        ),
        (
            "newlines",
            false,
            |b| b.bytes[74] = b'\n',
            ErrorKind::Corrupt,
            "header",
        ),
        (
            "markers alone",
            false,
            |b| put32(&mut b.bytes, 8, 0x2_0001),
            ErrorKind::Corrupt,
            "header",
        ),
        (
            "compression",
            true,
            |b| b.bytes[77] = 7,
            ErrorKind::Unsupported,
            "header",
        ),
        (
            "grain size 0",
            false,
            |b| put64(&mut b.bytes, 20, 0),
            ErrorKind::Corrupt,
            "header",
        ),
        (
            "grain size 12",
            false,
            |b| put64(&mut b.bytes, 20, 12),
            ErrorKind::Corrupt,
            "header",
        ),
        (
            "huge grain",
            false,
            |b| put64(&mut b.bytes, 20, 1 << 40),
            ErrorKind::Corrupt,
            "header",
        ),
        (
            "table entries",
            false,
            |b| put32(&mut b.bytes, 44, 0),
            ErrorKind::Corrupt,
            "header",
        ),
        (
            "capacity",
            false,
            |b| put64(&mut b.bytes, 12, 1 << 60),
            ErrorKind::Corrupt,
            "header",
        ),
        (
            "directory larger than the file",
            false,
            |b| put64(&mut b.bytes, 12, 1 << 32),
            ErrorKind::Corrupt,
            "grain directory",
        ),
        (
            "directory outside",
            false,
            |b| put64(&mut b.bytes, 56, 1 << 40),
            ErrorKind::Corrupt,
            "grain directory",
        ),
        (
            "table outside",
            false,
            |b| put32(&mut b.bytes, b.directory, 1 << 30),
            ErrorKind::Corrupt,
            "grain directory",
        ),
        (
            "grain outside",
            false,
            |b| put32(&mut b.bytes, b.table, 1 << 30),
            ErrorKind::Corrupt,
            "grain table 0, entry 0",
        ),
        (
            "packed grain outside",
            true,
            |b| put32(&mut b.bytes, b.table, 1 << 30),
            ErrorKind::Corrupt,
            "grain table 0, entry 0",
        ),
        (
            "descriptor size",
            false,
            |b| put64(&mut b.bytes, 36, 1 << 40),
            ErrorKind::Limit,
            "descriptor",
        ),
        (
            "descriptor outside",
            false,
            |b| put64(&mut b.bytes, 28, 1 << 40),
            ErrorKind::Corrupt,
            "descriptor",
        ),
        (
            "no descriptor",
            false,
            |b| put64(&mut b.bytes, 28, 0),
            ErrorKind::Unsupported,
            "extent",
        ),
        (
            "CID",
            false,
            |b| {
                let at = 512 + 37;
                b.bytes[at] = b'x'
            },
            ErrorKind::Corrupt,
            "descriptor",
        ),
        (
            "footer missing",
            true,
            |b| put64(&mut b.bytes, 56, u64::MAX),
            ErrorKind::Corrupt,
            "footer",
        ),
        (
            "grain marked as another",
            true,
            |b| {
                let at = b.table + 2048;
                b.bytes[at] ^= 8
            },
            ErrorKind::Corrupt,
            "grain 0",
        ),
        (
            "grain of no size",
            true,
            |b| {
                let at = b.table + 2048 + 8;
                put32(&mut b.bytes, at, 0)
            },
            ErrorKind::Corrupt,
            "grain 0",
        ),
        (
            "grain of huge size",
            true,
            |b| {
                let at = b.table + 2048 + 8;
                put32(&mut b.bytes, at, 1 << 20)
            },
            ErrorKind::Corrupt,
            "grain 0",
        ),
        (
            "damaged deflate data",
            true,
            |b| {
                let at = b.table + 2048 + 16;
                b.bytes[at] ^= 0xff
            },
            ErrorKind::Corrupt,
            "grain 0",
        ),
    ];
    for (name, packed, damage, kind, part) in rows {
        let mut built = build(
            &[Cell::Data(1), Cell::Data(2)],
            16,
            &[0, 1],
            *packed,
            "ffffffff",
        );
        damage(&mut built);
        let result = open(built.bytes).and_then(|layer| testing::contents(&layer));
        let error = result.err().unwrap_or_else(|| panic!("{name}: was read"));
        assert_eq!(
            (error.kind(), error.part()),
            (*kind, *part),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_damaged_directory_is_read_from_its_copy() {
    let mut built = build(
        &[Cell::Data(1), Cell::Data(2)],
        16,
        &[1, 0],
        false,
        "ffffffff",
    );
    let model = testing::contents(&open(built.bytes.clone()).unwrap()).unwrap();
    // The copy lies at the end of the file; flag 2 announces it.
    let copy = built.bytes.len() / 512;
    let directory = built.bytes[built.directory..built.directory + 512].to_vec();
    built.bytes.extend(directory);
    put32(&mut built.bytes, 8, 7);
    put64(&mut built.bytes, 48, copy as u64);
    put32(&mut built.bytes, built.directory, 1 << 30);
    let layer = open(built.bytes).unwrap();
    assert!(testing::contents(&layer).unwrap() == model);
    assert!(
        layer
            .facts()
            .warnings
            .iter()
            .any(|w| w.contains("redundant")),
        "no warning"
    );
}

#[test]
fn a_grain_may_not_inflate_to_more_than_its_size() {
    let built = build(&[Cell::Data(1)], 8, &[0], true, "ffffffff");
    let mut bytes = built.bytes[..built.table + 2048].to_vec();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(&vec![0; 1 << 20]).unwrap(); // a bomb of 1 MiB in a 4 KiB grain
    let zlib = zlib.finish().unwrap();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((zlib.len() as u32).to_le_bytes());
    bytes.extend(zlib);
    let error = testing::contents(&open(bytes).unwrap()).err().unwrap();
    assert_eq!(
        (error.kind(), error.part()),
        (ErrorKind::Corrupt, "grain 0"),
        "{error}"
    );
}
