//! The descriptor: a small text that names the disk, its extents and its parent.
//!
//! Keys are compared without regard to case, unknown ones are kept but not understood, and their
//! order is free: producers differ in all three.

use super::extent_line::ExtentLine;
use super::name_encoding::NameEncoding;
use crate::{Error, ErrorKind, Identity, Result, limits};
use std::ffi::OsString;

/// `parentCID` of a disk without a parent.
pub(super) const NO_PARENT: u32 = u32::MAX;

/// Bytes at the start of a file that must read like a descriptor.
const PROBED: usize = 4096;

/// A parsed descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) create_type: String,
    pub(super) cid: Option<u32>,
    pub(super) parent_cid: Option<u32>,
    /// What the parent may be called, the likeliest first.
    pub(super) parent_hints: Vec<OsString>,
    pub(super) extents: Vec<ExtentLine>,
    pub(super) encoding: NameEncoding,
    /// All keys in lower case with their values, in order.
    entries: Vec<(String, String)>,
}

/// True if `head`, the start of a file, reads like a descriptor: by its first line or, since not
/// all writers have that one, because each line is one that a descriptor may have.
pub(super) fn looks_like(head: &[u8]) -> bool {
    let whole = head.len() < PROBED;
    let head = head.get(..PROBED).unwrap_or(head);
    if head
        .trim_ascii_start()
        .to_ascii_lowercase()
        .starts_with(b"# disk descriptorfile")
    {
        return true;
    }
    let text = head.split(|&b| b == 0).next().unwrap_or_default();
    let cut_short = !whole && text.len() == head.len();
    let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
    if cut_short {
        lines.pop(); // only a part of a line
    }
    let (mut has_type, mut has_more) = (false, false);
    for line in lines {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if ExtentLine::begins(line) {
            has_more = true;
            continue;
        }
        let Some((key, _)) = key_and_value(line) else {
            return false;
        };
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if key.is_empty() || !key.iter().all(plain) {
            return false;
        }
        match key.to_ascii_lowercase().as_slice() {
            b"createtype" => has_type = true,
            b"version" | b"cid" | b"parentcid" => has_more = true,
            _ => {}
        }
    }
    has_type && has_more
}

/// The two sides of the first `=`, without blanks around them.
fn key_and_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = line.iter().position(|&b| b == b'=')?;
    let (key, value) = line.split_at(equals);
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    let value = value
        .strip_prefix(b"\"")
        .map_or(value, |v| v.strip_suffix(b"\"").unwrap_or(v));
    Some((key.trim_ascii(), value))
}

