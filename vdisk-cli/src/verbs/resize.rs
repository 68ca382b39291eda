//! `vdisk resize`: a disk gets another size, in place.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    interrupted::{FLAGS, InterruptedArgs},
    profile::now,
    size::{self, both},
    totals::TotalsReport,
    ui::{Report, Ui},
    verbs::commit::Renewed,
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Disk, Error, ErrorKind, Result,
    ops::resize::{self, Partition, Plan, Table, Wish},
    printable,
    transaction::{Files, Totals},
};

/// Make a disk larger or smaller, in place
///
/// What is added reads as zero, also in a child whose parent is longer. A disk is made smaller only
/// if all that is cut off is zero, if no partition ends there, and if no image in its folder has it
/// as its parent; --force cuts all the same. Partitions and file systems stay as they are: make
/// them smaller in the guest before, and larger afterwards.
///
/// A disk with a GUID partition table has a backup of it in its last sectors, and knows where.
/// --fix-gpt moves it to the new end, or makes it anew if it is missing or damaged; also if the size
/// stays. The table at the start of the disk must be intact. A disk whose backup would be cut off is
/// made smaller only with --fix-gpt or --force.
///
/// An image of which something changes but its size, a moved table or data cut off, gets a new
/// identity: children that it has would read wrong, and are orphaned instead. Those in its folder
/// stop the change, but for --force.
///
/// What is replaced is saved first in a journal NAME.vdisk-journal beside the image. A change that
/// fails is taken back. After one that was killed nothing opens the image until vdisk resize
/// --resume IMAGE finishes it or --undo IMAGE takes it back. No other program may have the image
/// open: vdisk notices only programs that lock it.
///
/// JSON: schema, image, format, old_size, new_size, data_at (of what is cut off, the first byte
/// that is not zero; null if there is none), data_size (bytes of all sectors cut off that are not
/// zero), cut_partitions (number, start, end), children (paths), gpt (null, or sector_size,
/// used_size: where the last partition ends, has_backup, backup_at_end: after the change),
/// fix_gpt, identity (null if it stays; path, from, to), written_size, saved_size (the journal),
/// grown_size, cut_size, not_counted (of a dry run, what comes on top of these sizes:
/// partition-table, zeros-over-parent), dry_run. Of --resume and --undo: schema, image, operation,
/// outcome.
#[derive(clap::Args)]
#[command(
    override_usage = "vdisk resize [OPTIONS] IMAGE --size SIZE\n       vdisk resize --resume IMAGE\n       vdisk resize --undo IMAGE"
)]
pub(crate) struct Args {
    /// The image; the parents that it names are found
    #[arg(required_unless_present_any = FLAGS, conflicts_with_all = FLAGS)]
    image: Option<PathBuf>,
    /// The new size; +SIZE is that much more than now, -SIZE that much less
    #[arg(short, long, value_name = "SIZE", value_parser = parse, allow_hyphen_values = true)]
    #[arg(required_unless_present_any = FLAGS, conflicts_with_all = FLAGS)]
    size: Option<Change>,
    /// Move the backup of a GUID partition table to the new end
    #[arg(long, conflicts_with_all = FLAGS)]
    fix_gpt: bool,
    /// Cut off data and partitions, and change what children of the image rely on
    #[arg(long, conflicts_with_all = FLAGS)]
    force: bool,
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with_all = FLAGS)]
    dry_run: bool,
    #[command(flatten)]
    interrupted: InterruptedArgs,
    #[command(flatten)]
    input: InputArgs,
}

/// A size as it is given.
#[derive(Clone, Copy, Debug)]
enum Change {
    To(u64),
    More(u64),
    Less(u64),
}

fn parse(text: &str) -> Result<Change> {
    Ok(match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(more), _) => Change::More(size::parse(more)?),
        (_, Some(less)) => Change::Less(size::parse(less)?),
        _ => Change::To(size::parse(text)?),
    })
}

impl Change {
    fn of(self, old: u64) -> Option<u64> {
        match self {
            Self::To(size) => Some(size),
            Self::More(more) => old.checked_add(more),
            Self::Less(less) => old.checked_sub(less),
        }
    }
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    if let Some(exit) = args.interrupted.run(&args.input, ui)? {
        return Ok(exit);
    }
    let (Some(image), Some(change)) = (&args.image, args.size) else {
        return Ok(Exit::Failed); // clap asks for them
    };
    let old_size = args.input.open_metadata(image, ui)?.size();
    let size = change.of(old_size).ok_or_else(|| {
        let detail = format!(
            "cannot be changed that much: the disk has {}",
            both(old_size)
        );
        Error::new(ErrorKind::Usage, "size", detail).path(image)
    })?;
    let wish = Wish {
        size,
        fix_gpt: args.fix_gpt,
        force: args.force,
        now: now(),
    };
    let resolver = args.input.resolver();
    let options = args.input.options(&resolver);
    let plan = resize::plan(image, &wish, &options, &ui.job())?;
    warn(image, &plan, ui);
    if args.dry_run {
        let totals = plan.rehearse(&options)?;
        ui.print(&ResizeReport::of(&plan, totals, true))?;
        plan.check()?;
    } else {
        let totals = plan.apply(&options, &Files, &ui.job())?;
        ui.summary(&ResizeReport::of(&plan, totals, false))?;
    }
    Ok(Exit::Done)
}

