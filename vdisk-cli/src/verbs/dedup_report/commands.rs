//! Clusters with the commands that split them, as far as `vdisk split` accepts them.

use super::{
    clusters::{self, Found, Member},
    figures::percent,
    report::Cluster,
};
use crate::farm::{Farm, Image};
use std::{
    collections::HashSet,
    fs,
    iter::successors,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, FileResolver, OpenOptions, format,
    open::{self, open_layer},
    ops::{
        child,
        dedup::Outcome,
        split::{self, Found as InFolder},
    },
    printable,
    storage::FileId,
};

/// The format of children of an image of `format`, if it can have any.
fn child_format(format: &str) -> Option<&str> {
    match format {
        "vmdk" | "vhd" | "vhdx" => Some(format),
        "raw" => Some("vhd"),
        _ => None,
    }
}

/// The clusters of the images of `farm` that were counted. `here` says that the images can be
/// opened: then only what `vdisk split` accepts without further flags is a base, and named.
pub(super) fn clusters(farm: &Farm, outcome: &Outcome, here: bool) -> Vec<Cluster> {
    let Some(places) = &outcome.places else {
        return Vec::new();
    };
    let mut images = Vec::new();
    let mut members = Vec::new();
    for image in &farm.images {
        let counts = outcome.images.get(image.node).copied().flatten();
        if let Some(counts) = counts {
            let packed = open::split_path(&image.path).1.is_some();
            images.push(image);
            members.push(Member {
                host: host(image).filter(|_| !here),
                format: &image.format,
                full: image.layers == 1 && !packed,
                base: !packed && child_format(&image.format).is_some(),
                layers: image.layers,
                size: counts.total,
                // In the same blocks as what it shares.
                data: places.get(image.node, image.node).unwrap_or(counts.data),
                allocated: image.allocated,
            });
        }
    }
    let shared = |base: usize, member: usize| {
        let both = images.get(base).zip(images.get(member));
        // What a base relies on cannot be its child, and neither can the base itself.
        let apart = |(base, member): &(&&Image, &&Image)| {
            base.path != member.path
                && !relies(farm, base.node, member.node)
                && !same(farm, base.node, member.node)
        };
        both.filter(apart)
            .and_then(|(base, member)| places.get(base.node, member.node))
            .unwrap_or(0)
    };
    let mut fit = |base: usize| {
        let image = images.get(base);
        image.is_some_and(|image| !here || opened_base(image).is_some())
    };
    clusters::find(&members, &shared, &mut fit)
        .into_iter()
        .filter_map(|found| cluster(&found, &images, here))
        .collect()
}

/// True if `node` lies over `other`.
fn relies(farm: &Farm, node: usize, other: usize) -> bool {
    let parent = |node: &usize| farm.nodes.get(*node)?.parent;
    successors(Some(node), parent).any(|node| node == other)
}

/// True if the images of two nodes can be one file under two names.
fn same(farm: &Farm, a: usize, b: usize) -> bool {
    let files = |node: usize| {
        let files = farm.files.get(node).into_iter().flatten();
        files.filter_map(|(file, _)| *file)
    };
    files(a).any(|file| files(b).any(|other| other == file))
}

/// The machine that names the image, if those of several are in the report.
fn host(image: &Image) -> Option<&str> {
    let name = image.name.strip_suffix(image.path.to_str()?)?;
    name.strip_suffix(':').filter(|host| !host.is_empty())
}

fn cluster(found: &Found, images: &[&Image], here: bool) -> Option<Cluster> {
    let base = *images.get(found.base)?;
    let members: Vec<&Image> = found
        .members
        .iter()
        .filter_map(|number| images.get(*number).copied())
        .collect();
    Some(Cluster {
        base: base.name.clone(),
        members: members.iter().map(|m| m.name.clone()).collect(),
        shared_percent: percent(found.shared, found.data),
        frees_bytes: found.frees,
        commands: located(base, commands(base, &members, here), here),
    })
}

/// The image as a base, if its children can name it.
fn opened_base(image: &Image) -> Option<Chain> {
    let resolver = FileResolver::default();
    let base = vdisk_core::open(&image.path, &plain(&resolver)).ok()?;
    let format = format::named(child_format(&image.format)?).ok()?;
    child::check(&base, format).ok().map(|()| base)
}

/// How `vdisk split` without flags opens images.
fn plain(resolver: &FileResolver) -> OpenOptions<'_> {
    OpenOptions {
        verify: false,
        ..OpenOptions::new(resolver)
    }
}

/// `commands` after a line that says on which machine they are to be run, if there are several.
fn located(base: &Image, mut commands: Vec<String>, here: bool) -> Vec<String> {
    if let Some(host) = host(base).filter(|_| !here && !commands.is_empty()) {
        commands.insert(0, format!("# on {}", printable(host)));
    }
    commands
}

