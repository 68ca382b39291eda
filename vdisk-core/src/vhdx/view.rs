//! The parts of a VHDX as they lie in the file, for rules that ask more than what the disk holds.
//!
//! Reading an image forgives much; a profile must see what was forgiven.

use super::{
    bat::{ENTRY_LEN, Entry, Numbering, PAGE, TABLE, state},
    disk_structs::{REGION_TABLES_AT, ROW_LEN},
    header, metadata, regions,
};
use crate::{Job, Result, storage::ImageFile};

/// The structures of a VHDX.
pub(crate) struct View {
    /// Where the log is, if it must be replayed.
    pub(crate) dirty: Option<u64>,
    /// Where the entry of a region is that is not marked as required.
    pub(crate) not_required: Option<u64>,
    bat: u64,
    entries: u64,
}

impl View {
    /// Reads the structures of `file`, which was opened as a VHDX.
    pub(crate) fn read(file: &ImageFile) -> Result<Self> {
        let found = header::find(file)?.header;
        let log = header::log(&found, file)?;
        let regions = regions::find(file, &log, &mut Vec::new())?;
        let metadata = metadata::read(file, &regions.metadata)?;
        let numbering = Numbering::new(
            metadata.size,
            metadata.block_size.into(),
            metadata.logical_sector,
        );
        Ok(Self {
            dirty: (found.log != [0; 16]).then_some(log.start),
            not_required: not_required(file)?,
            bat: regions.bat.start,
            entries: numbering.entries(metadata.has_parent),
        })
    }

    /// Where the entry of a block is that is nowhere and yet has a place.
    pub(crate) fn misplaced(&self, file: &ImageFile, job: &Job<'_>) -> Result<Option<u64>> {
        let mut first = 0;
        while first < self.entries {
            job.advance(0)?;
            let at = self.bat.saturating_add(first.saturating_mul(ENTRY_LEN));
            let count = self.entries.saturating_sub(first).min(PAGE);
            let bytes = file.read_part(TABLE, at, count.saturating_mul(ENTRY_LEN))?;
            for (bytes, at) in bytes.as_chunks().0.iter().zip((at..).step_by(8)) {
                let entry = Entry(u64::from_le_bytes(*bytes));
                let nowhere = matches!(entry.state(), state::NOT_PRESENT | state::ZERO);
                if nowhere && entry.at() != 0 {
                    return Ok(Some(at));
                }
            }
            first = first.saturating_add(PAGE);
        }
        Ok(None)
    }
}

/// Where the first entry of a region is that is not marked as required, in either table.
fn not_required(file: &ImageFile) -> Result<Option<u64>> {
    for (slot, at) in REGION_TABLES_AT.into_iter().enumerate() {
        // A damaged table is left to the other one.
        let Ok(table) = regions::read_table(file, slot)? else {
            continue;
        };
        // The entries follow a header of 16 bytes.
        let places = (at.saturating_add(16)..).step_by(ROW_LEN);
        let found = table
            .entries
            .iter()
            .zip(places)
            .find(|(e, _)| e.required & 1 == 0);
        if let Some((_, place)) = found {
            return Ok(Some(place));
        }
    }
    Ok(None)
}
