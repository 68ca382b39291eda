//! A farm of all formats, with chains in each that has them.

use crate::{builder::Farm, contents::Contents};

const MIB: usize = 1 << 20;

/// More than two dozen images of 2 to 8 MiB in folders by family; two more are only parents.
pub(crate) fn mixed(seed: u64) -> Option<Farm> {
    let mut farm = Farm::new()?;
    let mut contents = Contents::new(seed);
    full(&mut farm, &mut contents);
    vmdk(&mut farm, &mut contents);
    vhd(&mut farm, &mut contents);
    vhdx(&mut farm, &mut contents);
    qcow2(&mut farm, &mut contents);
    Some(farm)
}

/// Images without parents or children.
fn full(farm: &mut Farm, contents: &mut Contents) {
    let golden = contents.disk(4 * MIB);
    farm.full("other/golden.raw", "", golden.clone());
    // The same in other containers, not quite up to date.
    for (name, options) in [
        ("vmdk/sparse.vmdk", "subformat=monolithicSparse"),
        ("vmdk/flat.vmdk", "subformat=monolithicFlat"),
        ("vmdk/split.vmdk", "subformat=twoGbMaxExtentSparse"),
        ("vmdk/stream.vmdk", "subformat=streamOptimized"),
        ("vhd/fixed.vhd", "subformat=fixed force_size=on"),
        ("vhdx/fixed.vhdx", "subformat=fixed"),
        ("qcow2/compressed.qcow2", "-c"),
        ("other/disk.vdi", ""),
    ] {
        let mut disk = golden.clone();
        for change in contents.changes(&golden, 6) {
            change.apply(&mut disk);
        }
        farm.full(name, options, disk);
    }
    // A last block that is short, for each block size; once it is zero.
    let mut odd = contents.disk(3 * MIB + 5 * 512);
    farm.full("other/odd.raw", "", odd.clone());
    odd.rotate_right(512);
    odd[3 * MIB..].fill(0);
    farm.full("vmdk/odd.vmdk", "subformat=monolithicSparse", odd);
    farm.full("other/empty.vdi", "", vec![0; 2 * MIB]);
    // Moved by one block, and by one sector.
    let mut moved = golden;
    moved.rotate_right(4096);
    farm.full("other/moved.raw", "", moved.clone());
    moved.rotate_right(512);
    farm.full("qcow2/moved.qcow2", "cluster_size=512", moved);
}

fn vmdk(farm: &mut Farm, contents: &mut Contents) {
    let base = contents.disk(4 * MIB);
    farm.full("vmdk/base.vmdk", "subformat=monolithicSparse", base);
    for (name, parent) in [
        ("vmdk/clone1.vmdk", "vmdk/base.vmdk"),
        ("vmdk/clone2.vmdk", "vmdk/base.vmdk"),
        ("vmdk/clone-of-clone.vmdk", "vmdk/clone1.vmdk"),
    ] {
        farm.clone_of(name, parent);
        change(farm, contents, name, 8);
    }
    // Nothing of its own at all.
    farm.clone_of("vmdk/untouched.vmdk", "vmdk/clone2.vmdk");
    // Longer than a base that ends where segments may, and than one that does not.
    let zeroed = "zeroed_grain=on";
    farm.child("vmdk/longer.vmdk", "vmdk/base.vmdk", 6 * MIB, zeroed);
    change(farm, contents, "vmdk/longer.vmdk", 8);
    farm.child("vmdk/on-odd.vmdk", "vmdk/odd.vmdk", 5 * MIB + 512, zeroed);
    change(farm, contents, "vmdk/on-odd.vmdk", 8);
    let hidden = contents.disk(2 * MIB);
    farm.full("vmdk/hidden.vmdk", "subformat=monolithicSparse", hidden);
    farm.unlist("vmdk/hidden.vmdk");
    for name in ["vmdk/over-hidden1.vmdk", "vmdk/over-hidden2.vmdk"] {
        farm.child(name, "vmdk/hidden.vmdk", 0, "");
        change(farm, contents, name, 4);
    }
}

fn vhd(farm: &mut Farm, contents: &mut Contents) {
    let base = contents.disk(5 * MIB + 512);
    farm.full("vhd/base.vhd", "subformat=dynamic force_size=on", base);
    for (name, parent) in [
        ("vhd/clone1.vhd", "vhd/base.vhd"),
        ("vhd/clone2.vhd", "vhd/base.vhd"),
        ("vhd/clone-of-clone.vhd", "vhd/clone2.vhd"),
    ] {
        farm.clone_of(name, parent);
        change(farm, contents, name, 12);
    }
    let bytes = farm.bytes("vhd/clone1.vhd");
    let changes = contents.changes(&bytes, 8);
    farm.diff_of("vhd/delta.vhd", "vhd/clone1.vhd", &changes);
    let raw = contents.disk(4 * MIB);
    farm.full("vhd/base.raw", "", raw);
    farm.clone_of("vhd/over-raw.vhd", "vhd/base.raw");
    change(farm, contents, "vhd/over-raw.vhd", 8);
}

fn vhdx(farm: &mut Farm, contents: &mut Contents) {
    let base = contents.disk(8 * MIB);
    let options = "subformat=dynamic block_size=1M";
    farm.full("vhdx/base.vhdx", options, base.clone());
    for (name, parent) in [
        ("vhdx/clone1.vhdx", "vhdx/base.vhdx"),
        ("vhdx/clone2.vhdx", "vhdx/base.vhdx"),
        ("vhdx/clone-of-clone.vhdx", "vhdx/clone2.vhdx"),
    ] {
        let changes = contents.changes(&base, 8);
        farm.diff_of(name, parent, &changes);
    }
}

fn qcow2(farm: &mut Farm, contents: &mut Contents) {
    let base = contents.disk(4 * MIB);
    farm.full("qcow2/base.qcow2", "", base);
    farm.unlist("qcow2/base.qcow2");
    for (name, parent, size, options) in [
        ("qcow2/small.qcow2", "base", 0, "cluster_size=512"),
        ("qcow2/subclusters.qcow2", "base", 0, "extended_l2=on"),
        ("qcow2/on-small.qcow2", "small", 5 * MIB, "cluster_size=4k"),
    ] {
        farm.child(name, &format!("qcow2/{parent}.qcow2"), size, options);
        change(farm, contents, name, 12);
    }
    let raw = contents.disk(3 * MIB + 512);
    farm.full("qcow2/base.raw", "", raw);
    farm.child("qcow2/over-raw.qcow2", "qcow2/base.raw", 0, "");
    change(farm, contents, "qcow2/over-raw.qcow2", 8);
}

fn change(farm: &mut Farm, contents: &mut Contents, name: &str, number: usize) {
    let bytes = farm.bytes(name);
    let changes = contents.changes(&bytes, number);
    farm.write(name, &changes);
}
