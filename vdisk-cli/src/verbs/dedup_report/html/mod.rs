//! The report as one self-contained page, for people who decide.
//!
//! Figures and charts are in the markup, styles in its head: it needs no script, no network and no
//! fonts, and its policy forbids them, so that no name of an image can bring them in.

mod curve;
mod findings;
mod grid;
mod histogram;
mod matrix;
mod names;
mod neighbours;
mod scale;
mod summary;
mod tables;
#[cfg(test)]
mod tests;
mod waterfall;

use super::report::FarmReport;
use crate::size::human;
use maud::{Markup, PreEscaped, html};
use names::short;
use scale::{count, counted, percent};

const STYLE: &str = include_str!("style.css");
/// With the slashes of XML, so that other programs can take the page apart.
const HEAD: &str = concat!(
    r#"<meta charset="utf-8"/>"#,
    r#"<meta name="viewport" content="width=device-width, initial-scale=1"/>"#,
    r#"<meta name="color-scheme" content="light dark"/>"#,
    r#"<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>"#,
);

/// Paths that the user gave, at most.
const PATHS: usize = 20;

/// The page.
pub(super) fn page(report: &FarmReport) -> String {
    let document = html! {
        (PreEscaped("<!DOCTYPE html>\n"))
        html lang="en" {
            head {
                (PreEscaped(HEAD))
                title { "Duplicates in " (counted(report.images.len(), "disk image")) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (summary::top(report))
                main { (sections(report)) }
                footer { (method(report)) }
            }
        }
    };
    document.into_string()
}

/// A part of the page under its heading; class `keep` holds it together on paper.
fn section(class: &str, heading: &str, lead: &Markup, body: &Markup) -> Markup {
    html! {
        section class=(class) {
            h2 { (heading) }
            p.lead { (lead) }
            (body)
        }
    }
}

/// All that follows from counted blocks, if there are any, and what was not read.
fn sections(report: &FarmReport) -> Markup {
    html! {
        @if !report.is_blind() { (findings(report)) }
        @if !report.errors.is_empty() {
            (section("", "Not read", &html! {
                "Nothing on this page counts them."
            }, &findings::errors(report)))
        }
    }
}

fn findings(report: &FarmReport) -> Markup {
    html! {
        (section("keep", "What each step saves", &html! {
            "From what the guests see to what a medium that stores every block once, and packs it, would hold. "
            "Behind each figure: how many times smaller the step makes what is left."
        }, &html! {
            div.two { figure { (waterfall::chart(report)) } div { (tables::steps(report)) } }
        }))
        @if report.images.len() > 1 {
            (section("keep", "Which images are alike", &html! {
            "The stronger the colour, the more two images have in common, wherever on the disk it lies. Alike images are neighbours."
        }, &html! {
            div.two { figure { (matrix::chart(report)) } div { (tables::pairs(report)) } }
        }))
        }
        @if !report.clusters.is_empty() {
            (section("", "What could share a base", &html! {
                "Full images that hold the same data at the same places. What they would free, they free on the medium of today."
            }, &findings::clusters(report)))
        }
        div.two.cards {
            @if let Some(chart) = histogram::chart(report) {
                (section("keep", "How often data occurs", &html! {
                    "What occurs once cannot be saved; what occurs often makes the saving."
                }, &html! { figure { (chart) } }))
            }
            @if let Some(chart) = curve::chart(report) {
                (section("keep", "What block size does", &html! {
                    "Saving in percent of the data. Small blocks find more, and need a larger index."
                }, &html! { figure { (chart) } }))
            }
        }
        @if !report.sweep.is_empty() || report.chunks.is_some() {
            (section("keep", "Block sizes in figures", &html! {
                "Blocks that are all zero are no data; larger blocks leave fewer of them."
            }, &tables::sizes(report)))
        }
        @if !report.groups.is_empty() {
            (section("", "Groups", &html! {
                "Each on its own: what a medium that holds nothing else would save."
            }, &tables::groups(report)))
        }
        @if !report.images.is_empty() {
            (section("", "Images", &html! {
                "Those first that free most of a deduplicated medium when they are deleted: "
                "their exclusive data is in no other image."
            }, &tables::images(report)))
        }
        @if !report.misaligned.is_empty() || report.alignment.is_some() {
            (section("", "Alignment", &html! {
                "Blocks are cut from the start of the disk."
            }, &findings::alignment(report)))
        }
    }
}

/// How the figures came about.
fn method(report: &FarmReport) -> Markup {
    let method = &report.method;
    html! {
        section {
            h2 { "How this was measured" }
            dl.facts {
                dt { "Read" }
                dd {
                    @for path in method.paths.iter().take(PATHS) { div.path { (short(path, tables::PATH)) } }
                    @if method.paths.len() > PATHS { div { "and " (method.paths.len() - PATHS) " more" } }
                    div { "on " span.path { (short(&method.host, tables::PATH)) } }
                }
                dt { "Blocks" }
                dd {
                    (human(report.block_size)) ", cut from the start of each disk as its guest sees it, whatever the format of the image"
                    @if method.unit != report.block_size { "; hashed in units of " (human(method.unit)) }
                }
                dt { "Hash" } dd { (method.hash) }
                dt { "Counted" }
                dd {
                    @match &report.sample {
                        Some(s) => { "one block in " (count(s.one_in)) ", chosen by hash" }
                        None => { "every block" }
                    }
                }
                @if let Some(c) = &report.compression {
                    dt { "Compression" }
                    dd {
                        "deflate of " (count(c.sampled_blocks)) " distinct blocks as a sample: to "
                        (percent(c.ratio * 100.0)) " ± " (percent(c.error * 100.0)) " of their size (95 % confidence)"
                    }
                }
                dt { "Memory" }
                dd { (human(method.memory_bytes)) " at most, " (human(method.spilled_bytes)) " in temporary files" }
                @if report.skipped > 0 {
                    dt { "Passed over" }
                    dd { (counted(usize::try_from(report.skipped).unwrap_or(usize::MAX), "other file")) ", no images" }
                }
                dt { "Program" } dd { (method.program) }
            }
            h3 { "Words" }
            dl.facts {
                dt { "Data" } dd { "blocks that are not all zero" }
                dt { "Distinct" } dd { "data with each different block counted once" }
                dt { "Exclusive" } dd { "distinct data of an image that no other image has: what deleting it frees once duplicates are stored once" }
                dt { "Shared" } dd { "distinct data of an image that another one has too" }
                dt { "Stored" } dd { "what the files take on their medium today; of one image, without its parents" }
            }
            p.quiet { "1 KiB is 1024 bytes, 1 MiB 1024 KiB, and so on." }
        }
    }
}
