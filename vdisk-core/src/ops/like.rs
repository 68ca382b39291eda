//! A new image of the kind of one that exists: for operations that put one in the place of another.
//!
//! Children must not notice the change, so identities stay. Of what guests and programs see, what the
//! writers can take over stays; the rest, such as a geometry of another program's making, is said.

use crate::{
    Disk, Error, ErrorKind, Format, Identity, Ids, Layer, Result,
    format::{Options, Subformat, by_extension, subformat},
    vhd, vmdk,
};
use std::path::Path;

/// How hard compressed subformats are deflated: as far as it still pays.
pub(super) const LEVEL: u32 = 6;

/// Fails if the name of the new image `path` stands for another format than `format`. Raw endings
/// stand for any: `.img` is in use for all.
pub(super) fn check_name(format: &dyn Format, path: &Path) -> Result<()> {
    match by_extension(path) {
        Some(other) if other.name() != format.name() && other.name() != "raw" => {
            let detail = format!(
                "is named as {}, and the image is and stays {}",
                other.name(),
                format.name()
            );
            Err(Error::new(ErrorKind::Usage, "output", detail).path(path))
        }
        _ => Ok(()),
    }
}

/// What the new image is created with.
#[derive(Clone, Debug)]
pub struct Like {
    /// The same way of writing, or the nearest that can be a child.
    pub subformat: &'static Subformat,
    /// The identity by which its children know it.
    pub ids: Ids,
    /// What guests and programs see of it.
    pub options: Options,
    /// What the new image cannot keep, a sentence each.
    pub lost: Vec<String>,
}

impl Like {
    /// An image like `layer`, which has a parent if that has one, made at `created` (seconds since
    /// 1970).
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if no images of its kind are written.
    pub fn of(layer: &Layer, created: u64) -> Result<Self> {
        if layer.facts().parent.is_some() {
            return Self::child(layer, created);
        }
        let format = layer.format();
        let was = &layer.facts().subformat;
        let own = match format.name() {
            "raw" => subformat(format, None).ok(), // there is but one
            _ => subformat(format, Some(was)).ok(),
        };
        let Some(own) = own else {
            let detail = format!(
                "vdisk writes no {was} images of {}; convert writes another kind",
                format.name()
            );
            return Err(Error::new(ErrorKind::Unsupported, "format", detail).path(layer.path()));
        };
        let mut lost = Vec::new();
        Ok(Self {
            subformat: own,
            ids: ids(layer, created),
            options: options(layer, own, &mut lost)?,
            lost,
        })
    }

    /// A child like `layer`, made at `created` (seconds since 1970).
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if no children of its format are written.
    pub fn child(layer: &Layer, created: u64) -> Result<Self> {
        let format = layer.format();
        let own = subformat(format, Some(&layer.facts().subformat)).ok();
        // A child that is a stream stays one, but nothing else becomes one: others look for no parent.
        let is_child = layer.facts().parent.is_some();
        let own = own.filter(|s| s.child && (is_child || !s.streams));
        let mut all = format.subformats().iter();
        let child = own.or_else(|| all.find(|s| s.child && !s.streams));
        let Some(child) = child else {
            let detail = format!(
                "vdisk writes no {} images that have a parent",
                format.name()
            );
            return Err(Error::new(ErrorKind::Unsupported, "format", detail).path(layer.path()));
        };
        let mut lost = Vec::new();
        let was = &layer.facts().subformat;
        // Of VHD and VHDX, the word says nothing but that an image has a parent.
        if own.is_none() && format.name() == "vmdk" {
            lost.push(format!(
                "{was} holds no differences, or is not written; the new image is {}",
                child.name
            ));
        }
        Ok(Self {
            subformat: child,
            ids: ids(layer, created),
            options: options(layer, child, &mut lost)?,
            lost,
        })
    }
}

/// The identity of `layer`; where the format has further ones, they are fresh.
fn ids(layer: &Layer, created: u64) -> Ids {
    let mut ids = Ids::random(created);
    match layer.facts().identity {
        Some(Identity::Cid(cid)) => {
            ids.cid = cid;
            // The last 8 digits of the long content ID are the CID; the writer has the others from here.
            let long = detail(layer, "long content ID").filter(|text| text.len() == 32);
            if let Some(upper) =
                long.and_then(|text| u128::from_str_radix(text.get(..24)?, 16).ok())
            {
                ids.uuid = (upper << 32).to_be_bytes();
            }
        }
        Some(Identity::Uuid(uuid)) => ids.uuid = uuid,
        // The file has it in the byte order of Windows.
        Some(Identity::Linkage(guid)) => ids.uuid = *uuid::Uuid::from_bytes_le(guid).as_bytes(),
        Some(Identity::Vdi { .. }) | None => {}
    }
    ids
}

