//! What is wrong with a VDI image beyond what stops it from being opened.

use super::{
    block_map::{BlockMap, FREE, ZERO},
    disk_structs::{HEADER, Header},
};
use crate::{
    Layout, Result,
    check::{Checkup, Finding, Findings, Severity},
    claims::{Claims, Owner},
};

/// Looks at every entry of the block map. Blocks that nothing uses are not looked for one by one,
/// but counted.
pub(super) fn check(
    map: &BlockMap,
    header: &Header,
    checkup: &Checkup<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let mut claims = Claims::default();
    // The layout made sure that these do not overlap.
    let map_end = map.entry_at(map.entries);
    let _ = claims.claim(0..HEADER, Owner::Named("header"));
    let _ = claims.claim(map.map_at..map_end, Owner::Named("block map"));
    let mut stored = 0u64;
    for block in 0..map.entries {
        if block % 1024 == 0 {
            checkup.job.advance(0)?;
        }
        let (entry, _) = map.entry(block)?;
        if entry == FREE || entry == ZERO {
            continue;
        }
        stored = stored.saturating_add(1);
        let part = format!("block map, entry {block}");
        let entry_at = map.entry_at(block);
        if map.start_of(block) < map.size()
            && let Err(error) = map.locate(map.start_of(block))
        {
            findings.add(Finding::of(&error, "past-end", &map.file));
        }
        let data = map.data_of(entry)?;
        let range = data.saturating_sub(map.extra)..data.saturating_add(map.block.get());
        if let Err(owner) = claims.claim(range, Owner::Unit(block)) {
            let detail = match owner {
                Owner::Unit(other) => format!("points to where block {other} of the disk is"),
                Owner::Named(name) => format!("points into the {name}"),
                Owner::Forgotten => "points to where another block of the disk is".to_owned(),
            };
            let finding = Finding::new(Severity::Error, "overlap", &map.file, part, detail);
            findings.add(finding.at(entry_at));
        }
    }
    if claims.incomplete() {
        let detail = "are in too many pieces: some that overlap may have been missed";
        let finding = Finding::new(
            Severity::Note,
            "overlaps-unknown",
            &map.file,
            "blocks",
            detail,
        );
        findings.add(finding);
    }
    if stored != u64::from(header.blocks_allocated) {
        let detail = format!(
            "says that {} blocks are allocated, and the block map has {stored}",
            header.blocks_allocated
        );
        let finding = Finding::new(
            Severity::Warning,
            "block-count",
            &map.file,
            "header",
            detail,
        );
        findings.add(finding.at(388));
    }
    Ok(())
}
