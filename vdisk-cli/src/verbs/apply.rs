//! `vdisk apply`: a delta and the disk that it was made from give the other disk.

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
use vdisk_core::{
    Disk, OpenOptions, Result, open_layer,
    ops::{
        delta::{self, Delta},
        hash,
    },
    printable,
};

/// Make the new disk out of the old one and a delta that diff --delta wrote
///
/// The base must read as the disk that the delta was made from, in whatever format with sectors of
/// 512 bytes: size and SHA-256 are compared first, and another base is refused with exit code 3. What
/// was written is compared with the recorded SHA-256 before it appears; a damaged delta ends with exit code 4.
///
/// JSON: schema, delta, onto, base_sha256, sha256, output, format, subformat, virtual_size,
/// added_size, stored_size, identity.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The delta
    delta: PathBuf,
    /// The disk that the delta was made from; its parents are found and read
    #[arg(long, value_name = "A")]
    onto: PathBuf,
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
    let resolver = args.input.resolver();
    let options = OpenOptions {
        format: None, // that of the base may have been named
        ..args.input.options(&resolver)
    };
    let layer = open_layer(&args.delta, &options)?;
    let delta = Delta::of(&layer)?;
    let base = args.input.open(&args.onto, ui)?;
    let mut inputs = ids(base.files());
    inputs.extend(layer.file_id());
    let destination = args.write.begin(&args.output, shape, inputs, ui)?;
    delta.check_base(&base, &ui.job())?;
    let disk = delta::onto(layer, &base)?;
    let check = |disk: &dyn Disk| {
        delta
            .check_result(disk, &ui.job())
            .map_err(|e| e.path(&args.delta))
    };
    let written = args.write.copy_checked(&disk, destination, &check, ui)?;
    ui.summary(&ApplyReport {
        schema: 1,
        delta: shown(&args.delta),
        onto: shown(&args.onto),
        base_sha256: hash::hex(&delta.base.sha256),
        sha256: hash::hex(&delta.result.sha256),
        written,
    })?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct ApplyReport {
    schema: u32,
    delta: String,
    onto: String,
    base_sha256: String,
    sha256: String,
    #[serde(flatten)]
    written: Written,
}

impl Report for ApplyReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (delta, onto) = (printable(&self.delta), printable(&self.onto));
        write!(out, "{delta} onto {onto} -> ")?;
        self.written.text(out)
    }
}
