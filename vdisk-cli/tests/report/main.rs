//! `vdisk dedup-report`: what it takes, what it shows, and how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod clusters;
mod outputs;
#[path = "../run/mod.rs"]
mod run;
mod schema;
#[allow(dead_code, reason = "the tests with peers use all of it")]
#[path = "../support/mod.rs"]
mod support;
mod views;
mod wishes;

use run::{Folder, noise};
use std::fs;

const MIB: usize = 1 << 20;

/// Three desktops of 8 MiB over the same 3 MiB in two folders, each with 256 KiB of its own, and a
/// disk that shares nothing.
fn desktops() -> Folder {
    let folder = Folder::new();
    let base = noise(1, 3 * MIB);
    for (name, seed) in [("win/a.raw", 2), ("win/b.raw", 3), ("lin/c.raw", 4)] {
        let mut disk = base.clone();
        disk[MIB..MIB + MIB / 4].copy_from_slice(&noise(seed, MIB / 4));
        disk.resize(8 * MIB, 0);
        write(&folder, name, &disk);
    }
    write(&folder, "lin/other.raw", &noise(9, MIB));
    folder
}

/// Writes `name`, and makes the folder for it.
fn write(folder: &Folder, name: &str, bytes: &[u8]) {
    fs::create_dir_all(folder.path(name).parent().unwrap()).unwrap();
    folder.write(name, bytes);
}
