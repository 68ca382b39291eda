//! Writes disks of several files: extents beside a descriptor, each by the writer of its kind.
//!
//! All files are named, and so checked, before the first byte is written.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sizes are ours, and far below 2^64"
)]

use super::{
    cowd_writer::CowdWriter,
    descriptor_text::{ExtentText, text},
    sparse_writer::{GRAIN, SparseWriter},
};
use crate::{
    Error, ErrorKind, ImageWriter, Result,
    format::Spec,
    limits,
    raw::RawWriter,
    target::Target,
    units::{SECTOR, buffer_len},
};
use std::{collections::VecDeque, ops::Range};

/// Bytes of an extent of a split disk, as VMware and VirtualBox cut it.
const EXTENT_SIZE: u64 = 2047 << 20;

/// How a subformat is laid out in files.
struct Shape {
    /// The word of the extent line.
    kind: &'static str,
    /// What follows the name of the disk.
    suffix: &'static str,
    /// Cut into numbered extents.
    split: bool,
}

impl Shape {
    fn of(subformat: &str) -> Result<Self> {
        let (kind, suffix, split) = match subformat {
            "monolithicFlat" => ("FLAT", "-flat", false),
            "vmfs" => ("VMFS", "-flat", false),
            "twoGbMaxExtentFlat" => ("FLAT", "-f", true),
            "twoGbMaxExtentSparse" => ("SPARSE", "-s", true),
            "vmfsSparse" => ("VMFSSPARSE", "-delta", false),
            other => {
                let detail = format!("{other} is not written");
                return Err(Error::new(ErrorKind::Usage, "subformat", detail));
            }
        };
        Ok(Self {
            kind,
            suffix,
            split,
        })
    }

    /// The extents of the disk, and the part of it that each holds.
    fn extents(&self, spec: &Spec<'_>) -> Result<Vec<(Range<u64>, ExtentText)>> {
        let most = match self.split {
            true => extent_size(spec)?,
            false => spec.size,
        };
        let stem = stem(spec.name)?;
        let mut extents = Vec::new();
        let mut start = 0;
        while start < spec.size {
            let end = spec.size.min(start + most);
            let number = match self.split {
                true => format!("{:03}", extents.len() + 1),
                false => String::new(),
            };
            let extent = ExtentText {
                sectors: (end - start) / SECTOR,
                kind: self.kind,
                name: format!("{stem}{}{number}.vmdk", self.suffix),
            };
            extents.push((start..end, extent));
            start = end;
        }
        Ok(extents)
    }

    /// The writer of one extent.
    fn writer<'a>(
        &self,
        target: Box<dyn Target>,
        size: u64,
        spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        Ok(match self.kind {
            "SPARSE" => {
                let child = spec.parent.is_some();
                Box::new(SparseWriter::new(target, size, child, Vec::new()))
            }
            "VMFSSPARSE" => Box::new(CowdWriter::new(target, size)?),
            _ => Box::new(RawWriter { target, size }),
        })
    }
}

/// The size of an extent: a multiple of every unit, so that no unit lies in two extents.
fn extent_size(spec: &Spec<'_>) -> Result<u64> {
    let size = spec.options.extent_size.unwrap_or(EXTENT_SIZE);
    if size == 0 || size > EXTENT_SIZE || !size.is_multiple_of(GRAIN) {
        let detail = format!("{size} bytes is not a multiple of 64 KiB up to 2047 MiB");
        return Err(Error::new(ErrorKind::Usage, "extent size", detail));
    }
    Ok(size)
}

/// The name of the disk without its ending, for the names of the extents.
fn stem(name: &str) -> Result<&str> {
    let stem = match name.rsplit_once('.') {
        Some((stem, ending)) if ending.eq_ignore_ascii_case("vmdk") && !stem.is_empty() => stem,
        _ => name,
    };
    if stem.contains('\\') {
        let detail = format!("'{name}' has a backslash, which readers take for a separator");
        return Err(Error::new(ErrorKind::Usage, "image name", detail));
    }
    Ok(stem)
}

