//! How well a sample of the units compresses.

use super::{Compression, Fingerprint};
use std::collections::HashMap;

/// Distinct units and what deflate made of them: those whose fingerprints end with `bits` zeros.
pub(super) struct Deflated {
    bits: u32,
    /// Length, and after deflate.
    units: HashMap<Fingerprint, (u32, u32)>,
    most: usize,
}

/// Most units kept: the error of the ratio is below 0.004 with so many.
const MOST: u64 = 65_536;

/// Bytes that a unit takes in the map, at most: it doubles when it is 7/8 full.
const ENTRY: u64 = 64;

/// With fewer units the normal distribution says too little.
const FEW: u64 = 30;

impl Deflated {
    pub(super) fn new(memory: u64) -> Self {
        Self {
            bits: 0,
            units: HashMap::new(),
            most: usize::try_from((memory / ENTRY).clamp(16, MOST)).unwrap_or(16),
        }
    }

    /// Only one in 2 to the power of `bits` counts, or fewer.
    pub(super) fn at_least(&mut self, bits: u32) {
        if bits > self.bits {
            self.bits = bits;
            self.units.retain(|print, _| print.ends_with_zeros(bits));
        }
    }

    pub(super) fn add(&mut self, print: Fingerprint, len: u32, deflated: u32) {
        if print.ends_with_zeros(self.bits) {
            self.units.entry(print).or_insert((len, deflated));
            while self.units.len() > self.most {
                self.at_least(self.bits + 1);
            }
        }
    }

    /// The ratio, and its error as [`Compression`] says.
    pub(super) fn finish(self) -> Option<Compression> {
        let sum = |of: fn(&(u32, u32)) -> u32| -> u64 {
            self.units.values().map(|unit| u64::from(of(unit))).sum()
        };
        let (bytes, deflated) = (sum(|u| u.0), sum(|u| u.1));
        if bytes == 0 {
            return None;
        }
        let units = self.units.len() as u64;
        let ratio = deflated as f64 / bytes as f64;
        // Of a sample without repetition from a known part of all: all of them leave no doubt.
        let doubt = (1.0 - 0.5f64.powi(self.bits.try_into().unwrap_or(0))).sqrt();
        let error = if units < FEW {
            // Hoeffding's inequality: holds whatever the units are like.
            ((2.0f64 / 0.05).ln() / (2.0 * units as f64)).sqrt()
        } else {
            // In one order, so that equal runs give the same digits: a map has none.
            let mut all: Vec<_> = self.units.into_values().collect();
            all.sort_unstable();
            let squares: f64 = all
                .into_iter()
                .map(|(len, deflated)| (f64::from(deflated) - ratio * f64::from(len)).powi(2))
                .sum();
            let n = units as f64;
            1.96 * (squares * n / (n - 1.0)).sqrt() / bytes as f64
        };
        Some(Compression {
            units,
            bytes,
            deflated,
            ratio,
            error: (error * doubt).min(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unit(number: u32) -> Fingerprint {
        Fingerprint::of(&number.to_le_bytes())
    }

    #[test]
    fn all_units_leave_no_doubt_and_repeats_count_once() {
        let mut all = Deflated::new(1 << 20);
        for number in (0..100).chain(0..100) {
            all.add(unit(number), 4096, 1024 + number);
        }
        let found = all.finish().unwrap();
        assert_eq!((found.units, found.bytes), (100, 409_600));
        assert_eq!(found.deflated, 1024 * 100 + 4950);
        assert_eq!(found.error, 0.0);
        assert_eq!(Deflated::new(0).finish(), None);
    }

    #[test]
    fn the_map_stays_small_and_the_interval_holds() {
        // Half of the units compress to 1/8, the others to 7/8: 1/2 is the truth.
        let mut held = 0;
        for seed in 0..60 {
            let mut few = Deflated::new(256 * ENTRY);
            few.at_least(1);
            for number in 0..2000 {
                let deflated = if number % 2 == 0 { 512 } else { 3584 };
                few.add(unit(number * 1000 + seed), 4096, deflated);
            }
            let found = few.finish().unwrap();
            assert!((60..=256).contains(&found.units), "{found:?}");
            held += usize::from((found.ratio - 0.5).abs() <= found.error);
        }
        assert!(held >= 54, "{held} of 60");
    }

    #[test]
    fn the_order_of_units_changes_no_digit() {
        let error = |numbers: &mut dyn Iterator<Item = u32>| {
            let mut some = Deflated::new(1 << 20);
            some.at_least(1);
            numbers.for_each(|n| some.add(unit(n), 4096, n.wrapping_mul(2_654_435_761) % 4096));
            some.finish().unwrap().error
        };
        for most in 1000..1020 {
            assert_eq!(error(&mut (0..most)), error(&mut (0..most).rev()));
        }
    }

    #[test]
    fn few_units_promise_little() {
        let mut few = Deflated::new(1 << 20);
        few.at_least(2);
        (0..40).for_each(|number| few.add(unit(number), 4096, 100));
        let found = few.finish().unwrap();
        assert!(found.units < FEW && found.error > 0.2, "{found:?}");
    }
}
