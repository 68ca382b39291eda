//! `vdisk compose`: several layers put together into one disk, and a plan that names every conflict.

use crate::{
    args::{InputArgs, ids, shown, warn_about},
    exit::Exit,
    output::{WriteArgs, Written},
    size::{self, both, human},
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Error, ErrorKind, Result,
    ops::{
        compose::{ComposeOptions, Composed, compose, contributions},
        merge_plan::{self, MergePlan},
    },
    printable,
};

/// Put layers together into one disk
///
/// Lowest layer first. If each layer names the one before as its parent, the result reads as the
/// last one does. If several layers were made from the same base, each changed block is taken from
/// the layer that changed it; blocks that layers changed in different ways are conflicts. They are
/// listed, nothing is written, and the exit code is 3, unless --prefer settles all of them.
/// The result is as large as the largest layer.
///
/// JSON: schema, arrangement (chain or siblings), virtual_size (of the layers), added_size (zeros at
/// the end for a profile), layers (path, bytes taken from it; the lowest first), alike_bytes (changed alike by several siblings), zero_bytes (held by no layer
/// of a chain; null for siblings, where the base has them), conflict_bytes (not settled),
/// settled_bytes (by --prefer), conflicts (start, length, bytes, layers, winner or null),
/// conflicts_unlisted, written (null, or output, format, subformat, virtual_size, added_size,
/// stored_size, identity).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The lowest layer; its own parents are found
    base: PathBuf,
    /// The layers above it, lowest first
    #[arg(required = true, value_name = "LAYER")]
    layers: Vec<PathBuf>,
    /// The new image; - is standard output, for subformats that can be written in order
    #[arg(short, long, value_name = "FILE", required_unless_present = "plan")]
    output: Option<PathBuf>,
    /// Only show what would be taken from where
    #[arg(long)]
    plan: bool,
    /// Who wins conflicts: one of the layers above the base, and where: bytes START to END of the
    /// disk, END not included (without a range, everywhere). Settles only blocks that lie within
    /// the range as a whole. Earlier ones go first (repeatable)
    #[arg(long, value_name = "LAYER[@START-END]")]
    prefer: Vec<String>,
    /// Lay layers without a recorded parent over those before them: their holes are transparent
    #[arg(long)]
    overlay: bool,
    /// Size of a block: changes by two layers within one are a conflict. A power of two from 512
    /// bytes to 1M
    #[arg(long, value_name = "SIZE", default_value = "512", value_parser = size::parse)]
    granularity: u64,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let mut images = vec![args.base.clone()];
    images.extend(args.layers.iter().cloned());
    let mut prefer = Vec::new();
    for text in &args.prefer {
        prefer.push(preference(text, &args.layers)?);
    }
    let shape = args.write.planned(args.output.as_deref())?;
    let output = args.output.as_ref().filter(|_| !args.plan);
    let resolver = args.input.resolver();
    let options = ComposeOptions {
        open: args.input.options(&resolver),
        overlay: args.overlay,
        granularity: args.granularity,
        prefer: &prefer,
    };
    let composed = compose(&images, &options)?;
    let destination = match (output, shape) {
        (Some(output), Some(shape)) => {
            let inputs = ids(composed.chains().iter().flat_map(|c| c.files()));
            Some(args.write.begin(output, shape, inputs, ui)?)
        }
        _ => None,
    };
    let mut report = examine(&composed, &images, ui)?;
    if report.arrangement == "chain" && !prefer.is_empty() {
        ui.warn("--prefer has no effect: these layers are a chain, which has no conflicts");
    }
    if report.arrangement == "siblings" && !prefer.is_empty() && report.settled_bytes == 0 {
        ui.warn("--prefer settles nothing: no block in conflict lies within its range");
    }
    if args.plan {
        if let Some(shape) = shape {
            let fitted = shape.fit(report.virtual_size, ui)?;
            report.added_size = fitted.saturating_sub(report.virtual_size);
        }
        ui.print(&report)?;
    }
    if report.conflict_bytes > 0 {
        if !args.plan {
            ui.summary(&report)?;
        }
        return Err(report.refusal());
    }
    if let Some(destination) = destination {
        let written = args.write.copy(composed.disk(), destination, ui)?;
        report.added_size = written.added_size;
        report.written = Some(written);
        ui.summary(&report)?;
    }
    Ok(Exit::Done)
}

