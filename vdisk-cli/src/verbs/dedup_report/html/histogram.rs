//! The reference histogram: how much of the data is there how often.
//!
//! Two bars for each range of occurrences, on one linear scale, so that their lengths can be
//! compared; each carries its figure, so that short ones can be read too.

use super::scale::{WIDTH, at, part, spoken};
use crate::{
    size,
    verbs::dedup_report::report::{FarmReport, References},
};
use maud::{Markup, html};

/// Ranges shown; all that occurs more often is one.
const MOST: usize = 14;
const TOP: f64 = 4.0;
const ROW: f64 = 36.0;
const THICK: f64 = 12.0;
/// Where bars start: before them stand the occurrences, behind them the figures.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 70.0;

struct Row {
    label: String,
    unique: u64,
    data: u64,
}

/// The ranges that hold something, the last ones taken together if they are many.
fn rows(references: &[References]) -> Vec<Row> {
    let mut full: Vec<&References> = references.iter().filter(|r| r.data_bytes > 0).collect();
    full.sort_by_key(|r| r.from);
    let tail = if full.len() > MOST {
        full.split_off(MOST - 1)
    } else {
        Vec::new()
    };
    let row = |r: &&References| Row {
        label: match (r.from, r.to) {
            (1, 1) => "once".into(),
            (from, to) if from == to => format!("{}×", brief(from)),
            (from, to) => format!("{}–{}×", brief(from), brief(to)),
        },
        unique: r.unique_bytes,
        data: r.data_bytes,
    };
    let mut rows: Vec<Row> = full.iter().map(row).collect();
    if let Some(first) = tail.first() {
        let sum =
            |of: fn(&References) -> u64| tail.iter().map(|r| of(r)).fold(0, u64::saturating_add);
        rows.push(Row {
            label: format!("≥ {}×", brief(first.from)),
            unique: sum(|r| r.unique_bytes),
            data: sum(|r| r.data_bytes),
        });
    }
    rows
}

/// `number` in four digits, or with a letter: `16k`.
fn brief(number: u64) -> String {
    let mut rest = number;
    for letter in ["", "k", "M", "G", "T", "P"] {
        if rest < 10_000 {
            return format!("{rest}{letter}");
        }
        rest /= 1000;
    }
    format!("{rest}E")
}

/// The chart; nothing if there is no data.
pub(super) fn chart(report: &FarmReport) -> Option<Markup> {
    let rows = rows(&report.references);
    let widest = rows.iter().map(|r| r.data.max(r.unique)).max()?;
    let height = TOP + ROW * f64::from(u8::try_from(rows.len()).unwrap_or(u8::MAX));
    let speech = rows.iter().map(|r| {
        let figures = format!(
            "{} distinct, {} in all",
            size::human(r.unique),
            size::human(r.data)
        );
        (r.label.as_str(), figures)
    });
    let label = format!("Data by how often it occurs. {}", spoken(speech));
    let bar = |class: &str, y: f64, bytes: u64| {
        let width = part(bytes, widest) * (WIDTH - LEFT - RIGHT);
        // Something that is there can be seen, however small.
        let width = if bytes > 0 { width.max(0.8) } else { 0.0 };
        html! {
            rect class=(format!("bar {class}")) x=(at(LEFT)) y=(at(y)) width=(at(width)) height=(at(THICK)) {}
            text.small x=(at(LEFT + width + 4.0)) y=(at(y + THICK - 2.0)) { (size::human(bytes)) }
        }
    };
    Some(html! {
        p.legend {
            span.key.whole {} " all occurrences" span.key.rest {} " stored once"
        }
        svg.chart viewBox=(format!("0 0 {WIDTH} {}", at(height))) role="img" aria-label=(label) {
            line.axis x1=(at(LEFT)) x2=(at(LEFT)) y1="0" y2=(at(height)) {}
            @for (i, row) in (0u8..).zip(&rows) {
                @let y = TOP + f64::from(i) * ROW;
                text.name x=(at(LEFT - 6.0)) y=(at(y + THICK + 4.0)) text-anchor="end" { (row.label) }
                (bar("whole", y, row.data))
                (bar("rest", y + THICK + 1.0, row.unique))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurs_very_often_is_one_row() {
        let reference = |power: u32| References {
            from: 1 << power,
            to: (2 << power) - 1,
            blocks: 1,
            unique_bytes: 1,
            data_bytes: 1 << power,
        };
        let many: Vec<References> = (0..40).rev().map(reference).collect();
        let rows = rows(&many);
        assert_eq!(rows.len(), MOST);
        assert_eq!(rows[0].label, "once");
        assert_eq!(rows[2].label, "4–7×");
        assert_eq!(rows[MOST - 1].label, "≥ 8192×");
        assert_eq!(rows.iter().map(|r| r.unique).sum::<u64>(), 40);
        assert_eq!(rows.iter().map(|r| r.data).sum::<u64>(), (1 << 40) - 1);
    }
}
