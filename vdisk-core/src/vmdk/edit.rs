//! Changes settings in a descriptor, line by line: what is not changed stays byte for byte.
//!
//! A plan first: the keys and their values, and the patches that put them where the old ones are.

use super::{
    descriptor::{self, Descriptor, NO_PARENT},
    descriptor_lines::Text,
    descriptor_text::{Geometry, adapter, cid_of, hint, long_id},
    disk_structs::MAGIC,
    embedded_descriptor, head,
    sparse_extent::SparseExtent,
};
use crate::{
    Error, ErrorKind, Identity, Ids, Result,
    edit::{Changed, Edit, NewId, Plan},
    format::ParentSpec,
    limits,
    patch::Patch,
    storage::ImageFile,
    units::{SECTOR, Sectors, buffer_len, round_up},
};
use std::fmt::Write;

/// The key that names the parent's file.
const HINT: &str = "parentFileNameHint";

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
pub(super) fn in_area(
    file: &ImageFile,
    at: u64,
    area: &[u8],
    mut text: Vec<u8>,
) -> Result<Option<Patch>> {
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
pub(super) fn text_len(area: &[u8]) -> usize {
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
    let bytes = text.bytes();
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
    if let Some(ids) = &edit.identity {
        values.extend(identity(old, ids));
    }
    if let Some(parent) = &edit.parent {
        values.extend(parent_values(old, parent, warnings)?);
    }
    if let Some(hint) = &edit.parent_hint {
        values.retain(|(key, _)| *key != HINT);
        if !is_by_cid(old) && !old.has_uuid_parent() {
            return Err(no_parent());
        }
        if hint.is_empty() {
            let detail = "an empty name leads nowhere";
            return Err(Error::new(ErrorKind::Usage, "parent", detail));
        }
        values.push((HINT, hint.clone()));
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

/// The keys of a new identity. What VirtualBox calls the image by stays: it goes by that while the
/// contents change, and renews the UUID of the modification.
pub(super) fn identity(old: &Descriptor, ids: &Ids) -> Vec<(&'static str, String)> {
    let mut values = Vec::new();
    if old.cid != Some(ids.cid) {
        values.push(("CID", format!("{:08x}", ids.cid)));
    }
    if old.get("ddb.longcontentid").is_some() {
        values.push(("ddb.longContentID", long_id(ids)));
    }
    if old.get("ddb.uuid.modification").is_some() {
        values.push(("ddb.uuid.modification", hyphenated(NewId::Given(ids.uuid))));
    }
    values
}

/// The keys that name another parent of a child.
fn parent_values(
    old: &Descriptor,
    parent: &ParentSpec,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'static str, String)>> {
    let mut values = Vec::new();
    match parent.identity {
        Some(Identity::Uuid(uuid)) if old.has_uuid_parent() && !is_by_cid(old) => {
            values.push(("ddb.uuid.parent", hyphenated(NewId::Given(uuid))));
        }
        _ if is_by_cid(old) => {
            let cid = cid_of(parent)?;
            if old.parent_cid != Some(cid) {
                values.push(("parentCID", format!("{cid:08x}")));
            }
            if old.has_uuid_parent() {
                warnings.push(
                    "VirtualBox goes by the UUID of the parent, which stays that of the old one"
                        .to_owned(),
                );
            }
        }
        _ if old.has_uuid_parent() => {
            let detail = "has no UUID, by which this child of VirtualBox names its parent";
            return Err(Error::new(ErrorKind::Usage, "parent", detail).path(&parent.relative));
        }
        _ => return Err(no_parent()),
    }
    // Without a parentCID, a name alone would be a parent that nobody can verify.
    if old.parent_cid.is_some() {
        values.push((HINT, hint(parent)?.to_owned()));
    }
    Ok(values)
}

/// True if the parent is named by its content ID.
fn is_by_cid(descriptor: &Descriptor) -> bool {
    descriptor.parent_cid.is_some_and(|cid| cid != NO_PARENT)
}

fn no_parent() -> Error {
    let detail = "cannot be named: the image has none";
    Error::new(ErrorKind::Usage, "parent", detail)
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
