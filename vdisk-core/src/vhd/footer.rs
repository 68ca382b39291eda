//! Finds the footer, which says what a VHD is, and survives the ways in which it gets lost.
//!
//! A fixed disk has no other mark than its last sector, so that sector is always looked at.

use super::disk_structs::{COOKIE, FIXED, FOOTER_LEN, Footer, POISON, footer_checksum};
use crate::{
    Error, ErrorKind, Result, format, limits,
    storage::ImageFile,
    units::{SECTOR, round_down},
};

/// Footers of programs before Virtual PC 2004 lack the last byte.
pub(crate) const OLD_LEN: u64 = 511;

/// A footer, and what was odd about it.
pub(crate) struct Found {
    /// The footer to go by.
    pub(crate) footer: Footer,
    /// Where the footer at the end starts; the file's length if it has none. Data end here.
    pub(crate) data_end: u64,
    /// Sentences for the user.
    pub(crate) warnings: Vec<String>,
}

/// A footer as read, right or wrong.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) footer: Footer,
    pub(crate) at: u64,
    /// 512, or 511 in old files.
    pub(crate) len: u64,
    /// Its checksum is right.
    pub(crate) good: bool,
    pub(crate) bytes: [u8; FOOTER_LEN],
}

/// The places where footers may be, as they are.
pub(crate) struct Footers {
    /// At the end, or near it with other bytes behind.
    pub(crate) tail: Option<Candidate>,
    /// At the start. Of a fixed disk, what the guest put there.
    pub(crate) copy: Option<Candidate>,
    /// Bytes of the file after the footer.
    pub(crate) after: u64,
}

/// Says whether a footer's cookie stands where a footer may be.
///
/// In a file that is named as a VHD, a footer with other bytes behind it is also looked for.
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
        if cookie == *COOKIE || cookie == *POISON {
            return Ok(true);
        }
    }
    let named = format::by_extension(file.path()).is_some_and(|f| f.name() == "vhd");
    Ok(named && before_the_end(file, None)?.is_some())
}

/// Finds the footer: at the end, else by its copy at the start.
pub(crate) fn find(file: &ImageFile) -> Result<Found> {
    Footers::read(file)?.found(file)
}

impl Footers {
    /// Looks at the end of the file, then at its start, then before its end.
    pub(crate) fn read(file: &ImageFile) -> Result<Self> {
        let mut tail = Candidate::read(file, file.size.checked_sub(SECTOR), SECTOR)?;
        if tail.is_none() {
            tail = Candidate::read(file, file.size.checked_sub(OLD_LEN), OLD_LEN)?;
        }
        let copy = match &tail {
            Some(tail) if tail.at == 0 => None,
            _ => Candidate::read(file, Some(0), SECTOR)?,
        };
        if tail.is_none() {
            tail = before_the_end(file, copy.as_ref())?;
        }
        let end = tail.as_ref().map(|t| t.at.saturating_add(t.len));
        Ok(Self {
            after: end.map_or(0, |end| file.size.saturating_sub(end)),
            tail,
            copy,
        })
    }

    /// The footer to go by, and what to say about it.
    pub(crate) fn found(&self, file: &ImageFile) -> Result<Found> {
        let mut warnings = Vec::new();
        if self.tail.as_ref().is_some_and(|t| t.len == OLD_LEN) {
            warnings.push(
                "the footer has 511 bytes, as programs before Virtual PC 2004 wrote it".to_owned(),
            );
        }
        if self.after > 0 {
            warnings.push(format!(
                "the footer is not at the end of the file: {} bytes follow it",
                self.after
            ));
        }
        let copy = self
            .copy
            .as_ref()
            .filter(|c| is_copy(c, self.tail.as_ref()));
        let (footer, warning) = match (&self.tail, copy) {
            (Some(tail), _) if tail.good => (&tail.footer, self.oddity_of_copy(tail)),
            (None, Some(copy)) => (
                &copy.footer,
                Some(
                    "the footer at the end of the file is missing, perhaps cut off; its copy at the start is used",
                ),
            ),
            (Some(_), Some(copy)) => (
                &copy.footer,
                Some("the footer at the end of the file is damaged; its copy at the start is used"),
            ),
            (Some(tail), None) if self.strange_copy(tail) => {
                let detail = "has a wrong checksum and another unique ID than the footer at the start of the file, which may be of a disk inside this one; which is right cannot be told";
                return Err(Error::corrupt("footer", detail)
                    .at(tail.at)
                    .path(file.path()));
            }
            (Some(tail), None) => (
                &tail.footer,
                Some(
                    "the checksum of the footer is wrong, and there is no good copy; its fields are used as they are",
                ),
            ),
            (None, None) => {
                let detail = "is not at the end of the file, nor is a good copy of it at the start: the file is cut short, or no VHD";
                return Err(Error::corrupt("footer", detail).path(file.path()));
            }
        };
        warnings.extend(warning.map(str::to_owned));
        Ok(Found {
            footer: footer.clone(),
            data_end: match &self.tail {
                // Blocks may have been added behind a footer that was to be written anew.
                Some(tail) if self.after == 0 || tail.footer.disk_type == FIXED => tail.at,
                _ => file.size,
            },
            warnings,
        })
    }

