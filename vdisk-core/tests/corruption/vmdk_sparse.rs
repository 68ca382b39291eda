//! monolithicSparse: header, descriptor, two sets of tables, grains. And a child.

use super::table::{Files, Image, Row, put, put32, put64, row};

/// Bytes of a grain.
const GRAIN: usize = 4096;
/// Grains of the disk: one whole table and a bit of a second.
const GRAINS: usize = 520;
/// Grains that are stored, in the order in which they are.
const STORED: [usize; 6] = [0, 3, 1, 2, 7, 515];

pub(crate) const DESCRIPTOR: usize = 512;
const COPY: usize = 21 * 512;
const DIRECTORY: usize = 30 * 512;
const FIRST: usize = 40 * 512;

/// File offset of table `number` of the set at `directory`.
const fn table(directory: usize, number: usize) -> usize {
    directory + 512 + number * 2048
}

/// File offset of the entry of `grain` in the primary tables.
const fn entry(grain: usize) -> usize {
    table(DIRECTORY, 0) + grain * 4
}

/// Sector of the grain that is stored at place number `place`.
const fn sector(place: usize) -> u32 {
    ((FIRST + place * GRAIN) / 512) as u32
}

/// A descriptor as products write it.
pub(crate) fn text(kind: &str, extents: &str, parent: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=1234abcd\nparentCID={parent}\n\
         createType=\"{kind}\"\n\n# Extent description\n{extents}\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"2\"\nddb.geometry.heads = \"64\"\n\
         ddb.geometry.sectors = \"32\"\nddb.longContentID = \"000102030405060708090a0b1234abcd\"\n\
         ddb.virtualHWVersion = \"4\"\n"
    )
}

/// Replaces `from` in the text at `at` by `to`, and keeps the length of the whole.
pub(crate) fn edit(bytes: &mut [u8], at: usize, from: &str, to: &str) {
    let area = &mut bytes[at..];
    let end = area.iter().position(|b| *b == 0).unwrap_or(area.len());
    let text = String::from_utf8(area[..end].to_vec()).unwrap();
    assert!(text.contains(from), "no '{from}' in {text}");
    let text = text.replacen(from, to, 1);
    area[..end].fill(0);
    put(area, 0, text.as_bytes());
}

pub(crate) fn header(b: &mut [u8], sectors: usize, grain: usize) {
    put(b, 0, b"KDMV");
    put32(b, 4, 1);
    put32(b, 8, 3);
    put64(b, 12, sectors as u64);
    put64(b, 20, (grain / 512) as u64);
    put32(b, 44, 512);
    put(b, 73, b"\n \r\n");
}

/// A sparse extent, with a descriptor inside if `text` is not empty.
pub(crate) fn extent(text: &str, seed: usize) -> Vec<u8> {
    let mut b = vec![0u8; FIRST];
    header(&mut b, GRAINS * GRAIN / 512, GRAIN);
    if !text.is_empty() {
        put64(&mut b, 28, 1);
        put64(&mut b, 36, 20);
        put(&mut b, DESCRIPTOR, text.as_bytes());
    }
    put64(&mut b, 48, (COPY / 512) as u64);
    put64(&mut b, 56, (DIRECTORY / 512) as u64);
    put64(&mut b, 64, (FIRST / 512) as u64);
    for directory in [COPY, DIRECTORY] {
        for number in 0..2 {
            let sector = (table(directory, number) / 512) as u32;
            put32(&mut b, directory + number * 4, sector);
        }
    }
    for (grain, place) in STORED.into_iter().zip(0..) {
        for directory in [COPY, DIRECTORY] {
            put32(&mut b, table(directory, 0) + grain * 4, sector(place));
        }
        b.extend((0..GRAIN).map(|i| (seed + grain + i / 512 + 1) as u8));
    }
    b
}

pub(crate) const SECTORS: usize = GRAINS * GRAIN / 512;

fn build() -> Files {
    let line = format!("RW {SECTORS} SPARSE \"disk.vmdk\"");
    let text = text("monolithicSparse", &line, "ffffffff");
    Files::one("disk.vmdk", extent(&text, 0))
}

