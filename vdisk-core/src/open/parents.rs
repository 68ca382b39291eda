//! From a child to its parents: the only chain walk.
//!
//! Identity, depth and loops are checked here for all formats.

use super::{OpenOptions, open_file, probe};
use crate::{
    Deny, Error, ErrorKind, Format, Identity, InFile, Layer, ParentRef, Reference, Result, format,
    limits, storage::ImageFile, transaction, vdi, vhd, vhdx, vmdk,
};
use std::{path::Path, sync::Arc};

/// Walks from `top` to its parents as far as they can be opened and are the recorded ones.
///
/// The only chain walk: identity, depth and loops are checked here for all formats. Returns the
/// layers found, topmost first, and what stopped the walk before its end.
pub fn ancestors(top: Layer, options: &OpenOptions<'_>) -> (Vec<Arc<Layer>>, Option<Error>) {
    let mut layers = vec![Arc::new(top)];
    loop {
        let Some(child) = layers.last() else {
            return (layers, None);
        };
        let Some(wanted) = child.facts().parent.clone() else {
            return (layers, None);
        };
        let path = child.path().to_owned();
        match parent(child, &wanted, &layers, options).in_file(&path) {
            Ok(layer) => layers.push(Arc::new(layer)),
            Err(error) => return (layers, Some(error)),
        }
    }
}

/// Opens the parent that `child` records, and checks that it is the one.
fn parent(
    child: &Layer,
    wanted: &ParentRef,
    above: &[Arc<Layer>],
    options: &OpenOptions<'_>,
) -> Result<Layer> {
    if above.len() >= limits::CHAIN_DEPTH {
        let detail = format!("has more than {} layers", limits::CHAIN_DEPTH);
        return Err(Error::new(ErrorKind::Limit, "chain", detail));
    }
    let Some(file) = child.files().first() else {
        return Err(Error::new(
            ErrorKind::Reference,
            "parent",
            "has no child file",
        ));
    };
    let found = options.resolver.find(file, &Reference::Parent(wanted))?;
    let mut mismatch: Option<Error> = None;
    let mut other = None;
    for candidate in found {
        let (id, name) = (candidate.tag.id, candidate.tag.path.clone());
        let opened = open_parent(candidate, wanted, options);
        let reason = match opened {
            Ok(layer) if is_wanted(&layer, wanted) => {
                if id.is_none() || above.iter().all(|l| l.file_id() != id) {
                    return Ok(layer);
                }
                let detail = format!("'{}' is its own ancestor: a loop", name.display());
                Error::corrupt("parent", detail)
            }
            // A file given for a layer above is not this parent, and no reason to complain.
            Ok(_) if above.iter().any(|l| l.file_id() == id) => continue,
            Ok(layer) => {
                let (file, below) = (layer.files().first(), layer.facts().parent.as_ref());
                let unfinished = file.and_then(|file| unfinished(file, below, options));
                unfinished.unwrap_or_else(|| changed(&layer, wanted))
            }
            // Another candidate may be the one.
            Err(error) => error,
        };
        // A change that was cut short explains all else.
        if mismatch.is_none() || transaction::is_unfinished(&reason) {
            mismatch = Some(reason);
        }
        other.get_or_insert(name);
    }
    let explained = mismatch.as_ref().is_some_and(transaction::is_unfinished);
    if let Some(other) = other.filter(|_| !explained)
        && let Some(refusal) = options.resolver.refusal(file, wanted)
    {
        // A namesake of the parent says nothing of it.
        let detail = format!("{}, and '{}' is not it", refusal.detail(), other.display());
        return Err(Error::new(refusal.kind(), "parent", detail));
    }
    Err(mismatch.unwrap_or_else(|| {
        let names: Vec<String> = wanted
            .hints
            .iter()
            .map(|h| format!("'{}'", h.display()))
            .collect();
        let detail = format!("{} was not found", names.join(" or "));
        Error::new(ErrorKind::Reference, "parent", detail)
    }))
}

/// What says that a change of an image below `file`, whose parent is `wanted`, was cut short: then
/// the identities between the two tell nothing. Follows names alone.
pub(crate) fn unfinished(
    file: &ImageFile,
    wanted: Option<&ParentRef>,
    options: &OpenOptions<'_>,
) -> Option<Error> {
    let (mut file, mut wanted) = (file.clone(), wanted?.clone());
    for _ in 0..limits::CHAIN_DEPTH {
        let reference = Reference::Parent(&wanted);
        let mut next = None;
        for candidate in options.resolver.find(&file, &reference).ok()? {
            match open_parent(candidate, &wanted, options) {
                Ok(layer) => next = next.or(Some(layer)),
                Err(error) if transaction::is_unfinished(&error) => return Some(error),
                Err(_) => {}
            }
        }
        let next = next?;
        (file, wanted) = (next.files().first()?.clone(), next.facts().parent.clone()?);
    }
    None
}

/// True if `found` is the parent that is recorded, as far as anything about it is.
fn is_wanted(found: &Layer, wanted: &ParentRef) -> bool {
    wanted.identity.is_none() || wanted.is(found.facts())
}

/// Opens `file` as the parent that is recorded.
///
/// The child's word decides of which format it is, not what the contents look like: guests write
/// the contents. Where the child says nothing, the file must say it as a file named by a person
/// must, and names a parent of its own only if its name stands for the same format.
pub(crate) fn open_parent(
    file: ImageFile,
    wanted: &ParentRef,
    options: &OpenOptions<'_>,
) -> Result<Layer> {
    let recorded = format_of(wanted)?;
    let path = file.tag.path.clone();
    let found = match recorded {
        Some(format) => format,
        None => probe(&file).map_err(|e| unclear(&path).because(e))?,
    };
    let agreed = format::by_extension(&path).is_some_and(|f| f.name() == found.name());
    let alone = recorded.is_none() && !agreed;
    let options = OpenOptions {
        format: Some(found),
        disk: None,
        resolver: if alone { &Deny } else { options.resolver },
        overlay: false,
        ..*options
    };
    let layer = open_file(file, &options)?;
    if alone && layer.facts().parent.is_some() {
        return Err(unclear(&path));
    }
    Ok(layer)
}

fn unclear(path: &Path) -> Error {
    let detail = format!(
        "the format of '{}' is not recorded, and its name and contents do not agree on one",
        path.display()
    );
    Error::new(ErrorKind::Policy, "parent", detail)
}

/// The format that `parent` must have: as recorded, or as its identity implies; `None` if neither
/// is known.
pub(crate) fn format_of(parent: &ParentRef) -> Result<Option<&'static dyn Format>> {
    if let Some(name) = parent.format {
        return format::named(name).map(Some);
    }
    Ok(match parent.identity {
        Some(Identity::Cid(_)) => Some(&vmdk::Vmdk),
        Some(Identity::Uuid(_)) => Some(&vhd::Vhd),
        Some(Identity::Linkage(_)) => Some(&vhdx::Vhdx),
        Some(Identity::Vdi { .. }) => Some(&vdi::Vdi),
        None => None,
    })
}

fn changed(found: &Layer, wanted: &ParentRef) -> Error {
    let name =
        |identity: Option<Identity>| identity.map_or("no identity".to_owned(), |i| i.to_string());
    let facts = found.facts();
    let has = wanted.sees(facts.identity, facts.other_identity);
    let detail = format!(
        "'{}' has {}, but the child was made from {}; it was changed or is another image",
        found.path().display(),
        name(has),
        name(wanted.identity),
    );
    Error::new(ErrorKind::Reference, "parent", detail)
}
