//! Sizes as people write and read them. Powers of 1024 only: disks are made of them.

use vdisk_core::{Error, ErrorKind, Result, limits::DISK_SIZE, profile::size_text};

/// Units of the parser and of [`human`], from the smallest.
const UNITS: [&str; 6] = ["", "K", "M", "G", "T", "P"];

/// Bytes from `4096`, `64K`, `1.5G` or `10GiB`; the result must be a whole number of bytes.
pub(crate) fn parse(text: &str) -> Result<u64> {
    let wrong = |why: &str| Error::new(ErrorKind::Usage, "size", format!("'{text}' {why}"));
    let nonsense = || wrong("is not a size; write bytes, or a number with K, M, G or T");
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.strip_suffix("iB").unwrap_or(unit);
    let power = UNITS.iter().position(|u| u.eq_ignore_ascii_case(unit));
    let scale = 1u128 << (10 * power.ok_or_else(nonsense)?);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return Err(nonsense());
    }
    if whole.len() > 20 || fraction.len() > 15 {
        return Err(wrong("has too many digits"));
    }
    let digits = format!("{whole}{fraction}");
    let value: u128 = digits.parse().map_err(|_| nonsense())?;
    let parts = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let bytes = value
        .checked_mul(scale)
        .ok_or_else(|| wrong("is too large"))?;
    if !bytes.is_multiple_of(parts) {
        return Err(wrong("is not a whole number of bytes"));
    }
    u64::try_from(bytes / parts).map_err(|_| wrong("is too large"))
}

/// As [`parse`], for the size of a disk.
pub(crate) fn disk(text: &str) -> Result<u64> {
    let bytes = parse(text)?;
    if bytes == 0 || !bytes.is_multiple_of(512) || bytes > DISK_SIZE {
        let detail = format!(
            "{} is not a multiple of 512 bytes from 512 bytes to {}",
            size_text(bytes),
            size_text(DISK_SIZE)
        );
        return Err(Error::new(ErrorKind::Usage, "size", detail));
    }
    Ok(bytes)
}

/// `bytes` with a unit, for people: `1.5 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    while tenths >= 10_230 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    match UNITS.get(unit).copied().unwrap_or_default() {
        "" if bytes == 1 => "1 byte".to_owned(),
        "" => format!("{bytes} bytes"),
        unit if tenths.is_multiple_of(10) => format!("{} {unit}iB", tenths / 10),
        unit => format!("{}.{} {unit}iB", tenths / 10, tenths % 10),
    }
}

/// `bytes` with a unit and exactly, for reports.
pub(crate) fn both(bytes: u64) -> String {
    if bytes < 1024 {
        return human(bytes);
    }
    format!("{} ({bytes} bytes)", human(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("4k", 4096),
            ("4KiB", 4096),
            ("1.5G", 1_610_612_736),
            ("2T", 2 << 40),
            ("0.5K", 512),
            ("1P", 1 << 50),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text).ok(), Some(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_and_overflow_are_usage_errors() {
        for text in [
            "",
            "G",
            "-1",
            "1.",
            ".5K",
            "1.2.3K",
            "10KB",
            "0.3K",
            "1x",
            "1 G",
            "18446744073709551616",
            "16384P",
            "99999999999999999999999999",
            "0x10",
            "1iBiB",
            "١",
        ] {
            let kind = parse(text).map_err(|e| e.kind());
            assert_eq!(kind, Err(ErrorKind::Usage), "{text}");
        }
    }

    #[test]
    fn human_sizes_round_to_a_tenth() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1022, "1022 bytes"),
            (4096, "4 KiB"),
            (1_610_612_736, "1.5 GiB"),
            (10 << 30, "10 GiB"),
            ((1 << 20) - 1, "1 MiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
