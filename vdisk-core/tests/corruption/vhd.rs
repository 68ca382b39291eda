//! VHD: footers, dynamic header, table, bitmaps, batmap and parent locators.

use super::{
    table::{Files, Image, put},
    vhd_rows::{child_rows, fixed_rows, footer_rows, nested_rows, table_rows, xen_rows},
};

/// Bytes of a block, which its bitmap of one sector precedes.
const BLOCK: usize = 8192;
/// Bytes of the disk: the last of five blocks is only half used.
pub(crate) const SIZE: usize = 4 * BLOCK + BLOCK / 2;
/// Entries of the table, one more than needed.
const ENTRIES: usize = 6;
/// Blocks that are stored, and the sectors of their bitmaps: data begin at multiples of 4096.
const STORED: [(usize, usize); 3] = [(2, 15), (0, 39), (4, 63)];
/// Where the footer is.
pub(crate) const FOOTER: usize = (63 + 1) * 512 + BLOCK;

pub(crate) const HEADER: usize = 512;
const TABLE: usize = 1536;
/// Where XenServer puts the header of its batmap, and the bits.
pub(crate) const BATMAP: usize = 2048;
pub(crate) const BITS: usize = 2560;
/// Where a child's locators are.
pub(crate) const RELATIVE: usize = 3072;
const ABSOLUTE: usize = 3584;

const UUID: &[u8; 16] = b"an image of ours";
const PARENT: &[u8; 16] = b"its only parent!";

fn be32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_be_bytes());
}

pub(crate) fn be64(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, &value.to_be_bytes());
}

/// Writes the checksum of `bytes`, whose field is at `field`.
fn seal(bytes: &mut [u8], field: usize) {
    put(bytes, field, &[0; 4]);
    let sum: u32 = bytes.iter().map(|b| u32::from(*b)).sum();
    be32(bytes, field, !sum);
}

fn footer(kind: u32, uuid: &[u8; 16]) -> Vec<u8> {
    let mut f = vec![0; 512];
    put(&mut f, 0, b"conectix");
    be32(&mut f, 8, 2);
    be32(&mut f, 12, 0x10000);
    be64(&mut f, 16, if kind == 2 { u64::MAX } else { HEADER as u64 });
    put(&mut f, 28, b"win \0\x0a\0\0Wi2k");
    be64(&mut f, 40, SIZE as u64);
    be64(&mut f, 48, SIZE as u64);
    put(&mut f, 56, &[0, 1, 4, 17]); // 68 of 72 sectors
    be32(&mut f, 60, kind);
    put(&mut f, 68, uuid);
    seal(&mut f, 64);
    f
}

fn blocks(kind: u32, uuid: &[u8; 16]) -> Vec<u8> {
    let mut b = vec![0; FOOTER];
    put(&mut b, 0, &footer(kind, uuid));
    put(&mut b, HEADER, b"cxsparse");
    be64(&mut b, HEADER + 8, u64::MAX);
    be64(&mut b, HEADER + 16, TABLE as u64);
    be32(&mut b, HEADER + 24, 0x10000);
    be32(&mut b, HEADER + 28, ENTRIES as u32);
    be32(&mut b, HEADER + 32, BLOCK as u32);
    b[TABLE..TABLE + 512].fill(0xff);
    for (block, sector) in STORED {
        be32(&mut b, TABLE + block * 4, sector as u32);
        // Block 0 keeps half of its sectors.
        let kept = if block == 0 { 8 } else { 16 };
        b[sector * 512..][..kept / 8].fill(0xff);
        for i in 0..kept * 512 {
            b[(sector + 1) * 512 + i] = (block * 50 + i / 300 + 1) as u8;
        }
    }
    seal(&mut b[HEADER..TABLE], 36);
    b.extend(footer(kind, uuid));
    b
}

fn dynamic() -> Files {
    Files::one("disk.vhd", blocks(3, UUID))
}

fn fixed() -> Files {
    let mut b: Vec<u8> = (0..SIZE).map(|i| (i / 700) as u8).collect();
    b.extend(footer(2, UUID));
    Files::one("fixed.vhd", b)
}

/// A fixed disk whose guest wrote a dynamic VHD to its start.
fn nested() -> Files {
    let mut b = blocks(3, b"the guest's disk");
    b.resize(b.len().next_multiple_of(4096), 0);
    let size = b.len() as u64;
    let mut footer = footer(2, UUID);
    be64(&mut footer, 40, size);
    be64(&mut footer, 48, size);
    seal(&mut footer, 64);
    b.extend(footer);
    Files::one("outer.vhd", b)
}

