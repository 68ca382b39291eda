//! VHDX: headers, log, region tables, metadata, block allocation table and parent locator.
//!
//! A row is a line, so that the table can be read as one.

use super::{
    builder::{
        BAT_ID, Block, Built, LogEntry, METADATA_ID, MIB, PARENT, Shape, Step, guid, locator,
    },
    sparse::Sparse,
    table::{Files, Image, Row, row},
};

const LOG: [u8; 16] = *b"the log's own id";
const BAT: &str = "block allocation table";
/// The entry of the bitmap of the first chunk, which has 4096 blocks of 1 MiB.
const BITMAP: u64 = 4096;

/// Log at 1 MiB, metadata at 2, table at 3, blocks from 4 on.
fn shape() -> Shape {
    let blocks = vec![(0, Block::Whole), (2, Block::Whole)];
    Shape::new(512, MIB, 3 * 2048, blocks)
}

fn base() -> Files {
    Files::one("disk.vhdx", shape().build().file.to_vec())
}

/// Block 0 at 4 MiB is partial, its bitmap is at 5, block 1 at 6.
fn child_shape() -> Shape {
    let blocks = vec![(0, Block::Partial(vec![(1, 9)])), (1, Block::Whole)];
    Shape::new(512, MIB, 3 * 2048, blocks).into_child()
}

fn child() -> Files {
    let mut parent = shape().build();
    parent.in_headers(32, &PARENT);
    Files::one("child.vhdx", child_shape().build().file.to_vec())
        .and("base.vhdx", parent.file.to_vec())
}

/// Changes the image as one that the builder built.
fn edit(files: &mut Files, change: impl FnOnce(&mut Built)) {
    let mut file = Sparse::default();
    file.put(0, files.main());
    let mut built = Built {
        file,
        log: MIB,
        metadata: 2 * MIB,
        bat: 3 * MIB,
    };
    change(&mut built);
    *files.main() = built.file.to_vec();
}

/// Puts an entry with these steps into the log, and marks it as in use.
fn log(built: &mut Built, steps: Vec<Step>, change: impl FnOnce(&mut LogEntry)) {
    let mut entry = LogEntry {
        log: LOG,
        sequence: 5,
        tail: 0,
        flushed: built.file.size,
        last: built.file.size,
        steps,
    };
    change(&mut entry);
    built.file.put(MIB, &entry.build());
    built.header(0, 11, LOG);
    built.header(1, 12, LOG);
}

/// The pages at these places are lost, and in the log.
fn in_log(built: &mut Built, places: &[u64]) {
    let steps = places
        .iter()
        .map(|at| Step::Page(*at, built.file.get(*at, 4096)));
    let steps = steps.collect();
    for at in places {
        built.file.put(*at, &[0xdb; 4096]);
    }
    log(built, steps, |_| {});
}

/// The table is lost, and the file shorter than it will be.
fn grown_by_log(built: &mut Built) {
    let page = built.file.get(3 * MIB, 4096);
    built.file.put(3 * MIB, &[0; 4096]);
    log(built, vec![Step::Page(3 * MIB, page)], |e| e.last = 8 * MIB);
}

fn table_and_header(built: &mut Built) {
    in_log(built, &[3 * MIB]);
    built.file.put((64 << 10) + 80, &[1]);
}

fn regions(built: &mut Built) {
    in_log(built, &[192 << 10, 256 << 10, 2 * MIB]);
}

fn differing_tables(built: &mut Built) {
    built.in_sealed(256 << 10, 65536, 16 + 28, &[3]);
}

fn both_tables(built: &mut Built) {
    built.file.put((192 << 10) + 20, &[1]);
    built.file.put((256 << 10) + 20, &[1]);
}

fn both_headers(built: &mut Built) {
    built.file.put((64 << 10) + 80, &[1]);
    built.file.put((128 << 10) + 80, &[1]);
}

