//! Sums are those of explicit sets, one for each block, whatever the memory.
#![allow(
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init,
    reason = "numbers are small, and a span can be the only one"
)]

use super::{super::sorter::Record, model::Model, *};

#[test]
fn sums_are_those_of_sets() {
    let mut nothing = 0;
    for seed in 1..300 {
        let model = Model::random(seed);
        // Room for everything; for some 40 sets, and all pairs; for no set and no pairs.
        for memory in [1 << 30, 27 << 10, 0] {
            let found = model.tally(memory, 0);
            model.check(&found, 1);
            let lived = model.alive.contains(&true);
            nothing += usize::from(!lived);
            assert_eq!(found.outcome.pairs.is_some(), memory > 0 || !lived);
            assert_eq!(found.outcome.places.is_some(), memory > 0 || !lived);
            let groups = model.groups.iter().max().map_or(0, |g| *g as usize + 1);
            assert_eq!(found.outcome.groups.len(), groups);
        }
    }
    assert!(nothing < 450);
}

#[test]
fn a_sample_is_scaled() {
    for seed in 1..50 {
        let model = Model::random(seed);
        let found = model.tally(1 << 20, 4);
        model.check(&found, 16);
        let main = Class::Size(model.main);
        let lived = model.of(main).filter(|(_, c)| c.iter().any(|&n| n > 0));
        let squares: f64 = lived.map(|(len, _)| (len * len) as f64).sum();
        // p is 1/16, and (1 - p) / p^2 = 240.
        let error = 1.96 * (squares * 240.0).sqrt();
        let sampled = found.outcome.sampled;
        assert_eq!(sampled.bits, 4);
        assert!((sampled.unique_error as f64 - error).abs() <= 3.0);
    }
}

#[test]
fn places_are_left_out_first_then_pairs() {
    let mut model = Model::random(7);
    model.alive = vec![true; 10];
    model.nodes = (0..10).collect();
    model.spans = vec![0..10];
    (model.groups, model.records, model.blocks) = Default::default();
    let bytes = 55 * 8; // of one table: 10 * 11 / 2 cells
    for (memory, pairs, places) in [
        (4 * bytes, true, true),
        (4 * bytes - 1, true, false),
        (2 * bytes, true, false),
        (2 * bytes - 1, false, false),
    ] {
        let outcome = model.tally(memory, 0).outcome;
        assert_eq!(outcome.pairs.is_some(), pairs);
        assert_eq!(outcome.places.is_some(), places);
    }
}

#[test]
fn taking_away_what_is_not_there_is_an_error() {
    let mut model = Model::random(1);
    model.alive = vec![true; 3];
    model.nodes = vec![0, 1, 2];
    model.spans = vec![0..3, 1..2];
    model.groups.clear();
    for counts in [&[(0, -1)][..], &[(0, 1), (1, -2)], &[(0, i64::MAX)]] {
        for class in [Class::Size(0), Class::Place, Class::Chunk] {
            let mut records = counts.iter().map(|&(span, count)| Print {
                print: 5,
                kind: Print::kind(class, 512),
                span,
                count,
            });
            let mut tally = Tally::new(Plan {
                spans: model.spans.clone(),
                alive: model.alive.clone(),
                nodes: model.nodes.clone(),
                groups: vec![],
                main: 0,
                sizes: vec![4096],
                sample_bits: 0,
                memory: 0,
                places: false,
            });
            let result = records.try_for_each(|r| tally.add(r));
            let Some(error) = result.and_then(|()| tally.finish()).err() else {
                panic!("{counts:?} was taken");
            };
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
            assert_eq!(error.part(), "fingerprints");
        }
    }
}

#[test]
fn a_record_is_what_was_written() {
    for class in [Class::Size(0), Class::Size(16), Class::Place, Class::Chunk] {
        for len in [1, 512, 16 << 20] {
            let kind = Print::kind(class, len);
            assert_eq!(Print::class(kind), (class, u32::try_from(len).unwrap()));
            let record = Print {
                print: u128::MAX / 3,
                kind,
                span: 0x0102_0304,
                count: -2,
            };
            let mut bytes = [0; Print::LEN];
            record.write(&mut bytes);
            assert_eq!(Print::read(&bytes), record);
        }
    }
}
