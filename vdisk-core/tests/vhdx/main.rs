//! VHDX against a byte model, and against other programs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic, and says what it skips"
)]

mod builder;
mod change;
mod damage;
mod edit;
mod log;
mod peers;
mod read;
mod sparse;
mod write;

use sparse::Sparse;
use vdisk_core::{
    Deny, Disk, Identity, Ids, Job, Kind, Layer, OpenOptions, Result,
    format::{self, Options, ParentSpec, Spec},
    open,
    ops::{changes, convert},
    storage::ImageFile,
};

pub(crate) fn open_sparse(file: Sparse, overlay: bool) -> Result<Layer> {
    let file = ImageFile::from_storage("test.vhdx", file)?;
    let options = OpenOptions {
        overlay,
        format: Some(format::named("vhdx")?),
        ..OpenOptions::new(&Deny)
    };
    open::open_file(file, &options)
}

/// Opens, and reads the first bytes of whatever the layer says it has.
pub(crate) fn read_all(file: Sparse) -> Result<()> {
    let layer = open_sparse(file, false)?;
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
    let vhdx = format::named("vhdx").unwrap();
    Spec {
        size,
        subformat: format::subformat(vhdx, Some(subformat)).unwrap(),
        name: "new.vhdx",
        ids: Ids::derived(&[3; 32], "vhdx", 1_700_000_000),
        level: 6,
        parent: None,
        options: Options::default(),
    }
}

pub(crate) fn child_spec(size: u64, identity: Option<Identity>) -> Spec<'static> {
    Spec {
        parent: Some(ParentSpec {
            relative: "base.vhdx".into(),
            absolute: None,
            identity,
            modified: 1_600_000_000,
        }),
        ..spec("differencing", size)
    }
}

pub(crate) fn write(disk: &dyn Disk, spec: &Spec<'_>) -> Sparse {
    let mut image = Sparse::default();
    let vhdx = format::named("vhdx").unwrap();
    let writer = vhdx.create(&mut image, spec).unwrap();
    convert::copy(disk, writer, &Job::default()).unwrap();
    image
}

pub(crate) fn write_child(parent: &dyn Disk, disk: &dyn Disk, spec: &Spec<'_>) -> (Sparse, u64) {
    let mut image = Sparse::default();
    let vhdx = format::named("vhdx").unwrap();
    let writer = vhdx.create(&mut image, spec).unwrap();
    let bytes = changes::write(parent, disk, writer, &Job::default()).unwrap();
    (image, bytes)
}
