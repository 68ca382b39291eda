//! `vdisk chain`: the images of some folders as trees of parents and children, and whether every
//! link holds.

use super::set::shown_change;
use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    size::human,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::{
    OpenOptions, Result,
    ops::family::{self, Contents, Family, Member, Needs, RepairPlan, Verdict},
    printable,
};

/// Show images as trees of parents and children, and repair broken links
///
/// Folders are searched to their depth; links in them are not followed. Extents are shown as part
/// of their disk; packages, journals, locks and backups are left out. A parent elsewhere is shown if
/// its child leads to it by the same rules as everywhere. Each child has a verdict: intact, missing,
/// moved (its names lead nowhere, but an image with the recorded identity is here), changed (another
/// identity than recorded), wrong-format, unreadable, or loop. The contents of a changed parent are
/// compared if images that still have the recorded identity are here; all of them must agree. A VHD
/// keeps its identity when it is written to: that the file of a parent is of another time than
/// recorded is said, and is no finding. A delta (vdisk diff) is no child unless its base is a VMDK.
///
/// --repair gives children of moved parents the new name, and so children of changed ones, if an
/// image that still has the recorded identity is here. --parent FILE says which one, if there are
/// several. The recorded identity is changed only where the child provably reads as before, or if
/// --accept-parent-change says that the parent is right as it is now; a moved VHD that may have been
/// written to since needs that, too. What is replaced is saved first in NAME.backup-N; `vdisk check
/// --undo BACKUP` puts it back.
///
/// Exit code 1 means that something was found, and is still there after a repair.
///
/// JSON: schema, images (path, format, subformat, virtual_size, stored_size, identity, outside, delta,
/// parent), parent (verdict, path, found_at, needs: allow-path or parent; names, recorded_identity,
/// found_identity, contents: unknown, same, different or unused; unchanged_copies, detail,
/// written_since: null if unknown; null for a base), unreadable (path, unfinished, detail), alike
/// (lists of images with one identity), findings, repair (steps: child, parent, accepts_change,
/// changes, warnings; left: child, reason, acceptable), dry_run, repaired (child, backups), failed
/// (child, detail).
#[derive(clap::Args)]
#[command(mut_arg("no_verify", |arg| arg.hide(true)))] // it never compares
pub(crate) struct Args {
    /// Folders and images
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Make the links hold again that can be
    #[arg(long)]
    repair: bool,
    /// Take changed parents as they are now, whatever their children read as then
    #[arg(long, requires = "repair")]
    accept_parent_change: bool,
    /// Show what --repair would do, and do nothing
    #[arg(long, requires = "repair")]
    dry_run: bool,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let resolver = args.input.resolver();
    let options = args.input.options(&resolver);
    let mut family = family::scan(&args.paths, &options, &ui.job())?;
    let found = OpenOptions {
        format: None,
        ..options
    };
    let plan = family.plan(args.accept_parent_change, &found);
    let mut repaired = Vec::new();
    let mut failed = Vec::new();
    let mut stopped = None;
    if args.repair && !args.dry_run && !plan.steps.is_empty() {
        let done = plan.apply(|step, done| {
            let child = shown(&step.child);
            match done {
                Ok(backups) => repaired.push(Repaired {
                    child,
                    backups: backups.iter().map(|b| shown(b)).collect(),
                }),
                Err(error) => failed.push(Failed {
                    child,
                    detail: error.to_string(),
                }),
            }
            ui.check_stop()
        });
        stopped = done.err();
        // What holds now, the files say.
        family = family::scan(&args.paths, &options, &ui.job())?;
    }
    for step in plan.steps.iter().filter(|_| args.repair) {
        for warning in &step.warnings {
            ui.warn(&format!("{}: {warning}", step.child.display()));
        }
    }
    let findings = family.findings();
    let any_failed = !failed.is_empty();
    ui.print(
        &ChainReport {
            schema: 1,
            images: Vec::new(),
            unreadable: Vec::new(),
            alike: Vec::new(),
            findings,
            repair: plan,
            dry_run: args.dry_run,
            repaired,
            failed,
            asked: args.repair,
            family,
        }
        .filled(),
    )?;
    match stopped {
        Some(error) => Err(error),
        None if findings > 0 || any_failed => Ok(Exit::Differs),
        None => Ok(Exit::Done),
    }
}

