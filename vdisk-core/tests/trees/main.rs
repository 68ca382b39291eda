//! Random trees of images of all formats, changed in all ways that there are: every image always reads
//! as a byte array says, whatever is done to its relatives.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod model;
mod steps;

use model::Tree;
use proptest::prelude::*;
use steps::{Step, base, step};

/// A few disks, and what is done to them.
fn story(steps: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let bases = prop::collection::vec(base(), 1..4);
    (bases, prop::collection::vec(step(), steps)).prop_map(|(mut all, steps)| {
        all.extend(steps);
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("TREES").map_or(12, |v| v.parse().unwrap()),
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_image_reads_as_the_model_says(steps in story(4..16), between in any::<u8>()) {
        let mut tree = Tree::new();
        for (number, step) in steps.iter().enumerate() {
            if tree.make(step) && number == usize::from(between % 16) {
                tree.check();
            }
        }
        tree.check();
    }
}
