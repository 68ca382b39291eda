//! What is read for a duplicate report, against byte arrays and a SHA-256 of their own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic"
)]

mod blocks;
mod chains;
mod chunks;
mod model;
mod padded;
mod segments;
#[allow(dead_code, reason = "the tests of the format use all of it")]
#[path = "../vhd/builder.rs"]
mod vhd;

pub(crate) const SECTOR: usize = 512;
