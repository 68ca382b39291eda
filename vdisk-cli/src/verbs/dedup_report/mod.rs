//! `vdisk dedup-report`: what a set of images has more than once, whose it is, and what could be
//! done about it.

mod align;
mod clusters;
mod commands;
mod csv;
mod figures;
mod groups;
mod html;
mod pairs;
pub(crate) mod report;
#[cfg(test)]
mod tests;
mod text;
mod wishes;

use crate::{
    args::{InputArgs, folder_parser, shown},
    exit::Exit,
    farm::{Farm, Reading},
    output::is_stdout,
    size::{self, human},
    ui::Ui,
};
use figures::Counted;
use groups::{GroupBy, Groups};
use report::FarmReport;
use std::{
    fs,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Error, ErrorKind, Result, format,
    ops::dedup::{self, Count, LEAST_MEMORY, Options, Outcome},
    storage::FileId,
    target::{Output, OutputOptions, Target},
};

/// Count how much of a set of disks is there more than once
///
/// Blocks are cut from what the guests see, so formats and chains do not hide duplicates; what many
/// images share through one file is read once, and zeros are not read. Folders are searched for images;
/// extents of other images and files that are no images are left out, and a file reached twice is
/// counted once. Of a package (OVA, OVF) every disk is counted, or the one named by PACKAGE::NAME.
/// Images that cannot be read are named, the figures are about the others, and exit code 1 follows
/// at the end.
///
/// Each image has data; its distinct blocks are that without repetitions; of those, the exclusive
/// ones are in no other image, so deleting it would free them; the rest is shared.
///
/// JSON and the other outputs are described in docs/dedup-report.md: schema, complete, block_size,
/// images, groups, total, pairs, clusters, references, sweep, chunks, misaligned, alignment,
/// compression, guarantee, errors, skipped, method; sizes are bytes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Images, and folders to search for images
    #[arg(
        required_unless_present = "from",
        conflicts_with = "from",
        value_name = "PATH"
    )]
    paths: Vec<PathBuf>,
    /// Report on the fingerprints in this folder, as vdisk fingerprint or --cache left them, instead of
    /// images (repeatable)
    #[arg(long, value_name = "DIR", value_parser = folder_parser())]
    from: Vec<PathBuf>,
    /// Size of the blocks that are compared: a multiple of 512 bytes, up to 16M
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = size::parse)]
    block_size: u64,
    /// Most memory for counting, at least 8M; what does not fit goes to temporary files
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size::parse)]
    memory: u64,
    /// Where temporary files go [default: the system's temporary folder]
    #[arg(long, value_name = "DIR", value_parser = folder_parser())]
    temp: Option<PathBuf>,
    /// Keep fingerprints in this folder: images that did not change are not read again
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    cache: Option<PathBuf>,
    /// Report on groups of images too: by 'folder', or by what {group} stands for in names such as
    /// 'desk-{group}-*.vmdk'
    #[arg(long, value_name = "folder|PATTERN", value_parser = GroupBy::parse)]
    group_by: Option<GroupBy>,
    /// Count with blocks of 4K, 8K, 16K, 32K, 64K, 128K, 1M and 4M too
    #[arg(long)]
    sweep: bool,
    /// Count chunks whose ends follow from the contents too, 64K on average: a power of two from 4K
    /// to 1M
    #[arg(
        long,
        value_name = "AVERAGE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "64K",
        value_parser = wishes::chunk,
        conflicts_with = "from"
    )]
    cdc: Option<u32>,
    /// Where partitions do not start at a multiple of the block size, count again from their starts
    #[arg(long, conflicts_with = "from")]
    alignment: bool,
    /// Exit with 3 if less than this part of the data is duplicates; of a sample, if that is not sure
    #[arg(long, value_name = "PERCENT", value_parser = wishes::percent)]
    guarantee: Option<f64>,
    /// Count one block in N only, chosen by contents: an estimate with its error. A power of two up
    /// to 65536
    #[arg(long, value_name = "1/N", default_value = "1/1", hide_default_value = true, value_parser = wishes::sample)]
    sample: u32,
    /// Also write the images to this file, as comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Also write a page with charts to this file: one file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Replace existing report files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    args.check()?;
    let mut farm = args.farm(ui)?;
    args.check_unit(&farm)?;
    args.check_outputs(&farm)?;
    let groups = Groups::of(&farm, args.group_by.as_ref());
    if groups.fit_none() {
        ui.warn("--group-by: no image has a name that fits the pattern");
    }
    let options = args.options(&farm, &groups);
    let outcome = count(args, &mut farm, options, ui)?;
    let counted = Counted {
        farm: &farm,
        outcome: &outcome,
        groups: &groups,
        block_size: args.block_size,
        memory: args.memory,
        chunk: args.cdc,
        sweep: args.sweep,
        guarantee: args.guarantee,
    };
    let mut report = counted.report();
    report.clusters = commands::clusters(&farm, &outcome, args.from.is_empty());
    if args.alignment {
        drop(outcome);
        align::align(args, &farm, &mut report, ui)?;
    }
    report.errors_seen = ui.warnings_seen();
    report.method.paths = args
        .paths
        .iter()
        .chain(&args.from)
        .map(|p| shown(p))
        .collect();
    ui.print(&report)?;
    // The longest work is done and shown: only now can a full disk spoil something.
    args.write_files(&farm, &report)?;
    Ok(report.exit())
}

