//! seSparse extents, with a descriptor, in chains, bare, and damaged.

use crate::{
    Files,
    builder::{Cell, Grains, SESPARSE_TABLE, put64},
    descriptor,
};
use proptest::prelude::*;
use vdisk_core::{Deny, ErrorKind, Kind, OpenOptions, disk, open, storage::ImageFile, testing};

fn grains(most: usize) -> impl Strategy<Value = Grains> {
    let cell = prop_oneof![
        3 => any::<u8>().prop_map(Cell::Data),
        1 => Just(Cell::Zero),
        1 => Just(Cell::Unmapped),
        1 => Just(Cell::Hole),
    ];
    Grains::strategy(&[8], most, cell)
}

fn line(sectors: usize) -> String {
    format!("RW {sectors} SESPARSE \"delta.vmdk\"")
}

fn files(sectors: usize, bytes: Vec<u8>) -> Files {
    Files::default()
        .with("a.vmdk", descriptor("seSparse", None, &[line(sectors)]))
        .with("delta.vmdk", bytes)
}

/// Two tables: the second is used from its first grain on.
const MOST: usize = 4096 * 8 + 300;

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn shuffled_grains_read_as_the_model(grains in grains(MOST)) {
        let layer = files(grains.sectors, grains.sesparse()).layer("a.vmdk").unwrap();
        testing::conformance(&layer).unwrap();
        prop_assert!(testing::contents(&layer).unwrap() == grains.disk());
    }

    #[test]
    fn a_redo_log_reads_over_its_base(grains in grains(MOST), base: u8) {
        let mut model: Vec<u8> = (0..grains.sectors * 512).map(|i| base ^ (i / 512) as u8).collect();
        let flat = format!("RW {} VMFS \"base-flat.vmdk\"", grains.sectors);
        let files = files(0, grains.sesparse())
            .with("base.vmdk", descriptor("vmfs", None, &[flat]))
            .with("base-flat.vmdk", model.clone())
            .with("a.vmdk", descriptor("seSparse", Some(("12345678", "base.vmdk")), &[line(grains.sectors)]));
        grains.over(&mut model);
        let chain = files.chain("a.vmdk").unwrap();
        testing::conformance(&chain).unwrap();
        prop_assert!(testing::contents(&chain).unwrap() == model);
        let layer = files.layer("a.vmdk").unwrap();
        let mut kinds = Vec::new();
        for extent in disk::extents(&layer, 0..grains.sectors as u64 * 512, disk::same_kind) {
            let extent = extent.unwrap();
            let first = extent.range.start as usize / 512;
            let end = extent.range.end as usize / 512;
            kinds.extend((first..end).map(|_| extent.kind));
        }
        let expected: Vec<Kind> = (0..grains.sectors)
            .map(|sector| match grains.cells[sector / 8] {
                Cell::Hole => Kind::Absent,
                Cell::Zero | Cell::Unmapped => Kind::Zero,
                Cell::Data(_) => Kind::Data,
            })
            .collect();
        prop_assert!(kinds == expected);
    }

    #[test]
    fn any_damage_is_an_error_or_other_bytes_never_a_panic(
        grains in grains(5000), at: prop::sample::Index, value: u8, cut in 0..40_000usize,
    ) {
        let mut bytes = grains.sesparse();
        let at = at.index(bytes.len().min(40_000));
        bytes[at] = value;
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Ok(layer) = files(grains.sectors, bytes).layer("a.vmdk") {
            let _ = testing::contents(&layer);
        }
    }
}

/// Grains 0, 3 and 625 of 5001 sectors: one sector of the last is on the disk.
fn small() -> Grains {
    let mut cells = vec![Cell::Hole; 626];
    (cells[0], cells[3], cells[625]) = (Cell::Data(1), Cell::Unmapped, Cell::Data(2));
    Grains::ascending(&cells, 8, 5001)
}

const VOLATILE: usize = 512;
const DIRECTORY: usize = 1024;
/// The one table in use is the second: number 1.
const TABLE: usize = 1536 + 64 * 512;

