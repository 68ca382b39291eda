//! The changes that can be resumed: what a journal keeps, and how it is made again.

use super::{Stamp, commit, compact, resize};
use crate::{
    Error, ErrorKind, Job, OpenOptions, Result, format,
    transaction::{self, Medium, Unfinished},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

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

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Commit(plan) => plan.paths_mut(),
            Self::Resize(plan) => plan.paths_mut(),
            Self::Compact(plan) => plan.paths_mut(),
        }
    }

    /// The files of the plan, those that are changed first, and the image that is opened for it.
    fn files(&self) -> (&[Stamp], &Path) {
        match self {
            Self::Commit(plan) => (&plan.files, &plan.child),
            Self::Resize(plan) => (&plan.files, &plan.image),
            Self::Compact(plan) => (&plan.files, &plan.image),
        }
    }

    /// The same with the ways to its files from `folder`, which is canonical.
    pub(super) fn seen_from(&self, folder: &Path) -> Result<Self> {
        let mut redo = self.clone();
        for path in redo.paths_mut() {
            *path = transaction::seen_from(folder, path)?;
        }
        Ok(redo)
    }

    /// The change that the journal of `found` says, with its files where they are seen from here.
    fn of(found: &Unfinished) -> Result<Self> {
        let mut redo = Self::parse(&found.redo)?;
        for path in redo.paths_mut() {
            *path = transaction::place(&found.journal, path);
        }
        Ok(redo)
    }

    /// As text, for [`Work`](transaction::Work).
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|e| Error::new(ErrorKind::Usage, "plan", e.to_string()).because(e))
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
/// Its files must lie beneath the journal's folder or beneath `allowed`, as for
/// [`transaction::undo`]. The resolver of `options` must find what the images name from where they
/// are now.
///
/// # Errors
/// Those of [`transaction::undo`] and of the change. Nothing is written if it can be seen before
/// that the change cannot be made. After an error either the journal is still there, or all is as
/// it was before the change, and the error says so.
pub fn resume(
    path: &Path,
    allowed: &[PathBuf],
    options: &OpenOptions<'_>,
    medium: &dyn Medium,
    job: &Job<'_>,
) -> Result<Redo> {
    let Some(found) = transaction::unfinished(path)? else {
        let detail = "has no change that was cut short";
        return Err(Error::new(ErrorKind::Usage, "journal", detail).path(path));
    };
    let redo = Redo::of(&found)?;
    let members = transaction::permitted(&found, path, allowed)?;
    check(&redo, &found, &members)?;
    transaction::undo(path, allowed, medium)?;
    let done = match &redo {
        Redo::Commit(plan) => plan.again().apply(options, medium, job).map(drop),
        Redo::Resize(plan) => plan.again().apply(options, medium, job).map(drop),
        Redo::Compact(plan) => plan.again().apply(options, medium, job).map(drop),
    };
    done.map_err(|error| match found.journal.symlink_metadata() {
        Ok(_) => error,
        Err(_) => transaction::amended(
            &error,
            "the change that was cut short was taken back, all is as it was before it",
        ),
    })?;
    Ok(redo)
}

/// Fails if `redo` cannot be made again once `members`, the files of its journal, are restored, or
/// would change others.
fn check(redo: &Redo, found: &Unfinished, members: &[PathBuf]) -> Result<()> {
    let conflict = |path: &Path, what: &str| {
        let detail = format!("{what}, so the change cannot be made again; nothing was written");
        Err(Error::new(ErrorKind::Conflict, "journal", detail).path(path))
    };
    let (stamps, image) = redo.files();
    let mut planned = Vec::new();
    for stamp in stamps {
        let (Ok(real), Ok(metadata)) = (stamp.path.canonicalize(), fs::metadata(&stamp.path))
        else {
            return conflict(&stamp.path, "is not there");
        };
        let member = members.iter().position(|member| *member == real);
        // What is changed will be as it was, and all else must be.
        let restored = member.and_then(|number| found.sizes.get(number));
        if restored.copied().unwrap_or(metadata.len()) != stamp.size {
            return conflict(
                &stamp.path,
                "is not the file that the change was planned for",
            );
        }
        planned.push(real);
    }
    // The change opens `image`, and makes sure that it is made of the planned files in their order.
    let image = image.canonicalize();
    let own = image.is_ok_and(|image| members.contains(&image))
        && planned.first() == members.first()
        && members.iter().all(|member| planned.contains(member));
    if !own {
        let detail = "says how to change other files than those that it is of";
        return Err(Error::corrupt("journal", detail).path(&found.journal));
    }
    if let Redo::Resize(resize::Plan { format, .. }) | Redo::Compact(compact::Plan { format, .. }) =
        redo
    {
        format::named(format)?;
    }
    Ok(())
}
