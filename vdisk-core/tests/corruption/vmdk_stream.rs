//! streamOptimized: in the order of the specification with a footer, and as qemu writes it.

use super::{
    table::{Files, Image, Row, put, put32, put64, row},
    vmdk_sparse::{DESCRIPTOR, edit, header, text},
};
use flate2::{Compression, write::ZlibEncoder};
use std::io::Write;

/// Bytes of a grain.
const GRAIN: usize = 4096;
/// Grains of the disk: one whole table and a bit of a second. The last grain is half.
const GRAINS: usize = 520;
const SECTORS: usize = GRAINS * 8 - 4;
/// Grains that are stored.
const STORED: [usize; 5] = [0, 1, 5, 511, 519];
/// First grain.
const FIRST: usize = 32 * 512;
/// Sectors of a compressed grain with its marker.
const PACKED: usize = 512;

/// The parts of the stream, each with its marker in front.
const TABLE_0: usize = FIRST + 4 * PACKED;
const GRAIN_519: usize = TABLE_0 + 5 * 512;
const TABLE_1: usize = GRAIN_519 + PACKED;
const DIRECTORY: usize = TABLE_1 + 5 * 512;
const FOOTER: usize = DIRECTORY + 2 * 512;
const END: usize = FOOTER + 2 * 512;

/// File offset of the table's entry of grain 1.
const ENTRY_1: usize = TABLE_0 + 512 + 4;

fn marker(kind: u32, sectors: u64) -> Vec<u8> {
    let mut b = vec![0; 512];
    put64(&mut b, 0, sectors);
    put32(&mut b, 12, kind);
    b
}

fn packed(grain: usize, markers: bool) -> Vec<u8> {
    let len = GRAIN.min(SECTORS * 512 - grain * GRAIN);
    let content: Vec<u8> = (0..len).map(|i| (grain + i / 512 + 1) as u8).collect();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(&content).unwrap();
    let zlib = zlib.finish().unwrap();
    let mut b = Vec::new();
    if markers {
        b.extend(((grain * GRAIN / 512) as u64).to_le_bytes());
    }
    b.extend((zlib.len() as u32).to_le_bytes());
    b.extend(zlib);
    assert!(b.len() <= PACKED);
    b.resize(PACKED, 0);
    b
}

fn stream_header(flags: u32) -> Vec<u8> {
    let mut b = vec![0u8; FIRST];
    header(&mut b, SECTORS, GRAIN);
    put32(&mut b, 4, 3);
    put32(&mut b, 8, flags);
    put64(&mut b, 28, 1);
    put64(&mut b, 36, 20);
    put64(&mut b, 64, (FIRST / 512) as u64);
    b[77] = 1;
    let line = format!("RDONLY {SECTORS} SPARSE \"disk.vmdk\"");
    let text = text("streamOptimized", &line, "ffffffff");
    put(&mut b, DESCRIPTOR, text.as_bytes());
    b
}

fn stream() -> Files {
    let mut b = stream_header(0x3_0001);
    put64(&mut b, 56, u64::MAX);
    let mut footer = b[..512].to_vec();
    let mut directory = vec![0u8; 512];
    for number in 0..2 {
        let mut table = vec![0u8; 2048];
        for grain in STORED.into_iter().filter(|g| g / 512 == number) {
            let sector = (b.len() / 512) as u32;
            put32(&mut table, grain % 512 * 4, sector);
            b.extend(packed(grain, true));
        }
        b.extend(marker(1, 4));
        put32(&mut directory, number * 4, (b.len() / 512) as u32);
        b.extend(table);
    }
    assert_eq!(b.len(), DIRECTORY);
    b.extend(marker(2, 1));
    put64(&mut footer, 56, (b.len() / 512) as u64);
    b.extend(directory);
    b.extend(marker(3, 1));
    b.extend(footer);
    assert_eq!(b.len(), END);
    b.extend(marker(0, 0));
    Files::one("disk.vmdk", b)
}

const HEAD_DIRECTORY: usize = 21 * 512;
const HEAD_TABLE: usize = 22 * 512;