/// One command for all of a folder if those are the members and no others; otherwise one for each.
fn commands(base: &Image, members: &[&Image], here: bool) -> Vec<String> {
    let ending = child_format(&base.format);
    let (Some(named_base), Some(ending)) = (quoted(&base.path), ending) else {
        return Vec::new();
    };
    let mut taken = HashSet::new();
    let outputs: Vec<Option<PathBuf>> = members
        .iter()
        .map(|member| output(&member.path, ending, &mut taken))
        .collect();
    let usual = format!(".thin.{ending}");
    let is_usual = |path: &Option<PathBuf>| {
        let name = path.as_ref().and_then(|p| p.file_name()?.to_str());
        name.is_some_and(|name| name.ends_with(&usual))
    };
    let folder = match here && outputs.iter().all(is_usual) {
        true => common_folder(base, members),
        false => None,
    };
    if let Some(folder) = folder.as_deref().and_then(quoted) {
        return vec![format!("vdisk split --all {folder} --base {named_base}")];
    }
    let resolver = FileResolver::default();
    let opens = |member: &Image| !here || open_layer(&member.path, &plain(&resolver)).is_ok();
    let command = |(member, output): (&&Image, &Option<PathBuf>)| {
        let named = quoted(&member.path).filter(|_| opens(member))?;
        let output = quoted(output.as_deref()?)?;
        Some(format!(
            "vdisk split {named} --base {named_base} -o {output}"
        ))
    };
    members.iter().zip(&outputs).filter_map(command).collect()
}

/// The folder in which `vdisk split --all` finds the members, all of them and nothing else.
fn common_folder(base: &Image, members: &[&Image]) -> Option<PathBuf> {
    let folder = |image: &Image| match image.path.parent()? {
        here if here == Path::new("") => Some(PathBuf::from(".")),
        folder => Some(folder.to_owned()),
    };
    let all = folder(members.first()?)?;
    if members.len() < 2 || members.iter().any(|m| folder(m).as_ref() != Some(&all)) {
        return None;
    }
    let id = |path: &Path| fs::metadata(path).ok().map(|m| FileId::of(&m));
    let wanted: Option<HashSet<FileId>> = members.iter().map(|m| id(&m.path)).collect();
    let resolver = FileResolver::default();
    let base = opened_base(base)?;
    let mut found = HashSet::new();
    for one in split::images(&all, &base, &plain(&resolver)).ok()? {
        match one {
            InFolder::Disk(path) => found.insert(id(&path)?),
            InFolder::Left(..) => false,
            InFolder::Bad(..) => return None,
        };
    }
    (Some(found) == wanted).then_some(all)
}

/// A name for the child of `image` that is not taken: `disk.thin.vmdk` for `disk.vmdk`.
fn output(image: &Path, ending: &str, taken: &mut HashSet<PathBuf>) -> Option<PathBuf> {
    let stem = match image.extension() {
        Some(own) if own == ending => image.file_stem(),
        _ => image.file_name(),
    };
    let stem = stem?.to_str()?;
    let names = (1..100).map(|number| match number {
        1 => format!("{stem}.thin.{ending}"),
        number => format!("{stem}.thin{number}.{ending}"),
    });
    names
        .map(|name| image.with_file_name(name))
        .find(|path| path.symlink_metadata().is_err() && taken.insert(path.clone()))
}

/// `path` as a word of a shell's line; none if no line can be shown that means it.
fn quoted(path: &Path) -> Option<String> {
    let text = path
        .to_str()
        .filter(|t| !t.is_empty() && !t.chars().any(char::is_control))?;
    // It must not be taken for a flag.
    let text = match text.starts_with('-') {
        true => format!("./{text}"),
        false => text.to_owned(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-+@%,:=".contains(c);
    match text.chars().all(plain) {
        true => Some(text),
        false => Some(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_path_as_it_is() {
        for (path, word) in [
            ("a/b-1.vmdk", "a/b-1.vmdk"),
            ("-x.vmdk", "./-x.vmdk"),
            ("my disk.vmdk", "'my disk.vmdk'"),
            ("$HOME;`x`.vmdk", "'$HOME;`x`.vmdk'"),
            ("it's.vmdk", r"'it'\''s.vmdk'"),
            ("~x", "'~x'"),
        ] {
            assert_eq!(quoted(path.as_ref()).as_deref(), Some(word), "{path}");
        }
        assert_eq!(quoted("a\nb".as_ref()), None);
    }

    #[test]
    fn a_child_gets_a_name_that_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.thin.vmdk"), "").unwrap();
        let mut taken = HashSet::new();
        let mut name = |image: &str, ending: &str| {
            let path = output(&folder.path().join(image), ending, &mut taken).unwrap();
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name("a.vmdk", "vmdk"), "a.thin2.vmdk");
        assert_eq!(name("b.vmdk", "vmdk"), "b.thin.vmdk");
        assert_eq!(name("b.vmdk", "vmdk"), "b.thin2.vmdk");
        assert_eq!(name("b.raw", "vmdk"), "b.raw.thin.vmdk");
    }
}