/// Reads `LAYER[@START-END]`: the index of the layer among all images, and the range.
fn preference(text: &str, layers: &[PathBuf]) -> Result<(usize, Option<(u64, u64)>)> {
    if let Some(image) = find(text, layers)? {
        return Ok((image, None));
    }
    let usage = |detail: String| Error::new(ErrorKind::Usage, "--prefer", detail);
    let unknown = |name: &str| {
        let names: Vec<String> = layers.iter().map(|l| shown(l)).collect();
        usage(format!(
            "'{name}' is not one of the layers above the base, {}",
            names.join(", ")
        ))
    };
    let (name, range) = text.rsplit_once('@').ok_or_else(|| unknown(text))?;
    let image = find(name, layers)?.ok_or_else(|| unknown(name))?;
    let (start, end) = range
        .split_once('-')
        .ok_or_else(|| usage(format!("'{range}' is not START-END")))?;
    let (start, end) = (size::parse(start)?, size::parse(end)?);
    if start >= end {
        return Err(usage(format!("'{range}' ends before it starts")));
    }
    Ok((image, Some((start, end))))
}

/// The layer that `name` means, as it was given or by its file name; counted with the base.
fn find(name: &str, layers: &[PathBuf]) -> Result<Option<usize>> {
    let name = Path::new(name);
    if let Some(layer) = layers.iter().position(|l| l == name) {
        return Ok(Some(layer + 1));
    }
    let called = |l: &PathBuf| l.file_name() == Some(name.as_os_str());
    if layers.iter().filter(|l| called(l)).count() > 1 {
        let detail = format!("'{}' is the name of several layers", name.display());
        return Err(Error::new(ErrorKind::Usage, "--prefer", detail));
    }
    Ok(layers.iter().position(called).map(|layer| layer + 1))
}

/// Finds out what composing would do.
fn examine(composed: &Composed, images: &[PathBuf], ui: &Ui) -> Result<ComposeReport> {
    warn_about(composed.chains(), ui);
    let mut report = ComposeReport {
        schema: 1,
        arrangement: "chain",
        virtual_size: composed.disk().size(),
        added_size: 0,
        layers: Vec::new(),
        alike_bytes: 0,
        zero_bytes: None,
        conflict_bytes: 0,
        settled_bytes: 0,
        conflicts: Vec::new(),
        conflicts_unlisted: 0,
        written: None,
    };
    match composed {
        Composed::Chain(chain) => {
            let (bytes, zero) = contributions(chain, &ui.job())?;
            let layers = chain.layers().iter().zip(bytes);
            report.layers = layers
                .map(|(layer, bytes)| Taken {
                    path: shown(layer.path()),
                    bytes,
                })
                .rev()
                .collect();
            report.zero_bytes = Some(zero);
        }
        Composed::Siblings {
            merged,
            inputs,
            full,
            ..
        } => {
            let base = images.first().map_or(Path::new(""), PathBuf::as_path);
            let plan = merge_plan::plan(merged, &ui.job())?;
            let names: Vec<&Path> = inputs
                .iter()
                .filter_map(|&i| images.get(i).map(PathBuf::as_path))
                .collect();
            check_origin(base, &plan, &names, full)?;
            report.siblings(&plan, base, &names);
        }
    }
    Ok(report)
}

