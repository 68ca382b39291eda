//! vmfsSparse extents: the tables of hosted extents in another header.

use super::{
    Sheet,
    header::unclean,
    tables::{Geometry, Map, Set},
};
use crate::{
    Result,
    check::Finding,
    units::SECTOR,
    vmdk::cowd_header::{COWD_HEADER, CowdHeader, FREE_SECTOR_AT},
};

/// Where the flag of an unclean shutdown lies.
const UNCLEAN_AT: u64 = 1648;

/// Checks the extent. Returns its capacity in sectors.
pub(super) fn check(sheet: &mut Sheet<'_>) -> Result<Option<u64>> {
    let bytes = sheet.file.read_part("header", 0, COWD_HEADER);
    let Some(bytes) = sheet.found("header", bytes)? else {
        return Ok(None);
    };
    let header = match CowdHeader::parse(&bytes) {
        Ok(header) => header,
        Err(error) => {
            let finding = Finding::of(&error, "header", sheet.file);
            sheet.add(finding.at(0), None);
            return Ok(None);
        }
    };
    let geometry = Geometry::of_cowd(&header)?;
    let mut map = Map::new(sheet, &geometry, COWD_HEADER, 0..0);
    let set = Set::primary(header.gd_offset.into());
    if map.directory(sheet, &set)? {
        let grains = map.grains(sheet, &set)?;
        grains.unused(sheet);
        let free = u64::from(header.free_sector).saturating_mul(SECTOR);
        if free < grains.end() && grains.errors == 0 {
            let detail = format!(
                "says that sector {} is free, but grains lie there: the next write would hit them",
                header.free_sector
            );
            sheet.warning("free-sector", "header", detail, FREE_SECTOR_AT);
        }
    }
    if header.unclean_shutdown != 0 {
        let clean = sheet.is_clean();
        unclean(sheet, UNCLEAN_AT, 4, clean);
    }
    Ok(Some(header.capacity.into()))
}
