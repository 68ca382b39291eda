//! Deltas: what turns one disk into another, as one small file that knows both by their SHA-256.
//!
//! A delta is a compressed VMDK child. Its descriptor carries sizes and digests of both disks, so that
//! it is never laid over a disk that it was not made for, and so that the result is known to be right.
//! The disks themselves may be of any formats.

use super::{child, hash};
use crate::{Chain, Disk, Error, ErrorKind, Identity, Ids, Job, Layer, Result, format::ParentSpec};
use std::{fmt, path::Path, sync::Arc};

/// One of the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its size in bytes.
    pub size: u64,
    /// What it reads as.
    pub sha256: [u8; 32],
}

impl Side {
    /// Reads all of `disk`.
    pub fn of(disk: &dyn Disk, job: &Job<'_>) -> Result<Self> {
        Ok(Self {
            size: disk.size(),
            sha256: hash::digest(disk, job)?,
        })
    }
}

/// What a delta leads from, and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The disk that it is laid over.
    pub base: Side,
    /// The disk that results.
    pub result: Side,
}

impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, result) = (&self.base, &self.result);
        write!(
            f,
            "from SHA-256 {} ({} bytes) to {} ({} bytes)",
            hash::hex(&base.sha256),
            base.size,
            hash::hex(&result.sha256),
            result.size
        )
    }
}

/// The version of the notes.
const VERSION: &str = "1";

impl Delta {
    /// The delta from `a` to `b`; reads all of both.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for sectors of 4096 bytes, which a VMDK cannot say.
    pub fn between(a: &dyn Disk, b: &dyn Disk, job: &Job<'_>) -> Result<Self> {
        if a.sector_size() != 512 || b.sector_size() != 512 {
            let detail = "is a VMDK, whose sectors have 512 bytes, and one of the disks has others";
            return Err(Error::new(ErrorKind::Unsupported, "delta", detail));
        }
        Ok(Self {
            base: Side::of(a, job)?,
            result: Side::of(b, job)?,
        })
    }

    /// What the descriptor says of it: the [`notes`](crate::format::Options::notes) of the image.
    pub fn notes(&self) -> Vec<(String, String)> {
        let note = |key: &str, value: String| (key.to_owned(), value);
        vec![
            note("delta", VERSION.to_owned()),
            note("base-size", self.base.size.to_string()),
            note("base-sha256", hash::hex(&self.base.sha256)),
            note("size", self.result.size.to_string()),
            note("sha256", hash::hex(&self.result.sha256)),
        ]
    }

    /// How the delta at `path` names its base `a`: a VMDK as any child does, so that the delta can
    /// also be used as one; another disk by a CID that follows from its contents.
    pub fn parent(&self, a: &Chain, path: &Path) -> Result<ParentSpec> {
        let top = a.top();
        if child::check(a, &crate::vmdk::Vmdk).is_ok() {
            return Ok(child::place(a, path, false)?.spec);
        }
        let ids = Ids::derived(&self.base.sha256, "base of a delta", 0);
        Ok(ParentSpec {
            relative: top.path().file_name().unwrap_or_default().into(),
            absolute: None,
            identity: Some(Identity::Cid(ids.cid)),
            modified: 0,
        })
    }

    /// What `layer` says of itself.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it is no delta.
    pub fn of(layer: &Layer) -> Result<Self> {
        let notes = &layer.facts().notes;
        let find = |key: &str| {
            notes
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        match find("delta") {
            Some(VERSION) => {}
            Some(other) => {
                let detail = format!("is of version '{other}', which is not known");
                return Err(Error::new(ErrorKind::Unsupported, "delta", detail).path(layer.path()));
            }
            None => {
                let detail = "is no delta: it does not say from which disk it leads to which";
                return Err(Error::new(ErrorKind::Usage, "delta", detail).path(layer.path()));
            }
        }
        let side = |size: &str, sha256: &str| {
            let size = find(size)?.parse().ok()?;
            let sha256 = digest(find(sha256)?)?;
            Some(Side { size, sha256 })
        };
        let sides = (side("base-size", "base-sha256"), side("size", "sha256"));
        match sides {
            (Some(base), Some(result)) if result.size == layer.size() => Ok(Self { base, result }),
            _ => {
                let detail = "says of its disks what cannot be";
                Err(Error::corrupt("delta", detail).path(layer.path()))
            }
        }
    }

    /// Checks that `a` is the disk that the delta was made from; reads all of it.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) that names both digests.
    pub fn check_base(&self, a: &Chain, job: &Job<'_>) -> Result<()> {
        let conflict = |detail: String| {
            let path = a.top().path();
            Err(Error::new(ErrorKind::Conflict, "wrong base", detail).path(path))
        };
        if a.size() != self.base.size {
            let (has, wants) = (a.size(), self.base.size);
            return conflict(format!(
                "has {has} bytes, and the delta was made from a disk of {wants} bytes with SHA-256 {}",
                hash::hex(&self.base.sha256)
            ));
        }
        let found = hash::digest(a, job)?;
        if found != self.base.sha256 {
            return conflict(format!(
                "reads as SHA-256 {}, and the delta was made from {}",
                hash::hex(&found),
                hash::hex(&self.base.sha256)
            ));
        }
        Ok(())
    }

    /// Checks that `disk` is the one that the delta leads to; reads all of it.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt), for the delta must be damaged: the base was right.
    pub fn check_result(&self, disk: &dyn Disk, job: &Job<'_>) -> Result<()> {
        let found = hash::digest(disk, job)?;
        if disk.size() != self.result.size || found != self.result.sha256 {
            let detail = format!(
                "leads to SHA-256 {}, and should to {}; it is damaged",
                hash::hex(&found),
                hash::hex(&self.result.sha256)
            );
            return Err(Error::corrupt("delta", detail));
        }
        Ok(())
    }
}

/// The disk that the delta `layer` makes of `base`, whatever parent it records.
pub fn onto(layer: Layer, base: &Chain) -> Result<Chain> {
    let layers = std::iter::once(Arc::new(layer)).chain(base.layers().iter().cloned());
    Chain::new(layers.collect())
}

/// Reads what [`hash::hex`] wrote.
fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|c| char::from(c).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_as_they_are_written() {
        let all: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 8 + 7).unwrap_or(0));
        assert_eq!(digest(&hash::hex(&all)), Some(all));
        assert_eq!(digest(""), None);
        assert_eq!(digest(&"0".repeat(63)), None);
        assert_eq!(digest(&"0".repeat(66)), None);
        assert_eq!(digest(&"+1".repeat(32)), None);
        assert_eq!(digest(&"ä".repeat(32)), None);
    }
}