#[derive(Serialize)]
struct ChainReport {
    schema: u32,
    images: Vec<ImageReport>,
    unreadable: Vec<Unreadable>,
    /// Images that share an identity by which children go.
    alike: Vec<Vec<String>>,
    findings: usize,
    /// What was repaired or would be, and what is left.
    repair: RepairPlan,
    dry_run: bool,
    repaired: Vec<Repaired>,
    failed: Vec<Failed>,
    /// A repair was asked for.
    #[serde(skip)]
    asked: bool,
    #[serde(skip)]
    family: Family,
}

#[derive(Serialize)]
struct ImageReport {
    path: String,
    format: &'static str,
    subformat: String,
    virtual_size: u64,
    stored_size: u64,
    identity: Option<String>,
    outside: bool,
    /// Leads from one disk to another, and is no disk of its own.
    delta: bool,
    parent: Option<ParentReport>,
}

#[derive(Serialize)]
struct ParentReport {
    verdict: &'static str,
    /// The parent, or the image in its place; null if none was found.
    path: Option<String>,
    /// Where images with the identity of a moved parent are.
    found_at: Vec<String>,
    /// What opening the child takes besides its own name.
    needs: Option<Needs>,
    /// As recorded.
    names: Vec<String>,
    recorded_identity: Option<String>,
    found_identity: Option<String>,
    /// Null unless the parent was changed.
    contents: Option<Contents>,
    /// Images that still have the recorded identity of a changed parent.
    unchanged_copies: Vec<String>,
    detail: Option<String>,
    /// The file of the parent is of another time than recorded; null if nothing tells.
    written_since: Option<bool>,
}

#[derive(Serialize)]
struct Unreadable {
    path: String,
    unfinished: bool,
    detail: String,
}

#[derive(Serialize)]
struct Repaired {
    child: String,
    backups: Vec<String>,
}

/// A child that could not be changed.
#[derive(Serialize)]
struct Failed {
    child: String,
    detail: String,
}

impl ChainReport {
    /// With what the family says.
    fn filled(mut self) -> Self {
        let family = &self.family;
        let mut links = family.links.iter().peekable();
        for (index, member) in family.images.iter().enumerate() {
            let link = links.next_if(|l| l.child == index);
            self.images.push(ImageReport {
                path: shown(&member.path),
                format: member.format,
                subformat: member.subformat.clone(),
                virtual_size: member.virtual_size,
                stored_size: member.stored_size,
                identity: member.identity.map(|i| i.to_string()),
                outside: member.outside,
                delta: member.delta,
                parent: link.map(|l| ParentReport {
                    written_since: l.parent_written,
                    ..ParentReport::of(family, member, &l.verdict)
                }),
            });
        }
        let path = |index: &usize| Some(shown(&family.images.get(*index)?.path));
        let group = |group: &Vec<usize>| group.iter().filter_map(path).collect();
        self.alike = family.alike.iter().map(group).collect();
        self.unreadable = family
            .troubles
            .iter()
            .map(|t| Unreadable {
                path: shown(&t.path),
                unfinished: t.unfinished,
                detail: t.detail.clone(),
            })
            .collect();
        self
    }
}

