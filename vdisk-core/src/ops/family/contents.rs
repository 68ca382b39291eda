//! What the change of a parent means to its child: found out by reading, where there is something
//! to compare with.

use super::{Contents, Family, Verdict};
use crate::{
    Chain, Disk, Job, Kind, Layer, OpenOptions, Result,
    open::{ancestors, format_of, open_layer},
    ops::{child, diff},
};
use std::{collections::HashMap, path::Path, sync::Arc};

/// Fills in what is known of the contents of changed parents.
pub(super) fn compare(family: &mut Family, options: &OpenOptions<'_>, job: &Job<'_>) -> Result<()> {
    // Whether two images read the same from end to end.
    let mut alike: HashMap<(usize, usize), bool> = HashMap::new();
    let images = &family.images;
    for link in &mut family.links {
        let Verdict::Changed {
            found,
            copies,
            contents,
        } = &mut link.verdict
        else {
            continue;
        };
        let path = |index: usize| images.get(index).map(|m| m.path.as_path());
        let (Some(child), Some(now)) = (images.get(link.child), path(*found)) else {
            continue;
        };
        let format = child
            .parent
            .as_ref()
            .and_then(|p| format_of(p).ok().flatten());
        let options = OpenOptions { format, ..*options };
        // What cannot be opened tells nothing, and is a finding of its own.
        let Ok(child) = open_layer(
            &child.path,
            &OpenOptions {
                format: None,
                ..options
            },
        ) else {
            continue;
        };
        match asks(&child) {
            Ok(true) => {}
            Ok(false) => {
                *contents = Contents::Unused;
                continue;
            }
            Err(_) => continue,
        }
        // All have the identity, so any will do.
        let copy = copies.first().copied();
        let Some((copy, then)) = copy.and_then(|c| Some((c, path(c)?))) else {
            continue;
        };
        let known = alike.get(&(*found, copy)).copied();
        let answer = match known {
            Some(true) => Ok(true),
            _ => same_to(child, now, then, &options, job),
        };
        match answer {
            Ok(same) => {
                *contents = if same {
                    Contents::Same
                } else {
                    Contents::Different
                }
            }
            Err(error) if error.kind() == crate::ErrorKind::Cancelled => return Err(error),
            Err(_) => continue,
        }
        if known.is_none() && images.len() > 2 {
            // Other children of the two need not be compared one by one, if that holds.
            let whole = chain(now, &options).and_then(|a| Ok((a, chain(then, &options)?)));
            let whole = whole.and_then(|(a, b)| diff::diff(&a, &b, job, |_| {}));
            alike.insert((*found, copy), whole.is_ok_and(|d| d.bytes == 0));
        }
    }
    Ok(())
}

/// True if `child` leaves anything to its parent. Ends at the first such place.
fn asks(child: &Layer) -> Result<bool> {
    let mut pos = 0;
    while pos < child.size() {
        let extent = child.extent_at(pos)?;
        if extent.kind == Kind::Absent {
            return Ok(true);
        }
        pos = extent.range.end;
    }
    Ok(false)
}

/// True if `child` reads the same over the images at `now` and at `then`.
fn same_to(
    child: Layer,
    now: &Path,
    then: &Path,
    options: &OpenOptions<'_>,
    job: &Job<'_>,
) -> Result<bool> {
    let (now, then) = (chain(now, options)?, chain(then, options)?);
    child::reads_alike(&Arc::new(child), &now, &then, job)
}

fn chain(path: &Path, options: &OpenOptions<'_>) -> Result<Chain> {
    let (layers, trouble) = ancestors(open_layer(path, options)?, options);
    match trouble {
        Some(error) => Err(error),
        None => Chain::new(layers),
    }
}
