//! `vdisk fingerprint`: images as fingerprints, to be reported on elsewhere and later.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    farm::{Action, Farm, Trouble},
    size::{self, human},
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::{Result, ops::dedup, printable};

/// Write fingerprints of images to a folder, for dedup-report --from
///
/// Each block becomes 16 bytes of its SHA-256: what the images hold cannot be read back, but blocks
/// can be compared, here or on another machine. Folders are searched for images. Images that
/// many others lie over are read once. What is in the folder already, of an image that did not change
/// since, is not read again, unless it is damaged; a run that was stopped is continued by running it again. Images that cannot
/// be read are named, and exit code 1 follows at the end; what an earlier run wrote of them stays.
///
/// The folder can be that of dedup-report --cache, and can be filled by several machines, with blocks
/// of one size; storage that they share is fingerprinted from one of them. Its files are
/// Parquet, one for each image and for each parent that several share; docs/fingerprints.md says what
/// is in them.
///
/// JSON: schema, folder, unit (size of a block), images (path, id, parent, image (false: only others lie
/// over it), file, action (read or unchanged), data_bytes, zero_bytes), gone (files of images that are
/// not there any more), errors (path, error), skipped (files in folders that are
/// no images, and links there, which are not followed).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Images, and folders to search for images
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The folder; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Size of the blocks of the reports to come: a multiple of 512 bytes, up to 16M. Reports on any multiple
    /// of 4K need 4K
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = size::parse)]
    block_size: u64,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let unit = dedup::unit_of(args.block_size)?;
    let folder = Farm::folder(&args.output, unit, ui)?;
    let mut farm = Farm::find(&args.paths, unit, &args.input, ui)?;
    let mut images = Vec::new();
    farm.keep(folder, &args.input, ui, &mut |kept| {
        images.push(Fingerprinted {
            path: kept.header.path,
            id: kept.header.id,
            parent: kept.header.parent,
            image: kept.header.image,
            file: shown(&kept.file),
            action: kept.action,
            data_bytes: kept.header.data,
            zero_bytes: kept.header.zero,
        });
    })?;
    let report = FingerprintReport {
        schema: 1,
        folder: shown(&args.output),
        unit,
        images,
        gone: Farm::gone(&args.output, ui)?,
        errors: farm.errors,
        skipped: farm.skipped,
    };
    ui.summary(&report)?;
    Ok(match report.errors.is_empty() {
        true => Exit::Done,
        false => Exit::Differs,
    })
}

#[derive(Serialize)]
struct FingerprintReport {
    schema: u32,
    folder: String,
    unit: u64,
    images: Vec<Fingerprinted>,
    gone: Vec<String>,
    errors: Vec<Trouble>,
    skipped: u64,
}

#[derive(Serialize)]
struct Fingerprinted {
    path: String,
    id: String,
    parent: Option<String>,
    image: bool,
    file: String,
    action: Action,
    data_bytes: u64,
    zero_bytes: u64,
}

impl Report for FingerprintReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for image in &self.images {
            let action = match image.action {
                Action::Read => "read",
                Action::Unchanged => "unchanged",
            };
            let role = if image.image { "" } else { ", a parent" };
            let (path, data) = (printable(&image.path), human(image.data_bytes));
            writeln!(out, "{path}: {action}, {data} of data{role}")?;
        }
        let images = self.images.iter().filter(|i| i.image).count();
        writeln!(
            out,
            "{}: {images} images, blocks of {}; {} other files skipped, {} images not readable",
            printable(&self.folder),
            human(self.unit),
            self.skipped,
            self.errors.len()
        )
    }
}