impl ParentReport {
    fn of(family: &Family, child: &Member, verdict: &Verdict) -> Self {
        let image = |index: usize| family.images.get(index);
        let path = |index: usize| image(index).map(|m| shown(&m.path));
        let wanted = child.parent.as_ref();
        let mut report = Self {
            verdict: verdict.word(),
            path: verdict.leads_to().and_then(path),
            found_at: Vec::new(),
            needs: None,
            names: wanted.map_or(Vec::new(), |p| {
                p.hints.iter().map(|h| h.display().to_string()).collect()
            }),
            recorded_identity: wanted.and_then(|p| p.identity).map(|i| i.to_string()),
            found_identity: None,
            contents: None,
            unchanged_copies: Vec::new(),
            detail: None,
            written_since: None,
        };
        let seen = |index| Some(image(index)?.as_seen_by(wanted?)?.to_string());
        match verdict {
            Verdict::Intact { parent, needs } => {
                report.found_identity = seen(*parent);
                report.needs = *needs;
            }
            Verdict::Moved { to, sought } => {
                report.found_at = to.iter().filter_map(|i| path(*i)).collect();
                report.detail = Some(sought.clone());
            }
            Verdict::Changed {
                found,
                copies,
                contents,
            } => {
                report.found_identity = seen(*found);
                report.contents = Some(*contents);
                report.unchanged_copies = copies.iter().filter_map(|i| path(*i)).collect();
            }
            Verdict::Missing { sought } => report.detail = Some(sought.clone()),
            Verdict::WrongFormat { detail, copies }
            | Verdict::Unreadable { detail, copies, .. } => {
                report.detail = Some(detail.clone());
                report.unchanged_copies = copies.iter().filter_map(|i| path(*i)).collect();
            }
            Verdict::Loop { .. } => {}
        }
        report
    }

    /// What is to be said of the link, in words; nothing for one that holds.
    fn sentence(&self) -> String {
        let known = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
        let path = self.path.clone().unwrap_or_default();
        let detail = self.detail.clone().unwrap_or_default();
        match self.verdict {
            "intact" if self.written_since == Some(true) && self.needs.is_none() => {
                "intact, but the parent may have been written to since: its file is of another time than recorded".to_owned()
            }
            "intact" => match self.needs {
                None => "intact".to_owned(),
                Some(Needs::AllowPath) => {
                    "intact, but the parent lies outside its folder: opening it needs --allow-path"
                        .to_owned()
                }
                Some(Needs::Parent) => {
                    "intact, but the parent is recorded without a name: opening it needs --parent"
                        .to_owned()
                }
            },
            "changed" => {
                let meaning = match (self.contents, self.unchanged_copies.first()) {
                    (Some(Contents::Same), Some(copy)) => {
                        format!(
                            "; harmless: where the child asks it, it reads as {copy}, which has that"
                        )
                    }
                    (Some(Contents::Different), Some(copy)) => {
                        format!("; the child would read otherwise than over {copy}, which has that")
                    }
                    (Some(Contents::Unused), _) => {
                        "; harmless: the child holds all of its disk itself".to_owned()
                    }
                    (_, Some(copy)) if self.unchanged_copies.len() == 1 => {
                        format!("; {copy} has that, but could not be compared")
                    }
                    (_, Some(_)) => format!(
                        "; {} have that, but do not agree on what the child would read",
                        self.unchanged_copies.join(" and ")
                    ),
                    _ => "; whether the contents differ is unknown".to_owned(),
                };
                let (has, wants) = (known(&self.found_identity), known(&self.recorded_identity));
                format!("changed: {path} has {has}, and {wants} is recorded{meaning}")
            }
            "moved" => format!(
                "moved: {} is at {} ({detail})",
                known(&self.recorded_identity),
                self.found_at.join(" or at ")
            ),
            "missing" => format!(
                "missing: {detail}; recorded is {}",
                known(&self.recorded_identity)
            ),
            "loop" => format!("loop: it is its own ancestor by {path}"),
            word if self.detail.is_some() => match self.unchanged_copies.as_slice() {
                [] => format!("{word}: {detail}"),
                copies => format!(
                    "{word}: {detail}; {} is at {}",
                    known(&self.recorded_identity),
                    copies.join(" or at ")
                ),
            },
            word => word.to_owned(),
        }
    }
}

impl Report for ChainReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.trees(out)?;
        for trouble in &self.unreadable {
            writeln!(out, "not readable: {}", printable(&trouble.detail))?;
        }
        for alike in &self.alike {
            let names = printable(&alike.join(" and ")).into_owned();
            writeln!(out, "one identity: {names}; only names tell them apart")?;
        }
        for failed in &self.failed {
            writeln!(out, "not repaired {}", printable(&failed.detail))?;
        }
        for repaired in &self.repaired {
            let child = printable(&repaired.child);
            let backups = repaired.backups.join(", ");
            writeln!(out, "repaired: {child} (backup: {})", printable(&backups))?;
        }
        self.planned(out)?;
        let children = self.family.links.len();
        writeln!(
            out,
            "{} and {}: {}",
            counted(self.images.len(), "image"),
            counted(children, "link"),
            match self.findings {
                0 => "all is intact; contents not read".to_owned(),
                n => counted(n, "finding"),
            }
        )
    }
}

