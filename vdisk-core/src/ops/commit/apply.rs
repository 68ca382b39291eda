//! Carries out the plan of a commit, or only counts what it would write.

use super::{
    Committed, Plan, files, relink,
    view::{View, fold},
};
use crate::{
    Chain, Error, ErrorKind, Job, OpenOptions, Result,
    format::Update,
    open,
    ops::{in_place, redo::Redo, stamp},
    transaction::{self, Medium, Transaction},
};

impl Plan {
    /// The same plan for files that were restored: their times have changed.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            files: stamp::restored(&self.files),
            ..self.clone()
        }
    }

    /// Fails with [`Conflict`](ErrorKind::Conflict) if other images would suffer, and nobody
    /// accepted that.
    pub fn check_siblings(&self) -> Result<()> {
        if self.orphan || self.siblings.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "other images depend on what is to be changed, and would be unreadable or wrong: {}",
            in_place::quoted(&self.siblings)
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
        let redo = Redo::Commit(self.absolute()?);
        let files = files(&chain, self.layers);
        let (done, totals) = in_place::run(&files, &self.files, &redo, medium, |t| {
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
        // A shorter chain has not all of the files.
        let found = files(&chain, self.layers);
        in_place::same_files(&self.child, found.into_iter(), &self.files)?;
        Ok(chain)
    }

    /// The same plan for whoever is in another folder.
    fn absolute(&self) -> Result<Self> {
        let mut plan = Self {
            files: stamp::absolute(&self.files)?,
            child: in_place::absolute(&self.child)?,
            target: in_place::absolute(&self.target)?,
            ..self.clone()
        };
        for path in &mut plan.siblings {
            *path = in_place::absolute(path)?;
        }
        for renewal in &mut plan.renewals {
            renewal.path = in_place::absolute(&renewal.path)?;
        }
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
            context: in_place::context(options),
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
