//! An extent given in place of its disk: refused with the name of the descriptor, where one lies
//! beside it.
//!
//! People name the largest file. What they need is the small one, and only its name is looked for.

use crate::{Error, ErrorKind, storage::ImageFile};
use std::path::{Path, PathBuf};

/// What descriptors' extents add to the name of the disk: `a.vmdk` has `a-flat.vmdk`.
const ADDED: [&str; 4] = ["-flat", "-delta", "-sesparse", "-rdm"];

/// Refuses `file`, which is `what`: "a bare vmfsSparse extent".
pub(super) fn refused(file: &ImageFile, what: &str) -> Error {
    let detail = match descriptor_beside(file) {
        Some(name) => format!("is {what}: open its descriptor '{}'", name.display()),
        None => format!("is {what}: open its descriptor"),
    };
    Error::new(ErrorKind::Unsupported, "extent", detail)
}

/// The file beside `file` that is named as its descriptor would be. Nothing is opened.
pub(crate) fn descriptor_beside(file: &ImageFile) -> Option<PathBuf> {
    file.tag.id?; // not a file, so it has no neighbours
    let name = descriptor_name(file.path())?;
    file.path()
        .with_file_name(&name)
        .is_file()
        .then(|| name.into())
}

/// `a.vmdk` for `a-flat.vmdk`, `a-s001.vmdk` and their like.
fn descriptor_name(path: &Path) -> Option<String> {
    let ending = path.extension()?.to_str()?;
    let stem = path.file_stem()?.to_str()?;
    let lower = stem.to_ascii_lowercase();
    let kept = ADDED
        .iter()
        .find_map(|added| lower.strip_suffix(added))
        .or_else(|| {
            let piece = lower.trim_end_matches(|c: char| c.is_ascii_digit());
            let digits = lower.len().saturating_sub(piece.len());
            let piece = piece
                .strip_suffix("-s")
                .or_else(|| piece.strip_suffix("-f"))?;
            (digits >= 3).then_some(piece)
        })?;
    // Lower case changes no length in ASCII, so this keeps the name's own capitals.
    Some(format!("{}.{ending}", stem.get(..kept.len())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_named_after_their_extents() {
        for (extent, descriptor) in [
            ("Disk-flat.vmdk", Some("Disk.vmdk")),
            ("a b-000001-delta.vmdk", Some("a b-000001.vmdk")),
            ("a-000002-SESPARSE.VMDK", Some("a-000002.VMDK")),
            ("a-s001.vmdk", Some("a.vmdk")),
            ("a-f1234.vmdk", Some("a.vmdk")),
            ("a-000001-s002.vmdk", Some("a-000001.vmdk")),
            ("a-s1.vmdk", None),
            ("a-001.vmdk", None),
            ("a.vmdk", None),
            ("-flat", None),
        ] {
            assert_eq!(descriptor_name(extent.as_ref()).as_deref(), descriptor);
        }
    }
}
