//! Writes descriptors that every product takes: its order, no indentation, room to grow.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sizes are ours, and far below 2^64"
)]

use super::descriptor::NO_PARENT;
use crate::{
    Error, ErrorKind, Identity, Ids, Result,
    format::{ParentSpec, Spec},
    units::Sectors,
};

/// Sectors reserved for a descriptor. VirtualBox adds lines when it registers a disk, and
/// overwrites what follows if there is no room.
pub(super) const DESCRIPTOR_SECTORS: u64 = 20;

/// An extent line of a disk that is written.
pub(super) struct ExtentText {
    pub(super) sectors: u64,
    /// `FLAT`, `SPARSE`, `VMFS` or `VMFSSPARSE`.
    pub(super) kind: &'static str,
    pub(super) name: String,
}

/// The descriptor of a single-file disk, padded to its sectors.
pub(super) fn embedded(spec: &Spec<'_>) -> Result<Vec<u8>> {
    let extent = ExtentText {
        sectors: spec.size / 512,
        kind: "SPARSE",
        name: spec.name.to_owned(),
    };
    let room = crate::units::buffer_len(Sectors(DESCRIPTOR_SECTORS).bytes()?)?;
    let mut bytes = text(spec, &[extent])?.into_bytes();
    if bytes.len() > room {
        let len = bytes.len();
        let detail =
            format!("would have {len} bytes, and there is room for {room}: names are too long");
        return Err(Error::new(ErrorKind::Usage, "descriptor", detail));
    }
    bytes.resize(room, 0);
    Ok(bytes)
}

/// The descriptor of a disk with these extents, as a file of its own.
pub(super) fn text(spec: &Spec<'_>, extents: &[ExtentText]) -> Result<String> {
    let (parent_cid, hint) = match &spec.parent {
        None => (NO_PARENT, String::new()),
        Some(parent) => {
            let line = format!("parentFileNameHint=\"{}\"\n", hint(parent)?);
            (cid_of(parent)?, line)
        }
    };
    let adapter = adapter(spec.options.adapter.as_deref().unwrap_or(ADAPTER))?;
    let Geometry {
        cylinders,
        heads,
        sectors,
    } = Geometry::of(spec.size / 512, adapter);
    let mut lines = String::new();
    for ExtentText {
        sectors,
        kind,
        name,
    } in extents
    {
        let name = quotable("image name", name)?;
        // Only FLAT has an offset; qemu refuses one after VMFS.
        let offset = if *kind == "FLAT" { " 0" } else { "" };
        lines.push_str(&format!("RW {sectors} {kind} \"{name}\"{offset}\n"));
    }
    let thin = match spec.subformat.name {
        "vmfs" => "ddb.thinProvisioned = \"1\"\n", // holes of the file stay holes
        _ => "",
    };
    let notes = notes(&spec.options.notes)?;
    let cid = spec.ids.cid;
    let long = long_id(&spec.ids);
    Ok(format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         encoding=\"UTF-8\"\n\
         CID={cid:08x}\n\
         parentCID={parent_cid:08x}\n\
         createType=\"{create_type}\"\n\
         {hint}\n\
         # Extent description\n\
         {lines}\n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.adapterType = \"{adapter}\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\n\
         ddb.geometry.sectors = \"{sectors}\"\n\
         ddb.longContentID = \"{long}\"\n\
         {thin}\
         ddb.virtualHWVersion = \"{hardware}\"\n\
         ddb.comment = \"vdisk\"\n\
         {notes}",
        create_type = spec.subformat.name,
        hardware = spec.options.hardware_version.unwrap_or(4),
    ))
}

/// What the keys of notes begin with.
pub(super) const NOTE: &str = "ddb.vdisk.";

/// The lines of notes.
fn notes(notes: &[(String, String)]) -> Result<String> {
    let mut lines = String::new();
    for (key, value) in notes {
        let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        if key.is_empty() || !key.chars().all(plain) {
            let detail = format!("'{key}' has other characters than a-z, 0-9, '.', '-' and '_'");
            return Err(Error::new(ErrorKind::Usage, "note", detail));
        }
        let value = quotable("note", value)?;
        lines.push_str(&format!("{NOTE}{key} = \"{value}\"\n"));
    }
    Ok(lines)
}

