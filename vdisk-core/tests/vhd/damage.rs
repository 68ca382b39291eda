//! Valid images with one thing changed: the right error, or a warning and the right contents.

use crate::{
    SECTOR,
    builder::{Shape, footer, put, seal},
    open_bytes, read_all, sectors,
};
use std::path::Path;
use vdisk_core::{Disk, ErrorKind, Kind, testing::contents};

/// Three blocks of 4 KiB, the middle one absent; table at 1536, blocks at 2048 and 6656.
fn sample(kind: u32) -> Vec<u8> {
    let image = Shape {
        kind,
        sectors: 24,
        block: 4096,
        blocks: vec![Some(vec![true; 8]), None, Some(vec![true; 8])],
        order: vec![0, 1, 2],
        gap: 0,
        spare: 0,
        table_last: false,
        cut: false,
        seed: 5,
    }
    .build();
    assert_eq!(image.len(), 2048 + 2 * 4608 + 512);
    image
}

fn fixed_sample() -> Vec<u8> {
    let mut image = vec![3; 8192];
    let mut footer = footer(2, 8192, u64::MAX);
    seal(&mut footer, 64);
    image.extend(footer);
    image
}

/// Changes a field of both footers.
fn in_footers(image: &mut [u8], at: usize, what: &[u8]) {
    let end = image.len() - 512;
    for start in [0, end] {
        let footer = &mut image[start..][..512];
        if footer.starts_with(b"conectix") {
            put(footer, at, what);
            seal(footer, 64);
        }
    }
}

fn in_header(image: &mut [u8], at: usize, what: &[u8]) {
    put(&mut image[512..1536], at, what);
    seal(&mut image[512..1536], 36);
}

type Edit = (&'static str, fn(&mut Vec<u8>), ErrorKind, &'static str);

#[test]
fn every_rule_has_an_error() {
    use ErrorKind::{Corrupt, Limit, Unsupported};
    const TABLE: &str = "block allocation table";
    let rows: &[Edit] = &[
        (
            "version 2",
            |i| in_footers(i, 12, &[0, 2]),
            Unsupported,
            "footer",
        ),
        (
            "no type",
            |i| in_footers(i, 60, &[0, 0, 0, 0]),
            Corrupt,
            "disk type",
        ),
        (
            "reserved type 1",
            |i| in_footers(i, 60, &[0, 0, 0, 1]),
            Unsupported,
            "disk type",
        ),
        (
            "reserved type 5",
            |i| in_footers(i, 60, &[0, 0, 0, 5]),
            Unsupported,
            "disk type",
        ),
        (
            "reserved type 6",
            |i| in_footers(i, 60, &[0, 0, 0, 6]),
            Unsupported,
            "disk type",
        ),
        (
            "unknown type",
            |i| in_footers(i, 60, &[0, 0, 0, 7]),
            Corrupt,
            "disk type",
        ),
        (
            "odd size",
            |i| in_footers(i, 55, &[1]),
            Corrupt,
            "virtual size",
        ),
        (
            "disabled by XenServer",
            |i| in_footers(i, 0, b"v_poison"),
            Unsupported,
            "footer",
        ),
        (
            "header past the end",
            |i| in_footers(i, 16, &[0, 0, 0, 1]),
            Corrupt,
            "dynamic header",
        ),
        (
            "no header",
            |i| in_footers(i, 16, &[0xff; 8]),
            Corrupt,
            "dynamic header",
        ),
        (
            "no signature",
            |i| in_header(i, 0, b"?"),
            Corrupt,
            "dynamic header",
        ),
        (
            "header version 2",
            |i| in_header(i, 24, &[0, 2]),
            Unsupported,
            "dynamic header",
        ),
        (
            "blocks of 0",
            |i| in_header(i, 32, &[0; 4]),
            Corrupt,
            "dynamic header",
        ),
        (
            "blocks of 2 KiB",
            |i| in_header(i, 32, &[0, 0, 8, 0]),
            Corrupt,
            "dynamic header",
        ),
        (
            "blocks of 3 MiB",
            |i| in_header(i, 32, &[0, 0x30, 0, 0]),
            Corrupt,
            "dynamic header",
        ),
        (
            "blocks of 2 GiB",
            |i| in_header(i, 32, &[0x80, 0, 0, 0]),
            Limit,
            "dynamic header",
        ),
        (
            "too few entries",
            |i| in_header(i, 28, &[0, 0, 0, 2]),
            Corrupt,
            TABLE,
        ),
        (
            "more entries than file",
            |i| in_header(i, 28, &[0, 0, 0xff, 0]),
            Corrupt,
            TABLE,
        ),
        (
            "2^31 entries",
            |i| in_header(i, 28, &[0x80, 0, 0, 0]),
            Limit,
            TABLE,
        ),
        (
            "table past the end",
            |i| in_header(i, 16, &[0, 0, 0, 0, 1]),
            Corrupt,
            TABLE,
        ),
        (
            "table at 2^64",
            |i| in_header(i, 16, &[0xff; 8]),
            Corrupt,
            "file offset",
        ),
        (
            "block in the footer's copy",
            |i| put(i, 1536, &[0; 4]),
            Corrupt,
            "block allocation table, entry 0",
        ),
        (
            "block in the header",
            |i| put(i, 1536, &[0, 0, 0, 2]),
            Corrupt,
            "block allocation table, entry 0",
        ),
        (
            "block in the table",
            |i| put(i, 1544, &[0, 0, 0, 3]),
            Corrupt,
            "block allocation table, entry 2",
        ),
        (
            "block past the end",
            |i| put(i, 1544, &[0, 1, 0, 0]),
            Corrupt,
            "block allocation table, entry 2",
        ),
        (
            "block into the footer",
            |i| put(i, 1544, &[0, 0, 0, 14]),
            Corrupt,
            "block allocation table, entry 2",
        ),
        (
            "last sector there is",
            |i| put(i, 1540, &[0xff, 0xff, 0xff, 0xfe]),
            Corrupt,
            "block allocation table, entry 1",
        ),
        (
            "no footers",
            |i| {
                put(i, 0, b"?");
                let end = i.len() - 512;
                i.truncate(end);
            },
            Corrupt,
            "footer",
        ),
    ];
    for kind in [3, 4] {
        read_all(sample(kind)).unwrap();
        for (name, edit, expected, part) in rows {
            let mut image = sample(kind);
            edit(&mut image);
            let error = read_all(image).expect_err(name);
            assert_eq!(
                (error.kind(), error.part()),
                (*expected, *part),
                "{name}: {error}"
            );
            assert_eq!(error.file(), Some(Path::new("test.vhd")), "{name}");
        }
    }
    let mut image = fixed_sample();
    in_footers(&mut image, 48, &8704u64.to_be_bytes());
    let error = read_all(image).unwrap_err();
    assert_eq!((error.kind(), error.part()), (Corrupt, "virtual size"));
}

