//! Children: images that hold only what differs from a parent. `clone`, `diff -o` and `split` make
//! them.
//!
//! What they may be made of is decided by the library; here are the flags and the warnings.

use crate::{
    output::{Destination, Shape, WriteArgs, Written},
    ui::Ui,
};
use std::path::Path;
use vdisk_core::{
    Chain, Disk, ErrorKind, FileResolver, Identity, ParentRef, Reference, Resolver, Result,
    format::ParentSpec,
    ops::{changes, child, hash},
    storage::{Access, ImageFile},
};

/// Checks that an image of `shape` can be a child of `parent`.
pub(crate) fn check(parent: &Chain, shape: Shape) -> Result<()> {
    child::check(parent, shape.format)
}

/// Writes `destination` as a child of `parent` that reads as `disk`, or as the parent does if
/// there is none. Returns also the bytes recorded.
pub(crate) fn write(
    args: &WriteArgs,
    parent: &Chain,
    disk: Option<&dyn Disk>,
    place: ParentSpec,
    mut destination: Destination,
    ui: &Ui,
) -> Result<(Written, u64)> {
    let contents = disk.unwrap_or(parent);
    let digest = || hash::digest(contents, &ui.job());
    let recorded = fill(args, parent, disk, place, digest, &mut destination, ui)?;
    Ok((destination.publish(contents.size(), ui)?, recorded))
}

/// As [`write()`], but leaves the image without its name. `digest` is that of its contents.
pub(crate) fn fill(
    args: &WriteArgs,
    parent: &Chain,
    disk: Option<&dyn Disk>,
    mut place: ParentSpec,
    digest: impl FnOnce() -> Result<[u8; 32]>,
    destination: &mut Destination,
    ui: &Ui,
) -> Result<u64> {
    let contents = disk.unwrap_or(parent);
    let ids = args.ids(destination.shape, place.identity, digest)?;
    // Reproducible output does not depend on when the parent was copied here.
    place.modified = place.modified.min(ids.created);
    destination.disk_id(parent.top().facts().disk_id);
    let writer = destination.writer(contents.size(), contents.sector_size(), ids, Some(place))?;
    match disk {
        Some(disk) => changes::write(parent, disk, writer, &ui.job()),
        None => writer.finish().map(|()| 0),
    }
}

/// How the child at `child` names `parent`: from its own folder, so that both can be moved together.
pub(crate) fn place(parent: &Chain, child: &Path, absolute: bool, ui: &Ui) -> Result<ParentSpec> {
    let place = child::place(parent, child, absolute)?;
    if let Some(warning) = place.warning {
        ui.warn(&format!("{}: {warning}", child.display()));
    }
    Ok(place.spec)
}

/// Warns if `image` does not find a parent by the name `hint` without further flags.
pub(crate) fn warn_of_hint(image: &Path, hint: &str, ui: &Ui) -> Result<()> {
    let wanted = ParentRef {
        hints: vec![hint.into()],
        // Any: who has one also looks for the bare name.
        identity: Some(Identity::Cid(0)),
        alternative: None,
        format: None,
    };
    let image = ImageFile::open(image, Access::Positioned)?;
    let found = FileResolver::default().find(&image, &Reference::Parent(&wanted));
    if let Err(error) = found {
        let what = match error.kind() {
            ErrorKind::Policy => "lies outside its folder",
            ErrorKind::Reference => "is not there",
            _ => "cannot be opened",
        };
        ui.warn(&format!(
            "{}: the parent {hint} {what}: opening the image will need --allow-path or --parent",
            image.path().display()
        ));
    }
    Ok(())
}
