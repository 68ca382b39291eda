//! Changes the unique ID of a VHD: in the footer and in its copy, with their checksums.
//!
//! All other bytes of both stay as they are; programs keep marks of their own in reserved ones.

use super::{
    disk_structs::{FIXED, FOOTER_CHECKSUM, FOOTER_LEN, FOOTER_UUID, Footer, footer_checksum},
    footer,
};
use crate::{
    Error, ErrorKind, Result,
    edit::{Changed, Edit, NewId, Plan, has_not},
    patch::Patch,
    storage::ImageFile,
    units::SECTOR,
};
use uuid::Uuid;

/// Plans `edit` for the image in `file`.
pub(super) fn plan(file: &ImageFile, edit: &Edit) -> Result<Plan> {
    has_not("VHD", "adapter", edit.adapter.is_some())?;
    has_not("VHD", "hardware version", edit.hardware_version.is_some())?;
    // It stands in several locators of several encodings, and each program reads another one.
    has_not("VHD", "parent hint", edit.parent_hint.is_some())?;
    let mut plan = Plan::default();
    let Some(id) = edit.uuid else {
        return Ok(plan);
    };
    let new = match id {
        NewId::Given(bytes) => bytes,
        NewId::Random => *Uuid::new_v4().as_bytes(),
    };
    let found = footer::find(file)?;
    let old = found.footer.uuid;
    if old == new {
        return Ok(plan);
    }
    if !found.warnings.is_empty() {
        return unsound("is damaged or not where it belongs");
    }
    let end = file.read_part("footer", found.data_end, SECTOR)?;
    let patched = with_uuid(&end, new)?;
    if found.footer.disk_type != FIXED {
        if file.read_part("footer copy", 0, SECTOR)? != end {
            return unsound("differs from its copy at the start of the file");
        }
        // The copy first: until the footer follows, readers go by the footer.
        plan.patches.push(Patch::write(file, 0, patched.clone()));
        plan.patches.push(Patch::flush(file));
    }
    plan.patches
        .push(Patch::write(file, found.data_end, patched));
    plan.changes.push(Changed {
        setting: "unique ID",
        from: Some(Uuid::from_bytes(old).to_string()),
        to: Uuid::from_bytes(new).to_string(),
    });
    plan.warnings.push(
        "differencing disks name their parent by its unique ID: those made on this disk will not \
         take it for their parent any more"
            .to_owned(),
    );
    Ok(plan)
}

fn unsound<T>(what: &str) -> Result<T> {
    let detail = format!("{what}; it must be repaired before it is changed");
    Err(Error::new(ErrorKind::Corrupt, "footer", detail))
}

/// The bytes of a footer with another unique ID, and the checksum that goes with it.
fn with_uuid(footer: &[u8], uuid: [u8; 16]) -> Result<Vec<u8>> {
    let mut bytes = footer.to_vec();
    if let Some(place) = bytes.get_mut(FOOTER_UUID) {
        place.copy_from_slice(&uuid);
    }
    let sum = footer_checksum(&bytes).to_be_bytes();
    if let Some(place) = bytes.get_mut(FOOTER_CHECKSUM) {
        place.copy_from_slice(&sum);
    }
    let whole: Option<&[u8; FOOTER_LEN]> = bytes.as_slice().try_into().ok();
    match whole.and_then(Footer::parse) {
        Some(read) if read.uuid == uuid => Ok(bytes),
        _ => unsound("is not as long as it must be"),
    }
}
