//! The program against other programs, both ways: they read what it writes, it reads what they write.
//!
//! Which peers there are and what they cannot do is in `support/peers.rs`. Beyond that:
//! qemu-img reads a differencing VHD as if it had no parent, libvmdk misreads zeroed grains
//! (grain table entry 1), dissect fails on a VMDK whose last grain is not whole, and 7-Zip refuses a
//! VHDX whose size is not a multiple of 4 KiB.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};
use support::{
    Dice, contents, file_sha256,
    peers::{Qemu, Readers},
    sha256, vdisk, vdisk_hash, vdisk_json,
};

/// One sector, one grain, a last grain that is not whole, and some VHD blocks.
const SIZES: [usize; 5] = [512, 64 << 10, 100 << 10, (3 << 20) + 512, 9 << 20];

/// What the program writes: format, subformat, and the name qemu has for the format.
const WRITTEN: [(&str, &str, &str); 10] = [
    ("vmdk", "monolithicSparse", "vmdk"),
    ("vmdk", "monolithicFlat", "vmdk"),
    ("vmdk", "twoGbMaxExtentSparse", "vmdk"),
    ("vmdk", "twoGbMaxExtentFlat", "vmdk"),
    ("vmdk", "vmfs", "vmdk"),
    ("vmdk", "streamOptimized", "vmdk"),
    ("vhd", "dynamic", "vpc"),
    ("vhd", "fixed", "vpc"),
    ("vhdx", "dynamic", "vhdx"),
    ("vhdx", "fixed", "vhdx"),
];

/// The seed of a disk on which nothing was ever written.
const EMPTY: u64 = 0;

/// Makes `in.raw` in `folder`; returns the digest of its bytes.
fn make_raw(folder: &Path, seed: u64, size: usize) -> String {
    let bytes = match seed {
        EMPTY => vec![0; size],
        _ => contents(&mut Dice(seed), size),
    };
    fs::write(folder.join("in.raw"), &bytes).unwrap();
    sha256(&bytes)
}

fn convert(folder: &Path, from: &str, to: &str, subformat: &str) {
    let arguments = ["convert", from, "-o", to, "--no-sync", "--force"];
    let subformat = match subformat {
        "" => vec![],
        name => vec!["--subformat", name],
    };
    vdisk(folder, &[&arguments[..], &subformat].concat()).good();
}

/// Makes `out`, a child of `parent` that reads as `contents`. The two differ, so the exit code is 1.
fn make_delta(folder: &Path, parent: &str, contents: &str, out: &str) {
    let said = vdisk(folder, &["diff", parent, contents, "-o", out]);
    assert!(matches!(said.code, Some(0 | 1)), "{said:#?}");
    assert!(folder.join(out).exists(), "{said:#?}");
}

// ---- qemu ------------------------------------------------------------------------------------

#[test]
fn qemu_reads_what_vdisk_writes() {
    let Some(qemu) = Qemu::find() else { return };
    for (seed, size) in (1..).zip(SIZES).chain([(EMPTY, 5 << 20)]) {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let expected = make_raw(folder, seed, size);
        for (format, subformat, driver) in WRITTEN {
            let image = format!("{subformat}.{format}");
            convert(folder, "in.raw", &image, subformat);
            if driver != "vpc" {
                qemu.img(folder, &["check", "-q", "-f", driver, &image]);
            }
            let read = qemu.sha256(folder, driver, &image);
            assert_eq!(read, expected, "{image} of {size} bytes");
        }
    }
}

