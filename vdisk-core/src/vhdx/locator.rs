//! The parent locator: by what names and by which GUID a child remembers its parent.

use super::disk_structs::{Guid, LOCATOR_TYPE, Locator, LocatorEntry, parse, shown, to_bytes};
use crate::{
    Error, ErrorKind, Identity, ParentRef, Result,
    format::ParentSpec,
    limits,
    windows_path::{absolute, relative},
};
use std::ffi::OsString;
use uuid::Uuid;

/// Bytes of a locator before its first entry.
const HEAD_LEN: usize = 20;
/// Bytes of an entry.
const ENTRY_LEN: usize = 12;
const PART: &str = "parent locator";

pub(crate) const LINKAGE: &str = "parent_linkage";
pub(crate) const LINKAGE2: &str = "parent_linkage2";
pub(crate) const RELATIVE: &str = "relative_path";
pub(crate) const VOLUME: &str = "volume_path";
pub(crate) const ABSOLUTE: &str = "absolute_win32_path";
/// The keys that name a file, in the order in which the specification tries them.
const PATHS: [&str; 3] = [RELATIVE, VOLUME, ABSOLUTE];

/// A key of a locator and its value.
pub(crate) type Pair = (String, String);

/// The keys of the locator item `bytes`, with their values.
pub(crate) fn pairs(bytes: &[u8]) -> Result<Vec<Pair>> {
    let wrong = |detail: String| Err(Error::corrupt(PART, detail));
    // The count is checked before memory is taken for that many entries.
    let count = match bytes.get(18..HEAD_LEN) {
        Some([low, high]) => u16::from_le_bytes([*low, *high]),
        _ => return wrong(format!("has only {} bytes", bytes.len())),
    };
    if count > limits::LOCATOR_KEYS {
        let detail = format!(
            "has {count} keys; at most {} are accepted",
            limits::LOCATOR_KEYS
        );
        return Err(Error::new(ErrorKind::Limit, PART, detail));
    }
    let Some(locator) = parse::<Locator>(bytes) else {
        return wrong(format!("has {count} keys, but only {} bytes", bytes.len()));
    };
    if locator.kind != LOCATOR_TYPE {
        let detail = format!("is of type {}, which is not known", shown(locator.kind));
        return Err(Error::new(ErrorKind::Unsupported, PART, detail));
    }
    let mut pairs = Vec::new();
    for (number, entry) in locator.entries.iter().enumerate() {
        let key = text(bytes, entry.key_offset, entry.key_length);
        let value = text(bytes, entry.value_offset, entry.value_length);
        match (key, value) {
            (Some(key), Some(value)) => pairs.push((key, value)),
            _ => return wrong(format!("entry {number} lies outside it or is not Unicode")),
        }
    }
    Ok(pairs)
}

/// Reads the locator item `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Result<ParentRef> {
    let wrong = |detail: String| Err(Error::corrupt(PART, detail));
    let pairs = pairs(bytes)?;
    let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v);
    let Some(linkage) = value(LINKAGE) else {
        return wrong(format!(
            "has no '{LINKAGE}': nothing says who the parent is"
        ));
    };
    let Some(linkage) = guid(linkage) else {
        return wrong(format!("'{LINKAGE}' is '{linkage}', not a GUID"));
    };
    // Windows writes zeros where there is no second.
    let second = value(LINKAGE2)
        .and_then(|v| guid(v))
        .filter(|g| *g != [0; 16]);
    let mut hints: Vec<OsString> = Vec::new();
    for path in PATHS.iter().filter_map(|key| value(key)) {
        if !path.is_empty() {
            hints.push(path.into());
        }
    }
    Ok(ParentRef {
        hints,
        identity: Some(Identity::Linkage(linkage)),
        alternative: second.map(Identity::Linkage),
        format: None,
    })
}

/// The UTF-16 text at `offset`; `None` if it is outside `bytes` or not Unicode.
fn text(bytes: &[u8], offset: u32, length: u16) -> Option<String> {
    let start = usize::try_from(offset).ok()?;
    let units = bytes.get(start..start.checked_add(length.into())?)?;
    let (units, []) = units.as_chunks() else {
        return None;
    };
    let units: Vec<u16> = units.iter().map(|u| u16::from_le_bytes(*u)).collect();
    String::from_utf16(&units).ok()
}

/// A GUID in braces, or without them.
fn guid(text: &str) -> Option<Guid> {
    let bare = text.trim_matches(['{', '}', '\0']);
    Some(Uuid::try_parse(bare).ok()?.to_bytes_le())
}

/// The locator of a child of `parent`.
pub(crate) fn encode(parent: &ParentSpec) -> Result<Vec<u8>> {
    pack(&wanted(parent)?)
}

