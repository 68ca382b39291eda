//! Parent locators: the names by which a differencing disk remembers its parent.
//!
//! Every program writes others, so all of them become hints; which file is the parent is decided
//! by its unique ID.

use super::disk_structs::{DynamicHeader, LocatorEntry};
use crate::{
    Error, ErrorKind, Result,
    format::ParentSpec,
    limits,
    storage::ImageFile,
    units::{SECTOR, round_up},
    windows_path::{absolute, relative},
};
use std::{ffi::OsString, ops::Range, os::unix::ffi::OsStringExt, path::Path};

/// Relative path, UTF-16LE.
const RELATIVE: [u8; 4] = *b"W2ru";
/// Absolute path, UTF-16LE.
const ABSOLUTE: [u8; 4] = *b"W2ku";

/// The names of the parent that `header` records, relative ones first.
///
/// A locator that cannot be read is no error, because another may do; it gives a warning.
pub(crate) fn hints(
    file: &ImageFile,
    header: &DynamicHeader,
    warnings: &mut Vec<String>,
) -> Result<Vec<OsString>> {
    let mut names: Vec<OsString> = Vec::new();
    let mut keep = |name: Option<OsString>| {
        if let Some(name) = name.filter(|n| !n.is_empty())
            && !names.contains(&name)
        {
            names.push(name);
        }
    };
    for locator in header.locators.iter().filter(|l| l.names_a_path()) {
        if locator.range(file).is_none() {
            warnings.push(format!(
                "the parent locator {} lies outside the file or is too long, and is not used",
                String::from_utf8_lossy(&locator.code)
            ));
            continue;
        }
        keep(locator.name(file)?);
    }
    keep(parent_name(header));
    names.sort_by_key(is_absolute); // stable
    Ok(names)
}

/// The name in the header; `None` if it is not Unicode.
pub(crate) fn parent_name(header: &DynamicHeader) -> Option<OsString> {
    utf16(header.parent_name.iter().copied())
}

impl LocatorEntry {
    /// True for the codes of names that are understood; the others are unused, or aliases of Mac
    /// OS 9.
    pub(crate) fn names_a_path(&self) -> bool {
        self.decoder().is_some()
    }

    fn decoder(&self) -> Option<fn(Vec<u8>) -> Option<OsString>> {
        match &self.code {
            b"W2ru" | b"W2ku" => Some(utf16le),
            b"Wi2r" | b"Wi2k" => Some(bytes),
            b"MacX" => Some(url),
            _ => None,
        }
    }

    /// Where the name is, if that is inside `file` and not too long.
    pub(crate) fn range(&self, file: &ImageFile) -> Option<Range<u64>> {
        let end = self.data_offset.checked_add(self.data_len.into())?;
        (end <= file.size && self.data_len <= limits::LOCATOR).then_some(self.data_offset..end)
    }

    /// The name, if this has one that can be decoded and lies inside `file`.
    pub(crate) fn name(&self, file: &ImageFile) -> Result<Option<OsString>> {
        let (Some(decode), Some(range)) = (self.decoder(), self.range(file)) else {
            return Ok(None);
        };
        let data = file.read_part("parent locator", range.start, self.data_len.into())?;
        Ok(decode(data).filter(|name| !name.is_empty()))
    }
}

/// Text up to the first NUL; `None` if it is not Unicode.
///
/// XenServer's first driver put a byte order mark before it.
fn utf16(units: impl Iterator<Item = u16>) -> Option<OsString> {
    let mut units: Vec<u16> = units.take_while(|u| *u != 0).collect();
    match units.first() {
        Some(0xfeff) => _ = units.remove(0),
        Some(0xfffe) => {
            units.remove(0);
            units.iter_mut().for_each(|u| *u = u.swap_bytes());
        }
        _ => {}
    }
    String::from_utf16(&units).ok().map(OsString::from)
}

fn utf16le(data: Vec<u8>) -> Option<OsString> {
    utf16(data.as_chunks().0.iter().map(|u| u16::from_le_bytes(*u)))
}

/// A name in an unknown code page, as its bytes are.
fn bytes(mut data: Vec<u8>) -> Option<OsString> {
    data.truncate(data.iter().position(|b| *b == 0).unwrap_or(data.len()));
    Some(OsString::from_vec(data))
}

/// A `file:` URL in UTF-8. XenServer writes `file://./parent.vhd`.
fn url(data: Vec<u8>) -> Option<OsString> {
    let text = bytes(data)?.into_string().ok()?;
    let path = text.strip_prefix("file://")?;
    let path = path.strip_prefix("localhost").unwrap_or(path);
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        plain.push(u8::from_str_radix(digits, 16).ok()?);
    }
    bytes(plain)
}

pub(crate) fn is_absolute(name: &OsString) -> bool {
    let name = name.as_encoded_bytes();
    matches!(name, [b'/' | b'\\', ..] | [_, b':', ..])
}

/// What a new child records of its parent's name.
pub(crate) struct Encoded {
    /// File name, UTF-16, filled up with zeros.
    pub(crate) name: [u16; 256],
    /// Locators and their data, each data in whole sectors from `at` on.
    pub(crate) entries: [LocatorEntry; 8],
    /// The data of all locators.
    pub(crate) data: Vec<u8>,
}

