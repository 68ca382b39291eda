//! qcow2, the format of qemu: read, so that people can leave it, and not written.
//!
//! Facts are from "QCow2 image file format", `docs/interop/qcow2` of qemu. The code is our own
//! because the crate that is kept well, imago, is asynchronous inside, opens files by a way of its
//! own, and does not say where a compressed cluster lies, which `Layout` must.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod check;
mod compressed;
mod disk_structs;
mod entry;
mod layout;
mod refcounts;
mod tables;

use crate::{
    Error, ErrorKind, FORMATS, Format, Image, ImageWriter, Layer, ParentRef, Place, Reference,
    Result, Subformat,
    check::{Checkup, Finding, Findings, Severity, walk},
    format::{Context, Facts, Spec},
    limits,
    storage::ImageFile,
    target::Target,
    units::SECTOR,
};
use compressed::Compression;
use disk_structs::{
    COMPRESSION, CORRUPT, DIRTY, EXTENDED_L2, EXTERNAL_DATA, Extensions, Header, KNOWN, MAGIC,
    RAW_DATA,
};
use std::{ffi::OsString, os::unix::ffi::OsStringExt};
use tables::Tables;

/// The qcow2 format.
#[derive(Clone, Copy, Debug)]
pub struct Qcow2;

impl Format for Qcow2 {
    fn name(&self) -> &'static str {
        "qcow2"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["qcow2"]
    }

    fn subformats(&self) -> &'static [Subformat] {
        &[]
    }

    fn probe(&self, file: &ImageFile) -> Result<bool> {
        let head = file.read_part("signature", 0, file.size.min(4))?;
        Ok(head == MAGIC)
    }

    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer> {
        let (files, tables, facts) = parts(file, context)?;
        let image = Image::new(files, Box::new(tables));
        Ok(Layer::new(&Qcow2, image, facts))
    }

    fn check(&self, file: ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
        let (files, tables, facts) = parts(file, &checkup.context)?;
        if facts.warnings.iter().any(|w| w == BACKING_LOST) {
            let (severity, rule) = (Severity::Warning, "backing-lost");
            let file = &tables.file;
            findings.add(Finding::new(severity, rule, file, "header", BACKING_LOST).at(8));
        }
        check::check(&tables, checkup, findings)?;
        if checkup.deep {
            let layer = Layer::new(&Qcow2, Image::new(files, Box::new(tables)), facts);
            walk(&layer, checkup, findings)?;
        }
        Ok(())
    }

    fn create<'a>(
        &self,
        _target: &'a mut dyn Target,
        _spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        let detail = "is read, but not written";
        Err(Error::new(ErrorKind::Unsupported, "qcow2", detail))
    }
}

/// What an image is made of: its files, where they keep the disk, and what is known of it.
fn parts(file: ImageFile, context: &Context<'_>) -> Result<(Vec<ImageFile>, Tables, Facts)> {
    let header = Header::read(&file)?;
    let extensions = Extensions::read(&file, &header)?;
    refuse_unreadable(&header, &extensions)?;
    let compression = compression(&header)?;
    let mut facts = facts(&header, compression);
    facts.parent = parent(&file, &header, &extensions)?;
    if lost_backing(&header, &extensions) {
        facts.warnings.push(BACKING_LOST.to_owned());
    }
    let hole = if facts.parent.is_some() || context.overlay {
        Place::Absent
    } else {
        Place::Zero
    };
    let mut files = vec![file.clone()];
    let data = match header.has(EXTERNAL_DATA) {
        true => Some(data_file(&file, &extensions, context)?),
        false => None,
    };
    files.extend(data.clone());
    let tables = Tables::new(file, data, header, compression, hole)?;
    Ok((files, tables, facts))
}

/// Refuses what cannot be read here.
fn refuse_unreadable(header: &Header, extensions: &Extensions) -> Result<()> {
    let unsupported = |part: &'static str, detail| {
        let error = Error::new(ErrorKind::Unsupported, part, detail);
        Err(error)
    };
    let unknown = header.incompatible & !KNOWN;
    if unknown != 0 {
        let names = extensions.name_features(unknown);
        return unsupported(
            "header",
            format!("needs features that are not known: {names}"),
        );
    }
    match header.crypt_method {
        0 => Ok(()),
        1 => unsupported("encryption", "is AES, which is not supported".to_owned()),
        2 => unsupported("encryption", "is LUKS, which is not supported".to_owned()),
        other => unsupported(
            "encryption",
            format!("has method {other}, which is not known"),
        ),
    }
}

fn compression(header: &Header) -> Result<Compression> {
    let found = match header.compression {
        0 => Compression::Zlib,
        1 => Compression::Zstd,
        other => {
            let detail = format!("has number {other}; known are 0 (zlib) and 1 (zstd)");
            return Err(Error::new(ErrorKind::Unsupported, "compression type", detail).at(104));
        }
    };
    if header.has(COMPRESSION) != (found != Compression::Zlib) {
        let detail = format!("is {}, but the feature bits say otherwise", found.name());
        return Err(Error::corrupt("compression type", detail).at(104));
    }
    Ok(found)
}

