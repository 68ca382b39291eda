//! What files in the field do that the specification does not say, or says otherwise: sparse
//! extents, each quirk with the reading that loses nothing.

use crate::{
    Files,
    builder::{Cell, Grains, put32, put64},
    descriptor,
};
use vdisk_core::{Disk, ErrorKind, Kind, testing};

fn split(extents: &[(&str, usize)]) -> Vec<u8> {
    let lines: Vec<String> = extents
        .iter()
        .map(|(name, sectors)| format!("RW {sectors} SPARSE \"{name}\""))
        .collect();
    descriptor("twoGbMaxExtentSparse", None, &lines)
}

/// Grains of 4 KiB: data, zeros, hole, data, of which one sector is on the disk.
fn small() -> Grains {
    let cells = [Cell::Data(1), Cell::Zero, Cell::Hole, Cell::Data(2)];
    Grains::ascending(&cells, 8, 25)
}

fn files(sectors: usize, bytes: Vec<u8>) -> Files {
    Files::default()
        .with("a.vmdk", split(&[("a-s001.vmdk", sectors)]))
        .with("a-s001.vmdk", bytes)
}

#[test]
fn versions_1_to_3_are_read_and_no_others() {
    for version in 0..6 {
        let mut bytes = small().hosted();
        put32(&mut bytes, 4, version);
        match files(25, bytes).layer("a.vmdk") {
            Ok(layer) => {
                assert!((1..=3).contains(&version), "{version}");
                assert!(testing::contents(&layer).unwrap() == small().disk());
            }
            Err(error) => {
                assert!(!(1..=3).contains(&version), "{version}: {error}");
                assert_eq!(
                    (error.kind(), error.part()),
                    (ErrorKind::Unsupported, "header")
                );
            }
        }
    }
}

/// Without flag and version, too: qemu (10.0) would show the sector after the header instead.
#[test]
fn an_entry_of_1_is_zeros_and_hides_the_parent() {
    let base = vec![7u8; 25 * 512];
    let flat = ["RW 25 FLAT \"b-flat.vmdk\" 0".to_owned()];
    let child = |bytes: Vec<u8>| {
        let line = ["RW 25 SPARSE \"a-s001.vmdk\"".to_owned()];
        Files::default()
            .with(
                "a.vmdk",
                descriptor("custom", Some(("12345678", "b.vmdk")), &line),
            )
            .with("a-s001.vmdk", bytes)
            .with("b.vmdk", descriptor("monolithicFlat", None, &flat))
            .with("b-flat.vmdk", base.clone())
            .chain("a.vmdk")
            .unwrap()
    };
    let mut model = base.clone();
    small().over(&mut model);
    assert!(testing::contents(&child(small().hosted())).unwrap() == model);
    // In the directory: no table, and zeros all the same.
    let mut bytes = small().hosted();
    put32(&mut bytes, 512, 1);
    let chain = child(bytes);
    assert_eq!(chain.extent_at(0).unwrap().kind, Kind::Zero);
    assert!(testing::contents(&chain).unwrap() == vec![0; 25 * 512]);
    let mut bytes = small().hosted();
    put32(&mut bytes, 512, 0);
    assert!(testing::contents(&child(bytes)).unwrap() == base);
}

#[test]
fn only_the_last_grain_of_a_disk_may_be_cut_short() {
    let whole = small().hosted();
    // Seven sectors of the last grain are not on the disk.
    for (cut, zeros) in [(1, 0), (7 * 512, 0), (7 * 512 + 100, 100)] {
        let mut bytes = whole.clone();
        bytes.truncate(bytes.len() - cut);
        let layer = files(25, bytes).layer("a.vmdk").unwrap();
        let mut model = small().disk();
        let len = model.len();
        model[len - zeros..].fill(0);
        assert!(testing::contents(&layer).unwrap() == model, "cut {cut}");
        assert_eq!(layer.facts().warnings.is_empty(), zeros == 0, "cut {cut}");
    }
    // Here the first grain is stored last.
    let mut turned = small();
    turned.order.reverse();
    let mut bytes = turned.hosted();
    bytes.truncate(bytes.len() - 1);
    let layer = files(25, bytes).layer("a.vmdk").unwrap();
    let error = testing::contents(&layer).err().unwrap();
    assert_eq!(
        (error.kind(), error.part()),
        (ErrorKind::Corrupt, "grain table 0, entry 0")
    );
}

