//! The two sets of grain tables: whether they agree, and which of them can repair the other.
//!
//! Tables are compared by their contents; their places differ always. One set is copied over the
//! other only where that is no guess: the one is right in every entry, and whatever the other has
//! in its place cannot be right.

use super::{
    Sheet,
    grains::Grains,
    tables::{Map, Set, each_entry},
};
use crate::{
    Result,
    check::{Finding, Repair, Severity},
    patch::Patch,
    units::{SECTOR, buffer_len},
    vmdk::disk_structs::{entries, entry_bytes},
};

/// One of the two, and what its entries lead to.
struct Side<'a> {
    set: &'a Set,
    grains: &'a Grains,
    whole: bool,
}

/// Compares the sets, primary first. `grains` are those of the primary.
pub(super) fn check(
    sheet: &mut Sheet<'_>,
    map: &Map,
    grains: &Grains,
    sets: [&Set; 2],
) -> Result<()> {
    let [primary, redundant] = sets;
    let mut differing = 0u64;
    let mut first = None;
    let mut lost = [false; 2];
    each_pair(sheet, map, sets, |_, table, pair| {
        for (lost, side) in lost.iter_mut().zip(&pair) {
            *lost |= side.contents.is_none();
        }
        let [one, other] = &pair;
        if one.contents.is_none() || one.contents != other.contents {
            differing = differing.saturating_add(1);
            first.get_or_insert((table, other.at));
        }
        Ok(())
    })?;
    let Some((table, at)) = first else {
        return Ok(());
    };
    // The redundant tables are judged only now: mostly they are the same.
    let mut aside = Sheet::new(sheet.file, sheet.job);
    let copies = map.grains(&mut aside, redundant)?;
    let [primary_lost, redundant_lost] = lost;
    let one = Side {
        set: primary,
        grains,
        whole: !primary_lost && grains.errors == 0,
    };
    let other = Side {
        set: redundant,
        grains: &copies,
        whole: !redundant_lost && copies.errors == 0,
    };
    let (severity, said, patches) = match (one.whole, other.whole) {
        (true, false) => (
            Severity::Warning,
            "the redundant ones are damaged",
            plan(sheet, map, &one, &other)?,
        ),
        (false, true) => (
            Severity::Error,
            "the primary ones are damaged",
            plan(sheet, map, &other, &one)?,
        ),
        (true, true) => (
            Severity::Error,
            "both could be right, and nothing says which",
            None,
        ),
        (false, false) => (Severity::Error, "both are damaged", None),
    };
    let detail = format!(
        "differ from their redundant copies in {differing} of {} tables, the first is table {table}; {said}",
        map.geometry.tables()
    );
    let repair = patches.map(|patches| Repair {
        action: match one.whole {
            true => "copy the grain tables over their redundant copies",
            false => "copy the redundant grain tables over the damaged ones",
        }
        .to_owned(),
        patches,
    });
    let finding = Finding::new(
        severity,
        "redundant-differs",
        sheet.file,
        "grain tables",
        detail,
    );
    sheet.add(finding.at(at), repair);
    Ok(())
}

/// Says that the primary directory cannot be found, and the redundant one can.
pub(super) fn only_copy(sheet: &mut Sheet<'_>, redundant: &Set) {
    let detail = "is in the file, the primary one is not; nothing says where that was";
    let at = redundant.entry_at(0);
    sheet.note("redundant-only", redundant.directory, detail, at);
}

/// A table of one set.
struct Table {
    /// The directory's entry.
    entry: u32,
    /// File offset of that entry.
    at: u64,
    /// Its entries; zeros or ones if there is no table, `None` if it cannot be found.
    contents: Option<Vec<u32>>,
}

/// Calls `each` with every table of both sets.
fn each_pair(
    sheet: &mut Sheet<'_>,
    map: &Map,
    sets: [&Set; 2],
    mut each: impl FnMut(&mut Sheet<'_>, u64, [Table; 2]) -> Result<()>,
) -> Result<()> {
    let [one, other] = sets;
    each_entry(sheet, one, &map.geometry, |sheet, table, entry| {
        let at = other.entry_at(table);
        let bytes = sheet.file.read_part(other.directory, at, 4)?;
        let copy = entries(&bytes).first().copied().unwrap_or(0);
        let pair = [
            load(sheet, map, one, table, entry)?,
            load(sheet, map, other, table, copy)?,
        ];
        each(sheet, table, pair)
    })
}

fn load(sheet: &Sheet<'_>, map: &Map, set: &Set, table: u64, entry: u32) -> Result<Table> {
    let bytes = map.geometry.table_bytes();
    let contents = match map.place(sheet.file, set, table, entry) {
        Some(at) => Some(entries(&sheet.file.read_part(set.table, at, bytes)?)),
        None if entry <= 1 => Some(vec![entry; buffer_len(map.geometry.table_len)?]),
        None => None,
    };
    Ok(Table {
        entry,
        at: set.entry_at(table),
        contents,
    })
}

/// The changes that make `bad` hold what `good` does; `None` if that would be a guess.
fn plan(
    sheet: &mut Sheet<'_>,
    map: &Map,
    good: &Side<'_>,
    bad: &Side<'_>,
) -> Result<Option<Vec<Patch>>> {
    let mut patches = Vec::new();
    let mut certain = true;
    each_pair(sheet, map, [good.set, bad.set], |sheet, table, pair| {
        if !certain {
            return Ok(());
        }
        let [right, wrong] = pair;
        if right.contents.is_some() && right.contents == wrong.contents {
            return Ok(());
        }
        match mend(sheet, map, (good, &right), (bad, &wrong), table)? {
            Some(patch) => patches.push(patch),
            None => certain = false,
        }
        Ok(())
    })?;
    Ok(certain.then_some(patches))
}

/// The change that makes table number `table` of `bad` hold what that of `good` does.
fn mend(
    sheet: &Sheet<'_>,
    map: &Map,
    (good, right): (&Side<'_>, &Table),
    (bad, wrong): (&Side<'_>, &Table),
    table: u64,
) -> Result<Option<Patch>> {
    let (file, geometry) = (sheet.file, &map.geometry);
    let len = geometry.table_bytes();
    // Only tables that lie where all writers put them: then it is certain whose place it is.
    let usual = bad.set.usual_place(geometry, table);
    let place = usual.saturating_mul(SECTOR);
    let range = place..place.saturating_add(len);
    let Ok(entry) = u32::try_from(usual) else {
        return Ok(None);
    };
    let (Some(contents), true) = (&right.contents, range.end <= file.size) else {
        return Ok(None);
    };
    let there = entries(&file.read_part(bad.set.table, place, len)?);
    if there == *contents && wrong.entry != entry {
        // The table is all right, and only the directory does not lead there.
        let patch = Patch::write(file, wrong.at, entry.to_le_bytes().to_vec());
        return Ok(Some(patch));
    }
    if wrong.entry != entry || !map.is_free_for(bad.set, table, &range) {
        return Ok(None);
    }
    let first = table.saturating_mul(geometry.table_len);
    let guess = contents
        .iter()
        .zip(&there)
        .zip(first..)
        .filter(|((right, there), _)| right != there)
        .any(|((_, there), number)| good.grains.could_be(file, number, *there));
    if guess {
        return Ok(None);
    }
    Ok(Some(match right.entry {
        0 | 1 => Patch::write(file, place, entry_bytes(contents)),
        from => Patch::copy(file, u64::from(from).saturating_mul(SECTOR), place, len),
    }))
}
