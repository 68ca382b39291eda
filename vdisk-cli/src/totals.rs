//! What a change in place means to the files, as every verb that makes one reports it.

use crate::size::both;
use serde::Serialize;
use std::io::{self, Write};
use vdisk_core::transaction::Totals;

/// Bytes of the files.
#[derive(Serialize)]
pub(crate) struct TotalsReport {
    written_size: u64,
    /// In the journal.
    saved_size: u64,
    grown_size: u64,
    pub(crate) cut_size: u64,
}

impl From<Totals> for TotalsReport {
    fn from(totals: Totals) -> Self {
        Self {
            written_size: totals.written,
            saved_size: totals.saved,
            grown_size: totals.grown,
            cut_size: totals.cut,
        }
    }
}

impl TotalsReport {
    /// The text view of a change that is only planned.
    pub(crate) fn planned(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut parts = Vec::new();
        let mut add = |bytes: u64, before: &str, after: &str| {
            if bytes > 0 {
                parts.push(format!("{before}{}{after}", both(bytes)));
            }
        };
        add(self.written_size, "write ", "");
        add(self.saved_size, "save ", " in a journal meanwhile");
        add(self.grown_size, "make the files ", " longer");
        add(self.cut_size, "cut off ", "");
        match parts.pop() {
            None => writeln!(out, "would change no byte of the files"),
            Some(last) if parts.is_empty() => writeln!(out, "would {last}"),
            Some(last) => writeln!(out, "would {} and {last}", parts.join(", ")),
        }
    }
}
