//! Changes settings in a descriptor, line by line: what is not changed stays byte for byte.
//!
//! Programs keep their own keys and comments in descriptors, and some read only their own order
//! (VirtualBox: header, extents, disk data base), so nothing is written anew.

use super::{
    descriptor::{self, Descriptor, NO_PARENT},
    descriptor_text::{Geometry, adapter},
    disk_structs::MAGIC,
    embedded_descriptor, head,
    sparse_extent::SparseExtent,
};
use crate::{
    Error, ErrorKind, Result,
    edit::{Changed, Edit, NewId, Plan},
    limits,
    patch::Patch,
    storage::ImageFile,
    units::{SECTOR, Sectors, buffer_len, round_up},
};
use std::fmt::Write;

/// Hardware versions that a descriptor may name: VMware counts since 3 and is at 22.
const HARDWARE_VERSIONS: std::ops::RangeInclusive<u32> = 1..=99;

/// Plans `edit` for the image whose descriptor is `file`, or in it.
pub(super) fn plan(file: &ImageFile, edit: &Edit) -> Result<Plan> {
    let head = head(file)?;
    if head.starts_with(MAGIC) {
        let header = SparseExtent::header(file)?;
        let area = embedded_descriptor(file, &header)?;
        let at = Sectors(header.descriptor_offset).bytes()?;
        let (text, mut plan) = edited(&area, edit)?;
        plan.patches.extend(in_area(file, at, &area, text)?);
        return Ok(plan);
    }
    if !descriptor::looks_like(&head) {
        let detail = "has no descriptor; change the one that names this extent";
        return Err(Error::new(ErrorKind::Unsupported, "image", detail));
    }
    if file.size > limits::DESCRIPTOR {
        let detail = format!("has {} bytes, more than {}", file.size, limits::DESCRIPTOR);
        return Err(Error::new(ErrorKind::Limit, "descriptor", detail));
    }
    let old = file.read_part("descriptor", 0, file.size)?;
    let (mut text, mut plan) = edited(&old, edit)?;
    if text_len(&old) < old.len() {
        // qemu fills the last sector; so does this, in what it has filled.
        let whole = round_up(text.len() as u64, SECTOR).max(file.size);
        text.resize(buffer_len(whole)?, 0);
    }
    if text.len() as u64 > limits::DESCRIPTOR {
        let detail = format!("would have more than {} bytes", limits::DESCRIPTOR);
        return Err(Error::new(ErrorKind::Usage, "descriptor", detail));
    }
    if text != old {
        plan.patches.push(Patch::replace(file, text));
    }
    Ok(plan)
}

/// The patch that puts `text` into the `area` at file offset `at`, if anything differs.
fn in_area(file: &ImageFile, at: u64, area: &[u8], mut text: Vec<u8>) -> Result<Option<Patch>> {
    let old = text_len(area);
    // One byte stays zero, for readers that look for an end. What follows belongs to tables.
    if text.len() > old && text.len() >= area.len() {
        let detail = format!(
            "would need {} bytes, and {} are reserved for it; nothing can be added",
            text.len(),
            area.len()
        );
        return Err(Error::new(ErrorKind::Usage, "descriptor", detail).at(at));
    }
    text.resize(area.len(), 0);
    let differs = |(a, b): (&u8, &u8)| a != b;
    let Some(first) = area.iter().zip(&text).position(differs) else {
        return Ok(None);
    };
    let last = area.iter().zip(&text).rposition(differs).unwrap_or(first);
    let bytes = text.get(first..=last).unwrap_or_default().to_vec();
    let start = at.saturating_add(first as u64);
    Ok(Some(Patch::write(file, start, bytes)))
}

/// Bytes of the text in an area that zeros fill up.
fn text_len(area: &[u8]) -> usize {
    area.iter().position(|&b| b == 0).unwrap_or(area.len())
}