#[test]
fn the_descriptor_says_how_much_of_an_extent_is_used() {
    let second = Grains::ascending(&[Cell::Data(5)], 8, 8);
    let names = |first| split(&[("1", first), ("2", 8)]);
    let files = |first| {
        Files::default()
            .with("a.vmdk", names(first))
            .with("1", small().hosted())
            .with("2", second.hosted())
    };
    let layer = files(3).layer("a.vmdk").unwrap();
    let mut model = small().disk();
    model.truncate(3 * 512);
    model.extend(second.disk());
    testing::conformance(&layer).unwrap();
    assert!(testing::contents(&layer).unwrap() == model);
    let error = files(26).layer("a.vmdk").err().unwrap();
    assert_eq!(
        (error.kind(), error.part()),
        (ErrorKind::Corrupt, "extent 1")
    );
}

/// 2047 MiB, 2 GiB, 4064 MiB as seen in the field, and one sector.
#[test]
fn extents_have_any_size() {
    let sizes = [4_192_256_usize, 4_194_304, 8_323_072, 1];
    let mut files = Files::default();
    let mut lines = Vec::new();
    let mut extents = Vec::new();
    for (number, sectors) in sizes.into_iter().enumerate() {
        let name = format!("a-s00{}.vmdk", number + 1);
        let mut grains = Grains::ascending(&vec![Cell::Hole; sectors.div_ceil(128)], 128, sectors);
        let last = grains.cells.len() - 1;
        grains.cells[0] = Cell::Data(number as u8 + 1);
        grains.cells[last] = Cell::Data(number as u8 + 0x11);
        files = files.with(&name, grains.hosted());
        lines.push(format!("RW {sectors} SPARSE \"{name}\""));
        extents.push(grains);
    }
    let layer = files
        .with("a.vmdk", descriptor("twoGbMaxExtentSparse", None, &lines))
        .layer("a.vmdk")
        .unwrap();
    let total: usize = sizes.iter().sum();
    assert_eq!(layer.size(), total as u64 * 512);
    // The end of each extent and the start of the next in one read.
    let mut start = 0;
    for pair in extents.windows(2) {
        let end = start + pair[0].sectors;
        let tail = 128.min(pair[0].sectors);
        let head = 128.min(pair[1].sectors);
        let last = pair[0].cells.len() - 1;
        let mut model = pair[0].grain(last)[..tail * 512].to_vec();
        model.extend(&pair[1].grain(0)[..head * 512]);
        let mut found = vec![0xee; model.len()];
        layer
            .read_at((end - tail) as u64 * 512, &mut found)
            .unwrap();
        assert!(found == model, "at sector {end}");
        // And between them nothing.
        let middle = start + pair[0].sectors / 2;
        assert_eq!(
            layer.extent_at(middle as u64 * 512).unwrap().kind,
            Kind::Zero
        );
        start = end;
    }
}

#[test]
fn what_was_interrupted_or_is_not_known_is_said() {
    let mut bytes = small().hosted();
    bytes[72] = 1;
    let layer = files(25, bytes).layer("a.vmdk").unwrap();
    assert!(
        layer
            .facts()
            .warnings
            .iter()
            .any(|w| w.contains("not closed"))
    );
    for flag in 18..32 {
        let mut bytes = small().hosted();
        put32(&mut bytes, 8, 1 | 1 << flag);
        let error = files(25, bytes).layer("a.vmdk").err().unwrap();
        assert_eq!(
            (error.kind(), error.part()),
            (ErrorKind::Unsupported, "header")
        );
    }
    let mut bytes = small().hosted();
    bytes[..4].copy_from_slice(b"kdmv");
    let error = files(25, bytes).layer("a.vmdk").err().unwrap();
    assert!(error.to_string().contains("unfinished"), "{error}");
    // Of an odd header nothing is used that is not needed.
    let mut bytes = small().hosted();
    put64(&mut bytes, 48, 1 << 40); // a second directory, without the flag for it
    assert!(files(25, bytes).layer("a.vmdk").is_ok());
}
