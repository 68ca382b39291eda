//! Holds each figure of a report beside the count that was made without the program.

use crate::builder::Farm;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

const TOTAL: [&str; 6] = [
    "total_bytes",
    "zero_bytes",
    "data_bytes",
    "unique_bytes",
    "duplicate_bytes",
    "once_bytes",
];
const IMAGE: [&str; 7] = [
    "total_bytes",
    "zero_bytes",
    "data_bytes",
    "distinct_bytes",
    "internal_duplicate_bytes",
    "exclusive_bytes",
    "shared_bytes",
];

/// A figure, which must be there.
#[track_caller]
pub(crate) fn figure(json: &Value, field: &str) -> u64 {
    let found = json[field].as_u64();
    found.unwrap_or_else(|| panic!("no {field} in {json}"))
}

#[track_caller]
pub(crate) fn array<'a>(json: &'a Value, field: &str) -> &'a [Value] {
    let found = json[field].as_array();
    found.unwrap_or_else(|| panic!("no list {field} in {json}"))
}

#[track_caller]
pub(crate) fn text<'a>(json: &'a Value, field: &str) -> &'a str {
    let found = json[field].as_str();
    found.unwrap_or_else(|| panic!("no text {field} in {json}"))
}

/// All figures of `report` that follow from the blocks are those of `truth`, whose images are its
/// images in its order.
#[track_caller]
pub(crate) fn assert_same(what: &str, report: &Value, truth: &Value) {
    assert_eq!(figure(report, "block_size"), figure(truth, "block_size"));
    for field in TOTAL {
        let found = figure(&report["total"], field);
        assert_eq!(found, figure(&truth["total"], field), "{what}: {field}");
    }
    let (images, expected) = (array(report, "images"), array(truth, "images"));
    let names: Vec<&str> = images.iter().map(|i| text(i, "path")).collect();
    let wanted: Vec<&str> = expected.iter().map(|i| text(i, "name")).collect();
    assert_eq!(names, wanted, "{what}");
    for (image, expected) in images.iter().zip(expected) {
        for field in IMAGE {
            let (found, wanted) = (figure(image, field), figure(expected, field));
            assert_eq!(found, wanted, "{what}: {field} of {}", image["path"]);
        }
        let (unique, distinct) = ("unique_bytes", "distinct_bytes");
        assert_eq!(figure(image, unique), figure(image, distinct), "{what}");
    }
    assert_eq!(pairs(report), pairs(truth), "{what}");
    assert_references(what, report, truth);
}

/// Bytes that two images share, by their names.
#[track_caller]
fn pairs(json: &Value) -> BTreeMap<[&str; 2], u64> {
    let mut found = BTreeMap::new();
    for pair in array(json, "pairs") {
        let mut key = [text(pair, "a"), text(pair, "b")];
        key.sort_unstable();
        let before = found.insert(key, figure(pair, "shared_bytes"));
        assert_eq!(before, None, "{key:?} twice");
    }
    found
}

/// The classes of `references` hold what occurs so often, and nothing is left out.
#[track_caller]
fn assert_references(what: &str, report: &Value, truth: &Value) {
    let mut left: BTreeMap<u64, &Value> = array(truth, "references")
        .iter()
        .map(|r| (figure(r, "times"), r))
        .collect();
    for class in array(report, "references") {
        let (from, to) = (figure(class, "from"), figure(class, "to"));
        let rest = left.split_off(&(to + 1));
        let within = std::mem::replace(&mut left, rest);
        assert!(within.keys().all(|t| *t >= from), "{what}: {class}");
        for field in ["blocks", "unique_bytes", "data_bytes"] {
            let sum: u64 = within.values().map(|r| figure(r, field)).sum();
            assert_eq!(figure(class, field), sum, "{what}: {field} of {class}");
        }
    }
    assert!(left.is_empty(), "{what}: left out: {left:?}");
}

/// What files take on the medium, by image, and all together with their parents, each once.
#[track_caller]
pub(crate) fn assert_allocated(report: &Value, farm: &Farm) {
    let mut counted = HashSet::new();
    for row in array(report, "images") {
        let mut number = farm.find(text(row, "path"));
        let own = farm.images[number].allocated(farm);
        assert_eq!(figure(row, "allocated_bytes"), own, "{}", row["path"]);
        counted.insert(number);
        while let Some(parent) = farm.images[number].parent {
            counted.insert(parent);
            number = parent;
        }
    }
    let all: u64 = counted
        .iter()
        .map(|number| farm.images[*number].allocated(farm))
        .sum();
    assert_eq!(figure(&report["total"], "allocated_bytes"), all);
}
