//! `vdisk set`: what an image says about itself, changed in place.

use crate::{
    args::{InputArgs, shown},
    child,
    exit::Exit,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::{
    Result,
    edit::{self, Changed, Edit, NewId, Plan},
    patch::{self, Change, Patch},
    printable,
};

/// Change what an image says about itself: adapter, UUID, the parent's name
///
/// Contents are not touched. All that is replaced is saved first in a file NAME.backup-N beside the
/// image; `vdisk check --undo BACKUP` puts it back. No other program may have the image open: vdisk
/// notices only programs that lock it.
///
/// In a VMDK lines of the descriptor change, and everything else in it stays as it is; if there is
/// no room for a line inside a single-file disk, nothing is changed. A VHD has only its UUID.
///
/// JSON: schema, path, format, changes (setting, from, to), patches (file, offset, length; a
/// descriptor that is a file of its own is replaced as a whole, without offset), dry_run, backups
/// (paths).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image; of a disk of several files, the descriptor
    image: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    input: InputArgs,
}

#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Settings {
    /// Disk adapter: ide, buslogic, lsilogic, legacyESX, lsisas1068 or pvscsi; the geometry follows
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// UUID of the disk: 32 hexadecimal digits, or random
    #[arg(long, value_name = "UUID")]
    uuid: Option<NewId>,
    /// Name of the parent, as the image is to record it; the parent itself stays the one it is
    #[arg(long, value_name = "PATH")]
    parent_hint: Option<String>,
    /// Virtual hardware version
    #[arg(long, value_name = "N")]
    hardware_version: Option<u32>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let resolver = args.input.resolver();
    let wanted = Edit {
        adapter: args.settings.adapter.clone(),
        uuid: args.settings.uuid,
        parent_hint: args.settings.parent_hint.clone(),
        hardware_version: args.settings.hardware_version,
        ..Edit::default()
    };
    let (format, plan) = edit::plan(&args.image, &args.input.options(&resolver), &wanted)?;
    for warning in &plan.warnings {
        ui.warn(&format!("{}: {warning}", args.image.display()));
    }
    if let Some(hint) = &wanted.parent_hint {
        child::warn_of_hint(&args.image, hint, ui)?;
    }
    let mut report = SetReport::of(args, format, &plan);
    if !args.dry_run && !plan.patches.is_empty() {
        ui.check_stop()?;
        let backups = patch::apply(&plan.patches)?;
        report.backups = backups.iter().map(|b| shown(b)).collect();
    }
    if args.dry_run {
        ui.print(&report)?;
    } else {
        ui.summary(&report)?;
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct SetReport {
    schema: u32,
    path: String,
    format: &'static str,
    changes: Vec<Changed>,
    patches: Vec<PatchReport>,
    dry_run: bool,
    backups: Vec<String>,
}

/// A setting that changes, as every text view shows it.
pub(super) fn shown_change(change: &Changed) -> String {
    let from = change.from.as_deref().unwrap_or("(not recorded)");
    let (from, to) = (printable(from), printable(&change.to));
    format!("{}: {from} -> {to}", change.setting)
}

#[derive(Serialize)]
struct PatchReport {
    file: String,
    /// Null for a file that is replaced as a whole.
    offset: Option<u64>,
    /// Bytes.
    length: u64,
}

impl SetReport {
    fn of(args: &Args, format: &'static str, plan: &Plan) -> Self {
        Self {
            schema: 1,
            path: shown(&args.image),
            format,
            changes: plan.changes.clone(),
            patches: plan.patches.iter().filter_map(PatchReport::of).collect(),
            dry_run: args.dry_run,
            backups: Vec::new(),
        }
    }
}

impl PatchReport {
    /// `None` for steps that no edit takes, and for those that write nothing.
    fn of(patch: &Patch) -> Option<Self> {
        let (offset, length) = match &patch.change {
            Change::Write { at, bytes } => (Some(*at), bytes.len() as u64),
            Change::Replace(bytes) => (None, bytes.len() as u64),
            Change::Copy { at, len, .. } => (Some(*at), *len),
            Change::Resize(_) | Change::Flush => return None,
        };
        Some(Self {
            file: shown(patch.file.path()),
            offset,
            length,
        })
    }
}

impl Report for SetReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let path = printable(&self.path);
        for change in &self.changes {
            writeln!(out, "{path}: {}", shown_change(change))?;
        }
        if self.changes.is_empty() {
            writeln!(out, "{path}: nothing to change")?;
        }
        if self.dry_run {
            for patch in &self.patches {
                let (file, length) = (printable(&patch.file), patch.length);
                match patch.offset {
                    Some(at) => {
                        writeln!(
                            out,
                            "would write {length} bytes at file offset {at:#x} of {file}"
                        )?;
                    }
                    None => writeln!(
                        out,
                        "would replace {file} with a new file of {length} bytes"
                    )?,
                }
            }
        }
        for backup in &self.backups {
            writeln!(out, "backup: {}", printable(backup))?;
        }
        Ok(())
    }
}
