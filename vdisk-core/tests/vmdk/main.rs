//! VMDK images built byte by byte, without the crate's own structures, against a byte model and
//! against other programs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test may fail by a panic, and says what it skips"
)]

mod builder;
mod cowd;
mod descriptors;
mod hosted;
mod in_place;
mod in_place_cases;
mod peers;
mod quirks;
mod sesparse;
mod stream;
mod update;
mod write;

use std::{collections::HashMap, ffi::OsString};
use vdisk_core::{
    Chain, Error, ErrorKind, Layer, OpenOptions, Reference, Resolver, Result, open,
    storage::ImageFile,
};

/// Files in memory, by the name that an image gives them.
#[derive(Default)]
pub(crate) struct Files(HashMap<OsString, Vec<u8>>);

impl Files {
    pub(crate) fn with(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.0.insert(name.into(), bytes);
        self
    }

    pub(crate) fn file(&self, name: &str) -> ImageFile {
        ImageFile::from_storage(name, self.0[&OsString::from(name)].clone()).unwrap()
    }

    pub(crate) fn layer(&self, name: &str) -> Result<Layer> {
        open::open_file(self.file(name), &OpenOptions::new(self))
    }

    pub(crate) fn chain(&self, name: &str) -> Result<Chain> {
        open::complete(self.layer(name)?, &OpenOptions::new(self))
    }
}

impl Resolver for Files {
    fn find(&self, _: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        let names = match reference {
            Reference::Extent(name) | Reference::Device(name) => vec![name.to_os_string()],
            Reference::Parent(parent) => parent.hints.clone(),
        };
        let found: Vec<ImageFile> = names
            .iter()
            .filter_map(|name| self.0.get_key_value(name))
            .map(|(name, bytes)| ImageFile::from_storage(name, bytes.clone()).unwrap())
            .collect();
        match found.is_empty() {
            true => Err(Error::new(ErrorKind::Reference, "file", "was not found")),
            false => Ok(found),
        }
    }
}

/// A descriptor: parent CID and hint if there is a parent, then the extent lines.
pub(crate) fn descriptor(kind: &str, parent: Option<(&str, &str)>, extents: &[String]) -> Vec<u8> {
    let (cid, hint) = match parent {
        Some((cid, name)) => (cid, format!("parentFileNameHint=\"{name}\"\n")),
        None => ("ffffffff", String::new()),
    };
    let extents = extents.join("\n");
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID={cid}\ncreateType=\"{kind}\"\n\
         {hint}\n# Extent description\n{extents}\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.adapterType = \"lsilogic\"\n"
    )
    .into_bytes()
}
