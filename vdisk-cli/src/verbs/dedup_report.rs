//! `vdisk dedup-report`: what a set of images has more than once.
//!
//! Two passes: the first opens each file to learn what is an image and what is only an extent of
//! one, the second reads. Between them nothing is kept open, so a thousand images can be scanned.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    size::{self, human},
    ui::{Report, Ui},
};
use comfy_table::{CellAlignment, Table, TableStyle};
use serde::Serialize;
use std::{
    collections::HashSet,
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, Error, ErrorKind, FileResolver, OpenOptions, Result, format, open_layer,
    ops::dedup::{Counts, Scan},
    printable,
    storage::{Access, FileId, ImageFile},
};
use walkdir::WalkDir;

/// Count how much of a set of disks is there more than once
///
/// Blocks are cut from what the guests see, so formats and chains do not hide duplicates. Folders
/// are searched for images; extents of other images and files that are no images are left out, and
/// a file reached twice is counted once. Images that cannot be read are named, and exit code 1
/// follows at the end. Takes about 50 bytes of memory for each distinct block.
///
/// JSON: schema, block_size, images (path and counts), total (counts), errors (path, error),
/// skipped (files in folders that are no images). Counts, in bytes: total_bytes, allocated_bytes
/// (on the medium: of an image without its parents, in the total with them, each file once), zero_bytes, data_bytes, unique_bytes, duplicate_bytes; and saving_percent,
/// duplicate of data.
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
    let mut scan = Scan::new(args.block_size)?;
    let resolver = args.input.resolver();
    let mut report = DedupReport {
        schema: 1,
        block_size: args.block_size,
        images: Vec::new(),
        total: Sums::default(),
        errors: Vec::new(),
        skipped: 0,
        first_error: None,
    };
    let candidates = candidates(args, &mut report, ui)?;
    let mut counted = HashSet::new();
    let mut allocated_total = 0;
    for candidate in images(candidates, args, &resolver, &mut report, ui)? {
        let options = candidate.options(args, &resolver);
        let outcome = vdisk_core::open(&candidate.path, &options)
            .and_then(|chain| Ok((scan.add(&chain, &ui.job())?, chain)));
        match outcome {
            Ok((counts, chain)) => {
                let allocated = allocated(&chain);
                allocated_total += new_allocated(&chain, &mut counted);
                report.images.push(ImageSums {
                    path: shown(&candidate.path),
                    sums: Sums::of(counts, allocated),
                });
            }
            Err(error) => report.failed(&candidate.path, error, ui)?,
        }
    }
    report.total = Sums::of(scan.total(), allocated_total);
    ui.print(&report)?;
    match report.first_error {
        None => Ok(Exit::Done),
        Some(_) if !report.images.is_empty() => Ok(Exit::Differs),
        Some(error) => Err(error), // no image could be read at all
    }
}

/// A file that may be an image.
struct Candidate {
    path: PathBuf,
    id: Option<FileId>,
    /// On the command line: it is an image, whatever it looks like.
    named: bool,
}

impl Candidate {
    fn options<'a>(&self, args: &Args, resolver: &'a FileResolver) -> OpenOptions<'a> {
        let options = args.input.options(resolver);
        OpenOptions {
            format: options.format.filter(|_| self.named),
            ..options
        }
    }
}

/// All files on the command line and in the folders there, each once, in a fixed order.
fn candidates(args: &Args, report: &mut DedupReport, ui: &Ui) -> Result<Vec<Candidate>> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut seen = HashSet::new();
    // Named files first: they keep the name and the role that the user gave them.
    let (folders, files): (Vec<_>, Vec<_>) = args.paths.iter().partition(|p| p.is_dir());
    let mut add = |path: PathBuf, named: bool, report: &mut DedupReport| {
        match ImageFile::open(&path, Access::Positioned).map(|file| file.tag.id) {
            Ok(id) if id.is_none_or(|id| seen.insert(id)) => {
                found.push(Candidate { path, id, named });
            }
            Ok(_) => {}
            Err(error) => report.failed(&path, error, ui)?,
        }
        Ok::<(), Error>(())
    };
    for file in files {
        add(file.clone(), true, report)?;
    }
    for folder in folders {
        for entry in WalkDir::new(folder).sort_by_file_name() {
            ui.check_stop()?;
            match entry {
                Ok(entry) if entry.file_type().is_file() => add(entry.into_path(), false, report)?,
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_owned();
                    report.failed(&path, Error::io("open", error.into()), ui)?;
                }
            }
        }
    }
    Ok(found)
}

