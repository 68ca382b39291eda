//! OVA and OVF through the program, against tar, Python and qemu-img.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::{env, fs, path::Path};
use support::{
    Dice, contents, file_sha256,
    peers::{Qemu, Readers, need, program},
    run, sha256, vdisk, vdisk_hash, vdisk_json,
};

/// Runs `ova_peer.py`; `None` if there is no Python.
fn python(folder: &Path, arguments: &[&str]) -> Option<String> {
    let python = env::var_os("VDISK_PEER_PYTHON").map(Into::into);
    let python = need("python3", python.or_else(|| program(&["python3"])))?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/ova_peer.py");
    Some(run(python, folder, &[&[script], arguments].concat()).good())
}

/// Writes `name` in `folder`; returns the digest of its bytes.
fn make(folder: &Path, name: &str, seed: u64, size: usize) -> String {
    let bytes = contents(&mut Dice(seed), size);
    fs::write(folder.join(name), &bytes).unwrap();
    sha256(&bytes)
}

#[test]
fn other_programs_take_apart_what_vdisk_writes() {
    let sizes = [512, 64 << 10, 100 << 10, (3 << 20) + 512, 9 << 20];
    for (size, seed) in sizes.into_iter().zip(1..) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let expected = make(folder, "in.raw", seed, size);
        vdisk(folder, &["convert", "in.raw", "-o", "vm.ova", "--no-sync"]).good();
        assert_eq!(vdisk_hash(folder, "vm.ova"), expected);
        if let Some(said) = python(folder, &["check", "vm.ova"]) {
            assert_eq!(said.trim(), format!("{size} vm-disk1.vmdk"));
        }
        let Some(tar) = need("tar", program(&["tar"])) else {
            continue;
        };
        let listed = run(&tar, folder, &["tvf", "vm.ova"]).good();
        let lines: Vec<&str> = listed.lines().collect();
        assert_eq!(lines.len(), 3, "{listed}");
        for (line, name) in lines.iter().zip(["vm.ovf", "vm-disk1.vmdk", "vm.mf"]) {
            assert!(
                line.starts_with("-rw-r--r--") && line.ends_with(name),
                "{listed}"
            );
        }
        run(&tar, folder, &["xf", "vm.ova"]).good();
        if let Some(qemu) = Qemu::find() {
            assert_eq!(qemu.sha256(folder, "vmdk", "vm-disk1.vmdk"), expected);
            let info = qemu.img(folder, &["info", "vm-disk1.vmdk"]);
            assert!(info.contains("create type: streamOptimized"), "{info}");
        }
        if let Some(readers) = Readers::find() {
            readers.check(folder, "libvmdk", &["vm-disk1.vmdk"], &expected);
        }
        // The descriptor with the extracted files beside it is a package, too.
        assert_eq!(vdisk_hash(folder, "vm.ovf"), expected);
        for package in ["vm.ova", "vm.ovf", "vm.ovf::1"] {
            let path = &vdisk_json(folder, &["info", package])["path"];
            assert_eq!(*path, format!("{}::vm-disk1.vmdk", &package[..6]));
        }
        let checked = vdisk_json(folder, &["check", "--deep", "vm.ova"]);
        // Notes may be there: they need nothing.
        let verdict = checked["verdict"].as_str().unwrap();
        assert!(verdict.starts_with("nothing is wrong"), "{checked}");
    }
}

