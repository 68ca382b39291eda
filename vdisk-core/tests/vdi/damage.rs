//! Valid images with one thing changed: the right error.

use crate::{
    assert_is,
    builder::{Shape, put, put4},
    open_bytes, read_all,
};
use vdisk_core::{Disk, ErrorKind, Kind};

type Edit = (&'static str, fn(&mut Vec<u8>), ErrorKind, &'static str);

#[test]
fn every_rule_has_an_error() {
    use ErrorKind::{Corrupt, Limit, Unsupported, WrongFormat};
    const MAP: &str = "block map";
    let rows: &[Edit] = &[
        ("no signature", |i| i[64] = 0, WrongFormat, "format"),
        ("version 0.1", |i| put4(i, 68, 1), Unsupported, "header"),
        (
            "version 2.0",
            |i| put4(i, 68, 2 << 16),
            Unsupported,
            "header",
        ),
        ("short header", |i| put4(i, 72, 300), Corrupt, "header"),
        ("type 0", |i| put4(i, 76, 0), Corrupt, "image type"),
        ("type 3", |i| put4(i, 76, 3), Unsupported, "image type"),
        ("type 5", |i| put4(i, 76, 5), Corrupt, "image type"),
        (
            "type 4, no parent",
            |i| put4(i, 76, 4),
            Corrupt,
            "image type",
        ),
        ("type 1, a parent", |i| i[424] = 1, Corrupt, "image type"),
        ("blocks of 0", |i| put4(i, 376, 0), Corrupt, "header"),
        ("blocks of 256", |i| put4(i, 376, 256), Corrupt, "header"),
        ("blocks of 1536", |i| put4(i, 376, 1536), Corrupt, "header"),
        (
            "blocks of 512 MiB",
            |i| put4(i, 376, 1 << 29),
            Limit,
            "header",
        ),
        ("4 GiB of extra", |i| put4(i, 380, !0), Limit, "header"),
        (
            "size 2^64",
            |i| put(i, 368, &[0xff; 8]),
            Limit,
            "virtual size",
        ),
        ("larger disk", |i| put4(i, 368, 4096), Corrupt, MAP),
        ("no entries", |i| put4(i, 384, 0), Corrupt, MAP),
        ("2^32 entries", |i| put4(i, 384, !0), Limit, MAP),
        ("1000000 entries", |i| put4(i, 384, 1_000_000), Corrupt, MAP),
        ("map in the header", |i| put4(i, 340, 400), Corrupt, MAP),
        ("map outside", |i| put4(i, 340, !511), Corrupt, MAP),
        ("data in the map", |i| put4(i, 344, 512), Corrupt, "blocks"),
        (
            "entry outside",
            |i| put4(i, 512, 2),
            Corrupt,
            "block map, entry 0",
        ),
        (
            "entry far outside",
            |i| put4(i, 524, !2),
            Corrupt,
            "block map, entry 3",
        ),
        (
            "data outside",
            |i| put4(i, 344, 1 << 30),
            Corrupt,
            "block map, entry 0",
        ),
    ];
    assert!(read_all(Shape::sample().build()).is_ok());
    for (name, edit, kind, part) in rows {
        let mut image = Shape::sample().build();
        edit(&mut image);
        let error = read_all(image).expect_err(name);
        assert_eq!(
            (error.kind(), error.part()),
            (*kind, *part),
            "{name}: {error}"
        );
    }
}

#[test]
fn an_odd_size_gives_a_warning() {
    let mut image = Shape::sample().build();
    put4(&mut image, 368, 3 * 512 + 1);
    let layer = open_bytes(image, false).unwrap();
    assert_is(&layer, &Shape::sample().model(), Kind::Zero);
    assert!(layer.facts().warnings[0].contains("whole number of sectors"));
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_reads_right() {
    let whole = Shape::sample().build();
    for len in 0..whole.len() {
        let layer = match open_bytes(whole[..len].to_vec(), false) {
            Ok(layer) => layer,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}: {error}");
                continue;
            }
        };
        for (pos, (_, bytes)) in (0..).step_by(512).zip(Shape::sample().model()) {
            let mut buf = vec![0xee; 512];
            if layer.read_at(pos, &mut buf).is_ok() {
                assert!(buf == *bytes, "{len}: at {pos}");
            }
        }
    }
}