fn one_number(built: &mut Built) {
    built.in_header(0, 8, &[8]);
    built.in_header(0, 16, b"?");
}

fn unknown_region(built: &mut Built) {
    let end = built.file.size;
    built.file.size += MIB;
    built.regions(&[
        (guid(BAT_ID), 3 * MIB, MIB as u32, 1),
        (guid(METADATA_ID), 2 * MIB, MIB as u32, 1),
        (*b"nobody knows it!", end, MIB as u32, 1),
    ]);
}

fn parent(built: &mut Built, pairs: &[(&str, &str)]) {
    let pairs: Vec<(&str, String)> = pairs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    let mut items = child_shape().metadata();
    items.last_mut().unwrap().2 = locator(&pairs);
    built.metadata_of(&items);
}

#[rustfmt::skip] // a row a line
fn header_rows() -> Vec<Row> {
    vec![
        row("the checksum of header 1", |f| edit(f, |b| b.file.put((64 << 10) + 5, b"?")), "header-damaged", "header 1").warning().repairs(),
        row("no header 1", |f| edit(f, |b| b.file.put(64 << 10, &[0; 4096])), "header-damaged", "header 1").warning().repairs(),
        row("a byte of the current header", |f| edit(f, |b| b.file.put((128 << 10) + 4000, b"?")), "header-damaged", "header 2").warning().repairs(),
        row("no current header", |f| edit(f, |b| b.file.put(128 << 10, &[0xff; 4096])), "header-damaged", "header 2").warning().repairs(),
        row("both headers", |f| edit(f, both_headers), "headers", "headers"),
        row("two headers of one number", |f| edit(f, one_number), "headers", "headers"),
        row("version 2", |f| edit(f, |b| b.in_header(1, 66, &[2])), "headers", "header 2"),
        row("a log at an odd place", |f| edit(f, |b| b.in_headers(72, &[1])), "log-region", "log"),
        row("a log past the end", |f| edit(f, |b| b.in_headers(74, &[0xff])), "log-region", "log"),
        row("a table in the log", |f| edit(f, |b| in_log(b, &[3 * MIB])), "log-dirty", "log").warning().repairs(),
        row("region tables and items in the log", |f| edit(f, regions), "log-dirty", "log").warning().repairs(),
        row("a log and one header", |f| edit(f, table_and_header), "log-dirty", "log").warning().repairs(),
        row("a log that makes the file longer", |f| edit(f, grown_by_log), "log-dirty", "log").warning().repairs(),
        row("a log that does nothing", |f| edit(f, |b| log(b, vec![], |_| {})), "log-dirty", "log").warning().repairs(),
        row("a log of zeros that were there", |f| edit(f, |b| log(b, vec![Step::Zero(3 * MIB + 8192, 65536)], |_| {})), "log-dirty", "log").warning().repairs(),
        row("a log without entries", |f| edit(f, |b| b.in_headers(48, &LOG)), "log", "log"),
        row("a log of a longer file", |f| edit(f, |b| log(b, vec![], |e| e.flushed = 7 * MIB)), "log", "log"),
        row("a log over a header", |f| edit(f, |b| log(b, vec![Step::Zero(64 << 10, 4096)], |_| {})), "log", "log entry 5, descriptor 0"),
        row("a log over itself", |f| edit(f, |b| log(b, vec![Step::Zero(MIB, 4096)], |_| {})), "log", "log entry 5, descriptor 0"),
        row("a log that breaks the table", |f| edit(f, |b| log(b, vec![Step::Page(3 * MIB, vec![4; 4096])], |_| {})), "block-state", "block allocation table, entry 0"),
    ]
}

