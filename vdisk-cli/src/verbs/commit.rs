//! `vdisk commit`: what a child records goes into its parent.

use crate::{
    args::{InputArgs, ids, shown},
    child,
    exit::Exit,
    interrupted::{FLAGS, InterruptedArgs},
    output::{WriteArgs, Written},
    profile::now,
    size::both,
    totals::TotalsReport,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, Error, ErrorKind, Result,
    ops::commit::{self, Committed, Plan, Renewal, Wish},
    printable,
    transaction::Files,
};

/// Put what a child records into its parent, or into an image further down, in place
///
/// What the child reads as does not change; afterwards the parent reads the same, and the child may
/// be deleted. With --into, all layers above that image go into it. The parent gets a new identity,
/// because its contents change, and the child records it; so do the layers between, which are of no
/// use without the child from then on. Other children of these layers would be unreadable or wrong: those found in the folders of the chain and of
/// --allow-path stop the commit.
///
/// What is replaced is saved first in a journal NAME.vdisk-journal beside the parent. A commit that
/// fails is taken back. After one that was killed nothing opens the image until vdisk commit
/// --resume PARENT finishes it or --undo PARENT takes it back. No other program may have one of the
/// images open: vdisk notices only programs that lock them.
///
/// JSON: schema, child, target, layers (paths, that of the child first), data_size, zero_size,
/// ranges, written_size, saved_size (the journal), grown_size, cut_size, identities (path, from, to),
/// siblings (paths), dry_run. Of --to-new: schema, child, target, parent, output, format, subformat,
/// virtual_size, added_size, stored_size, identity. Of --resume and --undo: schema, image,
/// operation, outcome.
#[derive(clap::Args)]
#[command(
    override_usage = "vdisk commit [OPTIONS] CHILD\n       vdisk commit --resume PARENT\n       vdisk commit --undo PARENT"
)]
pub(crate) struct Args {
    /// The child; the parents that it names are found
    #[arg(required_unless_present_any = FLAGS, conflicts_with_all = FLAGS)]
    child: Option<PathBuf>,
    /// The parent to write to, if not the child's own: one further down
    #[arg(long, value_name = "ANCESTOR", conflicts_with_all = FLAGS)]
    into: Option<PathBuf>,
    /// Change nothing: write what the parent would become to a new image, which replaces it in the
    /// chain (a child of the parent's own parent, if it has one)
    #[arg(long, value_name = "OUT", conflicts_with_all = FLAGS)]
    to_new: Option<PathBuf>,
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with_all = FLAGS, conflicts_with = "to_new")]
    dry_run: bool,
    /// Commit although other images depend on what changes: they become unreadable or wrong
    #[arg(long, conflicts_with_all = FLAGS, conflicts_with = "to_new")]
    orphan_siblings: bool,
    /// Keep the UUID of a VHD, which a hypervisor may have registered. Children that are not found
    /// now then read wrong, and nothing will tell
    #[arg(long, conflicts_with_all = FLAGS, conflicts_with_all = ["to_new", "orphan_siblings"])]
    keep_uuid: bool,
    #[command(flatten)]
    interrupted: InterruptedArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    if let Some(exit) = args.interrupted.run(&args.input, ui)? {
        return Ok(exit);
    }
    let Some(child) = &args.child else {
        return Ok(Exit::Failed); // clap asks for it
    };
    let resolver = args.input.resolver();
    let options = args.input.options(&resolver);
    let wish = Wish {
        into: args.into.as_deref(),
        folders: args.input.folders(),
        orphan: args.orphan_siblings,
        keep_identity: args.keep_uuid,
        now: now(),
    };
    if let Some(output) = &args.to_new {
        return to_new(args, child, output, ui);
    }
    let chain = args.input.open_metadata(child, ui)?;
    let plan = commit::plan(child, &wish, &options)?;
    if args.dry_run {
        let would = plan.rehearse(&options, &ui.job())?;
        ui.print(&CommitReport::of(&chain, &plan, would, true))?;
        plan.check_siblings()?;
    } else {
        let done = plan.apply(&options, &Files, &ui.job())?;
        ui.summary(&CommitReport::of(&chain, &plan, done, false))?;
    }
    Ok(Exit::Done)
}

