//! How much of a set of disks is there more than once: exact, in bounded memory, and for whom.
//!
//! Blocks are cut from what the guest sees, at multiples of the block size from the start of the
//! disk, so the container formats do not hide duplicates. Three steps:
//!
//! 1. [`segments`] cuts the chains of all images into segments, so that layers which many images
//!    share are one segment, read once.
//! 2. [`scan`] reads what a segment records of its own and makes [`Block`]s of it: a fingerprint
//!    and a position each. They can be kept, and need not be read again.
//! 3. [`Count`] takes the blocks of all segments, in any order of segments, and says what is there
//!    how often. What does not fit its memory is sorted in a temporary file.
//!
//! # How clones cost only their own data
//! Images are numbered so that all images over one segment have consecutive numbers: a *span*. A
//! block that a segment records counts +1 for its span, and the block of the parent that it hides
//! counts -1 for the same span. So a base with a thousand clones adds one record for each of its
//! blocks, and each clone two for each of its own. Blocks of images with relatives are sorted by position
//! first, to see which hides which; so larger blocks, which are partly their own and partly the
//! parent's, are known too.
//!
//! # All steps
//! ```
//! use std::path::PathBuf;
//! use vdisk_core::{Chain, Disk, Job, Result, ops::dedup::{self, Count, Node, Options, Outcome}};
//!
//! fn duplicates(images: &[Chain], job: &Job<'_>) -> Result<Outcome> {
//!     // A layer is the same wherever it has the same name.
//!     let names: Vec<Vec<(PathBuf, u64)>> = images
//!         .iter()
//!         .map(|image| image.layers().iter().map(|l| (l.path().into(), l.size())).collect())
//!         .collect();
//!     let segments = dedup::segments(&names);
//!     let nodes: Vec<Node> = segments
//!         .iter()
//!         .map(|s| Node { size: names[s.chain][s.layers.start].1, image: s.image, parent: s.parent })
//!         .collect();
//!     let unit = dedup::unit_of(65536)?;
//!     let mut count = Count::new(&nodes, Options {
//!         unit,
//!         block: 65536,
//!         sizes: vec![4096, 1 << 20],
//!         memory: 256 << 20,
//!         temp: std::env::temp_dir(),
//!         sample_bits: 0,
//!         groups: vec![],
//!         places: false,
//!     })?;
//!     for (node, segment) in segments.iter().enumerate() {
//!         let Some(disk) = images[segment.chain].below(segment.layers.start) else { continue };
//!         let recorded = disk.above(segment.layers.len());
//!         let read = dedup::scan(&recorded, &disk, unit, 10, job, &mut |blocks| {
//!             count.add(node, blocks, job)
//!         });
//!         if read.and_then(|()| count.complete(node)).is_err() {
//!             count.fail(node); // leaves out all images over it, and counts the others
//!         }
//!     }
//!     count.finish(job)
//! }
//! # use vdisk_core::{FileResolver, OpenOptions, format, open};
//! # let folder = tempfile::tempdir().unwrap();
//! # let resolver = FileResolver::default();
//! # let image = |name: &str, fill: u8| {
//! #     let path = folder.path().join(name);
//! #     std::fs::write(&path, [[1; 65536], [fill; 65536]].concat()).unwrap();
//! #     open(&path, &OpenOptions { format: Some(format::named("raw")?), ..OpenOptions::new(&resolver) })
//! # };
//! # let images = [image("a.raw", 2)?, image("b.raw", 3)?];
//!
//! let found = duplicates(&images, &Job::default())?;
//! // Two images of two blocks; they share one.
//! assert_eq!(found.total.data, 4 * 65536);
//! assert_eq!(found.total.unique, 3 * 65536);
//! assert_eq!(found.images[0].unwrap().shared, 65536);
//! # Ok::<(), vdisk_core::Error>(())
//! ```

mod block;
mod chunks;
mod count;
mod cuts;
mod deflated;
mod figures;
mod fingerprint;
mod forest;
mod frame;
mod intake;
mod options;
mod outcome;
mod padded;
mod pairs;
mod position;
mod records;
mod resolve;
mod scan;
mod segments;
mod sorter;
mod tally;

pub use block::{Block, Content};
pub use chunks::{Chunk, chunks};
pub use count::Count;
pub use fingerprint::Fingerprint;
pub use forest::Node;
pub use options::{LEAST_MEMORY, Options};
pub use outcome::{
    ChunkCounts, Compression, Counts, ImageCounts, Outcome, Refs, Sampled, SizeCounts,
};
pub use padded::Padded;
pub use pairs::Pairs;
pub use scan::scan;
pub use segments::{Segment, segments};

use crate::{Error, ErrorKind, Result};

/// Largest block size accepted, in bytes.
pub const LARGEST_BLOCK: u64 = 16 << 20;

/// The size of the blocks that are hashed, in bytes, wherever the block size is a multiple of it:
/// the fingerprint of a larger block is that of its units' fingerprints.
pub const UNIT: u64 = 4096;

/// The size of the blocks that are hashed for a report on blocks of `block` bytes: [`UNIT`], or
/// `block` itself if it is no multiple of that.
///
/// Fails unless `block` is a multiple of 512, up to [`LARGEST_BLOCK`].
///
/// ```
/// use vdisk_core::ops::dedup;
/// assert_eq!(dedup::unit_of(65536)?, 4096);
/// assert_eq!(dedup::unit_of(512)?, 512);
/// assert!(dedup::unit_of(1000).is_err());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn unit_of(block: u64) -> Result<u64> {
    if block == 0 || !block.is_multiple_of(512) || block > LARGEST_BLOCK {
        let detail = format!("{block} is not a multiple of 512 between 512 and {LARGEST_BLOCK}");
        return Err(Error::new(ErrorKind::Usage, "block size", detail));
    }
    Ok(if block.is_multiple_of(UNIT) {
        UNIT
    } else {
        block
    })
}