#[rustfmt::skip] // a row a line
fn metadata_rows() -> Vec<Row> {
    vec![
        row("a byte of region table 1", |f| edit(f, |b| b.file.put((192 << 10) + 20, &[1])), "region-table-damaged", "region table 1").warning().repairs(),
        row("a byte of region table 2", |f| edit(f, |b| b.file.put((256 << 10) + 60000, &[1])), "region-table-damaged", "region table 2").warning().repairs(),
        row("no region table 1", |f| edit(f, |b| b.file.put(192 << 10, &[0; 65536])), "region-table-damaged", "region table 1").warning().repairs(),
        row("both region tables", |f| edit(f, both_tables), "regions", "region tables"),
        row("two good region tables", |f| edit(f, differing_tables), "region-tables-differ", "region table 2").warning(),
        row("regions not required", |f| edit(f, |b| b.in_regions(16 + 28, &[0])), "region-optional", "region table 1").note(),
        row("regions that overlap", |f| edit(f, |b| b.in_regions(64, &(3 * MIB).to_le_bytes())), "regions", "region table 1, entry 1"),
        row("a region past the end", |f| edit(f, |b| b.in_regions(34, &[0x60])), "regions", "region table 1, entry 0"),
        row("a region nobody knows", |f| edit(f, unknown_region), "regions", "region table 1, entry 2"),
        row("no metadata", |f| edit(f, |b| b.in_metadata(0, b"M")), "metadata", "metadata table"),
        row("creation not finished", |f| edit(f, |b| b.in_metadata(32, &guid("71CC85F0-1B69-4E28-9558-C3BF83AE75D3"))), "metadata", "metadata table, entry 0"),
        row("an item nobody knows", |f| edit(f, |b| b.in_metadata(32, b"?")), "metadata", "metadata table, entry 0"),
        row("an item in the table", |f| edit(f, |b| b.in_metadata(48, &[0; 4])), "metadata", "metadata table, entry 0"),
        row("items that overlap", |f| edit(f, |b| b.in_metadata(32 + 4 * 32 + 16, &[32])), "items-overlap", "metadata table, entry 4").warning(),
        row("flags of an item", |f| edit(f, |b| b.in_metadata(56, &[0])), "item-flags", "metadata table, entry 0").warning(),
        row("sectors of 1024", |f| edit(f, |b| b.in_metadata(65568, &[0, 4])), "metadata", "logical sector size"),
        row("blocks of 3 MiB", |f| edit(f, |b| b.in_metadata(65538, &[0x30])), "metadata", "file parameters"),
        row("a disk larger than the table", |f| edit(f, |b| b.in_metadata(65549, &[1])), "table-short", BAT),
        row("a file not of whole MiB", |f| edit(f, |b| b.file.size += 512), "file-size", "file").warning(),
    ]
}

#[rustfmt::skip] // a row a line
fn block_rows() -> Vec<Row> {
    vec![
        row("cut in a block", |f| edit(f, |b| b.file.size -= 512), "block-past-end", "block allocation table, entry 2"),
        row("a block past the end", |f| edit(f, |b| b.entry(0, 6, 6 * MIB)), "block-past-end", "block allocation table, entry 0"),
        row("a block nowhere", |f| edit(f, |b| b.entry(0, 6, 0)), "block-nowhere", "block allocation table, entry 0"),
        row("a block in the log", |f| edit(f, |b| b.entry(0, 6, MIB)), "block-in-metadata", "block allocation table, entry 0"),
        row("a block in the metadata", |f| edit(f, |b| b.entry(0, 6, 2 * MIB)), "block-in-metadata", "block allocation table, entry 0"),
        row("a block in the table", |f| edit(f, |b| b.entry(2, 6, 3 * MIB)), "block-in-metadata", "block allocation table, entry 2"),
        row("two blocks in one place", |f| edit(f, |b| b.entry(1, 6, 4 * MIB)), "block-shared", "block allocation table, entry 1"),
        row("state 4", |f| edit(f, |b| b.entry(1, 4, 0)), "block-state", "block allocation table, entry 1"),
        row("a partial block in a base", |f| edit(f, |b| b.entry(0, 7, 4 * MIB)), "block-state", "block allocation table, entry 0"),
        row("a place of a block that is not present", |f| edit(f, |b| b.entry(1, 0, 4 * MIB)), "stale-place", "block allocation table, entry 1").warning().repairs(),
        row("a place of a zero block", |f| edit(f, |b| b.entry(1, 2, 9 * MIB)), "stale-place", "block allocation table, entry 1").warning().repairs(),
        row("reserved bits", |f| edit(f, |b| b.entry(2, 6, 5 * MIB + 8)), "entry-reserved", "block allocation table, entry 2").warning().repairs(),
        row("an entry past the disk", |f| edit(f, |b| b.entry(3, 6, 4 * MIB)), "entry-past-disk", "block allocation table, entry 3").warning().repairs(),
        row("the last entry of the region", |f| edit(f, |b| b.entry(131_071, 7, MIB)), "entry-past-disk", "block allocation table, entry 131071").warning().repairs(),
        row("a zero block past the disk", |f| edit(f, |b| b.entry(3, 2, 0)), "entry-past-disk", "block allocation table, entry 3").note(),
        row("a bitmap in a base", |f| edit(f, |b| b.entry(BITMAP, 6, 4 * MIB)), "bitmap-unused", "block allocation table, entry 4096").warning().repairs(),
    ]
}

