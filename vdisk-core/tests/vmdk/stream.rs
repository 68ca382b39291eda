//! Streams as their many producers write them: markers or none, directory in front or at the end,
//! zlib or deflate, footers that are missing or know better.

use crate::{
    builder::{Cell, Grains, put32, put64},
    peers,
};
use flate2::{
    Compression,
    write::{DeflateEncoder, ZlibEncoder},
};
use proptest::prelude::*;
use std::io::Write;
use vdisk_core::{ErrorKind, Layer, format::named, testing};

/// How a stream is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Grains and metadata have markers; without, a grain has only its length.
    pub(crate) markers: bool,
    /// Markers of type 4 in between, as vSphere writes them now and then.
    pub(crate) progress: bool,
    pub(crate) footer: bool,
    /// The header, too, says where the directory is.
    pub(crate) directory_in_header: bool,
    /// The part of the last grain that is not on the disk is stored as well.
    pub(crate) whole_last_grain: bool,
    pub(crate) deflate_only: bool,
    /// 0 makes each grain longer than it was.
    pub(crate) level: u32,
}

/// The style that the specification has.
pub(crate) const SPECIFIED: Style = Style {
    markers: true,
    progress: false,
    footer: true,
    directory_in_header: false,
    whole_last_grain: false,
    deflate_only: false,
    level: 6,
};

const AT_END: u64 = u64::MAX;

/// The image, and the sector of its grain directory.
pub(crate) fn stream(grains: &Grains, style: Style) -> (Vec<u8>, usize) {
    let mut bytes = vec![0; 21 * 512];
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
         createType=\"streamOptimized\"\nRDONLY {} SPARSE \"old name.vmdk\"\n",
        grains.sectors
    );
    bytes[512..512 + text.len()].copy_from_slice(text.as_bytes());
    let mut tables = vec![vec![0u8; 2048]; grains.sectors.div_ceil(512 * grains.grain)];
    for (number, &index) in grains.order.iter().enumerate() {
        let Cell::Data(byte) = grains.cells[index] else {
            continue;
        };
        if style.progress && number % 3 == 0 {
            marker(&mut bytes, 4, 0);
        }
        let sector = (bytes.len() / 512) as u32;
        put32(&mut tables[index / 512], index % 512 * 4, sector);
        let mut content = grains.content(index, byte);
        if !style.whole_last_grain {
            content.truncate((grains.sectors - index * grains.grain).min(grains.grain) * 512);
        }
        let level = Compression::new(style.level);
        let packed = if style.deflate_only {
            let mut packer = DeflateEncoder::new(Vec::new(), level);
            packer.write_all(&content).unwrap();
            packer.finish().unwrap()
        } else {
            let mut packer = ZlibEncoder::new(Vec::new(), level);
            packer.write_all(&content).unwrap();
            packer.finish().unwrap()
        };
        if style.markers {
            bytes.extend(((index * grains.grain) as u64).to_le_bytes());
        }
        bytes.extend((packed.len() as u32).to_le_bytes());
        bytes.extend(packed);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    let mut directory = vec![0; (tables.len() * 4).next_multiple_of(512)];
    for (number, table) in tables.iter().enumerate() {
        if table.iter().all(|b| *b == 0) {
            continue;
        }
        if style.markers {
            marker(&mut bytes, 1, 4);
        }
        let sector = (bytes.len() / 512) as u32;
        put32(&mut directory, number * 4, sector);
        bytes.extend(table);
    }
    if style.markers {
        marker(&mut bytes, 2, directory.len() as u64 / 512);
    }
    let at = bytes.len() / 512;
    bytes.extend(directory);
    let in_header = match style.directory_in_header {
        true => at as u64,
        false => AT_END,
    };
    let front = header(grains, style, in_header);
    bytes[..512].copy_from_slice(&front);
    if style.footer {
        marker(&mut bytes, 3, 1);
        bytes.extend(header(grains, style, at as u64));
    }
    bytes.extend([0; 512]); // the end of the stream
    (bytes, at)
}

fn header(grains: &Grains, style: Style, directory: u64) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..4].copy_from_slice(b"KDMV");
    put32(&mut bytes, 4, 3);
    put32(
        &mut bytes,
        8,
        if style.markers { 0x3_0001 } else { 0x1_0001 },
    );
    put64(&mut bytes, 12, grains.sectors as u64);
    put64(&mut bytes, 20, grains.grain as u64);
    put64(&mut bytes, 28, 1);
    put64(&mut bytes, 36, 20);
    put32(&mut bytes, 44, 512);
    put64(&mut bytes, 56, directory);
    put64(&mut bytes, 64, 21);
    bytes[73..77].copy_from_slice(b"\n \r\n");
    bytes[77] = 1;
    bytes
}

fn marker(bytes: &mut Vec<u8>, kind: u32, sectors: u64) {
    let at = bytes.len();
    bytes.resize(at + 512, 0);
    put64(bytes, at, sectors);
    put32(bytes, at + 12, kind);
}

