//! VHD: one damaged field a row, of the images in `vhd.rs`.
//!
//! A row is a line, so that the table can be read as one.

use super::{
    table::{Files, Row, put, row},
    vhd::{
        BATMAP, BITS, FOOTER, HEADER, RELATIVE, SIZE, be64, entry, in_footer, in_footers,
        in_header, seal_batmap,
    },
};

const BAT: &str = "block allocation table";

fn no_footer_and_a_bad_block(f: &mut Files) {
    f.main().truncate(FOOTER);
    entry(f, 0, 1);
}

fn a_block_over_the_copy(f: &mut Files) {
    f.main()[..512].fill(0);
    entry(f, 0, 0);
}

fn both_checksums(f: &mut Files) {
    f.main()[64] ^= 1;
    f.main()[FOOTER + 64] ^= 7;
}

fn both_checksums_and_an_id(f: &mut Files) {
    f.main()[68] ^= 1;
    f.main()[FOOTER + 64] ^= 7;
}

fn no_name_at_all(f: &mut Files) {
    in_header(f, 576, &[0; 48]);
    in_header(f, 64, &[0; 16]);
}

fn a_false_bit(f: &mut Files) {
    f.main()[BITS] |= 0x80;
    seal_batmap(f.main());
}

fn no_parent(f: &mut Files) {
    f.remove("base.vhd");
    in_header(f, 600, b"\0\0\0\0");
}

/// A byte of the footer at the end.
fn end_byte(f: &mut Files, at: usize, value: u8) {
    let end = f.main().len() - 512;
    f.main()[end + at] = value;
}

#[rustfmt::skip] // a row a line
pub(crate) fn footer_rows() -> Vec<Row> {
    vec![
        row("a byte of the footer's cookie", |f| f.main()[FOOTER] = b'C', "footer-missing", "footer").warning().repairs(),
        row("no footer", |f| f.main().truncate(FOOTER), "footer-missing", "footer").warning().repairs(),
        row("half a footer", |f| f.main().truncate(FOOTER + 300), "footer-missing", "footer").warning().repairs(),
        row("cut inside the unused end of the last block", |f| f.main().truncate(FOOTER - 700), "footer-missing", "footer").warning().repairs(),
        row("no footer, and a block is bad", no_footer_and_a_bad_block, "footer-missing", "footer").warning(),
        row("a footer of XenServer in use", |f| f.main()[FOOTER..].fill(0xc7), "footer-missing", "footer").warning().repairs(),
        row("the footer's checksum", |f| f.main()[FOOTER + 65] ^= 1, "footer-checksum", "footer").warning().repairs(),
        row("a size without a checksum", |f| f.main()[FOOTER + 50] ^= 1, "footer-checksum", "footer").warning().repairs(),
        row("a type without a checksum", |f| f.main()[FOOTER + 63] = 2, "footer-checksum", "footer").warning().repairs(),
        row("an ID without a checksum", |f| f.main()[FOOTER + 70] ^= 9, "unreadable", "footer"), // the start may be of a disk inside
        row("a copy without a checksum", |f| f.main()[67] ^= 1, "copy-damaged", "copy of the footer").warning().repairs(),
        row("a size in the copy", |f| f.main()[48] = 1, "copy-damaged", "copy of the footer").warning().repairs(),
        row("no copy", |f| f.main()[..512].fill(0), "copy-damaged", "copy of the footer").warning().repairs(),
        row("no copy, and a block there", a_block_over_the_copy, "copy-damaged", "copy of the footer").warning(),
        row("both checksums", both_checksums, "footer-checksum", "footer").warning().repairs(),
        row("both checksums, and an ID", both_checksums_and_an_id, "footer-checksum", "footer").warning(),
        row("two good footers", |f| in_footer(f.main(), 0, 24, &[1]), "footers-differ", "footer").warning(),
        row("two good types", |f| in_footer(f.main(), 0, 63, &[4]), "footers-differ", "footer").warning(),
        row("bytes after the footer", |f| f.main().resize(FOOTER + 512 + 4096, 0), "trailing-data", "footer").warning(),
        row("a footer of 511 bytes", |f| f.main().truncate(FOOTER + 511), "old-footer", "footer").note(),
        row("a footer that XenServer disabled", |f| in_footers(f.main(), 0, b"v_poison"), "unreadable", "footer"),
        row("version 2", |f| in_footers(f.main(), 12, &[0, 2]), "unreadable", "footer"),
        row("version 1.1", |f| in_footers(f.main(), 15, &[1]), "footer-version", "footer").note(),
        row("features", |f| in_footers(f.main(), 11, &[6]), "footer-features", "footer").note(),
        row("temporary", |f| in_footers(f.main(), 11, &[3]), "temporary", "footer").note(),
        row("reserved bytes", |f| in_footers(f.main(), 300, &[1]), "footer-reserved", "footer").note(),
        row("hidden, but not of XenServer", |f| in_footers(f.main(), 85, &[1]), "footer-reserved", "footer").note(),
        row("saved state", |f| in_footers(f.main(), 84, &[1]), "saved-state", "footer").note(),
        row("no ID", |f| in_footers(f.main(), 68, &[0; 16]), "no-unique-id", "footer").note(),
        row("another original size", |f| in_footers(f.main(), 40, &[0; 8]), "resized", "footer").note(),
        row("no type", |f| in_footers(f.main(), 63, &[0]), "unreadable", "disk type"),
        row("a size of no whole sectors", |f| in_footers(f.main(), 55, &[1]), "unreadable", "virtual size"),
        row("a large geometry", |f| in_footers(f.main(), 57, &[2]), "geometry-too-large", "footer").warning(),
        row("another geometry", |f| in_footers(f.main(), 58, &[2]), "geometry", "footer").note(),
        row("a geometry of Virtual PC", |f| in_footers(f.main(), 28, b"vpc "), "size-by-geometry", "footer").note(),
        row("a creator that old qemu does not know", |f| in_footers(f.main(), 28, b"wa\0\0"), "size-by-geometry", "footer").note(),
    ]
}

