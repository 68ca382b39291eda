//! What a descriptor says of a disk besides where its bytes are.

use super::descriptor::{Descriptor, NO_PARENT};
use super::descriptor_text::NOTE;
use crate::{Error, Identity, ParentRef, Result, format::Facts};

/// Keys worth showing, and the names to show them by.
const SHOWN: [(&str, &str); 7] = [
    ("ddb.adaptertype", "adapter type"),
    ("ddb.virtualhwversion", "hardware version"),
    ("ddb.thinprovisioned", "thin provisioned"),
    ("ddb.uuid", "UUID"),
    ("ddb.uuid.image", "VirtualBox UUID"),
    ("ddb.longcontentid", "long content ID"),
    ("encoding", "encoding"),
];

/// Extents that are listed one by one; a disk of 64 TiB can have 32,768.
const LISTED: usize = 16;

pub(super) fn facts(descriptor: &Descriptor) -> Result<Facts> {
    let mut facts = Facts {
        subformat: descriptor.create_type.clone(),
        creator: descriptor.creator(),
        identity: descriptor.cid.map(Identity::Cid),
        other_identity: descriptor.uuid("ddb.uuid.image")?,
        parent: parent(descriptor)?,
        notes: descriptor.beginning(NOTE),
        ..Facts::default()
    };
    for (key, name) in SHOWN {
        if let Some(value) = descriptor.get(key) {
            facts.details.push((name, value.to_owned()));
        }
    }
    facts.details.push(("extents", extents(descriptor)));
    let mut warn = |sentence: String| facts.warnings.push(sentence);
    if descriptor.get("changetrackpath").is_some() {
        warn(
            "changed block tracking is on; what is written from this image does not carry it over"
                .to_owned(),
        );
    }
    if descriptor.cid.is_none() {
        warn("the descriptor has no CID: no child can name this disk by it".to_owned());
    }
    if !descriptor.encoding.is_known() {
        warn(format!(
            "the descriptor is in the encoding '{}', which is not known; file names are taken as they are",
            descriptor.get("encoding").unwrap_or_default()
        ));
    }
    Ok(facts)
}

/// The parent: by its CID or, in a child of VirtualBox, by its UUID alone.
fn parent(descriptor: &Descriptor) -> Result<Option<ParentRef>> {
    let (identity, format) = match descriptor.parent_cid {
        Some(cid) if cid != NO_PARENT => (Some(Identity::Cid(cid)), None),
        None if !descriptor.parent_hints.is_empty() => {
            let detail = "names the file of a parent but no parentCID";
            return Err(Error::corrupt("descriptor", detail));
        }
        _ => (descriptor.uuid("ddb.uuid.parent")?, Some("vmdk")),
    };
    Ok(identity.map(|identity| ParentRef {
        hints: descriptor.parent_hints.clone(),
        identity: Some(identity),
        alternative: None,
        format,
    }))
}

/// The extent lines, without what only a program needs.
fn extents(descriptor: &Descriptor) -> String {
    let mut listed: Vec<String> = descriptor
        .extents
        .iter()
        .take(LISTED)
        .map(|line| line.shown())
        .collect();
    let more = descriptor.extents.len().saturating_sub(LISTED);
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed.join("; ")
}
