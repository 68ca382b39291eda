//! The manifest: digests of the files of a package.
//!
//! Lines of "SHA256(name)= digits", as DSP0243 has them and as OpenSSL prints them. A certificate
//! would sign the manifest; it is not looked at.

use crate::{Error, Result, limits, ops::hash::hex, storage::ImageFile, units::buffer_len};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use std::collections::HashSet;

/// A kind of digest that a manifest may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    /// DSP0243 names the first two; the third is of VMware's OVF Tool.
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "SHA1" | "SHA-1" => Some(Self::Sha1),
            "SHA256" | "SHA-256" | "SHA2-256" => Some(Self::Sha256),
            "SHA512" | "SHA-512" | "SHA2-512" => Some(Self::Sha512),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// The digest of all of `file`, in lower-case digits.
    fn digest(self, file: &ImageFile) -> Result<String> {
        match self {
            Self::Sha1 => digest::<Sha1>(file),
            Self::Sha256 => digest::<Sha256>(file),
            Self::Sha512 => digest::<Sha512>(file),
        }
    }
}

/// What the manifest says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) algorithm: Algorithm,
    /// Lower-case hexadecimal digits.
    pub(super) digest: String,
}

/// A manifest.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) entries: Vec<Entry>,
}

/// The part that errors name.
const PART: &str = "manifest";

impl Manifest {
    /// Reads the manifest in `file`.
    pub(super) fn read(file: &ImageFile) -> Result<Self> {
        if file.size > limits::MANIFEST {
            let detail = format!("has {} bytes, more than {}", file.size, limits::MANIFEST);
            return Err(Error::new(crate::ErrorKind::Limit, PART, detail));
        }
        Self::parse(&String::from_utf8_lossy(
            &file.read_part(PART, 0, file.size)?,
        ))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut manifest = Self::default();
        let mut listed = HashSet::new();
        for (line, number) in text.lines().zip(1usize..) {
            let line =
                line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\0' | '\u{feff}'));
            if line.is_empty() {
                continue;
            }
            let place = || format!("{PART}, line {number}");
            let Some((algorithm, name, digest)) = split(line) else {
                return Err(Error::corrupt(place(), "is not a digest of a file"));
            };
            // A digest that cannot be computed protects nothing; the file counts as not listed.
            let Some(algorithm) = Algorithm::named(algorithm) else {
                continue;
            };
            let digest = digest.to_ascii_lowercase();
            let digits = digest.bytes().all(|b| b.is_ascii_hexdigit());
            if !digits || digest.len() != algorithm.digits() {
                let detail = format!("is not a digest of {} digits", algorithm.digits());
                return Err(Error::corrupt(place(), detail));
            }
            let name = name.trim_start_matches("./").to_owned();
            // Each entry has the file read once.
            if !listed.insert((name.clone(), algorithm)) {
                return Err(Error::corrupt(place(), format!("lists '{name}' twice")));
            }
            manifest.entries.push(Entry {
                name,
                algorithm,
                digest,
            });
        }
        Ok(manifest)
    }

    /// What is said of the file `name`; several entries must all hold.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Entry> {
        let name = name.trim_start_matches("./");
        self.entries.iter().filter(move |e| e.name == name)
    }

    /// Reads all of `file` and compares; false if the manifest does not list it.
    pub(super) fn verify(&self, name: &str, file: &ImageFile) -> Result<bool> {
        let mut listed = false;
        for entry in self.of(name) {
            listed = true;
            let found = entry.algorithm.digest(file)?;
            if found != entry.digest {
                let detail = format!(
                    "has the {} {found}, but the manifest says {}; it was changed or damaged",
                    entry.algorithm.name(),
                    entry.digest
                );
                return Err(Error::corrupt(format!("member '{name}'"), detail));
            }
        }
        Ok(listed)
    }
}

/// The three parts of "ALGORITHM(name)= digits".
fn split(line: &str) -> Option<(&str, &str, &str)> {
    let (left, digest) = line.rsplit_once('=')?;
    let (algorithm, name) = left.trim_end().strip_suffix(')')?.split_once('(')?;
    Some((algorithm.trim(), name, digest.trim()))
}

fn digest<D: sha2::Digest>(file: &ImageFile) -> Result<String> {
    let mut hasher = D::new();
    let mut pos = 0;
    let mut buffer = vec![0; buffer_len(file.size.min(1 << 20))?];
    while pos < file.size {
        let len = crate::disk::part_len(buffer.len(), pos, file.size);
        let part = buffer.get_mut(..len).unwrap_or_default();
        file.read_at(pos, part)?;
        hasher.update(&*part);
        pos = pos.saturating_add(len as u64);
    }
    Ok(hex(&hasher.finalize()))
}
