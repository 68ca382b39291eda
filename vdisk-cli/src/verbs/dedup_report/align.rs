//! What another alignment would save: the count once more, from the starts of partitions.

use super::{
    Args,
    figures::percent,
    groups::Groups,
    report::{Alignment, FarmReport},
};
use crate::{
    farm::{Farm, Reading},
    ui::Ui,
};
use vdisk_core::{
    Result,
    ops::dedup::{Count, LEAST_MEMORY, Options},
};

/// Counts again with blocks cut from the start of the largest partition.
pub(super) fn align(args: &Args, farm: &Farm, report: &mut FarmReport, ui: &Ui) -> Result<()> {
    let Some(mut shifted) = farm.shifted(args.block_size) else {
        let total = &report.total.steps;
        report.alignment = Some(Alignment {
            images: 0,
            unique_bytes: total.unique_bytes,
            saving_percent: total.saving_percent,
        });
        return Ok(());
    };
    let options = Options {
        sizes: Vec::new(),
        // The pairs of the first count are still there.
        memory: (args.memory / 2).max(LEAST_MEMORY),
        places: false,
        ..args.options(&shifted, &Groups::default())
    };
    let mut count = Count::new(&shifted.nodes, options)?;
    let how = Reading {
        cache: None,
        chunks: None,
    };
    let known = shifted.errors.len();
    shifted.read(&mut count, &how, &args.input, ui)?;
    let outcome = count.finish(&ui.job())?;
    let new = shifted.errors.get(known..).unwrap_or_default();
    if !new.is_empty() {
        // Not the same images: nothing that could be compared.
        report.errors.extend_from_slice(new);
        report.complete = false;
        return Ok(());
    }
    let moved = |start: u64| start.checked_rem(args.block_size) != Some(0);
    let starts = shifted.images.iter().filter_map(|i| i.largest_partition);
    let total = outcome.total;
    let unique = total.unique.min(total.data);
    report.alignment = Some(Alignment {
        images: starts.filter(|start| moved(*start)).count(),
        unique_bytes: unique,
        saving_percent: percent(total.data.saturating_sub(unique), total.data),
    });
    Ok(())
}
