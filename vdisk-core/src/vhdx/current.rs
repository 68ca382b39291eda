//! An image that is about to be changed, and the headers that it gets.
//!
//! Reading forgives a damaged copy; a change must not: it would rely on the other copy alone, and
//! write anew what a repair should have looked at.

use super::{
    bat::Numbering,
    disk_structs::{Guid, Header},
    front,
    header::{self, Found, Replacing},
    metadata::{self, Metadata},
    regions::{self, Regions},
};
use crate::{Error, ErrorKind, Ids, Layer, Result, format::Update, storage::ImageFile};
use uuid::Uuid;

/// The parts of an image that is whole, and was closed.
pub(crate) struct Current {
    pub(crate) file: ImageFile,
    pub(crate) found: Found,
    pub(crate) regions: Regions,
    pub(crate) metadata: Metadata,
}

impl Current {
    /// The image of `layer`, which `update` is to change.
    pub(crate) fn of(layer: &Layer, update: &Update<'_>) -> Result<Self> {
        let Some(file) = layer.files().first() else {
            return Err(Error::new(ErrorKind::Usage, "image", "has no file"));
        };
        let current = Self::read(file).map_err(|e| e.path(file.path()))?;
        if update.context.overlay && !current.metadata.has_parent {
            let detail = "names no parent: it cannot be changed as the overlay of one";
            return Err(Error::new(ErrorKind::Unsupported, "image", detail).path(file.path()));
        }
        Ok(current)
    }

    /// How blocks and entries correspond.
    pub(crate) fn numbering(&self) -> Numbering {
        let metadata = &self.metadata;
        Numbering::new(
            metadata.size,
            metadata.block_size.into(),
            metadata.logical_sector,
        )
    }

    /// Reads the parts of the image in `file`.
    ///
    /// # Errors
    /// `Unsupported` if its log must be replayed first, `Corrupt` if a copy is damaged.
    pub(crate) fn read(file: &ImageFile) -> Result<Self> {
        let mut found = header::find(file)?;
        let log = header::log(&found.header, file)?;
        if found.header.log != [0; 16] {
            let detail = "must be replayed before the image is changed";
            return Err(Error::new(ErrorKind::Unsupported, "log", detail).at(log.start));
        }
        let regions = regions::find(file, &log, &mut found.warnings)?;
        if let Some(warning) = found.warnings.first() {
            let detail = format!("must be repaired before it is changed: {warning}");
            return Err(Error::corrupt("image", detail));
        }
        if regions::read_table(file, 0)? != regions::read_table(file, 1)? {
            let detail = "differ: nothing says where the parts of the image are";
            return Err(Error::corrupt("region tables", detail));
        }
        Ok(Self {
            metadata: metadata::read(file, &regions.metadata)?,
            file: file.clone(),
            found,
            regions,
        })
    }

    /// The headers of the changed image, and where they go, in the order in which they must reach
    /// the medium. It keeps its data write GUID, by which its children know it, unless `ids` say
    /// otherwise; the file write GUID changes with every change of the file.
    pub(crate) fn headers(&self, ids: Option<&Ids>) -> Result<Replacing> {
        let old = &self.found.header;
        let given = ids.map(|ids| front::file_write(ids.uuid));
        let header = Header {
            data_write: self.data_write(ids),
            file_write: given
                .filter(|guid| *guid != old.file_write)
                .unwrap_or_else(|| {
                    let old = Uuid::from_bytes(old.file_write);
                    Uuid::new_v5(&old, b"changed").to_bytes_le()
                }),
            ..old.clone()
        };
        header::replacing(&self.found, &header)?.ok_or_else(|| {
            let detail = "have the highest sequence number there is: none can follow";
            Error::new(ErrorKind::Unsupported, "headers", detail)
        })
    }

    /// The data write GUID that the image has with `ids`.
    pub(crate) fn data_write(&self, ids: Option<&Ids>) -> Guid {
        ids.map_or(self.found.header.data_write, |ids| {
            front::data_write(ids.uuid)
        })
    }
}