/// Tables at the head, no markers but those of grains; here without them, too.
fn headed(flags: u32) -> Files {
    let mut b = stream_header(flags);
    put64(&mut b, 56, (HEAD_DIRECTORY / 512) as u64);
    for table in 0..2 {
        let sector = (HEAD_TABLE + table * 2048) / 512;
        put32(&mut b, HEAD_DIRECTORY + table * 4, sector as u32);
    }
    for grain in STORED {
        let sector = (b.len() / 512) as u32;
        put32(&mut b, HEAD_TABLE + grain * 4, sector);
        b.extend(packed(grain, flags & 0x2_0000 != 0));
    }
    Files::one("disk.vmdk", b)
}

pub(crate) fn images() -> Vec<Image> {
    vec![
        Image {
            name: "streamOptimized",
            build: stream,
            rows: [tail_rows(), marker_rows(), grain_rows()]
                .into_iter()
                .flatten()
                .collect(),
        },
        Image {
            name: "stream with its tables at the head",
            build: || headed(0x3_0001),
            rows: vec![
                row(
                    "grain marked as another",
                    |f| put64(f.main(), FIRST, 8),
                    "grain-marker",
                    "grain table 0, entry 0",
                ),
                row(
                    "directory past the end",
                    |f| put64(f.main(), 56, 1 << 40),
                    "directory-past-end",
                    "grain directory",
                ),
                row(
                    "directory said to be at the end",
                    |f| put64(f.main(), 56, u64::MAX),
                    "footer-missing",
                    "footer",
                ),
            ],
        },
        Image {
            name: "stream without markers",
            build: || headed(0x1_0001),
            rows: vec![
                row(
                    "grain of no bytes",
                    |f| put32(f.main(), FIRST, 0),
                    "grain-size",
                    "grain table 0, entry 0",
                ),
                row(
                    "damaged data",
                    |f| f.main()[FIRST + 9] ^= 0xff,
                    "unreadable",
                    "grain 0",
                )
                .deep(),
            ],
        },
    ]
}

fn tail_rows() -> Vec<Row> {
    vec![
        row(
            "end marker cut off",
            |f| f.main().truncate(END),
            "footer-missing",
            "footer",
        )
        .repairs(),
        row(
            "footer cut off",
            |f| f.main().truncate(FOOTER + 512),
            "footer-missing",
            "footer",
        )
        .repairs(),
        row(
            "cut inside the footer",
            |f| f.main().truncate(FOOTER + 700),
            "footer-missing",
            "footer",
        )
        .repairs(),
        row(
            "footer and marker cut off",
            |f| f.main().truncate(FOOTER),
            "footer-missing",
            "footer",
        )
        .repairs(),
        row(
            "cut inside the directory",
            |f| f.main().truncate(DIRECTORY + 600),
            "footer-missing",
            "footer",
        ),
        row(
            "cut between grains",
            |f| f.main().truncate(FIRST + 2 * PACKED),
            "footer-missing",
            "footer",
        ),
        row(
            "bytes behind the end",
            |f| f.main().extend([7; 2048]),
            "footer-missing",
            "footer",
        )
        .repairs(),
        row(
            "footer overwritten",
            |f| f.main()[FOOTER + 512..END].fill(0xee),
            "footer",
            "footer",
        )
        .repairs(),
        row(
            "footer of another grain size",
            |f| put64(f.main(), FOOTER + 512 + 20, 12),
            "footer",
            "footer",
        )
        .repairs(),
        row(
            "footer without a directory",
            |f| put64(f.main(), FOOTER + 512 + 56, u64::MAX),
            "footer",
            "footer",
        )
        .repairs(),
        row(
            "footer marker overwritten",
            |f| f.main()[FOOTER..FOOTER + 512].fill(0xee),
            "footer-missing",
            "footer",
        )
        .repairs(),
        row(
            "footer of another capacity",
            |f| put64(f.main(), FOOTER + 512 + 12, SECTORS as u64 - 8),
            "footer-differs",
            "footer",
        ),
        row(
            "header of an impossible grain size",
            |f| put64(f.main(), 20, 12),
            "header",
            "header",
        )
        .repairs(),
        row(
            "header of an unknown version",
            |f| put32(f.main(), 4, 77),
            "header",
            "header",
        )
        .repairs(),
        row(
            "end marker overwritten",
            |f| f.main()[END..].fill(0xee),
            "end-marker",
            "end marker",
        )
        .warning()
        .repairs(),
        row(
            "footer names another directory",
            |f| put64(f.main(), FOOTER + 512 + 56, (DIRECTORY / 512) as u64),
            "directory-markers",
            "grain directory",
        )
        .warning(),
        row(
            "type of the descriptor",
            |f| edit(f.main(), DESCRIPTOR, "streamOptimized", "monolithicSparse"),
            "create-type",
            "descriptor",
        )
        .warning(),
    ]
}

