//! The partition table of a disk that changes its size, against a builder of its own and sfdisk.

use super::{MIB, options, plan, resize, wish};
use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::Command,
};
use vdisk_core::{Disk, ErrorKind, FileResolver, ops::resize::Wish};

/// CRC-32 as the UEFI specification has it, a bit at a time.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    !crc
}

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes a header at `own`, which names `other` and the entries at `entries`.
fn header(disk: &mut [u8], sector: usize, own: u64, other: u64, entries: u64) {
    let total = (disk.len() / sector) as u64;
    let array = (16_384 / sector) as u64;
    let at = own as usize * sector;
    let entry_bytes = disk[entries as usize * sector..][..16_384].to_vec();
    let mut head = vec![0; 92];
    put(&mut head, 0, b"EFI PART\0\0\x01\0\x5c\0\0\0");
    for (at, value) in [
        (24, own),
        (32, other),
        (40, 2 + array),
        (48, total - array - 2),
        (72, entries),
    ] {
        put(&mut head, at, &value.to_le_bytes());
    }
    put(&mut head, 56, &[0x42; 16]);
    put(&mut head, 80, &128u32.to_le_bytes());
    put(&mut head, 84, &128u32.to_le_bytes());
    put(&mut head, 88, &crc(&entry_bytes).to_le_bytes());
    let sum = crc(&head);
    put(&mut head, 16, &sum.to_le_bytes());
    put(disk, at, &head);
}

/// A disk with one partition of the sectors given, with data in its first and last sector.
fn disk(size: usize, sector: usize, partition: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let mut disk = vec![0; size];
    let total = (size / sector) as u64;
    put(
        &mut disk,
        446,
        &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0],
    );
    put(&mut disk, 458, &(total as u32 - 1).to_le_bytes());
    put(&mut disk, 510, &[0x55, 0xaa]);
    let array = (16_384 / sector) as u64;
    for entries in [2, total - 1 - array] {
        let at = entries as usize * sector;
        // Linux file system data.
        let kind = [
            0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47,
            0x7d, 0xe4,
        ];
        put(&mut disk, at, &kind);
        put(&mut disk, at + 16, &[7; 16]);
        put(&mut disk, at + 32, &partition.start().to_le_bytes());
        put(&mut disk, at + 40, &partition.end().to_le_bytes());
        put(&mut disk, at + 56, &[b'a', 0]);
    }
    header(&mut disk, sector, 1, total - 1, 2);
    header(&mut disk, sector, total - 1, 1, total - 1 - array);
    for lba in [*partition.start(), *partition.end()] {
        put(&mut disk, lba as usize * sector, b"data");
    }
    disk
}

