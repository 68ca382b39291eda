//! The changes that can be resumed: what a journal keeps, and how it is made again.

use super::{commit, compact, resize};
use crate::{
    Error, Job, OpenOptions, Result,
    transaction::{self, Medium},
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A change of contents in place, as its journal records it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
pub enum Redo {
    /// A layer goes into one below it.
    Commit(commit::Plan),
    /// A disk gets another size.
    Resize(resize::Plan),
    /// An image loses what it need not hold.
    Compact(compact::Plan),
}

impl Redo {
    /// The name of the change: that of the verb.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commit",
            Self::Resize(_) => "resize",
            Self::Compact(_) => "compact",
        }
    }

    /// As text, for [`Work`](transaction::Work).
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|e| Error::new(crate::ErrorKind::Usage, "plan", e.to_string()).because(e))
    }

    /// Reads what [`text`](Self::text) wrote.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| {
            let detail = format!("says nothing that can be resumed: {e}");
            Error::corrupt("journal", detail).because(e)
        })
    }
}

/// Finishes the change of the image at `path` that was cut short: takes it back, and makes it anew.
///
/// # Errors
/// Those of [`transaction::undo`] and of the change. After an error either the journal is still
/// there, or all is as it was before the change.
pub fn resume(
    path: &Path,
    options: &OpenOptions<'_>,
    medium: &dyn Medium,
    job: &Job<'_>,
) -> Result<Redo> {
    let found = transaction::unfinished(path)?;
    let redo = match &found {
        Some(found) => Redo::parse(&found.redo)?,
        None => {
            let detail = "has no change that was cut short";
            return Err(Error::new(crate::ErrorKind::Usage, "journal", detail).path(path));
        }
    };
    transaction::undo(path, medium)?;
    match &redo {
        Redo::Commit(plan) => plan.again().apply(options, medium, job).map(drop)?,
        Redo::Resize(plan) => plan.again().apply(options, medium, job).map(drop)?,
        Redo::Compact(plan) => plan.again().apply(options, medium, job).map(drop)?,
    }
    Ok(redo)
}
