//! Formats, variants and sizes as sentences name them.
//!
//! Names on the command line are for typing; a reader knows a VHDX, and 2040 GiB.

use crate::format;

/// What people call the format of that name: `VHDX`.
pub fn title(format: &str) -> String {
    match format {
        "vmdk" | "vhd" | "vhdx" | "vdi" | "ova" => format.to_ascii_uppercase(),
        other => other.to_owned(), // raw and qcow2 are called so
    }
}

/// An image of the format of that name: `a VHDX`, `an OVA`, `raw`.
pub(super) fn a_title(format: &str) -> String {
    match format {
        "raw" => title(format),
        "ova" => format!("an {}", title(format)),
        _ => format!("a {}", title(format)),
    }
}

/// Formats with their variants, each pair by their names: `VHD (dynamic, fixed), raw or OVA`. A
/// variant is not said where a format has but one.
///
/// ```
/// use vdisk_core::profile::variants;
/// let some = [("vhd", "dynamic"), ("vhd", "fixed"), ("raw", "sparse"), ("ova", "ova")];
/// assert_eq!(variants(some), "VHD (dynamic, fixed), raw or OVA");
/// assert_eq!(variants([("vhd", "fixed")]), "VHD (fixed)");
/// ```
pub fn variants<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut formats: Vec<(&str, Vec<&str>)> = Vec::new();
    for (format, subformat) in pairs {
        match formats.iter_mut().find(|(f, _)| *f == format) {
            Some((_, subformats)) => subformats.push(subformat),
            None => formats.push((format, vec![subformat])),
        }
    }
    let names: Vec<String> = formats
        .iter()
        .map(|(name, subformats)| {
            let single = format::named(name).is_ok_and(|f| f.subformats().len() == 1);
            match single {
                true => title(name),
                false => format!("{} ({})", title(name), subformats.join(", ")),
            }
        })
        .collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// `bytes` exactly, in the largest unit that has no fraction: `2040 GiB`.
///
/// ```
/// use vdisk_core::profile::size_text;
/// assert_eq!(size_text(2040 << 30), "2040 GiB");
/// assert_eq!(size_text(3 << 40), "3 TiB");
/// assert_eq!(size_text((3 << 40) + 512), "3298534883840 bytes");
/// ```
pub fn size_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = |shift: u32| bytes > 0 && bytes.trailing_zeros() >= shift;
    let found = units.into_iter().find(|(shift, _)| whole(*shift));
    match found.map(|(shift, unit)| (bytes >> shift, unit)) {
        // More digits are no easier to read than bytes.
        Some((number, unit)) if number < 100_000 => format!("{number} {unit}"),
        _ => format!("{bytes} bytes"),
    }
}
