//! `vdisk hash`: the contents of a disk as one number, whatever format holds them.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::{Disk, Result, ops::hash, printable};

/// Print the SHA-256 of what a disk reads as
///
/// The result is that of sha256sum on the disk converted to raw, so images of different formats
/// with the same contents have the same hash. Holes are not read.
///
/// JSON: schema, path, sha256, virtual_size.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image; its parents are found and read
    image: PathBuf,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let chain = args.input.open(&args.image, ui)?;
    let digest = hash::digest(&chain, &ui.job())?;
    ui.print(&HashReport {
        schema: 1,
        path: shown(&args.image),
        sha256: hash::hex(&digest),
        virtual_size: chain.size(),
    })?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct HashReport {
    schema: u32,
    path: String,
    sha256: String,
    /// Bytes.
    virtual_size: u64,
}

impl Report for HashReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}  {}", self.sha256, printable(&self.path))
    }
}
