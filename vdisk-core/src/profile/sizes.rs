//! Which virtual sizes a profile takes, and what becomes of others.
//!
//! A disk is made larger to fit, with zeros at its end; nothing is ever cut off.

use super::{Rule, size_text};

/// Which virtual sizes are taken, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Only multiples of this.
    pub unit: u64,
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
    /// The rule that is broken by other sizes than multiples.
    pub unit_rule: Option<&'static str>,
    /// The rule that is broken by sizes that are too small or too large.
    pub range_rule: Option<&'static str>,
}

impl Sizes {
    /// What a format takes anyway.
    pub(super) const ANY: Self = Self {
        unit: 512,
        least: 512,
        most: u64::MAX,
        unit_rule: None,
        range_rule: None,
    };

    /// At most so many bytes, by that rule.
    pub(super) const fn up_to(most: u64, rule: &'static str) -> Self {
        Self {
            most,
            range_rule: Some(rule),
            ..Self::ANY
        }
    }

    /// The size that a disk of `size` bytes gets: as it is, or larger, never smaller. `None` if the
    /// disk is too large.
    pub fn fit(&self, size: u64) -> Option<u64> {
        let fitted = size.max(self.least).checked_next_multiple_of(self.unit);
        fitted.filter(|f| *f <= self.most)
    }

    /// The largest size, as the end of a sentence.
    pub(super) fn limit(&self) -> String {
        match self.most.saturating_add(512) {
            // One sector less than a round number is what is left of "less than".
            beyond if beyond.is_multiple_of(1 << 30) => format!("less than {}", size_text(beyond)),
            _ => format!("{} at most", size_text(self.most)),
        }
    }

    /// Why a disk of `size` bytes gets another size.
    pub fn why(&self, size: u64) -> Option<&'static Rule> {
        let rule = if size < self.least {
            self.range_rule
        } else {
            self.unit_rule
        };
        super::rule(rule?)
    }
}