/// Reads all images of `farm`, and counts.
fn count(args: &Args, farm: &mut Farm, options: Options, ui: &Ui) -> Result<Outcome> {
    let mut count = Count::new(&farm.nodes, options)?;
    let how = Reading {
        cache: args.cache.as_deref(),
        chunks: args.cdc,
    };
    farm.read(&mut count, &how, &args.input, ui)?;
    count.finish(&ui.job())
}

impl Args {
    /// All that can be refused before anything is read.
    fn check(&self) -> Result<()> {
        let unit = dedup::unit_of(self.block_size)?;
        if self.memory < LEAST_MEMORY {
            let detail = format!(
                "{} is too little: at least {}",
                human(self.memory),
                human(LEAST_MEMORY)
            );
            return Err(Error::new(ErrorKind::Usage, "--memory", detail));
        }
        if self.sweep && self.from.is_empty() {
            wishes::check_sweep(self.block_size, unit)?;
        }
        if self.cdc.is_some() {
            self.paths
                .iter()
                .try_for_each(|path| wishes::no_size(path))?;
        }
        let usage = |path: &Path, detail: &str| {
            Err(Error::new(ErrorKind::Usage, "output", detail).path(path))
        };
        if let (Some(csv), Some(html)) = (&self.csv, &self.html)
            && csv == html
        {
            return usage(csv, "is to be both CSV and a page");
        }
        self.outputs().try_for_each(|path| {
            if is_stdout(path) {
                return usage(path, "is not a file name; standard output has the report");
            }
            if format::by_extension(path).is_some() {
                return usage(path, "has the ending of an image");
            }
            Output::check(path, &self.output_options(None))
        })
    }

    /// What can be refused before contents are read: reports in the place of a parent, or of a part
    /// of an image.
    fn check_outputs(&self, farm: &Farm) -> Result<()> {
        let options = self.output_options(Some(farm));
        self.outputs()
            .try_for_each(|path| Output::check(path, &options))
    }

    /// The images to report on.
    fn farm(&self, ui: &Ui) -> Result<Farm> {
        match self.from.is_empty() {
            true => Farm::find(
                &self.paths,
                dedup::unit_of(self.block_size)?,
                &self.input,
                ui,
            ),
            false => Farm::load(&self.from, ui),
        }
    }

    /// Fingerprints that were kept are of one size.
    fn check_unit(&self, farm: &Farm) -> Result<()> {
        if !farm.images.is_empty() && self.block_size.checked_rem(farm.unit) != Some(0) {
            let detail = format!(
                "the fingerprints are of blocks of {}, and {} is no multiple of that",
                human(farm.unit),
                human(self.block_size)
            );
            return Err(Error::new(ErrorKind::Usage, "block size", detail));
        }
        match self.sweep {
            true => wishes::check_sweep(self.block_size, farm.unit),
            false => Ok(()),
        }
    }

    fn options(&self, farm: &Farm, groups: &Groups) -> Options {
        Options {
            unit: farm.unit,
            block: self.block_size,
            sizes: match self.sweep {
                true => wishes::SWEEP.to_vec(),
                false => Vec::new(),
            },
            memory: self.memory,
            temp: self.temp.clone().unwrap_or_else(std::env::temp_dir),
            sample_bits: self.sample,
            groups: groups.of_nodes.clone(),
            places: true,
        }
    }

    /// The files to write.
    fn outputs(&self) -> impl Iterator<Item = &Path> {
        let files = self.csv.iter().chain(&self.html);
        files.map(PathBuf::as_path)
    }

    fn output_options(&self, farm: Option<&Farm>) -> OutputOptions {
        let found = farm.into_iter().flat_map(Farm::inputs);
        let inputs = self.paths.iter().map(PathBuf::as_path).chain(found);
        OutputOptions {
            force: self.force,
            inputs: inputs
                .filter_map(|path| fs::metadata(path).ok())
                .map(|metadata| FileId::of(&metadata))
                .collect(),
            ..OutputOptions::default()
        }
    }

    /// Writes the report files, each whole or not at all.
    fn write_files(&self, farm: &Farm, report: &FarmReport) -> Result<()> {
        let write = |path: &Path, bytes: &[u8]| {
            let mut output = Output::create(path, self.output_options(Some(farm)))?;
            output.write_at(0, bytes)?;
            output.publish()
        };
        if let Some(path) = &self.csv {
            write(path, &csv::table(report)?)?;
        }
        if let Some(path) = &self.html {
            write(path, html::page(report).as_bytes())?;
        }
        Ok(())
    }
}

impl FarmReport {
    /// A guarantee that is not met counts more than an image that could not be read; what could not be read
    /// counts more than a guarantee that the others meet.
    fn exit(&self) -> Exit {
        match &self.guarantee {
            Some(guarantee) if !guarantee.met => Exit::Refused,
            _ if !self.complete => Exit::Differs,
            _ => Exit::Done,
        }
    }
}
