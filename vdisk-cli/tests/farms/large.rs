//! More than the memory holds: what does not fit goes to temporary files, and the figures stay exact.

use crate::{
    builder::Farm,
    compare::{array, assert_same, figure},
    contents::{Change, Contents},
    truth::truth,
};
use std::{fs::File, os::unix::fs::FileExt};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Some hundred thousand sectors, most of them once, some in other places too, and two children.
pub(crate) fn sectors(seed: u64, mib: usize) -> Option<Farm> {
    let mut farm = Farm::new()?;
    let mut contents = Contents::new(seed);
    let size = mib << 20;
    let first = contents.noise(size);
    let mut second = first.clone();
    second.rotate_left(512 * 1001);
    second[size / 8..size / 4].fill(0);
    second[size / 2..].copy_from_slice(&contents.noise(size - size / 2));
    farm.full("f/first.raw", "", first);
    farm.full("f/second.vmdk", "subformat=monolithicSparse", second);
    for (name, parent) in [
        ("f/child.vmdk", "f/second.vmdk"),
        ("f/grandchild.vmdk", "f/child.vmdk"),
    ] {
        farm.clone_of(name, parent);
        let again = farm.bytes("f/first.raw")[size / 4..size / 2].to_vec();
        let new = contents.noise(size / 16);
        let changes = [
            Change::Bytes(size / 3 / 512 * 512, again),
            Change::Bytes(size / 16, new),
            Change::Zeros(size / 2, size / 64),
        ];
        farm.write(name, &changes);
    }
    Some(farm)
}

#[test]
fn spilling_changes_no_figure() {
    let Some(farm) = sectors(3, 64) else { return };
    let names = farm.listed();
    let expected = &truth(&farm, &names, &[512])[0];
    let args = format!("dedup-report {} --json --block-size 512", names.join(" "));
    for memory in ["8M", "16M", "1G"] {
        let args = format!("{args} --memory {memory}");
        let (ran, taken) = farm.measured(&args);
        let report = ran.code(0).json();
        assert_same(memory, &report, expected);
        let spilled = figure(&report["method"], "spilled_bytes");
        assert_eq!(spilled > 0, memory != "1G", "{memory}: {spilled}");
        if memory == "16M" {
            assert!(taken.peak <= (16 + 64) * MIB, "{taken:?}");
        }
    }
}

#[test]
fn a_tebibyte_with_little_in_it_needs_little_memory() {
    let Some(mut farm) = Farm::new() else { return };
    // 200 MiB in 25 places; the last bytes of the disk are data.
    let mut contents = Contents::new(4);
    let data = contents.noise((200 * MIB) as usize);
    let step = (8 * MIB) as usize;
    let raw = farm.scratch.path("large.raw");
    let file = File::create(&raw).unwrap();
    file.set_len(TIB).unwrap();
    for (number, piece) in (1..).zip(data.chunks(step)) {
        let end = if number == 25 {
            TIB
        } else {
            TIB / 25 / MIB * MIB * number
        };
        file.write_all_at(piece, end - piece.len() as u64).unwrap();
    }
    // The blocks alone, for the truth.
    farm.full("f/data.raw", "", data);
    let expected = truth(&farm, &["f/data.raw"], &[4096]).remove(0);
    for (driver, options, name) in [
        ("raw", "", "f/large.raw"),
        ("vmdk", "", "f/large.vmdk"),
        ("vhdx", "block_size=1M", "f/large.vhdx"),
        ("qcow2", "cluster_size=64k", "f/large.qcow2"),
    ] {
        farm.convert(&raw, driver, options, name);
        let args = format!("dedup-report {name} --json --memory 16M");
        let (ran, taken) = farm.measured(&args);
        let report = ran.code(0).json();
        let (total, wanted) = (&report["total"], &expected["total"]);
        assert_eq!(figure(total, "total_bytes"), TIB, "{name}");
        let zero = TIB - figure(wanted, "data_bytes");
        assert_eq!(figure(total, "zero_bytes"), zero, "{name}");
        for field in [
            "data_bytes",
            "unique_bytes",
            "duplicate_bytes",
            "once_bytes",
        ] {
            assert_eq!(figure(total, field), figure(wanted, field), "{name}");
        }
        assert_eq!(array(&report, "images").len(), 1);
        assert!(taken.read < 400 * MIB, "{name}: {taken:?}");
        assert!(taken.peak <= (16 + 64) * MIB, "{name}: {taken:?}");
        std::fs::remove_file(farm.folder.path(name)).unwrap();
    }
}
