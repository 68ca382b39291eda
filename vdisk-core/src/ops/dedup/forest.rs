//! Which segments lie over which, and the numbers of the images in them.

/// One segment of a chain, for the [`Count`](super::Count).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Size of the disk that its top layer shows, in bytes.
    pub size: u64,
    /// True if an image that is reported on ends here; false if only others lie over it.
    pub image: bool,
    /// The node below, which shows where this one records nothing; none if it records everything.
    /// Its disk has the same size, or is shorter and ends at a multiple of 4 MiB.
    pub parent: Option<usize>,
}