impl Descriptor {
    /// Parses `bytes`, which may be padded with NULs.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
        let lines = || {
            text.split(|&b| b == b'\n')
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        };
        // The order is free, so names may come before what they are encoded in.
        let encoding = lines()
            .filter_map(key_and_value)
            .find(|(key, _)| key.eq_ignore_ascii_case(b"encoding"))
            .map(|(_, value)| value);
        let mut descriptor = Self {
            create_type: String::new(),
            cid: None,
            parent_cid: None,
            parent_hints: Vec::new(),
            extents: Vec::new(),
            encoding: NameEncoding::new(encoding),
            entries: Vec::new(),
        };
        for line in lines() {
            if let Some(extent) = ExtentLine::parse(line, descriptor.encoding)? {
                if descriptor.extents.len() >= limits::EXTENTS {
                    let detail = format!("has more than {} extents", limits::EXTENTS);
                    return Err(Error::new(ErrorKind::Limit, "descriptor", detail));
                }
                descriptor.extents.push(extent);
            } else if let Some((key, value)) = key_and_value(line) {
                descriptor.key(key, value)?;
            }
        }
        Ok(descriptor)
    }

    fn key(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let key = String::from_utf8_lossy(key).to_ascii_lowercase();
        let text = self.encoding.text(value);
        match key.as_str() {
            "cid" => self.cid = Some(cid("CID", &text)?),
            "parentcid" => self.parent_cid = Some(cid("parentCID", &text)?),
            "createtype" => self.create_type.clone_from(&text),
            "parentfilenamehint" if !value.is_empty() => {
                self.parent_hints = self.encoding.names(value);
            }
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

    /// The keys that begin with `prefix`, given in lower case, without it, and their values.
    pub(super) fn beginning(&self, prefix: &str) -> Vec<(String, String)> {
        let entries = self.entries.iter();
        entries
            .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
            .collect()
    }

    /// True if the parent is named as VirtualBox does, by its UUID.
    pub(super) fn has_uuid_parent(&self) -> bool {
        matches!(self.uuid("ddb.uuid.parent"), Ok(Some(_)))
    }

    /// The UUID that VirtualBox recorded under `key`; `None` also for one of zeros only.
    pub(super) fn uuid(&self, key: &str) -> Result<Option<Identity>> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        if !text.bytes().any(|b| b.is_ascii_alphanumeric() && b != b'0') {
            return Ok(None);
        }
        let uuid = uuid::Uuid::try_parse(text).map_err(|e| {
            Error::corrupt("descriptor", format!("has {key} '{text}', not a UUID")).because(e)
        })?;
        Ok(Some(Identity::Uuid(*uuid.as_bytes())))
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

#[cfg(test)]
mod tests {
    use super::super::extent_line::ExtentKind;
    use super::*;

    #[test]
    fn reads_what_producers_write() -> Result<()> {
        let text = b"\r\n # Disk DescriptorFile\r\nversion=1\r\nCID=d89ee38 \r\n\tparentcid = FFFFFFFF\r\n\
            #createType=\"x\"\r\ncreateType=\"2GbMaxExtentFlat\"\r\n\r\nRW 4192256 FLAT \"my disk-f001.vmdk\" 0\r\n\
            rdonly 63 ZERO\r\nRW 10 SPARSE \"a.vmdk\"\r\nddb.uuid.parent=\"0000-00\"\r\nnonsense\r\n\0\0RW bad";
        let found = Descriptor::parse(text)?;
        assert_eq!(found.create_type, "2GbMaxExtentFlat");
        assert_eq!(
            (found.cid, found.parent_cid),
            (Some(0xd89_ee38), Some(NO_PARENT))
        );
        let kinds: Vec<_> = found.extents.iter().map(|e| (e.kind, e.sectors)).collect();
        assert_eq!(
            kinds,
            [
                (ExtentKind::Flat, 4_192_256),
                (ExtentKind::Zero, 63),
                (ExtentKind::Sparse, 10)
            ]
        );
        assert_eq!(found.extents[0].names, ["my disk-f001.vmdk"]);
        assert_eq!(found.uuid("ddb.uuid.parent")?, None);
        Ok(())
    }

    #[test]
    fn names_are_decoded_wherever_the_encoding_is_named() -> Result<()> {
        let text = b"RW 1 FLAT \"\x83\x5c.vmdk\" 0\nparentFileNameHint=\"C:\\\x83\x5c\\b.vmdk\"\n\
            ddb.comment = \"\x83\x5c\"\nEncoding = \"Shift_JIS\"\n";
        let found = Descriptor::parse(text)?;
        assert_eq!(found.extents[0].names[0], "\u{30bd}.vmdk");
        assert_eq!(found.extents[0].names.len(), 2);
        assert_eq!(found.parent_hints[0], "C:\\\u{30bd}\\b.vmdk");
        assert_eq!(found.get("ddb.comment"), Some("\u{30bd}"));
        Ok(())
    }

    #[test]
    fn uuids_are_uuids() -> Result<()> {
        let text =
            "ddb.uuid.image=\"93dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6\"\nddb.uuid.parent=\"93\"\n";
        let found = Descriptor::parse(text.as_bytes())?;
        let image = found.uuid("ddb.uuid.image")?.map(|i| i.to_string());
        let expected = "UUID 93dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6";
        assert_eq!(image.as_deref(), Some(expected));
        assert!(found.uuid("ddb.uuid.parent").is_err());
        assert_eq!(found.uuid("ddb.uuid.modification")?, None);
        Ok(())
    }

    #[test]
    fn descriptors_are_told_from_other_texts() {
        let long = format!(
            "# made by a tool\ncreateType=\"vmfs\"\nCID=1\n{}",
            "RW 1 FLAT \"a\" 0\n".repeat(300)
        );
        for text in [
            "# Disk DescriptorFile\nwhatever",
            "\n\n  # disk descriptorfile\r\nversion=1",
            "version=1\ncreatetype=\"vmfs\"",
            "\n# another tool\nCREATETYPE = \"vmfs\"\nCID=1\0\0\0",
            "RW 1 FLAT \"a = b\" 0\n\tddb.x-y = \"\"\ncreateType=\"custom\"",
            &long,
        ] {
            assert!(looks_like(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "version=1",
            "createType=\"vmfs\"",
            "# a script\necho createType=\"vmfs\"\nversion=1",
            "# settings\ncreateType=vmfs\nversion=1\n[section]\n",
            "Dear all,\nversion=1\ncreateType=\"vmfs\"",
            "createType=\"vmfs\"\nRW and not an extent line",
            "\0createType=\"vmfs\"\nversion=1",
            "\x7fELF\x02=\ncreateType=\"vmfs\"\nversion=1",
        ] {
            assert!(!looks_like(text.as_bytes()), "{text}");
        }
    }
}
