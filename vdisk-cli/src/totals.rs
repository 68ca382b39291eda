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
        writeln!(
            out,
            "would write {}, save {} in a journal meanwhile, make the files {} longer and cut off {}",
            both(self.written_size),
            both(self.saved_size),
            both(self.grown_size),
            both(self.cut_size)
        )
    }
}