#[test]
fn vdisk_reads_what_qemu_writes() {
    let Some(qemu) = Qemu::find() else { return };
    let written = [
        ("vmdk", "subformat=monolithicSparse"),
        ("vmdk", "subformat=monolithicSparse,zeroed_grain=on"),
        ("vmdk", "subformat=monolithicFlat"),
        ("vmdk", "subformat=twoGbMaxExtentSparse"),
        ("vmdk", "subformat=twoGbMaxExtentFlat"),
        ("vmdk", "subformat=streamOptimized"),
        ("vpc", "subformat=dynamic,force_size=on"),
        ("vpc", "subformat=fixed,force_size=on"),
        ("vhdx", "subformat=dynamic"),
        (
            "vhdx",
            "subformat=dynamic,block_state_zero=off,block_size=1M",
        ),
        ("vhdx", "subformat=fixed"),
        // Without force_size the disk grows to whole cylinders.
        ("vpc", "subformat=dynamic"),
        ("vpc", "subformat=fixed"),
    ];
    for (seed, size) in (11..).zip(SIZES) {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let expected = make_raw(folder, seed, size);
        for (number, (driver, options)) in written.iter().enumerate() {
            let ending = driver.replace("vpc", "vhd");
            let image = format!("by-qemu-{number}.{ending}");
            let arguments = ["-f", "raw", "-O", driver, "-o", options, "in.raw", &image];
            qemu.img(folder, &[&["convert"], &arguments[..]].concat());
            let read = vdisk_hash(folder, &image);
            assert_eq!(
                read,
                qemu.sha256(folder, driver, &image),
                "{options} of {size}"
            );
            if *driver != "vpc" || options.contains("force_size") {
                assert_eq!(read, expected, "{options} of {size}");
            }
        }
    }
}

#[test]
fn vdisk_reads_disks_that_qemu_cut_into_extents() {
    let Some(qemu) = Qemu::find() else { return };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    // Data across the end of the first 2 GiB extent, and at the end of the third.
    let (size, border) = (9_u64 << 29, 2_u64 << 30);
    let writes = [
        format!("write -q -P 0x5a {} 8192", border - 4096),
        format!("write -q -P 0xa5 {} 512", size - 512),
    ];
    for subformat in ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let image = format!("{subformat}.vmdk");
        let options = format!("subformat={subformat}");
        let length = size.to_string();
        qemu.img(
            folder,
            &[
                "create", "-q", "-f", "vmdk", "-o", &options, &image, &length,
            ],
        );
        qemu.io(folder, "vmdk", &image, &writes);
        convert(folder, &image, "out.raw", "");
        let raw = File::open(folder.join("out.raw")).unwrap();
        assert_eq!(raw.metadata().unwrap().len(), size);
        let reads = writes.each_ref().map(|w| w.replace("write", "read"));
        qemu.io(folder, "raw", "out.raw", &reads);
        qemu.img(
            folder,
            &[
                "compare", "-q", "-f", "vmdk", "-F", "raw", &image, "out.raw",
            ],
        );
    }
}

/// Makes `l0.vmdk`, `l1.vmdk`, ... in `folder`, each the parent of the next, and returns the names.
fn make_chain(qemu: &Qemu, folder: &Path, dice: &mut Dice, depth: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut size = 512 * (2048 + dice.below(10_000));
    for level in 0..depth {
        let name = format!("l{level}.vmdk");
        let zeroed = dice.pick(&["on", "on", "off"]);
        let subformat = match level {
            0 => dice.pick(&[
                "monolithicSparse",
                "monolithicSparse",
                "twoGbMaxExtentSparse",
            ]),
            _ => "monolithicSparse",
        };
        let options = format!("subformat={subformat},zeroed_grain={zeroed}");
        let mut arguments = vec!["create", "-q", "-f", "vmdk", "-o", &options];
        if let Some(parent) = names.last() {
            arguments.extend(["-b", parent, "-F", "vmdk"]);
            if dice.below(4) == 0 {
                size += 512 * dice.below(1000); // a child may be larger
            }
        }
        let length = size.to_string();
        arguments.extend([name.as_str(), &length]);
        qemu.img(folder, &arguments);
        let writes: Vec<String> = (0..3 + dice.below(10))
            .map(|_| random_write(dice, size))
            .collect();
        qemu.io(folder, "vmdk", &name, &writes);
        names.push(name);
    }
    names
}

/// A command of qemu-io that changes some sectors: often whole grains, often not.
fn random_write(dice: &mut Dice, size: u64) -> String {
    let unit = dice.pick(&[512, 512, 4096, 64 << 10]);
    let at = dice.below(size.div_ceil(unit)) * unit;
    let longest = dice.pick(&[1, 10, 40]);
    let len = ((1 + dice.below(longest)) * unit).min(size - at);
    match dice.below(4) {
        0 => format!("write -q -z {at} {len}"),
        _ => format!("write -q -P {} {at} {len}", 1 + dice.below(255)),
    }
}

