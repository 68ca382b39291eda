//! The share matrix: images by images, the stronger the colour the more they have in common.
//!
//! Alike images are neighbours, so families show as squares. More images than fit are taken
//! together with their neighbours.

use super::{
    grid::Grid,
    names::short,
    scale::{WIDTH, at, count, percent},
};
use crate::{size, verbs::dedup_report::report::FarmReport};
use maud::{Markup, html};

/// Up to so many images have their names beside them.
const NAMED: usize = 16;
/// Up to so many cells of a side carry their figure.
const FIGURES: usize = 12;
/// Characters of a name: beside a row, and where it is pointed at.
const NAME: usize = 16;
const POINTED: usize = 30;
/// Names of a row in the list of rows.
const LISTED: usize = 20;
/// Steps of the ramp above nothing.
const SHADES: u8 = 10;
const TOP: f64 = 16.0;

/// The chart with its legend, or why there is none. It takes two images.
pub(super) fn chart(report: &FarmReport) -> Markup {
    let Some(grid) = Grid::new(report) else {
        return html! {
            p.quiet {
                "Left out: the pairs of " (count(report.images.len() as u64))
                " images did not fit the memory of this run; " code { "--memory" } " gives it more."
            }
        };
    };
    let label = format!(
        "Share matrix of {} images. Most alike: {}",
        count(report.images.len() as u64),
        most_alike(report)
    );
    let named = grid.side <= NAMED;
    let left = if named { 116.0 } else { 24.0 };
    let cell = ((WIDTH - left - 2.0) / f64::from(u8::try_from(grid.side).unwrap_or(1))).min(48.0);
    let gap = if cell > 8.0 { 1.0 } else { 0.4 };
    let at_cell = |i: usize| f64::from(u8::try_from(i).unwrap_or(0)) * cell;
    let height = TOP + at_cell(grid.side) + 2.0;
    // Every row, or the first and every tenth.
    let numbered = |i: usize| named || i == 0 || (i + 1).is_multiple_of(10);
    html! {
        (legend())
        svg.chart.matrix viewBox=(format!("0 0 {WIDTH} {}", at(height))) role="img" aria-label=(label) {
            @for i in (0..grid.side).filter(|i| numbered(*i)) {
                text.tick x=(at(left + at_cell(i) + cell / 2.0)) y=(at(TOP - 4.0)) text-anchor="middle" { (i + 1) }
                text.tick x=(at(left - 4.0)) y=(at(TOP + at_cell(i) + cell / 2.0 + 4.0)) text-anchor="end" {
                    @if named { (grid.name(i, NAME)) " " tspan.strong { (i + 1) } } @else { (i + 1) }
                }
            }
            g transform=(format!("translate({} {TOP})", at(left))) {
                @for row in 0..grid.side {
                    g transform=(format!("translate(0 {})", at(at_cell(row)))) {
                        @for column in 0..grid.side {
                            (draw(&grid, row, column, at_cell(column), cell, gap))
                        }
                    }
                }
            }
        }
        @if report.images.len() > grid.side {
            p.quiet {
                (count(report.images.len() as u64)) " images in " (grid.side) " rows: each row is up to "
                (report.images.len().div_ceil(grid.side))
                " neighbours, and each square the mean of its pairs of images."
            }
        }
        @if !named { (rows(&grid)) }
    }
}

fn draw(grid: &Grid, row: usize, column: usize, x: f64, cell: f64, gap: f64) -> Markup {
    let share = grid.share(row, column);
    let shade = share.map(shade);
    // What shares nothing needs no name: its colour says all.
    let class = shade.map_or_else(|| "self".to_owned(), |s| format!("h{s}"));
    let bytes = grid.cells[row * grid.side + column].bytes;
    html! {
        rect class=(class) x=(at(x)) width=(at(cell - gap)) height=(at(cell - gap)) {
            @if let Some(share) = share && bytes > 0 {
                title {
                    @if grid.order.len() > grid.side {
                        "rows " (row + 1) " and " (column + 1) ": " (percent(share * 100.0))
                    } @else {
                        (grid.name(row, POINTED)) " and " (grid.name(column, POINTED)) ": "
                        (percent(share * 100.0)) ", " (size::human(bytes))
                    }
                }
            }
        }
        @if grid.side <= FIGURES && let Some(share) = share {
            text class=(if shade.unwrap_or(0) > SHADES / 2 { "in-dark" } else { "in-light" })
                x=(at(x + (cell - gap) / 2.0)) y=(at(cell / 2.0 + 4.0)) text-anchor="middle" {
                (format!("{:.0}", (share * 100.0).floor()))
            }
        }
    }
}

/// Its step of the ramp: 0 is nothing, 10 more than 90 %.
fn shade(share: f64) -> u8 {
    let steps = (1..=SHADES).find(|s| share <= f64::from(*s) / f64::from(SHADES));
    if share > 0.0 {
        steps.unwrap_or(SHADES)
    } else {
        0
    }
}

fn legend() -> Markup {
    html! {
        p.legend.ramp {
            "0 %"
            span {
                @for shade in 0..=SHADES { i class=(format!("h{shade}")) {} }
            }
            "100 % of the smaller image"
        }
    }
}

/// Which images the rows are.
fn rows(grid: &Grid) -> Markup {
    html! {
        details {
            summary { "The images of each row" }
            ol.rows {
                @for row in 0..grid.side {
                    li {
                        @let images = grid.images(row);
                        @for (i, image) in images.iter().take(LISTED).enumerate() {
                            @if i > 0 { ", " }
                            (grid.names[*image])
                        }
                        @if images.len() > LISTED { ", and " (images.len() - LISTED) " more" }
                    }
                }
            }
        }
    }
}

/// The pair that shares most, for readers that hear the chart.
fn most_alike(report: &FarmReport) -> String {
    let pairs = report.pairs.iter();
    let pairs = pairs.flat_map(|all| all.list.iter().map(move |pair| (all, pair)));
    pairs.max_by_key(|(_, p)| p.shared_bytes).map_or_else(
        || "none share anything.".to_owned(),
        |(all, p)| {
            let [a, b] = all.paths(p).map(|path| short(path, 60));
            format!("{a} and {b}, {}.", size::human(p.shared_bytes))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_are_tenths() {
        for (share, expected) in [
            (0.0, 0),
            (0.001, 1),
            (0.1, 1),
            (0.11, 2),
            (0.95, 10),
            (1.0, 10),
            (f64::NAN, 0),
        ] {
            assert_eq!(shade(share), expected, "{share}");
        }
    }
}