/// The long content ID. Products keep its last 8 digits equal to the CID.
pub(super) fn long_id(ids: &Ids) -> String {
    let random = crate::ops::hash::hex(ids.uuid.get(..12).unwrap_or_default());
    format!("{random}{:08x}", ids.cid)
}

/// The one that a descriptor names if nobody chose another.
pub(super) const ADAPTER: &str = "lsilogic";

/// Adapters that a descriptor can name, as VMware's products spell them.
pub(crate) const ADAPTERS: [&str; 6] = [
    "ide",
    "buslogic",
    "lsilogic",
    "legacyESX",
    "lsisas1068",
    "pvscsi",
];

/// The adapter of that name, in any case, as it is written.
pub(super) fn adapter(name: &str) -> Result<&'static str> {
    let known = ADAPTERS.iter().find(|a| a.eq_ignore_ascii_case(name));
    known.copied().ok_or_else(|| {
        let detail = format!("'{name}' is not known; known are {}", ADAPTERS.join(", "));
        Error::new(ErrorKind::Usage, "adapter", detail)
    })
}

/// The content ID of the parent. The one that stands for "no parent" is none.
pub(super) fn cid_of(parent: &ParentSpec) -> Result<u32> {
    match parent.identity {
        Some(Identity::Cid(cid)) if cid != NO_PARENT => Ok(cid),
        _ => {
            let detail = "is not a VMDK with a CID, so a VMDK child cannot name it";
            Err(Error::new(ErrorKind::Usage, "parent", detail).path(&parent.relative))
        }
    }
}

/// The name by which a child finds the parent.
pub(super) fn hint(parent: &ParentSpec) -> Result<&str> {
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
    Ok(path)
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

/// The geometry that a descriptor records. Sizes never come from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u64,
    pub(super) heads: u64,
    pub(super) sectors: u64,
}

impl Geometry {
    /// As VMware writes it for a disk of that many sectors on `adapter`.
    pub(super) fn of(disk: u64, adapter: &str) -> Self {
        let (heads, sectors, most) = match adapter {
            "ide" => (16, 63, 16_383), // more does not fit the registers of ATA
            _ if disk < 2 << 20 => (64, 32, 65_535),
            _ => (255, 63, 65_535),
        };
        Self {
            cylinders: (disk / (heads * sectors)).clamp(1, most),
            heads,
            sectors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmdk::descriptor::Descriptor;

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
        let bytes = embedded(&spec)?;
        assert_eq!(bytes.len(), 20 * 512);
        let found = Descriptor::parse(&bytes)?;
        assert_eq!(
            (found.cid, found.parent_cid),
            (Some(spec.ids.cid), Some(0xab))
        );
        assert_eq!(found.parent_hints, ["../base.vmdk"]);
        assert_eq!(found.extents.first().map(|e| e.sectors), Some(2 << 20));
        assert!(
            embedded(&Spec {
                name: "a\"b",
                ..spec
            })
            .is_err()
        );
        Ok(())
    }

    #[test]
    fn geometry_follows_the_adapter() {
        // 8 GiB is where ATA's registers end; SCSI changes its heads at 1 GiB.
        for (disk, adapter, expected) in [
            (1, "ide", (1, 16, 63)),
            (20_160, "ide", (20, 16, 63)),
            (1 << 30, "ide", (16_383, 16, 63)),
            (4096, "lsilogic", (2, 64, 32)),
            ((2 << 20) - 1, "pvscsi", (1023, 64, 32)),
            (2 << 20, "lsilogic", (130, 255, 63)),
            (1 << 33, "buslogic", (65_535, 255, 63)),
        ] {
            let found = Geometry::of(disk, adapter);
            let found = (found.cylinders, found.heads, found.sectors);
            assert_eq!(found, expected, "{disk} sectors on {adapter}");
        }
    }
}
