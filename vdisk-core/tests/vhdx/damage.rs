//! Valid images with one thing changed: the right error, or a warning and the right contents.

use crate::{
    builder::{BAT_ID, Block, Built, LogEntry, METADATA_ID, MIB, Shape, Step, guid, locator},
    log::{LOG, entry, log, page, sample},
    open_sparse, read_all,
};
use proptest::prelude::*;
use vdisk_core::ErrorKind;

/// A child with a partial block, a whole one and an absent one. Table at 3 MiB, blocks from 4 MiB
/// on, the bitmap at 5 MiB.
fn child() -> Built {
    let partial = Block::Partial(vec![(1, 9)]);
    let built = shape(vec![(0, partial), (1, Block::Whole)]).build();
    assert_eq!(built.file.u64_at(3 * MIB), (4 * MIB) | 7);
    assert_eq!(built.file.u64_at(3 * MIB + 4096 * 8), (5 * MIB) | 6);
    built
}

fn shape(blocks: Vec<(u64, Block)>) -> Shape {
    Shape::new(512, MIB, 3 * 2048, blocks).into_child()
}

/// The sample with this in its log.
fn logged(built: &mut Built, change: impl FnOnce(&mut LogEntry)) {
    let mut one = entry(5, 0, vec![Step::Page(4 * MIB, page(1))]);
    change(&mut one);
    log(built, 0, &[one]);
}

/// The child with another parent locator.
fn relocated(built: &mut Built, bytes: Vec<u8>) {
    let mut items = shape(Vec::new()).metadata();
    items.last_mut().unwrap().2 = bytes;
    built.metadata_of(&items);
}

const LINK: (&str, &str) = ("parent_linkage", crate::builder::PARENT_TEXT);

fn with_keys(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs: Vec<(&str, String)> = pairs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    locator(&pairs)
}

type Row = (&'static str, fn(&mut Built), ErrorKind, &'static str);

const BAT: &str = "block allocation table";

fn check(start: fn() -> Built, rows: &[Row]) {
    read_all(start().file).unwrap();
    for (name, change, kind, part) in rows {
        let mut built = start();
        change(&mut built);
        let error = read_all(built.file).expect_err(name);
        assert_eq!(error.kind(), *kind, "{name}: {error}");
        assert!(error.part().starts_with(part), "{name}: {error}");
        assert!(error.to_string().starts_with("test.vhdx: "), "{error}");
    }
}

