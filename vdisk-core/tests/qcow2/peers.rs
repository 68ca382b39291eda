//! qemu reads the builder's images as the model says: what the other tests compare with is right.
//! What qemu writes is read in the tests of the program.

use crate::{
    builder::Shape,
    read::{With, shapes},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use std::{env, fs, path::Path, process::Command};

fn qemu_reads(folder: &Path, shape: &Shape) -> Vec<u8> {
    let (image, data) = shape.build();
    fs::write(folder.join("test.qcow2"), image).unwrap();
    fs::write(folder.join("disk.data"), data).unwrap();
    let run = Command::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", "raw", "test.qcow2", "out"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?} of {shape:?}");
    let check = Command::new("qemu-img")
        .args(["check", "-f", "qcow2", "test.qcow2"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?} of {shape:?}");
    fs::read(folder.join("out")).unwrap()
}

#[test]
fn qemu_reads_the_builders_images() {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    let required = env::var_os("VDISK_REQUIRE_PEERS").is_some_and(|v| v == "1");
    assert!(found || !required, "qemu-img is not installed");
    if !found {
        eprintln!("skipped: qemu-img is not installed");
        return;
    }
    let mut runner = TestRunner::deterministic();
    for with in [
        With::Version2,
        With::Zlib,
        With::Zstd,
        With::Subclusters,
        // Not DataFile: qemu wants the clusters there in the order of the disk.
    ] {
        for _ in 0..6 {
            let shape = shapes(with).new_tree(&mut runner).unwrap().current();
            let folder = tempfile::tempdir().unwrap();
            let model: Vec<u8> = shape.model().into_iter().flat_map(|(_, b)| b).collect();
            assert!(qemu_reads(folder.path(), &shape) == model, "{shape:?}");
        }
    }
}