#[rustfmt::skip] // a row a line
pub(crate) fn table_rows() -> Vec<Row> {
    vec![
        row("a header past the end", |f| in_footers(f.main(), 16, &[0, 0, 0, 9]), "unreadable", "dynamic header"),
        row("a header that is none", |f| in_footers(f.main(), 22, &[0]), "unreadable", "dynamic header"),
        row("no header signature", |f| in_header(f, 0, b"?"), "unreadable", "dynamic header"),
        row("header version 2", |f| in_header(f, 24, &[0, 2]), "unreadable", "dynamic header"),
        row("header version 1.1", |f| in_header(f, 27, &[1]), "header-version", "dynamic header").note(),
        row("the header's checksum", |f| f.main()[HEADER + 37] ^= 1, "header-checksum", "dynamic header").warning(),
        row("a next header", |f| in_header(f, 8, &[0; 8]), "header-next", "dynamic header").note(),
        row("reserved bytes of the header", |f| in_header(f, 900, &[1]), "header-reserved", "dynamic header").note(),
        row("a parent of none", |f| in_header(f, 40, b"x"), "parent-of-none", "dynamic header").note(),
        row("blocks of 0 bytes", |f| in_header(f, 32, &[0; 4]), "unreadable", "dynamic header"),
        row("blocks of 24 KiB", |f| in_header(f, 32, &[0, 0, 0x60, 0]), "unreadable", "dynamic header"),
        row("too few entries", |f| in_header(f, 31, &[4]), "unreadable", BAT),
        row("more entries than fit", |f| in_header(f, 29, &[1]), "unreadable", BAT),
        row("a table past the end", |f| in_header(f, 16, &[0, 0, 1]), "unreadable", BAT),
        row("a table in the header", |f| in_header(f, 22, &[5]), "overlap", BAT),
        row("a table in the copy of the footer", |f| in_header(f, 22, &[0]), "overlap", BAT),
        row("a block past the end", |f| entry(f, 2, 64), "block-past-end", "block allocation table, entry 2"),
        row("a block at the last sector there is", |f| entry(f, 1, 0xffff_fffe), "block-past-end", "block allocation table, entry 1"),
        row("a block in the footer", |f| entry(f, 4, 72), "block-past-end", "block allocation table, entry 4"),
        row("a block in the copy of the footer", |f| entry(f, 0, 0), "block-in-metadata", "block allocation table, entry 0"),
        row("a block in the header", |f| entry(f, 1, 2), "block-in-metadata", "block allocation table, entry 1"),
        row("a block in the table", |f| entry(f, 2, 3), "block-in-metadata", "block allocation table, entry 2"),
        row("two blocks at one place", |f| entry(f, 3, 15), "block-overlap", "block allocation table, entry 3"),
        row("two blocks that overlap", |f| entry(f, 2, 45), "block-overlap", "block allocation table, entry 2"),
        row("a block past the end of the disk", |f| entry(f, 5, 15), "stale-entry", BAT).note(),
        row("data between sectors of 4096 bytes", |f| entry(f, 2, 16), "unaligned", BAT).note(),
        row("data under a bit that is not set", |f| f.main()[39 * 512] = 0xef, "hidden-data", "sector bitmap of block 0").warning().deep(),
    ]
}

#[rustfmt::skip] // a row a line
pub(crate) fn fixed_rows() -> Vec<Row> {
    const END: usize = SIZE;
    vec![
        row("the footer's checksum", |f| f.main()[END + 64] ^= 1, "footer-checksum", "footer").warning(),
        row("a disk larger than the file", |f| in_footer(f.main(), END, 53, &[1]), "unreadable", "virtual size"),
        row("a disk smaller than the file", |f| in_footer(f.main(), END, 54, &[0x8e]), "fixed-size", "virtual size").warning(),
        row("a header of a fixed disk", |f| in_footer(f.main(), END, 16, &[0; 8]), "data-offset", "footer").note(),
        row("bytes after the footer", |f| f.main().resize(END + 512 + 65536, 0), "trailing-data", "footer").warning(),
        row("reserved bytes", |f| in_footer(f.main(), END, 511, &[1]), "footer-reserved", "footer").note(),
    ]
}

