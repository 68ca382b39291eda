//! Every format against a byte array: what is written reads back, chains read as their layers say.
//!
//! The tests walk [`FORMATS`], so a new format cannot stay out: those that are not written have a
//! builder here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

#[allow(dead_code, reason = "the tests of the format use all of it")]
#[path = "qcow2/builder.rs"]
mod qcow2;
#[allow(dead_code, reason = "the tests of the format use all of it")]
#[path = "vdi/builder.rs"]
mod vdi;

use proptest::prelude::*;
use std::sync::Arc;
use vdisk_core::{
    Chain, Disk, FORMATS, Format, Job, Subformat,
    format::ParentSpec,
    ops::{diff, hash},
    testing,
};

/// A stretch of a model disk: sectors, and the byte they repeat (0 is a hole or stored zeros).
type Run = (u16, u8);

fn contents(runs: &[Run]) -> Vec<u8> {
    let mut bytes: Vec<u8> = runs
        .iter()
        .flat_map(|&(sectors, byte)| {
            // Not one byte only, so that misplaced sectors are seen.
            (0..usize::from(sectors) * 512).map(move |i| {
                if byte == 0 {
                    0
                } else {
                    byte ^ (i / 512) as u8 | 1
                }
            })
        })
        .collect();
    bytes.resize(bytes.len().max(512), 0);
    bytes
}

/// Sectors up to 5 MiB in all, so that blocks, grains and pieces are crossed.
fn runs() -> impl Strategy<Value = Vec<Run>> {
    let sectors = prop_oneof![1..9u16, 100..300u16, 2000..4200u16];
    let byte = prop_oneof![Just(0u8), any::<u8>()];
    prop::collection::vec((sectors, byte), 1..6)
}

fn overwrite(disk: &mut [u8], edits: &[(u32, Run)]) {
    for &(at, run) in edits {
        let bytes = contents(&[run]);
        let start = at as usize % (disk.len() / 512) * 512;
        let len = bytes.len().min(disk.len() - start);
        disk[start..start + len].copy_from_slice(&bytes[..len]);
    }
}

fn written() -> impl Iterator<Item = (&'static dyn Format, &'static Subformat)> {
    FORMATS
        .iter()
        .flat_map(|f| f.subformats().iter().map(move |s| (*f, s)))
}

/// Images of formats that are not written, built by hand, and what they hold.
fn built(format: &dyn Format) -> Vec<(Vec<u8>, Vec<u8>)> {
    let qcow2 = |shape: qcow2::Shape| {
        let model = shape.model().into_iter().flat_map(|(_, bytes)| bytes);
        (shape.build().0, model.collect())
    };
    let vdi = |shape: vdi::Shape| {
        let model = shape.model().into_iter().flat_map(|(_, bytes)| bytes);
        (shape.build(), model.collect())
    };
    match format.name() {
        "qcow2" => vec![
            qcow2(qcow2::Shape::sample(2)),
            qcow2(qcow2::Shape::sample(3)),
        ],
        "vdi" => vec![vdi(vdi::Shape::sample())],
        _ => vec![],
    }
}

/// Formats whose only way to be a child is a subformat of its own.
fn only_child(subformat: &Subformat) -> bool {
    ["differencing", "vmfsSparse"].contains(&subformat.name)
}

