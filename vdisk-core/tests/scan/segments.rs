//! Forests of random chains, cut into segments.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use vdisk_core::ops::dedup::{Segment, segments};

type Chain = Vec<(u32, u64)>;

/// Chains that end at layers of random trees.
fn chains(sizes: &'static [u64]) -> impl Strategy<Value = Vec<Chain>> {
    let layer = (any::<prop::sample::Index>(), prop::sample::select(sizes));
    (
        prop::collection::vec(layer, 1..25),
        prop::collection::vec(any::<prop::sample::Index>(), 1..12),
    )
        .prop_map(|(layers, tops)| {
            let mut all: Vec<Chain> = Vec::new();
            for (number, (below, size)) in (0..).zip(layers) {
                // Under some layer before it, or under none.
                let below = below.index(all.len() + 1);
                let mut chain = vec![(number, size)];
                chain.extend(all.get(below).into_iter().flatten());
                all.push(chain);
            }
            tops.iter().map(|t| t.get(&all).clone()).collect()
        })
}

/// A layer is named by all layers from it down.
type Named<'a> = &'a [(u32, u64)];

fn layer<'a>(chains: &'a [Chain], segment: &Segment, depth: usize) -> Named<'a> {
    &chains[segment.chain][depth..]
}

fn top<'a>(chains: &'a [Chain], segment: &Segment) -> Named<'a> {
    layer(chains, segment, segment.layers.start)
}

/// True if a child of `over` bytes may leave to a disk of `below` bytes what it does not record.
fn may_link(over: u64, below: u64) -> bool {
    over == below || over > below && below.is_multiple_of(4 << 20)
}

/// By layer: the layers right above it in any chain, and whether a chain ends there.
fn uses(chains: &[Chain]) -> BTreeMap<Named<'_>, (BTreeSet<Named<'_>>, usize)> {
    let mut uses = BTreeMap::<_, (BTreeSet<_>, usize)>::new();
    for chain in chains {
        for depth in 0..chain.len() {
            let (over, ends) = uses.entry(&chain[depth..]).or_default();
            match depth {
                0 => *ends += 1,
                _ => drop(over.insert(&chain[depth - 1..])),
            }
        }
    }
    uses
}

fn check(chains: &[Chain]) {
    let found = segments(chains);
    let uses = uses(chains);
    // True if one layer more or less on top of it makes a difference to somebody.
    let parts = |layer: Named<'_>| {
        let (over, ends) = &uses[layer];
        // Each chain that ends in the same layer counts above what is below it.
        let above = over.iter().map(|o| uses[*o].1.max(1)).sum::<usize>();
        *ends > 0 || above > 1
    };
    for (number, segment) in found.iter().enumerate() {
        assert_eq!(segment.image, number < chains.len(), "{segment:?}");
        assert!(!segment.layers.is_empty(), "{segment:?}");
        if let Some(chain) = chains.get(number) {
            assert_eq!(top(chains, segment), &chain[..]);
            assert_eq!((segment.chain, segment.layers.start), (number, 0));
        } else {
            assert!(parts(top(chains, segment)), "{segment:?} has no reason");
            let over = found.iter().filter(|s| s.parent == Some(number));
            assert!(over.count() > 0, "{segment:?} is nobody's");
        }
        let size = top(chains, segment)[0].1;
        for depth in segment.layers.clone().skip(1) {
            let inside = layer(chains, segment, depth);
            assert!(
                !parts(inside) || !may_link(size, inside[0].1),
                "{segment:?} should end before layer {depth}"
            );
        }
        let below = layer(chains, segment, segment.layers.end);
        match segment.parent {
            None => assert!(below.is_empty(), "{segment:?}"),
            Some(parent) => {
                assert_eq!(below, top(chains, &found[parent]));
                assert!(may_link(size, below[0].1), "{segment:?}");
            }
        }
    }
    let tops: BTreeSet<_> = found[chains.len()..]
        .iter()
        .map(|s| top(chains, s))
        .collect();
    assert_eq!(tops.len(), found.len() - chains.len(), "read twice");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn chains_are_made_of_their_segments(chains in chains(&[4 << 20, 6 << 20, 8 << 20, 9 << 20])) {
        check(&chains);
    }

    #[test]
    fn of_disks_of_one_size_no_layer_is_in_two(chains in chains(&[6 << 20])) {
        check(&chains);
        let found = segments(&chains);
        let read: usize = found.iter().map(|s| s.layers.len()).sum();
        let uses = uses(&chains);
        // Chains with the same top each have that one.
        let again: usize = uses.values().map(|u| u.1.saturating_sub(1)).sum();
        prop_assert_eq!(read, uses.len() + again);
    }
}

#[test]
fn a_name_over_other_layers_is_another_layer() {
    let found = segments(&[
        vec![("a", 1), ("s", 1), ("one", 1)],
        vec![("b", 1), ("s", 1), ("two", 1)],
        vec![("c", 1), ("s", 2), ("two", 1)],
    ]);
    assert_eq!(found.len(), 4);
    assert_eq!(found[0].layers, 0..3);
    assert_eq!(found[1].layers, 0..2);
    assert_eq!(found[2].layers, 0..2);
    assert_eq!(found[3].layers, 2..3);
}

#[test]
fn a_thousand_clones_are_a_thousand_and_one() {
    let clone = |n| vec![(n, 8u64 << 30), (1000, 8 << 30), (1001, 8 << 30)];
    let chains: Vec<_> = (0..1000).map(clone).collect();
    let found = segments(&chains);
    assert_eq!(found.len(), 1001);
    assert!(found[..1000].iter().all(|s| s.parent == Some(1000)));
    assert_eq!(found[1000].layers, 1..3);
}
