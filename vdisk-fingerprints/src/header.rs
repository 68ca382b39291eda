//! Whose fingerprints a file holds.

use serde::{Deserialize, Serialize};

/// Kept as JSON in the file's key-value metadata, under the key `vdisk`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this structure and of the columns: 1.
    pub schema: u32,
    /// Name of this segment: 32 hexadecimal digits that follow from host, path, files, layers and unit.
    pub id: String,
    /// The name of the segment below; none if this one records everything.
    pub parent: Option<String>,
    /// The machine where the image was read.
    pub host: String,
    /// The absolute path of its topmost layer; of a disk in a package `PACKAGE::NAME`.
    pub path: String,
    /// True if an image ends here; false if only others lie over it.
    pub image: bool,
    /// Format of the topmost layer.
    pub format: String,
    /// Layers that it consists of.
    pub layers: u32,
    /// Virtual size of the disk in bytes.
    pub size: u64,
    /// Bytes that the files of its topmost layer take on their medium.
    pub allocated: u64,
    /// Size of a block in bytes.
    pub unit: u64,
    /// One in 2 to the power of this many blocks was deflated.
    pub deflate_bits: u32,
    /// First bytes of the partitions of the disk, ascending.
    pub partitions: Vec<u64>,
    /// All files of all layers down to the base, and how they were when they were read.
    pub files: Vec<FileStamp>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Its absolute path.
    pub path: String,
    /// Device and inode number.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Bytes on the medium.
    pub allocated: u64,
    /// Last change in nanoseconds since 1970.
    pub modified: i64,
}
