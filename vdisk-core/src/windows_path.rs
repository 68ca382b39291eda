//! Paths as Windows writes them, for the images that record where their parent is.
//!
//! A path that Windows cannot express as it is gets refused rather than altered: an altered one
//! leads to another file.

use crate::{Error, ErrorKind, Result};
use std::path::{Component, Path};

/// `.\base.vhd` or `..\gold\base.vhd`, as Windows writes relative names.
pub(crate) fn relative(path: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => parts.push(".."),
            Component::Normal(part) => match part.to_str().filter(|p| !p.contains('\\')) {
                Some(part) => parts.push(part),
                None => return Err(usage(path, "is not Unicode or contains a backslash")),
            },
            Component::RootDir | Component::Prefix(_) => {
                return Err(usage(path, "is not relative to the child's folder"));
            }
        }
    }
    if parts.first().is_some_and(|first| *first != "..") {
        parts.insert(0, ".");
    }
    Ok(parts.join("\\"))
}

/// The path with backslashes. One that is a Windows path already stays as it is.
pub(crate) fn absolute(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| usage(path, "is not Unicode"))?;
    match text.as_bytes() {
        [_, b':', b'\\', ..] | [b'\\', b'\\', ..] => Ok(text.to_owned()),
        _ if text.contains('\\') => Err(usage(path, "contains a backslash")),
        _ => Ok(text.replace('/', "\\")),
    }
}

fn usage(path: &Path, what: &str) -> Error {
    let detail = format!(
        "'{}' {what}; a child cannot record it as its parent",
        path.display()
    );
    Error::new(ErrorKind::Usage, "parent", detail)
}
