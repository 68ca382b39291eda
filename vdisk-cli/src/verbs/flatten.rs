//! `vdisk flatten`: a chain as one image without a parent.

use super::convert::ConvertReport;
use crate::{
    args::{InputArgs, ids, shown},
    exit::Exit,
    output::WriteArgs,
    ui::Ui,
};
use std::path::PathBuf;
use vdisk_core::Result;

/// Copy a child and all its parents into one image that needs none of them
///
/// Reads as the child does. The layers stay as they are; to fold a child into its parent instead,
/// use commit.
///
/// JSON: schema, input, output, format, subformat, virtual_size, added_size, stored_size, identity.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The topmost layer; its parents are found and read
    #[arg(value_name = "CHILD")]
    source: PathBuf,
    /// The new image; - is standard output, for subformats that can be written in order
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let shape = args.write.shape(&args.output, false)?;
    let chain = args.input.open(&args.source, ui)?;
    if chain.layers().len() == 1 {
        ui.warn(&format!(
            "{}: has no parent; this makes a plain copy",
            args.source.display()
        ));
    }
    let inputs = ids(chain.files());
    let destination = args.write.begin(&args.output, shape, inputs, ui)?;
    let written = args.write.copy(&chain, destination, ui)?;
    ui.summary(&ConvertReport {
        schema: 1,
        input: shown(&args.source),
        written,
    })?;
    Ok(Exit::Done)
}
