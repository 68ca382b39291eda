//! `vdisk compact`: an image loses what it need not hold.

use crate::{
    args::{InputArgs, ids, shown},
    exit::Exit,
    interrupted::{FLAGS, InterruptedArgs},
    profile::now,
    size::{both, human},
    totals::TotalsReport,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Error, ErrorKind, Result,
    ops::compact::{self, Copied, Done, Target},
    printable,
    target::OutputOptions,
    transaction::Files,
};

/// Make an image smaller: drop what reads as zero or as its parent does
///
/// With -o a new image is written, in order: of the same format and variant, with the same parent
/// and the same identity, so that children of the image fit it too; it is compared with the image by
/// SHA-256 before it gets its name. With --in-place the image itself is changed; what that can win
/// depends on the format, and --dry-run says it.
///
/// Blocks that hold deleted files are not zero: zero free space in the guest first, such as with
/// sdelete -z or fstrim.
///
/// What is replaced in place is saved first in a journal NAME.vdisk-journal beside the image. A
/// change that fails is taken back. After one that was killed nothing opens the image until vdisk
/// compact --resume IMAGE finishes it or --undo IMAGE takes it back. No other program may have the
/// image open: vdisk notices only programs that lock it.
///
/// JSON: schema, image, format, unit_size, zero_size and same_size (of what is stored, what reads as
/// zero or as the parent does), needed_size, freed_size, moved_size, punched_size (given
/// back to the file system), kept_size (gaps that stay), written_size, saved_size (the journal),
/// grown_size, cut_size, dry_run. With -o: schema, image, output, format, subformat, virtual_size,
/// stored_before, stored_size, sha256. Of --resume and --undo: schema, image, operation, outcome.
#[derive(clap::Args)]
#[command(
    override_usage = "vdisk compact [OPTIONS] IMAGE -o FILE\n       vdisk compact [OPTIONS] IMAGE --in-place\n       vdisk compact --resume IMAGE\n       vdisk compact --undo IMAGE"
)]
pub(crate) struct Args {
    /// The image; the parents that it names are found
    #[arg(required_unless_present_any = FLAGS, conflicts_with_all = FLAGS)]
    image: Option<PathBuf>,
    /// Write a new image, and leave the old one
    #[arg(short, long, value_name = "FILE", conflicts_with_all = FLAGS)]
    output: Option<PathBuf>,
    /// Change the image itself
    #[arg(long, conflicts_with = "output", conflicts_with_all = FLAGS)]
    in_place: bool,
    /// Show what --in-place would do, and do nothing
    #[arg(long, conflicts_with = "output", conflicts_with_all = FLAGS)]
    dry_run: bool,
    /// Replace existing files
    #[arg(long, requires = "output", conflicts_with_all = ["in_place", "dry_run"])]
    force: bool,
    /// Do not wait until the new file is safely on the medium
    #[arg(long, requires = "output", conflicts_with_all = ["in_place", "dry_run"])]
    no_sync: bool,
    #[command(flatten)]
    interrupted: InterruptedArgs,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    if let Some(exit) = args.interrupted.run(&args.input, ui)? {
        return Ok(exit);
    }
    let Some(image) = &args.image else {
        return Ok(Exit::Failed); // clap asks for it
    };
    match &args.output {
        Some(output) => copy(args, image, output, ui)?,
        None if args.in_place || args.dry_run => in_place(args, image, ui)?,
        None => {
            let detail =
                "says not where to: -o FILE writes a new image, --in-place changes this one";
            return Err(Error::new(ErrorKind::Usage, "compact", detail).path(image));
        }
    }
    Ok(Exit::Done)
}

