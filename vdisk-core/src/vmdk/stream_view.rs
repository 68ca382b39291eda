//! Walks a stream from marker to marker, as an importer that cannot seek does.
//!
//! Reading goes by the directory and never notices what such an importer trips over.

use super::disk_structs::{
    GRAIN_MARKER, MARKER_DIRECTORY, MARKER_END, MARKER_FOOTER, MARKER_TABLE, Marker,
};
use crate::{
    Job, Result,
    storage::ImageFile,
    units::{FileOffset, SECTOR, Sectors, round_up},
};

/// Markers between two looks at whether to stop.
const STEP: u64 = 1024;
/// Bytes looked at of a marker: the marker of a grain, and the first two of its data.
const LOOK: u64 = GRAIN_MARKER as u64 + 4;

/// What one meets on the way through a stream. Positions are bytes of the file.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Where the walk had to stop before the end of the file, and why.
    pub(crate) broken: Option<(u64, String)>,
    /// The first grain that lies before an earlier one on the disk.
    pub(crate) out_of_order: Option<u64>,
    /// The first grain whose data do not begin as zlib data do.
    pub(crate) not_zlib: Option<u64>,
    pub(crate) grains: u64,
    pub(crate) tables: u64,
    pub(crate) directory: bool,
    /// The marker of a footer is where it must be, before the end of the file.
    pub(crate) footer: bool,
    /// The stream ends with its end marker, which is the last sector of the file.
    pub(crate) ended: bool,
    /// Where the last marker is.
    pub(crate) end: u64,
}

impl Stream {
    /// Walks the stream in `file`, whose first grain or marker is at `start`.
    pub(crate) fn walk(file: &ImageFile, start: u64, job: &Job<'_>) -> Result<Self> {
        let mut found = Self {
            footer: has_footer(file)?,
            ..Self::default()
        };
        let mut at = start;
        let mut before = None;
        let mut count = 0u64;
        while at < file.size {
            count = count.saturating_add(1);
            if count.is_multiple_of(STEP) {
                job.advance(0)?;
            }
            found.end = at;
            let look = file.size.saturating_sub(at).min(LOOK);
            let bytes = file.read_part("marker", at, look)?;
            let Ok(marker) = Marker::parse(&bytes) else {
                found.broken = Some((at, "is cut short".to_owned()));
                break;
            };
            let next = if marker.size == 0 {
                match marker.kind {
                    MARKER_END => {
                        found.ended = at.saturating_add(SECTOR) == file.size;
                        if !found.ended {
                            let detail = "is an end marker, but the file goes on";
                            found.broken = Some((at, detail.to_owned()));
                        }
                        break;
                    }
                    MARKER_TABLE => found.tables = found.tables.saturating_add(1),
                    MARKER_DIRECTORY => found.directory = true,
                    _ => {} // the footer's; and vSphere writes markers of a type 4 now and then
                }
                let body = Sectors(marker.value).bytes()?;
                FileOffset(at).plus(SECTOR)?.plus(body)?.0
            } else {
                found.grains = found.grains.saturating_add(1);
                if before.is_some_and(|b| marker.value <= b) {
                    found.out_of_order.get_or_insert(at);
                }
                before = Some(marker.value);
                let data = bytes.get(GRAIN_MARKER..).unwrap_or_default();
                if !is_zlib(data) {
                    found.not_zlib.get_or_insert(at);
                }
                let len = u64::from(marker.size).saturating_add(GRAIN_MARKER as u64);
                FileOffset(at).plus(round_up(len, SECTOR))?.0
            };
            if next > file.size {
                found.broken = Some((at, "reaches past the end of the file".to_owned()));
                break;
            }
            at = next;
        }
        Ok(found)
    }
}

/// True if the marker of a footer is where it must be, whatever lies before it.
fn has_footer(file: &ImageFile) -> Result<bool> {
    let Some(at) = file.size.checked_sub(3 * SECTOR) else {
        return Ok(false);
    };
    let marker = Marker::parse(&file.read_part("footer", at, LOOK)?)?;
    Ok(marker.size == 0 && marker.kind == MARKER_FOOTER)
}

/// The first two bytes of RFC 1950: method 8, and a number that 31 divides.
fn is_zlib(data: &[u8]) -> bool {
    let Some(&[method, flags]) = data.first_chunk::<2>() else {
        return false;
    };
    method & 0x0f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}
