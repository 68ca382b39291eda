//! Groups of images: those of one folder, or those whose names have the same part.

use crate::farm::{Farm, Image};
use std::collections::BTreeMap;
use vdisk_core::{Error, ErrorKind, Result, open};

/// What a pattern calls the part that names the group.
const GROUP: &str = "{group}";

/// The group of all images that a pattern does not fit.
const OTHER: &str = "(other)";

/// What tells the group of an image.
#[derive(Clone, Debug)]
pub(super) enum GroupBy {
    /// Its folder.
    Folder,
    /// What stands in place of `{group}` in the last parts of its path.
    Pattern(Vec<String>),
}

impl GroupBy {
    /// Reads `folder`, or a pattern.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text == "folder" {
            return Ok(Self::Folder);
        }
        if text.matches(GROUP).count() != 1 {
            let detail = format!("'{text}' is neither 'folder' nor a pattern with one {GROUP}");
            return Err(Error::new(ErrorKind::Usage, "group", detail));
        }
        Ok(Self::Pattern(text.split('/').map(str::to_owned).collect()))
    }

    /// The group of the image `name`, a path.
    fn of(&self, name: &str) -> String {
        match self {
            Self::Folder => match name.rsplit_once('/') {
                Some(("", _)) => "/".to_owned(),
                Some((folder, _)) => folder.to_owned(),
                None => ".".to_owned(),
            },
            Self::Pattern(parts) => captured(parts, name).unwrap_or(OTHER).to_owned(),
        }
    }
}

/// What `{group}` stands for in the last parts of `name`, if they are as `parts` say.
fn captured<'a>(parts: &[String], name: &'a str) -> Option<&'a str> {
    let mut names = name.rsplit('/');
    let mut group = None;
    for part in parts.iter().rev() {
        let name = names.next()?;
        match part.split_once(GROUP) {
            None => fits(part, name).then_some(())?,
            Some((before, after)) => group = Some(between(before, after, name)?),
        }
    }
    group
}

/// What lies between `before` and `after` in `name`: as early and as short as it can be, and not
/// empty.
fn between<'a>(before: &str, after: &str, name: &'a str) -> Option<&'a str> {
    let places = || name.char_indices().map(|(at, _)| at).chain([name.len()]);
    for start in places() {
        let (head, rest) = name.split_at(start);
        if !fits(before, head) {
            continue;
        }
        for end in places().filter(|end| *end > start) {
            let (group, tail) = rest.split_at(end - start);
            if fits(after, tail) {
                return Some(group);
            }
        }
    }
    None
}

/// True if `name` is as `pattern` says, in which `*` is any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = rest.split_at(at + piece.len()).1;
    }
    rest.ends_with(last)
}

/// The groups of a farm's images.
#[derive(Default)]
pub(super) struct Groups {
    /// By number; the one of images that no pattern fits comes last.
    pub(super) names: Vec<String>,
    /// By node: the number of its image's group; empty if there are no groups.
    pub(super) of_nodes: Vec<u32>,
}

impl Groups {
    pub(super) fn of(farm: &Farm, by: Option<&GroupBy>) -> Self {
        let Some(by) = by else {
            return Self::default();
        };
        let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for image in &farm.images {
            members
                .entry(by.of(&file_name(image)))
                .or_default()
                .push(image.node);
        }
        let other = members.remove_entry(OTHER);
        let mut groups = Self {
            names: Vec::new(),
            of_nodes: vec![0; farm.nodes.len()],
        };
        for (number, (name, nodes)) in (0..).zip(members.into_iter().chain(other)) {
            groups.names.push(name);
            for node in nodes {
                if let Some(group) = groups.of_nodes.get_mut(node) {
                    *group = number;
                }
            }
        }
        groups
    }

    /// True if there are images, and a pattern fits none of them.
    pub(super) fn fit_none(&self) -> bool {
        matches!(&self.names[..], [only] if only == OTHER)
    }

    /// The name of the group of the image of `node`.
    pub(super) fn name(&self, node: usize) -> Option<&str> {
        let number = *self.of_nodes.get(node)?;
        self.names.get(number as usize).map(String::as_str)
    }
}

/// How the image's file is named; that of the package, if the image is in one.
fn file_name(image: &Image) -> String {
    let name = match open::split_path(&image.path).1 {
        Some(disk) => image.name.strip_suffix(&format!("::{disk}")),
        None => None,
    };
    name.unwrap_or(&image.name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(by: &str, name: &str) -> String {
        GroupBy::parse(by).unwrap().of(name)
    }

    #[test]
    fn the_folder_is_all_before_the_name() {
        for (name, folder) in [
            ("a.vmdk", "."),
            ("./a.vmdk", "."),
            ("/a.vmdk", "/"),
            ("desks/sales/a.vmdk", "desks/sales"),
            ("host1:/vm/a.vmdk", "host1:/vm"),
        ] {
            assert_eq!(group("folder", name), folder, "{name}");
        }
    }

    #[test]
    fn a_pattern_names_the_group() {
        for (pattern, name, expected) in [
            ("desk-{group}-*.vmdk", "farm/desk-sales-01.vmdk", "sales"),
            ("desk-{group}-*.vmdk", "farm/desk-sales-eu-01.vmdk", "sales"),
            ("*-{group}.vmdk", "desk-01-sales.vmdk", "01-sales"),
            ("{group}*", "x", "x"),
            ("{group}.*", "a.b.c", "a"),
            ("{group}/*.vmdk", "farm/sales/01.vmdk", "sales"),
            ("{group}/*/disk.vhd", "farm/eu/01/disk.vhd", "eu"),
            ("*é{group}ü*", "aéßü", "ß"),
            ("desk-*-{group}.vmdk", "desk-01-it.vmdk", "it"),
            ("desk-{group}.vmdk", "desk-.vmdk", OTHER),
            ("desk-{group}.vmdk", "desk-a.vmdk.bak", OTHER),
            ("desk-{group}.vmdk", "old/mydesk-a.vmdk", OTHER),
            ("{group}/*.vmdk", "01.vmdk", OTHER),
        ] {
            assert_eq!(group(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn stars_are_any_text() {
        for (pattern, name, wanted) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*a", "ba", true),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_has_one_group() {
        for text in ["", "*", "desk-*", "{group}{group}", "Folder"] {
            assert!(GroupBy::parse(text).is_err(), "{text}");
        }
    }
}
