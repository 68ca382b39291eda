//! What was written, as reports show it.

use super::Shape;
use crate::size::human;
use serde::Serialize;
use std::io::{self, Write};
use vdisk_core::Layer;

/// A new image, as every report shows it.
#[derive(Serialize)]
pub(crate) struct Written {
    /// Path; `-` for standard output.
    output: String,
    format: &'static str,
    subformat: &'static str,
    /// Bytes.
    virtual_size: u64,
    /// Bytes of zeros at the end that the disk did not have, as a profile wants it.
    pub(crate) added_size: u64,
    /// Bytes on the medium; null on standard output.
    stored_size: Option<u64>,
    identity: Option<String>,
}

impl Written {
    /// The image of `size` bytes at `output`.
    pub(super) fn of(output: String, shape: Shape, size: u64) -> Self {
        Self {
            output,
            format: shape.format.name(),
            subformat: shape.subformat.name,
            virtual_size: size,
            added_size: 0,
            stored_size: None,
            identity: None,
        }
    }

    /// Adds what can only be told of `layer`, the finished image.
    pub(super) fn found(&mut self, layer: &Layer) {
        self.stored_size = Some(layer.stored_size());
        self.identity = layer.facts().identity.map(|i| i.to_string());
    }

    /// Says that the disk had `size` bytes before.
    pub(crate) fn grown_from(mut self, size: u64) -> Self {
        self.added_size = self.virtual_size.saturating_sub(size);
        self
    }

    /// The text view: one line.
    pub(crate) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            output,
            format,
            subformat,
            ..
        } = self;
        let output = vdisk_core::printable(output);
        write!(
            out,
            "{output}: {format} {subformat}, {}",
            human(self.virtual_size)
        )?;
        if let Some(stored) = self.stored_size {
            write!(out, ", {} stored", human(stored))?;
        }
        if let Some(identity) = &self.identity {
            write!(out, ", {identity}")?;
        }
        writeln!(out)
    }
}
