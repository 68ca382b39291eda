//! VHDX, the format of Hyper-V since Windows Server 2012.
//!
//! Facts are from "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format"; where programs do
//! otherwise, a comment says which and what.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        reason = "a test may fail by a panic"
    )
)]

mod bat;
mod bitmap;
mod check;
mod chunk;
mod compact;
mod current;
mod disk_structs;
mod edit;
mod facts;
mod fixed;
mod front;
mod header;
mod locator;
mod log;
mod metadata;
mod moves;
mod overlay;
mod regions;
mod resize;
mod revision;
mod space;
mod update;
pub(crate) mod view;
mod writer;

use crate::{
    Format, Image, ImageWriter, Layer, Place, Result, Subformat,
    check::{Checkup, Findings},
    edit::{Edit, Plan},
    format::{Compactor, Context, Spec, Update},
    storage::ImageFile,
    target::Target,
    transaction::Transaction,
};
use bat::Blocks;
use overlay::Overlay;
use std::sync::Arc;

/// The VHDX format.
#[derive(Clone, Copy, Debug)]
pub struct Vhdx;

impl Format for Vhdx {
    fn name(&self) -> &'static str {
        "vhdx"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["vhdx", "avhdx"]
    }
    fn subformats(&self) -> &'static [Subformat] {
        &[
            Subformat {
                name: "dynamic",
                streams: false,
                child: false,
            },
            Subformat {
                name: "fixed",
                streams: false,
                child: false,
            },
            Subformat {
                name: "differencing",
                streams: false,
                child: true,
            },
        ]
    }
    fn probe(&self, file: &ImageFile) -> Result<bool> {
        header::probe(file)
    }
    fn open(&self, file: ImageFile, context: &Context<'_>) -> Result<Layer> {
        let creator = header::creator(&file)?;
        let mut found = header::find(&file)?;
        if !header::probe(&file)? {
            let warning = "the file does not start with its signature 'vhdxfile'";
            found.warnings.push(warning.to_owned());
        }
        let replay = log::read(&file, &found.header)?;
        let log = header::log(&found.header, &file)?;
        // Region tables and metadata may be in the log too: all that follows reads through it.
        let entries = replay.as_ref().map(|r| r.entries);
        let file = match replay {
            Some(replay) => replayed(file, replay),
            None => file,
        };
        let regions = regions::find(&file, &log, &mut found.warnings)?;
        let metadata = metadata::read(&file, &regions.metadata)?;
        let mut facts = facts::of(creator, &found, &metadata, entries);
        if let Some(locator) = &metadata.locator {
            facts.parent = Some(locator::decode(locator)?);
        }
        let hole = match metadata.has_parent || context.overlay {
            true => Place::Absent,
            false => Place::Zero,
        };
        let layout = Blocks::new(file.clone(), &metadata, regions, hole)?;
        Ok(Layer::new(
            &Vhdx,
            Image::new(vec![file], Box::new(layout)),
            facts,
        ))
    }
    fn check(&self, file: ImageFile, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
        check::check(&file, checkup, findings)
    }
    fn edit(&self, file: &ImageFile, edit: &Edit) -> Result<Plan> {
        edit::plan(file, edit)
    }
    fn update<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        update::start(layer, transaction, update)
    }
    fn resize(
        &self,
        layer: &Layer,
        transaction: &Transaction<'_>,
        update: &Update<'_>,
        size: u64,
    ) -> Result<()> {
        resize::resize(layer, transaction, update, size)
    }
    fn compact<'a>(
        &self,
        layer: &'a Layer,
        transaction: &'a Transaction<'a>,
        update: &Update<'_>,
    ) -> Result<Box<dyn Compactor + 'a>> {
        compact::start(layer, transaction, update)
    }
    fn create<'a>(
        &self,
        target: &'a mut dyn Target,
        spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        writer::create(target, spec)
    }
}

/// `file` as it would be after its log was replayed. The file itself is left as it is.
fn replayed(file: ImageFile, replay: log::Replay) -> ImageFile {
    let size = replay.size;
    let storage = Overlay {
        below: file.storage,
        below_size: file.size,
        patches: replay.patches,
        size,
    };
    ImageFile {
        storage: Arc::new(storage),
        tag: file.tag,
        size,
        part_of: file.part_of,
    }
}