fn warn(image: &Path, plan: &Plan, ui: &Ui) {
    let warn = |sentence: &str| ui.warn(&format!("{}: {sentence}", image.display()));
    let (old, new) = (plan.old_size, plan.size);
    for Partition { number, start, end } in &plan.cut {
        warn(&format!(
            "partition {number}, from byte {start} to {end}, ends past the new end of the disk"
        ));
    }
    if plan.data_at.is_some() {
        warn(&format!(
            "{} of data lie in what is cut off",
            both(plan.data)
        ));
    }
    if let Some(table) = plan.gpt.filter(|table| !table.fits) {
        match (table.loses_backup, table.movable, table.has_backup) {
            (true, true, _) => warn(
                "the backup of the partition table is cut off; --fix-gpt moves it to the new end",
            ),
            (true, false, _) => warn("the backup of the partition table is cut off"),
            (_, true, true) => warn(
                "the backup of the partition table will not be at the end of the disk; --fix-gpt moves it, or in a guest sgdisk -e",
            ),
            (_, true, false) => warn(
                "the partition table has no intact backup; --fix-gpt writes a new one, or in a guest gdisk",
            ),
            (_, false, _) => {
                warn("the partition table will have no intact backup at the end of the disk");
            }
        }
    }
    if plan.children.is_empty() {
        return;
    }
    let names: Vec<String> = plan.children.iter().map(|c| shown(c)).collect();
    let names = names.join(", ");
    if plan.renewal.is_some() {
        warn(&format!("these children are orphaned: {names}"));
    } else if new != old {
        warn(&format!(
            "these children keep their own size: {names}; not every program reads a child whose parent has another one"
        ));
    }
}

#[derive(Serialize)]
struct ResizeReport {
    schema: u32,
    image: String,
    format: String,
    /// Bytes.
    old_size: u64,
    new_size: u64,
    /// Null if all that is cut off is zero.
    data_at: Option<u64>,
    data_size: u64,
    cut_partitions: Vec<Partition>,
    children: Vec<String>,
    /// Null if the disk has no intact GUID partition table.
    gpt: Option<TableReport>,
    fix_gpt: bool,
    /// Null if it stays, or the format records none.
    identity: Option<Renewed>,
    #[serde(flatten)]
    totals: TotalsReport,
    not_counted: Vec<&'static str>,
    dry_run: bool,
}

#[derive(Serialize)]
struct TableReport {
    sector_size: u64,
    used_size: u64,
    has_backup: bool,
    backup_at_end: bool,
}

impl From<Table> for TableReport {
    fn from(table: Table) -> Self {
        Self {
            sector_size: table.sector_size,
            used_size: table.used,
            has_backup: table.has_backup,
            backup_at_end: table.fits,
        }
    }
}

/// What a rehearsal of another size cannot count: the disk has it only then.
fn not_counted(plan: &Plan) -> Vec<&'static str> {
    let table = plan.fix_gpt.then_some("partition-table");
    let zeros = plan.hides.then_some("zeros-over-parent");
    table.into_iter().chain(zeros).collect()
}

impl ResizeReport {
    fn of(plan: &Plan, totals: Totals, dry_run: bool) -> Self {
        Self {
            schema: 1,
            image: shown(&plan.image),
            format: plan.format.clone(),
            old_size: plan.old_size,
            new_size: plan.size,
            data_at: plan.data_at,
            data_size: plan.data,
            cut_partitions: plan.cut.clone(),
            children: plan.children.iter().map(|c| shown(c)).collect(),
            gpt: plan.gpt.map(TableReport::from),
            fix_gpt: plan.fix_gpt,
            identity: plan.renewal.as_ref().and_then(Renewed::of),
            totals: totals.into(),
            not_counted: match dry_run && plan.size != plan.old_size {
                true => not_counted(plan),
                false => Vec::new(),
            },
            dry_run,
        }
    }
}

impl Report for ResizeReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let image = printable(&self.image);
        if self.old_size == self.new_size && !self.fix_gpt {
            return writeln!(out, "{image}: has {} already", both(self.new_size));
        }
        let (old, new) = (both(self.old_size), both(self.new_size));
        writeln!(out, "{image}: {}, {old} -> {new}", self.format)?;
        if self.fix_gpt {
            writeln!(out, "the backup of the partition table: at the new end")?;
        }
        if let Some(Renewed { from, to, .. }) = &self.identity {
            writeln!(out, "identity: {from} -> {to}")?;
        }
        if self.dry_run {
            self.totals.planned(out)?;
        }
        for what in &self.not_counted {
            let what = what.replace('-', " ");
            writeln!(out, "  and besides what is not counted here: the {what}")?;
        }
        Ok(())
    }
}
