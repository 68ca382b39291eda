//! The OVF descriptor: which files there are, and which of them are disks.
//!
//! XML of DSP0243, of any version. Elements go by their local names: prefixes differ between
//! writers, and drafts had another namespace. There is no document type, so no entity but the five
//! of XML itself can be expanded.

use crate::{Error, ErrorKind, Result, limits};
use quick_xml::{Reader, XmlVersion, events::BytesStart, events::Event};

/// What a descriptor says of files and disks.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) files: Vec<File>,
    pub(super) disks: Vec<Disk>,
}

/// An entry of `References`.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) id: String,
    pub(super) href: String,
    /// Bytes, as stored: packed, if compressed.
    pub(super) size: Option<u64>,
    pub(super) gzip: bool,
    /// Bytes of each chunk but the last.
    pub(super) chunk: Option<u64>,
}

/// An entry of `DiskSection`.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) id: String,
    /// The `File` that holds it; an empty disk has none.
    pub(super) file: Option<String>,
    /// Bytes that the guest sees, where that can be told.
    pub(super) capacity: Option<u64>,
    /// A URI.
    pub(super) format: String,
    /// The disk whose blocks show through this one.
    pub(super) parent: Option<String>,
}

/// True if `head` may begin an OVF descriptor.
pub(super) fn looks_like(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = text.trim_ascii_start();
    let has = |word: &[u8]| text.windows(word.len()).any(|w| w == word);
    text.starts_with(b"<") && (has(b"<Envelope") || has(b":Envelope"))
}

impl Envelope {
    /// Parses `bytes`, which are at most [`limits::OVF`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = str::from_utf8(bytes).map_err(|e| {
            let detail = "is not UTF-8 text";
            Error::new(ErrorKind::Unsupported, PART, detail).at(e.valid_up_to() as u64)
        })?;
        let mut envelope = Self::default();
        let mut reader = Reader::from_str(text);
        let mut open: Vec<String> = Vec::new();
        let mut seen = false;
        loop {
            let at = reader.buffer_position();
            let event = reader.read_event().map_err(|e| {
                let detail = format!("is not well-formed XML: {e}");
                Error::corrupt(PART, detail).at(reader.error_position())
            })?;
            match event {
                Event::DocType(_) => {
                    let detail = "has a document type declaration, which OVF does not use";
                    return Err(Error::corrupt(PART, detail).at(at));
                }
                Event::Start(element) | Event::Empty(element) if open.is_empty() => {
                    let name = local(&element);
                    if name != "Envelope" || seen {
                        let detail = format!("begins with the element '{name}', not with Envelope");
                        return Err(Error::corrupt(PART, detail).at(at));
                    }
                    seen = true;
                    open.push(name);
                }
                Event::Start(element) => {
                    if open.len() >= limits::OVF_DEPTH {
                        let detail = format!("is nested deeper than {}", limits::OVF_DEPTH);
                        return Err(Error::new(ErrorKind::Limit, PART, detail).at(at));
                    }
                    envelope.element(&element, &open, at)?;
                    open.push(local(&element));
                }
                Event::Empty(element) => envelope.element(&element, &open, at)?,
                Event::End(_) => drop(open.pop()),
                Event::Eof if !open.is_empty() || !seen => {
                    return Err(Error::corrupt(PART, "ends too early").at(at));
                }
                Event::Eof => return Ok(envelope),
                _ => {}
            }
        }
    }

    /// Takes what `element` says, if it is a file or a disk.
    fn element(&mut self, element: &BytesStart<'_>, open: &[String], at: u64) -> Result<()> {
        let inside = open.last().map_or("", String::as_str);
        match local(element).as_str() {
            "File" if inside == "References" => {
                let file = file(element).map_err(|e| e.at(at))?;
                if self.files.iter().any(|f| f.id == file.id) {
                    let detail = format!("has two files with the ID '{}'", file.id);
                    return Err(Error::corrupt(PART, detail).at(at));
                }
                self.files.push(file);
            }
            // The section has other names in drafts and in OVF 2.
            "Disk" => {
                if let Some(disk) = disk(element).map_err(|e| e.at(at))? {
                    self.disks.push(disk);
                }
            }
            _ => {}
        }
        if self.files.len() > limits::OVF_ENTRIES || self.disks.len() > limits::OVF_ENTRIES {
            let detail = format!("names more than {} files or disks", limits::OVF_ENTRIES);
            return Err(Error::new(ErrorKind::Limit, PART, detail));
        }
        Ok(())
    }

    /// The file of that ID.
    pub(super) fn file(&self, id: &str) -> Option<&File> {
        self.files.iter().find(|f| f.id == id)
    }
}

