//! Children: images that hold only what differs from a parent.
//!
//! What a child may be made of, how it names its parent and whether it reads as it should is decided
//! here for all operations that make children.

use super::{diff, hash, in_place};
use crate::{
    Chain, Disk, Error, ErrorKind, Format, Identity, InFile, Job, Layer, Result, format::ParentSpec,
};
use std::{
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

/// Checks that an image of `format` can be a child of `parent`.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) that names the parent and says why it cannot be one.
pub fn check(parent: &Chain, format: &dyn Format) -> Result<()> {
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
    match (format.name(), top.facts().identity) {
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

/// Fails with [`Usage`](ErrorKind::Usage) if `image` is part of what is to be its parent.
pub(super) fn refuse_loop(parent: &Chain, image: &Layer) -> Result<()> {
    let own = |id| image.files().iter().any(|f| f.tag.id == id);
    if parent.files().any(|f| f.tag.id.is_some() && own(f.tag.id)) {
        let detail = "is the image itself or has it as a parent: that would be a loop";
        let path = parent.top().path();
        return Err(Error::new(ErrorKind::Usage, "parent", detail).path(path));
    }
    Ok(())
}

/// How a child names its parent.
#[derive(Clone, Debug)]
pub struct Place {
    /// What it records.
    pub spec: ParentSpec,
    /// What a user should know: the parent lies outside the child's folder, and so it is not found
    /// without being allowed.
    pub warning: Option<String>,
}

/// How the child at `child` names `parent`: from its own folder, so that both can be moved together
/// and nothing of this machine is told to whoever gets the child. `absolute` records that path, too.
pub fn place(parent: &Chain, child: &Path, absolute: bool) -> Result<Place> {
    let top = parent.top();
    Place::of(child, top.path(), top.facts().identity, absolute)
}

impl Place {
    /// The same for a parent of which no more is known than its path, and the identity by which the
    /// child goes.
    pub fn of(
        child: &Path,
        parent: &Path,
        identity: Option<Identity>,
        absolute: bool,
    ) -> Result<Self> {
        let io = |e| Error::io("parent", e).path(parent);
        // An existing file is changed where it is, not where a link to it is.
        let real = child.canonicalize();
        let folder = canonical_folder(real.as_deref().unwrap_or(child))?;
        // A parent that is a link goes on being reached by it.
        let parent_folder = canonical_folder(parent)?;
        let name = parent.file_name().unwrap_or_default();
        let beneath = parent.canonicalize().map_err(io)?.starts_with(&folder);
        let modified = fs::metadata(parent)
            .and_then(|m| m.modified())
            .map_err(io)?;
        let spec = ParentSpec {
            relative: relative(&folder, &parent_folder, name),
            absolute: absolute.then(|| parent_folder.join(name)),
            identity,
            modified: modified
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
        };
        let warning = (!beneath).then(|| {
            format!(
                "the parent {} lies outside its folder: opening it will need --allow-path or --parent",
                parent.display()
            )
        });
        Ok(Self { spec, warning })
    }
}

/// True if `child` reads the same over `a` as over `b`. What it holds itself is not read.
pub(super) fn reads_alike(child: &Arc<Layer>, a: &Chain, b: &Chain, job: &Job<'_>) -> Result<bool> {
    let over = |parent: &Chain| {
        let child = std::iter::once(Arc::clone(child));
        Chain::new(child.chain(parent.layers().iter().cloned()).collect())
    };
    Ok(diff::diff(&over(a)?, &over(b)?, job, |_| {})?.bytes == 0)
}

/// Checks that the finished `child` has `parent` as its parent, and reads under it as the disk of
/// `size` bytes whose SHA-256 is `digest`.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) if it does not: something changed meanwhile, or is broken.
pub fn verify(
    child: Layer,
    parent: &Chain,
    size: u64,
    digest: &[u8; 32],
    job: &Job<'_>,
) -> Result<()> {
    let path = child.path().to_owned();
    let conflict =
        |detail: String| Error::new(ErrorKind::Conflict, "verification", detail).path(&path);
    let named = child.facts().parent.as_ref();
    if !named.is_some_and(|p| p.identity.is_none() || p.is(parent.top().facts())) {
        return Err(conflict("the new image records another parent".to_owned()));
    }
    let layers = std::iter::once(Arc::new(child)).chain(parent.layers().iter().cloned());
    let chain = Chain::new(layers.collect())?;
    reads_as(&chain, size, digest, job).in_file(&path)
}

/// Checks that `disk` has `size` bytes and the SHA-256 `digest`.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) with both digests if it does not.
pub fn reads_as(disk: &dyn Disk, size: u64, digest: &[u8; 32], job: &Job<'_>) -> Result<()> {
    let conflict = |detail: String| Err(Error::new(ErrorKind::Conflict, "verification", detail));
    if disk.size() != size {
        return conflict(format!(
            "the new image has {} bytes and not {size}",
            disk.size()
        ));
    }
    let found = hash::digest(disk, job)?;
    if found != *digest {
        return conflict(format!(
            "the new image reads as SHA-256 {} and not as {}; a file was changed meanwhile, or a medium is failing",
            hash::hex(&found),
            hash::hex(digest)
        ));
    }
    Ok(())
}

/// The folder of the file `path`, without links.
fn canonical_folder(path: &Path) -> Result<PathBuf> {
    let folder = in_place::folder(path);
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
