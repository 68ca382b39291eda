//! The text view: first what matters, in sentences, then tables as short as the farm is small.

mod tables;

use super::figures;
use super::report::{Cluster, FarmReport, NO_BLOCK};
use crate::{size::human, ui::Report};
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
            "{}, blocks of {}; {} skipped, {} not readable{}",
            count(self.images.len() as u64, "image"),
            human(self.block_size),
            count(self.skipped, "other file"),
            count(self.errors.len() as u64, "image"),
            if self.named_above() {
                " (named above)"
            } else {
                ""
            }
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
        let (size, data) = (human(total.total_bytes), human(total.data_bytes));
        let once = self.once();
        if total.data_bytes == 0 {
            writeln!(out, "{shows} {size}, none of it data.")?;
        } else if self.is_blind() {
            writeln!(
                out,
                "{shows} {size}; {data} is data. Nothing is known of duplicates, as {NO_BLOCK}."
            )?;
        } else {
            writeln!(
                out,
                "{shows} {size}; {data} is data, {once} distinct: {} of the data are duplicates.",
                percent(total.saving_percent)
            )?;
            self.against_today(out)?;
        }
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
        if let Some(sample) = self.sample.as_ref().filter(|_| !self.is_blind()) {
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
                count(self.errors.len() as u64, "image")
            )?;
        }
        writeln!(out)
    }

    /// Each distinct block once.
    fn once(&self) -> String {
        let about = if self.sample.is_some() { "about " } else { "" };
        format!("{about}{}", human(self.total.steps.unique_bytes))
    }

    /// A farm of clones has stored its duplicates once already: what is left to save is another figure.
    fn against_today(&self, out: &mut dyn Write) -> io::Result<()> {
        let (now, once) = (
            self.total.steps.allocated_bytes,
            self.total.steps.unique_bytes,
        );
        let smaller = match now.checked_sub(once) {
            Some(less) if less > 0 => {
                format!("smaller by {}", percent(figures::percent(less, now)))
            }
            _ => "no smaller than what is stored now".to_owned(),
        };
        writeln!(
            out,
            "Stored now: {}; each block once: {}, {smaller}.",
            human(now),
            self.once()
        )
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
            writeln!(out, "{}\n", self.group_table().trim_fmt())?;
        }
        for cluster in &self.clusters {
            cluster.text(out)?;
        }
        if !self.sweep.is_empty() {
            writeln!(out, "{}\n", self.sweep_table().trim_fmt())?;
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

    fn alignments(&self, out: &mut dyn Write) -> io::Result<()> {
        let block = human(self.block_size);
        if !self.misaligned.is_empty() {
            let found = count(self.misaligned.len() as u64, "partition");
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
                count(alignment.images as u64, "image"),
                human(alignment.unique_bytes),
                percent(alignment.saving_percent)
            )?,
        }
        writeln!(out)
    }

    fn named_above(&self) -> bool {
        self.errors_seen && !self.errors.is_empty()
    }

    fn errors(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.named_above() {
            return Ok(());
        }
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
        let share = percent(self.shared_percent);
        let (share, child, original) = match self.members.len() {
            1 => (
                format!("1 image shares {share} of its data"),
                "A thin child",
                "original is",
            ),
            many => (
                format!("{many} images share on average {share} of their data"),
                "Thin children",
                "originals are",
            ),
        };
        writeln!(
            out,
            "{share} with {} at the same places. {child} of it would free about {}, once the {original} deleted:",
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

/// Says how many lines of `all` are not there.
fn more(all: usize, out: &mut dyn Write) -> io::Result<()> {
    match all.saturating_sub(LINES) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more (see --json)"),
    }
}

fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

fn percent(number: f64) -> String {
    format!("{number:.1} %")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates"
)]
fn rounded(bytes: f64) -> u64 {
    bytes.round() as u64
}
