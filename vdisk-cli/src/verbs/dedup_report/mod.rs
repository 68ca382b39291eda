//! `vdisk dedup-report`: what a set of images has more than once.

mod html;
mod report;

use crate::{args::InputArgs, exit::Exit, size, ui::Ui};
use std::path::PathBuf;
use vdisk_core::Result;

/// Count how much of a set of disks is there more than once
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Images, and folders to search for images
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Size of the blocks that are compared: a multiple of 512 bytes, up to 16M
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = size::parse)]
    block_size: u64,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let _ = (args, ui);
    todo!("report")
}
