//! The header of a VDI file, byte for byte, so that no other file knows an offset.
//!
//! There is no specification. Field meanings are those of VirtualBox (`VDICore.h`) and of qemu
//! (`block/vdi.c`), which agree. All numbers are little-endian.

use crate::{Error, ErrorKind, Result, storage::ImageFile};
use binrw::BinRead;
use std::io::Cursor;

/// The signature, and where it is.
pub(super) const SIGNATURE: [u8; 4] = 0xbeda_107f_u32.to_le_bytes();
pub(super) const SIGNATURE_AT: u64 = 64;
/// Bytes from the start of the file that hold every field.
pub(super) const HEADER: u64 = 512;
/// The version that is read: 1.1, since VirtualBox 1.1 of 2007.
const VERSION: u32 = 0x0001_0001;
/// Least bytes that a header of that version claims.
const LENGTH: u32 = 384;

/// Image type: blocks are added as they are written.
pub(super) const DYNAMIC: u32 = 1;
/// Image type: all blocks were allocated from the start.
pub(super) const FIXED: u32 = 2;
/// Image type: writes that may be undone; nothing has written it for long.
pub(super) const UNDO: u32 = 3;
/// Image type: blocks that differ from a parent.
pub(super) const DIFFERENCING: u32 = 4;

/// The header of version 1.1, with the text before it.
#[derive(BinRead, Clone, Debug)]
#[br(little)]
pub(super) struct Header {
    /// What the file says of itself to people.
    pub(super) text: [u8; 64],
    pub(super) signature: [u8; 4],
    pub(super) version: u32,
    /// Bytes of the header from here on.
    pub(super) length: u32,
    pub(super) image_type: u32,
    #[br(pad_before = 4)]
    pub(super) comment: [u8; 256],
    /// Where the block map is.
    pub(super) blocks_at: u32,
    /// Where the first block is.
    pub(super) data_at: u32,
    /// The virtual size in bytes.
    #[br(pad_before = 20)]
    pub(super) size: u64,
    pub(super) block_size: u32,
    /// Bytes before the data of each block.
    pub(super) block_extra: u32,
    /// Entries of the block map.
    pub(super) blocks: u32,
    /// Blocks that have a place in the file.
    pub(super) blocks_allocated: u32,
    pub(super) uuid: [u8; 16],
    /// Renewed whenever the contents change.
    pub(super) modified: [u8; 16],
    pub(super) parent_uuid: [u8; 16],
    /// What the parent's `modified` was when the child was made.
    pub(super) parent_modified: [u8; 16],
}

impl Header {
    /// Reads the header of `file`.
    pub(super) fn read(file: &ImageFile) -> Result<Self> {
        let bytes = file.read_part("header", 0, HEADER)?;
        let header = <Self as BinRead>::read(&mut Cursor::new(&bytes))
            .map_err(|e| Error::corrupt("header", "cannot be read").because(e))?;
        if header.signature != SIGNATURE {
            let detail = "has no VDI signature";
            return Err(Error::new(ErrorKind::WrongFormat, "format", detail));
        }
        if header.version != VERSION {
            let (major, minor) = (header.version >> 16, header.version & 0xffff);
            let detail = format!("has version {major}.{minor}; version 1.1 is read");
            return Err(Error::new(ErrorKind::Unsupported, "header", detail).at(68));
        }
        if header.length < LENGTH {
            let detail = format!("claims {} bytes for itself", header.length);
            return Err(Error::corrupt("header", detail).at(72));
        }
        Ok(header)
    }
}

/// Text up to the first NUL or line end.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| matches!(b, 0 | b'\n' | b'\r'));
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(line).trim().to_owned()
}
