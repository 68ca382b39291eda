//! `--resume` and `--undo`: what becomes of a change in place that was cut short.
//!
//! The journal says what was to be done, so the verbs that change images in place share both.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Result,
    ops::redo::{self, Redo},
    printable,
    transaction::{self, Files},
};

/// What the arguments of the verb's own work are not needed with.
pub(crate) const FLAGS: [&str; 2] = ["resume", "undo"];

/// Flags of every verb that changes contents in place.
#[derive(clap::Args)]
#[group(multiple = false)]
#[command(next_help_heading = "After a run that was killed")]
pub(crate) struct InterruptedArgs {
    /// Finish a change of IMAGE that was cut short: take back what was done of it, and do all of it
    #[arg(long, value_name = "IMAGE")]
    resume: Option<PathBuf>,
    /// Take back a change of IMAGE that was cut short: every byte becomes what it was before
    #[arg(long, value_name = "IMAGE")]
    undo: Option<PathBuf>,
}

impl InterruptedArgs {
    /// Does what the flags ask for; `None` if they ask for nothing.
    pub(crate) fn run(&self, input: &InputArgs, ui: &mut Ui) -> Result<Option<Exit>> {
        let (image, outcome, operation) = if let Some(image) = &self.undo {
            let resolver = input.resolver();
            let allowed = [resolver.allowed, resolver.parents].concat();
            let found = transaction::undo(image, &allowed, &Files)?;
            // What a later version wrote is taken back all the same.
            let redo = Redo::parse(&found.redo).ok();
            (image, "undone", redo.as_ref().map(Redo::operation))
        } else if let Some(image) = &self.resume {
            let mut resolver = input.resolver();
            let allowed = [&resolver.allowed[..], &resolver.parents[..]].concat();
            // Also for an image elsewhere that goes into one beside the journal.
            if let Some(found) = transaction::unfinished(image)? {
                let folder = found.journal.parent().map(Path::to_owned);
                resolver.allowed.extend(folder);
            }
            let options = input.options(&resolver);
            let redo = redo::resume(image, &allowed, &options, &Files, &ui.job())?;
            (image, "resumed", Some(redo.operation()))
        } else {
            return Ok(None);
        };
        ui.summary(&InterruptedReport {
            schema: 1,
            image: shown(image),
            operation,
            outcome,
        })?;
        Ok(Some(Exit::Done))
    }
}

#[derive(Serialize)]
struct InterruptedReport {
    schema: u32,
    image: String,
    /// The verb whose change it was; null if the journal does not say.
    operation: Option<&'static str>,
    /// `resumed` or `undone`.
    outcome: &'static str,
}

impl Report for InterruptedReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let image = printable(&self.image);
        let operation = self.operation.unwrap_or("change");
        match self.outcome {
            "undone" => writeln!(
                out,
                "{image}: the {operation} that was cut short is undone: all is as it was before"
            ),
            _ => writeln!(
                out,
                "{image}: the {operation} that was cut short is done now"
            ),
        }
    }
}
