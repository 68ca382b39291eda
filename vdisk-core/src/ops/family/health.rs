//! Whether links that lead to the right image can be gone along: what else keeps a child from being
//! read, and what may have happened to its parent.
//!
//! A parent that opens alone can still be cut short, and a chain can be longer than is opened.

use super::{Family, Trouble, Verdict};
use crate::{
    Disk, Error, ErrorKind, Job, OpenOptions, Result, limits, open::open_layer, transaction,
};
use std::{collections::HashSet, fs, path::Path, time::UNIX_EPOCH};

/// Extents that are looked at to see that a parent is whole. Enough for some terabytes in use.
const EXTENTS: usize = 1 << 20;

/// FAT keeps times to two seconds.
const SAME_TIME: u64 = 2;

/// Adds what is wrong with intact links.
pub(super) fn check(family: &mut Family, options: &OpenOptions<'_>, job: &Job<'_>) -> Result<()> {
    times(family);
    depths(family);
    let mut looked = HashSet::new();
    for link in &family.links {
        let Verdict::Intact { parent, .. } = link.verdict else {
            continue;
        };
        let Some(image) = family.images.get(parent).filter(|_| looked.insert(parent)) else {
            continue;
        };
        job.advance(0)?;
        if let Err(error) = is_whole(&image.path, options) {
            let trouble = trouble(&image.path, &error);
            // One that cannot be opened at all was told before.
            if family.troubles.iter().all(|t| t.path != trouble.path) {
                family.troubles.push(trouble);
            }
        }
    }
    Ok(())
}

fn trouble(path: &Path, error: &Error) -> Trouble {
    Trouble {
        path: path.to_owned(),
        detail: error.to_string(),
        unfinished: transaction::is_unfinished(error),
        id: None,
    }
}

/// Compares the recorded times of parents with those of their files.
fn times(family: &mut Family) {
    for link in &mut family.links {
        let recorded = family.images.get(link.child);
        let recorded = recorded.and_then(|m| m.parent_modified);
        let parent = link.verdict.leads_to();
        let now = parent.and_then(|p| modified(&family.images.get(p)?.path));
        link.parent_written = recorded
            .zip(now)
            .map(|(recorded, now)| now.abs_diff(recorded) > SAME_TIME);
    }
}

/// When the file was last written to, in seconds since 1970.
fn modified(path: &Path) -> Option<u64> {
    let time = fs::metadata(path).and_then(|m| m.modified()).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// True if the file at `path` was written to after `recorded`.
pub(super) fn is_later(path: &Path, recorded: Option<u64>) -> bool {
    let limit = recorded.map(|r| r.saturating_add(SAME_TIME));
    limit.is_some_and(|limit| modified(path).is_some_and(|now| now > limit))
}

/// Tells of the first image of each chain that is too far from its base to be opened.
fn depths(family: &mut Family) {
    let above = family.above();
    let next = |at: &usize| above.get(*at).copied().flatten();
    for link in &family.links {
        // Loops are told as such; here they only must end.
        let layers = std::iter::successors(Some(link.child), next)
            .take(limits::CHAIN_DEPTH.saturating_add(2))
            .count();
        if layers == limits::CHAIN_DEPTH.saturating_add(1)
            && let Some(child) = family.images.get(link.child)
        {
            let detail = format!("has more than {} layers", limits::CHAIN_DEPTH);
            let error = Error::new(ErrorKind::Limit, "chain", detail).path(&child.path);
            family.troubles.push(trouble(&child.path, &error));
        }
    }
}

/// Fails if the image at `path` cannot be opened, or its tables lead out of its files.
fn is_whole(path: &Path, options: &OpenOptions<'_>) -> Result<()> {
    let layer = open_layer(path, options)?;
    // The others check it themselves, or may end before their last block does.
    let to_the_end = matches!(layer.format().name(), "vhd" | "vhdx");
    let mut pos = 0;
    for _ in 0..EXTENTS {
        if pos >= layer.size() {
            break;
        }
        let extent = layer.extent_at(pos)?;
        pos = extent.range.end;
        let Some(stored) = extent.stored.filter(|_| to_the_end) else {
            continue;
        };
        let file = layer.files().iter().find(|f| f.tag.id == stored.file.id);
        let end = stored
            .at
            .0
            .saturating_add(extent.range.end - extent.range.start);
        if file.is_some_and(|f| end > f.size) {
            let detail = format!(
                "the part of the disk that ends at {pos} lies past the end of the file: it was cut short"
            );
            let error = Error::corrupt("data", detail).at(stored.at.0);
            return Err(error.path(stored.file.path.clone()));
        }
    }
    Ok(())
}