fn copy(args: &Args, image: &Path, output: &Path, ui: &mut Ui) -> Result<()> {
    let chain = args.input.open(image, ui)?;
    let options = OutputOptions {
        force: args.force,
        sync: !args.no_sync,
        inputs: ids(chain.files()),
    };
    let target = Target {
        path: output,
        options,
        created: now(),
    };
    let done = compact::copy(&chain, &target, &ui.job())?;
    for sentence in &done.lost {
        ui.warn(&format!("{}: {sentence}", output.display()));
    }
    ui.summary(&CopyReport::of(image, output, done))
}

fn in_place(args: &Args, image: &Path, ui: &mut Ui) -> Result<()> {
    args.input.open_metadata(image, ui)?;
    let resolver = args.input.resolver();
    let options = args.input.options(&resolver);
    let plan = compact::plan(image, &options)?;
    if args.dry_run {
        let would = plan.rehearse(&options, &ui.job())?;
        return ui.print(&CompactReport::of(image, &plan.format, would, true));
    }
    let done = plan.apply(&options, &Files, &ui.job())?;
    ui.summary(&CompactReport::of(image, &plan.format, done, false))
}

#[derive(Serialize)]
struct CompactReport {
    schema: u32,
    image: String,
    format: String,
    /// Bytes of the disk.
    unit_size: u64,
    zero_size: u64,
    same_size: u64,
    needed_size: u64,
    /// Bytes of the files.
    freed_size: u64,
    moved_size: u64,
    punched_size: u64,
    kept_size: u64,
    #[serde(flatten)]
    totals: TotalsReport,
    dry_run: bool,
}

impl CompactReport {
    fn of(image: &Path, format: &str, done: Done, dry_run: bool) -> Self {
        let files = done.compacted;
        Self {
            schema: 1,
            image: shown(image),
            format: format.to_owned(),
            unit_size: done.unit,
            zero_size: done.zero,
            same_size: done.same,
            needed_size: done.needed,
            freed_size: files.freed,
            moved_size: files.moved,
            punched_size: files.punched,
            kept_size: files.kept,
            totals: done.totals.into(),
            dry_run,
        }
    }
}

impl Report for CompactReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let image = printable(&self.image);
        let would = if self.dry_run { "would be " } else { "" };
        writeln!(
            out,
            "{image}: {}, in units of {}",
            self.format,
            human(self.unit_size)
        )?;
        let mut line = |what: &str, bytes: u64| match bytes {
            0 => Ok(()),
            bytes => writeln!(out, "  {what:<38} {}", both(bytes)),
        };
        line(&format!("{would}cut off the files:"), self.totals.cut_size)?;
        line(
            &format!("{would}given back to the file system:"),
            self.punched_size,
        )?;
        line("gaps that stay:", self.kept_size)?;
        line("stored, and reads as zero:", self.zero_size)?;
        line("stored, and reads as the parent does:", self.same_size)?;
        line("stored, and needed:", self.needed_size)?;
        if self.dry_run {
            line("to be moved:", self.moved_size)?;
            self.totals.planned(out)?;
            writeln!(
                out,
                "Units that hold deleted files are not zero: zero free space in the guest first (sdelete -z, fstrim)."
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct CopyReport {
    schema: u32,
    image: String,
    output: String,
    format: &'static str,
    subformat: &'static str,
    /// Bytes.
    virtual_size: u64,
    /// Bytes on the medium.
    stored_before: u64,
    stored_size: u64,
    sha256: String,
}

impl CopyReport {
    fn of(image: &Path, output: &Path, done: Copied) -> Self {
        Self {
            schema: 1,
            image: shown(image),
            output: shown(output),
            format: done.format,
            subformat: done.subformat,
            virtual_size: done.virtual_size,
            stored_before: done.stored_before,
            stored_size: done.stored,
            sha256: vdisk_core::ops::hash::hex(&done.sha256),
        }
    }
}

impl Report for CopyReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} -> {}: {} {}, {}, {} stored -> {}",
            printable(&self.image),
            printable(&self.output),
            self.format,
            self.subformat,
            human(self.virtual_size),
            human(self.stored_before),
            human(self.stored_size)
        )
    }
}
