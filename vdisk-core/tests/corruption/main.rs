//! The corruption table: one damaged field a row, over all formats, and what a check must say of it.
//!
//! A format adds a file with its images and their rows, and a line in [`images`]. What a row
//! proves: the undamaged image is clean; the damage is found, under its rule, at its part, as bad
//! as it is; checking writes nothing; and a repair, where there is one, makes the image clean and
//! brings its contents back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic"
)]

#[allow(dead_code, reason = "the tests of VHDX use the rest")]
#[path = "../vhdx/builder.rs"]
mod builder;
mod ova;
mod qcow2;
#[allow(dead_code, reason = "the tests of VHDX use the rest")]
#[path = "../vhdx/sparse.rs"]
mod sparse;
mod table;
mod vdi;
mod vhd;
mod vhd_rows;
mod vhdx;
mod vmdk_descriptor;
mod vmdk_esx;
mod vmdk_header_rows;
mod vmdk_sparse;
mod vmdk_stream;
mod vmdk_table_rows;

use std::{collections::BTreeSet, path::Path};
use table::{Files, Image, Row};
use vdisk_core::{
    Error, FileResolver, Job, Layer, OpenOptions, Result,
    check::Severity,
    open,
    ops::check::{self, Extent, Outcome},
    patch, testing,
};

