//! Images that are left out because something that they lie over cannot be read.

use super::{Farm, Trouble, source::Source, stamps::absolute};
use crate::{args::shown, ui::Ui};
use std::path::Path;
use vdisk_core::{Error, ErrorKind};

/// Notes that all images over `node` are left out, each once.
pub(super) fn leave_out(farm: &mut Farm, node: usize, error: &Error, ui: &Ui) {
    let known = farm.errors.len();
    for number in 0..farm.images.len() {
        let image = &farm.images[number];
        if farm.left_out[number] || !over(farm, image.node, node) {
            continue;
        }
        let top = farm
            .chains
            .get(number)
            .and_then(|chain| chain.layers.first());
        let full = |path: &Path| shown(&absolute(path));
        let file = error.file().map(full);
        let own = match (&file, top) {
            // A segment may have several layers.
            (Some(file), Some(top)) => {
                *file == top.path || top.files.iter().any(|f| full(f) == *file)
            }
            _ => true,
        };
        let own = own && image.node == node;
        let (name, sentence) = (image.name.clone(), error.to_string());
        let reason = match own {
            true => sentence,
            false => format!("its parent {sentence}"),
        };
        match own && error.file() == Some(&image.path) {
            true => ui.warn(&format!("left out: {reason}")),
            false => ui.warn(&format!("left out: {name}: {reason}")),
        }
        farm.left_out[number] = true;
        farm.errors.push(Trouble {
            path: name,
            error: reason,
        });
    }
    if let Source::File(file, _) = &farm.sources[node]
        && farm.errors.len() > known
        && error.kind() == ErrorKind::Corrupt
    {
        advise_anew(file, ui);
    }
}

/// What helps against a damaged file of fingerprints.
pub(super) fn advise_anew(file: &Path, ui: &Ui) {
    let file = shown(file);
    ui.advise(&format!("remove {file} and run vdisk fingerprint again"));
}

/// True if `node` is `below`, or lies over it.
pub(super) fn over(farm: &Farm, node: usize, below: usize) -> bool {
    let mut next = Some(node);
    while let Some(node) = next {
        if node == below {
            return true;
        }
        next = farm.nodes[node].parent;
    }
    false
}
