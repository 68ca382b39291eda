//! The tables of figures: steps, pairs, groups, block sizes, images.
//!
//! Long ones end early and say so: the page stays small, and JSON and CSV have everything.

use super::{
    names::{Names, short},
    scale::{count, counted, percent, times},
};
use crate::{
    size::human,
    verbs::dedup_report::report::{FarmReport, ImageRow, Pair, Steps},
};
use maud::{Markup, html};
use std::{cmp::Reverse, collections::HashSet};

/// Rows of the table of images.
const IMAGES: usize = 200;
const GROUPS: usize = 100;
const PAIRS: usize = 8;
/// Characters of a path: few are longer, and a hostile one cannot fill the page.
pub(super) const PATH: usize = 200;

/// A table in a box of its own, in which it scrolls if it is wider than the page.
pub(super) fn boxed(name: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-label=(name) {
            table {
                thead { tr { @for column in columns { th scope="col" { (column) } } } }
                tbody { (rows) }
            }
        }
    }
}

/// How many of `all` are shown, if not all.
pub(super) fn rest(shown: usize, all: usize, thing: &str) -> Markup {
    html! {
        @if all > shown {
            p.quiet {
                "Shown: " (count(shown as u64)) " of " (counted(all, thing)) ". "
                code { "--json" } " has all of them."
            }
        }
    }
}

/// The steps of the farm, each with its own ratio.
pub(super) fn steps(report: &FarmReport) -> Markup {
    let all = &report.total.steps;
    let guess = if report.sample.is_some() {
        " (estimated)"
    } else {
        ""
    };
    let row = |name: &str, bytes: u64, what: &str, ratio: f64| {
        html! {
            tr {
                th scope="row" { (name) }
                td { (human(bytes)) }
                td { @if what.is_empty() { "" } @else { (times(ratio)) span.quiet.roomy { " " (what) } } }
            }
        }
    };
    let ratios = &all.ratios;
    let rows = html! {
        (row("What the guests see", all.total_bytes, "", 1.0))
        (row("Without zeros", all.data_bytes, "zeros", ratios.zero))
        (row(&format!("Each block once{guess}"), all.unique_bytes, "duplicates", ratios.dedup))
        @if let (Some(bytes), Some(ratio)) = (all.compressed_bytes, ratios.compression) {
            (row("Compressed (estimated)", bytes, "compression", ratio))
        }
        tr.sum {
            th scope="row" { "All steps" }
            td {}
            td { (times(ratios.total)) span.quiet.roomy { " in all" } }
        }
        // No step between the others: it would spoil their product.
        (row("For comparison: on the medium today", all.allocated_bytes, "thin", ratios.thin))
    };
    boxed("Steps", &["Step", "Size", "Smaller by"], &rows)
}

/// The pairs that share most; of an image, only its first one: a large family would fill the table.
pub(super) fn pairs(report: &FarmReport) -> Markup {
    let names = Names::new(&report.images);
    let pairs = report.pairs.iter().flat_map(|all| &all.list);
    let mut best: Vec<&Pair> = pairs.filter(|p| p.shared_bytes > 0).collect();
    best.sort_by_key(|p| Reverse(p.shared_bytes));
    let mut seen = HashSet::new();
    best.retain(|p| {
        let new = !seen.contains(&p.a) && !seen.contains(&p.b);
        if new {
            seen.extend([p.a, p.b]);
        }
        new
    });
    let rows = html! {
        @for pair in best.iter().take(PAIRS) {
            tr {
                th.path scope="row" {
                    @for path in report.pairs.iter().flat_map(|all| all.paths(pair)) {
                        div { (names.short(path, PATH)) }
                    }
                }
                td { (human(pair.shared_bytes)) }
            }
        }
    };
    html! {
        @if !best.is_empty() {
            h3 { "Pairs that share most, each image once" }
            (boxed("Pairs that share most", &["Images", "Shared"], &rows))
        }
    }
}

/// Cells that images and groups have alike.
fn cells(steps: &Steps) -> Markup {
    html! {
        td { (human(steps.data_bytes)) }
        td { (human(steps.allocated_bytes)) }
        td { (human(steps.total_bytes)) }
    }
}

/// The groups, in their order.
pub(super) fn groups(report: &FarmReport) -> Markup {
    let rows = html! {
        @for group in report.groups.iter().take(GROUPS) {
            tr {
                th.path scope="row" { (short(&group.name, PATH)) }
                td { (percent(group.steps.saving_percent)) }
                td { (times(group.steps.ratios.total)) }
                td { (count(group.images as u64)) }
                td { (group.steps.compressed_bytes.map_or_else(|| "–".into(), human)) }
                td { (human(group.steps.unique_bytes)) }
                (cells(&group.steps))
            }
        }
    };
    let columns = [
        "Group",
        "Saving",
        "In all",
        "Images",
        "Compressed",
        "Distinct",
        "Data",
        "Stored",
        "Size",
    ];
    html! {
        (boxed("Groups", &columns, &rows))
        (rest(GROUPS, report.groups.len(), "group"))
    }
}

/// The block sizes, and chunks.
pub(super) fn sizes(report: &FarmReport) -> Markup {
    let rows = html! {
        @for s in &report.sweep {
            tr.sum[s.block_size == report.block_size] {
                th scope="row" { (human(s.block_size)) }
                td { (percent(s.saving_percent)) }
                td { (human(s.unique_bytes)) }
                td { (human(s.data_bytes)) }
                td { (count(s.blocks)) }
            }
        }
        @if let Some(c) = &report.chunks {
            tr {
                th scope="row" { "by content, about " (human(u64::from(c.average_size))) }
                td { (percent(c.saving_percent)) }
                td { (human(c.unique_bytes)) }
                td { (human(c.data_bytes)) }
                td { (count(c.chunks)) " in all" }
            }
        }
    };
    boxed(
        "Block sizes",
        &["Blocks of", "Saving", "Distinct", "Data", "Distinct blocks"],
        &rows,
    )
}

/// The images, those first that free most when they are deleted.
pub(super) fn images(report: &FarmReport) -> Markup {
    let mut rows: Vec<&ImageRow> = report.images.iter().collect();
    rows.sort_by_key(|i| Reverse(i.exclusive_bytes));
    let grouped = !report.groups.is_empty();
    let cell = |image: &ImageRow| {
        html! {
            tr {
                th.path scope="row" {
                    (short(&image.path, PATH))
                    span.quiet {
                        " " (short(&image.format, 40))
                        @if image.layers > 1 { ", " (image.layers) " layers" }
                        @if grouped && let Some(group) = &image.group { ", " (short(group, 40)) }
                    }
                }
                td.strong { (human(image.exclusive_bytes)) }
                td { (human(image.shared_bytes)) }
                td { (human(image.distinct_bytes)) }
                td { (human(image.internal_duplicate_bytes)) }
                (cells(&image.steps))
            }
        }
    };
    let markup = html! { @for image in rows.iter().take(IMAGES) { (cell(image)) } };
    let columns = [
        "Image",
        "Exclusive",
        "Shared",
        "Distinct",
        "Repeated within",
        "Data",
        "Stored",
        "Size",
    ];
    html! {
        (boxed("Images", &columns, &markup))
        (rest(IMAGES, rows.len(), "image"))
    }
}