fn open(bytes: Vec<u8>) -> vdisk_core::Result<Layer> {
    testing::open_bytes(named("vmdk").unwrap(), bytes)
}

fn grains() -> impl Strategy<Value = Grains> {
    let cell = prop_oneof![1 => any::<u8>().prop_map(Cell::Data), 1 => Just(Cell::Hole)];
    Grains::strategy(&[8, 128], 3 * 4096 + 77, cell)
}

fn style() -> impl Strategy<Value = Style> {
    let bools = any::<[bool; 6]>();
    (bools, prop::sample::select(vec![0, 1, 6])).prop_map(|(is, level)| Style {
        markers: is[0],
        progress: is[1],
        footer: is[2] && is[0],
        directory_in_header: is[3] || !(is[2] && is[0]),
        whole_last_grain: is[4],
        deflate_only: is[5],
        level,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn every_style_reads_as_the_model(grains in grains(), style in style()) {
        let (bytes, _) = stream(&grains, style);
        let layer = open(bytes).unwrap();
        testing::conformance(&layer).unwrap();
        prop_assert!(testing::contents(&layer).unwrap() == grains.disk());
    }
}

fn three() -> Grains {
    Grains::ascending(&[Cell::Data(1), Cell::Hole, Cell::Data(2)], 8, 21)
}

#[test]
fn the_footer_is_believed_before_the_header() {
    let style = Style {
        directory_in_header: true,
        ..SPECIFIED
    };
    let (mut bytes, _) = stream(&three(), style);
    // The header's directory is one of zeros: the sector after the descriptor's text.
    put64(&mut bytes, 56, 10);
    let layer = open(bytes).unwrap();
    assert!(testing::contents(&layer).unwrap() == three().disk());
}

#[test]
fn a_missing_footer_matters_if_the_header_relies_on_it() {
    let (bytes, directory) = stream(&three(), SPECIFIED);
    for cut in [512, 1024, 1536, bytes.len() - 22 * 512] {
        let mut bytes = bytes.clone();
        bytes.truncate(bytes.len() - cut);
        let error = open(bytes.clone()).err().unwrap();
        assert_eq!((error.kind(), error.part()), (ErrorKind::Corrupt, "footer"));
        // One that names the directory itself does not need it.
        if cut <= 1536 {
            put64(&mut bytes, 56, directory as u64);
            assert!(testing::contents(&open(bytes).unwrap()).unwrap() == three().disk());
        }
    }
    let footer = bytes.len() - 1024;
    for (at, value) in [(56, AT_END), (56, 1 << 40), (20, 0), (12, 1 << 60)] {
        let mut bytes = bytes.clone();
        put64(&mut bytes, footer + at, value);
        let error = open(bytes).err().unwrap();
        let part = if value == 1 << 40 {
            "grain directory"
        } else {
            "footer"
        };
        assert_eq!(
            (error.kind(), error.part()),
            (ErrorKind::Corrupt, part),
            "{error}"
        );
    }
}

#[test]
fn grains_that_grew_are_read_up_to_twice_their_size() {
    let stored = Style {
        level: 0,
        ..SPECIFIED
    };
    let (bytes, _) = stream(&three(), stored);
    let length = u32::from_le_bytes(bytes[21 * 512 + 8..][..4].try_into().unwrap());
    assert!(length > 4096, "deflate stored {length} bytes");
    assert!(testing::contents(&open(bytes.clone()).unwrap()).unwrap() == three().disk());
    for claimed in [0, 2 * 4096 + 1, u32::MAX] {
        let mut bytes = bytes.clone();
        put32(&mut bytes, 21 * 512 + 8, claimed);
        let error = testing::contents(&open(bytes).unwrap()).err().unwrap();
        assert_eq!(
            (error.kind(), error.part()),
            (ErrorKind::Corrupt, "grain 0")
        );
    }
}

#[test]
fn deflate_without_its_frame_is_read_and_damage_to_it_seen() {
    let style = Style {
        deflate_only: true,
        ..SPECIFIED
    };
    let (bytes, _) = stream(&three(), style);
    assert!(testing::contents(&open(bytes.clone()).unwrap()).unwrap() == three().disk());
    let mut cut = bytes;
    put32(&mut cut, 21 * 512 + 8, 3);
    let error = testing::contents(&open(cut).unwrap()).err().unwrap();
    assert_eq!(
        (error.kind(), error.part()),
        (ErrorKind::Corrupt, "grain 0")
    );
}

#[test]
fn qemu_and_dissect_read_the_same_stream() {
    let mut cells = vec![Cell::Hole; 700];
    for (index, cell) in cells.iter_mut().enumerate().filter(|(i, _)| i % 5 < 2) {
        *cell = Cell::Data(index as u8);
    }
    let grains = Grains::ascending(&cells, 128, 700 * 128);
    for progress in [false, true] {
        let (bytes, _) = stream(
            &grains,
            Style {
                progress,
                ..SPECIFIED
            },
        );
        let disk = testing::contents(&open(bytes.clone()).unwrap()).unwrap();
        assert!(disk == grains.disk());
        peers::agree(&bytes, &disk);
    }
}
