//! `vdisk diff`: where two disks differ, or the difference as an image.

use crate::{
    args::{InputArgs, ids, shown},
    child,
    exit::Exit,
    output::{Destination, WriteArgs, Written},
    size::both,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, Disk, Result,
    ops::{self, delta::Delta, diff, hash},
    printable,
};

/// Ranges that a report lists.
const LISTED: usize = 1_000_000;

/// Compare what two disks read as
///
/// Prints the ranges that differ, start and length in bytes, and a summary; exits 1 if the disks
/// differ. Formats do not matter, and blocks that both take from the same place are not read.
/// The shorter of two disks is compared as if zeros followed, but other sizes count as differing.
/// With --quiet only the exit code tells.
///
/// With -o, writes a child of A that reads as B instead: apply it by using it. Exits 0. A VMDK can
/// have VMDK children, a VHDX VHDX children, a VHD or a raw disk VHD children.
///
/// With --delta, that is one compressed file that carries the SHA-256 of both: apply makes B out of
/// it and A, and refuses anything else. A and B may then be of any formats. A delta is a VMDK; other
/// programs than vdisk may not find its parent.
///
/// JSON: schema, a, b, a_size, b_size, equal, differing_bytes, compared_bytes, ranges (start,
/// length; at most 1000000), ranges_truncated. With -o: schema, a, b, a_size, b_size, delta
/// (recorded_bytes, a_sha256 and b_sha256 (null without --delta), output, format, subformat, virtual_size, added_size, stored_size, identity).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The first image
    a: PathBuf,
    /// The second image
    b: PathBuf,
    /// Write the difference as a child of A that reads as B
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the difference as one compressed file to carry elsewhere, for apply
    #[arg(
        long,
        requires = "output",
        conflicts_with_all = ["absolute_parent", "format", "subformat", "profile", "block_size"]
    )]
    delta: bool,
    /// Record the absolute path of A: besides the relative one in VHD and VHDX, instead of it in VMDK
    #[arg(long, requires = "output")]
    absolute_parent: bool,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let shape = match &args.output {
        Some(output) if args.delta => Some((output, args.write.delta_shape(output)?)),
        Some(output) => Some((output, args.write.shape(output, true)?)),
        None => None,
    };
    let a = args.input.open(&args.a, ui)?;
    let b = args.input.open(&args.b, ui)?;
    let mut report = DiffReport {
        schema: 1,
        a: shown(&args.a),
        b: shown(&args.b),
        a_size: a.size(),
        b_size: b.size(),
        found: None,
        delta: None,
    };
    let Some((output, shape)) = shape else {
        let found = compare(&a, &b, ui)?;
        let exit = if found.equal {
            Exit::Done
        } else {
            Exit::Differs
        };
        report.found = Some(found);
        ui.summary(&report)?;
        return Ok(exit);
    };
    let inputs = ids(a.files().chain(b.files()));
    if args.delta {
        let destination = args.write.begin(output, shape, inputs, ui)?;
        report.delta = Some(delta(args, &a, &b, output, destination, ui)?);
        ui.summary(&report)?;
        return Ok(Exit::Done);
    }
    child::check(&a, shape)?;
    let destination = args.write.begin(output, shape, inputs, ui)?;
    let place = child::place(&a, output, args.absolute_parent, ui)?;
    if a.size() != b.size() {
        ui.warn("the child has another size than its parent; other programs may refuse it");
    }
    let (written, recorded_bytes) =
        child::write(&args.write, &a, Some(&b), place, destination, ui)?;
    report.delta = Some(DeltaReport {
        recorded_bytes,
        a_sha256: None,
        b_sha256: None,
        written,
    });
    ui.summary(&report)?;
    Ok(Exit::Done)
}

/// Writes what turns `a` into `b` as one file that knows both.
fn delta(
    args: &Args,
    a: &Chain,
    b: &Chain,
    output: &Path,
    mut destination: Destination,
    ui: &Ui,
) -> Result<DeltaReport> {
    let delta = Delta::between(a, b, &ui.job())?;
    let place = delta.parent(a, output)?;
    destination.notes(delta.notes());
    let digest = || Ok(delta.result.sha256);
    let recorded_bytes = child::fill(&args.write, a, Some(b), place, digest, &mut destination, ui)?;
    if let Some(layer) = destination.layer()? {
        let made = ops::delta::onto(layer, a)?;
        ops::child::reads_as(&made, b.size(), &delta.result.sha256, &ui.job())
            .map_err(|e| e.path(output))?;
    }
    Ok(DeltaReport {
        recorded_bytes,
        a_sha256: Some(hash::hex(&delta.base.sha256)),
        b_sha256: Some(hash::hex(&delta.result.sha256)),
        written: destination.publish(b.size(), ui)?,
    })
}

fn compare(a: &Chain, b: &Chain, ui: &Ui) -> Result<Found> {
    let mut ranges = Vec::new();
    let total = diff::diff(a, b, &ui.job(), |range| {
        if ranges.len() < LISTED {
            ranges.push(Range {
                start: range.start,
                length: range.end - range.start,
            });
        }
    })?;
    Ok(Found {
        equal: total.bytes == 0 && a.size() == b.size(),
        differing_bytes: total.bytes,
        compared_bytes: total.compared,
        ranges_truncated: total.ranges > ranges.len() as u64,
        ranges,
    })
}

#[derive(Serialize)]
struct DiffReport {
    schema: u32,
    a: String,
    b: String,
    /// Bytes.
    a_size: u64,
    b_size: u64,
    #[serde(flatten)]
    found: Option<Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<DeltaReport>,
}

/// Without `-o`.
#[derive(Serialize)]
struct Found {
    equal: bool,
    differing_bytes: u64,
    /// Bytes that had to be read: the rest is known to be alike.
    compared_bytes: u64,
    ranges: Vec<Range>,
    ranges_truncated: bool,
}

#[derive(Serialize)]
struct Range {
    start: u64,
    length: u64,
}

/// With `-o`.
#[derive(Serialize)]
struct DeltaReport {
    recorded_bytes: u64,
    a_sha256: Option<String>,
    b_sha256: Option<String>,
    #[serde(flatten)]
    written: Written,
}

impl Report for DiffReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(delta) = &self.delta {
            write!(out, "{} recorded -> ", both(delta.recorded_bytes))?;
            return delta.written.text(out);
        }
        let Some(found) = &self.found else {
            return Ok(());
        };
        for range in &found.ranges {
            writeln!(out, "{:>16} {:>16}", range.start, range.length)?;
        }
        if found.ranges_truncated {
            writeln!(out, "further ranges are not listed")?;
        }
        if self.a_size != self.b_size {
            let (a, b) = (printable(&self.a), printable(&self.b));
            writeln!(
                out,
                "{a} has {} bytes, {b} has {} bytes",
                self.a_size, self.b_size
            )?;
        }
        match found.differing_bytes {
            0 if found.equal => writeln!(out, "the disks are the same"),
            0 => writeln!(out, "the longer disk goes on with zeros"),
            bytes => writeln!(out, "{} differ", both(bytes)),
        }
    }
}