/// What a child of `parent` records.
fn wanted(parent: &ParentSpec) -> Result<Vec<Pair>> {
    let usage = |detail: &str| Err(Error::new(ErrorKind::Usage, "parent", detail));
    let linkage = match parent.identity {
        Some(Identity::Linkage(guid)) if guid != [0; 16] => guid,
        Some(Identity::Linkage(_)) => {
            return usage("has no data write GUID, by which a VHDX child knows its parent");
        }
        _ => return usage("a VHDX child needs a VHDX parent"),
    };
    let mut pairs = vec![
        (LINKAGE.to_owned(), format!("{{{}}}", shown(linkage))),
        (RELATIVE.to_owned(), relative(&parent.relative)?),
    ];
    if let Some(path) = &parent.absolute {
        pairs.push((ABSOLUTE.to_owned(), absolute(path)?));
    }
    Ok(pairs)
}

/// What a child that records `old` records once it is a child of `parent`.
///
/// Its other paths stay if the relative one does, because then they lead to the parent as before;
/// with another parent they would lead to the old one, and nothing here knows how Windows would
/// call the new one. The second linkage goes: it is for a parent that is being changed.
pub(crate) fn renewed(old: &[Pair], parent: &ParentSpec) -> Result<Vec<Pair>> {
    let mut new = wanted(parent)?;
    let relative = |pairs: &[Pair]| pairs.iter().find(|(k, _)| k == RELATIVE).cloned();
    let same = relative(old) == relative(&new);
    for (key, value) in old {
        let kept = match key.as_str() {
            LINKAGE2 => false,
            key if new.iter().any(|(k, _)| k == key) => false,
            key if PATHS.contains(&key) => same,
            _ => true,
        };
        if kept {
            new.push((key.clone(), value.clone()));
        }
    }
    Ok(new)
}

/// The locator item that holds `pairs`.
pub(crate) fn pack(pairs: &[Pair]) -> Result<Vec<u8>> {
    let mut at = HEAD_LEN.saturating_add(pairs.len().saturating_mul(ENTRY_LEN));
    let mut entries = Vec::new();
    let mut texts = Vec::new();
    for (key, value) in pairs {
        let [(key_offset, key_length), (value_offset, value_length)] = [key, value].map(|text| {
            let text: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let place = (at, text.len());
            at = at.saturating_add(text.len());
            texts.extend(text);
            place
        });
        let (Ok(key_length), Ok(value_length)) = (key_length.try_into(), value_length.try_into())
        else {
            let detail = "has a path that is too long for a parent locator";
            return Err(Error::new(ErrorKind::Usage, "parent", detail));
        };
        entries.push(LocatorEntry {
            key_offset: u32::try_from(key_offset).unwrap_or(u32::MAX),
            value_offset: u32::try_from(value_offset).unwrap_or(u32::MAX),
            key_length,
            value_length,
        });
    }
    let mut bytes = to_bytes(&Locator {
        kind: LOCATOR_TYPE,
        entries,
    })?;
    bytes.extend(texts);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn what_is_encoded_is_decoded() {
        let spec = ParentSpec {
            relative: "../x/base.vhdx".into(),
            absolute: Some(PathBuf::from("/gold/x/base.vhdx")),
            identity: Some(Identity::Linkage(*b"0123456789abcdef")),
            modified: 0,
        };
        let bytes = encode(&spec).unwrap();
        // Type, no reserved bits, three keys.
        assert_eq!(bytes[16..20], [0, 0, 3, 0]);
        let parent = decode(&bytes).unwrap();
        assert_eq!(parent.identity, spec.identity);
        assert_eq!(parent.alternative, None);
        assert_eq!(
            parent.hints,
            [r"..\x\base.vhdx", r"\gold\x\base.vhdx"].map(OsString::from)
        );
    }

    #[test]
    fn guids_are_read_as_windows_writes_them() {
        let bytes = *b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        assert_eq!(guid("{00112233-4455-6677-8899-aabbccddeeff}"), Some(bytes));
        assert_eq!(guid("00112233-4455-6677-8899-AABBCCDDEEFF"), Some(bytes));
        assert_eq!(guid("{}"), None);
    }

    #[test]
    fn parents_that_cannot_be_named_are_refused() {
        let good = ParentSpec {
            relative: "b.vhdx".into(),
            absolute: None,
            identity: Some(Identity::Linkage([1; 16])),
            modified: 0,
        };
        for spec in [
            ParentSpec {
                identity: None,
                ..good.clone()
            },
            ParentSpec {
                identity: Some(Identity::Linkage([0; 16])),
                ..good.clone()
            },
            ParentSpec {
                identity: Some(Identity::Uuid([1; 16])),
                ..good.clone()
            },
            ParentSpec {
                relative: "a\\b.vhdx".into(),
                ..good.clone()
            },
            ParentSpec {
                relative: "x".repeat(40_000).into(),
                ..good
            },
        ] {
            assert_eq!(encode(&spec).unwrap_err().kind(), ErrorKind::Usage);
        }
    }
}
