//! The two headers, of which one is current.
//!
//! A writer changes them in turn, so that one is whole whenever it is interrupted.

use super::disk_structs::{
    CREATOR_LEN, FILE_SIGNATURE, HEADER_LEN, HEADERS_AT, Header, MIB, checksum, parse, sealed,
};
use crate::{Error, ErrorKind, Result, storage::ImageFile, units::FileOffset};
use std::ops::Range;

/// The names of the headers in messages.
pub(crate) const NAMES: [&str; 2] = ["header 1", "header 2"];

/// True if `file` starts as a VHDX file.
pub(crate) fn probe(file: &ImageFile) -> Result<bool> {
    let head = file.read_part("signature", 0, file.size.min(8))?;
    Ok(head == FILE_SIGNATURE)
}

/// The program that made the file, as it calls itself.
pub(crate) fn creator(file: &ImageFile) -> Result<Option<String>> {
    let bytes = file.read_part("file type identifier", 8, CREATOR_LEN)?;
    let units = bytes.as_chunks().0.iter().map(|u| u16::from_le_bytes(*u));
    let name: Vec<u16> = units.take_while(|u| *u != 0).collect();
    Ok((!name.is_empty()).then(|| String::from_utf16_lossy(&name)))
}

/// The header in one place of the two, or what is wrong with it.
pub(crate) fn read(file: &ImageFile, slot: usize) -> Result<Result<Header, &'static str>> {
    let (Some(part), Some(at)) = (NAMES.get(slot), HEADERS_AT.get(slot)) else {
        return Ok(Err("does not exist"));
    };
    let bytes = file.read_part(part, *at, HEADER_LEN as u64)?;
    Ok(match parse::<Header>(&bytes) {
        None => Err("does not start with its signature 'head'"),
        Some(header) if header.checksum != checksum(&bytes) => Err("has a wrong checksum"),
        Some(header) => Ok(header),
    })
}

/// The current header, and which of the two it is.
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) slot: usize,
    pub(crate) warnings: Vec<String>,
}

/// Finds the header that is valid and has the higher sequence number.
pub(crate) fn find(file: &ImageFile) -> Result<Found> {
    let mut warnings = Vec::new();
    let [first, second] = [read(file, 0)?, read(file, 1)?];
    let [one, two] = NAMES;
    let (header, slot) = match (first, second) {
        (Ok(first), Ok(second)) if first.sequence == second.sequence && first != second => {
            let detail = "have one sequence number, but differ: none is current";
            return Err(Error::corrupt("headers", detail));
        }
        (Ok(first), Ok(second)) if first.sequence < second.sequence => (second, 1),
        // Disk2vhd writes both alike.
        (Ok(first), Ok(_)) => (first, 0),
        (Ok(first), Err(why)) => {
            warnings.push(format!("{two} {why}; {one} is used"));
            (first, 0)
        }
        (Err(why), Ok(second)) => {
            warnings.push(format!("{one} {why}; {two} is used"));
            (second, 1)
        }
        (Err(first), Err(second)) => {
            let detail = format!("{one} {first}, {two} {second}");
            return Err(Error::corrupt("headers", detail));
        }
    };
    check(&header, slot)?;
    Ok(Found {
        header,
        slot,
        warnings,
    })
}

/// Two headers, each with the place where it goes.
pub(crate) type Replacing = [(u64, Vec<u8>); 2];

/// The two headers that make `changed` the current one, and where they go, in the order in which
/// they must reach the medium: the one that is current now last. `None` if there is no number left.
pub(crate) fn replacing(found: &Found, changed: &Header) -> Result<Option<Replacing>> {
    let [one, two] = HEADERS_AT;
    let places = match found.slot {
        0 => [two, one],
        _ => [one, two],
    };
    let [first, second] = places;
    let number = found.header.sequence;
    let (Some(next), Some(last)) = (number.checked_add(1), number.checked_add(2)) else {
        return Ok(None);
    };
    let bytes = |sequence| {
        let header = Header {
            sequence,
            ..changed.clone()
        };
        sealed(&header, HEADER_LEN)
    };
    Ok(Some([(first, bytes(next)?), (second, bytes(last)?)]))
}

/// Refuses versions that are not known.
fn check(header: &Header, slot: usize) -> Result<()> {
    let part = NAMES.get(slot).copied().unwrap_or("header");
    if header.version != 1 {
        let detail = format!("has version {}; known is 1", header.version);
        return Err(Error::new(ErrorKind::Unsupported, part, detail));
    }
    if header.log_version != 0 && header.log != [0; 16] {
        let detail = format!("has a log of version {}; known is 0", header.log_version);
        return Err(Error::new(ErrorKind::Unsupported, part, detail));
    }
    Ok(())
}

/// Where the log is: outside the headers, inside the file.
pub(crate) fn log(header: &Header, file: &ImageFile) -> Result<Range<u64>> {
    let wrong = |detail: String| Err(Error::corrupt("log", detail).at(header.log_offset));
    let length = u64::from(header.log_length);
    let aligned = header.log_offset.is_multiple_of(MIB) && length.is_multiple_of(MIB);
    if !aligned || length == 0 || header.log_offset < MIB {
        return wrong(format!(
            "is said to be {length} bytes at {:#x}; both must be whole MiB, and not zero",
            header.log_offset
        ));
    }
    let end = FileOffset(header.log_offset).plus(length)?.0;
    if end > file.size {
        return wrong(format!(
            "reaches past the end of the file at {:#x}",
            file.size
        ));
    }
    Ok(header.log_offset..end)
}