/// See the module.
pub(super) struct SplitWriter<'a> {
    main: &'a mut dyn Target,
    descriptor: String,
    unit: u64,
    /// Extents that are not finished, in order, and the part of the disk that each holds.
    extents: VecDeque<(Range<u64>, Box<dyn ImageWriter + 'a>)>,
}

impl<'a> SplitWriter<'a> {
    pub(super) fn new(main: &'a mut dyn Target, spec: &Spec<'_>) -> Result<Self> {
        if spec.parent.is_some() && !spec.subformat.child {
            let detail = format!("cannot be {}; write monolithicSparse", spec.subformat.name);
            return Err(Error::new(ErrorKind::Usage, "child", detail));
        }
        let shape = Shape::of(spec.subformat.name)?;
        if spec.parent.is_none() && shape.kind == "VMFSSPARSE" {
            let detail = "a vmfsSparse image holds only differences, and needs a parent";
            return Err(Error::new(ErrorKind::Usage, "parent", detail));
        }
        let (ranges, lines): (Vec<_>, Vec<_>) = shape.extents(spec)?.into_iter().unzip();
        let descriptor = text(spec, &lines)?;
        if descriptor.len() as u64 > limits::DESCRIPTOR {
            let detail = format!(
                "of {} extents would need a descriptor of more than {} bytes",
                lines.len(),
                limits::DESCRIPTOR
            );
            return Err(Error::new(ErrorKind::Limit, "disk", detail));
        }
        let mut extents = VecDeque::new();
        for (range, line) in ranges.into_iter().zip(lines) {
            let size = range.end - range.start;
            let writer = shape.writer(main.beside(&line.name)?, size, spec)?;
            extents.push_back((range, writer));
        }
        Ok(Self {
            main,
            descriptor,
            unit: extents.front().map_or(SECTOR, |(_, first)| first.unit()),
            extents,
        })
    }

    /// Cuts `range` at the ends of extents; `give` gets the writer, the range as the extent counts,
    /// and what comes before it in `range`, in bytes. Extents that lie before are finished.
    fn each(
        &mut self,
        range: Range<u64>,
        mut give: impl FnMut(&mut dyn ImageWriter, Range<u64>, u64) -> Result<()>,
    ) -> Result<()> {
        let mut pos = range.start;
        while pos < range.end {
            let Some((holds, writer)) = self.extents.front_mut() else {
                let detail = format!("none holds position {pos:#x}");
                return Err(Error::new(ErrorKind::OutOfRange, "extents", detail));
            };
            if holds.end <= pos {
                if let Some((_, done)) = self.extents.pop_front() {
                    done.finish()?;
                }
                continue;
            }
            let end = range.end.min(holds.end);
            let inside = pos - holds.start..end - holds.start;
            give(&mut **writer, inside, pos - range.start)?;
            pos = end;
        }
        Ok(())
    }
}

impl ImageWriter for SplitWriter<'_> {
    fn unit(&self) -> u64 {
        self.unit
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.each(range, |writer, inside, before| {
            let start = buffer_len(before)?;
            let end = start + buffer_len(inside.end - inside.start)?;
            writer.data(inside, bytes.get(start..end).unwrap_or_default())
        })
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        self.each(range, |writer, inside, _| writer.zero(inside))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        for (_, extent) in self.extents {
            extent.finish()?;
        }
        self.main.write_at(0, self.descriptor.as_bytes())?;
        self.main.set_size(self.descriptor.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_named_after_the_descriptor() -> Result<()> {
        assert_eq!(stem("my disk.vmdk")?, "my disk");
        assert_eq!(stem("a.b.VMDK")?, "a.b");
        assert_eq!(stem("disk.img")?, "disk.img");
        assert_eq!(stem(".vmdk")?, ".vmdk");
        assert!(stem("a\\b.vmdk").is_err());
        Ok(())
    }
}
