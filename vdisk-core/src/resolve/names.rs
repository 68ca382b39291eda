//! Names as images record them: which paths of this system they can be, and how errors give them.
//!
//! Images come from other systems, and record several names of one file.

use super::Reference;
use crate::ParentRef;
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component, Path, PathBuf},
};

/// `name` as a path of this system: Windows separators turned, `./` dropped.
///
/// Drive letters and network names become absolute paths that exist nowhere; their last part
/// still serves to find a moved parent.
pub(super) fn local(name: &OsStr) -> PathBuf {
    let bytes = name.as_bytes();
    if !bytes.contains(&b'\\') {
        return PathBuf::from(name);
    }
    let path = PathBuf::from(OsString::from_vec(turned(name)));
    if has_drive(name) {
        return Path::new("/").join(path);
    }
    path.strip_prefix(".").map_or(path.clone(), Path::to_owned)
}

/// The recorded names as paths of this system, relative to the image's folder or absolute, without
/// those that can be nowhere here, and without bare file names where others say the folder: a VHD
/// records both.
pub(crate) fn literal_names(parent: &ParentRef) -> impl Iterator<Item = PathBuf> + '_ {
    let is_bare = |path: &Path| path.components().nth(1).is_none();
    let placed = move |name: &Path| {
        let mut others = parent.hints.iter().map(|h| plain(&local(h)));
        others.any(|other| !is_bare(&other) && other.file_name() == name.file_name())
    };
    let here = parent.hints.iter().filter(|h| !is_foreign(h));
    here.map(|h| plain(&local(h)))
        .filter(move |name| !is_bare(name) || !placed(name))
}

/// `path` without `.`, which changes nothing.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|c| *c != Component::CurDir).collect()
}

/// The file names of the recorded names.
pub(crate) fn bare_names(parent: &ParentRef) -> Vec<PathBuf> {
    let hints = parent.hints.iter();
    hints
        .filter_map(|h| local(h).file_name().map(PathBuf::from))
        .collect()
}

/// True if `path` is where a name that `parent` records leads to, from whichever folder. Else the file
/// was found by less: by its bare name, or because somebody gave it.
pub(crate) fn leads_to(parent: &ParentRef, path: &Path) -> bool {
    let path = plain(path);
    let as_written = parent.hints.iter();
    let as_written = as_written.filter(|h| h.as_bytes().contains(&b'\\'));
    let as_written = as_written.map(PathBuf::from);
    literal_names(parent)
        .chain(as_written)
        .any(|name| path.ends_with(plain(&name)))
}

/// True if only Windows can know the place: a drive (`C:\a`), a share (`\\server\a`) or a volume
/// (`\\?\Volume{...}\a`). `\a` can be `/a`, which other programs write so.
pub(super) fn is_foreign(name: &OsStr) -> bool {
    let backslash = name.as_bytes().contains(&b'\\');
    backslash && (has_drive(name) || turned(name).starts_with(b"//"))
}

fn has_drive(name: &OsStr) -> bool {
    matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

fn turned(name: &OsStr) -> Vec<u8> {
    let turn = |&b: &u8| if b == b'\\' { b'/' } else { b };
    name.as_bytes().iter().map(turn).collect()
}

/// The part of the image that names the file, and all that it says.
pub(super) fn describe(reference: &Reference<'_>) -> (&'static str, String) {
    match reference {
        Reference::Extent(name) | Reference::Device(name) => ("extent", quoted(name)),
        Reference::Parent(parent) => {
            let names = parent.hints.iter().map(|h| quoted(h));
            ("parent", one_of(names))
        }
    }
}

/// As [`describe`], but of a parent only the names by which it can be here.
pub(super) fn sought(reference: &Reference<'_>) -> (&'static str, String) {
    let Reference::Parent(
        parent @ ParentRef {
            hints, identity, ..
        },
    ) = reference
    else {
        return describe(reference);
    };
    let relative = hints
        .iter()
        .filter(|h| !is_foreign(h))
        .map(|h| local(h))
        .filter(|path| !path.is_absolute());
    let mut names: Vec<PathBuf> = relative.collect();
    if names.is_empty() && identity.is_some() {
        names = bare_names(parent); // what an absolute name is looked for by
    }
    if names.is_empty() {
        return describe(reference);
    }
    (
        "parent",
        one_of(names.iter().map(|n| quoted(n.as_os_str()))),
    )
}

/// A name for a sentence.
pub(super) fn quoted(name: &OsStr) -> String {
    format!("'{}'", name.display())
}

/// The names, each once.
fn one_of(names: impl Iterator<Item = String>) -> String {
    let mut different: Vec<String> = Vec::new();
    for name in names {
        if !different.contains(&name) {
            different.push(name);
        }
    }
    match different.is_empty() {
        true => "(recorded without a name)".to_owned(),
        false => different.join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[test]
    fn only_windows_knows_drives_shares_and_volumes() {
        for name in [
            r"C:\a.vhd",
            r"\\server\share\a.vhd",
            r"\\?\C:\a.vhd",
            r"\\?\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\a.vhdx",
        ] {
            assert!(is_foreign(name.as_ref()), "{name}");
        }
        for name in [r"\a.vhd", r".\a.vhd", r"..\a.vhd", "/a", "//a", "a", "C:/a"] {
            assert!(!is_foreign(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn a_bare_name_is_not_where_a_path_leads() {
        let leads = |names: &str, path: &str| {
            let parent = ParentRef {
                hints: names.split(' ').map(OsString::from).collect(),
                identity: None,
                alternative: None,
                format: None,
            };
            leads_to(&parent, Path::new(path))
        };
        for (name, path, expected) in [
            ("../gold/a.vmdk", "vm/../gold/a.vmdk", true),
            ("../gold/a.vmdk", "vm/a.vmdk", false),
            ("./a.vmdk", "vm/a.vmdk", true),
            (r".\a.vhd", "a.vhd", true),
            (r"C:\x\a.vhd", "vm/a.vhd", false),
            (r"odd\a.vhd", r"vm/odd\a.vhd", true),
            (r"..\gold\a.vhd a.vhd", "vm/a.vhd", false),
            (r"..\gold\a.vhd a.vhd", "vm/../gold/a.vhd", true),
            (r".\a.vhd a.vhd", "vm/a.vhd", true),
            ("/x/a.vmdk", "/x/a.vmdk", true),
            ("/x/a.vmdk", "/vm/a.vmdk", false),
        ] {
            assert_eq!(leads(name, path), expected, "{name} {path}");
        }
    }

    #[test]
    fn a_parent_is_named_as_it_can_be_here() {
        let said = |hints: &[&str], identity| {
            let parent = ParentRef {
                hints: hints.iter().map(OsString::from).collect(),
                identity,
                alternative: None,
                format: None,
            };
            sought(&Reference::Parent(&parent)).1
        };
        let id = Some(Identity::Cid(7));
        assert_eq!(said(&[r".\x.vhd", r"C:\y\x.vhd", "x.vhd"], id), "'x.vhd'");
        assert_eq!(said(&[r"C:\y\x.vhd", r"\y\x.vhd"], id), "'x.vhd'");
        assert_eq!(said(&[r"C:\y\x.img"], None), r"'C:\y\x.img'");
        assert_eq!(said(&["a", "b", "a"], id), "'a' or 'b'");
        assert_eq!(said(&[], id), "(recorded without a name)");
    }
}
