//! OVA and OVF: packages of disks in their own formats, with a description of the machine.
//!
//! Read: an archive (OVA) or a descriptor with its files beside it (OVF); disks of any format that
//! can be read, also compressed with gzip and cut into chunks. Nothing is unpacked to a file.
//! Written: an archive with one streamOptimized VMDK. The format is that of DSP0243 of the DMTF.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod archive;
mod check;
mod descriptor_text;
mod envelope;
mod manifest;
mod package;
mod pieces;
mod writer;

use crate::{
    Disk as _, Error, ErrorKind, Format, ImageWriter, InFile, Layer, Result, Subformat,
    check::{Checkup, Findings},
    format::{Context, Facts, Spec},
    limits,
    open::probe,
    raw::Raw,
    storage::ImageFile,
    target::Target,
};
use envelope::{Disk, Envelope, File};
use package::Package;
use pieces::Piece;

/// The format of packages.
#[derive(Clone, Copy, Debug)]
pub struct Ova;

impl Format for Ova {
    fn name(&self) -> &'static str {
        "ova"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["ova", "ovf"]
    }

    fn subformats(&self) -> &'static [Subformat] {
        &[Subformat {
            name: "ova",
            streams: false,
            child: false,
        }]
    }

    fn holds_disks(&self) -> bool {
        true
    }

    fn disks(&self, file: &ImageFile, context: &Context<'_>) -> Result<Vec<String>> {
        let package = Package::open(file.clone(), context.resolver)?;
        let envelope = package.envelope()?;
        let disks = disks(&envelope)?;
        if context.disk.is_some() || disks.is_empty() {
            let (_, file) = select(&disks, context.disk, &package)?;
            return Ok(vec![file.href.clone()]);
        }
        Ok(disks.iter().map(|(_, file)| file.href.clone()).collect())
    }

    fn probe(&self, file: &ImageFile) -> Result<bool> {
        package::is_package(file)
    }

    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer> {
        let package = Package::open(file, context.resolver)?;
        let envelope = package.envelope()?;
        let disks = disks(&envelope)?;
        let (disk, file) = select(&disks, context.disk, &package)?;
        if let Some(parent) = &disk.parent {
            let detail = format!(
                "holds only what differs from disk '{parent}' of the package, which is not supported"
            );
            return Err(Error::new(ErrorKind::Unsupported, part(file), detail));
        }
        let pieces = package.pieces(file)?;
        let note = verify(&package, &pieces, context.verify)?;
        let image = package.whole(file, &pieces, most_unpacked(disk))?;
        let companions = package.companions(&image, &pieces)?;
        let path = image.path().to_owned();
        let stored: u64 = pieces.iter().map(|(_, piece)| piece.size).sum();
        let inner = open_inner(image, disk, &package, context).in_file(&path)?;
        let (size, format) = (inner.size(), inner.format().name());
        Ok(inner.packaged(&Ova, companions, |facts| {
            facts.subformat = format!("{} in {}", facts.subformat, package.kind());
            facts.details.push(("disk", file.href.clone()));
            facts.details.push(("disk format", format.to_owned()));
            if disks.len() > 1 {
                let detail = disks.len().to_string();
                facts.details.push(("disks in the package", detail));
            }
            note.tell(facts);
            if let Some(said) = file.size.filter(|s| *s != stored && !file.gzip) {
                facts.warnings.push(format!(
                    "the OVF descriptor says that '{}' has {said} bytes, but it has {stored}",
                    file.href
                ));
            }
            if let Some(said) = disk.capacity.filter(|c| *c != size) {
                facts.warnings.push(format!(
                    "the OVF descriptor says that the disk has {said} bytes, but it has {size}"
                ));
            }
        }))
    }

    fn check(&self, file: ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
        check::check(file, checkup, findings)
    }

    fn create<'a>(
        &self,
        target: &'a mut dyn Target,
        spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        Ok(Box::new(writer::OvaWriter::new(target, spec)?))
    }
}

fn part(file: &File) -> String {
    format!("disk '{}'", file.href)
}

/// The disks that are in files, each file once, in the descriptor's order. Empty disks have none.
fn disks(envelope: &Envelope) -> Result<Vec<(&Disk, &File)>> {
    let mut found: Vec<(&Disk, &File)> = Vec::new();
    for disk in &envelope.disks {
        let Some(id) = &disk.file else {
            continue;
        };
        let file = envelope.file(id).ok_or_else(|| {
            let detail = format!(
                "has a disk '{}' in file '{id}', which it does not list",
                disk.id
            );
            Error::corrupt(envelope::PART, detail)
        })?;
        if !found.iter().any(|(_, f)| f.id == file.id) {
            found.push((disk, file));
        }
    }
    Ok(found)
}

