//! The files as other programs read them, which know Parquet and `docs/fingerprints.md`.

use super::{
    MIB, column,
    run::{Folder, noise},
    support::{
        peers::{need, program},
        run,
    },
};
use std::{env, path::PathBuf};

/// A Python with pyarrow.
fn pyarrow() -> Option<PathBuf> {
    let python = match env::var_os("VDISK_PEER_PYTHON") {
        Some(path) => Some(PathBuf::from(path)),
        None => program(&["python3"]),
    };
    let python = need("python3", python)?;
    let said = run(&python, ".".as_ref(), &["-c", "import pyarrow.parquet"]);
    need("pyarrow", (said.code == Some(0)).then_some(python))
}

#[test]
fn pyarrow_reads_what_the_disk_holds() {
    let Some(python) = pyarrow() else { return };
    let folder = Folder::new();
    let mut disk = noise(1, 5 * MIB + 1024);
    disk[70_000..3 * MIB].fill(0);
    disk[4 * MIB..4 * MIB + 4096].fill(9); // can be deflated
    folder.write("base.raw", &disk);
    folder.run("convert base.raw -o base.vhd").code(0);
    folder.run("clone base.vhd -o child.vhd").code(0);
    let report = folder.run("fingerprint . -o prints --json").code(0).json();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/support/fingerprints_peer.py"
    );
    let files = column(&report, "file");
    for (image, raw) in [
        ("base.raw", "base.raw"),
        ("base.vhd", "base.raw"),
        ("child.vhd", "-"),
    ] {
        let said = run(&python, &folder.path("."), &[script, &files[image], raw]).good();
        let parent = &column(&report, "parent")[image];
        let wanted = format!(
            "{}/{image} {parent} 5243904\n",
            folder.path("").canonicalize().unwrap().display()
        );
        assert_eq!(said, wanted);
    }
}
