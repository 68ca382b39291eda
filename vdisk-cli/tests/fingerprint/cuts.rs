//! One image in several files: chains are cut elsewhere when other images are read with them.

use super::{
    MIB, actions, column,
    run::{Folder, noise},
};
use serde_json::Value;
use std::fs;
use vdisk_core::{
    Disk, Identity,
    format::{ParentSpec, named},
    testing,
};

/// Writes the layer `name`, which records `own` from the byte `at` on, over `parent`; returns its CID.
fn layer(folder: &Folder, name: &str, own: (usize, &[u8]), parent: Option<(&str, u32)>) -> u32 {
    let format = named("vmdk").unwrap();
    let mut disk = vec![0; MIB];
    disk[own.0..own.0 + own.1.len()].copy_from_slice(own.1);
    let zeros = vec![0u8; MIB];
    let parent = parent.map(|(name, cid)| {
        let spec = ParentSpec {
            relative: name.into(),
            absolute: None,
            identity: Some(Identity::Cid(cid)),
            modified: 0,
        };
        (&zeros as &dyn Disk, spec)
    });
    let seed = name.bytes().fold(0, u8::wrapping_add);
    let bytes = testing::image(format, &format.subformats()[0], &disk, parent, seed).unwrap();
    folder.write(name, &bytes);
    match testing::open_bytes(format, bytes).unwrap().facts().identity {
        Some(Identity::Cid(cid)) => cid,
        other => panic!("{other:?}"),
    }
}

/// gold <- c1 <- d1 and d2; gold <- c2. Some of what they record is equal.
fn chains(folder: &Folder) {
    let bytes = noise(1, MIB);
    let kib = |from: usize, to: usize| &bytes[from << 10..to << 10];
    let gold = layer(folder, "gold.vmdk", (0, kib(0, 512)), None);
    let over = Some(("gold.vmdk", gold));
    let c1 = layer(folder, "c1.vmdk", (256 << 10, kib(512, 768)), over);
    layer(folder, "c2.vmdk", (768 << 10, kib(0, 128)), over);
    let over = Some(("c1.vmdk", c1));
    layer(folder, "d1.vmdk", (0, kib(768, 896)), over);
    layer(folder, "d2.vmdk", (384 << 10, kib(512, 768)), over);
}

/// What reports on images and on their fingerprints have in common.
fn figures(report: &Value) -> (Vec<Value>, Value, Value) {
    let last = |value: &Value| {
        let path = value.as_str().unwrap();
        path.rsplit('/').next().unwrap().to_owned()
    };
    let mut images = report["images"].as_array().unwrap().clone();
    for image in &mut images {
        image["path"] = last(&image["path"]).into();
    }
    images.sort_by_key(|image| image["path"].as_str().unwrap().to_owned());
    let images = images.into_iter().map(|image| {
        let names = [
            "path",
            "layers",
            "data_bytes",
            "zero_bytes",
            "distinct_bytes",
            "exclusive_bytes",
        ];
        names.iter().map(|name| image[*name].clone()).collect()
    });
    let total = report["total"].clone();
    let unique = total["unique_bytes"].clone();
    (images.collect(), unique, total["data_bytes"].clone())
}

/// Reports on fingerprints, of which nothing is to be said, and compares with that on `images`.
fn is_exact(folder: &Folder, from: &str, images: &str) {
    let run = folder.run(&format!("dedup-report {from} --json")).code(0);
    assert_eq!(run.err, "", "{from}");
    let direct = folder.run(&format!("dedup-report {images} --json"));
    assert_eq!(
        figures(&run.json()),
        figures(&direct.code(0).json()),
        "{from}"
    );
}

