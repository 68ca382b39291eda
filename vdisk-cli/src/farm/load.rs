//! From files of fingerprints to segments.

use super::{Farm, Image, left_out::advise_anew, notes::Notes, source::Source};
use crate::{
    args::{list, shown},
    size::human,
    ui::Ui,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};
use vdisk_core::{Error, ErrorKind, Result, limits::CHAIN_DEPTH, ops::dedup::Node};
use vdisk_fingerprints::{Folder, Header};

/// A disk lies over a shorter one only if that one ends at a multiple of this many bytes: see
/// [`Node::parent`].
const WHOLE: u64 = 4 << 20;

/// A file of fingerprints.
struct Loaded {
    file: PathBuf,
    /// Without its files.
    header: Header,
    /// Its files: device, inode, and bytes on the medium.
    files: Vec<(u64, u64, u64)>,
    /// What the image was like, and since when.
    state: String,
    since: Option<(i64, i64)>,
    /// The first of them: inode, length, and last change.
    top: Option<(u64, u64, i64)>,
    /// Why it cannot be used.
    trouble: Option<String>,
}

/// See [`Farm::load`].
pub(super) fn load(from: &[PathBuf], ui: &Ui) -> Result<Farm> {
    let mut notes = Notes::new(ui);
    let mut loaded = headers(from, &mut notes)?;
    if loaded.is_empty() && notes.errors.is_empty() {
        let detail = "no fingerprints there; vdisk fingerprint makes them";
        return Err(Error::new(ErrorKind::Usage, list(from), detail));
    }
    let unit = unit(&loaded)?;
    let hosts: HashSet<String> = loaded.iter().map(|l| l.header.host.clone()).collect();
    let name = |header: &Header| match hosts.len() {
        0 | 1 => header.path.clone(),
        _ => format!("{}:{}", header.host, header.path),
    };
    // As other programs sort them; the names of the files say little of the folders.
    loaded.sort_by_cached_key(|one| name(&one.header));
    warn_of_shared(&loaded, ui);
    let parents = parents(&loaded);
    let images = newest(&mut loaded);
    judge(&mut loaded, &parents);
    images.iter().for_each(|files| once(&mut loaded, files));
    // Only what an image needs is read.
    let mut needed = vec![false; loaded.len()];
    for (number, one) in loaded.iter().enumerate() {
        let mut next = Some(number).filter(|_| one.header.image && one.trouble.is_none());
        while let Some(number) = next.filter(|number| !needed[*number]) {
            needed[number] = true;
            next = parents[number];
        }
    }
    let mut numbers = vec![None; loaded.len()];
    for (node, number) in (0..loaded.len()).filter(|n| needed[*n]).enumerate() {
        numbers[number] = Some(node);
    }
    let mut farm = Farm {
        unit,
        ..Farm::default()
    };
    let mut files = HashMap::new();
    for (number, one) in loaded.iter().enumerate() {
        let header = &one.header;
        match &one.trouble {
            Some(reason) if header.image => notes.left_out(&name(header), reason.clone()),
            Some(_) => {}
            None if !needed[number] => {}
            None => {
                if header.image {
                    farm.images.push(Image {
                        name: name(header),
                        path: PathBuf::from(&header.path),
                        node: farm.nodes.len(),
                        format: header.format.clone(),
                        layers: layers(&loaded, &parents, number),
                        allocated: header.allocated,
                        partitions: header.partitions.clone(),
                        largest_partition: None,
                    });
                }
                farm.nodes.push(Node {
                    size: header.size,
                    image: header.image,
                    parent: parents[number].and_then(|parent| numbers[parent]),
                });
                let id = header.id.clone();
                farm.sources.push(Source::File(one.file.clone(), id));
                let mut number = |device: u64, inode: u64| {
                    let next = files.len();
                    *files
                        .entry((header.host.as_str(), device, inode))
                        .or_insert(next)
                };
                let own = one.files.iter();
                let own = own.map(|(device, inode, bytes)| (Some(number(*device, *inode)), *bytes));
                farm.files.push(own.collect());
            }
        }
    }
    farm.allocated = farm.stored(farm.images.iter());
    farm.left_out = vec![false; farm.images.len()];
    farm.errors = notes.errors;
    Ok(farm)
}

