//! How each extent of an image that is changed takes what is written.
//!
//! Apart from the writing: here the descriptor and the files are looked at, and what cannot be
//! written to is refused before anything is.

use super::{
    extent_files::is_device,
    extent_line::{Access, ExtentKind, ExtentLine},
    opening::Opening,
    sparse_update::SparseUpdate,
};
use crate::{
    Disk, Error, ErrorKind, Layer, Result,
    claims::{Claims, Owner},
    format::fixed,
    storage::{FileId, ImageFile},
    transaction::Transaction,
    units::Sectors,
};
use std::{collections::HashMap, ops::Range};

/// How an extent takes what is written.
pub(super) enum Way<'a> {
    /// A file as it is, from an offset.
    Flat {
        file: &'a ImageFile,
        at: u64,
    },
    Sparse(Box<SparseUpdate<'a>>),
    /// Holds zeros and nothing else, for this reason.
    Zeros(String),
    /// Nothing may be written to it, for this reason.
    Closed(String),
}

pub(super) fn refused(layer: &Layer) -> Error {
    fixed("vmdk", layer, "written to in place")
}

/// Finds the way of each extent line.
pub(super) struct Lines<'a> {
    layer: &'a Layer,
    transaction: &'a Transaction<'a>,
    overlay: bool,
    /// The files that are left: the reader opened them in the order of the lines.
    files: std::slice::Iter<'a, ImageFile>,
    /// What extents use of each file.
    taken: HashMap<FileId, Claims>,
    opening: Opening,
}

impl<'a> Lines<'a> {
    /// `files` are those of the layer but the descriptor's.
    pub(super) fn new(
        layer: &'a Layer,
        files: &'a [ImageFile],
        transaction: &'a Transaction<'a>,
        overlay: bool,
    ) -> Self {
        Self {
            layer,
            transaction,
            overlay,
            files: files.iter(),
            taken: HashMap::new(),
            opening: Opening::new(),
        }
    }

    /// The way of the extent of `line`, which holds `range` of the disk.
    pub(super) fn way(
        &mut self,
        line: &ExtentLine,
        number: u64,
        range: &Range<u64>,
    ) -> Result<Way<'a>> {
        let part = format!("extent {number}");
        let closed = format!("{part} is marked {}", line.access.word());
        if line.kind == ExtentKind::Zero {
            let reason = format!("{part} is of type ZERO, and has no file that could hold data");
            return Ok(Way::Zeros(reason));
        }
        if line.access == Access::None {
            return Ok(Way::Closed(closed));
        }
        let Some(file) = self.files.next() else {
            return Err(Error::corrupt(part, "has no file"));
        };
        if line.access == Access::ReadOnly {
            return Ok(Way::Closed(closed));
        }
        let unsupported = |detail| Err(Error::new(ErrorKind::Unsupported, part.clone(), detail));
        match line.kind {
            ExtentKind::Flat if !line.names.iter().any(|name| is_device(name)) => {
                let at = Sectors(line.offset).bytes()?;
                let len = range.end.saturating_sub(range.start);
                self.take(file, at..at.saturating_add(len), number)?;
                if self.overlay {
                    return unsupported("is flat, and has no holes through which a parent shows");
                }
                Ok(Way::Flat { file, at })
            }
            ExtentKind::Sparse | ExtentKind::VmfsSparse => {
                self.take(file, 0..file.size, number)?;
                let sparse = self.sparse(file)?;
                let odd = |pos: u64| pos.checked_rem(sparse.grain()) != Some(0);
                let shares = odd(range.start) || odd(range.end) && range.end != self.layer.size();
                if self.is_child() && shares {
                    return unsupported("has grains of which a part belongs to another extent");
                }
                Ok(Way::Sparse(sparse))
            }
            _ => Err(refused(self.layer)),
        }
    }

    fn is_child(&self) -> bool {
        self.overlay || self.layer.facts().parent.is_some()
    }

    /// The way of a sparse extent.
    pub(super) fn sparse(&mut self, file: &'a ImageFile) -> Result<Box<SparseUpdate<'a>>> {
        let (child, transaction) = (self.is_child(), self.transaction);
        let sparse = SparseUpdate::open(file, child, transaction, &mut self.opening)?;
        sparse.map(Box::new).ok_or_else(|| refused(self.layer))
    }

    /// Two extents in one place would overwrite each other.
    fn take(&mut self, file: &ImageFile, used: Range<u64>, number: u64) -> Result<()> {
        let Some(id) = file.tag.id else {
            return Ok(()); // no file, so the transaction does not know it
        };
        let claims = self.taken.entry(id).or_default();
        claims.claim(used, Owner::Unit(number)).map_err(|_| {
            let detail = "uses bytes of another extent";
            Error::corrupt(format!("extent {number}"), detail).path(file.path())
        })
    }
}