fn facts(header: &Header, compression: Compression) -> Facts {
    let mut details = vec![
        ("cluster size", format!("{} bytes", header.cluster())),
        ("compression type", compression.name().to_owned()),
    ];
    if header.has(EXTENDED_L2) {
        details.push(("extended L2 entries", "yes".to_owned()));
    }
    if header.has(EXTERNAL_DATA) {
        let raw = header.autoclear & RAW_DATA != 0;
        let kind = if raw { "raw" } else { "not a disk by itself" };
        details.push(("external data file", kind.to_owned()));
    }
    let mut warnings = Vec::new();
    if header.has(DIRTY) {
        warnings.push(
            "was not closed cleanly: the program that wrote it may have been interrupted"
                .to_owned(),
        );
    }
    if header.has(CORRUPT) {
        warnings.push("is marked as corrupt by a program that wrote to it".to_owned());
    }
    if header.snapshots > 0 {
        details.push(("internal snapshots", header.snapshots.to_string()));
        warnings.push(
            "has internal snapshots; only the present state is read, and what is written from it \
             does not carry them over"
                .to_owned(),
        );
    }
    if !header.size.is_multiple_of(SECTOR) {
        warnings.push(format!(
            "the disk has {} bytes, not a whole number of sectors; the last sector is read whole",
            header.size
        ));
    }
    Facts {
        subformat: format!("version {}", header.version),
        details,
        warnings,
        ..Facts::default()
    }
}

/// What is said if [`lost_backing`].
const BACKING_LOST: &str = "may have had a backing file: the header has the length of its name, or its format, but \
     not where its name is; what was in it is read as zeros";

/// True if a trace of a backing file is left, but none can be found. An empty format is what qemu
/// leaves when it makes an image independent.
fn lost_backing(header: &Header, extensions: &Extensions) -> bool {
    let format = extensions.backing_format.as_ref();
    header.backing_at == 0 && (header.backing_len > 0 || format.is_some_and(|f| !f.is_empty()))
}

/// The backing file that the header names.
fn parent(file: &ImageFile, header: &Header, extensions: &Extensions) -> Result<Option<ParentRef>> {
    if header.backing_at == 0 || header.backing_len == 0 {
        return Ok(None);
    }
    if header.backing_len > limits::BACKING_NAME {
        let detail = format!(
            "has a name of {} bytes; at most {} are possible",
            header.backing_len,
            limits::BACKING_NAME
        );
        return Err(Error::new(ErrorKind::Limit, "backing file", detail).at(16));
    }
    let name = file.read_part(
        "backing file",
        header.backing_at,
        u64::from(header.backing_len),
    )?;
    let format = match &extensions.backing_format {
        // Not recorded: `open` decides what may be concluded.
        None => None,
        Some(word) => Some(format_named(word)?),
    };
    Ok(Some(ParentRef {
        hints: vec![file_name("backing file", name)?],
        identity: None,
        alternative: None,
        format,
    }))
}

/// Our name of a format that qemu calls `word`.
fn format_named(word: &[u8]) -> Result<&'static str> {
    let word = String::from_utf8_lossy(word);
    let ours = match &*word {
        "vpc" => "vhd",
        other => other,
    };
    FORMATS
        .iter()
        .map(|f| f.name())
        .find(|name| *name == ours)
        .ok_or_else(|| {
            let detail = format!("is of format '{word}', which is not supported");
            Error::new(ErrorKind::Unsupported, "backing file", detail)
        })
}

/// Opens the external data file. Its contents are never looked at to tell what it is.
fn data_file(
    file: &ImageFile,
    extensions: &Extensions,
    context: &Context<'_>,
) -> Result<ImageFile> {
    let Some(name) = &extensions.data_file else {
        let detail = "has no name in the image";
        return Err(Error::corrupt("external data file", detail));
    };
    let name = file_name("external data file", name.clone())?;
    let found = context.resolver.find(file, &Reference::Extent(&name))?;
    found.into_iter().next().ok_or_else(|| {
        let detail = format!("'{}' was not found", name.display());
        Error::new(ErrorKind::Reference, "external data file", detail)
    })
}

/// `name` as a file name. qemu also takes addresses and JSON here, which are never followed.
fn file_name(part: &'static str, name: Vec<u8>) -> Result<OsString> {
    let before_slash = name.split(|b| *b == b'/').next().unwrap_or_default();
    if before_slash.contains(&b':') {
        let detail = format!(
            "is named '{}', which is not a plain file name",
            String::from_utf8_lossy(&name)
        );
        return Err(Error::new(ErrorKind::Unsupported, part, detail));
    }
    Ok(OsString::from_vec(name))
}