fn child() -> Files {
    let line = format!("RW {SECTORS} SPARSE \"child.vmdk\"");
    let own = text(
        "monolithicSparse",
        &line,
        "1234abcd\nparentFileNameHint=\"disk.vmdk\"",
    );
    let own = own.replacen("CID=1234abcd", "CID=0000beef", 1);
    let own = own.replace("0b1234abcd", "0b0000beef");
    let mut child = extent(&own, 100);
    for directory in [COPY, DIRECTORY] {
        put32(&mut child, table(directory, 0) + 4, 0);
        put32(&mut child, table(directory, 0) + 20, 1); // zeros hide the parent
    }
    put32(&mut child, 8, 7);
    put32(&mut child, 4, 2);
    let base = build().main().clone();
    Files::one("child.vmdk", child).and("disk.vmdk", base)
}

pub(crate) fn images() -> Vec<Image> {
    vec![
        Image {
            name: "monolithicSparse",
            build,
            rows: [header_rows(), table_rows(), copy_rows()]
                .into_iter()
                .flatten()
                .collect(),
        },
        Image {
            name: "sparse child",
            build: child,
            rows: child_rows(),
        },
    ]
}

fn header_rows() -> Vec<Row> {
    vec![
        row(
            "cut inside the header",
            |f| f.main().truncate(100),
            "header",
            "header",
        ),
        row(
            "unfinished",
            |f| put(f.main(), 0, b"kdmv"),
            "unfinished",
            "header",
        ),
        row("version 9", |f| put32(f.main(), 4, 9), "header", "header"),
        row("version 0", |f| put32(f.main(), 4, 0), "header", "header"),
        row(
            "version 3",
            |f| put32(f.main(), 4, 3),
            "version-3",
            "header",
        )
        .note(),
        row(
            "incompatible flag",
            |f| f.main()[11] = 0x40,
            "header",
            "header",
        ),
        row(
            "odd flag",
            |f| f.main()[8] |= 0x20,
            "unknown-flags",
            "header",
        )
        .note(),
        row(
            "markers without compression",
            |f| put32(f.main(), 8, 0x2_0003),
            "header",
            "header",
        ),
        row(
            "compressed of unknown kind",
            |f| put32(f.main(), 8, 0x1_0003),
            "header",
            "header",
        ),
        row(
            "capacity of half a grain more",
            |f| put64(f.main(), 12, SECTORS as u64 + 4),
            "capacity-unaligned",
            "header",
        )
        .note(),
        row(
            "capacity of two grains more",
            |f| put64(f.main(), 12, SECTORS as u64 + 16),
            "size-differs",
            "descriptor",
        )
        .warning(),
        row(
            "capacity beyond all disks",
            |f| put64(f.main(), 12, 1 << 60),
            "header",
            "header",
        ),
        row(
            "capacity that needs a larger directory",
            |f| put64(f.main(), 12, 1 << 40),
            "directory-past-end",
            "grain directory",
        ),
        row(
            "grain size 0",
            |f| put64(f.main(), 20, 0),
            "header",
            "header",
        ),
        row(
            "grain size 12",
            |f| put64(f.main(), 20, 12),
            "header",
            "header",
        ),
        row(
            "grains of 4 sectors",
            |f| {
                put64(f.main(), 20, 4);
            },
            "grain-small",
            "header",
        )
        .warning(),
        row(
            "tables of 0 entries",
            |f| put32(f.main(), 44, 0),
            "header",
            "header",
        ),
        row(
            "tables of 256 entries",
            |f| put32(f.main(), 44, 256),
            "table-entries",
            "header",
        )
        .warning(),
        row(
            "descriptor past the end",
            |f| put64(f.main(), 28, 1 << 30),
            "descriptor-place",
            "descriptor",
        ),
        row(
            "descriptor of a terabyte",
            |f| put64(f.main(), 36, 1 << 31),
            "descriptor-place",
            "descriptor",
        ),
        row(
            "descriptor over the tables",
            |f| put64(f.main(), 36, 25),
            "metadata-overlap",
            "redundant grain directory",
        )
        .warning(),
        row(
            "directory at 0",
            |f| put64(f.main(), 56, 0),
            "directory-past-end",
            "grain directory",
        ),
        row(
            "directory past the end",
            |f| put64(f.main(), 56, 1 << 40),
            "directory-past-end",
            "grain directory",
        ),
        row(
            "directory in the descriptor",
            |f| put64(f.main(), 56, 2),
            "metadata-overlap",
            "grain directory",
        ),
        row(
            "no redundant directory",
            |f| put64(f.main(), 48, 0),
            "redundant-missing",
            "redundant grain tables",
        )
        .warning(),
        row(
            "redundant directory past the end",
            |f| put64(f.main(), 48, 1 << 40),
            "directory-past-end",
            "redundant grain directory",
        )
        .warning(),
        row(
            "overhead too large",
            |f| put64(f.main(), 64, (FIRST + GRAIN) as u64 / 512),
            "overhead",
            "grain table 0, entry 0",
        )
        .warning(),
        row(
            "overhead not where grains begin",
            |f| put64(f.main(), 64, FIRST as u64 / 512 - 1),
            "grain-misaligned",
            "grain table 0, entry 0",
        )
        .warning(),
        row(
            "not closed",
            |f| f.main()[72] = 1,
            "unclean-shutdown",
            "header",
        )
        .warning()
        .repairs(),
        row(
            "not closed, and a grain is lost",
            |f| {
                f.main()[72] = 1;
                for directory in [COPY, DIRECTORY] {
                    put32(f.main(), table(directory, 0), 1 << 30);
                }
            },
            "unclean-shutdown",
            "header",
        )
        .warning(),
        row(
            "newline bytes flipped",
            |f| f.main()[74] = b'!',
            "newlines",
            "header",
        )
        .repairs(),
        row(
            "newlines of a text-mode transfer",
            |f| put(f.main(), 73, b"\r\n \r"),
            "newlines",
            "header",
        ),
    ]
}

