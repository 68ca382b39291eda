//! Images that belong together: who is whose parent among the files of some folders, and whether
//! every link holds.
//!
//! Opening an image tells only of its own ancestors. Whether a base may be changed or removed, and
//! where a lost parent has gone, only all the others tell.

mod contents;
mod health;
mod links;
mod repair;
mod walk;

pub(super) use walk::is_ours;

pub use repair::{Left, Repair, RepairPlan};

use crate::{
    Disk, Identity, Job, Layer, OpenOptions, ParentRef, Reference, Result,
    storage::{FileId, ImageFile},
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What [`scan`] found.
#[derive(Debug, Default)]
pub struct Family {
    /// The images, those under the given paths first, in the order of their paths; parents
    /// elsewhere follow.
    pub images: Vec<Member>,
    /// One for each image that records a parent, in the order of the images.
    pub links: Vec<Link>,
    /// What could not be looked at, or was left half done.
    pub troubles: Vec<Trouble>,
    /// Images that have one identity, by which children go: only names tell them apart.
    pub alike: Vec<Vec<usize>>,
}

/// One image.
#[derive(Clone, Debug)]
pub struct Member {
    /// Where it is.
    pub path: PathBuf,
    /// Name of its format.
    pub format: &'static str,
    /// The format's word for the variant.
    pub subformat: String,
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// Bytes that its files take on their medium.
    pub stored_size: u64,
    /// Who it is to its children.
    pub identity: Option<Identity>,
    /// Who it is to children that go by something else.
    pub other_identity: Option<Identity>,
    /// The parent that it records.
    pub parent: Option<ParentRef>,
    /// When the file of its parent was last written to as it was made ([`Facts`](crate::format::Facts)).
    pub parent_modified: Option<u64>,
    /// It is a [delta](crate::ops::delta), which has a link only if it is also a child.
    pub delta: bool,
    /// It lies outside the given paths, and is here because a child names it.
    pub outside: bool,
    id: Option<FileId>,
}

/// From a child to its parent.
#[derive(Clone, Debug)]
pub struct Link {
    /// Index of the child in the images.
    pub child: usize,
    /// What became of the parent.
    pub verdict: Verdict,
    /// The file of the parent is of another time than the child records, so that it may have been
    /// written to since: a VHD keeps its identity then. `None` if nothing tells.
    pub parent_written: Option<bool>,
}

/// What a child's record of its parent leads to. Numbers are indexes of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The recorded parent.
    Intact {
        /// The parent.
        parent: usize,
        /// What opening the child takes besides its own name.
        needs: Option<Needs>,
    },
    /// The recorded names lead nowhere, but images with exactly the recorded identity are here.
    Moved {
        /// Them; which one is right is plain if there is one.
        to: Vec<usize>,
        /// What was looked for, and where.
        sought: String,
    },
    /// The recorded names lead to another image, or to one that was changed.
    Changed {
        /// The image found.
        found: usize,
        /// Images with the recorded identity that lie elsewhere.
        copies: Vec<usize>,
        /// Whether what the child takes from its parent is what it was.
        contents: Contents,
    },
    /// The recorded names lead nowhere.
    Missing {
        /// What was looked for, and where.
        sought: String,
    },
    /// The file found is no image of the recorded format.
    WrongFormat {
        /// Why, and which file.
        detail: String,
        /// Images with the recorded identity that lie elsewhere.
        copies: Vec<usize>,
    },
    /// The file found cannot be opened.
    Unreadable {
        /// Why, and which file.
        detail: String,
        /// Images with the recorded identity that lie elsewhere; none if it is only that a change
        /// was cut short.
        copies: Vec<usize>,
        /// A change was cut short.
        unfinished: bool,
    },
    /// The child is its own ancestor.
    Loop {
        /// Its parent.
        parent: usize,
    },
}

impl Verdict {
    /// The word for reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Intact { .. } => "intact",
            Self::Moved { .. } => "moved",
            Self::Changed { .. } => "changed",
            Self::Missing { .. } => "missing",
            Self::WrongFormat { .. } => "wrong-format",
            Self::Unreadable { .. } => "unreadable",
            Self::Loop { .. } => "loop",
        }
    }

    /// The image under which the child is shown; none if nothing was found.
    pub fn leads_to(&self) -> Option<usize> {
        match self {
            Self::Intact { parent, .. } | Self::Loop { parent } => Some(*parent),
            Self::Changed { found, .. } => Some(*found),
            Self::Moved { to, .. } if to.len() == 1 => to.first().copied(),
            _ => None,
        }
    }
}

/// What somebody must say who opens a child, because its own record does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// The parent lies outside the folders from which the child may open files.
    AllowPath,
    /// The child records who its parent is, and no name, as VirtualBox does. It was found by that.
    Parent,
}

/// Whether a changed parent holds what its child relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// Nothing here still has the old contents to compare with.
    Unknown,
    /// An image with the recorded identity reads the same wherever the child asks its parent.
    Same,
    /// It does not.
    Different,
    /// The child asks its parent nowhere: it holds all of its disk.
    Unused,
}