/// sfdisk, if it is here, finds nothing wrong with a raw disk.
fn verified(path: &Path) {
    let Ok(output) = Command::new("sfdisk").arg("--verify").arg(path).output() else {
        // Past the capture of the test harness.
        let _ = writeln!(io::stderr(), "skipped: no sfdisk here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("No errors detected"), "{said}");
    assert!(!said.contains("is not on the end"), "{said}");
}

fn fixed(size: usize) -> Wish {
    Wish {
        fix_gpt: true,
        ..wish(size as u64)
    }
}

#[test]
fn the_backup_moves_to_the_new_end() {
    for (sector, last) in [(512, 10_000), (4096, 1500)] {
        let folder = tempfile::tempdir().unwrap();
        let old = disk(9 * MIB, sector, 2048 * 512 / sector as u64..=last);
        for (number, size) in [12 * MIB, 9 * MIB + 2 * sector, 7 * MIB]
            .into_iter()
            .enumerate()
        {
            let path = folder.path().join(format!("{number}.raw"));
            fs::write(&path, &old).unwrap();
            resize(&path, fixed(size)).unwrap();
            // A disk that was made so: the tables, and the data of the partition.
            let new = disk(size, sector, 2048 * 512 / sector as u64..=last);
            let found = fs::read(&path).unwrap();
            assert!(found == new, "{sector} to {size}");
            if sector == 512 {
                verified(&path);
            }
            // Once more changes nothing.
            resize(&path, fixed(size)).unwrap();
            assert!(fs::read(&path).unwrap() == new);
        }
    }
}

#[test]
fn a_table_in_an_image_with_blocks_moves_in_the_same_change() {
    let folder = tempfile::tempdir().unwrap();
    let old = disk(9 * MIB, 512, 2048..=10_000);
    for (format, subformat) in [
        ("vhd", "dynamic"),
        ("vhd", "fixed"),
        ("vhdx", "dynamic"),
        ("vmdk", "monolithicSparse"),
    ] {
        let format = vdisk_core::format::named(format).unwrap();
        let subformat = vdisk_core::format::subformat(format, Some(subformat)).unwrap();
        let path = folder
            .path()
            .join(format!("{}.{}", subformat.name, format.name()));
        let bytes = vdisk_core::testing::image(format, subformat, &old, None, 1).unwrap();
        fs::write(&path, bytes).unwrap();
        for size in [50 * MIB, 8 * MIB] {
            resize(&path, fixed(size)).unwrap();
            let resolver = FileResolver::default();
            let disk_now = vdisk_core::open(&path, &options(&resolver)).unwrap();
            assert_eq!(disk_now.size(), size as u64);
            let found = vdisk_core::testing::contents(&disk_now).unwrap();
            assert!(
                found == disk(size, 512, 2048..=10_000),
                "{} {size}",
                path.display()
            );
        }
    }
}

#[test]
fn partitions_and_damaged_tables_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.raw");
    let old = disk(9 * MIB, 512, 2048..=16_000);
    let conflict = |wish: Wish, text: &str| {
        let before = fs::read(&path).unwrap();
        let error = resize(&path, wish).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(fs::read(&path).unwrap() == before);
    };
    fs::write(&path, &old).unwrap();
    // The partition ends at sector 16001; the backup needs 33 after it.
    conflict(
        wish(7 * MIB as u64),
        "the last partition ends at byte 8192512",
    );
    conflict(fixed(16_033 * 512), "no room for its backup");
    conflict(
        Wish {
            force: true,
            ..fixed(7 * MIB)
        },
        "no room for its backup",
    );
    resize(&path, fixed(16_034 * 512)).unwrap();
    verified(&path);
    // What a plan knows of it.
    let table = plan(&path, wish(10 * MIB as u64)).unwrap().gpt.unwrap();
    assert_eq!((table.sector_size, table.used), (512, 16_001 * 512));
    assert!(table.has_backup && !table.fits);
    assert!(plan(&path, fixed(10 * MIB)).unwrap().gpt.unwrap().fits);
    let total = old.len() / 512;
    for at in [
        512 + 60,   // the disk's GUID in the primary
        1024 + 200, // an entry
    ] {
        let mut damaged = old.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        conflict(fixed(12 * MIB), "only its backup at the end");
        // The backup is data like any other then.
        conflict(wish(16_034 * 512), "would be cut off, and is not zero");
        // Without the wish, the disk may grow.
        resize(&path, wish(12 * MIB as u64)).unwrap();
        conflict(fixed(12 * MIB), "no intact GUID partition table");
    }
    // A damaged backup is made anew, at the old end and at a new one; what was there stays.
    for at in [(total - 1) * 512 + 60, (total - 33) * 512 + 200] {
        let mut damaged = old.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        resize(&path, fixed(9 * MIB)).unwrap();
        assert!(fs::read(&path).unwrap() == old, "{at}");
        fs::write(&path, &damaged).unwrap();
        resize(&path, fixed(12 * MIB)).unwrap();
        let mut new = disk(12 * MIB, 512, 2048..=16_000);
        put(&mut new, (total - 33) * 512, &damaged[(total - 33) * 512..]);
        assert!(fs::read(&path).unwrap() == new, "{at}");
        verified(&path);
    }
    // Hostile headers with right checksums: sizes that would need terabytes, or overflow.
    for (at, value, told) in [
        (80, u64::MAX, Some("only its backup")),
        (72, u64::MAX, Some("only its backup")),
        // A backup that cannot be is none.
        (32, u64::MAX / 512, None),
        (32, 0, None),
    ] {
        let mut hostile = old.clone();
        put(&mut hostile, 512 + at, &value.to_le_bytes());
        put(&mut hostile, 512 + 16, &[0; 4]);
        let sum = crc(&hostile[512..604]);
        put(&mut hostile, 512 + 16, &sum.to_le_bytes());
        fs::write(&path, hostile).unwrap();
        match told {
            Some(text) => conflict(fixed(12 * MIB), text),
            None => {
                resize(&path, fixed(9 * MIB)).unwrap();
                assert!(fs::read(&path).unwrap() == old, "{at} {value}");
            }
        }
    }
}

#[test]
fn a_backup_is_not_cut_off_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.raw");
    let old = disk(9 * MIB, 512, 2048..=10_000);
    let refused = |size: usize, part: &str| {
        let error = resize(&path, wish(size as u64)).unwrap_err();
        assert_eq!((error.kind(), error.part()), (ErrorKind::Conflict, part));
        assert!(fs::read(&path).unwrap() == old);
    };
    fs::write(&path, &old).unwrap();
    refused(7 * MIB, "backup");
    // There is no room for it.
    refused(10_010 * 512, "cut");
    let force = Wish {
        force: true,
        ..wish(7 * MIB as u64)
    };
    let table = plan(&path, force).unwrap().gpt.unwrap();
    assert!(table.loses_backup && table.movable);
    resize(&path, force).unwrap();
    assert!(fs::read(&path).unwrap() == old[..7 * MIB]);
    // What was lost can be made anew.
    resize(&path, fixed(7 * MIB)).unwrap();
    assert!(fs::read(&path).unwrap() == disk(7 * MIB, 512, 2048..=10_000));
    // A backup that is not in the cut is not lost.
    fs::write(&path, &old).unwrap();
    resize(&path, wish(12 * MIB as u64)).unwrap();
    resize(&path, wish(10 * MIB as u64)).unwrap();
}