/// The text of the descriptor in `area` after `edit`, and what changed.
fn edited(area: &[u8], edit: &Edit) -> Result<(Vec<u8>, Plan)> {
    let old = Descriptor::parse(area)?;
    let mut text = Text::new(area.get(..text_len(area)).unwrap_or_default());
    let mut plan = Plan::default();
    for (key, value) in wanted(&old, edit, &mut plan.warnings)? {
        let encoded = encode(&old, key, &value)?;
        let before = old.get(&key.to_ascii_lowercase());
        if before != Some(&value) {
            plan.changes.push(Changed {
                setting: key,
                from: before.map(str::to_owned),
                to: value,
            });
            text.set(key, &encoded)?;
        }
    }
    let bytes = text.lines.concat();
    let new = Descriptor::parse(&bytes)?;
    let as_wanted = |c: &Changed| new.get(&c.setting.to_ascii_lowercase()).is_some();
    if new.extents != old.extents || !plan.changes.iter().all(as_wanted) {
        let detail = "cannot be changed: its lines are not as any program writes them";
        return Err(Error::new(ErrorKind::Unsupported, "descriptor", detail));
    }
    Ok((bytes, plan))
}

/// The keys that `edit` sets, and their values.
fn wanted(
    old: &Descriptor,
    edit: &Edit,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'static str, String)>> {
    let mut values = Vec::new();
    if let Some(hint) = &edit.parent_hint {
        let by_cid = old.parent_cid.is_some_and(|cid| cid != NO_PARENT);
        if !by_cid && old.uuid("ddb.uuid.parent")?.is_none() {
            let detail = "cannot be named: the image has none";
            return Err(Error::new(ErrorKind::Usage, "parent", detail));
        }
        if hint.is_empty() {
            let detail = "an empty name leads nowhere";
            return Err(Error::new(ErrorKind::Usage, "parent", detail));
        }
        values.push(("parentFileNameHint", hint.clone()));
    }
    if let Some(name) = &edit.adapter {
        let adapter = adapter(name)?;
        let sectors = old
            .extents
            .iter()
            .fold(0u64, |n, e| n.saturating_add(e.sectors));
        let geometry = Geometry::of(sectors, adapter);
        values.push(("ddb.adapterType", adapter.to_owned()));
        values.push(("ddb.geometry.cylinders", geometry.cylinders.to_string()));
        values.push(("ddb.geometry.heads", geometry.heads.to_string()));
        values.push(("ddb.geometry.sectors", geometry.sectors.to_string()));
    }
    if let Some(id) = edit.uuid {
        let virtualbox = old.get("ddb.uuid.image").is_some();
        if virtualbox {
            values.push(("ddb.uuid.image", hyphenated(id)));
            warnings.push(
                "children that VirtualBox made name this disk by its old UUID, and so does a \
                 registered machine"
                    .to_owned(),
            );
        }
        if !virtualbox || old.get("ddb.uuid").is_some() {
            values.push(("ddb.uuid", spaced(id)));
        }
    }
    if let Some(version) = edit.hardware_version {
        if !HARDWARE_VERSIONS.contains(&version) {
            let detail = format!("{version} is not between 1 and 99");
            return Err(Error::new(ErrorKind::Usage, "hardware version", detail));
        }
        values.push(("ddb.virtualHWVersion", version.to_string()));
    }
    Ok(values)
}

/// As VirtualBox writes UUIDs.
fn hyphenated(id: NewId) -> String {
    let uuid = match id {
        NewId::Random => uuid::Uuid::new_v4(),
        NewId::Given(bytes) => uuid::Uuid::from_bytes(bytes),
    };
    uuid.to_string()
}

