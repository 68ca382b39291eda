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
    path::{Path, PathBuf},
};
use vdisk_core::{Result, open::split_path, ops::dedup, printable};
use vdisk_fingerprints::Folder;

/// Write fingerprints of images to a folder, for dedup-report --from
///
/// Each block becomes 16 bytes of its SHA-256: what the images hold cannot be read back, but blocks
/// can be compared, here or on another machine. Folders are searched for images. Images that
/// many others lie over are read once. What is in the folder already, of an image that did not change
/// since, is not read again; a run that was stopped is continued by running it again. Images that cannot
/// be read are named, and exit code 1 follows at the end; what an earlier run wrote of them stays.
///
/// The folder can be that of dedup-report --cache, and can be filled by several machines. Its files are
/// Parquet, one for each image and for each parent that several share; docs/fingerprints.md says what
/// is in them.
///
/// JSON: schema, folder, unit (size of a block), images (path, id, parent, image (false: only others lie
/// over it), file, action (read or unchanged), data_bytes, zero_bytes), gone (files of images that are
/// not there any more), errors (path, error), skipped (files in folders that are no images).
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
    let folder = Folder::open(&args.output, true)?;
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
        gone: gone(&args.output, ui)?,
        errors: farm.errors,
        skipped: farm.skipped,
    };
    for file in &report.gone {
        let sentence = "its image is not there any more; reports count it as long as the file is";
        ui.warn(&format!("{file}: {sentence}"));
    }
    ui.summary(&report)?;
    Ok(match report.errors.is_empty() {
        true => Exit::Done,
        false => Exit::Differs,
    })
}

/// The files of images of this machine that are not there any more.
fn gone(folder: &Path, ui: &Ui) -> Result<Vec<String>> {
    let host = Farm::host();
    let mut found = Vec::new();
    for (file, header) in Folder::open(folder, false)?.headers() {
        ui.check_stop()?;
        // What cannot be read is said by a report.
        let Ok(header) = header else { continue };
        let (image, _) = split_path(header.path.as_ref());
        let missing =
            matches!(image.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
        if header.image && header.host == host && missing {
            found.push(shown(file));
        }
    }
    Ok(found)
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
