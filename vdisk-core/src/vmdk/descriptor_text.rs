//! Writes descriptors that every product takes: its order, no indentation, room to grow.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sizes are ours, and far below 2^64"
)]

use super::descriptor::NO_PARENT;
use crate::{
    Error, ErrorKind, Identity, Result,
    format::{ParentSpec, Spec},
    units::Sectors,
};

/// Sectors reserved for a descriptor. VirtualBox adds lines when it registers a disk, and
/// overwrites what follows if there is no room.
pub(super) const DESCRIPTOR_SECTORS: u64 = 20;

/// The descriptor of a single-file disk, padded to its sectors.
pub(super) fn descriptor(spec: &Spec<'_>) -> Result<Vec<u8>> {
    let sectors = spec.size / 512;
    let (parent_cid, hint) = match &spec.parent {
        None => (NO_PARENT, String::new()),
        Some(parent) => (cid_of(parent)?, hint(parent)?),
    };
    let (cylinders, heads, per_track) = geometry(sectors);
    let cid = spec.ids.cid;
    // Products keep the last 8 digits of the long ID equal to the CID.
    let long = crate::ops::hash::hex(spec.ids.uuid.get(..12).unwrap_or_default());
    let text = format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         encoding=\"UTF-8\"\n\
         CID={cid:08x}\n\
         parentCID={parent_cid:08x}\n\
         createType=\"{create_type}\"\n\
         {hint}\n\
         # Extent description\n\
         RW {sectors} SPARSE \"{name}\"\n\
         \n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.adapterType = \"lsilogic\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\n\
         ddb.geometry.sectors = \"{per_track}\"\n\
         ddb.longContentID = \"{long}{cid:08x}\"\n\
         ddb.virtualHWVersion = \"4\"\n\
         ddb.comment = \"vdisk\"\n",
        create_type = spec.subformat.name,
        name = quotable("image name", spec.name)?,
    );
    let room = crate::units::buffer_len(Sectors(DESCRIPTOR_SECTORS).bytes()?)?;
    let mut bytes = text.into_bytes();
    if bytes.len() > room {
        let detail = "are too long for a descriptor";
        return Err(Error::new(ErrorKind::Usage, "file names", detail));
    }
    bytes.resize(room, 0);
    Ok(bytes)
}

fn cid_of(parent: &ParentSpec) -> Result<u32> {
    match parent.identity {
        Some(Identity::Cid(cid)) if cid != NO_PARENT => Ok(cid),
        _ => {
            let detail = "is not a VMDK with a CID, so a VMDK child cannot name it";
            Err(Error::new(ErrorKind::Usage, "parent", detail).path(&parent.relative))
        }
    }
}

fn hint(parent: &ParentSpec) -> Result<String> {
    let path = parent.absolute.as_ref().unwrap_or(&parent.relative);
    let path = path.to_str().ok_or_else(|| {
        let detail = "has a name that is not Unicode, which a descriptor cannot hold";
        Error::new(ErrorKind::Usage, "parent", detail).path(path)
    })?;
    let path = quotable("parent", path)?;
    if path.contains('\\') {
        let detail = format!("'{path}' has a backslash, which readers take for a separator");
        return Err(Error::new(ErrorKind::Usage, "parent", detail));
    }
    Ok(format!("parentFileNameHint=\"{path}\"\n"))
}

/// `name`, if it can stand between quotes on one line.
fn quotable<'a>(part: &'static str, name: &'a str) -> Result<&'a str> {
    if name.contains(['"', '\n', '\r', '\0']) {
        let detail =
            format!("'{name}' has a quote or a line break, which a descriptor cannot hold");
        return Err(Error::new(ErrorKind::Usage, part, detail));
    }
    Ok(name)
}

/// Cylinders, heads and sectors as VMware writes them for SCSI disks. Sizes never come from these.
fn geometry(sectors: u64) -> (u64, u64, u64) {
    let (heads, per_track) = if sectors < 2 << 20 {
        (64, 32)
    } else {
        (255, 63)
    };
    let cylinders = sectors
        .checked_div(heads * per_track)
        .unwrap_or(0)
        .clamp(1, 65_535);
    (cylinders, heads, per_track)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ids, vmdk::descriptor::Descriptor};

    #[test]
    fn what_is_written_parses() -> Result<()> {
        let spec = Spec {
            size: 1 << 30,
            subformat: &super::super::SPARSE,
            name: "a b.vmdk",
            ids: Ids::random(0),
            level: 6,
            parent: Some(ParentSpec {
                relative: "../base.vmdk".into(),
                absolute: None,
                identity: Some(Identity::Cid(0xab)),
                modified: 0,
            }),
            options: crate::format::Options::default(),
        };
        let bytes = descriptor(&spec)?;
        assert_eq!(bytes.len(), 20 * 512);
        let found = Descriptor::parse(&bytes)?;
        assert_eq!(
            (found.cid, found.parent_cid),
            (Some(spec.ids.cid), Some(0xab))
        );
        assert_eq!(found.parent_hints, ["../base.vmdk"]);
        assert_eq!(found.extents.first().map(|e| e.sectors), Some(2 << 20));
        assert!(
            descriptor(&Spec {
                name: "a\"b",
                ..spec
            })
            .is_err()
        );
        Ok(())
    }
}