#[test]
#[rustfmt::skip] // one row a line
fn headers_and_regions_have_rules() {
    use ErrorKind::{Corrupt, Unsupported};
    check(
        sample,
        &[
            ("cut before the headers", |b| b.file.size = 600, Corrupt, "header 1"),
            ("cut in header 2", |b| b.file.size = (128 << 10) + 5, Corrupt, "header 2"),
            (
                "both headers damaged",
                |b| {
                    b.file.put((64 << 10) + 80, &[1]);
                    b.file.put((128 << 10) + 4095, &[1]);
                },
                Corrupt,
                "headers",
            ),
            ("no headers", |b| b.file.put(64 << 10, &[0; 69632]), Corrupt, "headers"),
            ("same number, not the same", |b| { b.in_header(0, 8, &[8]); b.in_header(0, 32, b"?"); }, Corrupt, "headers"),
            ("version 2", |b| b.in_header(1, 66, &[2]), Unsupported, "header 2"),
            ("log version 1", |b| { logged(b, |_| {}); b.in_headers(64, &[1]); }, Unsupported, "header 2"),
            ("log among the headers", |b| b.in_headers(72, &[0; 8]), Corrupt, "log"),
            ("log at an odd place", |b| b.in_headers(72, &[1]), Corrupt, "log"),
            ("log of an odd length", |b| b.in_headers(68, &[1]), Corrupt, "log"),
            ("no room for a log", |b| b.in_headers(68, &[0; 4]), Corrupt, "log"),
            ("log past the end", |b| b.in_headers(75, &[1]), Corrupt, "log"),
            ("log at the end of numbers", |b| b.in_headers(72, &[0, 0, 0xf0, 255, 255, 255, 255, 255]), Corrupt, ""),
            (
                "both region tables damaged",
                |b| {
                    b.file.put((192 << 10) + 20, &[1]);
                    b.file.put((256 << 10) + 20, &[1]);
                },
                Corrupt,
                "region tables",
            ),
            ("too many regions", |b| b.in_regions(8, &2048u32.to_le_bytes()), Corrupt, "region tables"),
            ("no table region", |b| b.in_regions(16, &[0]), Unsupported, "region table 1, entry 0"),
            ("no table region, not required", |b| { b.in_regions(16, &[0]); b.in_regions(44, &[0]); }, Corrupt, "region table 1"),
            ("no metadata region", |b| b.in_regions(8, &[1]), Corrupt, "region table 1"),
            (
                "unknown region that must be known",
                |b| {
                    let end = b.file.size;
                    b.file.size += MIB;
                    b.regions(&[
                        (guid(BAT_ID), b.bat, MIB as u32, 1),
                        (guid(METADATA_ID), b.metadata, MIB as u32, 1),
                        (*b"nobody knows it!", end, MIB as u32, 1),
                    ]);
                },
                Unsupported,
                "region table 1, entry 2",
            ),
            (
                "a region twice",
                |b| {
                    let end = b.file.size;
                    b.file.size += MIB;
                    b.regions(&[
                        (guid(BAT_ID), b.bat, MIB as u32, 1),
                        (guid(BAT_ID), end, MIB as u32, 1),
                    ]);
                },
                Corrupt,
                "region table 1, entry 1",
            ),
            ("region among the headers", |b| b.in_regions(32, &[0; 8]), Corrupt, "region table 1, entry 0"),
            ("region in the log", |b| b.in_regions(32, &MIB.to_le_bytes()), Corrupt, "region table 1, entry 0"),
            ("regions overlap", |b| b.in_regions(64, &(3 * MIB).to_le_bytes()), Corrupt, "region table 1, entry 1"),
            ("region at an odd place", |b| b.in_regions(32, &[1]), Corrupt, "region table 1, entry 0"),
            ("region of an odd length", |b| b.in_regions(40, &[1]), Corrupt, "region table 1, entry 0"),
            ("region of no length", |b| b.in_regions(40, &[0; 4]), Corrupt, "region table 1, entry 0"),
            ("region past the end", |b| b.in_regions(34, &[0x60]), Corrupt, "region table 1, entry 0"),
            ("region at the end of numbers", |b| b.in_regions(35, &[0xff; 5]), Corrupt, "region table 1, entry 0"),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn metadata_and_blocks_have_rules() {
    use ErrorKind::{Corrupt, Limit, Unsupported};
    check(
        sample,
        &[
            ("no metadata table", |b| b.in_metadata(0, b"M"), Corrupt, "metadata table"),
            ("too many items", |b| b.in_metadata(10, &[0xff, 0xff]), Corrupt, "metadata table"),
            ("item in the table", |b| b.in_metadata(48, &[0; 4]), Corrupt, "metadata table, entry 0"),
            ("item past the region", |b| b.in_metadata(48, &[0xfc, 0xff, 0x0f, 0]), Corrupt, "metadata table, entry 0"),
            ("item longer than any", |b| b.in_metadata(52, &[1, 0, 0x10, 0]), Corrupt, "metadata table, entry 0"),
            (
                "item twice",
                |b| b.in_metadata(64, &guid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")),
                Corrupt,
                "metadata table, entry 1",
            ),
            ("unknown item that must be known", |b| b.in_metadata(32, b"?"), Unsupported, "metadata table, entry 0"),
            ("user item that must be known", |b| b.in_metadata(56, &[5]), Unsupported, "metadata table, entry 0"),
            (
                "creation not finished",
                |b| b.in_metadata(32, &guid("71CC85F0-1B69-4E28-9558-C3BF83AE75D3")),
                Corrupt,
                "metadata table, entry 0",
            ),
            ("no file parameters", |b| { b.in_metadata(32, b"?"); b.in_metadata(56, &[0]) }, Corrupt, "file parameters"),
            ("no size", |b| { b.in_metadata(64, b"?"); b.in_metadata(88, &[0]) }, Corrupt, "virtual size"),
            ("no id", |b| { b.in_metadata(96, b"?"); b.in_metadata(120, &[0]) }, Corrupt, "virtual disk id"),
            ("no logical sector", |b| { b.in_metadata(128, b"?"); b.in_metadata(152, &[0]) }, Corrupt, "logical sector"),
            ("no physical sector", |b| { b.in_metadata(160, b"?"); b.in_metadata(184, &[0]) }, Corrupt, "physical sector"),
            ("short parameters", |b| b.in_metadata(52, &[7]), Corrupt, "file parameters"),
            ("long id", |b| b.in_metadata(96 + 20, &[17]), Corrupt, "virtual disk id"),
            ("blocks of 0", |b| b.in_metadata(65536, &[0; 4]), Corrupt, "file parameters"),
            ("blocks of 3 MiB", |b| b.in_metadata(65538, &[0x30]), Corrupt, "file parameters"),
            ("blocks of 512 KiB", |b| b.in_metadata(65538, &[8]), Corrupt, "file parameters"),
            ("blocks of 512 MiB", |b| b.in_metadata(65536, &[0, 0, 0, 0x20]), Corrupt, "file parameters"),
            ("child without locator", |b| b.in_metadata(65540, &[2]), Corrupt, "parent locator"),
            ("odd size", |b| b.in_metadata(65544, &[1]), Corrupt, "virtual size"),
            ("size of 2^63", |b| b.in_metadata(65551, &[0x80]), Limit, "virtual size"),
            ("larger than the table", |b| b.in_metadata(65549, &[1]), Corrupt, BAT),
            ("logical sectors of 1024", |b| b.in_metadata(65568, &[0, 4]), Corrupt, "logical sector"),
            ("logical sectors of 0", |b| b.in_metadata(65568, &[0, 0]), Corrupt, "logical sector"),
            ("physical sectors of 1", |b| b.in_metadata(65572, &[1, 0]), Corrupt, "physical sector"),
            ("block past the end", |b| b.entry(0, 6, 6 * MIB), Corrupt, "block allocation table, entry 0"),
            ("block nowhere near", |b| b.entry(2, 6, u64::MAX << 20), Corrupt, ""),
            ("block nowhere", |b| b.entry(2, 6, 0), Corrupt, "block allocation table, entry 2"),
            ("block in the log", |b| b.entry(2, 6, MIB), Corrupt, "block allocation table, entry 2"),
            ("block in the metadata", |b| b.entry(2, 6, 2 * MIB), Corrupt, "block allocation table, entry 2"),
            ("block in the table", |b| b.entry(2, 6, 3 * MIB), Corrupt, "block allocation table, entry 2"),
            ("state 4", |b| b.entry(1, 4, 0), Corrupt, "block allocation table, entry 1"),
            ("part of a block in a base", |b| b.entry(0, 7, 4 * MIB), Corrupt, "block allocation table, entry 0"),
            ("cut in a block", |b| b.file.size -= 512, Corrupt, "block allocation table, entry 2"),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn children_have_rules() {
    use ErrorKind::{Corrupt, Limit, Unsupported};
    check(
        child,
        &[
            ("no bitmap", |b| b.entry(4096, 0, 0), Corrupt, "block allocation table, entry 4096"),
            ("bitmap of state 7", |b| b.entry(4096, 7, 5 * MIB), Corrupt, "block allocation table, entry 4096"),
            ("bitmap nowhere", |b| b.entry(4096, 6, 0), Corrupt, "block allocation table, entry 4096"),
            ("bitmap past the end", |b| b.entry(4096, 6, 7 * MIB), Corrupt, "block allocation table, entry 4096"),
            ("bitmap in the metadata", |b| b.entry(4096, 6, 2 * MIB), Corrupt, "block allocation table, entry 4096"),
            ("partial block past the end", |b| b.entry(0, 7, 7 * MIB), Corrupt, "block allocation table, entry 0"),
            ("no locator", |b| b.in_metadata(8 + 2, &[5]), Corrupt, "parent locator"),
            ("empty locator", |b| relocated(b, vec![]), Corrupt, "parent locator"),
            ("locator of another type", |b| relocated(b, [&[7; 16][..], &[0; 4]].concat()), Unsupported, "parent locator"),
            ("locator without keys", |b| relocated(b, with_keys(&[])), Corrupt, "parent locator"),
            ("no linkage", |b| relocated(b, with_keys(&[("relative_path", "b")])), Corrupt, "parent locator"),
            ("linkage of five digits", |b| relocated(b, with_keys(&[("parent_linkage", "{12345}")])), Corrupt, "parent locator"),
            ("too many keys", |b| relocated(b, with_keys(&[LINK; 257])), Limit, "parent locator"),
            (
                "more keys than bytes",
                |b| {
                    let mut bytes = with_keys(&[LINK]);
                    bytes[18] = 200;
                    relocated(b, bytes);
                },
                Corrupt,
                "parent locator",
            ),
            (
                "value past the locator",
                |b| {
                    let mut bytes = with_keys(&[LINK]);
                    bytes[30] = 0xff;
                    relocated(b, bytes);
                },
                Corrupt,
                "parent locator",
            ),
            (
                "half a surrogate pair",
                |b| {
                    let mut bytes = with_keys(&[LINK]);
                    let last = bytes.len() - 1;
                    bytes[last] = 0xd8;
                    relocated(b, bytes);
                },
                Corrupt,
                "parent locator",
            ),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row a line
fn logs_have_rules() {
    use ErrorKind::{Corrupt, Limit};
    const FIRST: &str = "log entry 5, descriptor 0";
    let rows: &[Row] = &[
        ("marked, but empty", |b| { log(b, 0, &[]); }, Corrupt, "log"),
        ("entry of another log", |b| logged(b, |e| e.log = [7; 16]), Corrupt, "log"),
        ("sequence number 0", |b| logged(b, |e| e.sequence = 0), Corrupt, "log"),
        ("tail outside the sequence", |b| logged(b, |e| e.tail = 8192), Corrupt, "log"),
        ("tail at an odd place", |b| logged(b, |e| e.tail = 512), Corrupt, "log"),
        ("tail outside the log", |b| logged(b, |e| e.tail = MIB as u32), Corrupt, "log"),
        ("wrong checksum", |b| { logged(b, |_| {}); b.file.put(MIB + 70, &[0x55]); }, Corrupt, "log"),
        ("descriptors past the entry", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 24, &[0, 1]); }, Corrupt, "log"),
        ("no data for a descriptor", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 24, &[2]); }, Corrupt, "log"),
        ("neither data nor zero", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 64, b"D"); }, Corrupt, "log"),
        ("descriptor of another entry", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 88, &[9]); }, Corrupt, "log"),
        ("page without its mark", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 4096, b"D"); }, Corrupt, "log"),
        ("page of another entry, low", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 8188, &[9]); }, Corrupt, "log"),
        ("page of another entry, high", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 4100, &[9]); }, Corrupt, "log"),
        ("length not of sectors", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 8, &[1]); }, Corrupt, "log"),
        ("longer than the log", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 10, &[0xff]); }, Corrupt, "log"),
        ("no length", |b| { logged(b, |_| {}); b.in_sealed(MIB, 8192, 8, &[0; 4]); }, Corrupt, "log"),
        ("file cut short since", |b| logged(b, |e| e.flushed = 7 * MIB), Corrupt, "log"),
        ("file of 2^60 bytes", |b| logged(b, |e| e.last = 1 << 60), Limit, "log"),
        ("changes a header", |b| logged(b, |e| e.steps = vec![Step::Page(64 << 10, page(1))]), Corrupt, FIRST),
        ("changes the first page", |b| logged(b, |e| e.steps = vec![Step::Zero(0, 4096)]), Corrupt, FIRST),
        ("zeros up to the tables", |b| logged(b, |e| e.steps = vec![Step::Zero(188 << 10, 8192)]), Corrupt, FIRST),
        ("changes the log", |b| logged(b, |e| e.steps = vec![Step::Page(2 * MIB - 4096, page(1))]), Corrupt, FIRST),
        ("zeros across the log", |b| logged(b, |e| e.steps = vec![Step::Zero(256 << 10, 2 * MIB)]), Corrupt, FIRST),
        ("past the end", |b| logged(b, |e| e.steps = vec![Step::Page(6 * MIB, page(1))]), Corrupt, FIRST),
        ("zeros past the end", |b| logged(b, |e| e.steps = vec![Step::Zero(5 * MIB, 2 * MIB)]), Corrupt, FIRST),
        ("zeros without end", |b| logged(b, |e| e.steps = vec![Step::Zero(5 * MIB, u64::MAX)]), Corrupt, "log"),
        ("not a page", |b| logged(b, |e| e.steps = vec![Step::Page(4 * MIB + 512, page(1))]), Corrupt, FIRST),
        ("not whole pages", |b| logged(b, |e| e.steps = vec![Step::Zero(4 * MIB, 512)]), Corrupt, FIRST),
        (
            "a log of 17 MiB",
            |b| {
                b.file.size += 17 * MIB;
                b.in_headers(48, &LOG);
                b.in_headers(68, &(17 * MIB as u32).to_le_bytes());
                b.in_headers(72, &(6 * MIB).to_le_bytes());
            },
            Limit,
            "log",
        ),
        (
            "breaks the table",
            |b| logged(b, |e| e.steps = vec![Step::Page(3 * MIB, vec![0x44; 4096])]),
            Corrupt,
            "block allocation table, entry 0",
        ),
    ];
    check(sample, rows);
    let good = |b: &mut Built| logged(b, |_| {});
    let mut built = sample();
    good(&mut built);
    read_all(built.file).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No file, however damaged, does more than give an error.
    #[test]
    fn damaged_files_are_errors_or_images(
        changes in prop::collection::vec((0usize..7, 0u64..160, any::<u8>()), 1..5),
        cut in prop::option::of(0u64..7 * MIB), seal in any::<bool>(),
    ) {
        let mut built = child();
        let parts = [0, 64 << 10, 128 << 10, 192 << 10, 2 * MIB, 2 * MIB + 65536, 3 * MIB];
        for (part, at, byte) in changes {
            built.file.put(parts[part] + at, &[byte]);
        }
        if seal {
            built.in_headers(0, b"head");
            built.in_regions(0, b"regi");
        }
        if let Some(cut) = cut {
            built.file.size = cut;
        }
        let _ = read_all(built.file);
    }
}

#[test]
fn bits_that_the_specification_reserves_are_ignored() {
    let mut built = sample();
    built.entry(0, 6, (4 * MIB) + 0xff8);
    read_all(built.file).unwrap();
    // A place recorded for a block that is not there.
    for state in [0, 1, 2, 3, 5] {
        let mut built = sample();
        built.entry(1, state, u64::MAX << 20);
        read_all(built.file).unwrap();
    }
    assert!(
        open_sparse(sample().file, false)
            .unwrap()
            .facts()
            .warnings
            .is_empty()
    );
}
