//! Images that other programs wrote, some of them damaged.
//!
//! They are not part of this project: their licences differ. `VDISK_TEST_IMAGES` names a folder
//! that holds `images.tsv` and, unpacked, the files that it lists.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::{
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::{
    assert_refused, file_sha256, peers::Qemu, skipped, table, vdisk, vdisk_hash, vdisk_json,
};

/// Above this, hashing takes minutes: the row must be all zeros, and its map says so.
const SLOW: u64 = 20 << 30;

#[test]
fn every_image_is_read_or_refused_as_expected() {
    let Some(folder) = env::var_os("VDISK_TEST_IMAGES").map(PathBuf::from) else {
        return skipped("VDISK_TEST_IMAGES is not set");
    };
    let rows = table(&folder.join("images.tsv"));
    let (mut read, mut refused) = (0, 0);
    let mut failed = Vec::new();
    for row in rows {
        let unpacked = tempfile::tempdir().unwrap();
        let image = unpack(&folder, &row["file"], unpacked.path());
        let expect_read = row["expected"] == "read";
        let outcome = catch_unwind(|| match (row["format"].as_str(), expect_read) {
            ("VMDK" | "VHD" | "VHDX" | "OVA", true) => {
                check_read(&image, &row["virtual_size"], &row["raw_sha256"]);
                true
            }
            _ => {
                check_refused(&image);
                false
            }
        });
        match outcome {
            Ok(true) => read += 1,
            Ok(false) => refused += 1,
            Err(_) => failed.push(format!("{} ({})", row["id"], row["file"])),
        }
    }
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
    assert!(read >= 32 && refused >= 5, "read {read}, refused {refused}");
}

/// An image that qemu left with a log: read through it, without a change, and repaired by it.
#[test]
fn a_log_is_replayed_in_memory_or_by_a_repair() {
    let Some(folder) = env::var_os("VDISK_TEST_IMAGES").map(PathBuf::from) else {
        return skipped("VDISK_TEST_IMAGES is not set");
    };
    let rows = table(&folder.join("images.tsv"));
    let row = rows.iter().find(|r| r["id"] == "vhdx-log-01").unwrap();
    let unpacked = tempfile::tempdir().unwrap();
    let image = unpack(&folder, &row["file"], unpacked.path());
    let (folder, name) = split(&image);
    let before = file_sha256(&image);
    let said = vdisk(folder, &["hash", name]);
    assert!(said.err.contains("applied in memory"), "{said:#?}");
    assert!(said.out.starts_with(&row["raw_sha256"]), "{said:#?}");
    assert_eq!(vdisk(folder, &["check", name]).code, Some(1));
    assert_eq!(file_sha256(&image), before, "reading wrote to the file");
    let said = vdisk(folder, &["check", name, "--repair"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let said = vdisk(folder, &["hash", name]);
    assert!(!said.err.contains("applied in memory"), "{said:#?}");
    assert!(said.out.starts_with(&row["raw_sha256"]), "{said:#?}");
    if let Some(qemu) = Qemu::find() {
        qemu.img(folder, &["check", "-q", "-f", "vhdx", name]);
    }
    let backup = format!("{name}.backup-1");
    vdisk(folder, &["check", "--undo", &backup]).good();
    assert_eq!(file_sha256(&image), before);
}

/// Whatever healthy programs wrote, a check finds nothing to do about it.
#[test]
fn healthy_images_are_called_healthy() {
    let Some(folder) = env::var_os("VDISK_TEST_IMAGES").map(PathBuf::from) else {
        return skipped("VDISK_TEST_IMAGES is not set");
    };
    let mut seen = 0;
    let mut failed = Vec::new();
    for row in table(&folder.join("images.tsv")) {
        // One has a log that was not replayed, and a check must say so.
        if row["expected"] != "read" || row["id"] == "vhdx-log-01" {
            continue;
        }
        let unpacked = tempfile::tempdir().unwrap();
        let image = unpack(&folder, &row["file"], unpacked.path());
        let (folder, name) = split(&image);
        let said = vdisk(folder, &["check", "--deep", "--chain", name]);
        if said.code != Some(0) {
            failed.push(format!("{}: {said:#?}", row["id"]));
        }
        seen += 1;
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(seen >= 40, "{seen}");
}

/// The path of `file`, unpacked into `temp` if it is compressed.
///
/// What is not compressed stays where it is, beside its extents and its parent.
fn unpack(folder: &Path, file: &str, temp: &Path) -> PathBuf {
    let path = folder.join(file);
    let program = match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => "gzip",
        Some("bz2") => "bzip2",
        _ => return path,
    };
    let unpacked = temp.join(path.file_stem().unwrap());
    let status = Command::new(program)
        .arg("-dc")
        .stdin(fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .stdout(fs::File::create(&unpacked).unwrap())
        .stderr(Stdio::inherit())
        .status()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(status.success(), "{program} could not unpack {file}");
    unpacked
}

/// Folder and name, as people give them.
fn split(image: &Path) -> (&Path, &str) {
    let name = image.file_name().and_then(|n| n.to_str()).unwrap();
    (image.parent().unwrap(), name)
}

fn check_read(image: &Path, virtual_size: &str, expected: &str) {
    let (folder, name) = split(image);
    let size: u64 = virtual_size.parse().unwrap();
    let info = vdisk_json(folder, &["info", name]);
    assert_eq!(info["virtual_size"], size, "{name}");
    if size <= SLOW {
        assert_eq!(vdisk_hash(folder, name), expected, "{name}");
        return;
    }
    let map = vdisk_json(folder, &["map", name]);
    let mut pos = 0;
    for extent in map.as_array().unwrap() {
        assert_eq!(extent["start"], pos, "{name}: {extent}");
        assert_eq!(extent["zero"], true, "{name}: {extent}");
        pos += extent["length"].as_u64().unwrap();
    }
    assert_eq!(pos, size, "{name}");
}

fn check_refused(image: &Path) {
    let (folder, name) = split(image);
    assert_refused(&vdisk(folder, &["hash", name]));
}
