//! The SHA-256 of a disk's contents.

use super::{CHUNK, pieces, read_range};
use crate::{Disk, Job, Result};
use sha2::{Digest, Sha256};

/// The SHA-256 of all that `disk` reads as, as if it were one raw file.
///
/// ```
/// # use vdisk_core::{Job, ops::hash, testing};
/// let disk = testing::disk(&[(512, None)]);
/// let digest = hash::hex(&hash::digest(&disk, &Job::default())?);
/// // printf '%512s' | tr ' ' '\0' | sha256sum
/// assert_eq!(digest, "076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560");
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn digest(disk: &dyn Disk, job: &Job<'_>) -> Result<[u8; 32]> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    job.watch.phase("hash", disk.size());
    let mut hasher = Sha256::new();
    job.in_order(
        pieces(disk, 512, CHUNK),
        |piece| {
            let bytes = if piece.data {
                read_range(disk, &piece.range)?
            } else {
                Vec::new()
            };
            Ok((piece, bytes))
        },
        |(piece, bytes)| {
            if piece.data {
                hasher.update(&bytes);
                return job.advance(bytes.len() as u64);
            }
            let mut pos = piece.range.start;
            while pos < piece.range.end {
                let len = crate::disk::part_len(ZEROS.len(), pos, piece.range.end);
                hasher.update(ZEROS.get(..len).unwrap_or_default());
                pos += len as u64;
                job.advance(len as u64)?;
            }
            Ok(())
        },
    )?;
    Ok(hasher.finalize().into())
}

/// `digest` in lower-case hexadecimal digits.
///
/// ```
/// assert_eq!(vdisk_core::ops::hash::hex(&[0x0f, 0xa0]), "0fa0");
/// ```
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
