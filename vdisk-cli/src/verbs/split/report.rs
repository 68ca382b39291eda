//! What became of the images that were split, or would become of them.

use crate::{
    args::shown,
    size::{both, human},
    ui::Report,
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::Path,
};
use vdisk_core::printable;

#[derive(Serialize)]
pub(super) struct SplitReport {
    pub(super) schema: u32,
    pub(super) base: String,
    pub(super) dry_run: bool,
    pub(super) images: Vec<Image>,
    /// Bytes on the medium, of all.
    pub(super) smaller_by: i64,
    /// The same of those that --replace puts in the place of their images.
    pub(super) freed_size: i64,
    #[serde(skip)]
    pub(super) replace: bool,
}

impl SplitReport {
    /// Adds up what the images say.
    pub(super) fn add_up(&mut self) {
        let smaller_by = |i: &Image| i.output.as_ref().and(i.smaller_by).unwrap_or(0);
        self.smaller_by = self.images.iter().map(smaller_by).sum();
        let replaceable = self.images.iter().filter(|i| i.replaceable);
        self.freed_size = replaceable.map(smaller_by).sum();
    }
}

/// What became of an image.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    Written,
    Replaced,
    WouldWrite,
    WouldReplace,
    Left,
    Failed,
}

#[derive(Serialize)]
pub(super) struct Image {
    pub(super) image: String,
    pub(super) action: Action,
    /// Why it was left, or failed.
    pub(super) reason: Option<String>,
    pub(super) output: Option<String>,
    pub(super) sha256: Option<String>,
    /// Bytes on the medium, before and after.
    pub(super) stored_before: Option<u64>,
    pub(super) stored_size: Option<u64>,
    pub(super) smaller_by: Option<i64>,
    pub(super) recorded_bytes: Option<u64>,
    /// Its child can be put in its place.
    #[serde(skip)]
    pub(super) replaceable: bool,
}

impl Image {
    pub(super) fn left(image: &Path, reason: String) -> Self {
        Self {
            image: shown(image),
            action: Action::Left,
            reason: Some(reason),
            output: None,
            sha256: None,
            stored_before: None,
            stored_size: None,
            smaller_by: None,
            recorded_bytes: None,
            replaceable: false,
        }
    }

    /// Adds what the child takes; `thrifty` leaves an image that would not get smaller.
    pub(super) fn against(mut self, child: u64, thrifty: bool) -> Self {
        let image = self.stored_before.unwrap_or(0);
        self.stored_size = Some(child);
        self.smaller_by = Some(signed(image).saturating_sub(signed(child)));
        if thrifty && child >= image {
            self.action = Action::Left;
            self.reason = Some("would not get smaller".to_owned());
            self.output = None;
        }
        self
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Report for SplitReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for image in &self.images {
            image.text(out)?;
        }
        if self.images.len() > 1 {
            let freed = match (self.replace, self.dry_run) {
                (true, false) => "freed",
                (true, true) => "would be freed",
                (false, _) => "would be freed by --replace",
            };
            writeln!(out, "{} {freed}", amount(self.freed_size))?;
        }
        if self.images.is_empty() {
            writeln!(out, "no images")?;
        }
        Ok(())
    }
}

impl Image {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let image = printable(&self.image);
        if let Some(reason) = &self.reason {
            let reason = printable(reason);
            return match self.action {
                Action::Failed => {
                    // An error may name the file itself.
                    let named = reason.strip_prefix(&format!("{image}: "));
                    writeln!(out, "{image}: failed: {}", named.unwrap_or(&reason))
                }
                _ => writeln!(out, "{image}: left: {reason}"),
            };
        }
        let would = match self.action {
            Action::WouldWrite | Action::WouldReplace => "would be ",
            _ => "",
        };
        let output = self.output.as_deref().unwrap_or_default();
        writeln!(
            out,
            "{image} -> {}: {} {would}recorded, {} instead of {} stored, smaller by {}",
            printable(output),
            both(self.recorded_bytes.unwrap_or(0)),
            human(self.stored_size.unwrap_or(0)),
            human(self.stored_before.unwrap_or(0)),
            amount(self.smaller_by.unwrap_or(0))
        )
    }
}

/// `bytes` for people, also if they are less than none.
fn amount(bytes: i64) -> String {
    let size = human(bytes.unsigned_abs());
    if bytes < 0 { format!("-{size}") } else { size }
}
