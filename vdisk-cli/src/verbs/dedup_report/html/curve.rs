//! The sweep curve: what is saved at each block size, and with chunks cut by content.

use super::scale::{WIDTH, at, block, percent, percent_ticks, spoken};
use crate::verbs::dedup_report::report::{FarmReport, Sweep};
use maud::{Markup, html};

const TOP: f64 = 20.0;
const FLOOR: f64 = 190.0;
const HEIGHT: f64 = 228.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 18.0;
/// Room for a label of the axis.
const LABEL: f64 = 34.0;

/// The chart; nothing without a sweep of figures.
pub(super) fn chart(report: &FarmReport) -> Option<Markup> {
    let mut sweep: Vec<&Sweep> = report
        .sweep
        .iter()
        .filter(|s| s.saving_percent.is_finite())
        .collect();
    sweep.sort_by_key(|s| s.block_size);
    let chunks = report
        .chunks
        .as_ref()
        .filter(|c| c.saving_percent.is_finite());
    let (first, last) = (sweep.first()?.block_size, sweep.last()?.block_size);
    let sizes = chunks.map(|c| u64::from(c.average_size));
    let low = log2(sizes.map_or(first, |s| s.min(first)));
    let high = log2(sizes.map_or(last, |s| s.max(last)));
    let span = (high - low).max(1.0);
    let x = |size: u64| LEFT + 10.0 + (log2(size) - low) / span * (WIDTH - LEFT - RIGHT - 10.0);

    let best = sweep.iter().map(|s| s.saving_percent);
    let best = best.chain(chunks.map(|c| c.saving_percent));
    let best = best.fold(0.0, f64::max);
    let ticks = percent_ticks(best);
    let top = ticks.last().copied().unwrap_or(100.0);
    let y = |saving: f64| FLOOR - (saving / top).clamp(0.0, 1.0) * (FLOOR - TOP);

    let points: Vec<(f64, f64, &Sweep)> = sweep
        .iter()
        .map(|s| (x(s.block_size), y(s.saving_percent), *s))
        .collect();
    let line: Vec<String> = points
        .iter()
        .map(|(x, y, _)| format!("{},{}", at(*x), at(*y)))
        .collect();
    // Labels keep off the line, and off the label of the chunks.
    let above = chunks.is_none_or(|c| c.saving_percent < nearest(&sweep, c.average_size));
    let figure = |saving: f64| {
        if top > 10.0 {
            format!("{saving:.0}")
        } else {
            at(saving)
        }
    };
    let names: Vec<String> = sweep.iter().map(|s| block(s.block_size)).collect();
    let figures = sweep.iter().map(|s| percent(s.saving_percent));
    let speech = names.iter().map(String::as_str).zip(figures);
    let speech = speech.chain(chunks.map(|c| ("chunks by content", percent(c.saving_percent))));
    let label = format!("Saving by block size. {}", spoken(speech));
    Some(html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            @for tick in &ticks {
                line.grid x1=(at(LEFT)) x2=(at(WIDTH - 4.0)) y1=(at(y(*tick))) y2=(at(y(*tick))) {}
                text.tick x=(at(LEFT - 5.0)) y=(at(y(*tick) + 4.0)) text-anchor="end" { (at(*tick)) " %" }
            }
            @for (x, s, label) in marks(&points) {
                line.mark x1=(at(x)) x2=(at(x)) y1=(at(FLOOR)) y2=(at(FLOOR + 4.0)) {}
                @if label {
                    text class=(if s.block_size == report.block_size { "tick strong" } else { "tick" })
                        x=(at(x)) y=(at(FLOOR + 17.0)) text-anchor="middle" { (block(s.block_size)) }
                }
            }
            text.tick x=(at((LEFT + WIDTH) / 2.0)) y=(at(FLOOR + 34.0)) text-anchor="middle" { "block size" }
            polyline.curve points=(line.join(" ")) {}
            @for (x, y, s) in &points {
                circle.dot cx=(at(*x)) cy=(at(*y)) r="3.5" {
                    title { (block(s.block_size)) ": " (percent(s.saving_percent)) }
                }
                text.small x=(at(*x)) y=(at(if above { y - 8.0 } else { y + 16.0 })) text-anchor="middle" {
                    (figure(s.saving_percent))
                }
            }
            @if let Some(c) = chunks {
                @let (cx, cy) = (x(u64::from(c.average_size)), y(c.saving_percent));
                path.cdc d=(format!("M{} {}l5.5 5.5l-5.5 5.5l-5.5 -5.5z", at(cx), at(cy - 5.5))) {
                    title { "chunks of " (block(u64::from(c.average_size))) ": " (percent(c.saving_percent)) }
                }
                text.small.cdc-text x=(at(cx)) y=(at(if above { cy + 18.0 } else { cy - 9.0 })) text-anchor="middle" {
                    "by content " (figure(c.saving_percent))
                }
            }
        }
    })
}

/// Where the marks of the axis are, and which have room for a label.
fn marks<'a>(points: &[(f64, f64, &'a Sweep)]) -> Vec<(f64, &'a Sweep, bool)> {
    let mut free = f64::NEG_INFINITY;
    let mark = |(x, _, s): &(f64, f64, &'a Sweep)| {
        let label = *x >= free;
        if label {
            free = x + LABEL;
        }
        (*x, *s, label)
    };
    points.iter().map(mark).collect()
}

/// The saving at the block size nearest to `size`.
fn nearest(sweep: &[&Sweep], size: u32) -> f64 {
    let size = log2(u64::from(size));
    let distance = |s: &&Sweep| (log2(s.block_size) - size).abs();
    let nearest = sweep
        .iter()
        .copied()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.map_or(0.0, |s| s.saving_percent)
}

#[expect(clippy::cast_precision_loss, reason = "a place on an axis")]
fn log2(size: u64) -> f64 {
    (size.max(1) as f64).log2()
}
