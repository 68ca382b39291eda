//! How the flags of the report are read: shares of a whole, and the sizes of a sweep.

use std::path::Path;
use vdisk_core::{
    Error, ErrorKind, Result,
    ops::dedup::{LARGEST_BLOCK, UNIT},
};

/// Block sizes of `--sweep`: those that file systems and arrays use.
pub(super) const SWEEP: [u64; 8] = [
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    1 << 20,
    4 << 20,
];

/// Bits of the largest sample: one in 65,536 blocks.
const LARGEST_SAMPLE: u32 = 16;

/// Average sizes of chunks that make sense, in bytes.
const CHUNKS: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 20;

fn usage(part: &'static str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, part, detail)
}

/// How many bits of a fingerprint choose the sample: 6 for `1/64`.
pub(super) fn sample(text: &str) -> Result<u32> {
    let number = text.strip_prefix("1/").and_then(|n| n.parse::<u32>().ok());
    number
        .filter(|n| n.is_power_of_two() && n.ilog2() <= LARGEST_SAMPLE)
        .map(u32::ilog2)
        .ok_or_else(|| {
            let most = 1 << LARGEST_SAMPLE;
            let detail = format!("'{text}' is not 1/N, N a power of two up to {most}");
            usage("sample", detail)
        })
}

/// A number from 0 to 100, with or without a percent sign.
pub(super) fn percent(text: &str) -> Result<f64> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let number = number.parse().ok();
    number
        .filter(|n| (0.0..=100.0).contains(n))
        .ok_or_else(|| usage("percent", format!("'{text}' is not a number from 0 to 100")))
}

/// The average size of chunks in bytes.
pub(super) fn chunk(text: &str) -> Result<u32> {
    let bytes = crate::size::parse(text)?;
    let fits = CHUNKS.contains(&bytes) && bytes.is_power_of_two();
    match u32::try_from(bytes) {
        Ok(bytes) if fits => Ok(bytes),
        _ => Err(usage(
            "chunk size",
            format!("'{text}' is not a power of two from 4K to 1M"),
        )),
    }
}

/// Fails if `path` is no file but a size, as after `--cdc` without an equals sign.
pub(super) fn no_size(path: &Path) -> Result<()> {
    match path.to_str() {
        Some(text) if crate::size::parse(text).is_ok() && path.symlink_metadata().is_err() => {
            let detail = format!("there is no file '{text}'; a size is given as --cdc={text}");
            Err(usage("--cdc", detail))
        }
        _ => Ok(()),
    }
}

/// Fails unless blocks of `block` bytes, hashed in pieces of `unit` bytes, can be counted together
/// with those of [`SWEEP`].
pub(super) fn check_sweep(block: u64, unit: u64) -> Result<()> {
    let wrong = |detail| Err(usage("--sweep", detail));
    if unit != UNIT {
        return wrong("needs blocks of a multiple of 4 KiB".to_owned());
    }
    let largest = SWEEP.into_iter().max().unwrap_or(UNIT);
    // The sizes are powers of two: the largest is a multiple of the others.
    let common = block / greatest_divisor(block, largest) * largest;
    if common > LARGEST_BLOCK {
        return wrong(format!(
            "blocks of {} do not nest with those of the sweep; 4K to 16M do, in powers of two",
            crate::size::human(block)
        ));
    }
    Ok(())
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_in_a_power_of_two() {
        for (text, bits) in [("1/1", 0), ("1/64", 6), ("1/65536", 16)] {
            assert_eq!(sample(text).ok(), Some(bits), "{text}");
        }
        for text in [
            "", "64", "1/", "1/0", "1/3", "1/131072", "2/64", "1/-4", "1/4.0",
        ] {
            let kind = sample(text).map_err(|e| e.kind());
            assert_eq!(kind, Err(ErrorKind::Usage), "{text}");
        }
    }

    #[test]
    fn a_percentage_lies_between_0_and_100() {
        for (text, number) in [("0", 0.0), ("50", 50.0), ("99.5%", 99.5), ("100 %", 100.0)] {
            assert_eq!(percent(text).ok(), Some(number), "{text}");
        }
        for text in ["", "-1", "100.1", "NaN", "inf", "half", "%"] {
            let kind = percent(text).map_err(|e| e.kind());
            assert_eq!(kind, Err(ErrorKind::Usage), "{text}");
        }
    }

    #[test]
    fn chunks_have_an_average_that_is_a_power_of_two() {
        assert_eq!(chunk("64K").ok(), Some(65536));
        for text in ["2K", "2M", "48K", "x"] {
            assert!(chunk(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_sweep_needs_sizes_that_nest() {
        for block in [4096, 8192, 12288, 1 << 20, 16 << 20] {
            assert!(check_sweep(block, UNIT).is_ok(), "{block}");
        }
        for (block, unit) in [(512, 512), (20 << 10, UNIT), (9 << 20, UNIT)] {
            assert!(check_sweep(block, unit).is_err(), "{block}");
        }
    }
}
