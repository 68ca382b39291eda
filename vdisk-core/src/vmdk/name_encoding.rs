//! File names in a descriptor, in whatever encoding it names, as this system may have them.
//!
//! VMware writes names in the encoding of the host. Copied to another system the file may have
//! been renamed on the way, or not: both names are tried.

use encoding_rs::{BIG5, Encoding, GBK, SHIFT_JIS, UTF_8};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

/// Code pages that go by a number, and have no other name in the list of encodings of the web.
/// Source: what libvmdk found in descriptors.
const CODE_PAGES: [(&str, &Encoding); 3] = [("936", GBK), ("950", BIG5), ("932", SHIFT_JIS)];

/// The encoding of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameEncoding(Option<&'static Encoding>);

impl NameEncoding {
    /// What the key `encoding` says; nothing means UTF-8.
    pub(super) fn new(label: Option<&[u8]>) -> Self {
        let Some(label) = label else {
            return Self(Some(UTF_8));
        };
        let lower = label.to_ascii_lowercase();
        let text = String::from_utf8_lossy(&lower);
        let number = text
            .strip_prefix("windows-")
            .or_else(|| text.strip_prefix("cp"))
            .or_else(|| text.strip_prefix("ms"));
        let page = CODE_PAGES
            .iter()
            .find(|(page, _)| number == Some(*page))
            .map(|(_, encoding)| *encoding);
        // In an encoding that does not contain ASCII the descriptor itself could not be read.
        let found = page
            .or_else(|| Encoding::for_label(&lower))
            .filter(|e| e.is_ascii_compatible());
        Self(found)
    }

    /// False if the descriptor names an encoding that nobody knows: bytes are kept as they are.
    pub(super) fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// What a file called `bytes` may be called here: in UTF-8, and as written.
    pub(super) fn names(self, bytes: &[u8]) -> Vec<OsString> {
        let written = OsStr::from_bytes(bytes).to_owned();
        match self.decode(bytes) {
            Some(text) if text.as_bytes() != bytes => vec![text.into(), written],
            _ => vec![written],
        }
    }

    /// `text` as the descriptor holds it; `None` if its encoding cannot.
    pub(super) fn encode(self, text: &str) -> Option<Vec<u8>> {
        match self.0 {
            Some(encoding) => {
                let (bytes, _, lossy) = encoding.encode(text);
                (!lossy).then(|| bytes.into_owned())
            }
            None => text.is_ascii().then(|| text.as_bytes().to_vec()),
        }
    }

    /// `bytes` for people to read.
    pub(super) fn text(self, bytes: &[u8]) -> String {
        self.decode(bytes)
            .unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned())
    }

    /// `None` if the bytes are not in this encoding.
    fn decode(self, bytes: &[u8]) -> Option<String> {
        self.0?
            .decode_without_bom_handling_and_without_replacement(bytes)
            .map(|text| text.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same name in each encoding, from the tables of Python 3.11.
    #[test]
    fn names_are_decoded_as_their_descriptor_says() {
        for (label, bytes, name) in [
            ("UTF-8", "d\u{e9}j\u{e0}".as_bytes(), "d\u{e9}j\u{e0}"),
            (
                "windows-1252",
                b"d\xe9j\xe0 \x80",
                "d\u{e9}j\u{e0} \u{20ac}",
            ),
            ("CP1252", b"d\xe9j\xe0 \x80", "d\u{e9}j\u{e0} \u{20ac}"),
            ("GBK", b"\xb4\xc5\xc5\xcc", "\u{78c1}\u{76d8}"),
            ("windows-936", b"\xb4\xc5\xc5\xcc", "\u{78c1}\u{76d8}"),
            ("cp936", b"\xb4\xc5\xc5\xcc", "\u{78c1}\u{76d8}"),
            ("Big5", b"\xba\xcf\xba\xd0", "\u{78c1}\u{789f}"),
            ("cp950", b"\xba\xcf\xba\xd0", "\u{78c1}\u{789f}"),
            // The second byte of the first letter is a backslash.
            (
                "Shift_JIS",
                b"\x83\x5c\x83t\x83g",
                "\u{30bd}\u{30d5}\u{30c8}",
            ),
            (
                "windows-932",
                b"\x83\x5c\x83t\x83g",
                "\u{30bd}\u{30d5}\u{30c8}",
            ),
            ("MS932", b"\x83\x5c\x83t\x83g", "\u{30bd}\u{30d5}\u{30c8}"),
        ] {
            let encoding = NameEncoding::new(Some(label.as_bytes()));
            assert!(encoding.is_known(), "{label}");
            let names = encoding.names(bytes);
            assert_eq!(
                names.first().map(|n| n.to_str()),
                Some(Some(name)),
                "{label}"
            );
            assert!(names.iter().any(|n| n.as_bytes() == bytes), "{label}");
            assert_eq!(encoding.text(bytes), name);
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_kept() {
        for label in ["klingon", "UTF-16LE", "ISO-2022-JP", ""] {
            let encoding = NameEncoding::new(Some(label.as_bytes()));
            assert!(!encoding.is_known(), "{label}");
            assert_eq!(
                encoding.names(b"\xb4\xc5"),
                [OsStr::from_bytes(b"\xb4\xc5")]
            );
        }
        let unnamed = NameEncoding::new(None);
        assert!(unnamed.is_known());
        assert_eq!(unnamed.names(b"\xb4\xc5"), [OsStr::from_bytes(b"\xb4\xc5")]);
        assert_eq!(unnamed.names(b"a.vmdk"), ["a.vmdk"]);
    }
}
