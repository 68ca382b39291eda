//! vmfsSparse extents, with a descriptor, in chains, bare, and damaged.

use crate::{
    Files,
    builder::{Cell, Grains, put32},
    descriptor,
};
use proptest::prelude::*;
use vdisk_core::{
    Deny, ErrorKind, Identity, Kind, OpenOptions, disk, open, storage::ImageFile, testing,
};

pub(crate) fn grains(most: usize) -> impl Strategy<Value = Grains> {
    let cell = prop_oneof![3 => any::<u8>().prop_map(Cell::Data), 1 => Just(Cell::Hole)];
    Grains::strategy(&[1, 2, 8, 128], most, cell)
}

fn line(sectors: usize) -> String {
    format!("RW {sectors} VMFSSPARSE \"delta.vmdk\"")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn shuffled_grains_read_as_the_model(grains in grains(3 * 4096 + 77)) {
        let files = Files::default()
            .with("a.vmdk", descriptor("vmfsSparse", None, &[line(grains.sectors)]))
            .with("delta.vmdk", grains.cowd());
        let layer = files.layer("a.vmdk").unwrap();
        testing::conformance(&layer).unwrap();
        prop_assert!(testing::contents(&layer).unwrap() == grains.disk());
    }

    #[test]
    fn a_redo_log_reads_over_its_base(grains in grains(3 * 4096 + 77), base: u8) {
        let mut model: Vec<u8> = (0..grains.sectors * 512).map(|i| base ^ (i / 512) as u8).collect();
        let flat = format!("RW {} VMFS \"base-flat.vmdk\"", grains.sectors);
        let files = Files::default()
            .with("base.vmdk", descriptor("vmfs", None, &[flat]))
            .with("base-flat.vmdk", model.clone())
            .with("a.vmdk", descriptor("vmfsSparse", Some(("12345678", "base.vmdk")), &[line(grains.sectors)]))
            .with("delta.vmdk", grains.cowd());
        grains.over(&mut model);
        let chain = files.chain("a.vmdk").unwrap();
        testing::conformance(&chain).unwrap();
        prop_assert!(testing::contents(&chain).unwrap() == model);
        // Alone it says for each grain whether it holds it.
        let layer = files.layer("a.vmdk").unwrap();
        prop_assert_eq!(layer.facts().parent.as_ref().unwrap().identity, Some(Identity::Cid(0x1234_5678)));
        let mut kinds = Vec::new();
        for extent in disk::extents(&layer, 0..grains.sectors as u64 * 512, disk::same_kind) {
            let extent = extent.unwrap();
            let first = extent.range.start as usize / 512;
            let end = extent.range.end as usize / 512;
            kinds.extend((first..end).map(|_| extent.kind));
        }
        let expected: Vec<Kind> = (0..grains.sectors)
            .map(|sector| match grains.cells[sector / grains.grain] {
                Cell::Data(_) => Kind::Data,
                _ => Kind::Absent,
            })
            .collect();
        prop_assert!(kinds == expected);
    }

    #[test]
    fn any_damage_is_an_error_or_other_bytes_never_a_panic(
        grains in grains(5000), at: prop::sample::Index, value: u8, cut in 0..40_000usize,
    ) {
        let mut bytes = grains.cowd();
        let at = at.index(bytes.len().min(20_000));
        bytes[at] = value;
        bytes.truncate(bytes.len().saturating_sub(cut));
        let files = Files::default()
            .with("a.vmdk", descriptor("vmfsSparse", None, &[line(grains.sectors)]))
            .with("delta.vmdk", bytes);
        if let Ok(layer) = files.layer("a.vmdk") {
            let _ = testing::contents(&layer);
        }
    }
}

/// One grain of a sector in each of two tables, in a file of four sectors of header, one of
/// directory, a table, a grain, a table, a grain.
fn small() -> Grains {
    let mut cells = vec![Cell::Hole; 5000];
    cells[3] = Cell::Data(1);
    cells[4999] = Cell::Data(2);
    Grains::ascending(&cells, 1, 5000)
}

const DIRECTORY: usize = 2048;
const TABLE: usize = 2560;

