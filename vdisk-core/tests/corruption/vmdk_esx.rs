//! The redo logs of ESX: vmfsSparse and seSparse extents, children of a flat disk.

use super::{
    table::{Files, Image, Row, put, put32, put64, row},
    vmdk_sparse::text,
};

/// Sectors of the disks.
const SECTORS: usize = 2000;

fn base() -> (String, Vec<u8>) {
    let line = format!("RW {SECTORS} VMFS \"base-flat.vmdk\"");
    let data = (0..SECTORS * 512).map(|i| (i / 512 + 3) as u8).collect();
    (text("vmfs", &line, "ffffffff"), data)
}

fn child(kind: &str, word: &str, name: &str, extent: Vec<u8>) -> Files {
    let line = format!("RW {SECTORS} {word} \"{name}\"");
    let parent = "1234abcd\nparentFileNameHint=\"base.vmdk\"";
    let own = text(kind, &line, parent)
        .replacen("CID=1234abcd", "CID=0000beef", 1)
        .replace("0b1234abcd", "0b0000beef");
    let (descriptor, data) = base();
    Files::one("child.vmdk", own.into_bytes())
        .and(name, extent)
        .and("base.vmdk", descriptor.into_bytes())
        .and("base-flat.vmdk", data)
}

const DELTA: &str = "child-delta.vmdk";
/// Sectors of a vmfsSparse grain.
const GRAIN: usize = 2;
const COWD_TABLE: usize = 2048 + 512;
const COWD_FIRST: usize = COWD_TABLE + 4096 * 4;

/// Grains 0, 5 and 900, in another order.
fn cowd() -> Files {
    let mut b = vec![0u8; COWD_FIRST];
    put(&mut b, 0, b"COWD");
    for (at, value) in [(4, 1), (8, 3), (12, SECTORS), (16, GRAIN), (20, 4), (24, 1)] {
        put32(&mut b, at, value as u32);
    }
    put32(&mut b, 2048, (COWD_TABLE / 512) as u32);
    for grain in [5, 900, 0] {
        let sector = (b.len() / 512) as u32;
        put32(&mut b, COWD_TABLE + grain * 4, sector);
        b.extend((0..GRAIN * 512).map(|i| (grain + i / 512 + 1) as u8));
    }
    let end = (b.len() / 512) as u32;
    put32(&mut b, 28, end);
    child("vmfsSparse", "VMFSSPARSE", DELTA, b)
}

const SESPARSE: &str = "child-sesparse.vmdk";
/// Areas of the seSparse extent: directory, tables, grains.
const DIRECTORY: usize = 2 * 512;
const TABLES: usize = 3 * 512;
const GRAINS: usize = TABLES + 2 * 32768;
/// The disk's only table is number 1.
const TABLE: usize = TABLES + 32768;

fn allocated(number: u64) -> u64 {
    // The lower 12 bits of the number stand above the others.
    3 << 60 | (number & 0xfff) << 48 | number >> 12
}

/// Grains 3 and 100, in another order; 4 are zeros, 5 unmapped.
fn sesparse() -> Files {
    let mut b = vec![0u8; GRAINS];
    for (at, value) in [
        (0, 0xcafe_babe),
        (8, 0x2_0000_0001),
        (16, SECTORS),
        (24, 8),
        (32, 64),
        (80, 1),
        (88, 1),
        (128, DIRECTORY / 512),
        (136, 1),
        (144, TABLES / 512),
        (152, 128),
        (192, GRAINS / 512),
        (200, SECTORS),
        (512, 0xcafe_cafe),
    ] {
        put64(&mut b, at, value as u64);
    }
    put64(&mut b, DIRECTORY, 0x1000_0000 << 32 | 1);
    for (place, grain) in [100, 3].into_iter().enumerate() {
        put64(&mut b, TABLE + grain * 8, allocated(place as u64));
        b.extend((0..4096).map(|i| (grain + i / 512 + 1) as u8));
    }
    put64(&mut b, TABLE + 4 * 8, 2 << 60);
    put64(&mut b, TABLE + 5 * 8, 1 << 60);
    child("seSparse", "SESPARSE", SESPARSE, b)
}

pub(crate) fn images() -> Vec<Image> {
    vec![
        Image {
            name: "vmfsSparse",
            build: cowd,
            rows: cowd_rows(),
        },
        Image {
            name: "seSparse",
            build: sesparse,
            rows: sesparse_rows(),
        },
    ]
}

