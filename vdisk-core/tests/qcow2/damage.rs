//! Valid images with one thing changed: the right error, or a warning and the right contents.

use crate::{
    assert_is,
    builder::{Cluster, Is, Shape, put},
    open_bytes, read_all,
};
use vdisk_core::{Disk, ErrorKind, Kind};

/// Where the pieces of the sample are.
const L1: usize = 1024;
const L2: usize = 1536;
const DATA: usize = 2048;
const PACKED: usize = 2610;

fn v2() -> Shape {
    Shape::sample(2)
}

fn v3() -> Shape {
    Shape::sample(3)
}

fn large() -> Shape {
    Shape {
        cluster_bits: 17,
        ..v3()
    }
}

fn zstd() -> Shape {
    Shape { zstd: true, ..v3() }
}

fn backed() -> Shape {
    Shape {
        backing: Some(("base.qcow2", Some("qcow2"))),
        ..v3()
    }
}

/// One cluster of 16 KiB with subclusters of 512 bytes; its entry at 49152.
fn extended() -> Shape {
    Shape {
        cluster_bits: 14,
        sectors: 32,
        clusters: vec![Cluster::Plain(Is::Data, false)],
        extended: true,
        ..v3()
    }
}

fn external() -> Shape {
    Shape {
        clusters: vec![Cluster::Plain(Is::Data, false); 4],
        external: true,
        ..v3()
    }
}

type Edit = fn(&mut Vec<u8>);

/// A u32 and a u64 into the image.
fn put4(image: &mut [u8], at: usize, value: u32) {
    put(image, at, &value.to_be_bytes());
}

fn put8(image: &mut [u8], at: usize, value: u64) {
    put(image, at, &value.to_be_bytes());
}

/// Where the extension of that type begins.
fn extension(image: &[u8], kind: u32) -> usize {
    let found = image.windows(4).position(|w| w == kind.to_be_bytes());
    found.expect("has it")
}

/// Replaces the name of the backing file; the file ends with it.
fn name(image: &mut Vec<u8>, name: &[u8]) {
    let end = image.len() as u64;
    put8(image, 8, end);
    put4(image, 16, name.len() as u32);
    image.extend(name);
}