fn child() -> Files {
    let mut b = blocks(4, UUID);
    put(&mut b, HEADER + 40, PARENT);
    let name = |text: &str, order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    };
    put(&mut b, HEADER + 64, &name("base.vhd", u16::to_be_bytes));
    let names = [
        (b"W2ru", ".\\base.vhd", RELATIVE),
        (b"W2ku", "C:\\disks\\base.vhd", ABSOLUTE),
    ];
    for (i, (code, text, at)) in names.into_iter().enumerate() {
        let text = name(text, u16::to_le_bytes);
        let entry = HEADER + 576 + 24 * i;
        put(&mut b, entry, code);
        be32(&mut b, entry + 4, 512);
        be32(&mut b, entry + 8, text.len() as u32);
        be64(&mut b, entry + 16, at as u64);
        put(&mut b, at, &text);
    }
    seal(&mut b[HEADER..TABLE], 36);
    Files::one("child.vhd", b).and("base.vhd", blocks(3, PARENT))
}

/// As XenServer writes it: blocks 2 and 4 are full. The batmap has the version `minor`.
fn xen(minor: u32) -> Files {
    let mut f = dynamic();
    let b = f.main();
    in_footers(b, 28, b"tap\0\0\x01\0\x03\0\0\0\0");
    if minor == 1 {
        in_footers(b, 32, &[0, 1, 0, 1]);
    }
    put(b, BATMAP, b"tdbatmap");
    be64(b, BATMAP + 8, BITS as u64);
    be32(b, BATMAP + 16, 1);
    be32(b, BATMAP + 20, 0x10000 + minor);
    b[BITS] = 0b0010_1000;
    seal_batmap(b);
    // Version 1.1 adds up signed bytes.
    if minor == 1 {
        b[BITS + 300] = 0x80; // of blocks far past the end
        be32(b, BATMAP + 24, !(0b0010_1000_u32.wrapping_sub(0x80)));
    }
    f
}

fn xen_12() -> Files {
    xen(2)
}

fn xen_11() -> Files {
    xen(1)
}

/// As XenServer's first driver wrote it: bits from the lowest on, and no checksum after "hidden".
fn xen_01() -> Files {
    let mut f = dynamic();
    let b = f.main();
    in_footers(b, 28, b"tap\0\0\0\0\x01\0\0\0\0");
    b[39 * 512..][..2].copy_from_slice(&[0xff, 0x01]);
    b[85] = 1;
    f
}

pub(crate) fn seal_batmap(b: &mut [u8]) {
    let sum: u32 = b[BITS..BITS + 512].iter().map(|b| u32::from(*b)).sum();
    be32(b, BATMAP + 24, !sum);
}

/// Changes both footers, with right checksums.
pub(crate) fn in_footers(b: &mut [u8], at: usize, new: &[u8]) {
    let end = b.len() - 512;
    for start in [0, end] {
        put(&mut b[start..start + 512], at, new);
        seal(&mut b[start..start + 512], 64);
    }
}

/// Changes one footer, with a right checksum.
pub(crate) fn in_footer(b: &mut [u8], start: usize, at: usize, new: &[u8]) {
    put(&mut b[start..start + 512], at, new);
    seal(&mut b[start..start + 512], 64);
}

/// Changes the dynamic header, with a right checksum.
pub(crate) fn in_header(f: &mut Files, at: usize, new: &[u8]) {
    put(&mut f.main()[HEADER..TABLE], at, new);
    seal(&mut f.main()[HEADER..TABLE], 36);
}

pub(crate) fn entry(f: &mut Files, block: usize, sector: u32) {
    be32(f.main(), TABLE + block * 4, sector);
}

pub(crate) fn images() -> Vec<Image> {
    let image = |name, build, rows| Image { name, build, rows };
    vec![
        image(
            "VHD dynamic",
            dynamic,
            footer_rows().into_iter().chain(table_rows()).collect(),
        ),
        image("VHD fixed", fixed, fixed_rows()),
        image("VHD fixed, with a VHD inside", nested, nested_rows()),
        image("VHD differencing", child, child_rows()),
        image("VHD of XenServer", xen_12, xen_rows()),
        image("VHD of XenServer, batmap 1.1", xen_11, vec![]),
        image("VHD of XenServer's first driver", xen_01, vec![]),
    ]
}