/// All images with their rows. A format's file adds a line here.
fn images() -> Vec<Image> {
    [
        vhd::images(),
        vhdx::images(),
        ova::images(),
        qcow2::images(),
        vdi::images(),
        vmdk_sparse::images(),
        vmdk_stream::images(),
        vmdk_descriptor::images(),
        vmdk_esx::images(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn undamaged_images_are_clean() {
    let mut names = BTreeSet::new();
    for image in images() {
        assert!(names.insert(image.name), "two images are {}", image.name);
        let folder = (image.build)().write();
        let path = folder.path().join((image.build)().first());
        let outcome = look(&path, true).unwrap_or_else(|e| panic!("{}: {e}", image.name));
        assert!(
            outcome.findings.worst() <= Some(Severity::Note),
            "{}: {:#?}",
            image.name,
            said(&outcome)
        );
        contents(&path).unwrap_or_else(|e| panic!("{}: {e}", image.name));
    }
}

#[test]
fn every_row_is_found_and_repaired_if_it_says_so() {
    let mut failed = Vec::new();
    let mut names = BTreeSet::new();
    for image in images() {
        for row in &image.rows {
            assert!(
                names.insert((image.name, row.name)),
                "{}: two rows are '{}'",
                image.name,
                row.name
            );
            if let Err(why) = try_row(&image, row) {
                failed.push(format!("{}, {}: {why}", image.name, row.name));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn try_row(image: &Image, row: &Row) -> std::result::Result<(), String> {
    let whole = (image.build)();
    let mut damaged = whole.clone();
    (row.damage)(&mut damaged);
    if damaged == whole {
        return Err("changes nothing".to_owned());
    }
    let folder = damaged.write();
    let path = folder.path().join(whole.first());
    let outcome = look(&path, row.deep).map_err(|e| format!("ended the check: {e}"))?;
    if Files::read(folder.path()) != damaged.sorted() {
        return Err("the check wrote to the files".to_owned());
    }
    let list = outcome.findings.list();
    let Some(found) = list.iter().find(|f| {
        f.rule == row.rule
            && f.part.contains(row.part)
            && f.severity == row.severity
            && f.file.file_name() == Some(row.file.unwrap_or(whole.first()).as_ref())
    }) else {
        return Err(format!("not found, but {:#?}", said(&outcome)));
    };
    if found.detail.is_empty() || found.to_string().contains("[]") {
        return Err(format!("says nothing: {found}"));
    }
    let patches = outcome.findings.patches();
    if row.repairs == patches.is_empty() {
        return Err(format!("repaired by {patches:?}: {:#?}", said(&outcome)));
    }
    if !row.repairs {
        return Ok(());
    }
    let backups = patch::apply(&patches).map_err(|e| format!("repair: {e}"))?;
    let after = look(&path, true).map_err(|e| format!("after repair: {e}"))?;
    if after.findings.worst() > Some(Severity::Note) {
        return Err(format!("after repair {:#?}", said(&after)));
    }
    let healthy = whole.write();
    let expected = contents(&healthy.path().join(whole.first())).map_err(|e| e.to_string())?;
    let found = contents(&path).map_err(|e| format!("after repair: {e}"))?;
    if expected != found {
        return Err("the repair changed the contents".to_owned());
    }
    for backup in &backups {
        patch::undo(backup).map_err(|e| format!("undo: {e}"))?;
        std::fs::remove_file(backup).unwrap();
    }
    match Files::read(folder.path()) == damaged.sorted() {
        true => Ok(()),
        false => Err("undo brought other bytes back".to_owned()),
    }
}

/// What cannot be opened or read must not be called clean, whatever byte is wrong.
#[test]
fn what_cannot_be_read_is_found() {
    for image in images() {
        let whole = (image.build)();
        let mut state = 0x5eed_u64;
        let mut roll = |end: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % end
        };
        for round in 0..60 {
            let mut damaged = whole.clone();
            let names = damaged.names();
            let bytes = damaged.file(&names[roll(names.len())]);
            // Metadata lie at the start and at the end, mostly.
            let at = match (roll(4), bytes.len()) {
                (_, 0) => continue,
                (0, len) => len - 1 - roll(len.min(2048)),
                (1, len) => roll(len),
                (_, len) => roll(len.min(4096)),
            };
            bytes[at] = [0, 1, 0xff, bytes[at] ^ (1 << roll(8))][roll(4)];
            if roll(8) == 0 {
                let len = bytes.len();
                bytes.truncate(len - roll(len.min(3000)));
            }
            let folder = damaged.write();
            let path = folder.path().join(whole.first());
            let (outcome, read) = (look(&path, true), contents(&path));
            let Err(error) = read else { continue };
            let known = match &outcome {
                Ok(outcome) => outcome.findings.worst() == Some(Severity::Error),
                Err(_) => true, // no image any more, or of unclear format
            };
            assert!(
                known,
                "{}, round {round}, byte {at:#x}: {error}, but {:#?}",
                image.name,
                outcome.map(|o| said(&o))
            );
        }
    }
}

#[test]
fn the_table_is_as_large_as_it_claims() {
    let rows: usize = images().iter().map(|i| i.rows.len()).sum();
    assert!(rows >= 250, "{rows} rows");
}

/// A new format has no damage table until it has one here. Any bytes are a raw disk.
#[test]
fn every_format_has_rows() {
    let mut missing: BTreeSet<&str> = vdisk_core::FORMATS.iter().map(|f| f.name()).collect();
    missing.remove("raw");
    for image in images().iter().filter(|i| !i.rows.is_empty()) {
        let folder = (image.build)().write();
        let path = folder.path().join((image.build)().first());
        missing.remove(look(&path, false).unwrap().format);
    }
    assert!(missing.is_empty(), "{missing:?}");
}

fn look(path: &Path, deep: bool) -> Result<Outcome> {
    let resolver = FileResolver::default();
    let extent = Extent { deep, chain: false };
    check::check(path, &OpenOptions::new(&resolver), extent, &Job::default())
}

/// What the image reads as: its own data, and for each unrecorded sector of a child nothing.
fn contents(path: &Path) -> Result<Vec<Option<Vec<u8>>>> {
    let resolver = FileResolver::default();
    let layer: Layer = open::open_layer(path, &OpenOptions::new(&resolver))?;
    if layer.facts().parent.is_none() {
        return Ok(vec![Some(testing::contents(&layer)?)]);
    }
    let mut found = Vec::new();
    let mut pos = 0;
    while pos < vdisk_core::Disk::size(&layer) {
        let extent = vdisk_core::Disk::extent_at(&layer, pos)?;
        for pos in (pos..extent.range.end).step_by(512) {
            let mut sector = vec![0; 512];
            found.push(match extent.kind {
                vdisk_core::Kind::Absent => None,
                _ => {
                    vdisk_core::Disk::read_at(&layer, pos, &mut sector)?;
                    Some(sector)
                }
            });
        }
        pos = extent.range.end;
    }
    Ok::<_, Error>(found)
}

fn said(outcome: &Outcome) -> Vec<String> {
    let list = outcome.findings.list().iter();
    list.map(|f| format!("{}: {f}", f.severity)).collect()
}
