//! The top of the page: the result in a sentence, what limits it, and the few figures that matter.

use super::waterfall::{plus_minus, remaining};
use super::{
    names::short,
    scale::{at, count, counted, part, percent, ratio, times},
};
use crate::{size::human, verbs::dedup_report::report::FarmReport};
use maud::{Markup, html};

/// Images that could not be read, named at the top.
const NAMED: usize = 5;

pub(super) fn top(report: &FarmReport) -> Markup {
    html! {
        header {
            p.brow { "Duplicates in disk images" }
            h1 { (headline(report)) }
            p.result { (result(report)) }
            (warnings(report))
            (tiles(report))
        }
    }
}

/// About, if not every block was counted.
fn about(report: &FarmReport) -> &'static str {
    if report.sample.is_some() {
        "about "
    } else {
        ""
    }
}

fn headline(report: &FarmReport) -> Markup {
    let all = &report.total.steps;
    html! {
        @if report.images.is_empty() {
            "No image was read"
        } @else if all.data_bytes == 0 {
            "There is no data in " (counted(report.images.len(), "image"))
        } @else {
            "Storing every block once saves " (about(report)) (percent(all.saving_percent))
        }
    }
}

/// The result in a sentence or two.
fn result(report: &FarmReport) -> Markup {
    let all = &report.total.steps;
    let zeros = percent(part(all.zero_bytes, all.total_bytes) * 100.0);
    let images = counted(report.images.len(), "image");
    let verb = if report.images.len() == 1 {
        "shows"
    } else {
        "show"
    };
    html! {
        @if report.images.is_empty() {
            "So there is nothing to report on."
        } @else if all.data_bytes == 0 {
            (images) " " (verb) " " (human(all.total_bytes)) ", all of it zeros."
        } @else {
            (images) " " (verb) " " (human(all.total_bytes)) " to the guests; " (zeros) " of it is zeros. Of "
            (human(all.data_bytes)) " of data, " (about(report)) (human(all.unique_bytes)) " is distinct"
            @if let Some(compressed) = all.compressed_bytes {
                ", and compression would bring that to about " (human(compressed))
                (plus_minus(remaining(report).1))
            }
            ". The images take " (human(all.allocated_bytes)) " on their medium today."
        }
    }
}

fn warnings(report: &FarmReport) -> Markup {
    let missing = report.errors.len();
    html! {
        @if !report.complete {
            aside.warning role="note" {
                p {
                    strong { "Incomplete. " }
                    @if missing == 0 {
                        "Not everything could be read."
                    } @else {
                        (counted(missing, "image")) " could not be read. All figures are about the others."
                    }
                }
                @if missing > 0 {
                    ul {
                        @for trouble in report.errors.iter().take(NAMED) {
                            li.path { (short(&trouble.path, 200)) }
                        }
                        @if missing > NAMED { li { "and " (count((missing - NAMED) as u64)) " more, listed under “Not read”" } }
                    }
                }
            }
        }
        @if let Some(sample) = &report.sample {
            aside.warning role="note" {
                p {
                    strong { "A sample. " }
                    "One block in " (count(sample.one_in)) " was counted. The distinct data is "
                    (human(report.total.steps.unique_bytes)) " ± " (human(sample.unique_error_bytes))
                    " (95 % confidence); a run without " code { "--sample" } " is exact."
                }
            }
        }
        @if let Some(g) = &report.guarantee {
            aside class=(if g.met { "met" } else { "warning unmet" }) role="note" {
                p {
                    strong { @if g.met { "Guarantee met. " } @else { "Guarantee not met. " } }
                    "Wanted: a saving of at least " (at(g.wanted_percent)) " %. Found: "
                    @if report.sample.is_some() { "at least " }
                    (percent(g.saving_percent)) "."
                }
            }
        }
    }
}

/// The figures that matter, each with what it means.
fn tiles(report: &FarmReport) -> Markup {
    let all = &report.total.steps;
    let tile = |name: &str, figure: String, note: &Markup| {
        html! { div.tile { dt { (name) } dd { strong { (figure) } span { (note) } } } }
    };
    let (last, how) = match all.compressed_bytes {
        Some(bytes) => (bytes, ", compressed"),
        None => (all.unique_bytes, ", not compressed"),
    };
    let today = all.allocated_bytes;
    html! {
        @if !report.images.is_empty() {
            dl.tiles {
                (tile("On the medium today", human(today), &html! {
                    "of " (human(all.total_bytes)) " that guests see"
                }))
                (tile("Duplicates", human(all.duplicate_bytes), &html! {
                    (percent(all.saving_percent)) " of the data"
                }))
                (tile("Distinct data", human(all.unique_bytes), &html! {
                    (human(report.total.once_bytes)) " of it occurs only once"
                }))
                (tile("What remains", human(last), &html! {
                    @if last > today {
                        "more than today: the images are packed already"
                    } @else if last > 0 {
                        (times(ratio(today, last))) " smaller than today" (how)
                    }
                }))
            }
        }
    }
}
