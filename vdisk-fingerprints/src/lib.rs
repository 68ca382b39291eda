//! Fingerprints of images, kept in Parquet files: so that images are read once, and reported on
//! where they are not.
//!
//! One file for each segment of a chain ([`vdisk_core::ops::dedup::segments`]): a row for each block of data and
//! for each run of zeros, ascending by position, and a [`Header`] that says whose they are. The
//! format is described in `docs/fingerprints.md`, for other programs.

mod folder;
mod header;
mod read;
mod write;

pub use folder::Folder;
pub use header::{FileStamp, Header};
pub use read::Reader;
pub use write::Writer;
