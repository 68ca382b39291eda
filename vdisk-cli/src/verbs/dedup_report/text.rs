//! The text view: first what matters, in sentences, then tables as short as the farm is small.

use super::report::{Cluster, FarmReport, ImageRow, Steps};
use crate::{size::human, ui::Report};
use comfy_table::{CellAlignment, Table, TableStyle};
use std::io::{self, Write};
use vdisk_core::printable;

/// Images in the table; of more, those are shown that have most of their own.
const IMAGES: usize = 40;
const LARGEST: usize = 20;
/// Commands of a cluster, and lines of any other list.
const LINES: usize = 5;

impl Report for FarmReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.images.is_empty() {
            self.summary(out)?;
            writeln!(out, "{}\n", self.steps().trim_fmt())?;
            writeln!(out, "{}", self.image_table().trim_fmt())?;
            self.more_images(out)?;
            self.further(out)?;
        }
        writeln!(
            out,
            "{} images, blocks of {}; {} other files skipped, {} images not readable",
            self.images.len(),
            human(self.block_size),
            self.skipped,
            self.errors.len()
        )?;
        self.errors(out)
    }
}

impl FarmReport {
    /// What a manager reads.
    fn summary(&self, out: &mut dyn Write) -> io::Result<()> {
        let total = &self.total.steps;
        let shows = match self.images.len() {
            1 => "1 image shows".to_owned(),
            many => format!("{many} images show"),
        };
        writeln!(
            out,
            "{shows} {}; {} of it is data, {} of that distinct: a saving of {}.",
            human(total.total_bytes),
            human(total.data_bytes),
            human(total.unique_bytes),
            percent(total.saving_percent)
        )?;
        if let (Some(bytes), Some(compression)) = (total.compressed_bytes, &self.compression) {
            let error = total.unique_bytes as f64 * compression.error;
            writeln!(
                out,
                "Deflate would bring it to {} (+- {}, from {} blocks).",
                human(bytes),
                human(rounded(error)),
                compression.sampled_blocks
            )?;
        }
        if let Some(sample) = &self.sample {
            writeln!(
                out,
                "A sample of 1/{}: distinct bytes are estimates, in total +- {}.",
                sample.one_in,
                human(sample.unique_error_bytes)
            )?;
        }
        if let Some(guarantee) = &self.guarantee {
            let at_least = if self.sample.is_some() {
                "at least "
            } else {
                ""
            };
            // A saving just below what is wanted must not look as if it were there.
            writeln!(
                out,
                "The guarantee of {} % is {}: the saving is {at_least}{:.2} %.",
                guarantee.wanted_percent,
                if guarantee.met { "met" } else { "not met" },
                (guarantee.saving_percent * 100.0).floor() / 100.0
            )?;
        }
        if !self.complete {
            writeln!(
                out,
                "Not whole: {} could not be read, and all figures are about the others.",
                count(self.errors.len(), "image")
            )?;
        }
        writeln!(out)
    }

    /// From what the guests see to what would be left, each step with its ratio.
    fn steps(&self) -> Table {
        let total = &self.total.steps;
        let ratios = &total.ratios;
        let mut table = table(["step", "size", "ratio"], 1);
        let mut row = |step: &str, size: String, ratio: Option<f64>| {
            table.add_row([step.to_owned(), size, ratio.map(times).unwrap_or_default()]);
        };
        row("virtual", human(total.total_bytes), None);
        row(
            "stored now",
            human(total.allocated_bytes),
            Some(ratios.thin),
        );
        row("without zeros", human(total.data_bytes), Some(ratios.zero));
        row(
            "each block once",
            human(total.unique_bytes),
            Some(ratios.dedup),
        );
        if let Some(bytes) = total.compressed_bytes {
            row(
                "compressed",
                format!("~{}", human(bytes)),
                ratios.compression,
            );
        }
        row("in all", String::new(), Some(ratios.total));
        table
    }

    fn image_table(&self) -> Table {
        let columns = [
            "image",
            "size",
            "stored",
            "data",
            "distinct",
            "exclusive",
            "shared",
        ];
        let mut table = table(columns, 1);
        for image in self.shown() {
            let steps = &image.steps;
            let mut row = vec![printable(&image.path).into_owned()];
            row.extend(
                [
                    steps.total_bytes,
                    steps.allocated_bytes,
                    steps.data_bytes,
                    image.distinct_bytes,
                    image.exclusive_bytes,
                    image.shared_bytes,
                ]
                .map(human),
            );
            table.add_row(row);
        }
        let mut row = vec!["total".to_owned()];
        row.extend(sizes(&self.total.steps));
        table.add_row(row);
        table
    }

    /// The images of the table, in their order.
    fn shown(&self) -> Vec<&ImageRow> {
        let mut images: Vec<_> = self.images.iter().enumerate().collect();
        if images.len() > IMAGES {
            images.sort_by_key(|(_, image)| std::cmp::Reverse(image.exclusive_bytes));
            images.truncate(LARGEST);
            images.sort_by_key(|(number, _)| *number);
        }
        images.into_iter().map(|(_, image)| image).collect()
    }

