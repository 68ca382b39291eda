//! Fingerprints of images, kept in Parquet files: so that images are read once, and reported on
//! where they are not.
//!
//! One file for each segment of a chain ([`vdisk_core::ops::dedup::segments`]): a row for each block of data and
//! for each run of zeros, ascending by position, and a [`Header`] that says whose they are. The
//! format is described in `docs/fingerprints.md`, for other programs.
//!
//! ```
//! use vdisk_core::ops::dedup::{Block, Content, Fingerprint};
//! use vdisk_fingerprints::{Folder, Header, Writer};
//!
//! let place = tempfile::tempdir().unwrap();
//! let mut folder = Folder::open(place.path(), true)?;
//! let header = Header {
//!     host: "store1".into(), path: "/vm/a.raw".into(), image: true, format: "raw".into(), layers: 1,
//!     size: 8192, unit: 4096, ..Header::default()
//! }.named();
//! let print = Fingerprint::of(&[7; 4096]);
//! let blocks = [
//!     Block { pos: 0, len: 4096, content: Content::Data { print, deflated: None } },
//!     Block { pos: 4096, len: 4096, content: Content::Zero },
//! ];
//! let mut writer = Writer::create(&folder, header.clone())?;
//! writer.add(&blocks)?;
//! writer.finish(&mut folder)?;
//!
//! let mut found = Vec::new();
//! let mut reader = folder.find(&header.id)?.expect("just written");
//! assert_eq!(reader.header().data, 4096);
//! reader.blocks(&mut |blocks| { found.extend_from_slice(blocks); Ok(()) })?;
//! assert_eq!(found, blocks);
//! # Ok::<(), vdisk_core::Error>(())
//! ```

mod columns;
mod folder;
mod header;
mod pages;
mod read;
mod rows;
mod seal;
mod write;

pub use folder::Folder;
pub use header::{FileStamp, Header};
pub use read::Reader;
pub use write::Writer;

/// Largest description of a file that is accepted, in bytes: that of 16 TiB of blocks of 4 KiB has
/// a quarter of it.
const FOOTER: u64 = 32 << 20;
