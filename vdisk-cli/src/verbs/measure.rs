//! `vdisk measure`: how large an image would be.

use crate::{
    args::{InputArgs, format_parser, shown},
    exit::Exit,
    output::WriteArgs,
    profile::ProfileArgs,
    size::{self, both},
    ui::{Report, Ui},
};
use clap::ArgGroup;
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, Disk, ErrorKind, Format, Ids, ImageWriter, Result,
    ops::{Resized, measure},
    printable,
    target::FileSize,
};

/// Say how large a new image would be, without writing it
///
/// The disk is read as convert reads it, and the sizes are those of the files that it would write.
/// What is compressed is estimated: one unit of 64 is, but some hundreds at least, and the report
/// says how far the size may be off (twice the standard error); small disks are compressed whole,
/// and their sizes exact.
///
/// JSON: schema, input, format, subformat, virtual_size, added_size, file_size (of all files
/// together), stored_size (what is not holes; null if unknown), fully_allocated_size (of a full
/// disk; null if that depends on compression, or if none of that size can be full), exact, error_bytes, files (name, size, stored).
#[derive(clap::Args)]
#[command(group(
    ArgGroup::new("wanted").args(["format", "subformat", "output", "profile"]).required(true).multiple(true)
))]
pub(crate) struct Args {
    /// The image that would be copied; its parents are found and read
    #[arg(value_name = "IMAGE", required_unless_present = "size")]
    source: Option<PathBuf>,
    /// Instead of an image, an empty disk of this virtual size
    #[arg(short, long, value_name = "SIZE", conflicts_with = "source", value_parser = size::disk)]
    size: Option<u64>,
    /// The name that the new image would have, which some formats record
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    /// Format of the new image [default: by the ending of its name]
    #[arg(long, value_name = "FMT", value_parser = format_parser(true), help_heading = "Output options")]
    format: Option<&'static dyn Format>,
    /// Variant of the format, such as streamOptimized, fixed or dynamic
    #[arg(long, value_name = "NAME", help_heading = "Output options")]
    subformat: Option<String>,
    /// Compression level from 1 (fast) to 9 (small), for compressed subformats
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=9), help_heading = "Output options")]
    level: u32,
    #[command(flatten)]
    profile: ProfileArgs,
}

/// Files that are listed one by one; a disk of 64 TiB can have 32,768.
const LISTED: usize = 16;

/// What is written into an image of which only the sizes are kept.
type Fill<'a> = dyn Fn(Box<dyn ImageWriter + '_>) -> Result<Option<u64>> + 'a;

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let write = WriteArgs::to_measure(
        args.format,
        args.subformat.clone(),
        args.level,
        args.profile.clone(),
    );
    // Without a name, what can be told by one is told by the other flags.
    let path = args.output.as_deref();
    let shape = match write.planned(path)? {
        Some(shape) => shape,
        None => write.shape(Path::new("disk"), false)?,
    };
    let chain = match &args.source {
        Some(source) => Some(args.input.open(source, ui)?),
        None => None,
    };
    let disk = chain.as_ref().map(|c: &Chain| c as &dyn Disk);
    let old_size = disk.map_or(args.size.unwrap_or(0), Disk::size);
    let size = shape.fit(old_size, ui)?;
    let sector_size = disk.map_or(512, Disk::sector_size);
    let job = ui.job();
    let files = |fill: &Fill<'_>| {
        let (mut destination, counting) = write.rehearse(path.unwrap_or(Path::new("-")), shape)?;
        let writer = destination.writer(size, sector_size, Ids::random(0), None)?;
        fill(writer).map(|error| (error, counting.files()))
    };
    let (error, files_now) = files(&|writer| match disk {
        Some(disk) => measure::copy(&Resized::new(disk, size), writer, &job),
        None => writer.finish().map(|()| None),
    })?;
    let full = match files(&|writer| Ok(measure::fill(size, writer, &job)?.then_some(0))) {
        Ok((full, files)) => full.map(|_| total(&files)),
        // The disk fits as it is, but not full of data.
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        Err(error) => return Err(error),
    };
    ui.print(&MeasureReport {
        schema: 1,
        input: args.source.as_deref().map(shown),
        format: shape.format.name(),
        subformat: shape.subformat.name,
        virtual_size: size,
        added_size: size.saturating_sub(old_size),
        file_size: total(&files_now),
        stored_size: files_now.iter().map(|f| f.stored).sum(),
        fully_allocated_size: full,
        exact: error.is_none(),
        error_bytes: error.unwrap_or(0),
        files: files_now,
    })?;
    Ok(Exit::Done)
}

fn total(files: &[FileSize]) -> u64 {
    files.iter().map(|f| f.size).sum()
}

#[derive(Serialize)]
struct MeasureReport {
    schema: u32,
    /// Null for an empty disk.
    input: Option<String>,
    format: &'static str,
    subformat: &'static str,
    /// Bytes.
    virtual_size: u64,
    /// Bytes of zeros at the end that the disk does not have, as a profile wants it.
    added_size: u64,
    /// Bytes of all files.
    file_size: u64,
    /// Bytes of them that are not holes; null if they are too many to remember.
    stored_size: Option<u64>,
    /// Bytes of all files if the disk were full; null if that depends on compression, or if the
    /// format cannot hold that much.
    fully_allocated_size: Option<u64>,
    /// False for an estimate.
    exact: bool,
    /// How many bytes the estimate may be off.
    error_bytes: u64,
    files: Vec<FileSize>,
}

impl Report for MeasureReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "format:            {} {}", self.format, self.subformat)?;
        writeln!(out, "virtual size:      {}", both(self.virtual_size))?;
        let about = if self.exact { "" } else { "about " };
        write!(out, "file size:         {about}{}", both(self.file_size))?;
        match self.exact {
            true => writeln!(out)?,
            false => writeln!(out, ", give or take {}", both(self.error_bytes))?,
        }
        if let Some(stored) = self.stored_size {
            writeln!(out, "without holes:     {about}{}", both(stored))?;
        }
        if let Some(full) = self.fully_allocated_size {
            writeln!(out, "of a full disk:    {}", both(full))?;
        }
        if self.files.len() > 1 {
            for file in self.files.iter().take(LISTED) {
                writeln!(out, "  {}: {}", printable(&file.name), both(file.size))?;
            }
            if let more @ 1.. = self.files.len().saturating_sub(LISTED) {
                writeln!(out, "  and {more} more files")?;
            }
        }
        Ok(())
    }
}
