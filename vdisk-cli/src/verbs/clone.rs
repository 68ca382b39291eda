//! `vdisk clone`: new disks that start as another one and share its blocks.

use crate::{
    args::{InputArgs, ids, shown},
    child,
    exit::Exit,
    output::{Shape, WriteArgs, Written},
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, Disk, Error, ErrorKind, Ids, Result, format::ParentSpec, ops::hash, printable,
};

/// Make new disks that start as a copy of another, without copying
///
/// The new image is a child that holds only what will be written to it; the parent, which must not
/// change from then on, is never written to. A VMDK can have VMDK children, a VHDX VHDX children, a
/// VHD or a raw disk VHD children. The child names its parent relative to its own folder. Each has
/// an identity of its own.
///
/// With --count the name of the output says where the number goes: -o 'desk-{}.vmdk', or {:03} for
/// 001. Every clone appears whole; if one fails, those before it stay.
///
/// JSON: schema, parent, full, output, format, subformat, virtual_size, added_size, stored_size,
/// identity; with --count schema, parent, full, and clones, a list of the rest.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image to start from; its own parents must be there
    #[arg(value_name = "PARENT")]
    source: PathBuf,
    /// The new image
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Make this many, numbered from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
    /// Copy everything: the new image needs no parent
    #[arg(long)]
    full: bool,
    /// Record the absolute path of the parent: besides the relative one in VHD and VHDX, instead of it in VMDK
    #[arg(long, conflicts_with = "full")]
    absolute_parent: bool,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let outputs = match args.count {
        Some(count) => numbered(&args.output, count)?,
        None => vec![args.output.clone()],
    };
    let shape = args.write.shape(&args.output, !args.full)?;
    let parent = args.input.open(&args.source, ui)?;
    if !args.full {
        child::check(&parent, shape)?;
        warn_of_writable(&parent, ui);
    }
    if outputs.len() > 1 {
        // A name that is taken is found before the first clone is there.
        for output in &outputs {
            drop(args.write.begin(output, shape, ids(parent.files()), ui)?);
        }
    }
    let mut clones = Clones {
        args,
        parent: &parent,
        shape,
        place: None,
        digest: None,
    };
    let mut made = Vec::new();
    let mut failed = None;
    for output in &outputs {
        match clones.make(output, ui) {
            Ok(written) => made.push(written),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if let (Some(_), Some(last)) = (&failed, made.len().checked_sub(1)) {
        let name = |index: usize| outputs.get(index).map_or(String::new(), |o| shown(o));
        ui.warn(&format!(
            "{} of {} clones were made and stay, from {} to {}",
            made.len(),
            outputs.len(),
            name(0),
            name(last)
        ));
    }
    if failed.is_none() || !made.is_empty() {
        ui.summary(&CloneReport::of(args, made))?;
    }
    failed.map_or(Ok(Exit::Done), Err)
}

/// Makes the clones of one parent, one after the other.
struct Clones<'a> {
    args: &'a Args,
    parent: &'a Chain,
    shape: Shape,
    /// How they name the parent: all lie in one folder.
    place: Option<ParentSpec>,
    /// Of the parent's contents, once it was needed.
    digest: Option<[u8; 32]>,
}

impl Clones<'_> {
    fn make(&mut self, output: &Path, ui: &mut Ui) -> Result<Written> {
        ui.check_stop()?;
        let (write, parent) = (&self.args.write, self.parent);
        let inputs = ids(parent.files());
        let mut destination = write.begin(output, self.shape, inputs, ui)?;
        if self.args.full && self.args.count.is_none() {
            return write.copy(parent, destination, ui);
        }
        if self.args.full {
            return write.copy_as(parent, destination, |digest| named(digest, output), ui);
        }
        let mut place = match &self.place {
            Some(place) => place.clone(),
            None => child::place(parent, output, self.args.absolute_parent, ui)?,
        };
        self.place = Some(place.clone());
        let known = &mut self.digest;
        let ids = write.ids(self.shape, place.identity, || {
            let digest = match *known {
                Some(digest) => digest,
                None => *known.insert(hash::digest(parent, &ui.job())?),
            };
            Ok(named(digest, output))
        })?;
        // Reproducible output does not depend on when the parent was copied here.
        place.modified = place.modified.min(ids.created);
        destination.disk_id(parent.top().facts().disk_id);
        let (size, sector) = (parent.size(), parent.sector_size());
        destination
            .writer(size, sector, ids, Some(place))?
            .finish()?;
        destination.publish(size, ui)
    }
}