/// The layer as a file, alone and under its parents, must conform and hold `model`.
fn check(layers: &[Arc<vdisk_core::Layer>], model: &[u8], what: &str) {
    let chain = Chain::new(layers.to_vec()).unwrap();
    for disk in [&chain as &dyn Disk, &*layers[0]] {
        testing::conformance(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let found = testing::contents(&chain).unwrap();
    assert!(found == model, "{what}: contents differ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(runs in runs()) {
        let model = contents(&runs);
        for (format, subformat) in written().filter(|(_, s)| !only_child(s)) {
            let files = testing::files(format, subformat, &model, None, 1).unwrap();
            let layer = testing::open_files(format, &files).unwrap();
            check(&[Arc::new(layer)], &model, subformat.name);
        }
    }

    #[test]
    fn a_chain_of_children_reads_as_the_last_state(
        runs in runs(),
        states in prop::collection::vec(
            prop::collection::vec((any::<u32>(), (1..600u16, prop_oneof![Just(0u8), any::<u8>()])), 1..4),
            1..4,
        ),
    ) {
        for (format, child) in written().filter(|(_, s)| s.child) {
            let base = format.subformats().iter().find(|s| !only_child(s)).unwrap();
            let mut model = contents(&runs);
            let files = testing::files(format, base, &model, None, 0).unwrap();
            let mut layers = vec![Arc::new(testing::open_files(format, &files).unwrap())];
            for (number, edits) in (1..).zip(&states) {
                let before = model.clone();
                overwrite(&mut model, edits);
                let parent = ParentSpec {
                    relative: "below".into(),
                    absolute: None,
                    identity: layers[0].facts().identity,
                    modified: 0,
                };
                let below: &dyn Disk = &before;
                let files = testing::files(format, child, &model, Some((below, parent)), number).unwrap();
                let layer = testing::open_files(format, &files).unwrap();
                let recorded = layer.facts().parent.clone().unwrap();
                prop_assert_eq!(recorded.identity, layers[0].facts().identity);
                layers.insert(0, Arc::new(layer));
                check(&layers, &model, child.name);
            }
        }
    }

    #[test]
    fn diff_finds_the_sectors_that_differ(
        runs in runs(),
        edits in prop::collection::vec((any::<u32>(), (1..600u16, any::<u8>())), 0..4),
        cut in 0..3000usize,
    ) {
        let a = contents(&runs);
        let mut b = a.clone();
        overwrite(&mut b, &edits);
        b.truncate((b.len() / 512).saturating_sub(cut).max(1) * 512);
        let mut found = vec![false; a.len() / 512];
        let summary = diff::diff(&a, &b, &Job::default(), |range| {
            found[range.start as usize / 512..range.end as usize / 512].fill(true);
        }).unwrap();
        b.resize(a.len(), 0);
        let model: Vec<bool> = a.chunks(512).zip(b.chunks(512)).map(|(x, y)| x != y).collect();
        prop_assert_eq!(summary.bytes as usize, model.iter().filter(|d| **d).count() * 512);
        prop_assert!(found == model);
    }
}

#[test]
fn every_format_is_written_or_built_by_hand() {
    for &format in FORMATS {
        let name = format.name();
        let images = built(format);
        assert_eq!(
            images.is_empty(),
            !format.subformats().is_empty(),
            "{name} needs a writer or a builder here, and not both"
        );
        for (image, model) in images {
            let layer = testing::open_bytes(format, image).unwrap();
            check(&[Arc::new(layer)], &model, name);
        }
    }
}

#[test]
fn the_digest_is_that_of_the_raw_bytes() {
    use sha2::{Digest, Sha256};
    let model = contents(&[(300, 7), (5000, 0), (9, 3)]);
    let whole = Sha256::digest(&model);
    let found = hash::digest(&model, &Job::default()).unwrap();
    assert_eq!(found.as_slice(), whole.as_slice());
}

#[test]
fn a_full_disk_is_an_error_at_every_write() {
    let model = contents(&[(3000, 7), (500, 0), (900, 3)]);
    for (format, subformat) in written().filter(|(_, s)| !only_child(s)) {
        let mut failed = 0;
        loop {
            let files = testing::Files::default();
            let mut target = testing::Failing::new(files.target("image"), failed);
            let spec = vdisk_core::format::Spec {
                size: model.size(),
                subformat,
                name: "image",
                ids: vdisk_core::Ids::random(0),
                level: 1,
                parent: None,
                options: testing::small_extents(),
            };
            let result = format
                .create(&mut target, &spec)
                .and_then(|writer| vdisk_core::ops::convert::copy(&model, writer, &Job::default()));
            match result {
                Ok(()) => break,
                Err(e) => assert_eq!(e.kind(), vdisk_core::ErrorKind::Io, "{}", subformat.name),
            }
            failed += 1;
        }
        assert!(failed > 0, "{} never wrote", subformat.name);
    }
}
