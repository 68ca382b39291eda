//! The suite that every disk must pass, whatever its format.

use super::contents;
use crate::{
    Disk, Kind, Result,
    disk::{extents, same_kind},
};

/// What every disk must do, checked on `disk`; `Err` says what it does not.
///
/// Extents tile the disk and are not empty; zero reads zero; absent refuses; reads around every
/// boundary agree with one read of everything; requests outside fail; eight threads see the same.
/// For disks of up to some MiB.
pub fn conformance(disk: &dyn Disk) -> Result<(), String> {
    let size = disk.size();
    let sector = u64::from(disk.sector_size());
    ensure(sector == 512 || sector == 4096, || {
        format!("sector size {sector}")
    })?;
    ensure(size.is_multiple_of(sector), || {
        format!("size {size} is not whole sectors")
    })?;
    let mut edges = vec![0, size];
    let mut complete = true;
    let mut pos = 0;
    while pos < size {
        let extent = disk.extent_at(pos).map_err(|e| e.to_string())?;
        ensure(extent.range.start == pos, || {
            format!("extent {:?} at {pos}", extent.range)
        })?;
        ensure(extent.range.end > pos && extent.range.end <= size, || {
            format!("extent {:?} of a disk of {size}", extent.range)
        })?;
        complete &= extent.kind != Kind::Absent;
        edges.push(pos);
        pos = extent.range.end;
    }
    for extent in extents(disk, 0..size, same_kind) {
        let extent = extent.map_err(|e| e.to_string())?;
        let mut byte = [1];
        let read = disk.read_at(extent.range.start, &mut byte);
        match extent.kind {
            Kind::Absent => ensure(read.is_err(), || "an absent byte was read".into())?,
            Kind::Zero => ensure(read.is_ok() && byte == [0], || "zero is not zero".into())?,
            Kind::Data => ensure(read.is_ok(), || {
                format!("unreadable at {}", extent.range.start)
            })?,
        }
    }
    for (pos, len) in [
        (size, 1),
        (u64::MAX, 1),
        (u64::MAX - 1, 4),
        (size.saturating_sub(1), 2),
    ] {
        let kind = disk.read_at(pos, &mut vec![0; len]).map_err(|e| e.kind());
        ensure(kind == Err(crate::ErrorKind::OutOfRange), || {
            format!("{len} bytes at {pos}: {kind:?}")
        })?;
    }
    ensure(disk.extent_at(size).is_err(), || {
        "an extent past the end".into()
    })?;
    if !complete {
        return Ok(());
    }
    let whole = contents(disk).map_err(|e| e.to_string())?;
    let check = |edge: u64| -> Result<(), String> {
        for start in edge.saturating_sub(1)..=edge.saturating_add(1).min(size) {
            for len in [1, 2, 511, 513, 70_000] {
                let len = crate::disk::part_len(len, start, size);
                let mut part = vec![0xEE; len];
                disk.read_at(start, &mut part).map_err(|e| e.to_string())?;
                let at = usize::try_from(start).map_err(|e| e.to_string())?;
                ensure(whole.get(at..at + len) == Some(&part), || {
                    format!("{len} bytes at {start} differ")
                })?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| edges.iter().try_for_each(|&edge| check(edge))))
            .collect();
        threads
            .into_iter()
            .try_for_each(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