fn marker_rows() -> Vec<Row> {
    vec![
        row(
            "table marker of 5 sectors",
            |f| put64(f.main(), TABLE_0, 5),
            "marker-size",
            "marker",
        )
        .warning(),
        row(
            "directory marker of 0 sectors",
            |f| put64(f.main(), DIRECTORY, 0),
            "marker-size",
            "marker",
        )
        .warning(),
        row(
            "marker of an unknown kind",
            |f| put32(f.main(), TABLE_0 + 12, 9),
            "marker",
            "marker",
        )
        .warning(),
        row(
            "table marker that says end of stream",
            |f| f.main()[TABLE_0..TABLE_0 + 512].fill(0),
            "marker",
            "marker",
        )
        .warning(),
        row(
            "table marker that says directory",
            |f| {
                put64(f.main(), TABLE_1, 1);
                put32(f.main(), TABLE_1 + 12, 2);
            },
            "directory-markers",
            "grain directory",
        )
        .warning(),
        row(
            "directory without one of its tables",
            |f| put32(f.main(), DIRECTORY + 512 + 4, 0),
            "grain-markers",
            "grains",
        )
        .warning(),
        row(
            "table entry lost",
            |f| put32(f.main(), ENTRY_1, 0),
            "grain-markers",
            "grains",
        )
        .warning(),
        row(
            "grains in another order",
            |f| {
                let (a, b) = (FIRST, FIRST + PACKED);
                let bytes = f.main();
                let first = bytes[a..b].to_vec();
                bytes.copy_within(b..b + PACKED, a);
                put(bytes, b, &first);
                put32(bytes, ENTRY_1 - 4, (b / 512) as u32);
                put32(bytes, ENTRY_1, (a / 512) as u32);
            },
            "grain-order",
            "grain",
        )
        .note(),
    ]
}

fn grain_rows() -> Vec<Row> {
    vec![
        row(
            "grain marked as another",
            |f| put64(f.main(), FIRST, 8),
            "grain-marker",
            "grain table 0, entry 0",
        ),
        row(
            "grain of no bytes",
            |f| put32(f.main(), FIRST + 8, 0),
            "grain-size",
            "grain table 0, entry 0",
        ),
        row(
            "grain of too many bytes",
            |f| put32(f.main(), FIRST + 8, 2 * GRAIN as u32 + 1),
            "grain-size",
            "grain table 0, entry 0",
        ),
        row(
            "grain that runs into the next",
            |f| put32(f.main(), FIRST + 8, 600),
            "grain-shared",
            "grain table 0, entry 1",
        ),
        row(
            "entry past the end",
            |f| put32(f.main(), ENTRY_1, 1 << 30),
            "grain-past-end",
            "grain table 0, entry 1",
        ),
        row(
            "entry into the directory",
            |f| put32(f.main(), ENTRY_1, (DIRECTORY / 512 + 1) as u32),
            "grain-size",
            "grain table 0, entry 1",
        ),
        row(
            "two entries for a grain",
            |f| put32(f.main(), ENTRY_1 + 4, (FIRST / 512) as u32),
            "grain-marker",
            "grain table 0, entry 2",
        ),
        row(
            "table past the end",
            |f| put32(f.main(), DIRECTORY + 512, 1 << 30),
            "table-past-end",
            "grain directory, entry 0",
        ),
        row(
            "damaged data",
            |f| f.main()[FIRST + 14] ^= 0xff,
            "unreadable",
            "grain 0",
        )
        .deep(),
        row(
            "data of too few bytes",
            |f| {
                // A grain of the last, half one's data.
                let half = f.main()[GRAIN_519 + 8..GRAIN_519 + PACKED].to_vec();
                put(f.main(), FIRST + 8, &half);
            },
            "unreadable",
            "grain 0",
        )
        .deep(),
    ]
}