#[test]
fn every_rule_has_an_error() {
    use ErrorKind::{Corrupt, Limit, Unsupported, WrongFormat};
    const ENTRY: &str = "L2 table 0, entry 0";
    type Row = (&'static str, fn() -> Shape, Edit, ErrorKind, &'static str);
    let rows: &[Row] = &[
        ("no signature", v3, |i| i[0] = 0, WrongFormat, "format"),
        ("version 1", v3, |i| put4(i, 4, 1), Unsupported, "header"),
        ("version 4", v3, |i| put4(i, 4, 4), Unsupported, "header"),
        ("2^8 bytes", v3, |i| put4(i, 20, 8), Corrupt, "header"),
        ("2^22 bytes", v3, |i| put4(i, 20, 22), Limit, "header"),
        ("2^4e9 bytes", v3, |i| put4(i, 20, !0), Limit, "header"),
        ("short header", v3, |i| put4(i, 100, 96), Corrupt, "header"),
        ("long header", v3, |i| put4(i, 100, 520), Corrupt, "header"),
        ("feature 5", v3, |i| i[79] |= 1 << 5, Unsupported, "header"),
        ("feature 63", v3, |i| i[72] |= 0x80, Unsupported, "header"),
        ("AES", v3, |i| put4(i, 32, 1), Unsupported, "encryption"),
        ("LUKS", v3, |i| put4(i, 32, 2), Unsupported, "encryption"),
        (
            "cipher 3",
            v2,
            |i| put4(i, 32, 3),
            Unsupported,
            "encryption",
        ),
        (
            "type 2",
            v3,
            |i| i[104] = 2,
            Unsupported,
            "compression type",
        ),
        (
            "type unsaid",
            v3,
            |i| i[104] = 1,
            Corrupt,
            "compression type",
        ),
        (
            "type missing",
            zstd,
            |i| i[104] = 0,
            Corrupt,
            "compression type",
        ),
        (
            "size 2^60",
            v3,
            |i| put8(i, 24, 1 << 60),
            Limit,
            "virtual size",
        ),
        ("size 2^64", v3, |i| put8(i, 24, !0), Limit, "virtual size"),
        (
            "larger disk",
            v3,
            |i| put8(i, 24, 1 << 20),
            Corrupt,
            "L1 table",
        ),
        ("no L1 entries", v3, |i| put4(i, 36, 0), Corrupt, "L1 table"),
        ("L1 of 32 GiB", v3, |i| put4(i, 36, !0), Limit, "L1 table"),
        (
            "L1 of 8 MiB",
            v3,
            |i| put4(i, 36, 1 << 20),
            Corrupt,
            "L1 table",
        ),
        ("L1 inside", v3, |i| put8(i, 40, 1025), Corrupt, "L1 table"),
        (
            "L1 outside",
            v3,
            |i| put8(i, 40, 1 << 40),
            Corrupt,
            "L1 table",
        ),
        ("L1 at 2^64", v3, |i| put8(i, 40, !511), Corrupt, "L1 table"),
        (
            "L2 table outside",
            v3,
            |i| put8(i, L1, 1 << 30),
            Corrupt,
            "L1 table, entry 0",
        ),
        (
            "L2 table in the L1 table",
            v3,
            |i| put8(i, L1, L1 as u64),
            Corrupt,
            "L1 table, entry 0",
        ),
        (
            "L2 table inside a cluster",
            large,
            |i| put8(i, 2 << 17, (3 << 17) + 512),
            Corrupt,
            "L1 table, entry 0",
        ),
        ("outside", v3, |i| put8(i, L2, 1 << 40), Corrupt, ENTRY),
        (
            "in the L1 table",
            v3,
            |i| put8(i, L2, L1 as u64),
            Corrupt,
            ENTRY,
        ),
        (
            "inside a cluster",
            large,
            |i| put8(i, 3 << 17, (4 << 17) + 512),
            Corrupt,
            ENTRY,
        ),
        ("zeros in version 2", v2, |i| i[L2 + 7] |= 1, Corrupt, ENTRY),
        (
            "packed in the header",
            v3,
            |i| put8(i, L2, 1 << 62 | 100),
            Corrupt,
            ENTRY,
        ),
        (
            "packed outside",
            v3,
            |i| put8(i, L2, 1 << 62 | 1 << 30),
            Corrupt,
            ENTRY,
        ),
        (
            "packed damaged",
            v3,
            |i| i[PACKED..].fill(0xff),
            Corrupt,
            "cluster 1",
        ),
        (
            "packed too short",
            v3,
            |i| put(i, PACKED, &[1, 3, 0, 0xfc, 0xff, 1, 2, 3]),
            Corrupt,
            "cluster 1",
        ),
        (
            "packed cut",
            v3,
            |i| i.truncate(PACKED + 9),
            Corrupt,
            "cluster 1",
        ),
        (
            "zstd damaged",
            zstd,
            |i| i[PACKED..].fill(0xff),
            Corrupt,
            "cluster 1",
        ),
        (
            "zstd cut",
            zstd,
            |i| i.truncate(PACKED + 9),
            Corrupt,
            "cluster 1",
        ),
        (
            "window of 16 MiB",
            zstd,
            |i| put(i, PACKED, &[0x28, 0xb5, 0x2f, 0xfd, 0, 0x70, 1, 0, 0]),
            Corrupt,
            "cluster 1",
        ),
        (
            "packed beside a data file",
            external,
            |i| put8(i, L2, 1 << 62 | DATA as u64),
            Corrupt,
            ENTRY,
        ),
        (
            "data file too short",
            external,
            |i| put8(i, L2, 1 << 63 | 2048),
            Corrupt,
            ENTRY,
        ),
        (
            "data file without a name",
            external,
            |i| {
                let at = extension(i, 0x4441_5441);
                put4(i, at, 0x4441_5442);
            },
            Corrupt,
            "external data file",
        ),
        (
            "subcluster twice",
            extended,
            |i| put8(i, 49152 + 8, 1 << 32 | 1),
            Corrupt,
            ENTRY,
        ),
        (
            "subcluster nowhere",
            extended,
            |i| put8(i, 49152, 0),
            Corrupt,
            ENTRY,
        ),
        (
            "subclusters of 16 bytes",
            v3,
            |i| i[79] |= 1 << 4,
            Corrupt,
            "header",
        ),
        (
            "extension too long",
            v3,
            |i| {
                let at = extension(i, 0x1234_5678);
                put4(i, at + 4, 4000);
            },
            Corrupt,
            "header extension",
        ),
        (
            "extension of 4 GiB",
            v3,
            |i| {
                let at = extension(i, 0x1234_5678);
                put4(i, at + 4, !0);
            },
            Corrupt,
            "header extension",
        ),
        (
            "endless extensions",
            large,
            |i| i[112..100_000].fill(1),
            Corrupt,
            "header extension",
        ),
        (
            "100 KiB of extensions",
            large,
            |i| {
                for at in (112..100_000).step_by(8) {
                    put8(i, at, 0x7777_7777 << 32);
                }
            },
            Limit,
            "header extensions",
        ),
        (
            "name of 1024 bytes",
            backed,
            |i| name(i, &[b'x'; 1024]),
            Limit,
            "backing file",
        ),
        (
            "name outside",
            backed,
            |i| put8(i, 8, 1 << 50),
            Corrupt,
            "backing file",
        ),
        (
            "name in JSON",
            backed,
            |i| name(i, b"json:{\"driver\":\"nbd\"}"),
            Unsupported,
            "backing file",
        ),
        (
            "name of a server",
            backed,
            |i| name(i, b"nbd://host/disk"),
            Unsupported,
            "backing file",
        ),
        (
            "unknown format",
            backed,
            |i| {
                let at = extension(i, 0xe279_2aca);
                put(i, at + 8, b"luks2");
            },
            Unsupported,
            "backing file",
        ),
    ];
    for (name, shape, edit, kind, part) in rows {
        let (mut image, data) = shape().build();
        read_all((image.clone(), data.clone())).expect("is good before");
        edit(&mut image);
        let error = read_all((image, data)).expect_err(name);
        assert_eq!(
            (error.kind(), error.part()),
            (*kind, *part),
            "{name}: {error}"
        );
    }
}

