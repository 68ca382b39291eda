//! A target that keeps nothing: to learn what an image would take before it is written.

use super::Target;
use crate::Result;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes that file systems give out at once.
const BLOCK: u64 = 4096;

/// Counts the bytes that a file system would need for what it is given, in all files of an image.
///
/// ```
/// use vdisk_core::target::{Counting, Target};
/// let mut target = Counting::default();
/// target.write_at(1 << 40, b"four")?; // what lies before it is a hole
/// target.write_at((1 << 40) + 4, b"more")?;
/// target.beside("other")?.write_at(0, b"five!")?;
/// assert_eq!(target.stored(), 2 * 4096);
/// # Ok::<(), vdisk_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counting {
    total: Arc<AtomicU64>,
    /// The blocks of this file that were written last.
    last: (u64, u64),
}

impl Counting {
    /// The bytes so far. A little too many, if places are written to again later.
    pub fn stored(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

impl Target for Counting {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        let (start, end) = (
            pos / BLOCK,
            pos.saturating_add(bytes.len() as u64).div_ceil(BLOCK),
        );
        // What the last write began is not taken twice.
        let known = end.min(self.last.1).saturating_sub(start.max(self.last.0));
        let new = end.saturating_sub(start).saturating_sub(known);
        self.total
            .fetch_add(new.saturating_mul(BLOCK), Ordering::Relaxed);
        self.last = (start, end);
        Ok(())
    }
    fn set_size(&mut self, _size: u64) -> Result<()> {
        Ok(())
    }
    fn beside(&mut self, _name: &str) -> Result<Box<dyn Target>> {
        Ok(Box::new(Self {
            total: Arc::clone(&self.total),
            last: (0, 0),
        }))
    }
}