/// Refuses a full disk that shares nothing with the base: "changed" would mean all of it.
fn check_origin(base: &Path, plan: &MergePlan, names: &[&Path], full: &[bool]) -> Result<()> {
    let mut strangers = names.iter().zip(full).zip(&plan.shared);
    match strangers.find(|((_, full), shared)| **full && **shared == 0) {
        Some(((name, _), _)) if plan.base_data > 0 => {
            let detail = format!(
                "the layer records no parent and shares no data with the base '{}', so it was not made from it",
                base.display()
            );
            Err(Error::new(ErrorKind::Conflict, "base", detail).path(*name))
        }
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct ComposeReport {
    schema: u32,
    arrangement: &'static str,
    virtual_size: u64,
    /// Bytes of zeros that a profile wants at the end.
    added_size: u64,
    /// The lowest first.
    layers: Vec<Taken>,
    alike_bytes: u64,
    zero_bytes: Option<u64>,
    conflict_bytes: u64,
    settled_bytes: u64,
    conflicts: Vec<Conflict>,
    conflicts_unlisted: u64,
    written: Option<Written>,
}

#[derive(Serialize)]
struct Taken {
    path: String,
    bytes: u64,
}

/// Neighbouring blocks in conflict.
#[derive(Serialize)]
struct Conflict {
    start: u64,
    length: u64,
    /// In blocks that are in conflict; blocks between them agree.
    bytes: u64,
    layers: Vec<String>,
    winner: Option<String>,
}

impl ComposeReport {
    fn siblings(&mut self, plan: &MergePlan, base: &Path, names: &[&Path]) {
        let name = |index: usize| names.get(index).map(|n| shown(n)).unwrap_or_default();
        self.arrangement = "siblings";
        let base = Taken {
            path: shown(base),
            bytes: plan.base,
        };
        self.layers = std::iter::once(base)
            .chain(plan.taken.iter().enumerate().map(|(index, &bytes)| Taken {
                path: name(index),
                bytes,
            }))
            .collect();
        self.alike_bytes = plan.alike;
        self.conflict_bytes = plan.conflict;
        self.settled_bytes = plan.settled;
        self.conflicts_unlisted = plan.unlisted;
        self.conflicts = plan
            .conflicts
            .iter()
            .map(|c| Conflict {
                start: c.range.start,
                length: c.range.end - c.range.start,
                bytes: c.bytes,
                layers: c.siblings.iter().map(|&i| name(i)).collect(),
                winner: c.settled.map(name),
            })
            .collect();
    }

    fn refusal(&self) -> Error {
        let detail = format!(
            "the layers changed {} in different ways; nothing was written",
            both(self.conflict_bytes)
        );
        Error::new(ErrorKind::Conflict, "conflict", detail)
    }
}

/// Conflicts that the text shows; JSON has more.
const SHOWN: usize = 50;

impl Report for ComposeReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(written) = &self.written {
            write!(
                out,
                "{} of {} layers -> ",
                self.arrangement,
                self.layers.len()
            )?;
            return written.text(out);
        }
        writeln!(
            out,
            "{} of {} layers, {}",
            self.arrangement,
            self.layers.len(),
            both(self.virtual_size)
        )?;
        let mut line =
            |bytes: u64, what: &str| writeln!(out, "{:>12}  {}", human(bytes), printable(what));
        for (index, layer) in self.layers.iter().enumerate() {
            let zeros = if index == 0 && self.zero_bytes.is_none() {
                ", zeros included"
            } else {
                ""
            };
            line(layer.bytes, &format!("from {}{zeros}", layer.path))?;
        }
        if let Some(zero) = self.zero_bytes {
            line(zero, "zeros")?;
        }
        if self.added_size > 0 {
            line(self.added_size, "zeros added at the end for the profile")?;
        }
        if self.alike_bytes > 0 {
            line(self.alike_bytes, "changed alike by several layers")?;
        }
        if self.settled_bytes > 0 {
            line(self.settled_bytes, "in conflicts settled by --prefer")?;
        }
        if self.conflict_bytes > 0 {
            line(self.conflict_bytes, "in conflict")?;
        }
        for conflict in self.conflicts.iter().take(SHOWN) {
            let end = conflict.start + conflict.length;
            let winner = match &conflict.winner {
                Some(winner) => format!(", taken from {winner}"),
                None => String::new(),
            };
            let text = format!("{}{winner}", conflict.layers.join(", "));
            writeln!(
                out,
                "conflict within {}-{end}: {} bytes of {}",
                conflict.start,
                conflict.bytes,
                printable(&text)
            )?;
        }
        let more = self.conflicts.len().saturating_sub(SHOWN) as u64 + self.conflicts_unlisted;
        if more > 0 {
            writeln!(out, "and {more} more conflicts (--json lists them)")?;
        }
        Ok(())
    }
}