#[test]
fn random_chains_compose_to_what_qemu_reads() {
    let Some(qemu) = Qemu::find() else { return };
    for seed in 100..115 {
        let dice = &mut Dice(seed);
        let depth = 1 + usize::try_from(seed % 5).unwrap();
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let chain = make_chain(&qemu, folder, dice, depth);
        let top = chain.last().unwrap();
        let expected = qemu.sha256(folder, "vmdk", top);
        assert_eq!(vdisk_hash(folder, top), expected, "seed {seed}");

        let (out, driver) = dice.pick(&[
            ("out.vmdk", "vmdk"),
            ("out.raw", "raw"),
            ("out.vhd", "vpc"),
            ("out.vhdx", "vhdx"),
        ]);
        if depth == 1 {
            convert(folder, top, out, "");
        } else {
            let layers = chain.iter().map(String::as_str);
            let arguments: Vec<&str> = ["compose", "-o", out].into_iter().chain(layers).collect();
            vdisk(folder, &arguments).good();
        }
        assert_eq!(vdisk_hash(folder, out), expected, "seed {seed}: {out}");
        assert_eq!(
            qemu.sha256(folder, driver, out),
            expected,
            "seed {seed}: {out}"
        );
    }
}

#[test]
fn what_lies_past_the_end_of_a_middle_layer_stays_hidden() {
    let Some(qemu) = Qemu::find() else { return };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let create = ["create", "-q", "-f", "vmdk"];
    let on = |parent| ["-b", parent, "-F", "vmdk"];
    qemu.img(folder, &[&create[..], &["l0.vmdk", "4M"]].concat());
    qemu.io(folder, "vmdk", "l0.vmdk", &["write -q -P 1 0 4M".into()]);
    qemu.img(
        folder,
        &[&create[..], &on("l0.vmdk"), &["l1.vmdk", "2M"]].concat(),
    );
    qemu.img(
        folder,
        &[&create[..], &on("l1.vmdk"), &["l2.vmdk", "3M"]].concat(),
    );
    // The guest of the middle layer saw 2 MiB; growing it again must not bring back old data.
    let expected = qemu.sha256(folder, "vmdk", "l2.vmdk");
    assert_eq!(vdisk_hash(folder, "l2.vmdk"), expected);
    let layers = ["compose", "l0.vmdk", "l1.vmdk", "l2.vmdk", "-o", "out.raw"];
    vdisk(folder, &layers).good();
    assert_eq!(vdisk_hash(folder, "out.raw"), expected);
    assert_same_map(&qemu, folder, "vmdk", "l2.vmdk");
}

/// A map as (start, end, zero, data), neighbours that say the same joined.
fn joined(map: &Value) -> Vec<(u64, u64, bool, bool)> {
    let mut all: Vec<(u64, u64, bool, bool)> = Vec::new();
    for entry in map.as_array().unwrap() {
        let start = entry["start"].as_u64().unwrap();
        let end = start + entry["length"].as_u64().unwrap();
        let (zero, data) = (
            entry["zero"].as_bool().unwrap(),
            entry["data"].as_bool().unwrap(),
        );
        match all.last_mut() {
            Some(last) if (last.1, last.2, last.3) == (start, zero, data) => last.1 = end,
            _ => all.push((start, end, zero, data)),
        }
    }
    all
}

fn assert_same_map(qemu: &Qemu, folder: &Path, driver: &str, image: &str) {
    let theirs = qemu.img(folder, &["map", "--output=json", "-f", driver, image]);
    let theirs = joined(&serde_json::from_str(&theirs).unwrap());
    let ours = joined(&vdisk_json(folder, &["map", image]));
    assert_eq!(ours, theirs, "{image}");
}

