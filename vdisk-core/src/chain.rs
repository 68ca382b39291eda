//! One image as a layer, and a stack of layers read as one complete disk.

use crate::{
    Disk, Error, ErrorKind, Extent, Format, Image, Kind, Result,
    disk::{self, part_len},
    format::Facts,
    storage::{FileId, ImageFile},
};
use std::{path::Path, sync::Arc};

/// One opened image without its parents. A differencing image alone is not complete.
pub struct Layer {
    format: &'static dyn Format,
    image: Image,
    facts: Facts,
}

impl Layer {
    /// Joins an image to what its format says of it.
    pub fn new(format: &'static dyn Format, image: Image, facts: Facts) -> Self {
        Self {
            format,
            image,
            facts,
        }
    }

    /// The same image as part of a package: `format` is that of the package, and `files` are those
    /// that the package adds. `change` completes the facts.
    pub(crate) fn packaged(
        self,
        format: &'static dyn Format,
        files: Vec<ImageFile>,
        change: impl FnOnce(&mut Facts),
    ) -> Self {
        let mut facts = self.facts;
        change(&mut facts);
        Self {
            format,
            image: self.image.with_files(files),
            facts,
        }
    }

    /// The format.
    pub fn format(&self) -> &'static dyn Format {
        self.format
    }

    /// What the format says of the image.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The files that the image consists of; the first is the one that was opened.
    pub fn files(&self) -> &[ImageFile] {
        self.image.files()
    }

    /// Bytes that its files take on their medium.
    pub fn stored_size(&self) -> u64 {
        self.files().iter().map(|f| f.tag.allocated).sum()
    }

    /// The name of the file that was opened.
    pub fn path(&self) -> &Path {
        self.files().first().map_or(Path::new(""), ImageFile::path)
    }

    /// Who the file that was opened is.
    pub fn file_id(&self) -> Option<FileId> {
        self.files().first().and_then(|f| f.tag.id)
    }
}

impl Layer {
    /// True if both were opened from one file, by whatever names; of a package, from one part.
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        let who = |layer: &Self| {
            let file = layer.files().first()?;
            // What is unpacked from a package has no place there, but a name.
            let part = file.part_of.as_ref().map(|part| {
                let name = part.file.id.is_none().then(|| part.file.path.clone());
                (part.at, name)
            });
            Some((file.tag.id?, part))
        };
        who(self).is_some_and(|one| who(other) == Some(one))
    }
}

impl Disk for Layer {
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn sector_size(&self) -> u32 {
        self.image.sector_size()
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        self.image.extent_at(pos).map_err(|e| e.path(self.path()))
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        self.image
            .read_at(pos, buf)
            .map_err(|e| e.path(self.path()))
    }
}

/// A stack of layers read as one disk. Complete: what no layer records reads as zero.
///
/// Cheap to clone: the layers are shared.
#[derive(Clone)]
pub struct Chain {
    layers: Vec<Arc<Layer>>,
    size: u64,
}

impl Chain {
    /// Stacks `layers`, topmost first. The disk has the size of the topmost.
    ///
    /// Nothing is checked but the sector sizes: [`open`](crate::open()) checks identities.
    pub fn new(layers: Vec<Arc<Layer>>) -> Result<Self> {
        let Some(top) = layers.first() else {
            return Err(Error::new(ErrorKind::Usage, "chain", "has no layers"));
        };
        if let Some(odd) = layers.iter().find(|l| l.sector_size() != top.sector_size()) {
            let detail = format!(
                "has sectors of {} bytes, and the layer above it of {}",
                odd.sector_size(),
                top.sector_size()
            );
            return Err(Error::new(ErrorKind::Unsupported, "chain", detail).path(odd.path()));
        }
        let size = top.size();
        Ok(Self { layers, size })
    }

    /// The same layers as a disk as long as the longest: for overlays, where lower layers show
    /// past the end of the topmost.
    #[must_use]
    pub fn as_long_as_any(mut self) -> Self {
        self.size = self.layers.iter().map(|l| l.size()).max().unwrap_or(0);
        self
    }