/// As VMware writes them: `60 00 C2 91 01 02 03 04-05 06 07 08 09 0a 0b 0c`.
fn spaced(id: NewId) -> String {
    let bytes = match id {
        NewId::Given(bytes) => bytes,
        NewId::Random => {
            let mut bytes = *uuid::Uuid::new_v4().as_bytes();
            // The vendor that guests see in SCSI answers is VMware: NAA 6, OUI 000C29.
            let [first, second, third, fourth, ..] = &mut bytes;
            (*first, *second, *third) = (0x60, 0x00, 0xc2);
            *fourth = *fourth & 0x0f | 0x90;
            bytes
        }
    };
    let mut text = String::new();
    for (number, byte) in bytes.iter().enumerate() {
        let before = match number {
            0 => "",
            8 => "-",
            _ => " ",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{before}{byte:02x}");
    }
    text
}

/// `value` in the encoding of the descriptor, if it can stand between quotes on one line.
fn encode(descriptor: &Descriptor, key: &'static str, value: &str) -> Result<Vec<u8>> {
    let usage = |detail: String| Err(Error::new(ErrorKind::Usage, key, detail));
    if value.contains(|c: char| c == '"' || c.is_control()) {
        return usage(format!(
            "'{value}' has a quote or a line break, which a descriptor cannot hold"
        ));
    }
    descriptor.encoding.encode(value).map_or_else(
        || {
            let label = descriptor.get("encoding").unwrap_or("UTF-8");
            usage(format!(
                "'{value}' cannot be written in the descriptor's encoding, {label}"
            ))
        },
        Ok,
    )
}

/// A descriptor as lines, each with its end.
struct Text {
    lines: Vec<Vec<u8>>,
}

impl Text {
    fn new(text: &[u8]) -> Self {
        let lines = text.split_inclusive(|&b| b == b'\n');
        Self {
            lines: lines.map(<[u8]>::to_vec).collect(),
        }
    }

    /// Gives `key` the value wherever it stands, or adds it where it belongs.
    fn set(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let mut found = false;
        for line in &mut self.lines {
            let Some(equals) = equals(line, key) else {
                continue;
            };
            found = true;
            let (name, rest) = line.split_at(equals.saturating_add(1));
            let before = rest
                .iter()
                .take_while(|b| matches!(b, b' ' | b'\t'))
                .count();
            let after = rest.trim_ascii_end().len().max(before);
            let new = [
                name,
                rest.get(..before).unwrap_or_default(),
                b"\"",
                value,
                b"\"",
                rest.get(after..).unwrap_or_default(),
            ];
            *line = new.concat();
        }
        if !found {
            self.add(key, value)?;
        }
        Ok(())
    }

    fn add(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let end: &[u8] = match self.lines.first() {
            Some(first) if first.ends_with(b"\r\n") => b"\r\n",
            _ => b"\n",
        };
        let is_ddb = |line: &Vec<u8>| is_setting(line) && starts_with(line, b"ddb.");
        let (at, equals): (usize, &[u8]) = if key.starts_with("ddb.") {
            let last = self.lines.iter().rposition(is_ddb);
            let at = last.map_or(self.lines.len(), |last| last.saturating_add(1));
            (at, b" = ")
        } else {
            // Among the first settings: after the extents, VirtualBox would not look for it.
            let extents = self.lines.iter().position(|line| is_extent(line));
            let header = self.lines.get(..extents.unwrap_or(self.lines.len()));
            let last = header
                .unwrap_or_default()
                .iter()
                .rposition(|line| is_setting(line) && !is_ddb(line));
            let last = last.ok_or_else(|| Error::corrupt("descriptor", "has no settings"))?;
            (last.saturating_add(1), b"=")
        };
        if let Some(before) = at.checked_sub(1).and_then(|i| self.lines.get_mut(i))
            && !before.ends_with(b"\n")
        {
            before.extend(end);
        }
        let line = [key.as_bytes(), equals, b"\"", value, b"\"", end].concat();
        self.lines.insert(at, line);
        Ok(())
    }
}

/// Where the `=` of the line stands, if it sets `key`.
fn equals(line: &[u8], key: &str) -> Option<usize> {
    let equals = line.iter().position(|&b| b == b'=')?;
    let name = line.get(..equals)?.trim_ascii();
    (is_setting(line) && name.eq_ignore_ascii_case(key.as_bytes())).then_some(equals)
}

fn is_setting(line: &[u8]) -> bool {
    !starts_with(line, b"#") && !is_extent(line) && line.contains(&b'=')
}

fn is_extent(line: &[u8]) -> bool {
    let first = line
        .trim_ascii_start()
        .split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default();
    [&b"RW"[..], b"RDONLY", b"NOACCESS"]
        .iter()
        .any(|access| first.eq_ignore_ascii_case(access))
}

/// Says whether the line begins so, whatever the case and the blanks before.
fn starts_with(line: &[u8], what: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    line.get(..what.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(what))
}
