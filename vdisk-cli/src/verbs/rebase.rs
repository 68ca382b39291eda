//! `vdisk rebase`: another parent for a child, which keeps reading as before.

use super::set::shown_change;
use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    profile::now,
    size::{both, human},
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, Error, ErrorKind, OpenOptions, Result,
    edit::Changed,
    ops::{
        hash,
        rebase::{self, Estimate, Plan, Rebased, Wish},
        repoint,
    },
    printable,
};

/// Give a child another parent; it keeps reading as before
///
/// Writes a new child that holds what differs from the new parent, compares it with the old one by
/// SHA-256, and puts it in its place in one step. Format, identity and disk id stay, so that
/// children of the child still fit. To need no parent at all, use flatten.
///
/// With --reference-only the contents stay and only the names and the identity of the parent that
/// the child records change: for a parent that was moved, renamed or copied. It must have the
/// recorded identity, or the child must read the same over it as over the old parent; of a VHD, whose
/// ID stays when it is written to, that is compared wherever the old parent is there. What is
/// replaced is saved first in a file NAME.backup-N; `vdisk check --undo BACKUP` puts it back.
///
/// JSON: schema, child, onto, mode (copy, reference), plan, estimate (with --dry-run:
/// recorded_bytes, stored_size), done (null, or output, sha256, recorded_bytes, stored_size), changes (setting,
/// from, to), backups, dry_run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The child; its old parents must be there, except with --reference-only
    child: PathBuf,
    /// The new parent; its own parents are found
    #[arg(long, value_name = "PARENT")]
    onto: PathBuf,
    /// Write the new child here, and leave the old one
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace existing files
    #[arg(long, requires = "output")]
    force: bool,
    /// Change only what the child records of its parent
    #[arg(long, conflicts_with = "output")]
    reference_only: bool,
    /// Take the new parent whatever it holds: the child may read as something else then
    #[arg(long, requires = "reference_only")]
    accept_parent_change: bool,
    /// Record the absolute path of the parent: besides the relative one in VHD and VHDX, instead of it in VMDK
    #[arg(long)]
    absolute_parent: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until the new file is safely on the medium
    #[arg(long)]
    no_sync: bool,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    if ["", "none"].map(Path::new).contains(&args.onto.as_path()) && !args.onto.exists() {
        let detail = "names no parent; flatten makes an image without one";
        return Err(Error::new(ErrorKind::Usage, "--onto", detail));
    }
    let resolver = args.input.resolver();
    let options = args.input.options(&resolver);
    let onto = args.input.open_metadata(&args.onto, ui)?;
    let mut report = RebaseReport {
        schema: 1,
        child: shown(&args.child),
        onto: shown(&args.onto),
        mode: if args.reference_only {
            "reference"
        } else {
            "copy"
        },
        plan: None,
        estimate: None,
        done: None,
        changes: Vec::new(),
        backups: Vec::new(),
        dry_run: args.dry_run,
    };
    if args.reference_only {
        repoint(args, &onto, &options, &mut report, ui)?;
    } else {
        copy(args, &onto, &options, &mut report, ui)?;
    }
    match args.dry_run {
        true => ui.print(&report)?,
        false => ui.summary(&report)?,
    }
    Ok(Exit::Done)
}

fn copy(
    args: &Args,
    onto: &Chain,
    options: &OpenOptions<'_>,
    report: &mut RebaseReport,
    ui: &Ui,
) -> Result<()> {
    let child = args.input.open_metadata(&args.child, ui)?;
    if child.layers().len() == 1 {
        let detail = "has no parent; split makes a child of it";
        return Err(Error::new(ErrorKind::Usage, "image", detail).path(&args.child));
    }
    let wish = Wish {
        output: args.output.clone(),
        force: args.force,
        absolute: args.absolute_parent,
        only_if_smaller: false,
        created: now(),
    };
    let plan = rebase::plan(&child, onto, &wish)?;
    drop(child);
    warn(args, &plan.warnings, ui);
    if args.dry_run {
        report.estimate = Some(plan.measure(options, &ui.job())?.into());
    } else {
        let done = plan.apply(options, !args.no_sync, &ui.job())?;
        report.done = Some(Done::of(&plan, &done));
    }
    report.plan = Some(AnyPlan::Copy(plan));
    Ok(())
}

fn repoint(
    args: &Args,
    onto: &Chain,
    options: &OpenOptions<'_>,
    report: &mut RebaseReport,
    ui: &Ui,
) -> Result<()> {
    let (absolute, accept) = (args.absolute_parent, args.accept_parent_change);
    let plan = repoint::plan(&args.child, onto, absolute, accept, options, &ui.job())?;
    warn(args, &plan.warnings, ui);
    let edits = plan.edits(options)?;
    warn(args, &edits.warnings, ui);
    report.changes = edits.changes;
    if !args.dry_run {
        ui.check_stop()?;
        report.backups = plan.apply(options)?.iter().map(|b| shown(b)).collect();
    }
    report.plan = Some(AnyPlan::Reference(plan));
    Ok(())
}

fn warn(args: &Args, warnings: &[String], ui: &Ui) {
    for warning in warnings {
        ui.warn(&format!("{}: {warning}", args.child.display()));
    }
}

#[derive(Serialize)]
struct RebaseReport {
    schema: u32,
    child: String,
    onto: String,
    mode: &'static str,
    plan: Option<AnyPlan>,
    estimate: Option<EstimateReport>,
    done: Option<Done>,
    changes: Vec<Changed>,
    backups: Vec<String>,
    dry_run: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyPlan {
    Copy(Plan),
    Reference(repoint::Plan),
}

#[derive(Serialize)]
struct EstimateReport {
    recorded_bytes: u64,
    /// Bytes on the medium, about.
    stored_size: u64,
}

impl From<Estimate> for EstimateReport {
    fn from(estimate: Estimate) -> Self {
        Self {
            recorded_bytes: estimate.recorded,
            stored_size: estimate.stored,
        }
    }
}

#[derive(Serialize)]
struct Done {
    output: String,
    sha256: String,
    recorded_bytes: u64,
    /// Bytes on the medium.
    stored_size: u64,
}

impl Done {
    fn of(plan: &Plan, done: &Rebased) -> Self {
        Self {
            output: shown(&plan.output),
            sha256: hash::hex(&done.sha256),
            recorded_bytes: done.recorded,
            stored_size: done.stored,
        }
    }
}

impl Report for RebaseReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (child, onto) = (printable(&self.child), printable(&self.onto));
        if let Some(done) = &self.done {
            return writeln!(
                out,
                "{child} onto {onto} -> {}: {} recorded, {} stored, reads as before",
                printable(&done.output),
                both(done.recorded_bytes),
                human(done.stored_size)
            );
        }
        if let Some(estimate) = &self.estimate {
            writeln!(
                out,
                "{child} onto {onto}: would record {}, in about {}",
                both(estimate.recorded_bytes),
                human(estimate.stored_size)
            )?;
        }
        for change in &self.changes {
            writeln!(out, "{child}: {}", shown_change(change))?;
        }
        if self.mode == "reference" && self.changes.is_empty() {
            writeln!(out, "{child}: nothing to change")?;
        }
        for backup in &self.backups {
            writeln!(out, "backup: {}", printable(backup))?;
        }
        Ok(())
    }
}
