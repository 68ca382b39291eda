//! A target that keeps nothing: to learn what an image would take before it is written.

use super::Target;
use crate::{
    Result, limits,
    units::{round_down, round_up},
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes in which file systems keep files.
const PAGE: u64 = 4096;

/// A target that keeps nothing but the sizes of its files.
///
/// ```
/// use vdisk_core::target::{Counting, Target};
/// let mut counting = Counting::new("disk.vmdk");
/// counting.write_at(1 << 30, b"data")?;
/// let sizes = counting.files();
/// assert_eq!((sizes[0].size, sizes[0].stored), ((1 << 30) + 4, Some(4096)));
/// # Ok::<(), vdisk_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Counting {
    files: Arc<Mutex<Vec<Counted>>>,
    number: usize,
}

/// A file that a [`Counting`] was given.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FileSize {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes of it that are written, in whole pages of 4 KiB: what it takes on a file system that
    /// keeps holes. `None` if it has too many holes to remember.
    pub stored: Option<u64>,
}

#[derive(Debug)]
struct Counted {
    name: String,
    len: u64,
    /// What is written, in pages: start and end. `None` once there are too many.
    written: Option<BTreeMap<u64, u64>>,
}

impl Counted {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            len: 0,
            written: Some(BTreeMap::new()),
        }
    }

    fn add(&mut self, range: &Range<u64>) {
        self.len = self.len.max(range.end);
        let Some(written) = &mut self.written else {
            return;
        };
        let (mut start, mut end) = (round_down(range.start, PAGE), round_up(range.end, PAGE));
        while let Some((&from, &to)) = written.range(..=end).next_back()
            && to >= start
        {
            written.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        written.insert(start, end);
        if written.len() > limits::CLAIMS {
            self.written = None;
        }
    }

    fn size(&self) -> FileSize {
        let end = round_up(self.len, PAGE);
        let pages = |(start, to): (&u64, &u64)| end.min(*to).saturating_sub(*start);
        FileSize {
            name: self.name.clone(),
            size: self.len,
            stored: self.written.as_ref().map(|w| w.iter().map(pages).sum()),
        }
    }
}

impl Counting {
    /// Stands for the file `name`.
    pub fn new(name: &str) -> Self {
        Self {
            files: Arc::new(Mutex::new(vec![Counted::new(name)])),
            number: 0,
        }
    }

    /// All files of the image, the main one first.
    pub fn files(&self) -> Vec<FileSize> {
        self.lock().iter().map(Counted::size).collect()
    }

    /// The bytes of all files that are written so far, in whole pages; all of a file that has too
    /// many holes to remember.
    pub fn stored(&self) -> u64 {
        let files = self.files();
        files.iter().map(|f| f.stored.unwrap_or(f.size)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Counted>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Counting {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        if let Some(file) = self.lock().get_mut(self.number) {
            file.add(&(pos..pos.saturating_add(bytes.len() as u64)));
        }
        Ok(())
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        if let Some(file) = self.lock().get_mut(self.number) {
            file.len = size;
        }
        Ok(())
    }

    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        let mut files = self.lock();
        files.push(Counted::new(name));
        Ok(Box::new(Self {
            files: self.files.clone(),
            number: files.len() - 1,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_twice_counts_once() -> Result<()> {
        let mut counting = Counting::new("a");
        // Around a hole from 12288 to 20480; the third fills part of it from the left.
        for (pos, len) in [(0, 100), (20_480, 4096), (4000, 200), (50, 12_000)] {
            counting.write_at(pos, &vec![1; len])?;
        }
        let mut other = counting.beside("b")?;
        other.set_size(10_000)?;
        let sizes = counting.files();
        let of = |n: usize| sizes.get(n).map(|f| (f.name.as_str(), f.size, f.stored));
        assert_eq!(of(0), Some(("a", 24_576, Some(16_384))));
        assert_eq!(of(1), Some(("b", 10_000, Some(0))));
        counting.set_size(21_000)?;
        assert_eq!(
            counting.files().first().and_then(|f| f.stored),
            Some(16_384)
        );
        counting.set_size(4096)?;
        assert_eq!(counting.files().first().and_then(|f| f.stored), Some(4096));
        Ok(())
    }
}