    /// The layers from number `depth` on, counted from 0 at the top, as a disk; `None` if the chain
    /// has no more.
    #[must_use]
    pub fn below(&self, depth: usize) -> Option<Self> {
        let layers = self.layers.get(depth..).filter(|l| !l.is_empty())?;
        let size = layers.first()?.size();
        Some(Self {
            layers: layers.to_vec(),
            size,
        })
    }

    /// What the first `depth` layers record, as a disk that says [`Kind::Absent`] where the layers
    /// below them decide, without asking those. Past the end of the layers below it says that there
    /// are zeros. With all layers, or more, it is the chain itself.
    #[must_use]
    pub fn above(&self, depth: usize) -> Above<'_> {
        Above { chain: self, depth }
    }

    /// The layers, topmost first. Never empty.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The topmost layer: the image that was opened.
    pub fn top(&self) -> &Layer {
        // `new` refuses an empty stack.
        self.layers.first().unwrap_or_else(|| unreachable!())
    }

    /// The files of all layers.
    pub fn files(&self) -> impl Iterator<Item = &ImageFile> {
        self.layers.iter().flat_map(|l| l.files())
    }

    /// Who decides `pos` among the first `depth` layers: the layer, if one does, and the answer.
    /// The layers below them are not asked: where they decide, the answer is absent.
    ///
    /// The only place in the crate that knows how parents show through.
    fn decide(&self, depth: usize, pos: u64) -> Result<(Option<&Layer>, Extent)> {
        let mut end = self.size;
        let mut last = self.layers.len().saturating_sub(1);
        for (number, layer) in self.layers.iter().enumerate() {
            if pos >= layer.size() {
                if layer.facts().parent.is_some() {
                    last = number; // zeros follow a layer that is shorter than its child
                    break;
                }
                continue; // an overlay shows what lies below, also past its end
            }
            let mut found = if number < depth {
                layer.extent_at(pos)?
            } else {
                Extent::empty(pos..layer.size(), Kind::Absent)
            };
            end = end.min(found.range.end);
            if found.kind != Kind::Absent || number >= depth {
                found.range.end = end;
                found.depth = number;
                return Ok((Some(layer), found));
            }
        }
        let mut rest = Extent::empty(pos..end, Kind::Zero);
        rest.depth = last;
        Ok((None, rest))
    }

    /// Reads what the first `depth` layers record; fails where they record nothing.
    fn read(&self, depth: usize, mut pos: u64, mut buf: &mut [u8]) -> Result<()> {
        disk::check_range(self, pos, buf.len())?;
        while !buf.is_empty() {
            let (layer, extent) = self.decide(depth, pos)?;
            let (part, rest) = buf.split_at_mut(part_len(buf.len(), pos, extent.range.end));
            match (layer, extent.kind) {
                (Some(layer), Kind::Data) => layer.read_at(pos, part)?,
                (_, Kind::Absent) => {
                    let detail = format!("a lower layer holds position {pos:#x} of the disk");
                    return Err(Error::new(ErrorKind::Reference, "read", detail));
                }
                _ => part.fill(0),
            }
            pos += part.len() as u64;
            buf = rest;
        }
        Ok(())
    }
}

impl Disk for Chain {
    fn size(&self) -> u64 {
        self.size
    }
    fn sector_size(&self) -> u32 {
        self.top().sector_size()
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        disk::check_range(self, pos, 1)?;
        Ok(self.decide(self.layers.len(), pos)?.1)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        self.read(self.layers.len(), pos, buf)
    }
}

/// The upper layers of a [`Chain`]: see [`Chain::above`].
pub struct Above<'a> {
    chain: &'a Chain,
    depth: usize,
}

impl Disk for Above<'_> {
    fn size(&self) -> u64 {
        self.chain.size()
    }
    fn sector_size(&self) -> u32 {
        self.chain.sector_size()
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        disk::check_range(self, pos, 1)?;
        Ok(self.chain.decide(self.depth, pos)?.1)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        self.chain.read(self.depth, pos, buf)
    }
}