/// Name, what is done to the image, and words of the warning.
type Repair<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>), &'a str);

#[test]
fn what_can_be_read_anyway_gives_a_warning() {
    let locator: [u8; 24] = *b"W2ru\0\0\x02\0\0\0\0\x10\0\0\0\0\0\0\0\x01\0\0\0\0";
    assert_eq!(locator.len(), 24);
    let rows: &[Repair<'_>] = &[
        (
            "damaged footer",
            &|i| {
                let end = i.len() - 512;
                i[end + 64] ^= 1;
            },
            "damaged; its copy",
        ),
        (
            "missing footer",
            &|i| {
                let end = i.len() - 512;
                i.truncate(end);
            },
            "missing",
        ),
        (
            "both damaged",
            &|i| {
                let end = i.len() - 512;
                i[end + 64] ^= 1;
                i[64] ^= 1;
            },
            "no good copy",
        ),
        (
            "old footer",
            &|i| {
                let end = i.len() - 1;
                i.truncate(end);
            },
            "511 bytes",
        ),
        (
            "header checksum",
            &|i| i[512 + 36] ^= 1,
            "checksum of the dynamic header",
        ),
        ("temporary", &|i| in_footers(i, 11, &[3]), "temporary"),
        ("saved state", &|i| in_footers(i, 84, &[1]), "saved state"),
        (
            "locator of 65537 bytes",
            &|i| {
                let footer = i.split_off(i.len() - 512);
                i.resize(100_000, b'x');
                i.extend(footer);
                in_header(
                    i,
                    576,
                    b"W2ru\0\0\x02\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\x02\0",
                );
            },
            "too long",
        ),
        (
            "locator outside",
            &|i| in_header(i, 576, &locator),
            "locator W2ru",
        ),
    ];
    let expected = read_all(sample(4))
        .is_ok()
        .then(|| sectors(&open_bytes(sample(4), false).unwrap()));
    for (name, edit, text) in rows {
        let mut image = sample(4);
        edit(&mut image);
        let layer = open_bytes(image, false).expect(name);
        let warnings = &layer.facts().warnings;
        assert!(
            warnings.len() == 1 && warnings[0].contains(text),
            "{name}: {warnings:?}"
        );
        assert_eq!(Some(sectors(&layer)), expected, "{name}");
    }
}

#[test]
fn the_guest_of_a_fixed_disk_cannot_change_what_it_is() {
    let mut lure = footer(3, 1 << 30, 512);
    put(&mut lure, 68, b"some other image");
    seal(&mut lure, 64);
    for damaged in [false, true] {
        let mut image = fixed_sample();
        put(&mut image, 0, &lure);
        image[8192 + 64] ^= u8::from(damaged);
        let layer = open_bytes(image.clone(), false).unwrap();
        assert_eq!(layer.facts().subformat, "fixed");
        assert_eq!(layer.facts().warnings.len(), usize::from(damaged));
        assert!(contents(&layer).unwrap() == image[..8192]);
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_reads_right() {
    for kind in [3, 4] {
        let whole = sample(kind);
        let expected = sectors(&open_bytes(whole.clone(), false).unwrap());
        for len in 0..whole.len() {
            match open_bytes(whole[..len].to_vec(), false) {
                Ok(layer) => {
                    for (found, expected) in sectors_or_none(&layer).iter().zip(&expected) {
                        assert!(found.is_none() || found.as_ref() == Some(expected), "{len}");
                    }
                }
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::WrongFormat),
                    "{len}: {error}"
                ),
            }
        }
    }
    let whole = fixed_sample();
    for len in (0..8192).chain(8193..8703) {
        assert!(open_bytes(whole[..len].to_vec(), false).is_err(), "{len}");
    }
}

/// As [`sectors`], none where the layer gives an error.
fn sectors_or_none(disk: &dyn Disk) -> Vec<Option<(Kind, Option<Vec<u8>>)>> {
    (0..disk.size())
        .step_by(SECTOR)
        .map(|pos| {
            let kind = disk.extent_at(pos).ok()?.kind;
            let mut buf = vec![0xee; SECTOR];
            Some((kind, disk.read_at(pos, &mut buf).ok().map(|()| buf)))
        })
        .collect()
}
