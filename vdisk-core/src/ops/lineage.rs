//! Which of the layers to be composed is the parent of another, and what to say if none is.

use super::compose::Input;
use crate::{Error, ErrorKind, Identity, Layer, ParentRef, Reference, Resolver, Result};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf, sync::Arc};

/// The index of the earlier input that `layer` names as its parent; the nearest, if several fit.
pub(super) fn parent_among(
    before: &[Input],
    layer: &Layer,
    names: &[PathBuf],
    identities: &[Option<Identity>],
    resolver: &dyn Resolver,
) -> Result<usize> {
    let Some(wanted) = &layer.facts().parent else {
        return Err(
            Error::new(ErrorKind::Reference, "parent", "is not recorded").path(layer.path()),
        );
    };
    let fits = |l: &Arc<Layer>| wanted.is(l.facts());
    let found = match wanted.identity {
        Some(_) => before
            .iter()
            .rposition(|input| input.stack.first().is_some_and(fits)),
        None => named_parent(before, layer, wanted, resolver),
    };
    if let Some(index) = found {
        return Ok(index);
    }
    let hint = wanted
        .hints
        .first()
        .map_or(String::new(), |h| format!(" ('{}')", h.display()));
    let parent = match (wanted.identity, wanted.format) {
        (Some(identity), _) => identity.to_string(),
        (None, Some(format)) => format!("a {format} disk"),
        (None, None) => "a disk".to_owned(),
    };
    let child_of = format!("is a child of {parent}{hint}");
    let later = identities
        .iter()
        .enumerate()
        .skip(before.len() + 1)
        .find(|(_, i)| i.is_some() && [wanted.identity, wanted.alternative].contains(i));
    if let Some((index, _)) = later {
        let name = names
            .get(index)
            .map(|n| n.display().to_string())
            .unwrap_or_default();
        let detail = format!("{child_of}, which is '{name}': that must come before it");
        return Err(Error::new(ErrorKind::Usage, "order", detail).path(layer.path()));
    }
    if let Some(base) = before.first()
        && let Some(deep) = base.stack.iter().skip(1).find(|l| fits(l))
    {
        let detail = format!(
            "{child_of}, which is '{}', below the base '{}': name that one as the base",
            deep.path().display(),
            base.name()
        );
        return Err(Error::new(ErrorKind::Reference, "layer", detail).path(layer.path()));
    }
    let given: Vec<String> = before
        .iter()
        .map(|input| {
            let identity = input
                .identity()
                .map_or("no identity".to_owned(), |i| i.to_string());
            format!("'{}' with {identity}", input.name())
        })
        .collect();
    let detail = format!(
        "{child_of}, but before it {}: a layer is missing, was changed, or has another base",
        match given.len() {
            1 => format!("is only {}", given.join("")),
            _ => format!("are {}", given.join(", ")),
        }
    );
    Err(Error::new(ErrorKind::Reference, "layer", detail).path(layer.path()))
}

/// The input that is the parent of `layer`, of which no identity is recorded: it must be the very
/// file that the recorded names lead to or, where they lead nowhere, the only input of that name
/// and format.
fn named_parent(
    before: &[Input],
    layer: &Layer,
    wanted: &ParentRef,
    resolver: &dyn Resolver,
) -> Option<usize> {
    let top = |input: &Input| input.stack.first().cloned();
    let file = layer.files().first()?;
    if let Ok(found) = resolver.find(file, &Reference::Parent(wanted)) {
        let id = found.first()?.tag.id?;
        return before
            .iter()
            .position(|input| top(input).and_then(|l| l.file_id()) == Some(id));
    }
    let names: Vec<&[u8]> = wanted
        .hints
        .iter()
        .filter_map(|h| h.as_bytes().rsplit(|b| matches!(b, b'/' | b'\\')).next())
        .collect();
    let mut fitting = before.iter().enumerate().filter(|(_, input)| {
        top(input).is_some_and(|l| {
            let name = l.path().file_name().map(OsStr::as_bytes);
            let fits = wanted.format.is_none_or(|f| f == l.format().name());
            fits && name.is_some_and(|n| names.contains(&n))
        })
    });
    match (fitting.next(), fitting.next()) {
        (Some((index, _)), None) => Some(index),
        _ => None,
    }
}