#[rustfmt::skip] // a row a line
pub(crate) fn nested_rows() -> Vec<Row> {
    vec![
        row("the type", |f| end_byte(f, 63, 3), "unreadable", "footer"),
        row("the type, of a differencing disk", |f| end_byte(f, 63, 4), "unreadable", "footer"),
        row("the checksum", |f| end_byte(f, 64, 0), "footer-checksum", "footer").warning(),
    ]
}

#[rustfmt::skip] // a row a line
pub(crate) fn child_rows() -> Vec<Row> {
    /// Entries of the two locators in the header.
    const FIRST: usize = 576;
    const SECOND: usize = 600;
    vec![
        row("no parent", |f| f.remove("base.vhd"), "parent-missing", "parent"), // its drive cannot be here
        row("no parent, known by its name only", no_parent, "parent-missing", "parent"),
        row("another parent", |f| in_footers(f.file("base.vhd"), 68, b"?"), "parent-changed", "parent"),
        row("the parent's ID", |f| in_header(f, 40, b"?"), "parent-changed", "parent"),
        row("a locator past the end", |f| in_header(f, FIRST + 16, &[0, 0, 1]), "locator-past-end", "parent locator 0").warning(),
        row("a locator of 1 MiB", |f| in_header(f, SECOND + 8, &[0, 0x10]), "locator-past-end", "parent locator 1").warning(),
        row("a locator in the table", |f| in_header(f, FIRST + 22, &[6]), "locator-overlap", "parent locator 0").warning(),
        row("two locators at one place", |f| in_header(f, SECOND + 22, &[12]), "locator-overlap", "parent locator 1").warning(),
        row("half a surrogate pair", |f| put(f.main(), RELATIVE, &[0, 0xd8]), "locator-name", "parent locator 0").warning(),
        row("an empty name", |f| put(f.main(), RELATIVE, &[0, 0]), "locator-name", "parent locator 0").warning(),
        row("an absolute name as relative", |f| in_header(f, SECOND + 2, b"r"), "locator-kind", "parent locator 1").warning(),
        row("an unknown locator", |f| in_header(f, SECOND, b"XX"), "locator-code", "parent locator 1").note(),
        row("no locators", |f| in_header(f, FIRST, &[0; 48]), "no-locator", "parent locators").note(),
        row("no locators and no name", no_name_at_all, "no-locator", "parent locators"),
        row("half a surrogate pair in the header", |f| in_header(f, 64, &[0xd8, 0]), "parent-name", "dynamic header").note(),
        row("a name without an end", |f| in_header(f, 64, &[b'x'; 512]), "parent-name", "dynamic header").note(),
        row("a block in a locator", |f| entry(f, 0, 6), "block-in-metadata", "block allocation table, entry 0"),
        row("the footer's checksum", |f| f.main()[FOOTER + 64] ^= 1, "footer-checksum", "footer").warning().repairs(),
    ]
}

#[rustfmt::skip] // a row a line
pub(crate) fn xen_rows() -> Vec<Row> {
    vec![
        row("no batmap", |f| f.main()[BATMAP] = 0, "batmap-missing", "batmap").warning(),
        row("a batmap of the future", |f| f.main()[BATMAP + 23] = 3, "batmap-version", "batmap").note(),
        row("a batmap past the end", |f| f.main()[BATMAP + 11] = 1, "batmap-past-end", "batmap").warning(),
        row("a large batmap", |f| f.main()[BATMAP + 16] = 1, "batmap-past-end", "batmap").warning(),
        row("a batmap over its header", |f| be64(f.main(), BATMAP + 8, BATMAP as u64), "batmap-overlap", "batmap").warning(),
        row("the batmap's checksum", |f| f.main()[BATMAP + 24] ^= 1, "batmap-checksum", "batmap").warning(),
        row("a bit of the batmap", |f| f.main()[BITS + 1] = 1, "batmap-checksum", "batmap").warning(),
        row("a block that is not full", a_false_bit, "batmap-stale", "sector bitmap of block 0").warning(),
        row("a bitmap that lost a bit", |f| f.main()[15 * 512 + 1] = 0xfe, "batmap-stale", "sector bitmap of block 2").warning(),
        row("a block in the batmap", |f| entry(f, 2, 5), "block-in-metadata", "block allocation table, entry 2"),
        row("hidden without a checksum, which only older drivers forgot", |f| f.main()[FOOTER + 85] = 1, "footer-checksum", "footer").warning().repairs(),
    ]
}
