//! Carries out the plan of a commit, or only counts what it would write.

use super::{
    Committed, Plan, files, relink,
    view::{View, fold},
};
use crate::{
    Chain, Error, ErrorKind, Job, OpenOptions, Result,
    format::{Context, Update},
    open,
    ops::{Stamp, redo::Redo},
    storage::{FileId, ImageFile},
    transaction::{self, Medium, Transaction, Work},
};
use std::{fs, path::PathBuf};

impl Plan {
    /// The same plan for files that were restored: their times have changed.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut plan = self.clone();
        plan.files.iter_mut().for_each(|f| f.modified = None);
        plan
    }

    /// Fails with [`Conflict`](ErrorKind::Conflict) if other images would suffer, and nobody
    /// accepted that.
    pub fn check_siblings(&self) -> Result<()> {
        if self.orphan || self.siblings.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self
            .siblings
            .iter()
            .map(|path| format!("'{}'", path.display()))
            .collect();
        let detail = format!(
            "other images depend on what is to be changed, and would be unreadable or wrong: {}",
            names.join(", ")
        );
        Err(Error::new(ErrorKind::Conflict, "children", detail).path(&self.target))
    }

    /// Makes the change: all of it or, after an error, none.
    pub fn apply(
        &self,
        options: &OpenOptions<'_>,
        medium: &dyn Medium,
        job: &Job<'_>,
    ) -> Result<Committed> {
        self.check_siblings()?;
        let chain = self.open(options)?;
        let redo = Redo::Commit(self.absolute()?).text()?;
        let work = Work {
            files: &files(&chain, self.layers),
            redo: &redo,
            medium,
        };
        let (done, totals) = transaction::run(&work, |t| {
            // Now that nobody else can change them.
            self.files.iter().try_for_each(Stamp::check)?;
            self.change(&chain, t, options, job)
        })?;
        Ok(Committed { totals, ..done })
    }

    /// Says what [`apply`](Self::apply) would do. Reads what would be committed.
    pub fn rehearse(&self, options: &OpenOptions<'_>, job: &Job<'_>) -> Result<Committed> {
        let chain = self.open(options)?;
        let (done, totals) = transaction::rehearse(&files(&chain, self.layers), |t| {
            self.change(&chain, t, options, job)
        })?;
        Ok(Committed { totals, ..done })
    }

    /// The chain, if it is of the files that were planned for.
    fn open(&self, options: &OpenOptions<'_>) -> Result<Chain> {
        let chain = open(&self.child, options)?;
        let found = files(&chain, self.layers);
        let same = |(file, stamp): (&&ImageFile, &Stamp)| {
            let id = fs::metadata(&stamp.path).ok().map(|m| FileId::of(&m));
            id.is_some() && file.tag.id == id
        };
        let all = found.len() == self.files.len() && chain.layers().len() > self.layers;
        if !all || !found.iter().zip(&self.files).all(same) {
            let detail = "is now made of other files than those that the change was planned for";
            return Err(Error::new(ErrorKind::Conflict, "plan", detail).path(&self.child));
        }
        self.files.iter().try_for_each(Stamp::check)?;
        Ok(chain)
    }

    /// The same plan for whoever is in another folder.
    fn absolute(&self) -> Result<Self> {
        let absolute = |path: &mut PathBuf| {
            let found = std::path::absolute(&*path);
            *path = found.map_err(|e| Error::io("open", e).path(&*path))?;
            Ok::<(), Error>(())
        };
        let mut plan = self.clone();
        absolute(&mut plan.child)?;
        absolute(&mut plan.target)?;
        plan.files
            .iter_mut()
            .try_for_each(|f| absolute(&mut f.path))?;
        plan.renewals
            .iter_mut()
            .try_for_each(|r| absolute(&mut r.path))?;
        plan.siblings.iter_mut().try_for_each(absolute)?;
        Ok(plan)
    }

    fn change(
        &self,
        chain: &Chain,
        transaction: &Transaction<'_>,
        options: &OpenOptions<'_>,
        job: &Job<'_>,
    ) -> Result<Committed> {
        let view = View::new(chain, self.layers)?;
        let target = view.target();
        let update = Update {
            context: Context {
                resolver: options.resolver,
                overlay: false,
                disk: None,
                verify: false,
            },
            ids: self
                .renewals
                .last()
                .filter(|r| r.to.is_some())
                .map(|r| r.ids),
        };
        let mut writer = target.format().update(target, transaction, &update)?;
        let done = fold(&view, &mut *writer, job)?;
        writer.finish()?;
        // What refers to the target comes after it.
        transaction.barrier()?;
        relink::renew(chain, &self.renewals, transaction)?;
        Ok(done)
    }
}
