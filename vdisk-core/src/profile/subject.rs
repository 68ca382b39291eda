//! The image that is held to rules: opened once, looked into once, whatever the number of rules.

use super::{Broken, Verdict, title};
use crate::{
    Disk, Job, Layer, Result,
    storage::ImageFile,
    vhd::view as vhd,
    vhdx::view as vhdx,
    vmdk::{stream_view::Stream, view as vmdk},
};
use std::cell::OnceCell;

/// An image, and what its format shows of it.
pub(super) struct Subject<'a> {
    pub(super) layer: &'a Layer,
    /// The file that was opened.
    pub(super) file: &'a ImageFile,
    /// Seconds since 1970-01-01 UTC.
    pub(super) now: u64,
    pub(super) vhd: Option<vhd::View>,
    pub(super) vhdx: Option<vhdx::View>,
    pub(super) vmdk: Option<vmdk::View>,
    pub(super) job: &'a Job<'a>,
    stream: OnceCell<Stream>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(layer: &'a Layer, now: u64, job: &'a Job<'a>) -> Result<Self> {
        let file = layer.files().first().ok_or_else(|| {
            crate::Error::new(crate::ErrorKind::Usage, "lint", "the image has no file")
        })?;
        // A package is looked through: the file that a layer of it names first is the disk's.
        let packed = layer
            .facts()
            .details
            .iter()
            .find(|(k, _)| *k == "disk format");
        let format = match layer.format().holds_disks() {
            true => packed.map_or("", |(_, format)| format.as_str()),
            false => layer.format().name(),
        };
        let files = match layer.format().holds_disks() {
            true => std::slice::from_ref(file),
            false => layer.files(),
        };
        let is = |name: &str| format == name;
        Ok(Self {
            vhdx: is("vhdx").then(|| vhdx::View::read(file)).transpose()?,
            vhd: is("vhd").then(|| vhd::View::read(file)).transpose()?,
            vmdk: is("vmdk").then(|| vmdk::View::read(files)).transpose()?,
            layer,
            file,
            now,
            job,
            stream: OnceCell::new(),
        })
    }

    /// The name of the format; of a package, not of the disk in it.
    pub(super) fn format(&self) -> &'static str {
        self.layer.format().name()
    }

    /// The format is one of these.
    pub(super) fn is_one_of(&self, formats: &[&str]) -> Result<Verdict> {
        if formats.contains(&self.format()) {
            return Ok(None);
        }
        Broken::new("format", format!("is {}", title(self.format()))).found()
    }

    /// The virtual size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.layer.size()
    }

    /// The variant, in lower case, as the image says it.
    pub(super) fn subformat(&self) -> String {
        self.layer.facts().subformat.to_ascii_lowercase()
    }

    /// The ending of the file name, in lower case.
    pub(super) fn ending(&self) -> String {
        let ending = self.file.path().extension().unwrap_or_default();
        ending.to_string_lossy().to_ascii_lowercase()
    }

    /// The way through a compressed VMDK with markers; `None` for everything else.
    pub(super) fn stream(&self) -> Result<Option<&Stream>> {
        let header = self.vmdk.as_ref().and_then(|v| v.own_header());
        let Some(header) = header.filter(|h| h.compressed && h.markers) else {
            return Ok(None);
        };
        if self.stream.get().is_none() {
            let walked = Stream::walk(self.file, header.data_start, self.job)?;
            // Nobody else can have set it meanwhile: a subject belongs to one thread.
            let _ = self.stream.set(walked);
        }
        Ok(self.stream.get())
    }
}