/// The part that errors name.
pub(super) const PART: &str = "OVF descriptor";

fn local(element: &BytesStart<'_>) -> String {
    String::from_utf8_lossy(element.local_name().as_ref().as_ref()).into_owned()
}

/// Gives each attribute's local name and value to `take`.
fn attributes(
    element: &BytesStart<'_>,
    mut take: impl FnMut(&str, String) -> Result<()>,
) -> Result<()> {
    // Looking for attributes that are there twice takes time squared.
    for attribute in element.attributes().with_checks(false) {
        let malformed = |e: &dyn std::fmt::Display| {
            let detail = format!("has an attribute that is not well-formed: {e}");
            Error::corrupt(PART, detail)
        };
        let attribute = attribute.map_err(|e| malformed(&e))?;
        let name = attribute.key.local_name();
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|e| malformed(&e))?;
        take(name.as_ref(), value.into_owned())?;
    }
    Ok(())
}

fn file(element: &BytesStart<'_>) -> Result<File> {
    let mut file = File::default();
    attributes(element, |name, value| {
        let number = || {
            value.trim().parse::<u64>().map_err(|_| {
                Error::corrupt(
                    PART,
                    format!("has a file whose {name} '{value}' is no number"),
                )
            })
        };
        match name {
            "id" => file.id = value,
            "href" => file.href = value,
            "size" => file.size = Some(number()?),
            "chunkSize" => file.chunk = Some(number()?).filter(|n| *n > 0),
            "compression" => match value.as_str() {
                "gzip" => file.gzip = true,
                "" | "identity" => {}
                other => {
                    let detail =
                        format!("has a file with compression '{other}', which is not supported");
                    return Err(Error::new(ErrorKind::Unsupported, PART, detail));
                }
            },
            _ => {}
        }
        Ok(())
    })?;
    if file.id.is_empty() || file.href.is_empty() {
        return Err(Error::corrupt(PART, "has a file without id or href"));
    }
    Ok(file)
}

/// `None` for an element that is a disk of something else.
fn disk(element: &BytesStart<'_>) -> Result<Option<Disk>> {
    let mut disk = Disk::default();
    let (mut amount, mut units) = (None, None);
    attributes(element, |name, value| {
        match name {
            "diskId" => disk.id = value,
            "fileRef" => disk.file = Some(value).filter(|v| !v.is_empty()),
            "parentRef" => disk.parent = Some(value).filter(|v| !v.is_empty()),
            "format" => disk.format = value,
            "capacity" => amount = Some(value),
            "capacityAllocationUnits" => units = Some(value),
            _ => {}
        }
        Ok(())
    })?;
    disk.capacity = amount
        .and_then(|a| a.trim().parse::<u64>().ok()) // or a property, such as ${size}
        .and_then(|a| a.checked_mul(unit(units.as_deref().unwrap_or("byte"))?));
    Ok(Some(disk).filter(|d| !d.id.is_empty()))
}

/// Bytes of a programmatic unit of DSP0004, such as "byte * 2^20", or of the names that drafts of
/// OVF had.
fn unit(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    match text.as_str() {
        "kilobytes" => return Some(1 << 10),
        "megabytes" => return Some(1 << 20),
        "gigabytes" => return Some(1 << 30),
        _ => {}
    }
    text.split('*').try_fold(1u64, |product, factor| {
        let factor = match factor.trim() {
            "byte" | "bytes" | "" => 1,
            other => match other.split_once('^') {
                Some((base, power)) => base
                    .trim()
                    .parse::<u64>()
                    .ok()?
                    .checked_pow(power.trim().parse().ok()?)?,
                None => other.parse().ok()?,
            },
        };
        product.checked_mul(factor)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn units_are_products_of_powers() {
        for (text, bytes) in [
            ("byte", Some(1)),
            ("byte * 2^30", Some(1 << 30)),
            ("byte*2^20", Some(1 << 20)),
            ("byte * 10^9", Some(1_000_000_000)),
            ("byte * 1024 * 1024", Some(1 << 20)),
            ("GigaBytes", Some(1 << 30)),
            ("byte * 2^64", None),
            ("furlong", None),
        ] {
            assert_eq!(unit(text), bytes, "{text}");
        }
    }
}
