//! Farms that are cut from the starts of partitions.

use super::{
    MIB,
    run::{Folder, noise},
};

/// A disk of `sectors` sectors with one partition from sector `start` on, which holds `contents`.
fn disk(start: u32, sectors: u32, contents: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; sectors as usize * 512];
    let at = start as usize * 512;
    let len = contents.len().min(disk.len() - at);
    disk[at..at + len].copy_from_slice(&contents[..len]);
    let mut entry = [0, 1, 1, 0, 7, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    entry[8..12].copy_from_slice(&start.to_le_bytes());
    entry[12..].copy_from_slice(&(sectors - start).to_le_bytes());
    disk[446..462].copy_from_slice(&entry);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn partitions_at_odd_places_are_cut_where_they_start() {
    let folder = Folder::new();
    let contents = noise(1, 4 * MIB);
    folder.write("old.raw", &disk(63, 8192 + 63, &contents));
    folder.write("new.raw", &disk(2048, 8192 + 2048, &contents));
    folder.run("convert old.raw -o base.vmdk").code(0);
    for clone in ["one", "two"] {
        folder
            .run(&format!("clone base.vmdk -o {clone}.vmdk"))
            .code(0);
    }
    let report = folder
        .run("dedup-report . --alignment --json")
        .code(0)
        .json();
    let total = &report["total"];
    // The old disk and its copies share all, but nothing with the new one.
    let size = 4 * MIB as u64;
    assert!(
        total["unique_bytes"].as_u64().unwrap() > 2 * size - 8192,
        "{total}"
    );
    let shifted = &report["alignment"];
    assert_eq!(shifted["images"], 4);
    let unique = shifted["unique_bytes"].as_u64().unwrap();
    // The contents once, and the two first sectors, each in a block of its own.
    assert_eq!(unique, size + 2 * 4096, "{shifted}");
    // Fingerprints cannot be cut anew.
    folder.run("dedup-report --from . --alignment").code(2);
}

#[test]
fn nothing_is_cut_anew_where_all_is_in_place() {
    let folder = Folder::new();
    folder.write("new.raw", &disk(2048, 8192, &noise(1, MIB)));
    let report = folder
        .run("dedup-report . --alignment --json")
        .code(0)
        .json();
    assert_eq!(report["alignment"]["images"], 0);
    assert_eq!(
        report["alignment"]["unique_bytes"],
        report["total"]["unique_bytes"]
    );
}