#[test]
fn each_rule_has_an_extent_that_breaks_it() {
    type Break = fn(&mut Vec<u8>);
    use ErrorKind::{Corrupt, Unsupported};
    let rows: &[(&str, Break, ErrorKind, &str)] = &[
        ("cut header", |b| b.truncate(2047), Corrupt, "header"),
        ("version", |b| put32(b, 4, 2), Unsupported, "header"),
        ("grain size 0", |b| put32(b, 16, 0), Corrupt, "header"),
        ("grain size 3", |b| put32(b, 16, 3), Corrupt, "header"),
        ("huge grain", |b| put32(b, 16, 1 << 31), Corrupt, "header"),
        (
            "directory in header",
            |b| put32(b, 20, 3),
            Corrupt,
            "header",
        ),
        ("too few entries", |b| put32(b, 24, 1), Corrupt, "header"),
        (
            "smaller than the descriptor says",
            |b| put32(b, 12, 4999),
            Corrupt,
            "extent 1",
        ),
        (
            "directory outside",
            |b| put32(b, 20, 1 << 30),
            Corrupt,
            "grain directory",
        ),
        (
            "directory larger than the file",
            |b| {
                put32(b, 12, u32::MAX);
                put32(b, 24, 1 << 20);
            },
            Corrupt,
            "grain directory",
        ),
        (
            "table outside",
            |b| put32(b, DIRECTORY, 1 << 30),
            Corrupt,
            "grain directory",
        ),
        (
            "table cut short",
            |b| {
                let last = (b.len() / 512 - 31) as u32;
                put32(b, DIRECTORY + 4, last);
            },
            Corrupt,
            "grain directory",
        ),
        (
            "table in the header",
            |b| put32(b, DIRECTORY, 1),
            Corrupt,
            "grain directory",
        ),
        (
            "grain outside",
            |b| put32(b, TABLE + 12, 1 << 30),
            Corrupt,
            "grain table 0, entry 3",
        ),
        (
            // The hosted code for zeros; here it can only be a mistake.
            "grain in the header",
            |b| put32(b, TABLE + 12, 1),
            Corrupt,
            "grain table 0, entry 3",
        ),
        (
            "file cut in the last grain of a disk of whole grains",
            |b| b.truncate(b.len() - 1),
            Corrupt,
            "grain table 1, entry 903",
        ),
    ];
    for (name, damage, kind, part) in rows {
        let mut bytes = small().cowd();
        damage(&mut bytes);
        let files = Files::default()
            .with("a.vmdk", descriptor("vmfsSparse", None, &[line(5000)]))
            .with("delta.vmdk", bytes);
        let result = files.layer("a.vmdk").and_then(|l| testing::contents(&l));
        let error = result.err().unwrap_or_else(|| panic!("{name}: was read"));
        assert_eq!(
            (error.kind(), error.part()),
            (*kind, *part),
            "{name}: {error}"
        );
        assert_eq!(error.file(), Some("delta.vmdk".as_ref()), "{name}: {error}");
    }
    let whole = Files::default()
        .with("a.vmdk", descriptor("vmfsSparse", None, &[line(5000)]))
        .with("delta.vmdk", small().cowd());
    let layer = whole.layer("a.vmdk").unwrap();
    assert!(testing::contents(&layer).unwrap() == small().disk());
}

#[test]
fn without_its_descriptor_it_is_no_disk_but_can_be_an_overlay() {
    let file = || ImageFile::from_storage("a-delta.vmdk", small().cowd()).unwrap();
    let error = open::open_file(file(), &OpenOptions::new(&Deny))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("vmfsSparse"), "{error}");
    let overlay = OpenOptions {
        overlay: true,
        ..OpenOptions::new(&Deny)
    };
    let layer = open::open_file(file(), &overlay).unwrap();
    let found: Vec<_> = disk::extents(&layer, 0..5000 * 512, disk::same_kind)
        .map(|e| e.map(|e| (e.range.start / 512, e.kind)).unwrap())
        .collect();
    let (absent, data) = (Kind::Absent, Kind::Data);
    assert_eq!(found, [(0, absent), (3, data), (4, absent), (4999, data)]);
}

#[test]
fn the_descriptor_beside_an_extent_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm-000001-delta.vmdk");
    std::fs::write(&path, small().cowd()).unwrap();
    let options = OpenOptions::new(&Deny);
    let error = open::open(&path, &options).err().unwrap().to_string();
    assert!(!error.contains("'vm-000001.vmdk'"), "{error}");
    std::fs::write(folder.path().join("vm-000001.vmdk"), "").unwrap();
    let error = open::open(&path, &options).err().unwrap().to_string();
    assert!(error.contains("'vm-000001.vmdk'"), "{error}");
}
