//! Many clones of one base: each costs what it holds of its own.

use crate::{
    builder::{Farm, Taken},
    compare::assert_same,
    contents::{BLOCK, Change, Contents},
    truth::truth,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A base of `size` bytes that is full of data, and clones of it that each write a new 64 KiB, what the
/// next one writes too, and zeros.
fn clones(size: usize, number: usize) -> Option<Farm> {
    let mut farm = Farm::new()?;
    let mut contents = Contents::new(7);
    let base = contents.noise(size);
    farm.full("f/base.vmdk", "subformat=monolithicSparse", base);
    let mut common = contents.noise(BLOCK);
    for number in 0..number {
        let name = format!("f/{number:03}.vmdk");
        farm.clone_of(&name, "f/base.vmdk");
        let at = 64 * KIB * (number % 8);
        let mut changes = vec![Change::Bytes(at, contents.noise(64 * KIB))];
        changes.push(Change::Bytes(size / 2, common.clone()));
        common = contents.noise(BLOCK);
        changes.push(Change::Bytes(size / 2 + BLOCK, common.clone()));
        changes.push(Change::Zeros(size / 2 + 64 * KIB, 64 * KIB));
        farm.write(&name, &changes);
    }
    Some(farm)
}

fn args(farm: &Farm, clones: usize) -> String {
    format!("dedup-report {} --json", farm.listed()[..=clones].join(" "))
}

#[test]
fn a_hundred_clones_are_counted_exactly() {
    let Some(farm) = clones(MIB, 100) else { return };
    let names = farm.listed();
    let expected = &truth(&farm, &names, &[4096])[0];
    for flags in ["", "--memory 8M --threads 1"] {
        let args = format!("{} {flags}", args(&farm, 100));
        let report = farm.folder.run(&args).code(0).json();
        assert_same(flags, &report, expected);
    }
}

#[test]
fn the_hundredth_clone_costs_what_it_holds() {
    let Some(farm) = clones(64 * MIB, 100) else {
        return;
    };
    let run = |clones| -> Taken {
        let (ran, taken) = farm.measured(&args(&farm, clones));
        ran.code(0);
        taken
    };
    let [none, most, all] = [0, 99, 100].map(run);
    let own = 3 * 64 * KIB as u64;
    assert!(none.read > 64 * MIB as u64, "{none:?}");
    // What the clone records is read, and its tables once or twice.
    let costs = all.read - most.read;
    assert!(costs >= 2 * 64 * KIB as u64, "{most:?} {all:?}");
    assert!(costs < own + 256 * KIB as u64, "{most:?} {all:?}");
    // A hundred times the base would be 6400 MiB.
    assert!(all.read < none.read + 100 * (own + 256 * KIB as u64));
    assert!(all.peak < none.peak + 16 * MIB as u64, "{none:?} {all:?}");
}
