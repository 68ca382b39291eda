//! The descriptor: what readers need of it, and what makes them disagree.

use super::Sheet;
use crate::{
    Result,
    vmdk::{
        descriptor::{Descriptor, NO_PARENT},
        extent_line::{ExtentKind, ExtentLine},
    },
};

/// Checks the descriptor in `bytes`, which lie at file offset `at`.
pub(super) fn check(sheet: &mut Sheet<'_>, bytes: &[u8], at: u64) -> Result<Option<Descriptor>> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let (text, behind) = bytes.split_at(end);
    lines(sheet, text, at);
    if let Some(first) = behind.iter().position(|b| *b != 0) {
        let detail = "has text behind its end, which readers do not see";
        let at = at.saturating_add(end as u64).saturating_add(first as u64);
        sheet.note("descriptor-tail", "descriptor", detail, at);
    }
    let Some(descriptor) = sheet.found("descriptor", Descriptor::parse(bytes))? else {
        return Ok(None);
    };
    if text.is_empty() {
        return Ok(None); // an extent of a split disk; the reader says so
    }
    identity(sheet, &descriptor, at);
    kinds(sheet, &descriptor, at);
    Ok(Some(descriptor))
}

/// Looks for lines that are neither a comment nor a key nor an extent.
fn lines(sheet: &mut Sheet<'_>, text: &[u8], at: u64) {
    let mut start = 0usize;
    for (line, number) in text.split(|b| *b == b'\n').zip(1u64..) {
        let trimmed = line.trim_ascii();
        let word = trimmed
            .split(u8::is_ascii_whitespace)
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let is_extent = [b"RW".as_slice(), b"RDONLY", b"NOACCESS"].contains(&word.as_slice());
        if !trimmed.is_empty()
            && !trimmed.starts_with(b"#")
            && !is_extent
            && !trimmed.contains(&b'=')
        {
            let shown: String = String::from_utf8_lossy(trimmed).chars().take(60).collect();
            let detail = format!("has line {number}, '{shown}', which says nothing");
            let at = at.saturating_add(start as u64);
            sheet.warning("descriptor-line", "descriptor", detail, at);
        }
        start = start.saturating_add(line.len()).saturating_add(1);
    }
}

/// Who the disk is, and who its parent.
fn identity(sheet: &mut Sheet<'_>, descriptor: &Descriptor, at: u64) {
    let part = "descriptor";
    let has_parent = descriptor.parent_cid.is_some_and(|cid| cid != NO_PARENT);
    match descriptor.cid {
        None => {
            let detail = "has no CID: no child can name this disk";
            sheet.warning("cid-missing", part, detail, at);
        }
        Some(cid) => {
            let long = descriptor.get("ddb.longcontentid").unwrap_or_default();
            let tail = long.get(long.len().saturating_sub(8)..).unwrap_or_default();
            if !long.is_empty() && u32::from_str_radix(tail, 16) != Ok(cid) {
                let detail = format!(
                    "has the long content ID '{long}', which does not end with the CID {cid:08x}"
                );
                sheet.note("long-content-id", part, detail, at);
            }
        }
    }
    if has_parent && descriptor.parent_hints.is_empty() {
        let detail = "has a parent CID, but does not name the parent's file";
        sheet.warning("parent-unnamed", part, detail, at);
    }
    if !has_parent && !descriptor.parent_hints.is_empty() {
        let detail = "names a parent's file, but has no parent CID: the parent is not used";
        sheet.warning("parent-unused", part, detail, at);
    }
    let version = descriptor.get("version").map(str::trim);
    if !matches!(version, Some("1" | "2" | "3")) {
        let detail = format!(
            "has the version '{}'; products know 1 to 3",
            version.unwrap_or_default()
        );
        sheet.warning("descriptor-version", part, detail, at);
    }
    let geometry = ["cylinders", "heads", "sectors"];
    let lacks = |key: &&str| descriptor.get(&format!("ddb.geometry.{key}")).is_none();
    if !has_parent && geometry.iter().any(lacks) {
        let detail = "has no complete geometry; some products want one";
        sheet.note("geometry-missing", part, detail, at);
    }
}

/// Whether the extents are of the kind that the type of the disk promises.
fn kinds(sheet: &mut Sheet<'_>, descriptor: &Descriptor, at: u64) {
    let kind = descriptor.create_type.to_ascii_lowercase();
    let fits: &[ExtentKind] = match kind.as_str() {
        "" => {
            let detail = "has no createType";
            sheet.warning("create-type", "descriptor", detail, at);
            return;
        }
        "monolithicsparse" | "streamoptimized" | "twogbmaxextentsparse" | "2gbmaxextentsparse" => {
            &[ExtentKind::Sparse]
        }
        "monolithicflat"
        | "twogbmaxextentflat"
        | "2gbmaxextentflat"
        | "vmfs"
        | "vmfsthin"
        | "vmfspreallocated"
        | "vmfseagerzeroedthick"
        | "vmfsthick" => &[ExtentKind::Flat],
        "vmfssparse" => &[ExtentKind::VmfsSparse],
        "sesparse" => &[ExtentKind::SeSparse],
        _ => return, // any mix, or a type whose extents the reader judges
    };
    let odd = |line: &&ExtentLine| line.kind != ExtentKind::Zero && !fits.contains(&line.kind);
    if let Some(line) = descriptor.extents.iter().find(odd) {
        let detail = format!(
            "says that the disk is of type {}, and has an extent of type {}",
            descriptor.create_type, line.word
        );
        sheet.warning("create-type", "descriptor", detail, at);
    }
}
