//! Numbers as the page shows them, and as coordinates of charts.
//!
//! In one place, so that a ratio that is no number cannot reach the page in some chart.

use crate::size;
use std::fmt::Write;

/// Width of every chart in its own units; on a phone they are about a pixel each.
pub(super) const WIDTH: f64 = 360.0;

/// What part `part` is of `whole`: 0 of nothing, and 1 at most.
#[expect(clippy::cast_precision_loss, reason = "a chart has a thousand pixels")]
pub(super) fn part(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64).min(1.0)
}

/// `bytes` times `factor`, which may be anything.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; the cast saturates, and makes 0 of what is no number"
)]
pub(super) fn scaled(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor) as u64
}

/// A coordinate: to a tenth of a unit, and never anything but a number.
pub(super) fn at(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" {
        "0".into()
    } else {
        text.into()
    }
}

/// `49.5 %`, of a percentage.
pub(super) fn percent(value: f64) -> String {
    match value {
        v if !v.is_finite() => "–".into(),
        v if v > 0.0 && v < 0.05 => "< 0.1 %".into(),
        v if v > 99.95 && v < 100.0 => "> 99.9 %".into(),
        v if v == 0.0 || v == 100.0 => format!("{v:.0} %"),
        v => format!("{v:.1} %"),
    }
}

/// `2.3×`, of a ratio.
pub(super) fn times(ratio: f64) -> String {
    match ratio {
        v if !v.is_finite() => "–".into(),
        v if v >= 1e6 => "> 1,000,000×".into(),
        v if v >= 99.95 => format!("{v:.0}×"),
        v => format!("{v:.1}×"),
    }
}

/// How many times smaller `after` is than `before`; 1 if there is nothing.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn ratio(before: u64, after: u64) -> f64 {
    match (before, after) {
        (0, _) => 1.0,
        (_, 0) => f64::INFINITY,
        (before, after) => before as f64 / after as f64,
    }
}

/// A block size, as the option wants it: `64K`.
pub(super) fn block(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{}M", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{}K", b >> 10),
        b => b.to_string(),
    }
}

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 image`, `1,000 images`.
pub(super) fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number as u64))
}

/// Marks of an axis from 0 to `max` bytes: multiples of a power of two, five at most.
pub(super) fn byte_ticks(max: u64) -> Vec<u64> {
    let mut step = 1u64;
    while max / step > 4 {
        step <<= 1;
    }
    let marks = (0..=max / step).map(|i| i * step);
    marks.collect()
}

/// Marks of an axis of percentages from 0 to at least `max`.
pub(super) fn percent_ticks(max: f64) -> Vec<f64> {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0]
        .into_iter()
        .find(|step| max <= step * 5.0)
        .unwrap_or(20.0);
    (0..=5u8).map(|i| f64::from(i) * step).collect()
}

/// Figures one after the other, for readers that hear a chart.
pub(super) fn spoken<'a>(figures: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut text = String::new();
    for (name, figure) in figures {
        let gap = if text.is_empty() { "" } else { "; " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{gap}{name}: {figure}");
    }
    text
}

/// `bytes`, less than nothing shown as what is taken away.
pub(super) fn minus(bytes: u64) -> String {
    format!("− {}", size::human(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_never_shown() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for text in [at(value), percent(value), times(value)] {
                assert!(["0", "–"].contains(&text.as_str()), "{text}");
            }
        }
        assert_eq!(part(5, 0), 0.0);
        assert_eq!(scaled(10, f64::NAN), 0);
        assert_eq!(scaled(10, -1.0), 0);
        assert_eq!(at(-0.01), "0");
    }

    #[test]
    fn figures_are_rounded_but_never_to_none_or_all() {
        for (value, text) in [
            (0.0, "0 %"),
            (0.01, "< 0.1 %"),
            (49.96, "50.0 %"),
            (33.333, "33.3 %"),
            (99.99, "> 99.9 %"),
            (100.0, "100 %"),
        ] {
            assert_eq!(percent(value), text);
        }
        assert_eq!(times(1.0), "1.0×");
        assert_eq!(times(1234.5), "1234×");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(block(4 << 20), "4M");
        assert_eq!(block(1536), "1536");
    }

    #[test]
    fn ticks_reach_the_end_and_are_few() {
        for max in [0, 1, 5, 1000, 1 << 20, (1 << 40) + 7, u64::MAX] {
            let ticks = byte_ticks(max);
            assert!((1..=5).contains(&ticks.len()), "{max}: {ticks:?}");
            let last = *ticks.last().unwrap();
            assert!(last <= max && last >= max / 2, "{max}: {ticks:?}");
        }
        assert_eq!(percent_ticks(100.0).last(), Some(&100.0));
        assert_eq!(percent_ticks(3.0).last(), Some(&5.0));
    }
}