fn cowd_rows() -> Vec<Row> {
    let entry =
        |name, damage: fn(&mut Files), rule, part| row(name, damage, rule, part).in_file(DELTA);
    vec![
        entry(
            "version",
            |f| put32(f.file(DELTA), 4, 2),
            "header",
            "header",
        ),
        entry(
            "grain size",
            |f| put32(f.file(DELTA), 16, 3),
            "header",
            "header",
        ),
        entry(
            "too few directory entries",
            |f| put32(f.file(DELTA), 24, 0),
            "header",
            "header",
        ),
        entry(
            "cut inside the header",
            |f| f.file(DELTA).truncate(1000),
            "header",
            "header",
        ),
        entry(
            "smaller than the disk",
            |f| put32(f.file(DELTA), 12, SECTORS as u32 - 2),
            "extent-size",
            "extent 1",
        ),
        entry(
            "directory past the end",
            |f| put32(f.file(DELTA), 20, 1 << 30),
            "directory-past-end",
            "grain directory",
        ),
        entry(
            "table past the end",
            |f| put32(f.file(DELTA), 2048, 1 << 30),
            "table-past-end",
            "grain directory, entry 0",
        ),
        entry(
            "table in the header",
            |f| put32(f.file(DELTA), 2048, 1),
            "metadata-overlap",
            "grain directory, entry 0",
        ),
        entry(
            "grain past the end",
            |f| put32(f.file(DELTA), COWD_TABLE + 5 * 4, 1 << 30),
            "grain-past-end",
            "grain table 0, entry 5",
        ),
        entry(
            "entry of 1, which is no zero here",
            |f| put32(f.file(DELTA), COWD_TABLE + 6 * 4, 1),
            "grain-in-metadata",
            "grain table 0, entry 6",
        ),
        entry(
            "two entries for a grain",
            |f| put32(f.file(DELTA), COWD_TABLE + 6 * 4, (COWD_FIRST / 512) as u32),
            "grain-shared",
            "grain table 0, entry 6",
        ),
        entry(
            "last grain cut short",
            |f| {
                let len = f.file(DELTA).len();
                f.file(DELTA).truncate(len - 512);
            },
            "grain-cut-short",
            "grain table 0, entry 0",
        ),
        entry(
            "free sector inside the grains",
            |f| put32(f.file(DELTA), 28, (COWD_FIRST / 512) as u32),
            "free-sector",
            "header",
        )
        .warning(),
        entry(
            "not closed",
            |f| put32(f.file(DELTA), 1648, 1),
            "unclean-shutdown",
            "header",
        )
        .warning()
        .repairs(),
    ]
}

fn sesparse_rows() -> Vec<Row> {
    let entry =
        |name, damage: fn(&mut Files), rule, part| row(name, damage, rule, part).in_file(SESPARSE);
    vec![
        entry(
            "version",
            |f| put64(f.file(SESPARSE), 8, 7),
            "header",
            "header",
        ),
        entry(
            "flags",
            |f| put64(f.file(SESPARSE), 40, 7),
            "header",
            "header",
        ),
        entry(
            "grain size",
            |f| put64(f.file(SESPARSE), 24, 16),
            "header",
            "header",
        ),
        entry(
            "volatile header",
            |f| put64(f.file(SESPARSE), 512, 7),
            "volatile-header",
            "volatile header",
        ),
        entry(
            "journal to be replayed",
            |f| put64(f.file(SESPARSE), 512 + 24, 1),
            "volatile-header",
            "volatile header",
        ),
        entry(
            "directory past the end",
            |f| put64(f.file(SESPARSE), 128, 1 << 40),
            "directory-past-end",
            "grain directory",
        ),
        entry(
            "directory in the header",
            |f| put64(f.file(SESPARSE), 128, 1),
            "metadata-overlap",
            "grain directory",
        ),
        entry(
            "directory entry without a meaning",
            |f| put64(f.file(SESPARSE), DIRECTORY, 1),
            "entry-unknown",
            "grain directory, entry 0",
        ),
        entry(
            "table past the end",
            |f| put64(f.file(SESPARSE), DIRECTORY, 0x1000_0000 << 32 | 2),
            "table-past-end",
            "grain directory, entry 0",
        ),
        entry(
            "entry without a meaning",
            |f| put64(f.file(SESPARSE), TABLE + 9 * 8, 7 << 60),
            "entry-unknown",
            "grain table 0, entry 9",
        ),
        entry(
            "entry of no kind",
            |f| put64(f.file(SESPARSE), TABLE + 9 * 8, 5),
            "entry-unknown",
            "grain table 0, entry 9",
        ),
        entry(
            "grain past the end",
            |f| put64(f.file(SESPARSE), TABLE + 9 * 8, allocated(5000)),
            "grain-past-end",
            "grain table 0, entry 9",
        ),
        entry(
            "two entries for a grain",
            |f| put64(f.file(SESPARSE), TABLE + 101 * 8, allocated(0)),
            "grain-shared",
            "grain table 0, entry 101",
        ),
    ]
}
