//! The batmap: whether XenServer, which believes it, reads what everybody else reads.

use super::super::{
    batmap::{self, Batmap, NEWEST},
    disk_structs::{DynamicHeader, Footer},
};
use crate::{
    Result,
    check::{Finding, Findings, Severity},
    claims::{Claims, Owner},
    storage::ImageFile,
    units::SECTOR,
};

/// Bits in a sector of the map.
const PER_SECTOR: u64 = SECTOR * 8;

/// The bits of a batmap, read a sector at a time.
pub(super) struct Bits {
    batmap: Batmap,
    /// The sector read last, and its number.
    sector: (u64, Vec<u8>),
}

/// Checks the batmap that the creator of the image should have written, and claims where it is.
///
/// Returns its bits, if they can be believed.
pub(super) fn check(
    file: &ImageFile,
    footer: &Footer,
    header: &DynamicHeader,
    claims: &mut Claims,
    findings: &mut Findings,
) -> Result<Option<Bits>> {
    /// From this version of its creator on, an image has a batmap for sure.
    const ALWAYS: u32 = 0x0001_0002;
    let at = batmap::place(header);
    let mut say = |severity, rule, part: &'static str, at, detail: String| {
        findings.add(Finding::new(severity, rule, file, part, detail).at(at));
    };
    let Some(batmap) = batmap::read(file, footer, header)? else {
        if footer.is_xen() && footer.creator_version >= ALWAYS {
            let detail = "is missing; XenServer expects one in an image of its own".to_owned();
            say(Severity::Warning, "batmap-missing", "batmap", at, detail);
        }
        return Ok(None);
    };
    if batmap.version > NEWEST {
        let detail = format!(
            "has version {}.{}; known are 1.1 and 1.2",
            batmap.version >> 16,
            batmap.version & 0xffff
        );
        say(Severity::Note, "batmap-version", "batmap", at, detail);
        return Ok(None);
    }
    let Some(end) = batmap.end(file) else {
        let detail = "lies outside the file".to_owned();
        say(Severity::Warning, "batmap-past-end", "batmap", at, detail);
        return Ok(None);
    };
    let places = [
        (at..at.saturating_add(SECTOR), "batmap header"),
        (batmap.map_offset..end, "batmap"),
    ];
    for (range, part) in places {
        let start = range.start;
        if let Err(owner) = claims.claim(range, Owner::Named(part)) {
            let detail = format!("overlaps {}", super::blocks::name(owner));
            say(Severity::Warning, "batmap-overlap", part, start, detail);
            return Ok(None);
        }
    }
    let sum = batmap.sum(file)?;
    if sum != batmap.checksum {
        let detail = format!(
            "has checksum {:#010x}, but its bits give {sum:#010x}; XenServer refuses the image",
            batmap.checksum
        );
        say(Severity::Warning, "batmap-checksum", "batmap", at, detail);
        return Ok(None);
    }
    Ok(Some(Bits {
        sector: (0, batmap.bits(file, 0)?),
        batmap,
    }))
}

impl Bits {
    /// True if `block` is said to keep all of its sectors.
    pub(super) fn full(&mut self, file: &ImageFile, block: u64) -> Result<bool> {
        let number = block / PER_SECTOR;
        if self.sector.0 != number {
            self.sector = (number, self.batmap.bits(file, number)?);
        }
        let byte = usize::try_from(block % PER_SECTOR / 8).unwrap_or(usize::MAX);
        let byte = self.sector.1.get(byte).copied().unwrap_or(0);
        Ok(byte & (0x80 >> (block % 8)) != 0)
    }
}