#[test]
fn maps_agree_with_qemu() {
    let Some(qemu) = Qemu::find() else { return };
    for seed in 200..210 {
        let dice = &mut Dice(seed);
        let depth = 1 + usize::try_from(seed % 5).unwrap();
        let temp = tempfile::tempdir().unwrap();
        let chain = make_chain(&qemu, temp.path(), dice, depth);
        for image in chain {
            assert_same_map(&qemu, temp.path(), "vmdk", &image);
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    make_raw(folder, 220, 9 << 20);
    let options = "subformat=dynamic,force_size=on";
    let arguments = [
        "-f",
        "raw",
        "-O",
        "vpc",
        "-o",
        options,
        "in.raw",
        "by-qemu.vhd",
    ];
    qemu.img(folder, &[&["convert"], &arguments[..]].concat());
    assert_same_map(&qemu, folder, "vpc", "by-qemu.vhd");
    for (format, subformat, driver) in WRITTEN {
        // qemu maps holes of flat extents as data, and says only that they are zero.
        let flat = ["fixed", "monolithicFlat", "twoGbMaxExtentFlat", "vmfs"].contains(&subformat);
        if !flat && (driver != "vpc" || qemu.sizes_vhd_exactly) {
            let image = format!("{subformat}.{format}");
            convert(folder, "in.raw", &image, subformat);
            assert_same_map(&qemu, folder, driver, &image);
        }
    }
}

#[test]
fn qemu_reads_and_writes_children_that_vdisk_makes() {
    let Some(qemu) = Qemu::find() else { return };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    make_raw(folder, 300, (5 << 20) + 512);
    convert(folder, "in.raw", "base.vmdk", "");
    let base = vdisk_hash(folder, "base.vmdk");

    // A delta, with zeros where the parent has data.
    let changed = contents(&mut Dice(301), (5 << 20) + 512);
    fs::write(folder.join("changed.raw"), &changed).unwrap();
    make_delta(folder, "base.vmdk", "changed.raw", "delta.vmdk");
    qemu.img(folder, &["check", "-q", "-f", "vmdk", "delta.vmdk"]);
    assert_eq!(qemu.sha256(folder, "vmdk", "delta.vmdk"), sha256(&changed));
    assert_eq!(vdisk_hash(folder, "delta.vmdk"), sha256(&changed));

    // A clone, and a clone of it, which qemu then writes to.
    vdisk(folder, &["clone", "base.vmdk", "-o", "clone.vmdk"]).good();
    vdisk(folder, &["clone", "clone.vmdk", "-o", "second.vmdk"]).good();
    for image in ["clone.vmdk", "second.vmdk"] {
        assert_eq!(qemu.sha256(folder, "vmdk", image), base, "{image}");
    }
    let dice = &mut Dice(302);
    let writes: Vec<String> = (0..10)
        .map(|_| random_write(dice, (5 << 20) + 512))
        .collect();
    qemu.io(folder, "vmdk", "second.vmdk", &writes);
    let written = qemu.sha256(folder, "vmdk", "second.vmdk");
    assert_ne!(written, base);
    assert_eq!(vdisk_hash(folder, "second.vmdk"), written);
    assert_eq!(vdisk_hash(folder, "clone.vmdk"), base);
}

#[test]
fn qemu_and_dissect_read_a_vmfs_sparse_child() {
    let (Some(qemu), Some(readers)) = (Qemu::find(), Readers::find()) else {
        return;
    };
    for (seed, size) in (700..).zip([512, (2 << 20) + 512, 5 << 20]) {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        make_raw(folder, seed, size);
        convert(folder, "in.raw", "base.vmdk", "");
        // Zeros where the parent has data, and data where it has zeros.
        let changed = contents(&mut Dice(seed + 50), size);
        fs::write(folder.join("changed.raw"), &changed).unwrap();
        let arguments = ["diff", "base.vmdk", "changed.raw", "-o", "a child.vmdk"];
        let said = vdisk(
            folder,
            &[&arguments[..], &["--subformat", "vmfsSparse"]].concat(),
        );
        assert!(matches!(said.code, Some(0 | 1)), "{said:#?}");
        assert!(folder.join("a child-delta.vmdk").exists());
        let expected = sha256(&changed);
        assert_eq!(qemu.sha256(folder, "vmdk", "a child.vmdk"), expected);
        assert_eq!(vdisk_hash(folder, "a child.vmdk"), expected);
        // dissect fails on a parent whose last grain is not whole.
        if size.is_multiple_of(64 << 10) {
            readers.check(folder, "dissect-vmdk", &["a child.vmdk"], &expected);
        }
    }
}

// ---- Other readers ---------------------------------------------------------------------------

#[test]
fn other_readers_read_what_vdisk_writes() {
    let Some(readers) = Readers::find() else {
        return;
    };
    for (seed, size) in [
        (400, 6_usize << 20),
        (401, (3 << 20) + 512),
        (EMPTY, 5 << 20),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let expected = make_raw(folder, seed, size);
        for (format, subformat, _) in WRITTEN {
            let image = format!("{subformat}.{format}");
            convert(folder, "in.raw", &image, subformat);
            let names = match format {
                "vmdk" => ["libvmdk", "dissect-vmdk", "7zip-vmdk"],
                "vhdx" => ["libvhdi", "dissect-vhdx", "7zip-vhdx"],
                _ => ["libvhdi", "dissect-vhd", "7zip-vhd"],
            };
            for reader in names {
                let unit = match reader {
                    "dissect-vmdk" => 64 << 10,
                    "7zip-vhdx" => 4096,
                    _ => 512,
                };
                if !size.is_multiple_of(unit) {
                    continue;
                }
                readers.check(folder, reader, &[&image], &expected);
            }
        }
    }
}

#[test]
fn other_readers_follow_the_parents_that_vdisk_records() {
    let Some(readers) = Readers::find() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let mut bytes = contents(&mut Dice(500), 8 << 20);
    fs::write(folder.join("in.raw"), &bytes).unwrap();
    for format in ["vmdk", "vhd", "vhdx"] {
        convert(folder, "in.raw", &format!("base.{format}"), "");
    }
    // Two levels of changes, none of them to zero: libvmdk misreads zeroed grains.
    let dice = &mut Dice(501);
    let mut below = vec!["base"];
    for (level, changes) in [("middle", 20), ("top", 7)] {
        for _ in 0..changes {
            let at = usize::try_from(512 * dice.below(bytes.len() as u64 / 512)).unwrap();
            let len = usize::try_from(512 * (1 + dice.below(300))).unwrap();
            let end = bytes.len().min(at + len);
            bytes[at..end].fill(1 + dice.roll().to_le_bytes()[0] / 2);
        }
        let raw = format!("{level}.raw");
        fs::write(folder.join(&raw), &bytes).unwrap();
        let expected = sha256(&bytes);
        for format in ["vmdk", "vhd", "vhdx"] {
            let named = |name: &str| format!("{name}.{format}");
            let image = named(level);
            make_delta(folder, &named(below[0]), &raw, &image);
            assert_eq!(vdisk_hash(folder, &image), expected, "{image}");
            let chain: Vec<String> = [level].iter().chain(&below).map(|n| named(n)).collect();
            let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
            let names = match format {
                "vmdk" => ["libvmdk", "dissect-vmdk"].as_slice(),
                "vhdx" => &["libvhdi", "dissect-vhdx", "7zip-vhdx"],
                _ => &["libvhdi", "7zip-vhd"],
            };
            for reader in names {
                readers.check(folder, reader, &chain, &expected);
            }
        }
        below.insert(0, level);
    }
}

#[test]
fn extents_of_a_split_disk_meet_where_others_expect_it() {
    let (Some(qemu), Some(readers)) = (Qemu::find(), Readers::find()) else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    // Data across the end of the first extent, and at the odd end of the second.
    let border = 2047_u64 << 20;
    let size = border + (5 << 20) + 512;
    let raw = File::create(folder.join("in.raw")).unwrap();
    raw.set_len(size).unwrap();
    let bytes = contents(&mut Dice(600), 600 << 10);
    raw.write_all_at(&bytes, border - (300 << 10)).unwrap();
    raw.write_all_at(&bytes, size - bytes.len() as u64).unwrap();
    let expected = file_sha256(&folder.join("in.raw"));
    for (subformat, letter) in [("twoGbMaxExtentSparse", 's'), ("twoGbMaxExtentFlat", 'f')] {
        let image = format!("{subformat}.vmdk");
        convert(folder, "in.raw", &image, subformat);
        for (number, exists) in [(1, true), (2, true), (3, false)] {
            let extent = format!("{subformat}-{letter}{number:03}.vmdk");
            assert_eq!(folder.join(&extent).exists(), exists, "{extent}");
        }
        let compare = ["compare", "-q", "-f", "raw", "-F", "vmdk", "in.raw", &image];
        qemu.img(folder, &compare);
        assert_eq!(vdisk_hash(folder, &image), expected);
        readers.check(folder, "libvmdk", &[&image], &expected);
    }
}

#[test]
fn what_a_descriptor_names_is_known_to_qemu() {
    let Some(qemu) = Qemu::find() else { return };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    for (subformat, extent) in [
        ("monolithicFlat", "a disk-flat.vmdk"),
        ("twoGbMaxExtentSparse", "a disk-s001.vmdk"),
        ("twoGbMaxExtentFlat", "a disk-f001.vmdk"),
        ("vmfs", "a disk-flat.vmdk"),
    ] {
        let arguments = ["create", "a disk.vmdk", "-s", "3M", "--force"];
        vdisk(
            folder,
            &[&arguments[..], &["--subformat", subformat]].concat(),
        )
        .good();
        let info = qemu.img(folder, &["info", "--output=json", "a disk.vmdk"]);
        let info: Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["format"], "vmdk", "{info}");
        let data = &info["format-specific"]["data"];
        assert_eq!(data["create-type"], subformat);
        assert_eq!(data["extents"][0]["filename"], extent);
        assert_eq!(info["virtual-size"], 3 << 20);
    }
}

// ---- Large disks -----------------------------------------------------------------------------

#[test]
fn disks_as_large_as_the_formats_allow() {
    let Some(qemu) = Qemu::find() else { return };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let gib = 1_u64 << 30;
    for (from, to, driver, size) in [
        ("from.vmdk", "to.vmdk", "vmdk", 2048 * gib),
        ("from.raw", "to-2040.vmdk", "vmdk", 2040 * gib),
        ("from.raw", "to.vhd", "vpc", 2040 * gib),
        ("large.raw", "to.vhdx", "vhdx", 8192 * gib),
        ("to.vhd", "back.vmdk", "vmdk", 2040 * gib),
    ] {
        let write = format!("write -q -P 0xc7 {} 512", size - 512);
        let read = write.replace("write", "read");
        let length = size.to_string();
        if !folder.join(from).exists() {
            let (_, format) = from.split_once('.').unwrap();
            qemu.img(folder, &["create", "-q", "-f", format, from, &length]);
            qemu.io(folder, format, from, &[write]);
        }
        convert(folder, from, to, "");
        let info = vdisk_json(folder, &["info", to]);
        assert_eq!(info["virtual_size"], size, "{to}");
        qemu.io(folder, driver, to, &[read]);
        let map = joined(&vdisk_json(folder, &["map", to]));
        let data: Vec<_> = map.iter().filter(|m| m.3).collect();
        assert!(data.len() == 1 && data[0].1 == size, "{to}: {map:?}");
    }
    // As qemu writes it.
    let options = "subformat=dynamic,force_size=on";
    let arguments = [
        "-f",
        "raw",
        "-O",
        "vpc",
        "-o",
        options,
        "from.raw",
        "theirs.vhd",
    ];
    qemu.img(folder, &[&["convert"], &arguments[..]].concat());
    convert(folder, "theirs.vhd", "out.raw", "");
    let raw = File::open(folder.join("out.raw")).unwrap();
    assert_eq!(raw.metadata().unwrap().len(), 2040 * gib);
    let mut last = [0; 512];
    raw.read_exact_at(&mut last, 2040 * gib - 512).unwrap();
    assert_eq!(last, [0xc7; 512]);
}