#[test]
fn images_of_one_folder_can_be_read_in_any_groups() {
    let all = "c1.vmdk c2.vmdk d1.vmdk d2.vmdk";
    for groups in [
        ["d1.vmdk d2.vmdk", "c1.vmdk c2.vmdk"],
        ["c1.vmdk c2.vmdk", "d1.vmdk d2.vmdk"],
        ["c1.vmdk d1.vmdk d2.vmdk", "c1.vmdk c2.vmdk"],
        ["c1.vmdk c2.vmdk", "c1.vmdk d1.vmdk d2.vmdk"],
    ] {
        let folder = Folder::new();
        chains(&folder);
        let run = |images: &str| {
            let line = format!("fingerprint {images} -o prints --json");
            folder.run(&line).code(0).json()
        };
        groups.iter().for_each(|images| drop(run(images)));
        is_exact(&folder, "--from prints", all);
        run(all);
        is_exact(&folder, "--from prints", all);
        let unchanged = actions(&run(all));
        assert!(
            unchanged.values().all(|a| a == "unchanged"),
            "{unchanged:?}"
        );
    }
}

#[test]
fn images_of_several_folders_are_counted_once() {
    let folder = Folder::new();
    chains(&folder);
    for (images, to) in [
        ("d1.vmdk d2.vmdk", "parent"),
        ("c1.vmdk d1.vmdk d2.vmdk", "image"),
        ("c1.vmdk c2.vmdk", "cut"),
        ("c1.vmdk", "whole"),
    ] {
        folder.run(&format!("fingerprint {images} -o {to}")).code(0);
    }
    // The same file, with and without an image.
    for from in ["--from parent --from image", "--from image --from parent"] {
        is_exact(&folder, from, "c1.vmdk d1.vmdk d2.vmdk");
    }
    let folders = ["parent", "image", "cut", "whole"];
    for start in 0..4 {
        let order = (0..4).map(|n| format!("--from {}", folders[(start + n) % 4]));
        let order: Vec<String> = order.collect();
        is_exact(&folder, &order.join(" "), "c1.vmdk c2.vmdk d1.vmdk d2.vmdk");
    }
}

#[test]
fn of_two_states_the_newer_one_is_counted() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("fingerprint a.raw -o old").code(0);
    folder.write("a.raw", &[7; MIB]);
    folder.run("fingerprint a.raw -o new").code(0);
    for from in ["--from old --from new", "--from new --from old"] {
        let run = folder.run(&format!("dedup-report {from} --json")).code(1);
        let report = run.json();
        assert_eq!(report["total"]["unique_bytes"], 4096, "{report}");
        let error = report["errors"][0]["error"].as_str().unwrap().to_owned();
        let (old, new) = error.split_once(": ").unwrap();
        assert!(
            old.starts_with("old/a.raw-") && old.contains("an earlier state of"),
            "{error}"
        );
        assert!(
            new.starts_with("new/a.raw-") && new.ends_with("is newer, and is counted"),
            "{error}"
        );
        assert_eq!(report["errors"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_file_under_the_name_of_another_is_said() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.write("b.raw", &noise(2, MIB));
    let report = folder.run("fingerprint . -o prints --json").code(0).json();
    let files = column(&report, "file");
    fs::copy(folder.path(&files["a.raw"]), folder.path(&files["b.raw"])).unwrap();
    let run = folder.run("dedup-report --from prints --json").code(1);
    assert_eq!(run.json()["total"]["unique_bytes"], MIB);
    run.says(&files["b.raw"]);
}

#[test]
fn a_change_that_sets_back_its_time_is_read() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("fingerprint a.raw -o prints").code(0);
    let time = fs::metadata(folder.path("a.raw"))
        .unwrap()
        .modified()
        .unwrap();
    folder.write("a.raw", &[7; MIB]);
    let file = fs::File::options()
        .write(true)
        .open(folder.path("a.raw"))
        .unwrap();
    file.set_modified(time).unwrap();
    let report = folder
        .run("fingerprint a.raw -o prints --json")
        .code(0)
        .json();
    assert_eq!(actions(&report)["a.raw"], "read");
    let report = folder
        .run("dedup-report --from prints --json")
        .code(0)
        .json();
    assert_eq!(report["total"]["unique_bytes"], 4096);
}
