//! A set of numbers below a limit, one bit each: for what would be too much as a list.
//!
//! The slots of a file of 1 TiB in grains of 64 KiB take 2 MiB; in blocks of 1 MiB, 128 KiB.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test may fail by a panic"
    )
)]

use std::ops::Range;

/// A set of numbers from 0 to before a limit. It takes memory up to the highest that was added.
#[derive(Clone, Debug)]
pub(crate) struct Bits {
    words: Vec<u64>,
    limit: u64,
}

impl Bits {
    /// The empty set of numbers below `limit`, which the caller has bounded.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            words: Vec::new(),
            limit,
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Adds `number`, if it is below the limit. False if nothing changed.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let (index, bit) = place(number);
        if number >= self.limit {
            return false;
        }
        if self.words.len() <= index {
            self.words.resize(index.saturating_add(1), 0);
        }
        let Some(word) = self.words.get_mut(index) else {
            return false;
        };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Adds the numbers of `range` that are below the limit.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        for number in range.start..range.end.min(self.limit) {
            self.insert(number);
        }
    }

    /// Takes the numbers of `range` out.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        for number in range.start..range.end.min(self.stored()) {
            let (index, bit) = place(number);
            if let Some(word) = self.words.get_mut(index) {
                *word &= !bit;
            }
        }
    }

    /// The number from which on none has a bit in memory.
    fn stored(&self) -> u64 {
        (self.words.len() as u64).saturating_mul(64)
    }

    pub(crate) fn has(&self, number: u64) -> bool {
        let (index, bit) = place(number);
        self.words.get(index).is_some_and(|word| word & bit != 0)
    }

    /// The first number from `from` on that is in the set, or is not; the limit if there is none.
    pub(crate) fn next(&self, from: u64, inside: bool) -> u64 {
        let mut from = from;
        while from < self.limit.min(self.stored()) {
            let (index, _) = place(from);
            let word = self.words.get(index).copied().unwrap_or(0);
            let wanted = if inside { word } else { !word };
            let shift = u32::try_from(from % 64).unwrap_or(0);
            match wanted.checked_shr(shift).unwrap_or(0) {
                0 => from = (from / 64).saturating_add(1).saturating_mul(64),
                rest => {
                    let found = from.saturating_add(rest.trailing_zeros().into());
                    return found.min(self.limit);
                }
            }
        }
        match inside {
            true => self.limit,
            false => from.min(self.limit),
        }
    }

    /// The ranges of numbers below `end` that are in the set, or are not.
    pub(crate) fn runs(&self, end: u64, inside: bool) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.next(from, inside);
            if start >= end.min(self.limit) {
                return None;
            }
            from = self.next(start, !inside).min(end);
            Some(start..from)
        })
    }

    /// The number after the last one in the set that is below `before`; 0 if there is none.
    pub(crate) fn end_below(&self, before: u64) -> u64 {
        let mut end = before.min(self.limit).min(self.stored());
        while let Some(last) = end.checked_sub(1) {
            let (index, _) = place(last);
            let word = self.words.get(index).copied().unwrap_or(0);
            // The bits of the word from `end` on go out at the top.
            let above = u32::try_from(63u64.saturating_sub(last % 64)).unwrap_or(0);
            match word.checked_shl(above).unwrap_or(0) {
                0 => end = last.saturating_sub(last % 64),
                rest => return end.saturating_sub(rest.leading_zeros().into()),
            }
        }
        0
    }

    /// The number after the last one in the set.
    pub(crate) fn end(&self) -> u64 {
        self.end_below(self.limit)
    }
}

fn place(number: u64) -> (usize, u64) {
    let index = usize::try_from(number / 64).unwrap_or(usize::MAX);
    (index, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set(
            limit in 0u64..300,
            changes in prop::collection::vec((0u64..300, 0u64..90, any::<bool>()), 0..8),
            end in 0u64..300,
        ) {
            let mut bits = Bits::new(limit);
            let mut model = vec![false; usize::try_from(limit).unwrap()];
            for (start, len, add) in changes {
                match add {
                    true => bits.add(start..start + len),
                    false => bits.remove(start..start + len),
                }
                for number in start..(start + len).min(limit) {
                    model[usize::try_from(number).unwrap()] = add;
                }
            }
            for inside in [true, false] {
                let listed: Vec<u64> = bits.runs(end, inside).flatten().collect();
                let expected: Vec<u64> = (0..limit.min(end))
                    .filter(|n| model[usize::try_from(*n).unwrap()] == inside)
                    .collect();
                prop_assert_eq!(listed, expected);
            }
            let below = |before: u64| {
                let upto = usize::try_from(before.min(limit)).unwrap();
                model[..upto].iter().rposition(|b| *b).map_or(0, |n| n as u64 + 1)
            };
            for before in 0..300 {
                prop_assert_eq!(bits.end_below(before), below(before));
            }
            prop_assert_eq!(bits.end(), below(limit));
            prop_assert!((0..limit).all(|n| bits.has(n) == model[usize::try_from(n).unwrap()]));
        }
    }
}