#[test]
fn an_unknown_feature_is_called_by_the_name_that_the_image_gives() {
    let (mut image, data) = v3().build();
    image[79] |= 1 << 6;
    let mut entry = vec![0, 6];
    entry.extend(b"time travel");
    entry.resize(48, 0);
    put4(&mut image, 112, 0x6803_f857);
    put4(&mut image, 116, 48);
    put(&mut image, 120, &entry);
    let error = read_all((image, data)).unwrap_err().to_string();
    assert!(error.contains("'time travel' (bit 6)"), "{error}");
}

#[test]
fn what_can_be_read_gives_a_warning() {
    let rows: &[(&str, Edit, &str)] = &[
        ("dirty", |i| i[79] |= 1, "closed cleanly"),
        ("corrupt", |i| i[79] |= 2, "marked as corrupt"),
        ("snapshots", |i| put4(i, 60, 3), "internal snapshots"),
    ];
    for (name, edit, text) in rows {
        let (mut image, data) = v3().build();
        edit(&mut image);
        let layer = open_bytes((image, data), false).expect(name);
        let warnings = &layer.facts().warnings;
        assert!(
            warnings.len() == 1 && warnings[0].contains(text),
            "{name}: {warnings:?}"
        );
        assert_is(&layer, &v3().model(), Kind::Zero);
    }
    let (mut image, data) = v3().build();
    put8(&mut image, 24, 3 * 512 + 7);
    let layer = open_bytes((image, data), false).unwrap();
    assert_eq!(layer.size(), 4 * 512);
    assert!(layer.facts().warnings[0].contains("whole number of sectors"));
}

/// Frames that never end and blocks that repeat a byte: what a cluster holds is taken, no more is
/// unpacked than a window.
#[test]
fn a_compressed_cluster_is_never_more_than_a_cluster() {
    let shape = Shape {
        cluster_bits: 16,
        sectors: 128 * 4,
        ..zstd()
    };
    let (mut image, data) = shape.build();
    let at = image.windows(4).position(|w| w == [0x28, 0xb5, 0x2f, 0xfd]);
    let at = at.unwrap();
    // A window of 64 KiB, then blocks that repeat a byte 64 Ki times.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x30];
    let block = (64_u32 << 10 << 3 | 1 << 1).to_le_bytes();
    for _ in 0..8000 {
        bomb.extend([block[0], block[1], block[2], 0x5a]);
    }
    image.truncate(at);
    image.extend(bomb);
    // All the sectors that the entry can count.
    let l2 = 3 << 16;
    put8(&mut image, l2 + 8, 1 << 62 | 0xff << 54 | at as u64);
    let layer = open_bytes((image, data), false).unwrap();
    let mut cluster = vec![0; 65536];
    layer.read_at(65536, &mut cluster).unwrap();
    assert!(cluster.iter().all(|b| *b == 0x5a));
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_reads_right() {
    for shape in [v2(), v3(), zstd()] {
        let (whole, data) = shape.build();
        let model = shape.model();
        for len in 0..whole.len() {
            let layer = match open_bytes((whole[..len].to_vec(), data.clone()), false) {
                Ok(layer) => layer,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}: {error}");
                    continue;
                }
            };
            for (pos, (_, bytes)) in (0..).step_by(512).zip(&model) {
                let mut buf = vec![0xee; 512];
                if layer.read_at(pos, &mut buf).is_ok() {
                    assert!(buf == *bytes, "{len}: at {pos}");
                }
            }
        }
    }
}
