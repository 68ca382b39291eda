//! A package: the OVF descriptor and the files it names, in an archive or in a folder.
//!
//! Both answer by name with an [`ImageFile`], so that nothing above needs to know which it is.

use super::{
    archive::{self, Archive},
    envelope::{self, Envelope},
    manifest::Manifest,
    pieces::Piece,
};
use crate::{
    Error, ErrorKind, Reference, Resolver, Result, limits, storage::ImageFile, units::SECTOR,
};
use std::ffi::OsStr;

/// See the module.
pub(super) struct Package<'a> {
    /// The file that was opened: the archive, or the descriptor.
    pub(super) file: ImageFile,
    /// Name of the descriptor in its folder or archive.
    name: String,
    /// The descriptor.
    descriptor: ImageFile,
    pub(super) source: Source<'a>,
}

pub(super) enum Source<'a> {
    Archive(Archive),
    /// Files beside the descriptor.
    Folder(&'a dyn Resolver),
}

impl<'a> Package<'a> {
    /// Finds the descriptor in `file`. Files beside it are opened by `resolver`.
    pub(super) fn open(file: ImageFile, resolver: &'a dyn Resolver) -> Result<Self> {
        if !is_archive(&file)? {
            if !envelope::looks_like(&head(&file)?) {
                let detail = "is neither a tar archive nor an OVF descriptor";
                return Err(Error::new(ErrorKind::WrongFormat, "format", detail));
            }
            let name = file.path().file_name().unwrap_or_default();
            return Ok(Self {
                name: name.to_string_lossy().into_owned(),
                descriptor: file.clone(),
                file,
                source: Source::Folder(resolver),
            });
        }
        let archive = Archive::open(file.clone())?;
        let descriptors: Vec<_> = archive
            .members()
            .iter()
            .filter(|m| ends_with(&m.name, ".ovf") && !is_resource_fork(&m.name))
            .collect();
        let (name, descriptor) = match descriptors.as_slice() {
            [one] => (one.name.clone(), archive.window(one)?),
            [] => {
                let detail = "is a tar archive without an OVF descriptor";
                return Err(Error::new(ErrorKind::WrongFormat, "format", detail));
            }
            several => {
                let names: Vec<&str> = several.iter().map(|m| m.name.as_str()).take(5).collect();
                let detail = format!(
                    "holds {} OVF descriptors: {}",
                    several.len(),
                    names.join(", ")
                );
                return Err(Error::corrupt("archive", detail));
            }
        };
        Ok(Self {
            file,
            name,
            descriptor,
            source: Source::Archive(archive),
        })
    }

