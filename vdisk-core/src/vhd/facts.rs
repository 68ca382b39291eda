//! What a footer tells about an image besides its size, in words for people.

use super::{
    disk_structs::{DYNAMIC, FEATURE_TEMPORARY, FIXED, Footer},
    footer::Found,
};
use crate::{Identity, format::Facts};

/// The facts that the footer alone tells.
pub(crate) fn of(found: &Found) -> Facts {
    let footer = &found.footer;
    let mut warnings = found.warnings.clone();
    if footer.features & FEATURE_TEMPORARY != 0 {
        warnings.push("the disk is marked as temporary: its owner may delete it".to_owned());
    }
    if footer.saved_state != 0 {
        let warning =
            "the disk belongs to a virtual machine in saved state, which expects it unchanged";
        warnings.push(warning.to_owned());
    }
    if let Some(size) = footer
        .size_by_geometry()
        .filter(|_| footer.creator_goes_by_geometry())
    {
        warnings.push(format!(
            "Virtual PC and qemu take the geometry for the size of this disk, and see {size} bytes"
        ));
    }
    let geometry = footer.geometry;
    let mut details = vec![(
        "geometry",
        format!(
            "{} cylinders, {} heads, {} sectors ({} bytes)",
            geometry.cylinders,
            geometry.heads,
            geometry.sectors,
            geometry.bytes()
        ),
    )];
    if footer.hidden != 0 && footer.is_xen() {
        details.push((
            "hidden",
            "yes: XenServer keeps it only as a parent".to_owned(),
        ));
    }
    if footer.timestamp != 0 {
        details.push(("created", date(footer.timestamp)));
    }
    if footer.original_size != footer.current_size {
        details.push(("original size", format!("{} bytes", footer.original_size)));
    }
    Facts {
        subformat: match footer.disk_type {
            FIXED => "fixed",
            DYNAMIC => "dynamic",
            _ => "differencing",
        }
        .to_owned(),
        creator: creator(footer),
        details,
        warnings,
        identity: Some(Identity::Uuid(footer.uuid)),
        ..Facts::default()
    }
}

/// The program that the creator field stands for; `None` if it is empty.
fn creator(footer: &Footer) -> Option<String> {
    let app = footer.creator_app.trim_ascii_end();
    let end = app.iter().position(|b| *b == 0).unwrap_or(app.len());
    let known = match app.get(..end).unwrap_or_default() {
        b"win" => "Windows or a tool that writes as Windows",
        b"vpc" => "Virtual PC",
        b"vs" => "Virtual Server",
        b"qemu" | b"qem2" => "qemu",
        b"vbox" => "VirtualBox",
        b"tap" | b"CTXS" => "Xen",
        b"d2v" => "Disk2vhd",
        b"wa" => "Azure",
        b"" => return None,
        other => return Some(other.escape_ascii().to_string()),
    };
    Some(known.to_owned())
}

/// A time of the format, as `2004-11-23 09:00:00 UTC`.
fn date(timestamp: u32) -> String {
    let (days, second) = (timestamp / 86_400, timestamp % 86_400);
    let (mut year, mut day) = (2000u32, days);
    // At most 136 years.
    while let Some(rest) = day.checked_sub(if leap(year) { 366 } else { 365 }) {
        day = rest;
        year = year.saturating_add(1);
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1u32;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        let Some(rest) = day.checked_sub(len) else {
            break;
        };
        day = rest;
        month = month.saturating_add(1);
    }
    format!(
        "{year}-{month:02}-{:02} {:02}:{:02}:{:02} UTC",
        day.saturating_add(1),
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

fn leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_a_calendar() {
        // `date -u -d @$((946684800 + N))`
        assert_eq!(date(0), "2000-01-01 00:00:00 UTC");
        assert_eq!(date(0x2715_ab0f), "2020-10-11 11:37:51 UTC");
        assert_eq!(date(5_097_600), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(31_622_399), "2000-12-31 23:59:59 UTC");
        assert_eq!(date(u32::MAX), "2136-02-07 06:28:15 UTC");
    }
}
