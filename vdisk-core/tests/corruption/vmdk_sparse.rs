//! monolithicSparse: header, descriptor, two sets of tables, grains. And a child.

use super::{
    table::{Files, Image, Row, put, put32, put64, row},
    vmdk_header_rows, vmdk_table_rows,
};

/// Bytes of a grain.
pub(crate) const GRAIN: usize = 4096;
/// Grains of the disk: one whole table and a bit of a second.
const GRAINS: usize = 520;
/// Grains that are stored, in the order in which they are.
pub(crate) const STORED: [usize; 6] = [0, 3, 1, 2, 7, 515];

pub(crate) const DESCRIPTOR: usize = 512;
pub(crate) const COPY: usize = 21 * 512;
pub(crate) const DIRECTORY: usize = 30 * 512;
pub(crate) const FIRST: usize = 40 * 512;

/// File offset of table `number` of the set at `directory`.
pub(crate) const fn table(directory: usize, number: usize) -> usize {
    directory + 512 + number * 2048
}

/// File offset of the entry of `grain` in the primary tables.
pub(crate) const fn entry(grain: usize) -> usize {
    table(DIRECTORY, 0) + grain * 4
}

/// Sector of the grain that is stored at place number `place`.
pub(crate) const fn sector(place: usize) -> u32 {
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
            rows: [
                vmdk_header_rows::rows(),
                vmdk_table_rows::table_rows(),
                vmdk_table_rows::copy_rows(),
            ]
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
