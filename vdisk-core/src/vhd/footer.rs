//! Finds the footer, which says what a VHD is, and survives the ways in which it gets lost.
//!
//! A fixed disk has no other mark than its last sector, so that sector is always looked at.

use super::disk_structs::{COOKIE, FIXED, FOOTER_LEN, Footer, Geometry, footer_checksum};
use crate::{
    Error, Result,
    storage::ImageFile,
    units::{SECTOR, Sectors},
};

/// Footers of programs before Virtual PC 2004 lack the last byte.
const OLD_LEN: u64 = 511;

/// A footer, and what was odd about it.
pub(crate) struct Found {
    /// The footer to go by.
    pub(crate) footer: Footer,
    /// Where the footer at the end starts; the file's length if it has none.
    pub(crate) data_end: u64,
    /// Sentences for the user.
    pub(crate) warnings: Vec<String>,
}

/// A footer as read, right or wrong.
struct Candidate {
    footer: Footer,
    at: u64,
    good: bool,
}

/// Says whether a footer's cookie stands where a footer may be.
pub(crate) fn probe(file: &ImageFile) -> Result<bool> {
    let places = [
        file.size.checked_sub(SECTOR),
        file.size.checked_sub(OLD_LEN),
        Some(0),
    ];
    for at in places.into_iter().flatten() {
        let mut cookie = [0; 8];
        if file.size >= OLD_LEN {
            file.read_at(at, &mut cookie)?;
        }
        if cookie == *COOKIE {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds the footer: at the end, else by its copy at the start.
pub(crate) fn find(file: &ImageFile) -> Result<Found> {
    let mut warnings = Vec::new();
    let mut tail = read(file, file.size.checked_sub(SECTOR), SECTOR)?;
    if tail.is_none() {
        tail = read(file, file.size.checked_sub(OLD_LEN), OLD_LEN)?;
        if tail.is_some() {
            warnings.push(
                "the footer has 511 bytes, as programs before Virtual PC 2004 wrote it".to_owned(),
            );
        }
    }
    let data_end = tail.as_ref().map_or(file.size, |t| t.at);
    let footer = match tail {
        Some(tail) if tail.good => tail.footer,
        tail => {
            let copy = read(file, Some(0), SECTOR)?.filter(|head| is_copy(head, tail.as_ref()));
            let (footer, warning) = match (copy, tail) {
                (Some(copy), None) => (
                    copy.footer,
                    "the footer at the end of the file is missing, perhaps cut off; its copy at the start is used",
                ),
                (Some(copy), Some(_)) => (
                    copy.footer,
                    "the footer at the end of the file is damaged; its copy at the start is used",
                ),
                (None, Some(tail)) => (
                    tail.footer,
                    "the checksum of the footer is wrong, and there is no good copy; its fields are used as they are",
                ),
                (None, None) => {
                    let detail = "has no footer at the end, and no good copy of it at the start; it is cut short or no VHD";
                    return Err(Error::corrupt("footer", detail).path(file.path()));
                }
            };
            warnings.push(warning.to_owned());
            footer
        }
    };
    Ok(Found {
        footer,
        data_end,
        warnings,
    })
}

/// Says whether the footer at the start of the file may stand for the one at the end.
///
/// The start of a fixed disk belongs to the guest, which must not get to say what the file is.
fn is_copy(head: &Candidate, tail: Option<&Candidate>) -> bool {
    let fits = match tail {
        None => true,
        Some(tail) => tail.footer.disk_type != FIXED || tail.footer.uuid == head.footer.uuid,
    };
    head.good && head.footer.disk_type != FIXED && fits
}

/// The footer of `len` bytes at `at`, if there is one.
fn read(file: &ImageFile, at: Option<u64>, len: u64) -> Result<Option<Candidate>> {
    let Some(at) = at.filter(|_| file.size >= len) else {
        return Ok(None);
    };
    let mut bytes = [0; FOOTER_LEN];
    let part = file.read_part("footer", at, len)?;
    for (to, from) in bytes.iter_mut().zip(part) {
        *to = from;
    }
    Ok(Footer::parse(&bytes).map(|footer| Candidate {
        good: footer.checksum == footer_checksum(&bytes),
        footer,
        at,
    }))
}

/// The geometry that the specification's appendix computes for a disk of `size` bytes.
///
/// Virtual PC and old versions of qemu take the product of its numbers for the disk's size.
pub(crate) fn geometry(size: u64) -> Geometry {
    const MOST: u32 = 65_535 * 16 * 255;
    let total = u32::try_from(Sectors::holding(size).0).map_or(MOST, |n| n.min(MOST));
    let (mut sectors, mut heads, mut tracks);
    if total >= 65_535 * 16 * 63 {
        (sectors, heads, tracks) = (255, 16, total / 255);
    } else {
        tracks = total / 17;
        (sectors, heads) = (17, tracks.div_ceil(1024).max(4));
        if heads > 16 || tracks >= heads.saturating_mul(1024) {
            (sectors, heads, tracks) = (31, 16, total / 31);
        }
        if tracks >= heads.saturating_mul(1024) {
            (sectors, heads, tracks) = (63, 16, total / 63);
        }
    }
    Geometry {
        cylinders: tracks
            .checked_div(heads)
            .and_then(|c| u16::try_from(c).ok())
            .unwrap_or(u16::MAX),
        heads: u8::try_from(heads).unwrap_or(16),
        sectors,
    }
}

impl Geometry {
    /// The bytes that cylinders, heads and sectors multiply to.
    pub(crate) fn bytes(self) -> u64 {
        [u64::from(self.heads), u64::from(self.sectors), SECTOR]
            .into_iter()
            .fold(u64::from(self.cylinders), u64::saturating_mul)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chs(size: u64) -> (u16, u8, u8) {
        let g = geometry(size);
        (g.cylinders, g.heads, g.sectors)
    }

    #[test]
    fn geometry_is_that_of_other_programs() {
        // Footers written by Windows 10 (4 MiB, 10 MiB, 512 MiB) and Virtual PC (127 GiB).
        assert_eq!(chs(4 << 20), (120, 4, 17));
        assert_eq!(chs(10 << 20), (301, 4, 17));
        assert_eq!(chs(512 << 20), (1040, 16, 63));
        assert_eq!(geometry(136_365_211_648).bytes(), 136_363_130_880);
        // What the specification's algorithm gives around its own limits.
        assert_eq!(chs(0), (0, 4, 17));
        assert_eq!(chs(65_535 * 16 * 63 * 512), (16_191, 16, 255));
        assert_eq!(chs(2040 << 30), (65_535, 16, 255));
        assert_eq!(chs(u64::MAX), (65_535, 16, 255));
    }

    #[test]
    fn geometry_never_promises_more_than_there_is() {
        for size in (0..1 << 40).step_by(7_654_321 * 512) {
            assert!(geometry(size).bytes() <= size, "{size}");
        }
    }
}
