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
    for (at, text) in [
        (512 + 60, "no intact GUID partition table"), // the disk's GUID in the primary
        (1024 + 200, "no intact GUID partition table"), // an entry
        ((total - 1) * 512 + 60, "no intact backup"),
        ((total - 33) * 512 + 200, "no intact backup"),
    ] {
        let mut damaged = old.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        conflict(fixed(12 * MIB), text);
        // Without the wish, the disk may grow.
        resize(&path, wish(12 * MIB as u64)).unwrap();
    }
    // Hostile headers with right checksums: sizes that would need terabytes, or overflow.
    for (at, value) in [
        (80, u64::MAX),
        (72, u64::MAX),
        (32, u64::MAX / 512),
        (32, 0),
    ] {
        let mut hostile = old.clone();
        put(&mut hostile, 512 + at, &value.to_le_bytes());
        put(&mut hostile, 512 + 16, &[0; 4]);
        let sum = crc(&hostile[512..604]);
        put(&mut hostile, 512 + 16, &sum.to_le_bytes());
        fs::write(&path, hostile).unwrap();
        conflict(fixed(12 * MIB), "intact");
    }
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
