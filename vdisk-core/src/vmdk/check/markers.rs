//! Follows the markers of a stream from the first grain to the end.

use super::{Sheet, tables::Geometry};
use crate::{
    Result,
    check::Severity,
    units::{SECTOR, Sectors},
    vmdk::disk_structs::{
        GRAIN_MARKER, MARKER_DIRECTORY, MARKER_END, MARKER_FOOTER, MARKER_TABLE, Marker,
        SparseHeader,
    },
};

/// A marker that vSphere writes now and then; nothing depends on it.
const MARKER_PROGRESS: u32 = 4;
/// Empty sectors in a row after which a stream is not followed further.
const EMPTY: u64 = 4096;

/// Where the following of markers stopped, if not at an end marker in the last sector.
type Stopped = Option<(u64, &'static str)>;

/// What the markers say.
#[derive(Default)]
pub(super) struct Markers {
    pub(super) grains: u64,
    pub(super) tables: u64,
    pub(super) directories: u64,
    /// Sector of the directory, and the file offset behind it.
    pub(super) directory: Option<(u64, u64)>,
    pub(super) stopped: Stopped,
    ends: Vec<u64>,
    /// What is odd about some: severity, rule, part, what, where.
    odd: Vec<(Severity, &'static str, &'static str, String, u64)>,
}

impl Markers {
    pub(super) fn follow(
        sheet: &Sheet<'_>,
        header: &SparseHeader,
        geometry: &Geometry,
    ) -> Result<Self> {
        let mut found = Self::default();
        let file = sheet.file;
        let described = header
            .descriptor_offset
            .saturating_add(header.descriptor_size);
        let first = header.overhead.max(described).max(1);
        let mut pos = Sectors(first).bytes()?;
        let mut last = None;
        let mut empty = 0u64;
        loop {
            sheet.job.advance(0)?;
            let next = pos.saturating_add(SECTOR);
            if next > file.size {
                found.stop(pos, "is missing: the file ends before the stream does");
                return Ok(found);
            }
            let marker = Marker::parse(&file.read_part("marker", pos, 16)?)?;
            if marker.size != 0 {
                let Some(end) = found.grain(sheet, geometry, &marker, pos) else {
                    return Ok(found);
                };
                if last.is_some_and(|last| marker.value <= last) {
                    let detail = format!(
                        "of sector {} comes after that of a later sector: programs that import front to back may refuse it",
                        marker.value
                    );
                    found.note_once("grain-order", "grain", detail, pos);
                }
                last = Some(marker.value);
                pos = end;
                empty = 0;
                continue;
            }
            let expected = match marker.kind {
                MARKER_END if marker.value == 0 => {
                    found.ends.push(pos);
                    if next == file.size {
                        return Ok(found);
                    }
                    empty = empty.saturating_add(1);
                    if empty > EMPTY {
                        found.stop(pos, "is followed by nothing but empty sectors");
                        return Ok(found);
                    }
                    pos = next;
                    continue;
                }
                MARKER_TABLE => Sectors::holding(geometry.table_bytes()).0,
                MARKER_DIRECTORY => Sectors::holding(geometry.directory_bytes()).0,
                MARKER_FOOTER => 1,
                MARKER_PROGRESS => marker.value,
                _ => {
                    found.stop(pos, "is of no known kind; what follows cannot be told");
                    return Ok(found);
                }
            };
            found.metadata(&marker, expected, pos);
            pos = next.saturating_add(expected.saturating_mul(SECTOR));
            empty = 0;
        }
    }

    /// True if there is an end marker at `pos`.
    pub(super) fn ended_at(&self, pos: u64) -> bool {
        self.ends.first() == Some(&pos)
    }

    fn stop(&mut self, pos: u64, why: &'static str) {
        self.stopped = Some((pos, why));
    }

    fn note_once(&mut self, rule: &'static str, part: &'static str, detail: String, pos: u64) {
        if self.odd.iter().all(|odd| odd.1 != rule) {
            self.odd.push((Severity::Note, rule, part, detail, pos));
        }
    }

    fn warn(&mut self, rule: &'static str, part: &'static str, detail: String, pos: u64) {
        if self.odd.len() < 100 {
            self.odd.push((Severity::Warning, rule, part, detail, pos));
        }
    }

    /// Where the grain at `pos` ends; `None` if that is no grain.
    fn grain(
        &mut self,
        sheet: &Sheet<'_>,
        geometry: &Geometry,
        marker: &Marker,
        pos: u64,
    ) -> Option<u64> {
        let at = marker.value.checked_mul(SECTOR);
        let is_grain =
            at.is_some_and(|at| at < geometry.size && at.checked_rem(geometry.grain) == Some(0));
        if !is_grain || u64::from(marker.size) > geometry.grain.saturating_mul(2) {
            self.stop(
                pos,
                "is of no grain of the disk; what follows cannot be told",
            );
            return None;
        }
        let end = pos
            .saturating_add(GRAIN_MARKER as u64)
            .saturating_add(marker.size.into());
        if end > sheet.file.size {
            self.stop(pos, "is of a grain that runs past the end of the file");
            return None;
        }
        if self.directories > 0 {
            let detail = "of a grain comes after the grain directory".to_owned();
            self.warn("marker-order", "marker", detail, pos);
        }
        self.grains = self.grains.saturating_add(1);
        Some(end.next_multiple_of(SECTOR))
    }

    fn metadata(&mut self, marker: &Marker, expected: u64, pos: u64) {
        if marker.value != expected {
            let detail = format!(
                "of kind {} announces {} sectors instead of {expected}",
                marker.kind, marker.value
            );
            self.warn("marker-size", "marker", detail, pos);
        }
        if !self.ends.is_empty() && marker.kind != MARKER_PROGRESS {
            let detail = format!("of kind {} comes after an end marker", marker.kind);
            self.warn("marker-order", "marker", detail, pos);
        }
        match marker.kind {
            MARKER_TABLE => {
                if self.directories > 0 {
                    let detail = "of a grain table comes after the grain directory".to_owned();
                    self.warn("marker-order", "marker", detail, pos);
                }
                self.tables = self.tables.saturating_add(1);
            }
            MARKER_DIRECTORY => {
                self.directories = self.directories.saturating_add(1);
                let start = pos.saturating_add(SECTOR);
                let end = start.saturating_add(expected.saturating_mul(SECTOR));
                self.directory = Some((start / SECTOR, end));
            }
            _ => {}
        }
    }

    /// Adds what is odd to the findings.
    pub(super) fn say(&self, sheet: &mut Sheet<'_>) {
        for (severity, rule, part, detail, pos) in &self.odd {
            sheet.say(*severity, rule, *part, detail.clone(), *pos);
        }
        if let Some((pos, why)) = self.stopped {
            sheet.warning("marker", "marker", why, pos);
        }
    }
}
