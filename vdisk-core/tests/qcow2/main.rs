//! qcow2 against a byte model, and against qemu.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic, and says what it skips"
)]

mod backing;
mod builder;
mod damage;
mod peers;
mod read;

use builder::{Is, SECTOR};
use vdisk_core::{
    Disk, Error, ErrorKind, Kind, Layer, OpenOptions, Reference, Resolver, Result, format, open,
    storage::ImageFile,
};

/// Has one file, the external data file of the builder's images.
pub(crate) struct Data(pub(crate) Vec<u8>);

impl Resolver for Data {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        match reference {
            Reference::Extent(name) if *name == "disk.data" => {
                Ok(vec![ImageFile::from_storage("disk.data", self.0.clone())?])
            }
            // A damaged image may ask for anything.
            other => Err(
                Error::new(ErrorKind::Reference, "extent", format!("{other:?}")).path(from.path()),
            ),
        }
    }
}

pub(crate) fn open_bytes((image, data): (Vec<u8>, Vec<u8>), overlay: bool) -> Result<Layer> {
    let file = ImageFile::from_storage("test.qcow2", image)?;
    open::open_file(
        file,
        &OpenOptions {
            overlay,
            format: Some(format::named("qcow2")?),
            ..OpenOptions::new(&Data(data))
        },
    )
}

/// Checks that `disk` says and holds of each sector what the model does; a hole is `hole`.
pub(crate) fn assert_is(disk: &dyn Disk, model: &[(Is, Vec<u8>)], hole: Kind) {
    assert_eq!(disk.size(), (model.len() * SECTOR) as u64);
    for (pos, (is, bytes)) in (0..).step_by(SECTOR).zip(model) {
        let expected = match is {
            Is::Hole => hole,
            Is::Zero => Kind::Zero,
            Is::Data => Kind::Data,
        };
        assert_eq!(disk.extent_at(pos).unwrap().kind, expected, "at {pos}");
        let mut buf = vec![0xee; SECTOR];
        match disk.read_at(pos, &mut buf) {
            Ok(()) => assert!(buf == *bytes, "at {pos}"),
            Err(e) => assert!(
                expected == Kind::Absent && e.kind() == ErrorKind::Reference,
                "at {pos}: {e}"
            ),
        }
    }
}

/// Opens as qcow2 and reads whatever the layer says it has.
pub(crate) fn read_all(image: (Vec<u8>, Vec<u8>)) -> Result<()> {
    let layer = open_bytes(image, false)?;
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