#[test]
fn children_stop_a_table_that_moves_and_are_orphaned_by_force() {
    let old = disk(9 * MIB, 512, 2048..=10_000);
    let mut done = 0;
    for (base, child) in super::pairs() {
        if base.0.name() == "raw" {
            continue; // records no identity
        }
        let stage = super::Stage::new(base, child, &[old.clone(), old.clone()]);
        let (path, before) = (stage.path(0), stage.files());
        let resolver = FileResolver::default();
        let identity = || {
            let layer = vdisk_core::open_layer(&path, &options(&resolver)).unwrap();
            layer.facts().identity
        };
        let what = format!("{} on {}", child.1.name, base.1.name);
        let was = identity();
        // Where nothing changes, nobody is in the way.
        resize(&path, fixed(9 * MIB)).unwrap();
        assert!(stage.files() == before, "{what}");
        for size in [12 * MIB, 7 * MIB] {
            let error = resize(&path, fixed(size)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{what}");
            assert!(error.to_string().contains("1."), "{error}");
            assert!(stage.files() == before, "{what}");
        }
        let force = Wish {
            force: true,
            ..fixed(12 * MIB)
        };
        let planned = plan(&path, force).unwrap();
        assert_eq!(planned.children, [stage.path(1)]);
        match planned.apply(
            &options(&resolver),
            &vdisk_core::transaction::Files,
            &vdisk_core::Job::default(),
        ) {
            Err(e) if e.kind() == ErrorKind::Unsupported => continue,
            other => drop(other.unwrap()),
        }
        let renewal = planned.renewal.unwrap();
        assert_eq!((renewal.from, renewal.to), (was, identity()), "{what}");
        assert_ne!(was, identity(), "{what}");
        assert!(stage.read(&path).unwrap() == disk(12 * MIB, 512, 2048..=10_000));
        let error = stage.read(&stage.path(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Reference, "{what}: {error}");
        done += 1;
    }
    assert!(done >= 3, "only {done}");
}

#[test]
fn classic_partitions_are_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.raw");
    let mut old = vec![0; 9 * MIB];
    put(&mut old, 510, &[0x55, 0xaa]);
    // Linux from sector 2048 on, and one that contains others, up to sector 16,384.
    for (at, kind, start, count) in [(446, 0x83, 2048u32, 4096u32), (478, 0x0f, 8192, 8192)] {
        put(&mut old, at + 4, &[kind]);
        put(&mut old, at + 8, &start.to_le_bytes());
        put(&mut old, at + 12, &count.to_le_bytes());
    }
    fs::write(&path, &old).unwrap();
    resize(&path, wish(8 * MIB as u64)).unwrap();
    let error = resize(&path, wish(8 * MIB as u64 - 512)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(
        error.to_string().contains("ends at byte 8388608"),
        "{error}"
    );
    // Both, and two sectors with data.
    put(&mut old, 2 * MIB + 700, b"data");
    put(&mut old, 5 * MIB, b"data");
    fs::write(&path, &old[..8 * MIB]).unwrap();
    let found = plan(&path, wish(2 * MIB as u64)).unwrap();
    let cut: Vec<_> = found
        .cut
        .iter()
        .map(|p| (p.number, p.start, p.end))
        .collect();
    assert_eq!(
        cut,
        [
            (1, MIB as u64, 3 * MIB as u64),
            (3, 4 * MIB as u64, 8 * MIB as u64)
        ]
    );
    assert_eq!(
        (found.data_at, found.data),
        (Some(2 * MIB as u64 + 700), 1024)
    );
    // A boot sector without a table, whose code lies there.
    put(&mut old, 446, b"Press any key to restart");
    fs::write(&path, &old).unwrap();
    resize(&path, wish(6 * MIB as u64)).unwrap();
    assert!(fs::read(&path).unwrap() == old[..6 * MIB]);
}

#[test]
fn a_table_made_by_hand_keeps_its_first_sector() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.raw");
    let mut old = disk(9 * MIB, 512, 2048..=10_000);
    // A second partition in the old table.
    put(
        &mut old,
        462,
        &[0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0],
    );
    fs::write(&path, &old).unwrap();
    resize(&path, fixed(12 * MIB)).unwrap();
    assert_eq!(fs::read(&path).unwrap()[..512], old[..512]);
}