#[test]
fn vdisk_reads_packages_that_others_make() {
    let Some(qemu) = Qemu::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let a = make(folder, "a.bin", 1, 5 << 20);
    let b = make(folder, "b.bin", 2, (3 << 20) + 512);
    qemu.img(
        folder,
        &[
            "convert",
            "-O",
            "vmdk",
            "-o",
            "subformat=streamOptimized",
            "a.bin",
            "a.vmdk",
        ],
    );
    qemu.img(
        folder,
        &[
            "convert",
            "-O",
            "vpc",
            "-o",
            "force_size=on",
            "b.bin",
            "b.vhd",
        ],
    );
    // 150 bytes of name need a second header.
    let long = format!("{}.vhd", "long".repeat(40));
    fs::copy(folder.join("b.vhd"), folder.join(&long)).unwrap();
    for (kind, algorithm) in [("ustar", "SHA256"), ("gnu", "SHA1"), ("pax", "SHA512")] {
        let disks = [
            "a.vmdk",
            "b.vhd,gzip",
            "a.bin,chunk=1000000",
            "b.bin,gzip,chunk=77777",
        ];
        let mut arguments = vec!["make", "vm.ova", kind, algorithm];
        arguments.extend(disks);
        if kind != "ustar" {
            arguments.push(&long);
        }
        if python(folder, &arguments).is_none() {
            return;
        }
        let mut names = vec![
            ("a.vmdk", &a),
            ("b.vhd.gz", &b),
            ("a.bin", &a),
            ("b.bin.gz", &b),
        ];
        if kind != "ustar" {
            names.push((&long, &b));
        }
        for ((name, expected), number) in names.into_iter().zip(1..) {
            for name in [name, &number.to_string()] {
                let image = format!("vm.ova::{name}");
                assert_eq!(vdisk_hash(folder, &image), *expected, "{kind} {image}");
                let said = vdisk(
                    folder,
                    &["convert", &image, "-o", "out.raw", "--force", "--no-sync"],
                );
                said.good();
                assert_eq!(
                    file_sha256(&folder.join("out.raw")),
                    *expected,
                    "{kind} {image}"
                );
            }
        }
        assert_eq!(
            vdisk(folder, &["diff", "vm.ova::1", "vm.ova::3", "-q"]).code,
            Some(0)
        );
        let checked = vdisk_json(folder, &["check", "--deep", "vm.ova"]);
        // Notes may be there: they need nothing.
        let verdict = checked["verdict"].as_str().unwrap();
        assert!(verdict.starts_with("nothing is wrong"), "{checked}");
    }
}

#[test]
fn messages_say_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder, "in.raw", 3, 1 << 20);
    vdisk(folder, &["convert", "in.raw", "-o", "vm.ova", "--no-sync"]).good();
    let info = vdisk_json(folder, &["info", "vm.ova"]);
    assert_eq!(info["format"], "ova");
    assert_eq!(info["details"]["manifest"], "not checked");

    // A changed byte of the disk: verbs that read contents notice, those that do not go on.
    let mut bytes = fs::read(folder.join("vm.ova")).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(folder.join("bad.ova"), bytes).unwrap();
    for arguments in [
        &["hash", "bad.ova"][..],
        &["convert", "bad.ova", "-o", "new.raw"],
        &["diff", "in.raw", "bad.ova"],
        &["compose", "bad.ova", "in.raw", "-o", "new.raw"],
    ] {
        let said = vdisk(folder, arguments);
        assert_eq!(said.code, Some(4), "{said:#?}");
        assert!(said.err.contains("the manifest says"), "{said:#?}");
        assert!(said.err.contains("--no-verify"), "{said:#?}");
    }
    assert!(!folder.join("new.raw").exists());
    for arguments in [&["info", "bad.ova"][..], &["map", "bad.ova"]] {
        vdisk(folder, arguments).good();
    }
    // A check that reads no data does not call them right; one that does compares, if it may.
    let said = vdisk(folder, &["check", "bad.ova"]).good();
    assert!(said.contains("data not read"), "{said}");
    let said = vdisk(folder, &["check", "--deep", "bad.ova"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.out.contains("[digest]"), "{said:#?}");
    let said = vdisk(folder, &["check", "--deep", "--no-verify", "bad.ova"]);
    assert!(!said.out.contains("[digest]"), "{said:#?}");
    assert!(said.out.contains("[digests-skipped]"), "{said:#?}");
    let said = vdisk(folder, &["hash", "--no-verify", "bad.ova"]);
    assert!(!said.err.contains("manifest"), "{said:#?}");

    let refused = |arguments: &[&str], sentence: &str| {
        let said = vdisk(folder, arguments);
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(said.err.contains(sentence), "{said:#?}");
    };
    refused(&["hash", "vm.ova::2"], "holds 1 disk: vm-disk1.vmdk");
    refused(&["hash", "in.raw::1"], "is one raw image");
    refused(
        &["clone", "vm.ova", "-o", "child.vmdk"],
        "no child can name it",
    );
    refused(
        &["convert", "vm.ova", "-o", "vm.ova", "--force"],
        "is also an input",
    );
    refused(&["convert", "in.raw", "-o", "vm.ovf"], "ends in .ova");
    refused(
        &["convert", "in.raw", "-o", "-", "--format", "ova"],
        "cannot be written to standard output",
    );
    assert!(!folder.join("vm.ovf").exists());
}

#[test]
fn the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder, "in.raw", 3, 3 << 20);
    let write = |threads: &str| {
        let arguments = ["convert", "in.raw", "-o", "vm.ova", "--force", "--no-sync"];
        let more = ["--reproducible", "--threads", threads];
        vdisk(folder, &[&arguments[..], &more].concat()).good();
        file_sha256(&folder.join("vm.ova"))
    };
    assert_eq!(write("1"), write("8"));
}
