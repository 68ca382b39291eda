//! A set of page numbers, as bits: the pages of a file of 2 TiB take 4 MiB.

use std::ops::Range;

#[derive(Default)]
pub(super) struct Pages {
    words: Vec<u64>,
}

impl Pages {
    /// Adds a page; false if it was there.
    pub(super) fn insert(&mut self, page: u64) -> bool {
        let (word, bit) = place(page);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let Some(word) = self.words.get_mut(word) else {
            return true;
        };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(super) fn contains(&self, page: u64) -> bool {
        let (word, bit) = place(page);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds all pages of a range, which may be empty.
    pub(super) fn add(&mut self, pages: Range<u64>) {
        for page in pages {
            self.insert(page);
        }
    }
}

fn place(page: u64) -> (usize, u64) {
    let word = usize::try_from(page / 64).unwrap_or(usize::MAX - 1);
    (word, 1 << (page % 64))
}