    /// True if the start of the file is a good footer of another disk than the damaged `tail`, whose
    /// type, if it can be believed, says that it has a copy there.
    fn strange_copy(&self, tail: &Candidate) -> bool {
        let copy = self.copy.as_ref().filter(|c| c.good);
        tail.footer.disk_type != FIXED
            && copy.is_some_and(|c| c.footer.disk_type != FIXED && !same_disk(c, tail))
    }

    /// What to say of the copy at the start, if the footer at the end, `tail`, is good.
    fn oddity_of_copy(&self, tail: &Candidate) -> Option<&'static str> {
        match &self.copy {
            _ if tail.footer.disk_type == FIXED => None,
            None => Some("the copy of the footer at the start of the file is missing"),
            Some(copy) if !copy.good => {
                Some("the copy of the footer at the start of the file is damaged")
            }
            Some(copy) if differ(tail, copy) => {
                Some("the footer and its copy at the start of the file differ; the footer is used")
            }
            Some(_) => None,
        }
    }
}

/// Says whether two good footers differ in what matters.
///
/// XenServer's first drivers marked images as hidden in the copy alone.
pub(crate) fn differ(tail: &Candidate, copy: &Candidate) -> bool {
    let plain = |c: &Candidate| {
        let mut bytes = c.bytes;
        if c.footer.is_early_xen() {
            bytes[HIDDEN] = 0;
            bytes[CHECKSUM].fill(0);
        }
        bytes
    };
    plain(tail) != plain(copy)
}

/// Says whether the footer at the start of the file may stand for the one at the end.
///
/// The start of a fixed disk belongs to the guest, which must not get to say what the file is: if
/// the type at the end is what was damaged, only the unique ID tells whose footer the start is.
fn is_copy(head: &Candidate, tail: Option<&Candidate>) -> bool {
    let fits = tail.is_none_or(|tail| same_disk(head, tail));
    head.good && head.footer.disk_type != FIXED && fits
}

/// Says whether two footers name the same disk.
fn same_disk(one: &Candidate, other: &Candidate) -> bool {
    one.footer.uuid == other.footer.uuid
}

/// A good footer near the end of the file, of a file that was filled up to a round size.
///
/// Guests choose what their disks hold, so it must fit its place: the footer of a fixed disk comes
/// right after the disk, and any other is the same as its `copy`.
fn before_the_end(file: &ImageFile, copy: Option<&Candidate>) -> Result<Option<Candidate>> {
    let start = round_down(file.size.saturating_sub(limits::AFTER_FOOTER), SECTOR);
    let bytes = file.read_part("footer", start, file.size.saturating_sub(start))?;
    for (index, sector) in bytes.as_chunks().0.iter().enumerate().rev() {
        let at = start.saturating_add((index as u64).saturating_mul(SECTOR));
        if let Some(found) = Candidate::parse(*sector, at, SECTOR).filter(|c| c.good && at > 0) {
            let fits = match found.footer.disk_type {
                FIXED => found.footer.current_size == at,
                _ => copy.is_some_and(|c| c.bytes == found.bytes),
            };
            if fits {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

const CHECKSUM: std::ops::Range<usize> = 64..68;
/// Where XenServer marks images that only its coalescing may touch.
const HIDDEN: usize = 85;

impl Candidate {
    /// The footer of `len` bytes at `at`, if there is one.
    fn read(file: &ImageFile, at: Option<u64>, len: u64) -> Result<Option<Self>> {
        let Some(at) = at.filter(|_| file.size >= len) else {
            return Ok(None);
        };
        let mut bytes = [0; FOOTER_LEN];
        let part = file.read_part("footer", at, len)?;
        for (to, from) in bytes.iter_mut().zip(part) {
            *to = from;
        }
        if bytes.starts_with(POISON) && at > 0 {
            let detail = "was disabled by XenServer, which was interrupted while it changed the image; only its journal can tell how to go on";
            return Err(Error::new(ErrorKind::Unsupported, "footer", detail).at(at));
        }
        Ok(Self::parse(bytes, at, len))
    }

    fn parse(bytes: [u8; FOOTER_LEN], at: u64, len: u64) -> Option<Self> {
        let footer = Footer::parse(&bytes)?;
        let mut good = footer.checksum == footer_checksum(&bytes);
        if !good && footer.is_early_xen() {
            // They set the mark without a new checksum.
            let mut bytes = bytes;
            bytes[HIDDEN] = 0;
            good = footer.checksum == footer_checksum(&bytes);
        }
        Some(Self {
            footer,
            at,
            len,
            good,
            bytes,
        })
    }
}

impl Footer {
    /// Written by XenServer.
    pub(crate) fn is_xen(&self) -> bool {
        self.creator_app.starts_with(b"tap")
    }

    /// Written by XenServer's first driver, whose bitmaps have another bit order.
    pub(crate) fn is_first_xen(&self) -> bool {
        self.is_xen() && self.creator_version == 0x0000_0001
    }

    /// Written by one of its first two drivers, which were careless with the mark "hidden".
    fn is_early_xen(&self) -> bool {
        self.is_first_xen() || self.is_xen() && self.creator_version == 0x0001_0001
    }
}
