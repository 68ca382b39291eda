//! `vdisk clone`: a new disk that starts as another one and shares its blocks.

use crate::{
    args::{InputArgs, ids, shown},
    child,
    exit::Exit,
    output::{WriteArgs, Written},
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::{Result, printable};

/// Make a new disk that starts as a copy of another, without copying
///
/// The new image is a child that holds only what will be written to it; the parent, which must not
/// change from then on, is never written to. A VMDK can have VMDK children, a VHDX VHDX children, a
/// VHD or a raw disk VHD children. The child names its parent relative to its own folder.
///
/// JSON: schema, parent, full, output, format, subformat, virtual_size, added_size, stored_size,
/// identity.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image to start from; its own parents must be there
    #[arg(value_name = "PARENT")]
    source: PathBuf,
    /// The new image
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Copy everything: the new image needs no parent
    #[arg(long)]
    full: bool,
    /// Record the absolute path of the parent: besides the relative one in VHD and VHDX, instead of it in VMDK
    #[arg(long, conflicts_with = "full")]
    absolute_parent: bool,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let shape = args.write.shape(&args.output, !args.full)?;
    let parent = args.input.open(&args.source, ui)?;
    if !args.full {
        child::check(&parent, shape)?;
    }
    let destination = args
        .write
        .begin(&args.output, shape, ids(parent.files()), ui)?;
    let written = if args.full {
        args.write.copy(&parent, destination, ui)?
    } else {
        let place = child::place(&parent, &args.output, args.absolute_parent, ui)?;
        child::write(&args.write, &parent, None, place, destination, ui)?.0
    };
    ui.summary(&CloneReport {
        schema: 1,
        parent: shown(&args.source),
        full: args.full,
        written,
    })?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct CloneReport {
    schema: u32,
    parent: String,
    /// True for a copy that needs no parent.
    full: bool,
    #[serde(flatten)]
    written: Written,
}

impl Report for CloneReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let how = if self.full { "full copy" } else { "child" };
        write!(out, "{how} of {} -> ", printable(&self.parent))?;
        self.written.text(out)
    }
}
