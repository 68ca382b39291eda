//! Reports on farms, beside counts of the same disks that were made without the program.
//!
//! The images come from qemu-img, qemu-io and the program itself; what they read as is kept beside
//! them, and qemu has to agree. `support/dedup_truth.py` then counts the blocks of the raw disks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails, and numbers here are small"
)]

mod builder;
mod clones;
mod compare;
mod contents;
mod exact;
mod figures;
mod kept;
mod large;
mod mixed;
mod paused;
#[path = "../run/mod.rs"]
mod run;
mod sampled;
mod stop;
#[allow(dead_code, reason = "the tests with peers use all of it")]
#[path = "../support/mod.rs"]
mod support;
mod temporary;
mod trees;
mod truth;
mod vhd;
mod wrong;
