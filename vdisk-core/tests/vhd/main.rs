//! VHD against a byte model, and against other programs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic, and says what it skips"
)]

mod builder;
mod check;
mod damage;
mod in_place;
mod in_place_peers;
mod peers;
mod read;
mod reparent;
mod variants;
mod write;

use std::sync::Arc;
use vdisk_core::{
    Deny, Disk, Identity, Ids, Job, Kind, Layer, OpenOptions, Result,
    format::{self, ParentSpec, Spec},
    open,
    ops::{changes, convert},
    storage::ImageFile,
};

pub(crate) const SECTOR: usize = 512;

pub(crate) fn open_bytes(bytes: Vec<u8>, overlay: bool) -> Result<Layer> {
    let file = ImageFile::from_storage("test.vhd", bytes)?;
    open::open_file(
        file,
        &OpenOptions {
            overlay,
            ..OpenOptions::new(&Deny)
        },
    )
}

pub(crate) fn raw_layer(bytes: Vec<u8>) -> Arc<Layer> {
    let file = ImageFile::from_storage("base.raw", bytes).unwrap();
    Arc::new(open::open_file(file, &OpenOptions::new(&Deny)).unwrap())
}

/// Per sector, what the layer says of it: kind, and bytes if it has them.
pub(crate) fn sectors(disk: &dyn Disk) -> Vec<(Kind, Option<Vec<u8>>)> {
    (0..disk.size())
        .step_by(SECTOR)
        .map(|pos| {
            let kind = disk.extent_at(pos).unwrap().kind;
            let mut buf = vec![0xee; SECTOR];
            (kind, disk.read_at(pos, &mut buf).ok().map(|()| buf))
        })
        .collect()
}

/// Opens as VHD and reads whatever the layer says it has.
pub(crate) fn read_all(bytes: Vec<u8>) -> Result<()> {
    let file = ImageFile::from_storage("test.vhd", bytes)?;
    let format = Some(format::named("vhd")?);
    let layer = open::open_file(
        file,
        &OpenOptions {
            format,
            ..OpenOptions::new(&Deny)
        },
    )?;
    let mut pos = 0;
    while pos < layer.size() {
        let extent = layer.extent_at(pos)?;
        if extent.kind == Kind::Data {
            let len = (extent.range.end - extent.range.start).min(1 << 20);
            layer.read_at(pos, &mut vec![0; len as usize])?;
        }
        pos = extent.range.end;
    }
    Ok(())
}

pub(crate) fn spec(subformat: &str, size: u64) -> Spec<'static> {
    let vhd = format::named("vhd").unwrap();
    Spec {
        size,
        subformat: format::subformat(vhd, Some(subformat)).unwrap(),
        name: "new.vhd",
        ids: Ids::derived(&[3; 32], "vhd", 1_700_000_000),
        level: 6,
        parent: None,
        options: vdisk_core::format::Options::default(),
    }
}

pub(crate) fn child_spec(size: u64, identity: Option<Identity>) -> Spec<'static> {
    Spec {
        parent: Some(ParentSpec {
            relative: "base.vhd".into(),
            absolute: None,
            identity,
            modified: 1_600_000_000,
        }),
        ..spec("differencing", size)
    }
}

pub(crate) fn write(disk: &dyn Disk, spec: &Spec<'_>) -> Vec<u8> {
    let mut image: Vec<u8> = Vec::new();
    let writer = format::named("vhd")
        .unwrap()
        .create(&mut image, spec)
        .unwrap();
    convert::copy(disk, writer, &Job::default()).unwrap();
    image
}

pub(crate) fn write_child(parent: &dyn Disk, disk: &dyn Disk, spec: &Spec<'_>) -> (Vec<u8>, u64) {
    let mut image: Vec<u8> = Vec::new();
    let writer = format::named("vhd")
        .unwrap()
        .create(&mut image, spec)
        .unwrap();
    let bytes = changes::write(parent, disk, writer, &Job::default()).unwrap();
    (image, bytes)
}
