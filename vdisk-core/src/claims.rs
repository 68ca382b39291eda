//! Which parts of a file are taken and by whom, to find two that overlap.
//!
//! Neighbours that continue each other are kept as one, so that an image of terabytes written in
//! order costs a few entries.

use crate::limits;
use std::{collections::BTreeMap, ops::Range};

/// Who takes a part of the file. Ordered numbers, such as the number of a grain, so that runs of
/// them join; [`Owner::Named`] is for headers and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Metadata, by what it is called.
    Named(&'static str),
    /// Unit (grain, block, cluster) number so many of the disk.
    Unit(u64),
    /// A unit, but to save memory it was forgotten which.
    Forgotten,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    end: u64,
    owner: Owner,
    /// Bytes in the file of each of the units that are joined here.
    unit: u64,
}

/// The parts of one file that are taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    taken: BTreeMap<u64, Claim>,
    full: bool,
}

impl Claims {
    /// Claims `range` for `owner`. `Err` names who has part of it already; then nothing is taken.
    pub(crate) fn claim(&mut self, range: Range<u64>, owner: Owner) -> Result<(), Owner> {
        if range.is_empty() {
            return Ok(());
        }
        if let Some(owner) = self.owner(&range) {
            return Err(owner);
        }
        if self.taken.len() >= limits::CLAIMS {
            self.forget();
        }
        if self.full {
            return Ok(());
        }
        let unit = range.end - range.start;
        if let Some((start, before)) = self.taken.range_mut(..=range.start).next_back()
            && before.end == range.start
            && before.continued_by(*start, unit, owner)
        {
            before.end = range.end;
            return Ok(());
        }
        let claim = Claim {
            end: range.end,
            owner,
            unit,
        };
        self.taken.insert(range.start, claim);
        Ok(())
    }

    /// Who has part of `range`; the last of them, if it is several.
    pub(crate) fn owner(&self, range: &Range<u64>) -> Option<Owner> {
        // Claims do not overlap, so the last one that begins before the end decides.
        let (start, claim) = self.taken.range(..range.end).next_back()?;
        (claim.end > range.start).then(|| claim.at(*start, range.start.max(*start)))
    }

    /// Where what is claimed ends.
    pub(crate) fn end(&self) -> u64 {
        self.taken.last_key_value().map_or(0, |(_, c)| c.end)
    }

    /// True if not all claims could be remembered: overlaps may have been missed.
    pub(crate) fn incomplete(&self) -> bool {
        self.full
    }

    /// Joins neighbours whoever they belong to, to save memory.
    fn forget(&mut self) {
        let mut joined: BTreeMap<u64, Claim> = BTreeMap::new();
        let mut last: Option<(u64, Claim)> = None;
        for (start, claim) in std::mem::take(&mut self.taken) {
            last = match last {
                Some((first, before))
                    if before.end == start
                        && !matches!(before.owner, Owner::Named(_))
                        && !matches!(claim.owner, Owner::Named(_)) =>
                {
                    let owner = Owner::Forgotten;
                    Some((first, Claim { owner, ..claim }))
                }
                other => {
                    joined.extend(other);
                    Some((start, claim))
                }
            };
        }
        joined.extend(last);
        self.taken = joined;
        self.full = self.taken.len() >= limits::CLAIMS / 2;
    }
}

impl Claim {
    /// Who owns the byte at `pos` of this claim, which begins at `start`.
    fn at(&self, start: u64, pos: u64) -> Owner {
        match self.owner {
            Owner::Unit(first) => {
                let index = (pos - start).checked_div(self.unit).unwrap_or(0);
                Owner::Unit(first.saturating_add(index))
            }
            other => other,
        }
    }

    /// True if a unit of `unit` bytes of `owner` continues this claim, which begins at `start`.
    fn continued_by(&self, start: u64, unit: u64, owner: Owner) -> bool {
        match (self.owner, owner) {
            (Owner::Unit(_), Owner::Unit(_)) => {
                self.unit == unit && self.at(start, self.end) == owner
            }
            (Owner::Forgotten, Owner::Unit(_)) => true,
            (before, after) => before == after,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by a panic")]
mod tests {
    use super::*;

    #[test]
    fn names_who_was_first() {
        let mut claims = Claims::default();
        claims.claim(0..512, Owner::Named("header")).unwrap();
        for grain in 0..100 {
            let at = 1000 + grain * 10;
            claims.claim(at..at + 10, Owner::Unit(grain)).unwrap();
        }
        assert_eq!(claims.taken.len(), 2, "units in order are one claim");
        assert_eq!(
            claims.claim(511..513, Owner::Unit(7)),
            Err(Owner::Named("header"))
        );
        assert_eq!(
            claims.claim(1234..1235, Owner::Unit(7)),
            Err(Owner::Unit(23))
        );
        assert_eq!(claims.claim(995..1005, Owner::Unit(7)), Err(Owner::Unit(0)));
        assert_eq!(
            claims.claim(1995..2005, Owner::Unit(7)),
            Err(Owner::Unit(99))
        );
        assert_eq!(claims.end(), 2000);
        assert_eq!(claims.claim(512..1000, Owner::Unit(100)), Ok(()));
        assert_eq!(claims.claim(2000..2010, Owner::Unit(5)), Ok(()));
        assert_eq!(claims.taken.len(), 4);
        assert_eq!(
            claims.claim(2009..2010, Owner::Unit(7)),
            Err(Owner::Unit(5))
        );
    }

    #[test]
    fn a_file_written_backwards_is_remembered_within_the_limit() {
        let mut claims = Claims::default();
        let units = limits::CLAIMS as u64 * 3;
        for number in 0..units {
            let at = (units - number) * 8;
            assert_eq!(claims.claim(at..at + 8, Owner::Unit(number)), Ok(()));
        }
        assert!(claims.taken.len() <= limits::CLAIMS);
        assert!(!claims.incomplete());
        assert!(claims.claim(88..89, Owner::Unit(0)).is_err());
    }
}