fn options(layer: &Layer, subformat: &Subformat, lost: &mut Vec<String>) -> Result<Options> {
    let facts = layer.facts();
    let detail = |name: &str| detail(layer, name);
    let mut options = Options {
        sector_size: Some(layer.sector_size()),
        disk_id: facts.disk_id,
        ..Options::default()
    };
    match layer.format().name() {
        "vmdk" => {
            let adapter = detail("adapter type");
            let known = |name: &&str| {
                let mut all = vmdk::view::ADAPTERS.iter();
                all.any(|a| a.eq_ignore_ascii_case(name))
            };
            options.adapter = adapter.filter(known).map(str::to_owned);
            if let Some(name) = adapter.filter(|_| options.adapter.is_none()) {
                lost.push(format!("the disk adapter '{name}' is not kept"));
            }
            options.hardware_version = detail("hardware version").and_then(|v| v.parse().ok());
            lost.extend(lines_lost(layer, subformat, options.adapter.as_deref()));
            if !facts.notes.is_empty() {
                lost.push("the notes that make it a delta are not kept".to_owned());
            }
            for name in ["UUID", "VirtualBox UUID"] {
                if let Some(uuid) = detail(name) {
                    lost.push(format!("the {name} {uuid} of the disk is not kept"));
                }
            }
        }
        "vhd" => {
            if let Some(file) = layer.files().first() {
                let view = vhd::view::View::read(file)?;
                options.block_size = view.header.map(|h| u64::from(h.fields.block_size));
                let (old, new) = (view.footer.geometry, vhd::view::geometry(layer.size()));
                if old != new {
                    let old = [old.cylinders.into(), old.heads.into(), old.sectors.into()];
                    let new = [new.cylinders.into(), new.heads.into(), new.sectors.into()];
                    lost.push(geometry_lost(old, new));
                }
            }
        }
        "vhdx" => {
            let size = detail("block size").and_then(|v| v.strip_suffix(" bytes"));
            options.block_size = size.and_then(|v| v.parse().ok());
            let physical = detail("physical sector").filter(|size| *size != "4096 bytes");
            if let Some(size) = physical {
                lost.push(format!(
                    "the physical sectors become 4096 bytes and were {size}"
                ));
            }
        }
        _ => {}
    }
    Ok(options)
}

fn detail<'a>(layer: &'a Layer, name: &str) -> Option<&'a str> {
    let mut details = layer.facts().details.iter();
    let found = details.find(|(n, _)| *n == name);
    found.map(|(_, value)| value.as_str())
}

/// What the descriptor of the VMDK `layer` says, and that of a new one for `adapter` will not.
fn lines_lost(layer: &Layer, subformat: &Subformat, adapter: Option<&str>) -> Vec<String> {
    let Ok(view) = vmdk::view::View::read(layer.files()) else {
        return Vec::new(); // an extent without a descriptor
    };
    let mut lost = Vec::new();
    let number = |key: &str| view.value(key)?.parse::<u64>().ok();
    let keys = ["cylinders", "heads", "sectors"];
    let old = keys.map(|key| number(&format!("ddb.geometry.{key}")));
    let new = vmdk::view::geometry(layer.size(), adapter);
    if let [Some(cylinders), Some(heads), Some(sectors)] = old
        && [cylinders, heads, sectors] != new
    {
        lost.push(geometry_lost([cylinders, heads, sectors], new));
    }
    let comment = view.value("ddb.comment").unwrap_or_default();
    if !comment.is_empty() && comment != "vdisk" {
        lost.push(format!("the comment '{comment}' is not kept"));
    }
    if let Some(version) = view.value("ddb.toolsversion") {
        lost.push(format!(
            "the version {version} of the tools in the guest is not kept"
        ));
    }
    if view.value("ddb.thinprovisioned") == Some("1") && subformat.name != "vmfs" {
        lost.push("the mark of thin provisioning is not kept".to_owned());
    }
    lost
}

fn geometry_lost(old: [u64; 3], new: [u64; 3]) -> String {
    let shown = |[cylinders, heads, sectors]: [u64; 3]| format!("{cylinders}/{heads}/{sectors}");
    format!(
        "the geometry (cylinders/heads/sectors) becomes {} and was {}",
        shown(new),
        shown(old)
    )
}
