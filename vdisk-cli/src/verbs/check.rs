//! `vdisk check`: what is wrong with an image, and repairing what needs no guess.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::{
    Result,
    check::{Finding, Severity},
    ops::check::{self, Outcome},
    patch, printable,
};

/// Find what is wrong with an image, and repair what needs no guess
///
/// Looks at all headers, tables, checksums and flags, and at the parents' identities. Errors mean
/// that contents are wrong or unreadable; warnings, that another program may refuse the image or
/// harm it; notes need nothing. Errors and warnings make the exit code 1.
///
/// --repair changes the image in place, after saving every byte that it replaces in a file
/// NAME.backup-N beside it; --undo BACKUP puts them back. Findings that would need a guess are left
/// alone. No other program may have the image open meanwhile: vdisk notices only programs that lock
/// it. --undo refuses an image that was changed since, and undoes the last of several repairs first.
///
/// Of a package with several disks all are checked; PACKAGE::NAME checks one. With --deep the
/// digests in the manifest are compared, too. Packages are not repaired.
///
/// JSON: schema, path, format, layers, findings (severity, rule, file, part, detail, at, repair),
/// counts (an object: rule, how often; at most 100 findings of a rule are listed), verdict,
/// repaired (actions; with --dry-run what would be done), dry_run, backups (paths).
/// Of --undo: schema, restored, backup (paths).
#[derive(clap::Args)]
#[command(override_usage = "vdisk check [OPTIONS] IMAGE\n       vdisk check --undo BACKUP")]
pub(crate) struct Args {
    /// The image
    #[arg(required_unless_present = "undo")]
    image: Option<PathBuf>,
    /// Also read and unpack all data
    #[arg(long)]
    deep: bool,
    /// Check the parents as thoroughly as the image; --repair leaves them alone
    #[arg(long)]
    chain: bool,
    /// Repair what needs no guess, then check again
    #[arg(long)]
    repair: bool,
    /// With --repair: show what would be done, and do nothing
    #[arg(long, requires = "repair")]
    dry_run: bool,
    /// Put back what a repair replaced, from the backup it made
    #[arg(long, value_name = "BACKUP", conflicts_with_all = ["image", "repair", "dry_run", "deep", "chain"])]
    undo: Option<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
}

/// How often what was repaired is looked at for more: some repairs wait for others, such as the
/// flag of an unclean shutdown.
const ROUNDS: usize = 4;

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    if let Some(backup) = &args.undo {
        let path = patch::undo(backup)?;
        ui.summary(&UndoReport {
            schema: 1,
            restored: shown(&path),
            backup: shown(backup),
        })?;
        return Ok(Exit::Done);
    }
    let Some(image) = &args.image else {
        return Ok(Exit::Failed); // clap asks for it
    };
    let resolver = args.input.resolver();
    let options = args.input.options(&resolver);
    let extent = check::Extent {
        deep: args.deep,
        chain: args.chain,
    };
    let look = |ui: &Ui| check::check(image, &options, extent, &ui.job());
    let mut outcome = look(ui)?;
    let mut repaired = Vec::new();
    let mut backups = Vec::new();
    for _ in 0..ROUNDS {
        let patches = outcome.findings.patches();
        if !args.repair || patches.is_empty() {
            break;
        }
        ui.check_stop()?;
        repaired.extend(actions(&outcome));
        if args.dry_run {
            break;
        }
        backups.extend(patch::apply(&patches)?);
        outcome = look(ui)?;
    }
    let report = CheckReport {
        schema: 1,
        path: shown(image),
        format: outcome.format,
        layers: outcome.layers,
        findings: outcome.findings.list().iter().map(Found::of).collect(),
        counts: outcome.findings.counts().clone(),
        verdict: verdict(&outcome, args, repaired.len()),
        repaired,
        backups: backups.iter().map(|b| shown(b)).collect(),
        dry_run: args.dry_run,
    };
    ui.print(&report)?;
    Ok(match outcome.findings.worst() {
        None | Some(Severity::Note) => Exit::Done,
        _ => Exit::Differs,
    })
}