    fn more_images(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.images.len() > IMAGES {
            writeln!(
                out,
                "The {LARGEST} of {} images that have most of their own; --json, --csv and --html have all.",
                self.images.len()
            )?;
        }
        writeln!(out)
    }

    /// What not every report has.
    fn further(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.groups.is_empty() {
            let mut table = table(
                [
                    "group", "images", "size", "stored", "data", "distinct", "saving",
                ],
                1,
            );
            for group in &self.groups {
                let mut row = vec![
                    printable(&group.name).into_owned(),
                    group.images.to_string(),
                ];
                row.extend(sizes(&group.steps));
                row.push(percent(group.steps.saving_percent));
                table.add_row(row);
            }
            writeln!(out, "{}\n", table.trim_fmt())?;
        }
        for cluster in &self.clusters {
            cluster.text(out)?;
        }
        if !self.sweep.is_empty() {
            self.sweep_table(out)?;
        } else if let Some(chunks) = &self.chunks {
            writeln!(
                out,
                "Chunks of about {} that follow the contents: {} distinct, a saving of {}.\n",
                human(chunks.average_size.into()),
                human(chunks.unique_bytes),
                percent(chunks.saving_percent)
            )?;
        }
        self.alignments(out)
    }

    fn sweep_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = table(["blocks of", "data", "distinct", "saving", "entries"], 1);
        for sweep in &self.sweep {
            table.add_row([
                human(sweep.block_size),
                human(sweep.data_bytes),
                human(sweep.unique_bytes),
                percent(sweep.saving_percent),
                sweep.blocks.to_string(),
            ]);
        }
        if let Some(chunks) = &self.chunks {
            table.add_row([
                format!("chunks, ~{}", human(chunks.average_size.into())),
                human(chunks.data_bytes),
                human(chunks.unique_bytes),
                percent(chunks.saving_percent),
                String::new(),
            ]);
        }
        writeln!(out, "{}\n", table.trim_fmt())
    }

    fn alignments(&self, out: &mut dyn Write) -> io::Result<()> {
        let block = human(self.block_size);
        if !self.misaligned.is_empty() {
            let found = count(self.misaligned.len(), "partition");
            writeln!(out, "{found} not at a multiple of {block}:")?;
            for one in self.misaligned.iter().take(LINES) {
                let path = printable(&one.path);
                writeln!(out, "  {path} at {}, off by {}", one.start, one.off_by)?;
            }
            more(self.misaligned.len(), out)?;
        }
        match &self.alignment {
            None if self.misaligned.is_empty() => return Ok(()),
            None => {}
            Some(alignment) if alignment.images == 0 => {
                writeln!(
                    out,
                    "All largest partitions start at a multiple of {block}: no other alignment saves more."
                )?;
            }
            Some(alignment) => writeln!(
                out,
                "Cut from the start of the largest partition ({} anew): {} distinct, a saving of {}.",
                count(alignment.images, "image"),
                human(alignment.unique_bytes),
                percent(alignment.saving_percent)
            )?,
        }
        writeln!(out)
    }

    fn errors(&self, out: &mut dyn Write) -> io::Result<()> {
        for trouble in self.errors.iter().take(LINES) {
            // An error may name the file itself.
            let error = trouble.error.strip_prefix(&format!("{}: ", trouble.path));
            let error = error.unwrap_or(&trouble.error);
            writeln!(out, "  {}: {}", printable(&trouble.path), printable(error))?;
        }
        more(self.errors.len(), out)
    }
}

impl Cluster {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (share, would) = match self.members.len() {
            1 => ("1 image shares".to_owned(), "its child, it would take"),
            many => (
                format!("{many} images share"),
                "its children, they would take",
            ),
        };
        writeln!(
            out,
            "{share} {} with {} at the same places; as {would} about {} less:",
            percent(self.shared_percent),
            printable(&self.base),
            human(self.frees_bytes)
        )?;
        for command in self.commands.iter().take(LINES) {
            writeln!(out, "  {command}")?;
        }
        more(self.commands.len(), out)?;
        writeln!(out)
    }
}

/// A table with these columns, of which the first `left` hold text.
fn table<const N: usize>(columns: [&str; N], left: usize) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(columns);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn sizes(steps: &Steps) -> [String; 4] {
    [
        steps.total_bytes,
        steps.allocated_bytes,
        steps.data_bytes,
        steps.unique_bytes,
    ]
    .map(human)
}

/// Says how many lines of `all` are not there.
fn more(all: usize, out: &mut dyn Write) -> io::Result<()> {
    match all.saturating_sub(LINES) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more (see --json)"),
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

fn percent(number: f64) -> String {
    format!("{number:.1} %")
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates"
)]
fn rounded(bytes: f64) -> u64 {
    bytes.round() as u64
}