/// The size of all blocks.
fn unit(loaded: &[Loaded]) -> Result<u64> {
    let mut units: BTreeMap<u64, BTreeSet<PathBuf>> = BTreeMap::new();
    for one in loaded {
        let folder = one.file.parent().unwrap_or(Path::new("")).to_owned();
        units.entry(one.header.unit).or_default().insert(folder);
    }
    if units.len() > 1 {
        let sizes = units.into_iter().map(|(unit, folders)| {
            let folders: Vec<PathBuf> = folders.into_iter().collect();
            format!("{} (in {})", human(unit), list(&folders))
        });
        let sizes: Vec<String> = sizes.collect();
        let detail = format!(
            "are of blocks of {}, which cannot be compared: fingerprint all images with the same --block-size, each size in a folder of its own",
            sizes.join(" and of ")
        );
        return Err(Error::new(ErrorKind::Usage, "fingerprints", detail));
    }
    let unit = units.into_keys().next();
    Ok(unit.unwrap_or(vdisk_core::ops::dedup::UNIT))
}

/// Warns if several machines seem to have read one file.
fn warn_of_shared(loaded: &[Loaded], ui: &Ui) {
    let mut known = HashMap::new();
    let mut pairs = Vec::new();
    for one in loaded.iter().filter(|one| one.header.image) {
        let Header { host, path, .. } = &one.header;
        let Some(top) = one.top else { continue };
        let other = *known.entry((path, top)).or_insert(host);
        if other != host {
            pairs.push(format!("{other}:{path} and {host}:{path}"));
        }
    }
    if let Some(pair) = pairs.first() {
        let more = match pairs.len() {
            1 => String::new(),
            n => format!("; other such pairs: {}", n - 1),
        };
        let sentence = "look like one file on shared storage, counted twice";
        ui.warn(&format!("{pair} {sentence}{more}"));
    }
}

/// All files in the folders `from`, each segment once.
fn headers(from: &[PathBuf], notes: &mut Notes<'_>) -> Result<Vec<Loaded>> {
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut ids: HashMap<String, usize> = HashMap::new();
    for path in from {
        let folder = Folder::open(path, false)?;
        for (file, header) in folder.headers() {
            notes.ui.check_stop()?;
            let mut header = match header {
                Ok(header) => header,
                Err(error) => {
                    let advice = error.kind() == ErrorKind::Corrupt;
                    notes.failed(file, error)?;
                    if advice {
                        advise_anew(file, notes.ui);
                    }
                    continue;
                }
            };
            let number = *ids.entry(header.id.clone()).or_insert(loaded.len());
            if let Some(Loaded { header: copy, .. }) = loaded.get_mut(number) {
                // Perhaps only one of the two was written when it was known that an image ends here.
                if header.image && !copy.image {
                    (copy.image, copy.partitions) = (true, header.partitions);
                }
                continue;
            }
            let (state, stamps) = (header.state(), std::mem::take(&mut header.files));
            let files = stamps.iter().map(|f| (f.device, f.inode, f.allocated));
            let top = stamps.first().map(|f| (f.inode, f.size, f.modified));
            loaded.push(Loaded {
                file: file.to_owned(),
                files: files.collect(),
                top,
                header,
                state,
                since: stamps.iter().map(|f| (f.changed, f.modified)).max(),
                trouble: None,
            });
        }
    }
    Ok(loaded)
}

