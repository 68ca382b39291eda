//! The committed fixtures: every row of their manifest holds for the program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::path::{Path, PathBuf};
use support::{Row, assert_refused, file_sha256, peers, run, table, vdisk, vdisk_hash};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

fn manifest() -> Vec<Row> {
    table(&folder().join("manifest.tsv"))
}

/// A new folder and the path of a file in it.
fn place(name: &str) -> (tempfile::TempDir, String) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join(name).to_str().unwrap().to_owned();
    (temp, path)
}

#[test]
fn images_are_what_the_manifest_says() {
    let mut seen = 0;
    for row in manifest().iter().filter(|row| row["what"] == "image") {
        let image = row["images"].as_str();
        assert_eq!(
            file_sha256(&folder().join(image)),
            row["file_sha256"],
            "{image}"
        );
        assert_eq!(
            vdisk_hash(&folder(), image),
            row["contents_sha256"],
            "{image}"
        );

        let text = vdisk(&folder(), &["hash", image]).good();
        assert_eq!(
            text.trim_end(),
            format!("{}  {image}", row["contents_sha256"])
        );

        let (_temp, raw) = place("out.raw");
        vdisk(&folder(), &["convert", image, "-o", &raw]).good();
        assert_eq!(
            file_sha256(raw.as_ref()),
            row["contents_sha256"],
            "{image} as raw"
        );
        seen += 1;
    }
    assert!(seen >= 4, "the manifest lists {seen} images");
}

#[test]
fn layers_compose_to_the_expected_contents() {
    let mut seen = 0;
    for row in manifest().iter().filter(|row| row["what"] == "compose") {
        let layers: Vec<&str> = row["images"].split(' ').collect();
        let expected = row["contents_sha256"].as_str();
        for name in ["out.vmdk", "out.vhd", "out.raw"] {
            let (temp, out) = place(name);
            let arguments = [&["compose"], layers.as_slice(), &["-o", &out]].concat();
            let said = vdisk(&folder(), &arguments);
            if expected == "conflict" {
                assert_eq!(said.code, Some(3), "{said:#?}");
                assert_refused(&said);
                assert!(
                    std::fs::read_dir(temp.path()).unwrap().next().is_none(),
                    "nothing is left"
                );
                continue;
            }
            said.good();
            assert_eq!(vdisk_hash(temp.path(), name), expected, "{layers:?}");
            let raw = temp.path().join("read.raw");
            vdisk(
                temp.path(),
                &["convert", name, "-o", raw.to_str().unwrap(), "--no-sync"],
            )
            .good();
            assert_eq!(file_sha256(&raw), expected, "{layers:?} through {name}");
        }
        seen += 1;
    }
    assert!(seen >= 3, "the manifest lists {seen} results");
}

#[test]
fn the_file_system_in_the_composed_disk_is_sound() {
    let Some(e2fsck) = peers::need("e2fsck", peers::program(&["e2fsck"])) else {
        return;
    };
    let (temp, raw) = place("composed.raw");
    let layers = ["base.vmdk", "apps.vmdk", "user.vmdk"];
    let arguments = [&["compose"], layers.as_slice(), &["-o", &raw]].concat();
    vdisk(&folder(), &arguments).good();
    run(e2fsck, temp.path(), &["-fn", &raw]).good();
}

#[test]
fn layers_in_the_wrong_order_or_with_one_missing_are_refused() {
    for layers in [
        ["base.vmdk", "user.vmdk"].as_slice(),
        &["user.vmdk", "apps.vmdk", "base.vmdk"],
        &["base.vmdk", "disk-data.vmdk"],
    ] {
        let (temp, out) = place("out.vmdk");
        let arguments = [&["compose"], layers, &["-o", &out]].concat();
        assert_refused(&vdisk(&folder(), &arguments));
        assert!(
            std::fs::read_dir(temp.path()).unwrap().next().is_none(),
            "{layers:?}"
        );
    }
}
