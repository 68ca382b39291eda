//! Where a new image goes: a file, a pipe, or nowhere if only its size is wanted.

use super::{Shape, Written, is_stdout};
use crate::{args::shown, ui::Ui};
use std::{
    fs::File,
    path::{Path, PathBuf},
};
use vdisk_core::{
    FileResolver, Ids, ImageWriter, Layer, OpenOptions, Result,
    format::{Options, ParentSpec, Spec},
    open_layer,
    target::{Counting, Output, Stream, Target},
};

/// What takes the bytes.
pub(super) enum Sink {
    File(Output),
    Pipe(Stream<File>),
    Nowhere(Counting),
}

/// The name of an image of that shape at `path`, as formats record it.
pub(super) fn file_name(path: &Path, shape: Shape) -> String {
    let ending = shape.format.extensions().first();
    match path.file_name() {
        Some(name) if !is_stdout(path) => name.display().to_string(),
        _ => format!("disk.{}", ending.copied().unwrap_or("raw")),
    }
}

/// A new image under way. Dropped, it leaves nothing behind.
pub(crate) struct Destination {
    pub(super) path: PathBuf,
    pub(crate) shape: Shape,
    pub(super) level: u32,
    pub(super) options: Options,
    pub(super) sink: Sink,
}

impl Destination {
    /// Gives the new image the id by which guests know its parent.
    pub(crate) fn disk_id(&mut self, id: Option<[u8; 16]>) {
        self.options.disk_id = id;
    }

    /// Gives the new image lines of our own.
    pub(crate) fn notes(&mut self, notes: Vec<(String, String)>) {
        self.options.notes = notes;
    }

    /// The writer of an image of `size` bytes, in sectors of `sector_size` where the format can say so.
    pub(crate) fn writer(
        &mut self,
        size: u64,
        sector_size: u32,
        ids: Ids,
        parent: Option<ParentSpec>,
    ) -> Result<Box<dyn ImageWriter + '_>> {
        let name = file_name(&self.path, self.shape);
        let spec = Spec {
            size,
            subformat: self.shape.subformat,
            name: &name,
            ids,
            level: self.level,
            parent,
            options: Options {
                sector_size: Some(sector_size),
                ..self.options.clone()
            },
        };
        let target: &mut dyn Target = match &mut self.sink {
            Sink::File(output) => output,
            Sink::Pipe(stream) => stream,
            Sink::Nowhere(counting) => counting,
        };
        self.shape
            .format
            .create(target, &spec)
            .map_err(|e| e.path(&self.path))
    }

    /// The finished image, before it has its name; `None` if it is no file.
    pub(crate) fn layer(&mut self) -> Result<Option<Layer>> {
        match &mut self.sink {
            Sink::File(output) => output.layer(self.shape.format).map(Some),
            Sink::Pipe(_) | Sink::Nowhere(_) => Ok(None),
        }
    }

    /// Gives the finished image of `size` bytes its name, and says what it is.
    pub(crate) fn publish(self, size: u64, ui: &Ui) -> Result<Written> {
        ui.check_stop()?;
        let mut written = Written::of(shown(&self.path), self.shape, size);
        let Sink::File(output) = self.sink else {
            return Ok(written);
        };
        output.publish()?;
        let resolver = FileResolver::default(); // the extents lie beside the image
        let options = OpenOptions {
            format: Some(self.shape.format),
            verify: false,
            ..OpenOptions::new(&resolver)
        };
        // The image is there, whatever this finds.
        if let Ok(layer) = open_layer(&self.path, &options) {
            written.found(&layer);
            if let Some(chosen) = self.shape.chosen {
                chosen.review(&layer, ui)?;
            }
        }
        Ok(written)
    }
}
