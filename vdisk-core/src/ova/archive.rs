//! The members of a tar archive, as parts of the archive file.
//!
//! Only headers are read. Names are keys and never paths: nothing is unpacked, so `../` and
//! absolute names lead nowhere. Read: ustar, GNU long names, sizes in base 256, and the path and
//! size of pax headers.

use crate::{
    Error, ErrorKind, Result, limits,
    storage::ImageFile,
    units::{SECTOR, round_up},
};
use std::collections::HashMap;
use tar::{EntryType, Header};

/// Bytes of a header, and the unit of everything in an archive.
const BLOCK: u64 = SECTOR;

/// A file in the archive.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where its bytes begin in the archive file.
    pub(super) at: u64,
    /// Bytes.
    pub(super) size: u64,
}

/// The table of contents of an archive.
pub(super) struct Archive {
    pub(super) file: ImageFile,
    members: Vec<Member>,
    /// Place in `members` by name; `None` if several have that name.
    by_name: HashMap<String, Option<usize>>,
    /// Where the two empty blocks at the end begin, if they are there.
    pub(super) end: Option<u64>,
}

/// What the headers before a member say of it.
#[derive(Default)]
struct Ahead {
    name: Option<String>,
    size: Option<u64>,
}

/// True if `block` is a tar header with the ustar or GNU signature and a right checksum.
pub(super) fn is_header(block: &[u8]) -> bool {
    block.len() as u64 == BLOCK && block.get(257..262) == Some(b"ustar") && sum_is_right(block)
}

/// The checksum counts its own field as blanks.
fn sum_is_right(block: &[u8]) -> bool {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| match at {
            148..156 => u32::from(b' '),
            _ => u32::from(*byte),
        })
        .fold(0, u32::wrapping_add);
    Header::from_byte_slice(block)
        .cksum()
        .is_ok_and(|recorded| recorded == sum)
}

impl Archive {
    /// Reads the headers of `file`.
    pub(super) fn open(file: ImageFile) -> Result<Self> {
        let mut archive = Self {
            file,
            members: Vec::new(),
            by_name: HashMap::new(),
            end: None,
        };
        archive.read_headers()?;
        Ok(archive)
    }

    fn read_headers(&mut self) -> Result<()> {
        let mut ahead = Ahead::default();
        let mut at = 0u64;
        let mut headers = 0usize;
        // The two empty blocks at the end are missing from archives of careless writers.
        while at < self.file.size {
            headers = headers.saturating_add(1);
            let part = format!("tar header {headers}");
            if headers > limits::ARCHIVE_MEMBERS {
                let detail = format!("has more than {}", limits::ARCHIVE_MEMBERS);
                return Err(Error::new(ErrorKind::Limit, "tar headers", detail));
            }
            let block = self.file.read_part("tar header", at, BLOCK)?;
            if block.iter().all(|b| *b == 0) {
                self.end = Some(at);
                return Ok(());
            }
            if !sum_is_right(&block) {
                let detail = "does not match its checksum: the archive is damaged, or is none";
                return Err(Error::corrupt(part, detail).at(at));
            }
            let header = Header::from_byte_slice(&block);
            let kind = header.entry_type();
            let recorded = header
                .entry_size()
                .map_err(|_| Error::corrupt(part.clone(), "has no readable size").at(at))?;
            let own = matches!(kind, EntryType::Regular | EntryType::Continuous);
            let size = if own {
                ahead.size.unwrap_or(recorded)
            } else {
                recorded
            };
            let data = at.saturating_add(BLOCK);
            let end = data.checked_add(size).filter(|end| *end <= self.file.size);
            let Some(end) = end else {
                let detail = format!(
                    "is of {size} bytes, which end after the archive, which has {}; it is cut short",
                    self.file.size
                );
                return Err(Error::corrupt(part, detail).at(at));
            };
            match kind {
                EntryType::GNULongName => {
                    ahead.name = Some(text(&self.extension(data, size)?));
                }
                EntryType::XHeader => self.pax(&part, data, size, &mut ahead)?,
                _ => {
                    let ahead = std::mem::take(&mut ahead);
                    if own {
                        let name = ahead.name.unwrap_or_else(|| text(&header.path_bytes()));
                        self.add(name, data, size);
                    }
                    // Folders, links and the like hold no bytes that could be a disk's.
                }
            }
            at = round_up(end, BLOCK);
        }
        Ok(())
    }

    /// What an extension header holds: names and a few numbers.
    fn extension(&self, at: u64, size: u64) -> Result<Vec<u8>> {
        if size > limits::ARCHIVE_EXTENSION {
            let detail = format!("has {size} bytes, more than {}", limits::ARCHIVE_EXTENSION);
            return Err(Error::new(ErrorKind::Limit, "tar extension header", detail).at(at));
        }
        self.file.read_part("tar extension header", at, size)
    }

    /// Takes path and size from a pax header: records of "LENGTH KEY=VALUE\n".
    fn pax(&self, part: &str, at: u64, size: u64, ahead: &mut Ahead) -> Result<()> {
        let bytes = self.extension(at, size)?;
        let damaged = || Error::corrupt(part.to_owned(), "has a damaged pax record").at(at);
        let mut rest = bytes.as_slice();
        while rest.first().is_some_and(|b| *b != 0) {
            let blank = rest.iter().position(|b| *b == b' ').ok_or_else(damaged)?;
            let len: usize = rest
                .get(..blank)
                .and_then(|digits| str::from_utf8(digits).ok()?.parse().ok())
                .ok_or_else(damaged)?;
            let record = rest
                .get(blank.saturating_add(1)..len)
                .and_then(|r| r.strip_suffix(b"\n"))
                .ok_or_else(damaged)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(damaged)?;
            let (key, value) = record.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            match key {
                b"path" => ahead.name = Some(text(value)),
                b"size" => {
                    let size = str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                    ahead.size = Some(size.ok_or_else(damaged)?);
                }
                key if key.starts_with(b"GNU.sparse") => {
                    let detail = "is stored as a sparse file, which is not supported";
                    return Err(Error::new(ErrorKind::Unsupported, part.to_owned(), detail).at(at));
                }
                _ => {}
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    fn add(&mut self, name: String, at: u64, size: u64) {
        let name = name.trim_start_matches("./").to_owned();
        let index = self.members.len();
        self.by_name
            .entry(name.clone())
            .and_modify(|place| *place = None)
            .or_insert(Some(index));
        self.members.push(Member { name, at, size });
    }

    /// All members, in the archive's order.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of that name.
    pub(super) fn find(&self, name: &str) -> Result<Option<&Member>> {
        match self.by_name.get(name.trim_start_matches("./")) {
            None => Ok(None),
            Some(Some(index)) => Ok(self.members.get(*index)),
            Some(None) => {
                let detail = "is in the archive more than once: which one is meant is not sure";
                Err(Error::corrupt(format!("member '{name}'"), detail))
            }
        }
    }

    /// The bytes of `member`.
    pub(super) fn window(&self, member: &Member) -> Result<ImageFile> {
        let mut name = self.file.path().as_os_str().to_owned();
        name.push("::");
        name.push(&member.name);
        self.file.window(name.into(), member.at, member.size)
    }
}

/// A name, up to its end or its first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