#[test]
fn each_rule_has_an_extent_that_breaks_it() {
    type Break = fn(&mut Vec<u8>);
    use ErrorKind::{Corrupt, Limit, Unsupported};
    let rows: &[(&str, Break, ErrorKind, &str)] = &[
        ("cut header", |b| b.truncate(511), Corrupt, "header"),
        ("magic", |b| b[0] = 0, Corrupt, "header"),
        (
            "version",
            |b| put64(b, 8, 0x2_0000_0002),
            Unsupported,
            "header",
        ),
        ("flags", |b| put64(b, 40, 1), Unsupported, "header"),
        ("reserved", |b| put64(b, 72, 1), Unsupported, "header"),
        ("grain size", |b| put64(b, 24, 16), Unsupported, "header"),
        ("grain size 0", |b| put64(b, 24, 0), Unsupported, "header"),
        ("table size", |b| put64(b, 32, 63), Unsupported, "header"),
        ("capacity", |b| put64(b, 16, 1 << 60), Corrupt, "header"),
        (
            "directory too small",
            |b| put64(b, 136, 0),
            Corrupt,
            "header",
        ),
        (
            "smaller than the descriptor says",
            |b| put64(b, 16, 5000),
            Corrupt,
            "extent 1",
        ),
        (
            "volatile header outside",
            |b| put64(b, 80, u64::MAX / 512),
            Corrupt,
            "volatile header",
        ),
        (
            "volatile header past 64 bits",
            |b| put64(b, 80, u64::MAX),
            Corrupt,
            "sector count",
        ),
        (
            "volatile magic",
            |b| b[VOLATILE] = 0,
            Corrupt,
            "volatile header",
        ),
        (
            "journal",
            |b| put64(b, VOLATILE + 24, 1),
            Unsupported,
            "volatile header",
        ),
        (
            "directory outside",
            |b| put64(b, 128, 1 << 40),
            Corrupt,
            "grain directory",
        ),
        (
            "directory larger than the file",
            |b| {
                put64(b, 16, 1 << 30);
                put64(b, 136, 1 << 20);
            },
            Corrupt,
            "grain directory",
        ),
        (
            "directory larger than any",
            |b| {
                put64(b, 16, 1 << 43);
                put64(b, 136, 1 << 40);
            },
            Limit,
            "grain directory",
        ),
        (
            "directory entry without its sign",
            |b| put64(b, DIRECTORY, 1),
            Corrupt,
            "grain directory",
        ),
        (
            "directory entry with another sign",
            |b| put64(b, DIRECTORY, SESPARSE_TABLE << 1 | 1),
            Corrupt,
            "grain directory",
        ),
        (
            "table past the last",
            |b| put64(b, DIRECTORY, SESPARSE_TABLE | 2),
            Corrupt,
            "grain directory",
        ),
        (
            "table outside the file",
            |b| {
                put64(b, DIRECTORY, SESPARSE_TABLE | 0xffff_ffff);
                put64(b, 152, 1 << 50);
            },
            Corrupt,
            "grain directory",
        ),
        (
            "tables outside the file",
            |b| put64(b, 144, 1 << 40),
            Corrupt,
            "grain directory",
        ),
        (
            "absent grain with a number",
            |b| put64(b, TABLE, 1),
            Corrupt,
            "grain table 0, entry 0",
        ),
        (
            "kind 4",
            |b| put64(b, TABLE, 4 << 60),
            Corrupt,
            "grain table 0, entry 0",
        ),
        (
            "kind 15",
            |b| put64(b, TABLE + 625 * 8, u64::MAX),
            Corrupt,
            "grain table 0, entry 625",
        ),
        (
            "grain outside",
            |b| put64(b, TABLE, 3 << 60 | 1),
            Corrupt,
            "grain table 0, entry 0",
        ),
        (
            "grain number past 64 bits of bytes",
            |b| put64(b, TABLE, 3 << 60 | 0xffff_ffff_ffff),
            Corrupt,
            "grain table 0, entry 0",
        ),
        (
            "grains outside",
            |b| put64(b, 192, u64::MAX),
            Corrupt,
            "grain table 0, entry 0",
        ),
        (
            "file cut in the part of the last grain that is on the disk",
            |b| b.truncate(b.len() - 7 * 512 - 1),
            Corrupt,
            "grain table 0, entry 625",
        ),
    ];
    for (name, damage, kind, part) in rows {
        let mut bytes = small().sesparse();
        damage(&mut bytes);
        let result = files(5001, bytes)
            .layer("a.vmdk")
            .and_then(|l| testing::contents(&l));
        let error = result.err().unwrap_or_else(|| panic!("{name}: was read"));
        assert_eq!(
            (error.kind(), error.part()),
            (*kind, *part),
            "{name}: {error}"
        );
        assert_eq!(error.file(), Some("delta.vmdk".as_ref()), "{name}: {error}");
    }
    // What is cut off after the disk's last sector is not missed.
    let mut bytes = small().sesparse();
    bytes.truncate(bytes.len() - 7 * 512);
    let layer = files(5001, bytes).layer("a.vmdk").unwrap();
    assert!(testing::contents(&layer).unwrap() == small().disk());
}

/// Number 0x1234 of a file with that many grains: 0x234 stands on top.
#[test]
fn the_parts_of_a_grain_number_are_swapped() {
    let mut bytes = small().sesparse();
    let grains = bytes.len() - 2 * 4096;
    put64(&mut bytes, TABLE, 0x3234_0000_0000_0001);
    bytes.resize(grains + 0x1235 * 4096, 0);
    bytes[grains + 0x1234 * 4096..].fill(0x77);
    let layer = files(5001, bytes).layer("a.vmdk").unwrap();
    assert_eq!(testing::contents(&layer).unwrap()[..4096], [0x77; 4096]);
}

#[test]
fn without_its_descriptor_it_is_no_disk_but_can_be_an_overlay() {
    let file = || ImageFile::from_storage("a-sesparse.vmdk", small().sesparse()).unwrap();
    let error = open::open_file(file(), &OpenOptions::new(&Deny))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("seSparse"), "{error}");
    let overlay = OpenOptions {
        overlay: true,
        ..OpenOptions::new(&Deny)
    };
    let layer = open::open_file(file(), &overlay).unwrap();
    let found: Vec<_> = disk::extents(&layer, 0..5001 * 512, disk::same_kind)
        .map(|e| e.map(|e| (e.range.start / 4096, e.kind)).unwrap())
        .collect();
    let (absent, data) = (Kind::Absent, Kind::Data);
    let expected = [
        (0, data),
        (1, absent),
        (3, Kind::Zero),
        (4, absent),
        (625, data),
    ];
    assert_eq!(found, expected);
}
