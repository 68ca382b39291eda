//! monolithicSparse: header, descriptor, two sets of tables, grains.

use super::table::{Files, Image, put, put32, put64, row};

/// Bytes of a grain.
const GRAIN: usize = 4096;
/// Grains of the disk: one whole table and a bit of a second.
const GRAINS: usize = 520;
/// Grains that are stored, in the order in which they are.
const STORED: [usize; 6] = [0, 3, 1, 2, 7, 515];

const DESCRIPTOR: usize = 512;
const COPY: usize = 21 * 512;
const DIRECTORY: usize = 30 * 512;
const FIRST: usize = 40 * 512;

/// Where table `number` of the set at `directory` lies.
const fn table(directory: usize, number: usize) -> usize {
    directory + 512 + number * 2048
}

pub(crate) fn text(kind: &str, extents: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=1234abcd\nparentCID=ffffffff\n\
         createType=\"{kind}\"\n\n# Extent description\n{extents}\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"2\"\nddb.geometry.heads = \"64\"\n\
         ddb.geometry.sectors = \"32\"\nddb.longContentID = \"000102030405060708090a0b1234abcd\"\n\
         ddb.virtualHWVersion = \"4\"\n"
    )
}

fn build() -> Files {
    let mut b = vec![0u8; FIRST];
    put(&mut b, 0, b"KDMV");
    put32(&mut b, 4, 1);
    put32(&mut b, 8, 3);
    put64(&mut b, 12, (GRAINS * GRAIN / 512) as u64);
    put64(&mut b, 20, (GRAIN / 512) as u64);
    put64(&mut b, 28, 1);
    put64(&mut b, 36, 20);
    put32(&mut b, 44, 512);
    put64(&mut b, 48, (COPY / 512) as u64);
    put64(&mut b, 56, (DIRECTORY / 512) as u64);
    put64(&mut b, 64, (FIRST / 512) as u64);
    put(&mut b, 73, b"\n \r\n");
    let extent = format!("RW {} SPARSE \"disk.vmdk\"", GRAINS * GRAIN / 512);
    put(
        &mut b,
        DESCRIPTOR,
        text("monolithicSparse", &extent).as_bytes(),
    );
    for directory in [COPY, DIRECTORY] {
        for number in 0..2 {
            let sector = (table(directory, number) / 512) as u32;
            put32(&mut b, directory + number * 4, sector);
        }
    }
    for (grain, place) in STORED.into_iter().zip(0..) {
        let sector = ((FIRST + place * GRAIN) / 512) as u32;
        for directory in [COPY, DIRECTORY] {
            put32(&mut b, table(directory, 0) + grain * 4, sector);
        }
        b.extend((0..GRAIN).map(|i| (grain + i / 512 + 1) as u8));
    }
    Files::one("disk.vmdk", b)
}

pub(crate) fn images() -> Vec<Image> {
    vec![Image {
        name: "monolithicSparse",
        build,
        rows: vec![
            row(
                "a grain past the end",
                |f| put32(f.main(), table(DIRECTORY, 0) + 12, 1 << 30),
                "unreadable",
                "grain table 0, entry 3",
            ),
            row(
                "a version of the future",
                |f| put32(f.main(), 4, 9),
                "unreadable",
                "header",
            ),
        ],
    }]
}
