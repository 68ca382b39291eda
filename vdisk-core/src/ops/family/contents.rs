//! What the change of a parent means to its child: found out by reading, where there is something
//! to compare with.

use super::{Contents, Family, Verdict};
use crate::{
    Chain, Disk, ErrorKind, Job, Kind, Layer, OpenOptions, Result,
    open::{ancestors, format_of, open_layer},
    ops::{child, diff},
};
use std::{collections::HashMap, ops::Range, path::Path, sync::Arc};

/// Unchanged copies that are compared, each as a whole. People keep one or two.
const COPIES: usize = 16;

/// Places kept in which two images differ. Children that hold none of these rely on something else;
/// what is left to find out for them is read for each.
const PLACES: usize = 4096;

/// Fills in what is known of the contents of changed parents.
pub(super) fn compare(family: &mut Family, options: &OpenOptions<'_>, job: &Job<'_>) -> Result<()> {
    let mut pairs = Pairs {
        children: HashMap::new(),
        known: HashMap::new(),
        options: *options,
        job,
    };
    for link in &family.links {
        if let Verdict::Changed { found, .. } = &link.verdict {
            let children = pairs.children.entry(*found).or_insert(0usize);
            *children = children.saturating_add(1);
        }
    }
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
        let Some(child) = images.get(link.child) else {
            continue;
        };
        let format = child
            .parent
            .as_ref()
            .and_then(|p| format_of(p).ok().flatten());
        pairs.options.format = format;
        // What cannot be opened tells nothing, and is a finding of its own.
        let own = OpenOptions {
            format: None,
            ..*options
        };
        let Ok(child) = open_layer(&child.path, &own) else {
            continue;
        };
        match asks(&child, &(0..child.size())) {
            Ok(true) => {}
            Ok(false) => {
                *contents = Contents::Unused;
                continue;
            }
            Err(_) => continue,
        }
        let child = Arc::new(child);
        let path = |index: usize| images.get(index).map(|m| m.path.as_path());
        let Some(now) = path(*found) else {
            continue;
        };
        let mut answers = Vec::new();
        for copy in copies.iter().take(COPIES) {
            let Some(then) = path(*copy) else {
                continue;
            };
            match pairs.same(&child, (*found, now), (*copy, then)) {
                Ok(same) => answers.push(same),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(_) => {}
            }
        }
        // Nothing tells which of the copies is what it was; only if it is the same with all of them,
        // that does not matter.
        *contents = match answers.first() {
            Some(first) if answers.len() == copies.len() && answers.iter().all(|a| a == first) => {
                match first {
                    true => Contents::Same,
                    false => Contents::Different,
                }
            }
            _ => Contents::Unknown,
        };
    }
    Ok(())
}

/// Where two images differ: the first places, and whether these are all.
struct Differing {
    places: Vec<Range<u64>>,
    all: bool,
}

/// Pairs of images, each compared once however many children ask.
struct Pairs<'a> {
    /// How many children have the changed parent.
    children: HashMap<usize, usize>,
    known: HashMap<(usize, usize), Option<Differing>>,
    options: OpenOptions<'a>,
    job: &'a Job<'a>,
}

impl Pairs<'_> {
    /// True if `child` reads the same over the images at `now` and at `then`.
    fn same(
        &mut self,
        child: &Arc<Layer>,
        now: (usize, &Path),
        then: (usize, &Path),
    ) -> Result<bool> {
        let options = self.options;
        let open = || Ok((chain(now.1, &options)?, chain(then.1, &options)?));
        let pair = (now.0, then.0);
        // For one child, only what it asks is read.
        let many = self.children.get(&now.0).is_some_and(|n| *n > 1);
        if many && !self.known.contains_key(&pair) {
            let differing = open().and_then(|(a, b)| differing(&a, &b, self.job));
            let differing = match differing {
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                other => other.ok(),
            };
            self.known.insert(pair, differing);
        }
        if let Some(Some(differing)) = self.known.get(&pair) {
            for place in &differing.places {
                if asks(child, place)? {
                    return Ok(false);
                }
            }
            if differing.all {
                return Ok(true);
            }
        }
        let (a, b) = open()?;
        child::reads_alike(child, &a, &b, self.job)
    }
}

fn chain(path: &Path, options: &OpenOptions<'_>) -> Result<Chain> {
    let (layers, trouble) = ancestors(open_layer(path, options)?, options);
    match trouble {
        Some(error) => Err(error),
        None => Chain::new(layers),
    }
}

fn differing(a: &Chain, b: &Chain, job: &Job<'_>) -> Result<Differing> {
    let mut places = Vec::new();
    let mut all = true;
    diff::diff(a, b, job, |place| match places.len() < PLACES {
        true => places.push(place),
        false => all = false,
    })?;
    Ok(Differing { places, all })
}

/// True if `child` leaves anything in `range` to its parent. Ends at the first such place.
fn asks(child: &Layer, range: &Range<u64>) -> Result<bool> {
    let mut pos = range.start;
    while pos < range.end.min(child.size()) {
        let extent = child.extent_at(pos)?;
        if extent.kind == Kind::Absent {
            return Ok(true);
        }
        pos = extent.range.end;
    }
    Ok(false)
}
