//! Changes what a VHD says about itself: its unique ID, in the footer and in its copy, and its parent.
//!
//! All other bytes of these structures stay as they are; programs keep marks of their own in
//! reserved ones.

use super::{
    disk_structs::{FOOTER_CHECKSUM, FOOTER_UUID, amended},
    reparent,
    sound::Sound,
};
use crate::{
    Result,
    edit::{Changed, Edit, NewId, Plan, has_not},
    patch::Patch,
    storage::ImageFile,
};
use uuid::Uuid;

/// Plans `edit` for the image in `file`.
pub(super) fn plan(file: &ImageFile, edit: &Edit) -> Result<Plan> {
    has_not("VHD", "adapter", edit.adapter.is_some())?;
    has_not("VHD", "hardware version", edit.hardware_version.is_some())?;
    // It stands in several locators of several encodings, and each program reads another one.
    has_not("VHD", "parent hint", edit.parent_hint.is_some())?;
    let mut plan = Plan::default();
    let new = match (edit.uuid, edit.identity) {
        (Some(NewId::Given(bytes)), _) => Some(bytes),
        (Some(NewId::Random), _) => Some(*Uuid::new_v4().as_bytes()),
        (None, ids) => ids.map(|ids| ids.uuid),
    };
    if new.is_none() && edit.parent.is_none() {
        return Ok(plan);
    }
    let sound = Sound::read(file)?;
    let mut footer_at = sound.found.data_end;
    if let Some(parent) = &edit.parent {
        footer_at = reparent::plan(&sound, parent, &mut plan)?;
    }
    if let Some(new) = new.filter(|new| *new != sound.found.footer.uuid) {
        identity(&sound, new, footer_at, &mut plan)?;
    }
    Ok(plan)
}

/// Plans another unique ID; the footer is at `footer_at` by then.
fn identity(sound: &Sound, new: [u8; 16], footer_at: u64, plan: &mut Plan) -> Result<()> {
    let file = &sound.file;
    let patched = amended(&sound.footer, FOOTER_CHECKSUM, &[(FOOTER_UUID, &new)])?;
    if !sound.is_fixed() {
        // The copy first: until the footer follows, readers go by the footer.
        plan.patches.push(Patch::write(file, 0, patched.clone()));
        plan.patches.push(Patch::flush(file));
    }
    plan.patches.push(Patch::write(file, footer_at, patched));
    plan.changes.push(Changed {
        setting: "unique ID",
        from: Some(Uuid::from_bytes(sound.found.footer.uuid).to_string()),
        to: Uuid::from_bytes(new).to_string(),
    });
    plan.warnings.push(
        "differencing disks name their parent by its unique ID: those made on this disk will not \
         take it for their parent any more"
            .to_owned(),
    );
    Ok(())
}
