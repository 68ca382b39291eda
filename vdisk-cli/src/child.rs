//! Children: images that hold only what differs from a parent. `clone` and `diff -o` make them.
//!
//! What a child may be made of, and how it names its parent, is decided here for both.

use crate::{
    output::{Destination, Shape, WriteArgs, Written},
    ui::Ui,
};
use std::{
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
    time::UNIX_EPOCH,
};
use vdisk_core::{
    Chain, Disk, Error, ErrorKind, FileResolver, Identity, ParentRef, Reference, Resolver, Result,
    format::ParentSpec,
    ops::{changes, hash},
    storage::{Access, ImageFile},
};

/// Checks that an image of `shape` can be a child of `parent`.
pub(crate) fn check(parent: &Chain, shape: Shape) -> Result<()> {
    let top = parent.top();
    let usage =
        |detail: String| Err(Error::new(ErrorKind::Usage, "parent", detail).path(top.path()));
    let own = top.format().name();
    if top.format().holds_disks() {
        return usage(
            "is a disk inside a package, and no child can name it; convert it to a file of its own first"
                .to_owned(),
        );
    }
    match (shape.format.name(), top.facts().identity) {
        ("vmdk", Some(Identity::Cid(_))) => Ok(()),
        ("vhd", Some(Identity::Uuid(uuid))) if uuid == [0; 16] => usage(
            "has a unique ID of zeros, by which no child can name it; convert it to a new VHD first".to_owned(),
        ),
        ("vhd", Some(Identity::Uuid(_))) => Ok(()),
        ("vhd", None) if own == "raw" => Ok(()),
        ("vhdx", Some(Identity::Linkage(guid))) if guid == [0; 16] => usage(
            "has a data write GUID of zeros, by which no child can name it; convert it to a new VHDX first".to_owned(),
        ),
        ("vhdx", Some(Identity::Linkage(_))) => Ok(()),
        ("vmdk", _) => usage(format!("is {own}; a VMDK child needs a VMDK parent")),
        ("vhd", _) => usage(format!("is {own}; a VHD child needs a VHD or raw parent")),
        ("vhdx", _) => usage(format!("is {own}; a VHDX child needs a VHDX parent")),
        (other, _) => usage(format!("a {other} image cannot have a parent")),
    }
}

/// Writes `destination` as a child of `parent` that reads as `disk`, or as the parent does if
/// there is none. Returns also the bytes recorded.
pub(crate) fn write(
    args: &WriteArgs,
    parent: &Chain,
    disk: Option<&dyn Disk>,
    mut place: ParentSpec,
    mut destination: Destination,
    ui: &Ui,
) -> Result<(Written, u64)> {
    let job = ui.job();
    let contents = disk.unwrap_or(parent);
    let ids = args.ids(destination.shape, place.identity, || {
        hash::digest(contents, &job)
    })?;
    // Reproducible output does not depend on when the parent was copied here.
    place.modified = place.modified.min(ids.created);
    destination.disk_id(parent.top().facts().disk_id);
    let writer = destination.writer(contents.size(), contents.sector_size(), ids, Some(place))?;
    let recorded = match disk {
        Some(disk) => changes::write(parent, disk, writer, &job)?,
        None => {
            writer.finish()?;
            0
        }
    };
    Ok((destination.publish(contents.size(), ui)?, recorded))
}

/// How the child at `child` names `parent`: from its own folder, so that both can be moved together.
pub(crate) fn place(parent: &Chain, child: &Path, absolute: bool, ui: &Ui) -> Result<ParentSpec> {
    let path = parent.top().path();
    let io = |e| Error::io("parent", e).path(path);
    // An existing file is replaced where it is, not where a link to it is.
    let real = child.canonicalize();
    let folder = canonical_folder(real.as_deref().unwrap_or(child))?;
    let parent_folder = canonical_folder(path)?;
    let name = path.file_name().unwrap_or_default();
    let beneath = path.canonicalize().map_err(io)?.starts_with(&folder);
    if !beneath {
        ui.warn(&format!(
            "{}: the parent {} lies outside its folder: opening it will need --allow-path or --parent",
            child.display(),
            path.display()
        ));
    }
    let modified = fs::metadata(path).and_then(|m| m.modified()).map_err(io)?;
    Ok(ParentSpec {
        relative: relative(&folder, &parent_folder, name),
        absolute: absolute.then(|| parent_folder.join(name)),
        identity: parent.top().facts().identity,
        modified: modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
    })
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

/// The folder of the file `path`, without links.
fn canonical_folder(path: &Path) -> Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    folder
        .canonicalize()
        .map_err(|e| Error::io("open", e).path(folder))
}

/// The way from the folder `from` to the file `name` in the folder `to`; both are canonical.
fn relative(from: &Path, to: &Path, name: &OsStr) -> PathBuf {
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let down = to.components().skip(shared);
    let mut path: PathBuf = up.chain(down).collect();
    path.push(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_go_up_and_down() {
        for (from, to, way) in [
            ("/a/b", "/a/b", "p.vmdk"),
            ("/a/b", "/a/b/c", "c/p.vmdk"),
            ("/a/b/c", "/a/d", "../../d/p.vmdk"),
            ("/", "/x", "x/p.vmdk"),
        ] {
            let found = relative(from.as_ref(), to.as_ref(), "p.vmdk".as_ref());
            assert_eq!(found, Path::new(way), "{from} to {to}");
        }
    }
}
