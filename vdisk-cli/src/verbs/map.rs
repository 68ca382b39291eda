//! `vdisk map`: where the bytes of a disk lie, without reading them.

use crate::{args::InputArgs, exit::Exit, ui::Ui};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::{
    Chain, Disk, Error, Extent, Kind, Result,
    disk::{extents, same_place},
    printable,
};

/// Show where the bytes of a disk lie
///
/// One line for each stretch of the disk that is kept in one place: start and length in bytes;
/// data, compressed or zero; the layer that decides it (depth 0 is the image itself, 1 its
/// parent); and the offset in the file that holds it.
///
/// JSON: an array, as `qemu-img map --output=json` prints it; each element has schema, start,
/// length, depth, present, zero, data, compressed, and, where they apply, offset and file.
#[derive(clap::Args)]
#[command(mut_arg("no_verify", |arg| arg.hide(true)))] // it never compares
pub(crate) struct Args {
    /// The image; its parents are found and followed
    image: PathBuf,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let chain = args.input.open_metadata(&args.image, ui)?;
    let json = ui.json();
    if json {
        ui.write(|out| write!(out, "["))?;
    } else {
        ui.write(|out| {
            writeln!(
                out,
                "{:>16} {:>16} {:<10} {:>5} {:>16}  file",
                "start", "length", "kind", "depth", "offset"
            )
        })?;
    }
    let listed = list(&chain, json, ui);
    if json {
        ui.write(|out| writeln!(out, "\n]"))?; // also after an error: what was found is valid
    }
    listed.map(|()| Exit::Done)
}

/// Shows one extent at a time: a map can be longer than memory.
fn list(chain: &Chain, json: bool, ui: &mut Ui) -> Result<()> {
    let mut first = true;
    for extent in extents(chain, 0..chain.size(), same_place) {
        ui.check_stop()?;
        if ui.reader_gone() {
            break;
        }
        let element = Element::of(&extent?);
        if json {
            let text = serde_json::to_vec(&element).map_err(|e| Error::io("write", e.into()))?;
            let before: &[u8] = if first { b"\n" } else { b",\n" };
            ui.write(|out| out.write_all(before).and_then(|()| out.write_all(&text)))?;
        } else {
            ui.write(|out| element.text(out))?;
        }
        first = false;
    }
    Ok(())
}

/// One stretch of the disk. Names and meanings are those of qemu-img.
#[derive(Serialize)]
struct Element {
    schema: u32,
    start: u64,
    length: u64,
    depth: usize,
    present: bool,
    zero: bool,
    data: bool,
    compressed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl Element {
    fn of(extent: &Extent) -> Self {
        let stored = extent.stored.as_ref();
        let data = extent.kind == Kind::Data;
        Self {
            schema: 1,
            start: extent.range.start,
            length: extent.range.end - extent.range.start,
            depth: extent.depth,
            present: data,
            zero: !data,
            data,
            compressed: stored.is_some_and(|s| s.packed.is_some()),
            // A compressed grain has no byte of the disk at its offset.
            offset: stored.filter(|s| s.packed.is_none()).map(|s| s.at.0),
            file: stored.map(|s| s.file.path.display().to_string()),
        }
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let kind = match (self.data, self.compressed) {
            (true, true) => "compressed",
            (true, false) => "data",
            (false, _) => "zero",
        };
        let offset = self.offset.map(|o| o.to_string()).unwrap_or_default();
        let line = format!(
            "{:>16} {:>16} {kind:<10} {:>5} {offset:>16}  {}",
            self.start,
            self.length,
            self.depth,
            printable(self.file.as_deref().unwrap_or_default())
        );
        writeln!(out, "{}", line.trim_end())
    }
}
