//! Makes broken links hold again: planned, shown, applied child by child.
//!
//! Only what children record is changed; contents and parents never are.

use super::{Contents, Family, Link, Member, Verdict, health::is_later};
use crate::{
    Error, OpenOptions, Result,
    edit::{self, Changed, Edit},
    ops::child::Place,
    patch::{self, Patch},
};
use serde::Serialize;
use std::path::PathBuf;

/// What can be done, and what cannot.
#[derive(Debug, Default, Serialize)]
pub struct RepairPlan {
    /// A step for each child that can be helped.
    pub steps: Vec<Repair>,
    /// The links that stay as they are.
    pub left: Vec<Left>,
}

/// The repair of one child.
#[derive(Debug, Serialize)]
pub struct Repair {
    /// The image that is changed.
    pub child: PathBuf,
    /// The parent that it records from then on.
    pub parent: PathBuf,
    /// The identity that it recorded is given up for the one that the parent has now.
    pub accepts_change: bool,
    /// The settings that change.
    pub changes: Vec<Changed>,
    /// What a user should know before, a sentence each.
    pub warnings: Vec<String>,
    /// How.
    #[serde(skip)]
    pub patches: Vec<Patch>,
}

/// A broken link that is not repaired.
#[derive(Debug, Serialize)]
pub struct Left {
    /// The child.
    pub child: PathBuf,
    /// Why.
    pub reason: String,
    /// The change of its parent could be accepted, if the user says so.
    pub acceptable: bool,
}

impl Family {
    /// Plans the repair of all links; nothing is written.
    ///
    /// Parents that moved get their new names. Parents that changed are taken as they are if that is
    /// known to be harmless or, with `accept_change`, whatever it means; else a child gets the name
    /// of the one image that still has the recorded identity.
    pub fn plan(&self, accept_change: bool, options: &OpenOptions<'_>) -> RepairPlan {
        let mut plan = RepairPlan::default();
        let above = self.above();
        for link in &self.links {
            let Some(child) = self.images.get(link.child) else {
                continue;
            };
            let left = |reason: String, acceptable| Left {
                child: child.path.clone(),
                reason,
                acceptable,
            };
            match self.target(link, accept_change) {
                Ok(None) => {}
                Ok(Some((parent, _))) if leads_to(&above, parent, link.child) => {
                    let reason = "its parent would be one of its own children: a loop";
                    plan.left.push(left(reason.to_owned(), false));
                }
                Ok(Some((parent, accepts))) => {
                    let Some(parent) = self.images.get(parent) else {
                        continue;
                    };
                    match step(child, parent, accepts, options) {
                        Ok(step) => plan.steps.push(step),
                        Err(error) => {
                            // Without the path, which the child is.
                            let reason = format!("{}: {}", error.part(), error.detail());
                            plan.left.push(left(reason, false));
                        }
                    }
                }
                Err((reason, acceptable)) => plan.left.push(left(reason, acceptable)),
            }
        }
        plan
    }

    /// The image that the link should lead to, and whether that accepts a change; nothing for one
    /// that is intact. Otherwise why not, and whether the user could allow it.
    fn target(
        &self,
        link: &Link,
        accept_change: bool,
    ) -> std::result::Result<Option<(usize, bool)>, (String, bool)> {
        // An identity that stays when its image is written to says less than the time of the file.
        let child = self.images.get(link.child);
        let recorded = child.and_then(|m| m.parent_modified);
        let unless_later = |to: usize| match self.images.get(to) {
            Some(image) if !accept_change && is_later(&image.path, recorded) => {
                let path = image.path.display();
                let reason = format!("'{path}' may have been written to since the child was made");
                Err((reason, true))
            }
            _ => Ok(Some((to, false))),
        };
        match &link.verdict {
            Verdict::Intact { .. } => Ok(None),
            Verdict::Moved { to, .. } => match to.as_slice() {
                [one] => unless_later(*one),
                several => Err((self.ambiguous(several), false)),
            },
            Verdict::Changed {
                found,
                copies,
                contents,
            } => {
                if accept_change || contents.harmless() {
                    return Ok(Some((*found, true)));
                }
                if let [copy] = copies.as_slice() {
                    return unless_later(*copy);
                }
                let reason = match contents {
                    Contents::Different => {
                        "the parent holds other contents than the child relies on"
                    }
                    _ => "nothing tells whether the child would still read the same",
                };
                Err((reason.to_owned(), true))
            }
            Verdict::Missing { .. } => {
                Err(("the parent is not among the images".to_owned(), false))
            }
            Verdict::WrongFormat { copies, .. } | Verdict::Unreadable { copies, .. } => {
                match copies.as_slice() {
                    [] => Err(("its parent cannot be opened".to_owned(), false)),
                    [copy] => unless_later(*copy),
                    several => Err((self.ambiguous(several), false)),
                }
            }
            Verdict::Loop { .. } => Err((
                "nothing tells which image of the loop is wrong".to_owned(),
                false,
            )),
        }
    }

    /// Says that nothing tells which of `images` is the parent.
    fn ambiguous(&self, images: &[usize]) -> String {
        let names: Vec<String> = images
            .iter()
            .filter_map(|i| Some(format!("'{}'", self.images.get(*i)?.path.display())))
            .collect();
        let names = names.join(" and ");
        format!("{names} all have its identity; name the right one with --parent FILE")
    }
}

/// True if the images above `image` lead to `child`, or it is that.
fn leads_to(above: &[Option<usize>], image: usize, child: usize) -> bool {
    let next = |at: &usize| above.get(*at).copied().flatten();
    // Of a loop further up, each image is met once.
    std::iter::successors(Some(image), next)
        .take(above.len())
        .any(|at| at == child)
}

fn step(
    child: &Member,
    parent: &Member,
    accepts_change: bool,
    options: &OpenOptions<'_>,
) -> Result<Repair> {
    let wanted = child.parent.as_ref();
    let identity = wanted.and_then(|wanted| parent.as_seen_by(wanted));
    let place = Place::of(&child.path, &parent.path, identity, false)?;
    let wanted = Edit {
        parent: Some(place.spec),
        ..Edit::default()
    };
    let (format, plan) = edit::plan(&child.path, options, &wanted)?;
    if plan.patches.is_empty() {
        let detail = format!("nothing would change in this {format} image");
        return Err(Error::new(crate::ErrorKind::Unsupported, "parent", detail).path(&child.path));
    }
    let mut warnings = plan.warnings;
    warnings.extend(place.warning);
    Ok(Repair {
        child: child.path.clone(),
        parent: parent.path.clone(),
        accepts_change,
        changes: plan.changes,
        warnings,
        patches: plan.patches,
    })
}

impl RepairPlan {
    /// Makes the changes, child by child; tells of each the backups made, or why it could not be
    /// changed, which does not keep the others from it.
    ///
    /// # Errors
    /// Those of `done`, which end the work.
    pub fn apply(
        &self,
        mut done: impl FnMut(&Repair, Result<Vec<PathBuf>>) -> Result<()>,
    ) -> Result<()> {
        for step in &self.steps {
            done(step, patch::apply(&step.patches))?;
        }
        Ok(())
    }
}