#[rustfmt::skip] // a row a line
fn child_rows() -> Vec<Row> {
    vec![
        row("no bitmap", |f| edit(f, |b| b.entry(BITMAP, 0, 0)), "bitmap-missing", "block allocation table, entry 4096"),
        row("a bitmap of state 7", |f| edit(f, |b| b.entry(BITMAP, 7, 5 * MIB)), "block-state", "block allocation table, entry 4096"),
        row("a bitmap past the end", |f| edit(f, |b| b.entry(BITMAP, 6, 7 * MIB)), "block-past-end", "block allocation table, entry 4096"),
        row("a bitmap in a block", |f| edit(f, |b| b.entry(BITMAP, 6, 6 * MIB)), "block-shared", "block allocation table, entry 4096"),
        row("a bitmap in the table", |f| edit(f, |b| b.entry(BITMAP, 6, 3 * MIB)), "block-in-metadata", "block allocation table, entry 4096"),
        row("a block in a bitmap", |f| edit(f, |b| b.entry(1, 6, 5 * MIB)), "block-shared", "block allocation table, entry 4096"),
        row("a partial block past the end", |f| edit(f, |b| b.entry(0, 7, 7 * MIB)), "block-past-end", "block allocation table, entry 0"),
        row("no linkage", |f| edit(f, |b| parent(b, &[("relative_path", r".\base.vhdx")])), "parent-locator", "parent locator"),
        row("a linkage that is none", |f| edit(f, |b| parent(b, &[("parent_linkage", "5")])), "parent-locator", "parent locator"),
        row("no name of the parent", |f| edit(f, |b| parent(b, &[("parent_linkage", "{00112233-4455-6677-8899-aabbccddeeff}")])), "parent-unnamed", "parent locator").warning(),
        row("another parent", |f| edit(f, |b| parent(b, &[("parent_linkage", "{11112233-4455-6677-8899-aabbccddeeff}"), ("relative_path", "base.vhdx")])), "parent-changed", "parent"),
        row("no parent", |f| f.remove("base.vhdx"), "parent-missing", "parent"),
        row("a table in the log", |f| edit(f, |b| in_log(b, &[3 * MIB, 5 * MIB, 3 * MIB + BITMAP * 8])), "log-dirty", "log").warning().repairs(),
    ]
}

pub(crate) fn images() -> Vec<Image> {
    let rows = [header_rows(), metadata_rows(), block_rows()];
    vec![
        Image {
            name: "VHDX dynamic",
            build: base,
            rows: rows.into_iter().flatten().collect(),
        },
        Image {
            name: "VHDX differencing",
            build: child,
            rows: child_rows(),
        },
    ]
}
