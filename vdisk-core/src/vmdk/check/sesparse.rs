//! seSparse extents: their tables are numbered and their entries have a kind.
//!
//! Nobody but ESX writes them, so nothing is repaired.

use super::Sheet;
use crate::{
    Result,
    check::Finding,
    claims::{Claims, Owner},
    limits,
    units::{SECTOR, Sectors},
    vmdk::{
        sesparse_extent::{ALLOCATED, KIND, TABLE_PRESENT, UNMAPPED, ZERO, number_of},
        sesparse_headers::{
            ConstHeader, GRAIN_SECTORS, TABLE_ENTRIES, TABLE_SECTORS, VolatileHeader,
        },
    },
};

const TABLE_BYTES: u64 = TABLE_SECTORS * SECTOR;
const GRAIN: u64 = GRAIN_SECTORS * SECTOR;

/// Checks the extent. Returns its capacity in sectors.
pub(super) fn check(sheet: &mut Sheet<'_>) -> Result<Option<u64>> {
    let file = sheet.file;
    let header = file.read_part("header", 0, SECTOR);
    let header = header.and_then(|bytes| ConstHeader::parse(&bytes));
    let Some(header) = sheet.found("header", header)? else {
        return Ok(None);
    };
    let at = header.volatile_header.offset.saturating_mul(SECTOR);
    let volatile = file
        .read_part("volatile header", at, SECTOR)
        .and_then(|bytes| VolatileHeader::parse(&bytes));
    if let Err(error) = volatile {
        let finding = Finding::of(&error, "volatile-header", file);
        sheet.add(finding.at(at), None);
    }
    let mut taken = Claims::default();
    let _ = taken.claim(0..SECTOR, Owner::Named("the header"));
    let _ = taken.claim(
        at..at.saturating_add(SECTOR),
        Owner::Named("the volatile header"),
    );
    let directory = header.grain_directory.offset.saturating_mul(SECTOR);
    let bytes = header.tables().saturating_mul(8);
    let end = directory.saturating_add(bytes);
    if end > file.size || bytes > limits::GRAIN_DIRECTORY {
        let detail = format!("needs {bytes} bytes, more than the file has, or any should");
        sheet.error("directory-past-end", "grain directory", detail, directory);
        return Ok(Some(header.capacity));
    }
    if taken
        .claim(directory..end, Owner::Named("the grain directory"))
        .is_err()
    {
        let detail = "overlaps a header";
        sheet.error("metadata-overlap", "grain directory", detail, directory);
    }
    let mut grains = Claims::default();
    for table in 0..header.tables() {
        sheet.job.advance(0)?;
        let entry_at = directory.saturating_add(table.saturating_mul(8));
        let entry = words(&file.read_part("grain directory", entry_at, 8)?)
            .first()
            .copied()
            .unwrap_or(0);
        if entry == 0 {
            continue;
        }
        let part = || format!("grain directory, entry {table}");
        let number = entry & u64::from(u32::MAX);
        let tables = header.grain_tables;
        let start = tables
            .offset
            .saturating_add(number.saturating_mul(TABLE_SECTORS))
            .saturating_mul(SECTOR);
        let range = start..start.saturating_add(TABLE_BYTES);
        if entry >> 32 != TABLE_PRESENT {
            let detail = format!("is {entry:#x}, which has no meaning");
            sheet.error("entry-unknown", part(), detail, entry_at);
        } else if number >= tables.size / TABLE_SECTORS || range.end > file.size {
            let detail = format!("names table {number}, which is past the end of the tables");
            sheet.error("table-past-end", part(), detail, entry_at);
        } else if let Err(owner) = taken.claim(range, Owner::Unit(table)) {
            let detail = match owner {
                Owner::Unit(other) => format!("leads to grain table {other}, too"),
                Owner::Named(name) => format!("leads into {name}"),
                Owner::Forgotten => "leads to another grain table, too".to_owned(),
            };
            sheet.error("table-shared", part(), detail, entry_at);
        } else {
            look(sheet, &header, table, start, &mut grains)?;
        }
    }
    Ok(Some(header.capacity))
}

/// Looks at the entries of grain table number `table` at file offset `at`.
fn look(
    sheet: &mut Sheet<'_>,
    header: &ConstHeader,
    table: u64,
    at: u64,
    grains: &mut Claims,
) -> Result<()> {
    let file = sheet.file;
    let first = table.saturating_mul(TABLE_ENTRIES);
    let size = Sectors(header.capacity).bytes()?;
    let bytes = file.read_part("grain table", at, TABLE_BYTES)?;
    for (entry, index) in words(&bytes).into_iter().zip(0u64..) {
        let part = || format!("grain table {table}, entry {index}");
        let at = at.saturating_add(index.saturating_mul(8));
        let number = first.saturating_add(index);
        let on_disk = size.saturating_sub(number.saturating_mul(GRAIN)).min(GRAIN);
        match entry & KIND {
            0 if entry == 0 => continue,
            UNMAPPED | ZERO => continue,
            ALLOCATED if on_disk == 0 => continue,
            ALLOCATED => {}
            _ => {
                let detail = format!("is {entry:#x}, which has no meaning");
                sheet.error("entry-unknown", part(), detail, at);
                continue;
            }
        }
        let start = header
            .grains
            .offset
            .saturating_add(number_of(entry).saturating_mul(GRAIN_SECTORS))
            .saturating_mul(SECTOR);
        if start.saturating_add(on_disk) > file.size {
            let detail = "points past the end of the file";
            sheet.error("grain-past-end", part(), detail, at);
            continue;
        }
        let range = start..start.saturating_add(GRAIN);
        if let Err(owner) = grains.claim(range, Owner::Unit(number)) {
            let whose = match owner {
                Owner::Unit(other) => format!("grain {other}"),
                _ => "another grain".to_owned(),
            };
            let detail = format!("leads to bytes that belong to {whose}");
            sheet.error("grain-shared", part(), detail, at);
        }
    }
    Ok(())
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.as_chunks::<8>().0.iter();
    words.map(|w| u64::from_le_bytes(*w)).collect()
}
