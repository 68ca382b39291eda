//! The savings waterfall: from what the guests see to what remains, a bar a step.
//!
//! Bars lie on their side, each under its name and figure: so they are read on a phone too.

use super::scale::{WIDTH, at, byte_ticks, minus, part, ratio, scaled, spoken, times};
use crate::{size, verbs::dedup_report::report::FarmReport};
use maud::{Markup, html};

const TOP: f64 = 26.0;
const ROW: f64 = 46.0;
/// Of a row, where its bar starts.
const BAR: f64 = 19.0;
const THICK: f64 = 17.0;
const MARGIN: f64 = 4.0;

/// A bar from `from` to `to` bytes.
struct Step {
    name: &'static str,
    class: &'static str,
    from: u64,
    to: u64,
    figure: String,
    /// Half of the confidence interval of the end where the next step starts, in bytes.
    error: u64,
}

/// The steps of the farm.
fn steps(report: &FarmReport) -> Vec<Step> {
    let all = &report.total.steps;
    let cut = |name, class, before: u64, after: u64, error| Step {
        name,
        class,
        from: after.min(before),
        to: before,
        figure: with_ratio(minus(before.saturating_sub(after)), before, after),
        error,
    };
    let data = all.total_bytes.saturating_sub(all.zero_bytes);
    let sample = report.sample.as_ref();
    let sampling = sample.map_or(0, |s| s.unique_error_bytes);
    let dedup_class = if sample.is_some() { "cut guess" } else { "cut" };
    let mut steps = vec![
        Step {
            name: "What the guests see",
            class: "whole",
            from: 0,
            to: all.total_bytes,
            figure: size::human(all.total_bytes),
            error: 0,
        },
        cut("Zeros", "cut", all.total_bytes, data, 0),
        cut("Duplicates", dedup_class, data, all.unique_bytes, sampling),
    ];
    let (rest, error) = remaining(report);
    if let Some(compressed) = all.compressed_bytes {
        let own = error_of_compression(report);
        steps.push(cut(
            "Compression (estimate)",
            "cut guess",
            all.unique_bytes,
            compressed,
            own,
        ));
    }
    steps.push(Step {
        name: "What remains",
        class: if error > 0 { "rest guess" } else { "rest" },
        from: 0,
        to: rest,
        figure: with_ratio(
            format!("{}{}", size::human(rest), plus_minus(error)),
            all.total_bytes,
            rest,
        ),
        error,
    });
    steps
}

/// What remains after all steps, and half of its confidence interval, in bytes.
pub(super) fn remaining(report: &FarmReport) -> (u64, u64) {
    let all = &report.total.steps;
    let sampling = report.sample.as_ref().map_or(0, |s| s.unique_error_bytes);
    let Some(compressed) = all.compressed_bytes else {
        return (all.unique_bytes, sampling);
    };
    let rest = compressed.min(all.unique_bytes);
    let sampling = scaled(sampling, part(rest, all.unique_bytes));
    (rest, error_of_compression(report).saturating_add(sampling))
}

fn error_of_compression(report: &FarmReport) -> u64 {
    let error = report.compression.as_ref().map_or(0.0, |c| c.error);
    scaled(report.total.steps.unique_bytes, error)
}

/// `figure` with how many times smaller `after` is; without, if nothing is left.
fn with_ratio(figure: String, before: u64, after: u64) -> String {
    match ratio(before, after) {
        ratio if ratio.is_finite() => format!("{figure} · {}", times(ratio)),
        _ => figure,
    }
}

pub(super) fn plus_minus(error: u64) -> String {
    if error == 0 {
        return String::new();
    }
    format!(" ± {}", size::human(error))
}

/// The chart.
pub(super) fn chart(report: &FarmReport) -> Markup {
    let steps = steps(report);
    let allocated = report.total.steps.allocated_bytes;
    let widest = report.total.steps.total_bytes.max(allocated);
    let x = |bytes: u64| MARGIN + part(bytes, widest) * (WIDTH - 2.0 * MARGIN);
    let rows = f64::from(u8::try_from(steps.len()).unwrap_or(u8::MAX));
    let floor = TOP + rows * ROW;
    let speech = steps.iter().map(|s| (s.name, s.figure.clone()));
    let speech = speech.chain([("On the medium today", size::human(allocated))]);
    let label = format!("Savings waterfall. {}", spoken(speech));
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {}", at(floor + 20.0))) role="img" aria-label=(label) {
            defs {
                pattern #hatch-cut width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect.cut-fill width="6" height="6" {}
                    rect.stripe width="2.2" height="6" {}
                }
                pattern #hatch-rest width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect.rest-fill width="6" height="6" {}
                    rect.stripe-rest width="1.6" height="6" {}
                }
            }
            @for tick in byte_ticks(widest) {
                line.grid x1=(at(x(tick))) x2=(at(x(tick))) y1=(at(TOP)) y2=(at(floor)) {}
                text.tick x=(at(x(tick))) y=(at(floor + 14.0)) text-anchor=(anchor(x(tick), 0.12)) {
                    @if tick == 0 { "0" } @else { (size::human(tick)) }
                }
            }
            @for (i, step) in (0u8..).zip(&steps) {
                (bar(step, TOP + f64::from(i) * ROW, &x, steps.get(usize::from(i) + 1).is_some()))
            }
            line.today x1=(at(x(allocated))) x2=(at(x(allocated))) y1="16" y2=(at(floor)) {}
            text.note x=(at(x(allocated))) y="11" text-anchor=(anchor(x(allocated), 0.38)) {
                "on the medium today: " (size::human(allocated))
            }
            @for (i, step) in (0u8..).zip(&steps) {
                @let y = TOP + f64::from(i) * ROW + 13.0;
                text.name x=(at(MARGIN)) y=(at(y)) { (step.name) }
                text.figure x=(at(WIDTH - MARGIN)) y=(at(y)) text-anchor="end" { (step.figure) }
            }
        }
    }
}

/// The bar of a step at height `y`; `more` if another one follows.
fn bar(step: &Step, y: f64, x: &dyn Fn(u64) -> f64, more: bool) -> Markup {
    let (left, right) = (x(step.from), x(step.to));
    // Where the step ends: a cut leaves what is on its left.
    let (end, end_bytes) = if step.class.starts_with("cut") {
        (left, step.from)
    } else {
        (right, step.to)
    };
    let middle = y + BAR + THICK / 2.0;
    html! {
        rect class=(format!("bar {}", step.class)) x=(at(left)) y=(at(y + BAR))
            width=(at(visible(step.to - step.from, right - left))) height=(at(THICK)) {}
        @if more {
            line.link x1=(at(end)) x2=(at(end)) y1=(at(y + BAR)) y2=(at(y + ROW + BAR)) {}
        }
        @if step.error > 0 {
            @let low = x(end_bytes.saturating_sub(step.error));
            @let high = x(end_bytes.saturating_add(step.error));
            path.whisker d=(format!(
                "M{0} {1}V{2}M{0} {3}H{4}M{4} {1}V{2}",
                at(low), at(middle - 4.0), at(middle + 4.0), at(middle), at(high)
            )) {}
        }
    }
}

/// Something that is there can be seen, however small.
fn visible(bytes: u64, width: f64) -> f64 {
    if bytes == 0 { 0.0 } else { width.max(0.8) }
}

/// How a text at `x` is laid so that it stays inside the chart, if it takes twice `room` of it.
fn anchor(x: f64, room: f64) -> &'static str {
    match x / WIDTH {
        r if r < room => "start",
        r if r > 1.0 - room => "end",
        _ => "middle",
    }
}
