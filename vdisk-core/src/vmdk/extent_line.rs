//! One line of a descriptor: an extent, how it may be used, and the file that holds it.
//!
//! Such a line is never skipped: an unknown one is an error, because every later extent would move.

use super::name_encoding::NameEncoding;
use crate::{Error, Result};
use std::ffi::OsString;

/// One extent line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtentLine {
    pub(super) access: Access,
    pub(super) sectors: u64,
    pub(super) kind: ExtentKind,
    /// The kind in the descriptor's own word, in upper case.
    pub(super) word: String,
    /// What its file may be called, the likeliest first; none for `ZERO`.
    pub(super) names: Vec<OsString>,
    /// First sector in the file.
    pub(super) offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
    /// Not even to be read.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtentKind {
    /// `FLAT` and `VMFS`: the file is the data.
    Flat,
    /// `SPARSE`: the file has a header and grain tables.
    Sparse,
    /// `VMFSSPARSE`: the same in the dialect of ESX.
    VmfsSparse,
    /// `SESPARSE`: with tables of another kind.
    SeSparse,
    /// `VMFSRDM` and `VMFSRAW`: a device is the data.
    Device,
    /// `ZERO`: no file.
    Zero,
    /// Known to the format, not read here.
    Unread,
}

impl Access {
    fn parse(word: &[u8]) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_slice() {
            b"RW" => Self::ReadWrite,
            b"RDONLY" => Self::ReadOnly,
            b"NOACCESS" => Self::None,
            _ => return None,
        })
    }

    /// The descriptor's word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::ReadWrite => "RW",
            Self::ReadOnly => "RDONLY",
            Self::None => "NOACCESS",
        }
    }
}

impl ExtentKind {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "FLAT" | "VMFS" => Self::Flat,
            "SPARSE" => Self::Sparse,
            "VMFSSPARSE" => Self::VmfsSparse,
            "SESPARSE" => Self::SeSparse,
            "VMFSRDM" | "VMFSRAW" => Self::Device,
            "ZERO" => Self::Zero,
            "VSANSPARSE" => Self::Unread,
            _ => return None,
        })
    }
}

impl ExtentLine {
    /// `None` if `line` does not begin with an access word.
    pub(super) fn parse(line: &[u8], encoding: NameEncoding) -> Result<Option<Self>> {
        let (access, rest) = word(line);
        let Some(access) = Access::parse(access) else {
            return Ok(None);
        };
        let broken = |what: &str| {
            let detail = format!("'{}' {what}", encoding.text(line));
            Error::corrupt("extent line", detail)
        };
        let (sectors, rest) = word(rest);
        let sectors = number(sectors).ok_or_else(|| broken("has no size in sectors"))?;
        let (kind_word, rest) = word(rest);
        let kind_word = String::from_utf8_lossy(kind_word).to_ascii_uppercase();
        let kind = ExtentKind::parse(&kind_word)
            .ok_or_else(|| broken(&format!("is of type {kind_word}, which is not known")))?;
        let mut extent = Self {
            access,
            sectors,
            kind,
            word: kind_word,
            names: Vec::new(),
            offset: 0,
        };
        if kind == ExtentKind::Zero {
            return Ok(Some(extent));
        }
        let quoted = rest
            .strip_prefix(b"\"")
            .and_then(|r| r.iter().position(|&b| b == b'"').map(|end| r.split_at(end)));
        let Some((name, rest)) = quoted else {
            return Err(broken("names no file in quotes"));
        };
        extent.names = encoding.names(name);
        // After the offset, a device may have its partition's UUID and its own name.
        let (offset, _) = word(rest.get(1..).unwrap_or_default());
        if !offset.is_empty() {
            extent.offset =
                number(offset).ok_or_else(|| broken("has an offset that is no number"))?;
        }
        Ok(Some(extent))
    }

    /// True if `line` begins as an extent line does: for probing.
    pub(super) fn begins(line: &[u8]) -> bool {
        let (access, rest) = word(line);
        let (sectors, rest) = word(rest);
        let (kind, _) = word(rest);
        let kind = String::from_utf8_lossy(kind).to_ascii_uppercase();
        Access::parse(access).is_some()
            && number(sectors).is_some()
            && ExtentKind::parse(&kind).is_some()
    }

    /// The line for people: access, type, size in sectors and file.
    pub(super) fn shown(&self) -> String {
        let name = self.names.first().map(|n| format!(" {}", n.display()));
        let (access, word) = (self.access.word(), &self.word);
        format!(
            "{access} {} {word}{}",
            self.sectors,
            name.unwrap_or_default()
        )
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
    use crate::ErrorKind;

    fn parse(line: &[u8]) -> Result<Option<ExtentLine>> {
        ExtentLine::parse(line, NameEncoding::new(None))
    }

    #[test]
    fn an_extent_line_is_an_extent_or_an_error() {
        for line in [
            "RW 63 FLOPPY \"x\"",
            "RW 63",
            "RW many FLAT \"x\"",
            "RW -1 FLAT \"x\"",
            "RW 18446744073709551616 FLAT \"x\"",
            "RDONLY 63 FLAT x",
            "RDONLY 63 FLAT \"x",
            "noaccess 63 SPARSE",
            "RW 1 FLAT \"x\" y",
        ] {
            let error = parse(line.as_bytes()).expect_err(line);
            assert_eq!(
                (error.kind(), error.part()),
                (ErrorKind::Corrupt, "extent line")
            );
            assert!(error.to_string().contains(line), "{error}");
        }
        for line in ["RWX 1 FLAT \"x\"", "CID=1", "ddb.x = \"RW 1 FLAT\"", ""] {
            assert_eq!(parse(line.as_bytes()).expect(line), None);
        }
    }

    #[test]
    fn lines_have_three_to_seven_words() {
        for (line, shown, offset) in [
            ("NOACCESS 0 ZERO ", "NOACCESS 0 ZERO", 0),
            ("rdonly\t63  zero", "RDONLY 63 ZERO", 0),
            ("RW 8 VMFS \"a b-flat.vmdk\"", "RW 8 VMFS a b-flat.vmdk", 0),
            ("RW 8 FLAT \"x\" 63", "RW 8 FLAT x", 63),
            (
                "RW 8 FLAT \"\\\\.\\PhysicalDrive0\" 63 9a2f-uuid",
                "RW 8 FLAT \\\\.\\PhysicalDrive0",
                63,
            ),
            (
                "RW 8 FLAT \"/dev/sda\" 63 partitionUUID 9a2f \"IDE\\DiskX\"",
                "RW 8 FLAT /dev/sda",
                63,
            ),
        ] {
            let extent = parse(line.as_bytes()).expect(line).expect(line);
            assert_eq!((extent.shown().as_str(), extent.offset), (shown, offset));
            assert!(ExtentLine::begins(line.as_bytes()), "{line}");
        }
    }
}