/// Encodes the paths of `parent`; the data will be at file offset `at`.
///
/// Paths that Windows cannot express as they are get refused rather than altered.
pub(crate) fn encode(parent: &ParentSpec, at: u64) -> Result<Encoded> {
    let mut name = [0; 256];
    let file_name = parent.relative.file_name().and_then(|n| n.to_str());
    let file_name = file_name.ok_or_else(|| usage(&parent.relative, "has no Unicode file name"))?;
    let units: Vec<u16> = file_name.encode_utf16().collect();
    // One unit stays zero, for readers that look for the end.
    if units.len() >= name.len() {
        return Err(usage(&parent.relative, "has a name of more than 255 units"));
    }
    for (to, from) in name.iter_mut().zip(units) {
        *to = from;
    }
    let mut paths = vec![(RELATIVE, relative(&parent.relative)?)];
    if let Some(path) = &parent.absolute {
        paths.push((ABSOLUTE, absolute(path)?));
    }
    let mut entries = [LocatorEntry::default(); 8];
    let mut data = Vec::new();
    for (entry, (code, path)) in entries.iter_mut().zip(paths) {
        let text: Vec<u8> = path.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if len > limits::LOCATOR {
            return Err(usage(Path::new(&path), "is too long for a parent locator"));
        }
        let start = data.len() as u64;
        data.extend(text);
        data.resize(
            crate::units::buffer_len(round_up(data.len() as u64, SECTOR))?,
            0,
        );
        let space = (data.len() as u64).saturating_sub(start);
        *entry = LocatorEntry {
            code,
            // In bytes, as Windows does against the letter of the specification.
            data_space: u32::try_from(space).unwrap_or(u32::MAX),
            data_len: len,
            data_offset: at.saturating_add(start),
        };
    }
    Ok(Encoded {
        name,
        entries,
        data,
    })
}

fn usage(path: &Path, what: &str) -> Error {
    let detail = format!(
        "'{}' {what}; a VHD child cannot record it as its parent",
        path.display()
    );
    Error::new(ErrorKind::Usage, "parent", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

    fn le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn spec(relative: &str, absolute: Option<&str>) -> ParentSpec {
        ParentSpec {
            relative: relative.into(),
            absolute: absolute.map(PathBuf::from),
            identity: None,
            modified: 0,
        }
    }

    #[test]
    fn all_kinds_of_names_are_decoded() {
        assert_eq!(utf16le(le(".\\bäse.vhd\0x")).unwrap(), ".\\bäse.vhd");
        assert_eq!(utf16le(vec![0, 0xd8]), None); // half a surrogate pair
        assert_eq!(utf16le(le("\u{feff}a.vhd")).unwrap(), "a.vhd");
        assert_eq!(
            utf16le(b"\xfe\xff\0a\0.\0v\0h\0d".to_vec()).unwrap(),
            "a.vhd"
        );
        assert_eq!(bytes(b"a\\b.vhd\0\0".to_vec()).unwrap(), "a\\b.vhd");
        assert_eq!(url(b"file://./a%20b.vhd".to_vec()).unwrap(), "./a b.vhd");
        assert_eq!(url(b"file://localhost/a".to_vec()).unwrap(), "/a");
        assert_eq!(url(b"file:///a%2".to_vec()), None);
        assert_eq!(url(b"http://a".to_vec()), None);
    }

    #[test]
    fn absolute_names_are_told_from_relative_ones() {
        for name in ["/a", "\\a", "\\\\server\\a", "C:\\a"] {
            assert!(is_absolute(&name.into()), "{name}");
        }
        for name in ["a", ".\\a", "..\\a", "./a", ""] {
            assert!(!is_absolute(&name.into()), "{name}");
        }
    }

    #[test]
    fn paths_are_encoded_as_windows_does() {
        let encoded = encode(&spec("../x/base.vhd", Some("/gold/x/base.vhd")), 1536).unwrap();
        let [first, second, third, ..] = encoded.entries;
        assert_eq!(first.code, RELATIVE);
        assert_eq!((first.data_offset, first.data_space), (1536, 512));
        assert_eq!(
            &encoded.data[..first.data_len as usize],
            le("..\\x\\base.vhd")
        );
        assert_eq!((second.code, second.data_offset), (ABSOLUTE, 2048));
        assert_eq!(encoded.data.len(), 1024);
        assert_eq!(
            &encoded.data[512..][..second.data_len as usize],
            le("\\gold\\x\\base.vhd")
        );
        assert_eq!(third, LocatorEntry::default());
        assert_eq!(
            &encoded.name[..9],
            "base.vhd\0".encode_utf16().collect::<Vec<_>>()
        );
        assert_eq!(relative(Path::new("base.vhd")).unwrap(), ".\\base.vhd");
        assert_eq!(absolute(Path::new("C:\\a\\b")).unwrap(), "C:\\a\\b");
    }

    #[test]
    fn paths_that_would_be_altered_are_refused() {
        let not_unicode = PathBuf::from(OsStr::from_bytes(b"\xff.vhd"));
        for spec in [
            spec("a\\b.vhd", None),
            spec("/a/b.vhd", None),
            spec("..", None),
            spec(&"n".repeat(256), None),
            spec("b.vhd", Some("/a\\b/b.vhd")),
            ParentSpec {
                relative: not_unicode,
                ..spec("", None)
            },
        ] {
            let error = encode(&spec, 1536).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Usage, "{spec:?}");
        }
    }
}
