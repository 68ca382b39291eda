//! What can be done to a tree of images.

use proptest::prelude::*;

/// The byte of an edit that writes what the parent reads, so that it need not be stored.
pub(crate) const PARENT: u8 = 1;

/// A stretch of a disk: where in it, how many sectors, and the byte that they repeat.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) at: u16,
    pub(crate) sectors: u16,
    pub(crate) byte: u8,
    /// Zeros are written as data.
    pub(crate) stored: bool,
}

/// The size that a disk gets, in sectors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    Sectors(u32),
    /// As another disk, and so many more or less.
    Like(u8, i8),
}

/// Something to be done. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A new disk.
    Base {
        shape: u8,
        block: u8,
        sectors: u32,
        edits: Vec<Edit>,
    },
    /// A child that reads as its parent.
    Clone {
        of: u8,
        shape: u8,
        block: u8,
    },
    /// Something else in an image that has no children.
    Write {
        leaf: u8,
        edits: Vec<Edit>,
        renew: bool,
    },
    /// An image goes into one below it.
    Commit {
        child: u8,
        depth: u8,
        orphan: bool,
        keep: bool,
    },
    /// A child gets another parent, or a full disk its first.
    Rebase {
        image: u8,
        onto: u8,
    },
    Compact {
        image: u8,
    },
    Resize {
        image: u8,
        size: Size,
        force: bool,
    },
    /// A chain as a new disk.
    Flatten {
        image: u8,
        shape: u8,
        block: u8,
    },
}

impl Step {
    /// What it does, in a word.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Base { .. } => "base",
            Self::Clone { .. } => "clone",
            Self::Write { .. } => "write",
            Self::Commit { .. } => "commit",
            Self::Rebase { .. } => "rebase",
            Self::Compact { .. } => "compact",
            Self::Resize { .. } => "resize",
            Self::Flatten { .. } => "flatten",
        }
    }
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    // Often the same places again.
    let at = prop_oneof![any::<u16>(), (0..8u16).prop_map(|n| n << 13)];
    let sectors = prop_oneof![1..9u16, 1..9u16, 100..300u16, 1000..2500u16];
    let byte = prop_oneof![2 => Just(0u8), 1 => Just(PARENT), 3 => any::<u8>()];
    let edit = (at, sectors, byte, any::<bool>());
    let edit = edit.prop_map(|(at, sectors, byte, stored)| Edit {
        at,
        sectors,
        byte,
        stored,
    });
    prop::collection::vec(edit, 1..5)
}

/// Sizes around a few blocks, mostly odd; seldom, around what a table holds.
fn sectors() -> impl Strategy<Value = u32> {
    let blocks = (1..5u32).prop_map(|n| n * 2048);
    prop_oneof![
        4 => 1..40u32,
        16 => 1000..5000u32,
        4 => blocks,
        1 => 65_000..66_000u32,
    ]
}

pub(crate) fn base() -> impl Strategy<Value = Step> {
    let full = (0..5000u16, 2..255u8).prop_map(|(sectors, byte)| Edit {
        at: 0,
        sectors,
        byte,
        stored: true,
    });
    let base = (any::<u8>(), any::<u8>(), sectors(), full, edits());
    base.prop_map(|(shape, block, sectors, full, mut edits)| {
        edits.insert(0, full);
        Step::Base {
            shape,
            block,
            sectors,
            edits,
        }
    })
}

pub(crate) fn write() -> impl Strategy<Value = Step> {
    let write = (any::<u8>(), edits(), prop::bool::weighted(0.2));
    write.prop_map(|(leaf, edits, renew)| Step::Write { leaf, edits, renew })
}

pub(crate) fn clone() -> impl Strategy<Value = Step> {
    any::<(u8, u8, u8)>().prop_map(|(of, shape, block)| Step::Clone { of, shape, block })
}

pub(crate) fn commit() -> impl Strategy<Value = Step> {
    let keep = prop::bool::weighted(0.2);
    let orphan = prop::bool::weighted(0.7);
    let commit = (any::<u8>(), any::<u8>(), orphan, keep);
    commit.prop_map(|(child, depth, orphan, keep)| Step::Commit {
        child,
        depth,
        orphan,
        keep,
    })
}

pub(crate) fn resize() -> impl Strategy<Value = Step> {
    let few = prop_oneof![Just(0i8), any::<i8>()];
    let size = prop_oneof![
        sectors().prop_map(Size::Sectors),
        (any::<u8>(), few).prop_map(|(image, few)| Size::Like(image, few)),
    ];
    let resize = (any::<u8>(), size, prop::bool::weighted(0.7));
    resize.prop_map(|(image, size, force)| Step::Resize { image, size, force })
}

pub(crate) fn compact() -> impl Strategy<Value = Step> {
    any::<u8>().prop_map(|image| Step::Compact { image })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let rebase = any::<(u8, u8)>().prop_map(|(image, onto)| Step::Rebase { image, onto });
    let flatten = any::<(u8, u8, u8)>();
    let flatten = flatten.prop_map(|(image, shape, block)| Step::Flatten {
        image,
        shape,
        block,
    });
    prop_oneof![
        1 => base(),
        5 => clone(),
        8 => write(),
        4 => commit(),
        2 => compact(),
        2 => resize(),
        4 => rebase,
        1 => flatten,
    ]
}
