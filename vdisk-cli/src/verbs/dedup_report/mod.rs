//! `vdisk dedup-report`: what a set of images has more than once.
//!
//! Two passes: the first opens each file to learn what is an image and what is only an extent of
//! one, the second reads. Between them nothing is kept open, so a thousand images can be scanned.

mod candidates;

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    size::{self, human},
    ui::{Report, Ui},
};
use candidates::{Place, candidates, images};
use comfy_table::{CellAlignment, Table, TableStyle};
use serde::Serialize;
use std::{
    collections::HashSet,
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, Error, ErrorKind, Result,
    ops::dedup::{Counts, Scan},
    printable,
};

/// Count how much of a set of disks is there more than once
///
/// Blocks are cut from what the guests see, so formats and chains do not hide duplicates. Folders
/// are searched for images; extents of other images and files that are no images are left out, and
/// a file reached twice is counted once. Of a package (OVA, OVF) every disk is counted, or the one
/// named by PACKAGE::NAME. Images that cannot be read are named, and exit code 1 follows at the
/// end. Takes about 50 bytes of memory for each distinct block.
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
    Ok(match report.errors.is_empty() {
        true => Exit::Done,
        false => Exit::Differs,
    })
}

/// Bytes on the medium of the image itself, without its parents.
fn allocated(chain: &Chain) -> u64 {
    chain.top().stored_size()
}

/// The same with its parents, but without files that were counted for another image.
fn new_allocated(chain: &Chain, counted: &mut HashSet<Place>) -> u64 {
    chain
        .files()
        .filter(|f| Place::of(f).is_none_or(|place| counted.insert(place)))
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

impl DedupReport {
    fn table(&self) -> Table {
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
        table
    }
}

impl Report for DedupReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.images.is_empty() {
            writeln!(out, "{}", self.table().trim_fmt())?;
        }
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
