//! Placeholder of the compact operation.

use super::Stamp;
use crate::{
    Error, ErrorKind, Job, OpenOptions, Result,
    transaction::{Medium, Totals},
};
use serde::{Deserialize, Serialize};

/// What is to be done, and to which files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The files as they were when this was planned; the first is the one that is changed.
    pub files: Vec<Stamp>,
    /// What will be written.
    pub totals: Totals,
}

impl Plan {
    /// The same plan for files that were restored: their times have changed.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut plan = self.clone();
        plan.files.iter_mut().for_each(|f| f.modified = None);
        plan
    }

    /// Makes the change: all of it or, after an error, none.
    pub fn apply(
        &self,
        options: &OpenOptions<'_>,
        medium: &dyn Medium,
        job: &Job<'_>,
    ) -> Result<Totals> {
        let _ = (options, medium, job);
        Err(Error::new(
            ErrorKind::Unsupported,
            "compact",
            "is not written yet",
        ))
    }
}
