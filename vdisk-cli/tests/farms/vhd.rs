//! Writes sectors into a dynamic or differencing VHD, which qemu-io cannot do where there is a parent.
//!
//! After "Virtual Hard Disk Image Format Specification" 1.0: numbers are big-endian, the first bit of a
//! bitmap's byte is its highest.

use std::{fs, path::Path};

const SECTOR: usize = 512;

/// Writes `bytes`, whole sectors, at byte `at` of the disk.
pub(crate) fn write(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = fs::read(path).unwrap();
    let footer = file.split_off(file.len() - SECTOR);
    assert_eq!(footer[..8], *b"conectix");
    let header = usize::try_from(u64::from_be_bytes(footer[16..24].try_into().unwrap())).unwrap();
    assert_eq!(file[header..header + 8], *b"cxsparse");
    let table = usize::try_from(u64::from_be_bytes(
        file[header + 16..header + 24].try_into().unwrap(),
    ))
    .unwrap();
    let block_size = number(&file, header + 32);
    let bitmap = (block_size / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
    for (sector, data) in (at / SECTOR..).zip(bytes.chunks_exact(SECTOR)) {
        let (block, within) = (sector * SECTOR / block_size, sector % (block_size / SECTOR));
        let entry = table + 4 * block;
        if number(&file, entry) == 0xffff_ffff {
            let place = u32::try_from(file.len() / SECTOR).unwrap();
            file[entry..entry + 4].copy_from_slice(&place.to_be_bytes());
            file.resize(file.len() + bitmap + block_size, 0);
        }
        let place = number(&file, entry) * SECTOR;
        file[place + within / 8] |= 0x80 >> (within % 8);
        file[place + bitmap + within * SECTOR..][..SECTOR].copy_from_slice(data);
    }
    file.extend(footer);
    fs::write(path, file).unwrap();
}

fn number(file: &[u8], at: usize) -> usize {
    u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize
}
