//! Random trees of images of all formats, changed in all ways that there are: every image always reads
//! as a byte array says, whatever is done to its relatives.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stderr
)]

mod expect;
mod faults;
mod model;
mod peers;
mod perform;
mod steps;

use model::Tree;
use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestRunner},
};
use std::{cell::RefCell, collections::BTreeSet};
use steps::{Step, base, step};

/// Formats whose images can be each other's parents, so that many steps find something to do; and all.
const KINDS: [&[&str]; 4] = [
    &["vmdk"],
    &["vhd", "raw"],
    &["vhdx"],
    &["vmdk", "vhd", "vhdx", "raw"],
];

pub(crate) fn kinds() -> impl Strategy<Value = &'static [&'static str]> {
    prop::sample::select(&KINDS[..])
}

/// A few disks, and what is done to them.
pub(crate) fn story(steps: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let bases = prop::collection::vec(base(), 1..4);
    (bases, prop::collection::vec(step(), steps)).prop_map(|(mut all, steps)| {
        all.extend(steps);
        all
    })
}

/// As many cases as `cases`, or as the environment says.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let cases = std::env::var("VDISK_TREES").map_or(cases, |v| v.parse().unwrap());
    TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 2000,
        // Seeds mean something else whenever a step is added: what was found is a test of its own.
        failure_persistence: None,
        ..ProptestConfig::default()
    })
}

#[test]
fn every_image_reads_as_the_model_says() {
    let done: RefCell<BTreeSet<(&str, &str)>> = RefCell::default();
    let stories = (kinds(), story(6..30), any::<prop::sample::Index>());
    let verbs = [
        "clone", "write", "commit", "rebase", "compact", "resize", "flatten",
    ];
    // Nothing makes a child of a raw disk.
    let missing = |done: &BTreeSet<(&str, &str)>| {
        let pairs = verbs
            .iter()
            .flat_map(|verb| ["vmdk", "vhd", "vhdx", "raw"].map(|format| (*verb, format)));
        pairs
            .filter(|pair| *pair != ("rebase", "raw") && !done.contains(pair))
            .collect::<Vec<_>>()
    };
    let story = |(kinds, steps, between): (_, Vec<Step>, prop::sample::Index)| {
        let mut tree = Tree::new(kinds);
        for (number, step) in steps.iter().enumerate() {
            let of = tree.subject(step).map(|i| tree.model.node(i).format);
            if tree.make(step) {
                done.borrow_mut()
                    .insert((step.verb(), of.unwrap_or("none")));
            }
            if number == between.index(steps.len()) {
                tree.check();
            }
        }
        tree.check();
        Ok::<(), TestCaseError>(())
    };
    // Stories are random: go on until each verb had something to do in each format.
    for batch in [100, 20, 20, 20, 20, 20] {
        let told = runner(batch).run(&stories, story);
        told.unwrap_or_else(|e| panic!("{e}"));
        if missing(&done.borrow()).is_empty() {
            return;
        }
    }
    panic!("never made: {:?}", missing(&done.borrow()));
}