/// By image that has several files: those of its newest state. Notes that the others cannot be used.
fn newest(loaded: &mut [Loaded]) -> Vec<Vec<usize>> {
    let mut images: BTreeMap<(&str, &str, u64), Vec<usize>> = BTreeMap::new();
    for (number, one) in loaded.iter().enumerate() {
        let header = &one.header;
        let image = (&*header.host, &*header.path, header.unit);
        images.entry(image).or_default().push(number);
    }
    let several = images.into_values().filter(|files| files.len() > 1);
    let mut several: Vec<Vec<usize>> = several.collect();
    for files in &mut several {
        let since = |number: &&usize| (loaded[**number].since, Reverse(**number));
        let Some(newest) = files.iter().max_by_key(since).copied() else {
            continue;
        };
        let (state, since) = (loaded[newest].state.clone(), loaded[newest].since);
        let file = shown(&loaded[newest].file);
        let (same, others): (Vec<usize>, Vec<usize>) = files
            .iter()
            .partition(|number| loaded[**number].state == state);
        for number in others {
            let one = &mut loaded[number];
            let (state, which) = match one.since == since {
                true => ("another state", "as new"),
                false => ("an earlier state", "newer"),
            };
            let (own, path) = (shown(&one.file), &one.header.path);
            let trouble =
                format!("{own} is of {state} of {path}: {file} is {which}, and is counted");
            one.trouble = Some(trouble);
            // Whether an image ends here does not change with what it holds.
            if one.header.image {
                let partitions = one.header.partitions.clone();
                let newest = &mut loaded[newest].header;
                if !newest.image {
                    (newest.image, newest.partitions) = (true, partitions);
                }
            }
        }
        *files = same;
    }
    several
}

/// Lets one of `files`, of one image in one state, stand for it if it is an image. In the others its
/// chain was cut elsewhere: they are only parents.
fn once(loaded: &mut [Loaded], files: &[usize]) {
    let is_image = |number: &&usize| loaded[**number].header.image;
    let Some(image) = files.iter().find(is_image) else {
        return;
    };
    let partitions = loaded[*image].header.partitions.clone();
    let best = files.iter().max_by_key(|number| {
        let one = &loaded[**number];
        (one.trouble.is_none(), one.header.image, Reverse(**number))
    });
    for number in files {
        let header = &mut loaded[*number].header;
        header.image = Some(number) == best;
        header.partitions.clone_from(&partitions);
    }
}

/// By file: the one of its parent.
fn parents(loaded: &[Loaded]) -> Vec<Option<usize>> {
    let ids = loaded.iter().map(|l| l.header.id.as_str());
    let numbers: HashMap<&str, usize> = ids.zip(0..).collect();
    let parent = |one: &Loaded| numbers.get(one.header.parent.as_deref()?).copied();
    loaded.iter().map(parent).collect()
}

/// Notes what cannot be used for want of what lies below it.
fn judge(loaded: &mut [Loaded], parents: &[Option<usize>]) {
    let own: Vec<Option<String>> = loaded
        .iter()
        .zip(parents)
        .map(|(one, parent)| {
            let header = &one.header;
            let below = parent.map(|parent| loaded[parent].header.size);
            let fits = |below: u64| {
                below == header.size || below < header.size && below.is_multiple_of(WHOLE)
            };
            match (&one.trouble, below) {
                (Some(trouble), _) => Some(trouble.clone()),
                (None, None) if header.parent.is_some() => {
                    Some("its parent's fingerprints are not there".to_owned())
                }
                (None, Some(below)) if !fits(below) => {
                    Some("its parent's disk has another size".to_owned())
                }
                _ => None,
            }
        })
        .collect();
    for (number, one) in loaded.iter_mut().enumerate() {
        let mut next = Some(number);
        for _ in 0..CHAIN_DEPTH {
            let Some(number) = next else { break };
            if let Some(reason) = &own[number] {
                one.trouble.get_or_insert_with(|| reason.clone());
            }
            next = parents[number];
        }
        if next.is_some() {
            let detail = format!("has more than {CHAIN_DEPTH} parents");
            one.trouble.get_or_insert(detail);
        }
    }
}

/// Layers of the whole chain of an image.
fn layers(loaded: &[Loaded], parents: &[Option<usize>], number: usize) -> u32 {
    let chain = std::iter::successors(Some(number), |number| parents[*number]);
    chain
        .map(|number| loaded[number].header.layers)
        .fold(0, u32::saturating_add)
}
