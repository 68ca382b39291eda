//! Renews who the layers of a chain are, and whom each names as its parent, as part of a change.
//!
//! A layer that reads as something else than before must not be taken for what it was, and the
//! layers above it that are changed with it must go on taking it.

use super::Renewal;
use crate::{
    Chain, Layer, Result, edit::Edit, format::ParentSpec, ops::child::Place,
    transaction::Transaction,
};
use std::path::Path;

/// Gives the layers below the top of `chain` the identities that `renewals` say, in order, and the
/// layer above each the new one of its parent. The last has its own already.
pub(super) fn renew(
    chain: &Chain,
    renewals: &[Renewal],
    transaction: &Transaction<'_>,
) -> Result<()> {
    let layers = chain.layers();
    for (number, renewal) in renewals.iter().enumerate().rev() {
        let (Some(child), Some(parent)) = (layers.get(number), layers.get(number + 1)) else {
            continue;
        };
        let own = number.checked_sub(1).and_then(|above| renewals.get(above));
        let edit = Edit {
            parent: match goes_by(child, renewal) {
                true => Some(link(child, parent, renewal)?),
                false => None,
            },
            identity: own.filter(|own| own.to.is_some()).map(|own| own.ids),
            ..Edit::default()
        };
        let Some(file) = child.files().first() else {
            continue;
        };
        if edit.parent.is_some() || edit.identity.is_some() {
            let plan = child.format().edit(file, &edit);
            transaction.patch(&plan.map_err(|e| e.path(child.path()))?.patches)?;
            transaction.barrier()?;
        }
    }
    Ok(())
}

/// True if `child` knows its parent by what is renewed.
fn goes_by(child: &Layer, renewal: &Renewal) -> bool {
    let wanted = child.facts().parent.as_ref();
    let recorded = wanted.map(|w| [w.identity, w.alternative]);
    renewal.from.is_some() && recorded.is_some_and(|ids| ids.contains(&renewal.from))
}

/// What `child` records of `parent`, once that is renewed.
fn link(child: &Layer, parent: &Layer, renewal: &Renewal) -> Result<ParentSpec> {
    let recorded = child.facts().parent.as_ref();
    let absolute = recorded.is_some_and(|p| p.hints.iter().any(|h| Path::new(h).is_absolute()));
    Ok(Place::of(child.path(), parent.path(), renewal.to, absolute)?.spec)
}
