//! What the report says in words: families that could share a base, partitions between blocks, what
//! was not read.

use super::{
    names::short,
    scale::{count, counted, percent},
    tables::{PATH, boxed, rest},
};
use crate::{
    size::human,
    verbs::dedup_report::report::{Cluster, FarmReport},
};
use maud::{Markup, html};
use vdisk_core::printable;

const CLUSTERS: usize = 30;
const MEMBERS: usize = 40;
const COMMANDS: usize = 5;
const ROWS: usize = 100;
/// Characters of a command or an error.
const TEXT: usize = 1000;

/// Images that could be thin children of one of them, with what to run.
pub(super) fn clusters(report: &FarmReport) -> Markup {
    html! {
        @for cluster in report.clusters.iter().take(CLUSTERS) { (one(cluster)) }
        (rest(CLUSTERS, report.clusters.len(), "base"))
    }
}

fn one(cluster: &Cluster) -> Markup {
    let members = &cluster.members;
    let one = members.len() == 1;
    html! {
        article.cluster {
            p {
                strong { (counted(members.len(), "image")) }
                @if one { " shares " } @else { " share on average " }
                strong { (percent(cluster.shared_percent)) }
                " of " @if one { "its" } @else { "their" } " data with "
                span.path { (short(&cluster.base, PATH)) }
                ", at the same places. "
                @if one { "A thin child of it would free about " } @else { "Thin children of it would free about " }
                strong { (human(cluster.frees_bytes)) }
                @if one { ", once the original is deleted." } @else { ", once the originals are deleted." }
            }
            @if !cluster.commands.is_empty() {
                pre {
                    // Cut in the middle, a command would be another one.
                    @for command in cluster.commands.iter().filter(|c| c.len() <= TEXT).take(COMMANDS) {
                        code { (printable(command)) }
                    }
                }
                @if cluster.commands.len() > COMMANDS {
                    p.quiet { "And " (cluster.commands.len() - COMMANDS) " more: " code { "--json" } " has all of them." }
                }
            }
            details {
                summary { "The images" }
                ul {
                    @for member in members.iter().take(MEMBERS) { li.path { (short(member, PATH)) } }
                    @if members.len() > MEMBERS { li { "and " (members.len() - MEMBERS) " more" } }
                }
            }
        }
    }
}

/// Partitions that start inside a block, and what cutting there would save.
pub(super) fn alignment(report: &FarmReport) -> Markup {
    let rows = html! {
        @for m in report.misaligned.iter().take(ROWS) {
            tr {
                th.path scope="row" { (short(&m.path, PATH)) }
                td { (count(m.start)) }
                td { (count(m.off_by)) }
            }
        }
    };
    html! {
        @if let Some(a) = &report.alignment {
            @if a.images == 0 {
                p { "All largest partitions start at a multiple of " (human(report.block_size)) ": no other alignment saves more." }
            } @else {
            p {
                "Cut from the start of the largest partition, in " (counted(a.images, "image"))
                ", the blocks would save " strong { (percent(a.saving_percent)) } " instead of "
                (percent(report.total.steps.saving_percent)) ": " (human(a.unique_bytes)) " would be distinct."
            }
            }
        }
        @if !report.misaligned.is_empty() {
            p {
                "These partitions start inside a block of " (human(report.block_size))
                ". The same files in two images then fall into different blocks, unless both are off by the same."
            }
            (boxed("Misaligned partitions", &["Image", "Starts at byte", "Off by"], &rows))
            (rest(ROWS, report.misaligned.len(), "partition"))
        }
    }
}

/// What could not be read.
pub(super) fn errors(report: &FarmReport) -> Markup {
    let rows = html! {
        @for trouble in report.errors.iter().take(ROWS) {
            tr {
                th.path scope="row" { (short(&trouble.path, PATH)) }
                td.words { (short(&trouble.error, TEXT)) }
            }
        }
    };
    html! {
        (boxed("Not read", &["Image", "Why"], &rows))
        (rest(ROWS, report.errors.len(), "error"))
    }
}
