//! What a report must say, counted by `support/dedup_truth.py` from raw disks.

use crate::{builder::Farm, compare::figure, support::run};
use serde_json::Value;

/// The counts of the images `names` for each of the block sizes.
pub(crate) fn truth(farm: &Farm, names: &[&str], blocks: &[u64]) -> Vec<Value> {
    truth_shifted(farm, names, blocks, &[])
}

/// The same with so many zeros in front of some of the images.
pub(crate) fn truth_shifted(
    farm: &Farm,
    names: &[&str],
    blocks: &[u64],
    pads: &[(&str, u64)],
) -> Vec<Value> {
    count(farm, names, blocks, pads, false)
}

fn count(
    farm: &Farm,
    names: &[&str],
    blocks: &[u64],
    pads: &[(&str, u64)],
    deflate: bool,
) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/dedup_truth.py");
    let mut arguments = vec![script.to_owned()];
    arguments.extend(deflate.then(|| "--deflate".to_owned()));
    for block in blocks {
        arguments.push(format!("--block={block}"));
    }
    for (name, bytes) in pads {
        arguments.push(format!("--pad={name}={bytes}"));
    }
    for name in names {
        let raw = farm.flat(&farm.images[farm.find(name)]);
        arguments.push(format!("{name}={}", raw.display()));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let printed = run(&farm.python, &farm.scratch.path(""), &arguments).good();
    let mut json: Value = serde_json::from_str(&printed).unwrap();
    match json["sizes"].take() {
        Value::Array(sizes) => sizes,
        other => panic!("{other}"),
    }
}

/// Bytes of the distinct blocks of all disks after deflate, one by one.
pub(crate) fn deflated(farm: &Farm, names: &[&str], block: u64) -> u64 {
    figure(
        &count(farm, names, &[block], &[], true)[0]["total"],
        "deflated_bytes",
    )
}