/// How far in children are drawn, in steps.
const DEEPEST: usize = 64;

/// `1 image`, `2 images`.
fn counted(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

impl ChainReport {
    /// Every image once, children below their parents and further in.
    fn trees(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut above = vec![None; self.images.len()];
        for link in &self.family.links {
            if let Some(place) = above.get_mut(link.child)
                && !matches!(link.verdict, Verdict::Loop { .. })
            {
                *place = link.verdict.leads_to();
            }
        }
        let mut below = vec![Vec::new(); self.images.len()];
        for (child, parent) in above.iter().enumerate() {
            if let Some(list) = parent.and_then(|p: usize| below.get_mut(p)) {
                list.push(child);
            }
        }
        let mut drawn = vec![false; self.images.len()];
        let roots = (0..self.images.len()).filter(|i| above.get(*i) == Some(&None));
        // Links that are not intact can also lead in a circle, which has no root.
        for start in roots.chain(0..self.images.len()) {
            // A stack, because chains that are too long to be opened are drawn, too.
            let mut next = vec![(start, 0)];
            while let Some((index, depth)) = next.pop() {
                match drawn.get_mut(index) {
                    Some(done) if !*done => *done = true,
                    _ => continue,
                }
                if let Some(image) = self.images.get(index) {
                    image.text(depth, out)?;
                }
                let children = below.get(index).into_iter().flatten().rev();
                next.extend(children.map(|child| (*child, depth + 1)));
            }
        }
        Ok(())
    }

    /// What a repair does, or would do if it were asked for.
    fn planned(&self, out: &mut dyn Write) -> io::Result<()> {
        let prefix = match (self.asked, self.dry_run) {
            (true, false) => "not repaired",
            (true, true) => "would not repair",
            _ => "--repair would not help",
        };
        let to_come = self
            .repair
            .steps
            .iter()
            .filter(|_| !self.asked || self.dry_run);
        for step in to_come {
            let would = if self.asked {
                "would"
            } else {
                "--repair would"
            };
            let (child, parent) = (shown(&step.child), shown(&step.parent));
            writeln!(
                out,
                "{would} {} {} {} {}",
                if step.accepts_change { "make" } else { "point" },
                printable(&child),
                if step.accepts_change { "accept" } else { "to" },
                printable(&parent)
            )?;
            for change in &step.changes {
                writeln!(out, "  {}", shown_change(change))?;
            }
        }
        for left in &self.repair.left {
            let child = shown(&left.child);
            write!(
                out,
                "{prefix} {}: {}",
                printable(&child),
                printable(&left.reason)
            )?;
            match left.acceptable {
                true => writeln!(out, "; --accept-parent-change takes the parent as it is")?,
                false => writeln!(out)?,
            }
        }
        Ok(())
    }
}

impl ImageReport {
    fn text(&self, depth: usize, out: &mut dyn Write) -> io::Result<()> {
        // Chains of thousands would else be drawn in megabytes of blanks.
        let indent = "  ".repeat(depth.min(DEEPEST));
        write!(
            out,
            "{indent}{}: {} {}, {}, {} stored",
            printable(&self.path),
            self.format,
            printable(&self.subformat),
            human(self.virtual_size),
            human(self.stored_size)
        )?;
        if let Some(identity) = &self.identity {
            write!(out, ", {identity}")?;
        }
        if self.delta {
            write!(out, ", a delta")?;
        }
        if self.outside {
            write!(out, ", not under the paths given")?;
        }
        match &self.parent {
            Some(parent) if parent.verdict == "intact" => {
                writeln!(out, ", {}", printable(&parent.sentence()))
            }
            Some(parent) => writeln!(out, "\n{indent}  {}", printable(&parent.sentence())),
            None => writeln!(out),
        }
    }
}