/// Writes the image that replaces the target in the chain; nothing that exists is changed.
fn to_new(args: &Args, child: &Path, output: &Path, ui: &mut Ui) -> Result<Exit> {
    let chain = args.input.open(child, ui)?;
    let layers = commit::depth(&chain, args.into.as_deref())?;
    let parent = chain.below(layers + 1);
    let shape = args.write.shape(output, parent.is_some())?;
    if let Some(parent) = &parent {
        child::check(parent, shape)?;
    }
    let inputs = ids(chain.files());
    let destination = args.write.begin(output, shape, inputs, ui)?;
    let written = match &parent {
        None => args.write.copy(&chain, destination, ui)?,
        Some(parent) => {
            let place = child::place(parent, output, false, ui)?;
            child::write(&args.write, parent, Some(&chain), place, destination, ui)?.0
        }
    };
    ui.summary(&NewReport {
        schema: 1,
        child: shown(child),
        target: path_of(&chain, layers)?,
        parent: parent.map(|p| shown(p.top().path())),
        written,
    })?;
    Ok(Exit::Done)
}

fn path_of(chain: &Chain, depth: usize) -> Result<String> {
    let layer = chain.layers().get(depth);
    let path = layer.map(|l| shown(l.path()));
    path.ok_or_else(|| Error::new(ErrorKind::Usage, "commit", "has no such layer"))
}

#[derive(Serialize)]
struct CommitReport {
    schema: u32,
    child: String,
    target: String,
    /// What goes into the target, the child first.
    layers: Vec<String>,
    /// Bytes of the disk, recorded as data and as zero.
    data_size: u64,
    zero_size: u64,
    ranges: u64,
    #[serde(flatten)]
    totals: TotalsReport,
    identities: Vec<Renewed>,
    siblings: Vec<String>,
    dry_run: bool,
}

/// An image and who it is and will be.
#[derive(Serialize)]
pub(crate) struct Renewed {
    path: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Renewed {
    /// `None` for a format that records no identity.
    pub(crate) fn of(renewal: &Renewal) -> Option<Self> {
        Some(Self {
            path: shown(&renewal.path),
            from: renewal.from?.to_string(),
            to: renewal.to?.to_string(),
        })
    }
}

impl CommitReport {
    fn of(chain: &Chain, plan: &Plan, done: Committed, dry_run: bool) -> Self {
        let layers = chain.layers().iter().take(plan.layers);
        Self {
            schema: 1,
            child: shown(&plan.child),
            target: shown(&plan.target),
            layers: layers.map(|l| shown(l.path())).collect(),
            data_size: done.data,
            zero_size: done.zero,
            ranges: done.ranges,
            totals: done.totals.into(),
            identities: plan.renewals.iter().filter_map(Renewed::of).collect(),
            siblings: plan.siblings.iter().map(|s| shown(s)).collect(),
            dry_run,
        }
    }
}

impl Report for CommitReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let would = if self.dry_run { "would put" } else { "put" };
        let (child, target) = (printable(&self.child), printable(&self.target));
        write!(out, "{child}: {would} {} of data", both(self.data_size))?;
        if self.zero_size > 0 {
            write!(out, " and {} of zeros", both(self.zero_size))?;
        }
        let ranges = if self.ranges == 1 { "range" } else { "ranges" };
        writeln!(out, " in {} {ranges} into {target}", self.ranges)?;
        for between in self.layers.iter().skip(1) {
            writeln!(out, "with what {} records", printable(between))?;
        }
        for Renewed { path, from, to } in &self.identities {
            writeln!(out, "{}: {from} -> {to}", printable(path))?;
        }
        for sibling in &self.siblings {
            writeln!(out, "orphaned: {}", printable(sibling))?;
        }
        if self.dry_run {
            self.totals.planned(out)?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct NewReport {
    schema: u32,
    child: String,
    /// The image that the new one can replace.
    target: String,
    /// The parent of the new image; null if it needs none.
    parent: Option<String>,
    #[serde(flatten)]
    written: Written,
}

impl Report for NewReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (child, target) = (printable(&self.child), printable(&self.target));
        write!(out, "{child} and {target} -> ")?;
        self.written.text(out)
    }
}
