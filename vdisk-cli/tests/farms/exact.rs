//! All figures, to the byte, with every amount of memory and every number of threads.

use crate::{
    compare::{array, assert_allocated, assert_same, figure, text},
    mixed::mixed,
    support::{peers::Readers, sha256, vdisk_hash},
    truth::truth,
};

use std::collections::BTreeSet;

const KIB: u64 = 1 << 10;

/// Otherwise a wrong count could be a wrong farm.
#[test]
fn the_images_read_as_what_is_kept_of_them() {
    let Some(farm) = mixed(2) else { return };
    let folder = farm.folder.path("");
    for image in &farm.images {
        let expected = sha256(&image.bytes);
        assert_eq!(vdisk_hash(&folder, &image.name), expected, "{}", image.name);
    }
    // Those that qemu cannot read. (libvhdi takes a bit of a VHD's sector bitmap for the rest of its
    // byte, so it reads single sectors of children wrongly.)
    let Some(readers) = Readers::find() else {
        return;
    };
    for image in farm.images.iter().filter(|i| i.name.ends_with(".vhdx")) {
        let expected = sha256(&image.bytes);
        readers.check(&folder, "dissect-vhdx", &[&image.name], &expected);
    }
}

#[test]
fn every_figure_is_exact_with_any_memory_and_threads() {
    let Some(farm) = mixed(1) else { return };
    let names = farm.listed();
    let expected = truth(&farm, &names, &[4 * KIB, 64 * KIB, 512, 12 * KIB]);
    let runs = [
        (0, "--block-size 4K"),
        (0, "--block-size 4K --memory 8M --threads 1"),
        (0, "--block-size 4K --memory 16M --threads 2"),
        (0, "--block-size 4K --memory 1G --threads 7"),
        (1, "--block-size 64K --memory 8M --threads 7"),
        (1, "--block-size 64K --memory 16M --threads 1"),
        (1, "--block-size 64K --memory 1G --threads 2"),
        (2, "--block-size 512 --memory 8M --threads 2"),
        (3, "--block-size 12K --memory 16M --threads 7"),
    ];
    for (size, flags) in runs {
        let args = format!("dedup-report {} --json {flags}", names.join(" "));
        let report = farm.folder.run(&args).code(0).json();
        assert_same(flags, &report, &expected[size]);
        assert_allocated(&report, &farm);
        assert_eq!(report["complete"], true, "{flags}");
    }
}

/// Parents that lie there count too, extents of other images do not.
#[test]
fn a_folder_is_counted_with_all_that_lies_in_it() {
    let Some(farm) = mixed(3) else { return };
    let report = farm.folder.run("dedup-report . --json").code(0).json();
    let found: Vec<&str> = array(&report, "images")
        .iter()
        .map(|i| text(i, "path").trim_start_matches("./"))
        .collect();
    let all: BTreeSet<&str> = farm.images.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), all);
    let expected = &truth(&farm, &found, &[4 * KIB])[0];
    let named = report.to_string().replace("\"./", "\"");
    let report = serde_json::from_str(&named).unwrap();
    assert_same("a folder", &report, expected);
    assert_allocated(&report, &farm);
    // The extents of a flat and of a split VMDK.
    assert_eq!(figure(&report, "skipped"), 2);
}
