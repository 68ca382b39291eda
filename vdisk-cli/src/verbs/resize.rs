//! `vdisk resize`: a disk gets another size, in place.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    interrupted::{FLAGS, InterruptedArgs},
    profile::now,
    size::{self, both},
    totals::TotalsReport,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Disk, Error, ErrorKind, Result,
    ops::resize::{self, Plan, Table, Wish},
    printable,
    transaction::{Files, Totals},
};

/// Make a disk larger or smaller, in place
///
/// What is added reads as zero, also in a child whose parent is longer. A disk is made smaller only
/// if all that is cut off is zero, or is the backup of a partition table, and if no image in its
/// folder has it as its parent; --force cuts all the same. Partitions and file systems stay as they
/// are: make them smaller in the guest before, and larger afterwards.
///
/// A disk with a GUID partition table has a backup of it in its last sectors, and knows where.
/// --fix-gpt moves it to the new end; it is also moved if the size stays. The table and its backup
/// must be intact.
///
/// What is replaced is saved first in a journal NAME.vdisk-journal beside the image. A change that
/// fails is taken back. After one that was killed nothing opens the image until vdisk resize
/// --resume IMAGE finishes it or --undo IMAGE takes it back. No other program may have the image
/// open: vdisk notices only programs that lock it.
///
/// JSON: schema, image, format, old_size, new_size, data_at (of what is cut off, the first byte
/// that is not zero; null if there is none), children (paths), gpt (null, or sector_size,
/// used_size: where the last partition ends, has_backup, backup_at_end: after the change),
/// fix_gpt, written_size, saved_size (the journal), grown_size, cut_size, dry_run. Of --resume and
/// --undo: schema, image, operation, outcome.
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
    /// Cut off data and partitions, and what children of the image rely on
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
    if let Some(table) = plan.gpt.filter(|table| !table.fits) {
        match (new < old, table.has_backup) {
            (true, _) => warn(
                "the backup of the partition table is cut off; --fix-gpt moves it to the new end",
            ),
            (_, true) => warn(
                "the backup of the partition table will not be at the end of the disk; --fix-gpt moves it, or in a guest sgdisk -e",
            ),
            _ => {
                warn("the partition table has no intact backup; in a guest gdisk writes a new one")
            }
        }
    }
    if new != old && !plan.children.is_empty() {
        let names: Vec<String> = plan.children.iter().map(|c| shown(c)).collect();
        warn(&format!(
            "these children keep their own size: {}; not every program reads a child whose parent has another one",
            names.join(", ")
        ));
    }
    if plan.force && new < old && plan.data_at.is_some() {
        warn("data are cut off");
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
    children: Vec<String>,
    /// Null if the disk has no intact GUID partition table.
    gpt: Option<TableReport>,
    fix_gpt: bool,
    #[serde(flatten)]
    totals: TotalsReport,
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

impl ResizeReport {
    fn of(plan: &Plan, totals: Totals, dry_run: bool) -> Self {
        Self {
            schema: 1,
            image: shown(&plan.image),
            format: plan.format.clone(),
            old_size: plan.old_size,
            new_size: plan.size,
            data_at: plan.data_at,
            children: plan.children.iter().map(|c| shown(c)).collect(),
            gpt: plan.gpt.map(TableReport::from),
            fix_gpt: plan.fix_gpt,
            totals: totals.into(),
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
        if self.dry_run {
            self.totals.planned(out)?;
        }
        Ok(())
    }
}
