//! Whose fingerprints a file holds.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vdisk_core::{Error, Result, limits::DISK_SIZE, ops::dedup::unit_of};

/// The version of the header and of the columns.
const SCHEMA: u32 = 1;

/// Kept as JSON in the file's key-value metadata, under the key `vdisk`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this structure and of the columns: 1.
    pub schema: u32,
    /// Name of this state of this segment: 32 hexadecimal digits, see [`named`](Self::named).
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
    /// Layers of the segment.
    pub layers: u32,
    /// Virtual size of the disk in bytes.
    pub size: u64,
    /// Bytes that the files of its topmost layer take on their medium.
    pub allocated: u64,
    /// Size of a block in bytes.
    pub unit: u64,
    /// One in 2 to the power of this many blocks was deflated, chosen by fingerprint: up to 32.
    pub deflate_bits: u32,
    /// First bytes of the partitions of the disk, ascending.
    pub partitions: Vec<u64>,
    /// All files of all layers down to the base, and how they were when they were read.
    pub files: Vec<FileStamp>,
    /// Rows of this file. Set by [`Writer`](crate::Writer), as are the two below.
    pub rows: u64,
    /// Bytes in blocks with data.
    pub data: u64,
    /// Bytes in runs of zeros.
    pub zero: u64,
}

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Last change of its contents in nanoseconds since 1970, which programs can set.
    pub modified: i64,
    /// Last change of its contents or of what the system knows of it, in nanoseconds since 1970: the
    /// system sets it, so that a change does not hide behind an old `modified`.
    pub changed: i64,
}

impl FileStamp {
    /// True if `other` is the same file in the same state.
    ///
    /// Bytes on the medium do not count: they change when the system writes its cache. Device
    /// numbers do not either: they may change when the machine starts again.
    pub fn same(&self, other: &Self) -> bool {
        self.state() == other.state()
    }

    fn state(&self) -> (&str, u64, u64, i64, i64) {
        (
            &self.path,
            self.inode,
            self.size,
            self.modified,
            self.changed,
        )
    }
}

impl Header {
    /// The same header with the `id` that follows from it, and its version.
    ///
    /// The first half follows from host, path and unit, and so stays when the image changes. The
    /// second half follows from all that decides about the fingerprints: format, layers, size,
    /// parent, and the state of the files.
    #[must_use]
    pub fn named(mut self) -> Self {
        self.schema = SCHEMA;
        let place = digits(&(SCHEMA, &self.host, &self.path, self.unit));
        let files: Vec<_> = self.files.iter().map(FileStamp::state).collect();
        let state = digits(&(&self.format, self.layers, self.size, &self.parent, files));
        self.id = place + &state;
        self
    }

    /// What its image was like when it was read, in 16 hexadecimal digits. Segments of one image in one
    /// state show the same disk, wherever their chains were cut: that depends on what is read with them.
    pub fn state(&self) -> String {
        let files: Vec<_> = self.files.iter().map(FileStamp::state).collect();
        digits(&(&self.format, self.size, files))
    }

    /// Fails unless the numbers make sense. They come from a file.
    pub(crate) fn check(&self) -> Result<()> {
        let fail = |detail: String| Err(Error::corrupt("header", detail));
        if self.schema != SCHEMA {
            return fail(format!(
                "has version {}, and only {SCHEMA} is known",
                self.schema
            ));
        }
        let ids = [Some(&self.id), self.parent.as_ref()];
        if let Some(id) = ids.into_iter().flatten().find(|id| !is_id(id)) {
            return fail(format!("has '{id}' as a name, not 32 hexadecimal digits"));
        }
        if unit_of(self.unit).ok() != Some(self.unit) {
            return fail(format!("has blocks of {} bytes", self.unit));
        }
        if self.size > DISK_SIZE || self.deflate_bits > 32 {
            return fail(format!(
                "has a disk of {} bytes, of which one block in 2^{} is deflated",
                self.size, self.deflate_bits
            ));
        }
        let sum = self.data.checked_add(self.zero);
        let tiled = match self.parent {
            None => sum == Some(self.size),
            Some(_) => sum.is_some_and(|sum| sum <= self.size),
        };
        if !tiled || self.rows > self.size.div_ceil(self.unit) {
            return fail(format!(
                "has {} rows with {} bytes of data and {} of zeros for a disk of {}",
                self.rows, self.data, self.zero, self.size
            ));
        }
        Ok(())
    }

    /// The part of the id that stays when the image changes.
    pub(crate) fn place(id: &str) -> &str {
        id.get(..16).unwrap_or_default()
    }
}

/// True if `text` can be an id: it becomes a part of file names.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// 16 hexadecimal digits that follow from `what`.
fn digits(what: &impl Serialize) -> String {
    // Numbers and text become JSON without fail.
    let digest = Sha256::digest(serde_json::to_vec(what).unwrap_or_default());
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}
