//! From a file to its format, by signature; raw only by name.
//!
//! What is nothing that can be read is told apart here as well, so that errors can say what it is.

use crate::{
    Error, ErrorKind, FORMATS, Format, InFile, Result, format, raw, storage::ImageFile, vmdk,
};
use std::path::Path;

/// File name endings that mean raw and nothing else. `.img` is used for every format.
const SURELY_RAW: [&str; 2] = ["raw", "dd"];

/// Finds the format of `file`. Raw only where the name says so and nothing else matches.
///
/// A guest can write any signature into its disk. So a file that is raw by its name and something
/// else by its contents, or a fixed VHD that begins like a VMDK, is refused until somebody names
/// the format.
pub fn probe(file: &ImageFile) -> Result<&'static dyn Format> {
    let mut matching: Vec<&'static dyn Format> = Vec::new();
    for format in FORMATS.iter().copied() {
        if format.probe(file).in_file(file.path())? {
            matching.push(format);
        }
    }
    if let [one, another, ..] = matching.as_slice() {
        let detail = format!(
            "has the signatures of {} and of {}; name the input format",
            one.name(),
            another.name()
        );
        return Err(Error::new(ErrorKind::WrongFormat, "format", detail).path(file.path()));
    }
    let ending = file.path().extension().map(|e| e.to_ascii_lowercase());
    let surely_raw = SURELY_RAW
        .iter()
        .any(|r| ending.as_deref() == Some((*r).as_ref()));
    let raw_by_name = raw_by_name(file.path());
    match (matching.first(), foreign(file)?) {
        (Some(format), _) if !surely_raw => Ok(*format),
        (Some(format), _) => Err(two_faced(file, format.name())),
        (None, Some(name)) if raw_by_name => Err(two_faced(file, name)),
        (None, None) if raw_by_name => Ok(&raw::Raw),
        (None, other) => Err(unknown(file, other)),
    }
}

/// True if the ending of the name stands for a raw disk.
pub(crate) fn raw_by_name(path: &Path) -> bool {
    format::by_extension(path).is_some_and(|f| f.name() == raw::Raw.name())
}

/// True if `file` is named as the part of an image, whose descriptor lies beside it.
pub(crate) fn is_part(file: &ImageFile) -> bool {
    vmdk::descriptor_beside(file).is_some()
}

fn two_faced(file: &ImageFile, contents: &str) -> Error {
    let detail =
        format!("is raw by its name and {contents} by its contents; name the input format");
    Error::new(ErrorKind::WrongFormat, "format", detail).path(file.path())
}

/// What the first bytes of the file say, if that is something known that cannot be read.
fn foreign(file: &ImageFile) -> Result<Option<&'static str>> {
    let head = file.read_part("signature", 0, file.size.min(16))?;
    let found = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic));
    Ok(found.map(|(_, name)| *name))
}

/// Says why no format fits.
fn unknown(file: &ImageFile, foreign: Option<&str>) -> Error {
    if let Some(name) = foreign {
        let ending = file.path().extension();
        let name = match ending.is_some_and(|e| e.eq_ignore_ascii_case("box")) {
            true => "a Vagrant box, a compressed archive with an image inside",
            false => name,
        };
        let detail = format!("is {name}, which is not supported");
        return Error::new(ErrorKind::Unsupported, "format", detail).path(file.path());
    }
    let by_name = format::by_extension(file.path()).map(|f| f.name());
    if by_name == Some("vmdk")
        && let Some(name) = vmdk::descriptor_beside(file)
    {
        let detail = format!(
            "has no VMDK signature: it looks like the data of a flat disk; open its descriptor '{}'",
            name.display()
        );
        return Error::new(ErrorKind::WrongFormat, "format", detail).path(file.path());
    }
    let detail = match by_name {
        _ if file.size == 0 => "is empty",
        Some("vmdk") => {
            "has no VMDK signature or descriptor (if it is the data of a flat disk, open its descriptor)"
        }
        Some("vhd") => "has no VHD footer: it is cut short, or something else",
        Some("vhdx") => {
            "does not start as a VHDX file: its first bytes are lost, or it is something else"
        }
        Some("ova") => {
            "has neither a tar header nor an OVF envelope: it is damaged, or something else"
        }
        _ => {
            "is none of the image formats that can be read (if it is a raw disk, name the input format)"
        }
    };
    Error::new(ErrorKind::WrongFormat, "format", detail).path(file.path())
}

/// First bytes of formats that are told apart only to refuse them by name.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"\xfd7zXZ\0", "xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"PK\x03\x04", "a ZIP archive"),
];
