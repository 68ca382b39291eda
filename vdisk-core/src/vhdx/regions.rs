//! The region table: where the block allocation table and the metadata are.
//!
//! There are two copies; the second serves where the first is damaged.

use super::disk_structs::{
    BAT, METADATA, MIB, REGION_TABLES_AT, RegionEntry, RegionTable, TABLE_LEN, checksum, parse,
    shown,
};
use crate::{Error, ErrorKind, Result, storage::ImageFile, units::FileOffset};
use std::ops::Range;

/// The names of the tables in messages.
pub(crate) const NAMES: [&str; 2] = ["region table 1", "region table 2"];

/// Where things are that no block may overlap. All are checked to be inside the file.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    pub(crate) bat: Range<u64>,
    pub(crate) metadata: Range<u64>,
    /// The headers, the log, and all regions.
    pub(crate) reserved: Vec<Range<u64>>,
}

/// One of the two tables, or what is wrong with it.
pub(crate) fn read_table(
    file: &ImageFile,
    slot: usize,
) -> Result<Result<RegionTable, &'static str>> {
    let (Some(part), Some(at)) = (NAMES.get(slot), REGION_TABLES_AT.get(slot)) else {
        return Ok(Err("does not exist"));
    };
    let bytes = file.read_part(part, *at, TABLE_LEN as u64)?;
    if !bytes.starts_with(b"regi") {
        return Ok(Err("does not start with its signature 'regi'"));
    }
    Ok(match parse::<RegionTable>(&bytes) {
        None => Err("has more entries than there is room for"),
        Some(table) if table.checksum != checksum(&bytes) => Err("has a wrong checksum"),
        Some(table) => Ok(table),
    })
}

/// Reads the first table that is whole, and checks what it says.
pub(crate) fn find(
    file: &ImageFile,
    log: &Range<u64>,
    warnings: &mut Vec<String>,
) -> Result<Regions> {
    let [one, two] = NAMES;
    let (table, slot) = match read_table(file, 0)? {
        Ok(table) => (table, 0),
        Err(first) => match read_table(file, 1)? {
            Ok(table) => {
                warnings.push(format!("{one} {first}; {two} is used"));
                (table, 1)
            }
            Err(second) => {
                let detail = format!("{one} {first}, {two} {second}");
                return Err(Error::corrupt("region tables", detail));
            }
        },
    };
    let part = NAMES.get(slot).copied().unwrap_or(one);
    check(file, log, &table, part)
}

/// Checks each region of `table` against the file, the log and the regions before it.
fn check(
    file: &ImageFile,
    log: &Range<u64>,
    table: &RegionTable,
    part: &'static str,
) -> Result<Regions> {
    let (mut bat, mut metadata) = (None, None);
    let mut reserved = vec![0..MIB, log.clone()];
    for (number, entry) in table.entries.iter().enumerate() {
        let part = || format!("{part}, entry {number}");
        let range = range_of(entry, file).map_err(|detail| Error::corrupt(part(), detail))?;
        if let Some(other) = reserved
            .iter()
            .find(|r| range.start < r.end && r.start < range.end)
        {
            let detail = format!(
                "the region at {:#x} overlaps what is at {:#x}",
                range.start, other.start
            );
            return Err(Error::corrupt(part(), detail));
        }
        let known = match entry.id {
            BAT => Some(&mut bat),
            METADATA => Some(&mut metadata),
            _ => None,
        };
        match known {
            Some(place) if place.is_some() => {
                let detail = format!("the region {} is there twice", shown(entry.id));
                return Err(Error::corrupt(part(), detail));
            }
            Some(place) => *place = Some(range.clone()),
            None if entry.required & 1 != 0 => {
                let detail = format!(
                    "the region {} is not known, and the image cannot be used without it",
                    shown(entry.id)
                );
                return Err(Error::new(ErrorKind::Unsupported, part(), detail));
            }
            None => {}
        }
        reserved.push(range);
    }
    let missing = |what: &str| Error::corrupt(part, format!("does not say where {what}"));
    Ok(Regions {
        bat: bat.ok_or_else(|| missing("the block allocation table is"))?,
        metadata: metadata.ok_or_else(|| missing("the metadata are"))?,
        reserved,
    })
}

fn range_of(entry: &RegionEntry, file: &ImageFile) -> Result<Range<u64>, String> {
    let (start, length) = (entry.offset, u64::from(entry.length));
    if !start.is_multiple_of(MIB) || !length.is_multiple_of(MIB) || length == 0 {
        return Err(format!(
            "the region is said to be {length} bytes at {start:#x}; both must be whole MiB"
        ));
    }
    match FileOffset(start).plus(length) {
        Ok(end) if end.0 <= file.size => Ok(start..end.0),
        _ => Err(format!(
            "the region of {length} bytes at {start:#x} reaches past the end of the file"
        )),
    }
}
