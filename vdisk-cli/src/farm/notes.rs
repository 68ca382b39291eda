//! What could not be read: said once, and noted for the report.

use super::Trouble;
use crate::{
    args::shown,
    ui::{Ui, hint},
};
use std::path::Path;
use vdisk_core::{Error, ErrorKind, Result};

/// What was noted so far.
pub(super) struct Notes<'a> {
    pub(super) ui: &'a Ui,
    pub(super) errors: Vec<Trouble>,
    /// Files in folders that are no images, and links there, which are not followed.
    pub(super) skipped: u64,
    /// What was said to help, each once.
    hints: Vec<&'static str>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(ui: &'a Ui) -> Self {
        Self {
            ui,
            errors: Vec::new(),
            skipped: 0,
            hints: Vec::new(),
        }
    }

    /// Notes an image that cannot be read; a wish to stop ends the run.
    pub(super) fn failed(&mut self, path: &Path, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        let sentence = error.to_string();
        if error.file() != Some(path) {
            self.left_out(&shown(path), sentence);
            return Ok(());
        }
        self.ui.warn(&format!("left out: {sentence}"));
        if let Some(hint) = hint(&error).filter(|hint| !self.hints.contains(hint)) {
            self.ui.advise(hint);
            self.hints.push(hint);
        }
        self.errors.push(Trouble {
            path: shown(path),
            error: sentence,
        });
        Ok(())
    }

    /// Notes an image of whose parents one cannot be read.
    pub(super) fn parent_failed(&mut self, path: &Path, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        self.left_out(&shown(path), format!("its parent {error}"));
        Ok(())
    }

    /// Notes that the image `name` is left out, for a reason that does not name it.
    pub(super) fn left_out(&mut self, name: &str, reason: String) {
        self.ui.warn(&format!("left out: {name}: {reason}"));
        self.errors.push(Trouble {
            path: name.to_owned(),
            error: reason,
        });
    }
}