fn table_rows() -> Vec<Row> {
    /// Changes an entry in both sets.
    fn both(f: &mut Files, grain: usize, value: u32) {
        for directory in [COPY, DIRECTORY] {
            put32(f.main(), table(directory, 0) + grain * 4, value);
        }
    }
    vec![
        row(
            "grain past the end",
            |f| both(f, 3, 1 << 30),
            "grain-past-end",
            "grain table 0, entry 3",
        ),
        row(
            "grain in the header",
            |f| both(f, 3, 2),
            "grain-in-metadata",
            "grain table 0, entry 3",
        ),
        row(
            "grain in a table",
            |f| both(f, 3, (table(DIRECTORY, 0) / 512) as u32),
            "grain-in-metadata",
            "grain table 0, entry 3",
        ),
        row(
            "grain in a redundant table",
            |f| both(f, 3, (table(COPY, 1) / 512) as u32),
            "grain-in-metadata",
            "grain table 0, entry 3",
        ),
        row(
            "one grain for two entries",
            |f| both(f, 9, sector(0)),
            "grain-shared",
            "grain table 0, entry 9",
        ),
        row(
            "grains that overlap",
            |f| both(f, 9, sector(0) + 3),
            "grain-shared",
            "grain table 0, entry 9",
        ),
        row(
            "misaligned grain",
            |f| {
                let bytes = f.main();
                bytes.extend([7; GRAIN + 512]);
                both(f, 9, sector(STORED.len()) + 1);
            },
            "grain-misaligned",
            "grain table 0, entry 9",
        )
        .warning(),
        row(
            "grain of zeros without the flag",
            |f| both(f, 9, 1),
            "zero-entry",
            "grain table 0, entry 9",
        )
        .warning(),
        row(
            "entry behind the end of the disk",
            |f| {
                f.main().extend([7; GRAIN]);
                for directory in [COPY, DIRECTORY] {
                    put32(f.main(), table(directory, 1) + 8 * 4, sector(STORED.len()));
                }
            },
            "entry-past-disk",
            "grain table 1, entry 8",
        )
        .note(),
        row(
            "last grain cut short",
            |f| {
                let len = f.main().len();
                f.main().truncate(len - 1024);
            },
            "grain-cut-short",
            "grain table 1, entry 3",
        ),
        row(
            "bytes behind the last grain",
            |f| f.main().extend([7; 3 * GRAIN]),
            "unused-space",
            "file",
        )
        .note(),
        row(
            "table past the end, in both directories",
            |f| {
                put32(f.main(), COPY, 1 << 30);
                put32(f.main(), DIRECTORY, 1 << 30);
                put32(f.main(), table(DIRECTORY, 0), 9);
            },
            "table-past-end",
            "grain directory, entry 0",
        ),
        row(
            "directory entry into the descriptor",
            |f| put32(f.main(), DIRECTORY, 2),
            "metadata-overlap",
            "grain directory, entry 0",
        )
        .repairs(),
        row(
            "two directory entries for one table",
            |f| put32(f.main(), DIRECTORY + 4, (table(DIRECTORY, 0) / 512) as u32),
            "table-shared",
            "grain directory, entry 1",
        )
        .repairs(),
        row(
            "directory entry of 1",
            |f| {
                put32(f.main(), DIRECTORY + 4, 1);
                put32(f.main(), COPY + 4, 1);
            },
            "zero-entry",
            "grain directory, entry 1",
        )
        .warning(),
    ]
}

