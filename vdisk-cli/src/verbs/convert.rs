//! `vdisk convert`: one disk, another format.

use crate::{
    args::{InputArgs, ids, shown},
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

/// Copy a disk into a new image of another format
///
/// A chain is flattened: the new image needs no parent. Holes are not read and zeros are not
/// written. The new file appears when it is complete, or not at all.
///
/// JSON: schema, input, output, format, subformat, virtual_size, added_size, stored_size, identity.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image to copy; its parents are found and read
    #[arg(value_name = "IMAGE")]
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
    let destination = args
        .write
        .begin(&args.output, shape, ids(chain.files()), ui)?;
    let written = args.write.copy(&chain, destination, ui)?;
    ui.summary(&ConvertReport {
        schema: 1,
        input: shown(&args.source),
        written,
    })?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
pub(super) struct ConvertReport {
    pub(super) schema: u32,
    pub(super) input: String,
    #[serde(flatten)]
    pub(super) written: Written,
}

impl Report for ConvertReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{} -> ", printable(&self.input))?;
        self.written.text(out)
    }
}