    /// The kind of package, as reports name it.
    pub(super) fn kind(&self) -> &'static str {
        match self.source {
            Source::Archive(_) => "OVA",
            Source::Folder(_) => "OVF",
        }
    }

    /// The archive, if all files are in one.
    pub(super) fn archive(&self) -> Option<&Archive> {
        match &self.source {
            Source::Archive(archive) => Some(archive),
            Source::Folder(_) => None,
        }
    }

    /// The descriptor, and its name as a manifest gives it.
    pub(super) fn descriptor(&self) -> Piece {
        let bare = self.name.rsplit('/').next().unwrap_or_default();
        (bare.to_owned(), self.descriptor.clone())
    }

    /// Reads the descriptor.
    pub(super) fn envelope(&self) -> Result<Envelope> {
        if self.descriptor.size > limits::OVF {
            let detail = format!(
                "has {} bytes, more than {}",
                self.descriptor.size,
                limits::OVF
            );
            return Err(Error::new(ErrorKind::Limit, envelope::PART, detail));
        }
        Envelope::parse(
            &self
                .descriptor
                .read_part(envelope::PART, 0, self.descriptor.size)?,
        )
    }

    /// The file of that name, from the descriptor's folder on; `None` if there is none.
    pub(super) fn find(&self, name: &str) -> Result<Option<ImageFile>> {
        match &self.source {
            Source::Archive(archive) => {
                let folder = self.name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let beside = format!("{folder}/{name}");
                let found = match archive.find(beside.trim_start_matches('/'))? {
                    Some(member) => Some(member),
                    None => archive.find(name)?,
                };
                found.map(|member| archive.window(member)).transpose()
            }
            Source::Folder(resolver) => {
                match resolver.find(&self.file, &Reference::Extent(OsStr::new(name))) {
                    Ok(found) => Ok(found.into_iter().next()),
                    Err(e) if e.kind() == ErrorKind::Reference => Ok(None),
                    Err(e) => Err(e),
                }
            }
        }
    }

    /// The file that the descriptor names by `href`: a relative URL, which few writers encode.
    pub(super) fn referenced(&self, href: &str) -> Result<Option<Piece>> {
        for name in [href.to_owned(), decoded(href)] {
            if let Some(found) = self.find(&name)? {
                return Ok(Some((name, found)));
            }
        }
        Ok(None)
    }

    /// The name of the descriptor with another ending.
    pub(super) fn beside(&self, ending: &str) -> String {
        let bare = self.name.rsplit('/').next().unwrap_or_default();
        let stem = bare.rsplit_once('.').map_or(bare, |(stem, _)| stem);
        format!("{stem}{ending}")
    }

    /// The manifest, if there is one.
    pub(super) fn manifest(&self) -> Result<Option<ImageFile>> {
        if let Some(found) = self.find(&self.beside(".mf"))? {
            return Ok(Some(found));
        }
        let Source::Archive(archive) = &self.source else {
            return Ok(None);
        };
        let other = |m: &&archive::Member| ends_with(&m.name, ".mf") && !is_resource_fork(&m.name);
        let found = archive.members().iter().find(other);
        found.map(|member| archive.window(member)).transpose()
    }

    /// True if a certificate signs the manifest.
    pub(super) fn is_signed(&self) -> Result<bool> {
        Ok(self.find(&self.beside(".cert"))?.is_some())
    }

    /// Compares the digests of the descriptor and of `pieces` with the manifest. Returns the names
    /// that it does not list.
    pub(super) fn verify(&self, manifest: &ImageFile, pieces: &[Piece]) -> Result<Vec<String>> {
        let manifest = Manifest::read(manifest)?;
        let descriptor = self.descriptor();
        let mut unlisted = Vec::new();
        for (name, piece) in std::iter::once(&descriptor).chain(pieces) {
            if !manifest.verify(name, piece)? {
                unlisted.push(name.clone());
            }
        }
        Ok(unlisted)
    }
}

/// The members of an archive as the extents of a disk in it. Nothing outside can be reached.
impl Resolver for Package<'_> {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        if let Source::Folder(resolver) = &self.source {
            return resolver.find(from, reference);
        }
        let Reference::Extent(name) = reference else {
            return crate::Deny.find(from, reference);
        };
        let found = name.to_str().map(|name| self.find(name)).transpose()?;
        found.flatten().map(|file| vec![file]).ok_or_else(|| {
            let detail = format!("'{}' is not in the archive", name.display());
            Error::new(ErrorKind::Reference, "extent", detail).path(from.path())
        })
    }
}

/// The start of the file, as much as telling formats apart needs.
fn head(file: &ImageFile) -> Result<Vec<u8>> {
    file.read_part("signature", 0, file.size.min(4096))
}

/// True if `file` begins with the header of an archive member.
pub(super) fn is_archive(file: &ImageFile) -> Result<bool> {
    if file.size < SECTOR {
        return Ok(false);
    }
    Ok(archive::is_header(&file.read_part(
        "signature",
        0,
        SECTOR,
    )?))
}

/// True if `file` is a package.
pub(super) fn is_package(file: &ImageFile) -> Result<bool> {
    Ok(is_archive(file)? || envelope::looks_like(&head(file)?))
}

fn ends_with(name: &str, ending: &str) -> bool {
    name.to_ascii_lowercase().ends_with(ending)
}

/// macOS adds such members to archives; they hold attributes of the real one.
fn is_resource_fork(name: &str) -> bool {
    name.rsplit('/')
        .next()
        .is_some_and(|bare| bare.starts_with("._"))
}

/// `href` with its percent escapes resolved (RFC 3986).
fn decoded(href: &str) -> String {
    let mut bytes = Vec::with_capacity(href.len());
    let mut rest = href.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |b: &u8| {
            char::from(*b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        match (first, after) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                let (high, low) = (hex(high).unwrap_or(0), hex(low).unwrap_or(0));
                bytes.push(high << 4 | low);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
