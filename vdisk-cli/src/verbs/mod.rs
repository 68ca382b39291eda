//! The verbs, one file each with the same three parts: `Args`, `run`, and the text view of the report.

mod apply;
mod chain;
mod check;
mod clone;
mod commit;
mod compact;
mod compose;
mod convert;
mod create;
mod dedup_report;
mod diff;
mod fingerprint;
mod flatten;
mod hash;
mod info;
mod lint;
mod map;
mod measure;
mod rebase;
mod resize;
mod set;
mod split;

use crate::{exit::Exit, ui::Ui};
use vdisk_core::Result;

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Info(info::Args),
    Chain(chain::Args),
    Check(check::Args),
    Lint(lint::Args),
    Map(map::Args),
    Measure(measure::Args),
    Convert(convert::Args),
    Create(create::Args),
    Resize(resize::Args),
    Compact(compact::Args),
    Compose(compose::Args),
    Clone(clone::Args),
    Commit(commit::Args),
    Split(split::Args),
    Rebase(rebase::Args),
    Flatten(flatten::Args),
    Diff(diff::Args),
    Apply(apply::Args),
    DedupReport(dedup_report::Args),
    Fingerprint(fingerprint::Args),
    Hash(hash::Args),
    Set(set::Args),
}

impl Verb {
    pub(crate) fn run(&self, ui: &mut Ui) -> Result<Exit> {
        match self {
            Self::Info(args) => info::run(args, ui),
            Self::Chain(args) => chain::run(args, ui),
            Self::Check(args) => check::run(args, ui),
            Self::Lint(args) => lint::run(args, ui),
            Self::Map(args) => map::run(args, ui),
            Self::Measure(args) => measure::run(args, ui),
            Self::Convert(args) => convert::run(args, ui),
            Self::Create(args) => create::run(args, ui),
            Self::Resize(args) => resize::run(args, ui),
            Self::Compact(args) => compact::run(args, ui),
            Self::Compose(args) => compose::run(args, ui),
            Self::Clone(args) => clone::run(args, ui),
            Self::Commit(args) => commit::run(args, ui),
            Self::Split(args) => split::run(args, ui),
            Self::Rebase(args) => rebase::run(args, ui),
            Self::Flatten(args) => flatten::run(args, ui),
            Self::Diff(args) => diff::run(args, ui),
            Self::Apply(args) => apply::run(args, ui),
            Self::DedupReport(args) => dedup_report::run(args, ui),
            Self::Fingerprint(args) => fingerprint::run(args, ui),
            Self::Hash(args) => hash::run(args, ui),
            Self::Set(args) => set::run(args, ui),
        }
    }
}
