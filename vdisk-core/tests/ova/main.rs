//! OVA and OVF against a byte model: packages built by hand, and those that are written.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails"
)]

mod builder;
mod damage;
mod digests;
mod folder;
mod read;
mod write;

use vdisk_core::{
    Deny, Disk, Layer, OpenOptions, Result, format, open,
    storage::ImageFile,
    testing::{self, contents},
};

/// Opens `bytes` as the file `test.ova`, and in it the disk `name`.
pub(crate) fn open_disk(bytes: Vec<u8>, name: Option<&str>) -> Result<Layer> {
    let file = ImageFile::from_storage("test.ova", bytes)?;
    let options = OpenOptions {
        disk: name,
        ..OpenOptions::new(&Deny)
    };
    open::open_file(file, &options)
}

/// The only disk of the package.
pub(crate) fn only(bytes: Vec<u8>) -> Result<Layer> {
    open_disk(bytes, None)
}

/// The disk must conform and hold `model`.
pub(crate) fn assert_reads(layer: &dyn Disk, model: &[u8], what: &str) {
    testing::conformance(layer).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(contents(layer).unwrap() == model, "{what}: contents differ");
}

/// `model` as an image of `format`, by its writer, which other tests check.
pub(crate) fn image(format: &str, subformat: &str, model: &[u8]) -> Vec<u8> {
    let format = format::named(format).unwrap();
    let subformat = format::subformat(format, Some(subformat)).unwrap();
    testing::image(format, subformat, &model.to_vec(), None, 3).unwrap()
}

/// A fact of the layer, by name.
pub(crate) fn fact<'a>(layer: &'a Layer, name: &str) -> Option<&'a str> {
    let details = &layer.facts().details;
    details
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, value)| value.as_str())
}