/// What the repairs do, each once.
fn actions(outcome: &Outcome) -> Vec<String> {
    let mut actions: Vec<String> = Vec::new();
    for finding in outcome.findings.list() {
        if let Some(repair) = &finding.repair {
            let action = format!("{}: {}", shown(&finding.file), repair.action);
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
    }
    actions
}

/// One sentence; `repaired` is how many repairs were made, or would be.
fn verdict(outcome: &Outcome, args: &Args, repaired: usize) -> String {
    let found = &outcome.findings;
    let count = |severity| match found.count(severity) {
        0 => None,
        1 => Some(format!("1 {severity}")),
        many => Some(format!("{many} {severity}s")),
    };
    let counts = [Severity::Error, Severity::Warning, Severity::Note].map(count);
    let list: Vec<String> = counts.into_iter().flatten().collect();
    let list = list.join(", ");
    if found.worst() <= Some(Severity::Note) {
        let clean = match args.deep {
            true => "nothing is wrong",
            false => "nothing wrong found; data not read (--deep reads it)",
        };
        return match list.as_str() {
            "" => clean.to_owned(),
            notes => format!("{clean}; {notes}"),
        };
    }
    let repairs = found.list().iter().filter(|f| f.repair.is_some()).count();
    let repairs = match (repairs, args.repair, repaired) {
        (0, true, 0) => "nothing could be repaired".to_owned(),
        (0, true, _) => "nothing more could be repaired".to_owned(),
        (0, false, _) => "nothing can be repaired".to_owned(),
        (some, _, _) => format!("{some} can be repaired"),
    };
    format!("{list}; {repairs}")
}

#[derive(Serialize)]
struct CheckReport {
    schema: u32,
    path: String,
    format: &'static str,
    layers: usize,
    findings: Vec<Found>,
    counts: BTreeMap<&'static str, u64>,
    verdict: String,
    repaired: Vec<String>,
    dry_run: bool,
    backups: Vec<String>,
}

#[derive(Serialize)]
struct Found {
    severity: String,
    rule: &'static str,
    file: String,
    part: String,
    detail: String,
    at: Option<u64>,
    repair: Option<String>,
    #[serde(skip)]
    sentence: String,
}

impl Found {
    fn of(finding: &Finding) -> Self {
        Self {
            severity: finding.severity.to_string(),
            rule: finding.rule,
            file: shown(&finding.file),
            part: finding.part.to_string(),
            detail: finding.detail.clone(),
            at: finding.at,
            repair: finding.repair.as_ref().map(|r| r.action.clone()),
            sentence: finding.to_string(),
        }
    }
}

impl Report for CheckReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for action in &self.repaired {
            let done = match self.dry_run {
                true => "would repair",
                false => "repaired",
            };
            writeln!(out, "{done}: {}", printable(action))?;
        }
        for backup in &self.backups {
            writeln!(out, "backup: {}", printable(backup))?;
        }
        for finding in &self.findings {
            writeln!(out, "{}: {}", finding.severity, finding.sentence)?;
            if let Some(repair) = &finding.repair {
                writeln!(out, "  can be repaired: {}", printable(repair))?;
            }
        }
        for (rule, count) in &self.counts {
            let shown = self.findings.iter().filter(|f| f.rule == *rule).count();
            if *count > shown as u64 {
                writeln!(out, "and {} more [{rule}]", count - shown as u64)?;
            }
        }
        writeln!(out, "{}: {}", printable(&self.path), self.verdict)
    }
}

#[derive(Serialize)]
struct UndoReport {
    schema: u32,
    restored: String,
    backup: String,
}

impl Report for UndoReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (restored, backup) = (printable(&self.restored), printable(&self.backup));
        writeln!(out, "{restored}: restored from {backup}")
    }
}
