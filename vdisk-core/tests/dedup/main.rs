//! What a count of duplicates says, against whole blocks of byte arrays in a map.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic"
)]

mod chain;
mod clones;
mod farm;
mod figures;
mod hostile;
mod random;
mod sampled;
mod truth;
