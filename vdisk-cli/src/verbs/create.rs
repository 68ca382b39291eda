//! `vdisk create`: an empty disk.

use crate::{
    exit::Exit,
    output::{WriteArgs, Written},
    size,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::Result;

/// Create an empty disk
///
/// All of it reads as zero; the file is small unless the subformat needs every byte.
///
/// JSON: schema, output, format, subformat, virtual_size, added_size, stored_size, identity.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The new image; - is standard output, for subformats that can be written in order
    output: PathBuf,
    /// Virtual size: bytes, or a number with K, M, G or T; a multiple of 512 bytes
    #[arg(short, long, value_parser = size::disk)]
    size: u64,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let shape = args.write.shape(&args.output, false)?;
    let fitted = shape.fit(args.size, ui);
    let size = fitted.map_err(|e| e.path(&args.output))?;
    let mut destination = args.write.begin(&args.output, shape, Vec::new(), ui)?;
    // The size says all about the contents: no need to hash terabytes of zeros.
    let ids = args.write.ids(shape, None, || {
        let mut contents = [0; 32];
        let (bytes, _) = contents.split_at_mut(8);
        bytes.copy_from_slice(&size.to_le_bytes());
        Ok(contents)
    })?;
    destination.writer(size, 512, ids, None)?.finish()?;
    ui.summary(&CreateReport {
        schema: 1,
        written: destination.publish(size, ui)?.grown_from(args.size),
    })?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct CreateReport {
    schema: u32,
    #[serde(flatten)]
    written: Written,
}

impl Report for CreateReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.written.text(out)
    }
}
