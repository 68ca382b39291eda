//! The top of the page: the result in a sentence, what limits it, and the few figures that matter.

use super::waterfall::{plus_minus, remaining};
use super::{
    names::short,
    scale::{at, count, counted, percent},
};
use crate::{
    size::human,
    verbs::dedup_report::{
        figures,
        report::{FarmReport, NO_BLOCK},
    },
};
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

/// About, if not every block was counted, and the figure does not say so itself.
fn about(report: &FarmReport, figure: f64) -> &'static str {
    let bounded = percent(figure).starts_with(['<', '>']);
    if report.sample.is_some() && !bounded {
        "About "
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
        } @else if report.is_blind() {
            "Nothing is known of duplicates"
        } @else {
            (about(report, all.saving_percent)) (percent(all.saving_percent)) " of the data are duplicates"
        }
    }
}

/// The result in a sentence or two.
fn result(report: &FarmReport) -> Markup {
    let all = &report.total.steps;
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
            (images) " " (verb) " " (human(all.total_bytes)) ", none of it data."
        } @else if report.is_blind() {
            (images) " " (verb) " " (human(all.total_bytes)) " to the guests; "
            (human(all.data_bytes)) " is data. What of it is duplicates nobody can say: " (NO_BLOCK) "."
        } @else {
            (images) " " (verb) " " (human(all.total_bytes)) " to the guests; "
            (human(all.data_bytes)) " is data, "
            @if report.sample.is_some() { "about " }
            (human(all.unique_bytes)) " distinct. Today the images take "
            (human(all.allocated_bytes)) " on their medium; each block once is "
            (against(all.allocated_bytes, all.unique_bytes))
            @if let Some(compressed) = all.compressed_bytes {
                ", and compressed, at about " (human(compressed)) (plus_minus(remaining(report).1)) ", "
                (against(all.allocated_bytes, compressed))
            }
            "."
        }
    }
}

/// How much smaller than what is stored `now` it is to store `then`.
fn against(now: u64, then: u64) -> String {
    match now.checked_sub(then) {
        Some(less) if less > 0 => format!("{} smaller", percent(figures::percent(less, now))),
        _ => "no smaller".to_owned(),
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
                    "One block in " (count(sample.one_in)) " was counted. "
                    @if report.is_blind() {
                        "Nothing is known: " (NO_BLOCK)
                    } @else {
                        "The distinct data is " (human(report.total.steps.unique_bytes)) " ± "
                        (human(sample.unique_error_bytes)) " (95 % confidence)"
                    }
                    "; a run without " code { "--sample" } " is exact."
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
    let today = all.allocated_bytes;
    let note = |then: u64| html! { (against(today, then)) " than today" };
    html! {
        @if !report.images.is_empty() {
            dl.tiles {
                @if !report.is_blind() {
                    (tile("Duplicates", percent(all.saving_percent), &html! {
                        "of " (human(all.data_bytes)) " of data; " (human(report.total.once_bytes)) " occurs only once"
                    }))
                }
                (tile("On the medium today", human(today), &html! {
                    "of " (human(all.total_bytes)) " that guests see"
                }))
                @if !report.is_blind() {
                    (tile("Each block once", human(all.unique_bytes), &note(all.unique_bytes)))
                    @if let Some(bytes) = all.compressed_bytes {
                        (tile("And compressed", human(bytes), &note(bytes)))
                    }
                }
            }
        }
    }
}
