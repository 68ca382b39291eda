//! Files that were damaged, cut, or made to do harm.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails"
)]

use sha2::{Digest, Sha256};
use std::{fs, path::Path};
use vdisk_core::{
    ErrorKind, Result,
    ops::dedup::{Block, Content, Fingerprint},
};
use vdisk_fingerprints::{Folder, Header, Reader, Writer};

/// Bytes of the seal, which lies before the footer: eight, and two digests.
const SEAL: usize = 72;

/// A file with some hundred rows, and its rows.
fn sample() -> (Vec<u8>, Vec<Block>) {
    let mut rows = Vec::new();
    let mut pos = 0;
    for n in 0u64..150 {
        let (len, content) = match n % 7 {
            3 => (n * 4096, Content::Zero),
            _ => {
                let print = Fingerprint::of(&n.to_le_bytes());
                let deflated = n.is_multiple_of(2).then_some(n as u32);
                (4096, Content::Data { print, deflated })
            }
        };
        rows.push(Block { pos, len, content });
        pos += len;
    }
    let header = Header {
        path: "/vm/a.raw".to_owned(),
        size: pos,
        unit: 4096,
        ..Header::default()
    };
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::open(place.path(), true).unwrap();
    let mut writer = Writer::create(&folder, header.named()).unwrap();
    writer.add(&rows).unwrap();
    let (_, path) = writer.finish(&mut folder).unwrap();
    (fs::read(path).unwrap(), rows)
}

fn read(path: &Path) -> Result<Vec<Block>> {
    let mut reader = Reader::open(path)?;
    let mut found = Vec::new();
    reader.blocks(&mut |blocks| {
        found.extend_from_slice(blocks);
        Ok(())
    })?;
    Ok(found)
}

/// Writes a new file: to write over one of the same name takes longer.
fn rewrite(path: &Path, bytes: impl AsRef<[u8]>) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

/// Where the footer begins: its length is in four bytes before the last four.
fn footer(file: &[u8]) -> usize {
    let end = file.len() - 8;
    let len = u32::from_le_bytes(file[end..end + 4].try_into().unwrap());
    end - len as usize
}

/// Makes the seal right again.
fn seal(file: &mut [u8]) {
    let footer = footer(file);
    let digests = [&file[..footer - SEAL], &file[footer..]].map(Sha256::digest);
    file[footer - 64..footer - 32].copy_from_slice(&digests[0]);
    file[footer - 32..footer].copy_from_slice(&digests[1]);
}

#[test]
fn every_changed_byte_is_found() {
    let (file, _) = sample();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.parquet");
    for at in 0..file.len() {
        let mut bytes = file.clone();
        bytes[at] ^= [1, 0x80, 0xff][at % 3];
        rewrite(&path, &bytes);
        let error = read(&path).expect_err("damage goes unnoticed");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
        let text = error.to_string();
        assert!(text.starts_with(&path.display().to_string()), "{text}");
        // Before a row is decoded.
        assert!(!text.contains("row"), "byte {at}: {text}");
    }
}

#[test]
fn every_cut_is_found() {
    let (file, rows) = sample();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.parquet");
    for len in 0..file.len() {
        rewrite(&path, &file[..len]);
        let error = read(&path).expect_err("a cut goes unnoticed");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{len} bytes: {error}");
    }
    rewrite(&path, &file);
    assert!(read(&path).unwrap() == rows);
}

/// The seal keeps nobody from writing what is wrong. Whatever that is, reading ends, and a row that
/// comes out is one that could be.
#[test]
fn nothing_behind_a_right_seal_can_do_harm() {
    let (file, rows) = sample();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.parquet");
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    let (mut errors, mut read_well) = (0, 0);
    for n in 0..file.len() * 2 {
        let mut bytes = file.clone();
        // Each byte in turn, then several at once.
        let flips = if n < file.len() { 1 } else { 1 + next() % 4 };
        let footer = footer(&file);
        for flip in 0..flips {
            let at = if flip == 0 {
                n % file.len()
            } else {
                next() % file.len()
            };
            if !(footer - SEAL..footer).contains(&at) && at < file.len() - 8 {
                bytes[at] ^= [1, 2, 0x10, 0x80, 0xff, 0x7f][next() % 6];
            }
        }
        seal(&mut bytes);
        rewrite(&path, &bytes);
        match read(&path) {
            Err(error) => {
                errors += 1;
                assert_eq!(error.kind(), ErrorKind::Corrupt, "change {n}: {error}");
            }
            Ok(found) => {
                read_well += 1;
                // The header says how many, and of how many bytes; it is a part of what was changed.
                assert!(found.len() <= rows.len() * 2, "change {n}");
                assert!(found.windows(2).all(|w| w[0].pos + w[0].len <= w[1].pos));
            }
        }
    }
    // Changed hashes are read as they are.
    assert!(errors > 500 && read_well > 500, "{errors} {read_well}");
}

#[test]
fn parquet_of_others_is_no_fingerprint() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.parquet");
    let (file, _) = sample();
    let footer = footer(&file);
    // Without the seal.
    rewrite(&path, [&file[..footer - SEAL], &file[footer..]].concat());
    let error = read(&path).unwrap_err();
    assert!(
        error.to_string().contains("not written by vdisk"),
        "{error}"
    );
    // Of another version.
    let at = file
        .windows(11)
        .position(|w| w == b"\"schema\":1,")
        .unwrap();
    let mut other = file.clone();
    other[at + 9] = b'2';
    seal(&mut other);
    rewrite(&path, &other);
    let error = read(&path).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    // A folder lists it with the others.
    let folder = Folder::open(place.path(), false).unwrap();
    let listed: Vec<_> = folder.headers().map(|(p, h)| (p.to_owned(), h)).collect();
    assert!(matches!(&listed[..], [(p, Err(_))] if *p == path));
}