/// The disk asked for, by name or number from 1; or the only one.
fn select<'a>(
    disks: &[(&'a Disk, &'a File)],
    wanted: Option<&str>,
    package: &Package<'_>,
) -> Result<(&'a Disk, &'a File)> {
    let names = || {
        let mut names: Vec<&str> = disks
            .iter()
            .map(|(_, f)| f.href.as_str())
            .take(20)
            .collect();
        if disks.len() > names.len() {
            names.push("...");
        }
        let plural = if disks.len() == 1 { "disk" } else { "disks" };
        format!("holds {} {plural}: {}", disks.len(), names.join(", "))
    };
    let usage = |detail| Err(Error::new(ErrorKind::Usage, "disk", detail));
    match (wanted, disks) {
        (_, []) => {
            let detail = "describes no disk that is in a file";
            Err(Error::new(ErrorKind::Unsupported, envelope::PART, detail))
        }
        (None, [one]) => Ok(*one),
        (None, _) => usage(format!(
            "{}; name one as {}::NAME",
            names(),
            package.file.path().display()
        )),
        (Some(wanted), _) => {
            let named = disks.iter().find(|(_, f)| f.href == wanted);
            let number = || disks.get(wanted.parse::<usize>().ok()?.checked_sub(1)?);
            match named.or_else(number) {
                Some(found) => Ok(*found),
                None => usage(format!("'{wanted}' is not in it: it {}", names())),
            }
        }
    }
}

/// What is known about the digests.
struct Note {
    manifest: &'static str,
    signed: bool,
    unlisted: Vec<String>,
}

impl Note {
    fn tell(self, facts: &mut Facts) {
        facts.details.push(("manifest", self.manifest.to_owned()));
        if self.signed {
            facts.details.push(("signature", "not checked".to_owned()));
        }
        for name in self.unlisted {
            facts.warnings.push(format!(
                "the manifest has no digest of '{name}' that can be checked"
            ));
        }
    }
}

/// Checks the digests of what will be read, if `wanted`.
fn verify(package: &Package<'_>, pieces: &[Piece], wanted: bool) -> Result<Note> {
    let mut note = Note {
        manifest: "none",
        signed: package.is_signed()?,
        unlisted: Vec::new(),
    };
    if let Some(manifest) = package.manifest()? {
        note.manifest = "not checked";
        if wanted {
            note.unlisted = package.verify(&manifest, pieces)?;
            note.manifest = "checked";
        }
    }
    Ok(note)
}

/// Bytes to which a compressed image of `disk` may unpack: an image is hardly larger than its disk.
fn most_unpacked(disk: &Disk) -> u64 {
    disk.capacity.map_or(limits::DISK_SIZE, |capacity| {
        capacity.saturating_mul(2).saturating_add(64 << 20)
    })
}

/// Opens the image of `disk` by its own format.
fn open_inner(
    image: ImageFile,
    disk: &Disk,
    package: &Package<'_>,
    context: &Context<'_>,
) -> Result<Layer> {
    let format = inner_format(&image, disk)?;
    let layer = format.open(image, &inside(package, context))?;
    if package.archive().is_some() && layer.facts().parent.is_some() {
        let detail = "names a parent, but a disk in an archive must stand alone";
        return Err(Error::new(ErrorKind::Unsupported, "parent", detail));
    }
    Ok(layer)
}

/// The format of the disk in `image`.
fn inner_format(image: &ImageFile, disk: &Disk) -> Result<&'static dyn Format> {
    // A guest can write any signature into its raw disk, but not into the descriptor.
    if says_raw(&disk.format) {
        return Ok(&Raw);
    }
    let format = probe(image)?;
    if format.holds_disks() {
        let detail = "is a package itself, which is not supported";
        return Err(Error::new(ErrorKind::Unsupported, "format", detail));
    }
    Ok(format)
}

/// What a disk in `package` is opened with: only files of the package.
fn inside<'a>(package: &'a Package<'_>, context: &Context<'a>) -> Context<'a> {
    Context {
        resolver: package,
        disk: None,
        ..*context
    }
}

/// True if the last word of the URI is "raw". There is no list of them: each vendor has its own.
fn says_raw(uri: &str) -> bool {
    uri.rsplit(['/', '#', '.', ':'])
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("raw"))
}
