//! Raw disks: the file is the disk.

mod in_place;

use crate::{
    Error, FORMATS, Format, Image, ImageWriter, Layer, Layout, Place, Result, Run, Subformat,
    check::{self, Checkup, Finding, Findings, Severity},
    format::{Compactor, Context, Facts, Spec, Update},
    storage::ImageFile,
    target::Target,
    transaction::Transaction,
    units::{FileOffset, SECTOR, round_up},
};
use in_place::{InPlace, Punch};
pub(crate) use in_place::{cut, give_back};
use std::ops::Range;

/// The raw format.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Format for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["raw", "dd", "img"]
    }
    fn subformats(&self) -> &'static [Subformat] {
        &[Subformat {
            name: "sparse",
            streams: true,
            child: false,
        }]
    }
    fn probe(&self, _file: &ImageFile) -> Result<bool> {
        Ok(false) // any bytes are a raw disk, so none prove one
    }
    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer> {
        let mut facts = Facts {
            subformat: "raw".to_owned(),
            ..Facts::default()
        };
        if !file.size.is_multiple_of(SECTOR) {
            facts.warnings.push(format!(
                "the file has {} bytes, not a whole number of sectors; the last sector is filled with zeros",
                file.size
            ));
        }
        for format in FORMATS {
            if format.probe(&file)? {
                facts.warnings.push(format!(
                    "is read as raw, but has the signature of {}",
                    format.name()
                ));
            }
        }
        let layout = RawLayout {
            file: file.clone(),
            size: round_up(file.size, SECTOR),
            hole: if context.overlay {
                Place::Absent
            } else {
                Place::Zero
            },
        };
        Ok(Layer::new(
            &Raw,
            Image::new(vec![file], Box::new(layout)),
            facts,
        ))
    }
    fn check(&self, file: ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
        let layer = self.open(file.clone(), &checkup.context)?;
        for warning in &layer.facts().warnings {
            let finding = Finding::new(Severity::Warning, "raw", &file, "file", warning);
            findings.add(finding);
        }
        check::walk(&layer, checkup, findings)
    }
    fn update<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        Ok(Box::new(InPlace::new(layer, transaction, update)?))
    }
    fn resize(
        &self,
        layer: &Layer,
        transaction: &Transaction<'_>,
        update: &Update<'_>,
        size: u64,
    ) -> Result<()> {
        InPlace::new(layer, transaction, update)?.resize(size)
    }
    fn compact<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn Compactor + 'a>> {
        Ok(Box::new(Punch::new(InPlace::new(
            layer,
            transaction,
            update,
        )?)))
    }
    fn create<'a>(
        &self,
        target: &'a mut dyn Target,
        spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        Ok(Box::new(RawWriter {
            target,
            size: spec.size,
        }))
    }
}

/// The run at `at` of a flat file, at most `len` bytes: data or a hole of the file.
///
/// Shared by all formats that keep a disk as it is.
pub(crate) fn flat_run(
    file: &ImageFile,
    index: usize,
    at: u64,
    len: u64,
    hole: Place,
) -> Result<(u64, Place)> {
    let span = file
        .storage
        .span_at(at)
        .map_err(|e| Error::io("find holes", e).path(file.path()))?;
    let len = len.min(span.end.saturating_sub(at)).max(1);
    let place = if span.hole {
        hole
    } else {
        Place::Stored {
            file: index,
            at: FileOffset(at),
        }
    };
    Ok((len, place))
}

struct RawLayout {
    file: ImageFile,
    size: u64,
    hole: Place,
}

impl Layout for RawLayout {
    fn size(&self) -> u64 {
        self.size
    }
    fn locate(&self, pos: u64) -> Result<Run> {
        if pos >= self.file.size {
            // The tail that fills the last sector.
            return Ok(Run {
                end: self.size,
                place: Place::Zero,
            });
        }
        let (len, place) = flat_run(&self.file, 0, pos, self.file.size - pos, self.hole)?;
        Ok(Run {
            end: pos + len,
            place,
        })
    }
}

/// Writes a file that is the disk; also the flat extents of other formats.
pub(crate) struct RawWriter<T> {
    pub(crate) target: T,
    /// Bytes of the disk.
    pub(crate) size: u64,
}

impl<T: Target> ImageWriter for RawWriter<T> {
    fn unit(&self) -> u64 {
        4096 // what file systems keep holes in
    }
    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.target.write_at(range.start, bytes)
    }
    fn zero(&mut self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }
    fn finish(mut self: Box<Self>) -> Result<()> {
        self.target.set_size(self.size)
    }
}
