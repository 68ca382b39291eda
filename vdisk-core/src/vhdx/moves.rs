//! Which blocks move where, so that the file gets as short as it can.
//!
//! The last thing of the file goes into the first gap that it fits into, until one does not fit or
//! may not move. Only sets of MiB are kept, and a list of the sector bitmaps: one for 4 GiB.

use crate::bits::Bits;

/// What is taken of a file, by MiB.
pub(super) struct Taken {
    /// All that stays: blocks, sector bitmaps, and what must not move.
    pub(super) slots: Bits,
    /// Where blocks begin.
    pub(super) blocks: Bits,
    /// MiB of a block.
    pub(super) block: u64,
    /// Sector bitmaps: of which chunk, and where.
    pub(super) bitmaps: Vec<(u64, u64)>,
}

/// Where things go.
pub(super) struct Moves {
    /// Where blocks go that move; each to any of these.
    pub(super) targets: Bits,
    /// Blocks from here on move.
    pub(super) from: u64,
    /// All sector bitmaps: of which chunk, and where they are then; by chunk.
    pub(super) bitmaps: Vec<(u64, u64)>,
    /// What is taken then.
    pub(super) taken: Bits,
    /// Where the file ends then.
    pub(super) end: u64,
}

/// All stays where it is.
pub(super) fn none(old: &Taken) -> Moves {
    let limit = old.slots.limit();
    Moves {
        targets: Bits::new(limit),
        from: limit,
        bitmaps: old.bitmaps.clone(),
        taken: old.slots.clone(),
        end: old.slots.end(),
    }
}

/// Finds a place for whatever can move.
pub(super) fn plan(old: &Taken) -> Moves {
    let limit = old.slots.limit();
    let mut moves = none(old);
    moves.end = 0;
    // The last one first, by place.
    let mut last: Vec<usize> = (0..old.bitmaps.len()).collect();
    let slot = |i: &usize| old.bitmaps.get(*i).map_or(0, |b| b.1);
    last.sort_unstable_by_key(slot);
    let mut high = old.slots.end();
    let (mut gap, mut small) = (0, 0);
    while let Some(top) = high.checked_sub(1) {
        if last.last().is_some_and(|i| slot(i) == top) {
            small = moves.taken.next(small, false);
            if small >= top {
                break;
            }
            moves.take(small, 1);
            let moved = last.pop().and_then(|i| moves.bitmaps.get_mut(i));
            if let Some((_, place)) = moved {
                *place = small;
            }
            high = old.slots.end_below(top);
            continue;
        }
        let Some(start) = high
            .checked_sub(old.block)
            .filter(|start| old.blocks.has(*start))
        else {
            break; // it may not move
        };
        gap = moves.gap(gap, old.block);
        if gap.saturating_add(old.block) > start {
            break;
        }
        moves.take(gap, old.block);
        moves.targets.insert(gap);
        moves.from = start;
        high = old.slots.end_below(start);
    }
    moves.end = moves.end.max(high);
    // What moved is not where it was.
    moves.taken.remove(moves.from..limit);
    for ((_, place), (_, was)) in moves.bitmaps.iter().zip(&old.bitmaps) {
        if place != was {
            moves.taken.remove(*was..was.saturating_add(1));
        }
    }
    moves
}

impl Moves {
    fn take(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len);
        self.taken.add(start..end);
        self.end = self.end.max(end);
    }

    /// The first gap of `len` from `start` on.
    fn gap(&self, start: u64, len: u64) -> u64 {
        let mut start = start;
        loop {
            start = self.taken.next(start, false);
            let end = self.taken.next(start, true);
            if end.saturating_sub(start) >= len || end >= self.taken.limit() {
                return start;
            }
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Thing {
        Gap(u64),
        Pinned(u64),
        Block,
        Bitmap,
    }

    fn things() -> impl Strategy<Value = Vec<Thing>> {
        let thing = prop_oneof![
            (1..6u64).prop_map(Thing::Gap),
            (1..6u64).prop_map(Thing::Gap),
            Just(Thing::Pinned(2)),
            Just(Thing::Block),
            Just(Thing::Block),
            Just(Thing::Block),
            Just(Thing::Bitmap),
        ];
        prop::collection::vec(thing, 0..60)
    }

    proptest! {
        /// Against a list of who has which MiB.
        #[test]
        fn nothing_is_moved_onto_something(things in things(), block in 1..5u64) {
            let mut at = 0;
            let limit = things.iter().map(|t| match t {
                Thing::Gap(n) | Thing::Pinned(n) => *n,
                Thing::Block => block,
                Thing::Bitmap => 1,
            }).sum::<u64>() + block;
            let mut old = Taken {
                slots: Bits::new(limit),
                blocks: Bits::new(limit),
                block,
                bitmaps: Vec::new(),
            };
            let mut owned = std::collections::BTreeMap::new();
            let mut starts = Vec::new();
            let mut own = |range: std::ops::Range<u64>, who: String| {
                for slot in range {
                    assert_eq!(owned.insert(slot, who.clone()), None, "{slot} taken twice");
                }
            };
            for thing in &things {
                let len = match thing {
                    Thing::Gap(n) => { at += n; continue; }
                    Thing::Pinned(n) => { own(at..at + n, "pinned".into()); *n }
                    Thing::Block => { old.blocks.add(at..at + 1); starts.push(at); block }
                    Thing::Bitmap => { old.bitmaps.push((old.bitmaps.len() as u64, at)); 1 }
                };
                old.slots.add(at..at + len);
                at += len;
            }
            let moves = plan(&old);
            let mut next = 0;
            for start in &starts {
                let place = match *start >= moves.from {
                    true => { let t = moves.targets.next(next, true); next = t + 1; t }
                    false => *start,
                };
                prop_assert!(place <= *start);
                own(place..place + block, format!("block {start}"));
            }
            prop_assert_eq!(moves.targets.next(next, true), limit);
            for ((chunk, place), (was, from)) in moves.bitmaps.iter().zip(&old.bitmaps) {
                prop_assert!(chunk == was && place <= from);
                own(*place..place + 1, format!("bitmap {chunk}"));
            }
            let end = owned.keys().next_back().map_or(0, |last| last + 1);
            prop_assert_eq!(moves.end, end);
            prop_assert!((0..end).all(|s| moves.taken.has(s) == owned.contains_key(&s)));
            // What is written to is not what is read from: blocks and bitmaps go into gaps.
            let mut filled = moves.taken.clone();
            for slot in old.slots.runs(limit, true).flatten() {
                filled.remove(slot..slot + 1);
            }
            let moved = moves.targets.runs(limit, true).flatten().count() as u64 * block
                + moves.bitmaps.iter().zip(&old.bitmaps).filter(|(a, b)| a != b).count() as u64;
            prop_assert_eq!(filled.runs(limit, true).flatten().count() as u64, moved);
            // If blocks are of 1 MiB and all can move, no gap is left.
            if block == 1 && !things.contains(&Thing::Pinned(2)) {
                prop_assert_eq!(owned.len() as u64, end);
            }
        }
    }
}