fn copy_rows() -> Vec<Row> {
    let part = "grain tables";
    vec![
        row(
            "primary entry past the end",
            |f| put32(f.main(), entry(3), 1 << 30),
            "redundant-differs",
            part,
        )
        .repairs(),
        row(
            "primary entry to another grain",
            |f| put32(f.main(), entry(3), sector(0)),
            "redundant-differs",
            part,
        )
        .repairs(),
        row(
            "primary table overwritten",
            |f| {
                let at = table(DIRECTORY, 0);
                f.main()[at..at + 2048].fill(0xee);
            },
            "redundant-differs",
            part,
        )
        .repairs(),
        row(
            "primary table overwritten, and a redundant entry too",
            |f| {
                let at = table(DIRECTORY, 0);
                f.main()[at..at + 2048].fill(0xee);
                put32(f.main(), table(COPY, 0) + 12, 1 << 30);
            },
            "redundant-differs",
            part,
        ),
        row(
            "primary entry lost: both could be right",
            |f| put32(f.main(), entry(3), 0),
            "redundant-differs",
            part,
        ),
        row(
            "primary entry to a place that could be right, another past the end",
            |f| {
                f.main().extend([7; GRAIN]);
                put32(f.main(), entry(3), sector(STORED.len()));
                put32(f.main(), entry(7), 1 << 30);
            },
            "redundant-differs",
            part,
        ),
        row(
            "redundant entry lost: both could be right",
            |f| put32(f.main(), table(COPY, 0) + 12, 0),
            "redundant-differs",
            part,
        ),
        row(
            "redundant entry past the end",
            |f| put32(f.main(), table(COPY, 0) + 12, 1 << 30),
            "redundant-differs",
            part,
        )
        .warning()
        .repairs(),
        row(
            "redundant table overwritten",
            |f| {
                let at = table(COPY, 1);
                f.main()[at..at + 2048].fill(0xee);
            },
            "redundant-differs",
            part,
        )
        .warning()
        .repairs(),
        row(
            "redundant directory entry past the end",
            |f| put32(f.main(), COPY, 1 << 30),
            "table-past-end",
            "redundant grain directory, entry 0",
        )
        .warning()
        .repairs(),
        row(
            "redundant directory overwritten",
            |f| f.main()[COPY..COPY + 512].fill(0xee),
            "redundant-differs",
            part,
        )
        .warning()
        .repairs(),
        row(
            "primary directory overwritten",
            |f| f.main()[DIRECTORY..DIRECTORY + 512].fill(0xee),
            "redundant-differs",
            part,
        )
        .repairs(),
        row(
            "primary table in an unusual place that is damaged",
            |f| {
                let at = f.main().len();
                put32(f.main(), DIRECTORY, (at / 512) as u32);
                f.main().extend([0xee; 2048]);
            },
            "grain-past-end",
            "grain table 0, entry 0",
        )
        .repairs(),
    ]
}

fn child_rows() -> Vec<Row> {
    vec![
        row(
            "parent missing",
            |f| f.remove("disk.vmdk"),
            "parent-missing",
            "parent",
        ),
        row(
            "parent changed",
            |f| {
                edit(
                    f.file("disk.vmdk"),
                    DESCRIPTOR,
                    "CID=1234abcd",
                    "CID=1234abce",
                )
            },
            "parent-changed",
            "parent",
        ),
        row(
            "parent of another version",
            |f| put32(f.file("disk.vmdk"), 4, 9),
            "parent-unreadable",
            "header",
        )
        .in_file("disk.vmdk"),
        row(
            "parent smaller than the child's",
            |f| {
                let sectors = SECTORS as u64 - 8;
                put64(f.main(), 12, sectors);
                edit(
                    f.main(),
                    DESCRIPTOR,
                    &SECTORS.to_string(),
                    &sectors.to_string(),
                );
            },
            "smaller-than-parent",
            "virtual size",
        )
        .note(),
        row(
            "parent not named",
            |f| {
                edit(
                    f.main(),
                    DESCRIPTOR,
                    "parentFileNameHint=\"disk.vmdk\"",
                    "#",
                )
            },
            "parent-unnamed",
            "descriptor",
        )
        .warning(),
        row(
            "parent without its CID",
            |f| {
                edit(
                    f.main(),
                    DESCRIPTOR,
                    "parentCID=1234abcd",
                    "parentCID=ffffffff",
                )
            },
            "parent-unused",
            "descriptor",
        )
        .warning(),
    ]
}