impl Contents {
    /// True if the child reads as before.
    pub fn harmless(self) -> bool {
        matches!(self, Self::Same | Self::Unused)
    }
}

/// A file that could not be looked at, or is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The file or folder.
    pub path: PathBuf,
    /// Why; one sentence that names it.
    pub detail: String,
    /// A change of the image was cut short, or is under way.
    pub unfinished: bool,
    id: Option<FileId>,
}

/// Finds the images at and beneath `paths`, and follows what they record of their parents.
///
/// Folders are searched to their depth; links in them are not followed. Extents are no images of
/// their own, and packages are left out: no image can name a disk in one. Each image is opened
/// once, alone, and closed again. Contents are read only to find out what a changed parent means,
/// if an unchanged copy is here. `options.format` holds for files named in `paths`.
///
/// # Errors
/// Only if one of `paths` is not there, or the job was stopped: all else is told in the result.
///
/// ```no_run
/// use vdisk_core::{FileResolver, Job, OpenOptions, ops::family};
/// let resolver = FileResolver::default();
/// let options = OpenOptions::new(&resolver);
/// let found = family::scan(&["/vms".into()], &options, &Job::default())?;
/// println!("{} images, {} links", found.images.len(), found.links.len());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn scan(paths: &[PathBuf], options: &OpenOptions<'_>, job: &Job<'_>) -> Result<Family> {
    let options = OpenOptions {
        verify: false,
        overlay: false,
        disk: None,
        ..*options
    };
    let mut family = walk::images(paths, &options, job)?;
    links::find(
        &mut family,
        &OpenOptions {
            format: None,
            ..options
        },
        job,
    )?;
    contents::compare(
        &mut family,
        &OpenOptions {
            format: None,
            ..options
        },
        job,
    )?;
    Ok(family)
}

impl Family {
    /// How many things are not as they should be.
    pub fn findings(&self) -> usize {
        let broken = |l: &&Link| !matches!(l.verdict, Verdict::Intact { .. });
        self.links.iter().filter(broken).count() + self.troubles.len()
    }

    /// For each image, the one under which it is shown.
    fn above(&self) -> Vec<Option<usize>> {
        let mut above = vec![None; self.images.len()];
        for link in &self.links {
            if let Some(place) = above.get_mut(link.child) {
                *place = link.verdict.leads_to();
            }
        }
        above
    }
}

impl Member {
    fn of(layer: &Layer, outside: bool) -> Self {
        let facts = layer.facts();
        Self {
            path: layer.path().to_owned(),
            format: layer.format().name(),
            subformat: facts.subformat.clone(),
            virtual_size: layer.size(),
            stored_size: layer.stored_size(),
            identity: facts.identity,
            other_identity: facts.other_identity,
            parent: facts.parent.clone(),
            parent_modified: facts.parent_modified,
            delta: facts.notes.iter().any(|(key, _)| key == "delta"),
            outside,
            id: layer.file_id(),
        }
    }

    fn identities(&self) -> [Option<Identity>; 2] {
        [self.identity, self.other_identity]
    }

    /// The identity by which a child that records `wanted` goes, as far as this image has it.
    pub fn as_seen_by(&self, wanted: &ParentRef) -> Option<Identity> {
        wanted.sees(self.identity, self.other_identity)
    }
}

/// The images directly in `folder` that are children of `parent`, sorted.
///
/// A child counts if it records the identity of `parent`, unless its names lead to another file;
/// without an identity, if they lead to `parent`. Files that are no images, and those that cannot be
/// opened, are none.
pub fn children(parent: &Layer, folder: &Path, options: &OpenOptions<'_>) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| crate::Error::io("list", e).path(folder))?;
    let options = OpenOptions {
        format: None,
        verify: false,
        overlay: false,
        disk: None,
        ..*options
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| crate::Error::io("list", e).path(folder))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_file())
            && !walk::is_ours(&entry.file_name())
            && is_child(&path, parent, &options)
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_child(path: &Path, parent: &Layer, options: &OpenOptions<'_>) -> bool {
    let Ok(file) = ImageFile::open(path, options.access) else {
        return false;
    };
    let own = |id| parent.files().iter().any(|f| f.tag.id == id);
    if own(file.tag.id) {
        return false;
    }
    let Ok(walk::Read::Image(layer)) = walk::read(&file, options) else {
        return false;
    };
    let Some(wanted) = &layer.facts().parent else {
        return false;
    };
    let led = options.resolver.find(&file, &Reference::Parent(wanted));
    let led = led.unwrap_or_default();
    let led_here = led.iter().any(|f| f.tag.id == parent.file_id());
    // A namesake beside the child is not where its names lead.
    let led_elsewhere = || {
        led.iter()
            .any(|f| crate::resolve::leads_to(wanted, f.path()))
    };
    match wanted.identity {
        Some(_) => wanted.is(parent.facts()) && (led_here || !led_elsewhere()),
        None => led_here,
    }
}
