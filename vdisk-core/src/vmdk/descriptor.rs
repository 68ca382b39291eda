//! The descriptor: a small text that names the disk, its extents and its parent.
//!
//! Keys are compared without regard to case, unknown ones are ignored, and their order is free:
//! producers differ in all three. Extent lines are never skipped: an unknown one is an error,
//! because every later extent would move.

use crate::{Error, ErrorKind, Result, limits};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

/// `parentCID` of a disk without a parent.
pub(super) const NO_PARENT: u32 = u32::MAX;

/// A parsed descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) create_type: String,
    pub(super) cid: Option<u32>,
    pub(super) parent_cid: Option<u32>,
    pub(super) parent_hint: Option<OsString>,
    pub(super) extents: Vec<ExtentLine>,
    /// All keys in lower case with their values, in order.
    entries: Vec<(String, String)>,
}

/// One extent line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtentLine {
    pub(super) access: Access,
    pub(super) sectors: u64,
    pub(super) kind: ExtentKind,
    pub(super) name: Option<OsString>,
    /// First sector in the file.
    pub(super) offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExtentKind {
    /// `FLAT` and `VMFS`: the file is the data.
    Flat,
    /// `SPARSE`: the file has a header and grain tables.
    Sparse,
    /// `VMFSSPARSE`: the same in the dialect of ESX.
    VmfsSparse,
    /// `SESPARSE`: with tables of another kind.
    SeSparse,
    /// `ZERO`: no file.
    Zero,
    /// Known to the format, not read here.
    Other(String),
}

/// True if `head`, the start of a file, reads like a descriptor.
pub(super) fn looks_like(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let lower = text
        .get(..text.len().min(4096))
        .unwrap_or_default()
        .to_ascii_lowercase();
    lower.starts_with(b"# disk descriptorfile")
        || ((lower.starts_with(b"#") || lower.starts_with(b"version"))
            && lower.windows(11).any(|w| w == b"createtype="))
}

impl Descriptor {
    /// Parses `bytes`, which may be padded with NULs.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
        let mut descriptor = Self::default();
        for line in text.split(|&b| b == b'\n') {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if let Some(extent) = ExtentLine::parse(line)? {
                if descriptor.extents.len() >= limits::EXTENTS {
                    let detail = format!("has more than {} extents", limits::EXTENTS);
                    return Err(Error::new(ErrorKind::Limit, "descriptor", detail));
                }
                descriptor.extents.push(extent);
            } else if let Some(equals) = line.iter().position(|&b| b == b'=') {
                let (key, value) = line.split_at(equals);
                descriptor.key(key.trim_ascii(), value.get(1..).unwrap_or_default())?;
            }
        }
        Ok(descriptor)
    }

    fn key(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let value = value.trim_ascii();
        let value = value
            .strip_prefix(b"\"")
            .map_or(value, |v| v.strip_suffix(b"\"").unwrap_or(v));
        let key = String::from_utf8_lossy(key).to_ascii_lowercase();
        let text = String::from_utf8_lossy(value).into_owned();
        match key.as_str() {
            "cid" => self.cid = Some(cid("CID", &text)?),
            "parentcid" => self.parent_cid = Some(cid("parentCID", &text)?),
            "createtype" => self.create_type.clone_from(&text),
            "parentfilenamehint" => self.parent_hint = Some(OsStr::from_bytes(value).to_owned()),
            _ => {}
        }
        self.entries.push((key, text));
        Ok(())
    }

    /// The value of `key`, given in lower case.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// True if VirtualBox recorded a parent by its UUID.
    pub(super) fn has_uuid_parent(&self) -> bool {
        self.get("ddb.uuid.parent")
            .is_some_and(|uuid| uuid.chars().any(|c| c.is_ascii_hexdigit() && c != '0'))
    }

    /// The program that wrote the disk, as far as its habits tell.
    pub(super) fn creator(&self) -> Option<String> {
        let creator = if self.get("ddb.uuid.image").is_some() {
            "VirtualBox"
        } else if self
            .get("ddb.comment")
            .is_some_and(|c| c.starts_with("vdisk"))
        {
            "vdisk"
        } else if self.get("ddb.toolsversion") == Some("2147483647") {
            "qemu or open-vmdk"
        } else if self.get("ddb.longcontentid").is_some() {
            "VMware, or a tool that writes as VMware does"
        } else {
            return None;
        };
        Some(creator.to_owned())
    }
}

