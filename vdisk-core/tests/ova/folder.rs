//! A descriptor with its files beside it.

use crate::{
    assert_reads,
    builder::{RAW, VMDK, contents, disk, gzip, ovf, sum},
    fact, image,
};
use std::{fs, path::Path};
use vdisk_core::{
    ErrorKind, FileResolver, Job, Layer, OpenOptions, Result, open_layer,
    ops::check::{Extent, check},
};

fn open(path: &Path) -> Result<Layer> {
    open_layer(path, &OpenOptions::new(&FileResolver::default()))
}

#[test]
fn disks_beside_the_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (one, two) = (contents(500, 1), contents(700, 2));
    let disks = [
        disk("a.vmdk", VMDK, one.len()),
        disk("b.bin", RAW, two.len()),
    ];
    fs::write(at("vm.ovf"), ovf(&disks)).unwrap();
    fs::write(at("a.vmdk"), image("vmdk", "streamOptimized", &one)).unwrap();
    fs::write(at("b.bin"), &two).unwrap();
    let error = open(&at("vm.ovf")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let layer = open(&at("vm.ovf::a.vmdk")).unwrap();
    assert_reads(&layer, &one, "vmdk");
    assert_eq!(layer.facts().subformat, "streamOptimized in OVF");
    assert_eq!(layer.path(), at("a.vmdk"), "the disk is a file of its own");
    let files: Vec<_> = layer.files().iter().map(|f| f.path().to_owned()).collect();
    assert_eq!(files, [at("a.vmdk"), at("vm.ovf")]);
    assert_reads(&open(&at("vm.ovf::2")).unwrap(), &two, "raw");

    let manifest = format!(
        "SHA256(vm.ovf)= {}\nSHA256(a.vmdk)= {}\nSHA256(b.bin)= {}\n",
        sum("sha256sum", &fs::read(at("vm.ovf")).unwrap()),
        sum("sha256sum", &fs::read(at("a.vmdk")).unwrap()),
        "0".repeat(64)
    );
    fs::write(at("vm.mf"), manifest).unwrap();
    let layer = open(&at("vm.ovf::1")).unwrap();
    assert_eq!(fact(&layer, "manifest"), Some("checked"));
    assert_eq!(layer.files().len(), 3);
    let error = open(&at("vm.ovf::2")).err().unwrap();
    assert_eq!(error.part(), "member 'b.bin'");
}

#[test]
fn compressed_and_cut_beside_the_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = contents(3000, 3);
    let attributes = "ovf:compression='gzip' ovf:chunkSize='10000'";
    let disks = [disk("a.bin.gz", RAW, model.len()).with(attributes)];
    fs::write(at("vm.ovf"), ovf(&disks)).unwrap();
    for (chunk, number) in gzip(&model).chunks(10_000).zip(0..) {
        fs::write(at(&format!("a.bin.gz.{number:09}")), chunk).unwrap();
    }
    let layer = open(&at("vm.ovf")).unwrap();
    assert_reads(&layer, &model, "gzip in chunks");
    let ids: Vec<_> = layer.files().iter().filter_map(|f| f.tag.id).collect();
    for file in fs::read_dir(folder.path()).unwrap() {
        let id = vdisk_core::storage::FileId::of(&file.unwrap().metadata().unwrap());
        assert!(
            ids.contains(&id),
            "every file is known, and so never written to"
        );
    }
    fs::remove_file(at("a.bin.gz.000000001")).unwrap();
    let error = open(&at("vm.ovf")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(
        error.to_string().contains("'a.bin.gz.000000001'"),
        "{error}"
    );
}

#[test]
fn files_outside_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("in");
    fs::create_dir(&inside).unwrap();
    fs::write(folder.path().join("secret"), contents(8, 1)).unwrap();
    for href in ["../secret", "/etc/hostname", "..%2Fsecret"] {
        fs::write(inside.join("vm.ovf"), ovf(&[disk(href, RAW, 4096)])).unwrap();
        let error = open(&inside.join("vm.ovf")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Policy, "{href}: {error}");
    }
    fs::write(inside.join("vm.ovf"), ovf(&[disk("gone.vmdk", VMDK, 4096)])).unwrap();
    let error = open(&inside.join("vm.ovf")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Reference, "{error}");
}

/// Two disks that end too early: each is said once, and neither hides the other.
#[test]
fn what_is_wrong_with_a_disk_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = contents(500, 1);
    let names = ["a.vmdk", "b.vmdk"];
    fs::write(
        at("vm.ovf"),
        ovf(&names.map(|n| disk(n, VMDK, model.len()))),
    )
    .unwrap();
    for name in names {
        let bytes = image("vmdk", "streamOptimized", &model);
        fs::write(at(name), &bytes[..bytes.len() - 1024]).unwrap();
    }
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    let outcome = check(&at("vm.ovf"), &options, Extent::default(), &Job::default()).unwrap();
    let list = outcome.findings.list();
    for name in names {
        let missing: Vec<_> = list
            .iter()
            .filter(|f| f.file == at(name) && f.detail.starts_with("is missing"))
            .collect();
        assert_eq!(missing.len(), 1, "{list:#?}");
    }
}