/// The images among the candidates. Notes those that should be images, but cannot be opened.
fn images(
    candidates: Vec<Candidate>,
    args: &Args,
    resolver: &FileResolver,
    report: &mut DedupReport,
    ui: &Ui,
) -> Result<Vec<Candidate>> {
    let mut extents = HashSet::new();
    let mut opened = Vec::new();
    for candidate in candidates {
        ui.check_stop()?;
        let options = OpenOptions {
            verify: false, // the second pass does
            ..candidate.options(args, resolver)
        };
        let layer = open_layer(&candidate.path, &options);
        if let Ok(layer) = &layer {
            extents.extend(layer.files().iter().skip(1).filter_map(|f| f.tag.id));
        }
        opened.push((candidate, layer.err()));
    }
    let mut found = Vec::new();
    for (candidate, error) in opened {
        let extent = candidate.id.is_some_and(|id| extents.contains(&id));
        match error {
            _ if extent && !candidate.named => report.skipped += 1,
            Some(error) if !candidate.named && is_no_image(&candidate.path, &error) => {
                report.skipped += 1;
            }
            Some(error) => report.failed(&candidate.path, error, ui)?,
            None => found.push(candidate),
        }
    }
    Ok(found)
}

/// True if `error` means that the file, found in a folder, is something else than an image.
fn is_no_image(path: &Path, error: &Error) -> bool {
    let foreign = matches!(
        error.kind(),
        ErrorKind::WrongFormat | ErrorKind::Unsupported
    ) && error.part() == "format";
    foreign && format::by_extension(path).is_none()
}

/// Bytes on the medium of the image itself, without its parents.
fn allocated(chain: &Chain) -> u64 {
    chain.top().files().iter().map(|f| f.tag.allocated).sum()
}

/// The same with its parents, but without files that were counted for another image.
fn new_allocated(chain: &Chain, counted: &mut HashSet<FileId>) -> u64 {
    chain
        .files()
        .filter(|f| f.tag.id.is_none_or(|id| counted.insert(id)))
        .map(|f| f.tag.allocated)
        .sum()
}

#[derive(Serialize)]
struct DedupReport {
    schema: u32,
    block_size: u64,
    images: Vec<ImageSums>,
    total: Sums,
    errors: Vec<Trouble>,
    skipped: u64,
    /// The first of the errors, for the case that there is nothing else.
    #[serde(skip)]
    first_error: Option<Error>,
}

#[derive(Serialize)]
struct ImageSums {
    path: String,
    #[serde(flatten)]
    sums: Sums,
}

#[derive(Serialize, Default)]
struct Sums {
    total_bytes: u64,
    /// On the medium: of an image without its parents; in the total with them, each file once.
    allocated_bytes: u64,
    zero_bytes: u64,
    data_bytes: u64,
    unique_bytes: u64,
    duplicate_bytes: u64,
    saving_percent: f64,
}

#[derive(Serialize)]
struct Trouble {
    path: String,
    error: String,
}

impl DedupReport {
    /// Notes an image that cannot be read, and goes on; a wish to stop ends the scan.
    fn failed(&mut self, path: &Path, error: Error, ui: &Ui) -> Result<()> {
        if error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        ui.warn(&format!("left out: {error}"));
        self.errors.push(Trouble {
            path: shown(path),
            error: error.to_string(),
        });
        self.first_error.get_or_insert(error);
        Ok(())
    }
}

impl Sums {
    fn of(counts: Counts, allocated: u64) -> Self {
        Self {
            total_bytes: counts.total,
            allocated_bytes: allocated,
            zero_bytes: counts.zero,
            data_bytes: counts.data,
            unique_bytes: counts.unique,
            duplicate_bytes: counts.duplicate,
            saving_percent: match counts.data {
                0 => 0.0,
                data => counts.duplicate as f64 / data as f64 * 100.0,
            },
        }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let mut row = vec![printable(name).into_owned()];
        row.extend(
            [
                self.total_bytes,
                self.allocated_bytes,
                self.zero_bytes,
                self.data_bytes,
                self.unique_bytes,
                self.duplicate_bytes,
            ]
            .map(human),
        );
        row.push(format!("{:.1} %", self.saving_percent));
        row
    }
}

impl Report for DedupReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(TableStyle::new()).set_header([
            "image",
            "size",
            "stored",
            "zero",
            "data",
            "unique",
            "duplicate",
            "saving",
        ]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for image in &self.images {
            table.add_row(image.sums.row(&image.path));
        }
        table.add_row(self.total.row("total"));
        writeln!(out, "{}", table.trim_fmt())?;
        writeln!(
            out,
            "{} images, blocks of {}; {} other files skipped, {} images not readable",
            self.images.len(),
            human(self.block_size),
            self.skipped,
            self.errors.len()
        )
    }
}