/// A digest of the contents and of the clone's name: two clones of one disk are two disks.
fn named(digest: [u8; 32], output: &Path) -> [u8; 32] {
    let name = output.file_name().unwrap_or_default().display().to_string();
    let mut both = digest;
    let own = Ids::derived(&digest, &name, 0).uuid;
    both.iter_mut().zip(own).for_each(|(b, o)| *b = o);
    both
}

/// Warns of a parent that somebody can write to, and so ruin its clones.
fn warn_of_writable(parent: &Chain, ui: &Ui) {
    for layer in parent.layers() {
        let writable = |path: &Path| {
            let mode = path.metadata().map_or(0, |m| m.permissions().mode());
            mode & 0o222 != 0
        };
        if layer.files().iter().any(|f| writable(f.path())) {
            let path = layer.path().display();
            let extents = if layer.files().len() > 1 {
                " and its extents"
            } else {
                ""
            };
            let quoted = quoted(&path.to_string());
            ui.warn(&format!(
                "{path}: can be written to, which would ruin its clones; make it read-only: chmod a-w {quoted}{extents}"
            ));
        }
    }
}

/// `path` as one word of a shell.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// The paths that `pattern` makes of the numbers 1 to `count`.
fn numbered(pattern: &Path, count: u32) -> Result<Vec<PathBuf>> {
    let name = pattern
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let Some((before, width, after)) = placeholder(name) else {
        let detail = "says nowhere where the number goes; with --count write it as {} or {:03}, once, such as desk-{}.vmdk";
        return Err(Error::new(ErrorKind::Usage, "output", detail).path(pattern));
    };
    let path = |n: u32| pattern.with_file_name(format!("{before}{n:0width$}{after}"));
    Ok((1..=count).map(path).collect())
}

/// What stands before the one place for a number, how many digits that has at least, and what
/// stands behind it.
fn placeholder(name: &str) -> Option<(&str, usize, &str)> {
    let (before, rest) = name.split_once('{')?;
    let (inside, after) = rest.split_once('}')?;
    let width = match inside.strip_prefix(":0") {
        Some(digits) => digits.parse().ok().filter(|w| (1..=9).contains(w))?,
        None if inside.is_empty() => 1,
        None => return None,
    };
    let once = !after.contains(['{', '}']) && !before.contains('}');
    once.then_some((before, width, after))
}

#[derive(Serialize)]
struct CloneReport {
    schema: u32,
    parent: String,
    /// True for copies that need no parent.
    full: bool,
    #[serde(flatten)]
    written: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clones: Option<Vec<Written>>,
}

impl CloneReport {
    fn of(args: &Args, mut made: Vec<Written>) -> Self {
        let (written, clones) = match args.count {
            Some(_) => (None, Some(made)),
            None => (made.pop(), None),
        };
        Self {
            schema: 1,
            parent: shown(&args.source),
            full: args.full,
            written,
            clones,
        }
    }
}

impl Report for CloneReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let how = if self.full { "full copy" } else { "child" };
        for written in self.written.iter().chain(self.clones.iter().flatten()) {
            write!(out, "{how} of {} -> ", printable(&self.parent))?;
            written.text(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted("gold/a-1.vmdk"), "gold/a-1.vmdk");
        assert_eq!(quoted("my disk.vmdk"), "'my disk.vmdk'");
        assert_eq!(quoted("it's.vmdk"), r"'it'\''s.vmdk'");
        assert_eq!(quoted("$(x).vmdk"), "'$(x).vmdk'");
    }

    #[test]
    fn a_number_has_one_place_in_the_name() {
        for (name, expected) in [
            ("desk-{}.vmdk", Some(("desk-", 1, ".vmdk"))),
            ("{:03}.vhd", Some(("", 3, ".vhd"))),
            ("desk.vmdk", None),
            ("a{}{}", None),
            ("a{:3}", None),
            ("a{:0}", None),
            ("a{:010}", None),
            ("a{x}", None),
            ("}a{", None),
            ("}a{}", None),
        ] {
            assert_eq!(placeholder(name), expected, "{name}");
        }
    }

    #[test]
    fn numbers_are_in_the_name_and_not_in_the_folder() {
        let all = numbered("d{}/x-{:02}.vhd".as_ref(), 10).unwrap_or_default();
        assert_eq!(all.len(), 10);
        assert_eq!(
            all.first().map(PathBuf::as_path),
            Some(Path::new("d{}/x-01.vhd"))
        );
        assert_eq!(
            all.last().map(PathBuf::as_path),
            Some(Path::new("d{}/x-10.vhd"))
        );
        assert!(numbered("d{}/x.vhd".as_ref(), 2).is_err());
    }
}