/// A content ID: hexadecimal, any case, not always padded.
fn cid(key: &'static str, text: &str) -> Result<u32> {
    u32::from_str_radix(text.trim(), 16).map_err(|e| {
        Error::corrupt(
            "descriptor",
            format!("has {key} '{text}', not a 32-bit number"),
        )
        .because(e)
    })
}

impl ExtentLine {
    /// `None` if `line` does not begin with an access word.
    fn parse(line: &[u8]) -> Result<Option<Self>> {
        let (access, rest) = word(line);
        let access = match access.to_ascii_uppercase().as_slice() {
            b"RW" => Access::ReadWrite,
            b"RDONLY" => Access::ReadOnly,
            b"NOACCESS" => Access::None,
            _ => return Ok(None),
        };
        let broken = |what: &str| {
            let line = String::from_utf8_lossy(line);
            Error::corrupt("extent line", format!("'{line}' {what}"))
        };
        let (sectors, rest) = word(rest);
        let sectors = number(sectors).ok_or_else(|| broken("has no size in sectors"))?;
        let (kind, rest) = word(rest);
        let kind = match kind.to_ascii_uppercase().as_slice() {
            b"FLAT" | b"VMFS" => ExtentKind::Flat,
            b"SPARSE" => ExtentKind::Sparse,
            b"VMFSSPARSE" => ExtentKind::VmfsSparse,
            b"SESPARSE" => ExtentKind::SeSparse,
            b"ZERO" => ExtentKind::Zero,
            other @ (b"VMFSRDM" | b"VMFSRAW" | b"VSANSPARSE") => {
                ExtentKind::Other(String::from_utf8_lossy(other).into_owned())
            }
            _ => return Err(broken("has an unknown extent type")),
        };
        if kind == ExtentKind::Zero {
            return Ok(Some(Self {
                access,
                sectors,
                kind,
                name: None,
                offset: 0,
            }));
        }
        let quoted = rest
            .strip_prefix(b"\"")
            .and_then(|r| r.iter().position(|&b| b == b'"').map(|end| r.split_at(end)));
        let Some((name, rest)) = quoted else {
            return Err(broken("names no file in quotes"));
        };
        // What may follow the offset (partition and device identities) concerns devices only.
        let (offset, _) = word(rest.get(1..).unwrap_or_default());
        let offset = match offset {
            b"" => 0,
            digits => number(digits).ok_or_else(|| broken("has an offset that is no number"))?,
        };
        Ok(Some(Self {
            access,
            sectors,
            kind,
            name: Some(OsStr::from_bytes(name).to_owned()),
            offset,
        }))
    }
}

/// The first word of `text`, and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    (first, rest.trim_ascii_start())
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_producers_write() -> Result<()> {
        let text = b"# Disk DescriptorFile\r\nversion=1\r\nCID=1d89ee38 \r\nparentcid = FFFFFFFF\r\n\
            createType=\"twoGbMaxExtentFlat\"\r\n\r\nRW 4192256 FLAT \"my disk-f001.vmdk\" 0\r\n\
            rdonly 63 ZERO\r\nRW 10 SPARSE \"a.vmdk\"\r\nddb.uuid.parent=\"0000-00\"\r\nnonsense\r\n\0\0RW bad";
        let found = Descriptor::parse(text)?;
        assert_eq!(found.create_type, "twoGbMaxExtentFlat");
        assert_eq!(
            (found.cid, found.parent_cid),
            (Some(0x1d89_ee38), Some(NO_PARENT))
        );
        let kinds: Vec<_> = found.extents.iter().map(|e| (&e.kind, e.sectors)).collect();
        assert_eq!(
            kinds,
            [
                (&ExtentKind::Flat, 4_192_256),
                (&ExtentKind::Zero, 63),
                (&ExtentKind::Sparse, 10)
            ]
        );
        assert_eq!(
            found.extents[0].name.as_deref(),
            Some(OsStr::new("my disk-f001.vmdk"))
        );
        assert!(!found.has_uuid_parent());
        Ok(())
    }

    #[test]
    fn never_skips_an_extent_line() {
        for line in [
            "RW 63 FLOPPY \"x\"",
            "RW many FLAT \"x\"",
            "RDONLY 63 FLAT x",
            "RW 1 FLAT \"x\" y",
        ] {
            let error = Descriptor::parse(line.as_bytes()).expect_err(line);
            assert_eq!(
                (error.kind(), error.part()),
                (ErrorKind::Corrupt, "extent line")
            );
        }
    }
}
