//! `vdisk info`: what an image is, and whether everything it needs is there.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    size::{both, human},
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};
use vdisk_core::{
    Disk, Error, Layer, OpenOptions, Result,
    open::{ancestors, open_layer, split_path},
    ops::{delta::Delta, hash},
    printable,
};

/// Show what an image is, and its chain of parents
///
/// An image whose parent is missing or was changed is shown as far as it can be; the verdict then
/// says what is wrong, and the exit code is 1. An image that lacks an extent, or has one that is too
/// short, is not shown: the error names it. No contents are read.
///
/// JSON: schema, path, format, subformat, creator, delta (null, or base_size, base_sha256, size,
/// sha256: what it leads from and to), virtual_size, stored_size, identity, details
/// (an object), warnings, chain (path, format, subformat, identity, virtual_size, stored_size; the
/// image itself first), complete, verdict, files (role, path, size, allocated; always listed).
/// Sizes are bytes; stored sizes are what the files take on their medium.
#[derive(clap::Args)]
#[command(mut_arg("no_verify", |arg| arg.hide(true)))] // it never compares
pub(crate) struct Args {
    /// The image
    image: PathBuf,
    /// List every file that the image pulls in
    #[arg(long)]
    files: bool,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let resolver = args.input.resolver();
    let options = OpenOptions {
        verify: false, // no contents are read
        ..args.input.options(&resolver)
    };
    let top = open_layer(&args.image, &options)?;
    let delta = Delta::of(&top).ok();
    let (mut layers, mut trouble) = ancestors(top, &options);
    if delta.is_some() && trouble.take().is_some() {
        layers.truncate(1); // it is laid over whatever disk it was made from
    }
    let complete = trouble.is_none();
    let Some(top) = layers.first() else {
        return Ok(Exit::Failed); // the walk begins with the image itself
    };
    let own = ChainLayer::of(top);
    let facts = top.facts();
    ui.print(&InfoReport {
        schema: 1,
        path: named_disk(&args.image, top).unwrap_or(own.path),
        format: own.format,
        subformat: own.subformat,
        creator: facts.creator.clone(),
        virtual_size: own.virtual_size,
        stored_size: own.stored_size,
        identity: own.identity,
        details: facts.details.iter().cloned().collect(),
        warnings: facts.warnings.clone(),
        chain: layers.iter().map(|l| ChainLayer::of(l)).collect(),
        complete,
        verdict: match (&delta, layers.len()) {
            (Some(_), 1) => DELTA.to_owned(),
            (_, layers) => verdict(layers, trouble.as_ref()),
        },
        delta: delta.map(DeltaReport::from),
        files: layers
            .iter()
            .enumerate()
            .flat_map(|(depth, layer)| files(depth, layer))
            .collect(),
        list_files: args.files,
    })?;
    Ok(if complete { Exit::Done } else { Exit::Differs })
}

/// The disk in a package as people name it, whether its file is in the package or beside it.
fn named_disk(image: &Path, top: &Layer) -> Option<String> {
    let (_, name) = top
        .facts()
        .details
        .iter()
        .find(|(what, _)| *what == "disk")?;
    let package = split_path(image).0;
    let path = format!("{}::{name}", package.display());
    top.format().holds_disks().then_some(path)
}

/// The verdict on a delta whose parent is not there as an image: it need not be.
const DELTA: &str =
    "a delta: vdisk apply lays it over the disk that it was made from; contents not read";

fn verdict(layers: usize, trouble: Option<&Error>) -> String {
    match (trouble, layers) {
        (Some(error), _) => error.to_string(),
        (None, 1) => "needs no parent; contents not read".to_owned(),
        (None, _) => "all parents found; contents not read".to_owned(),
    }
}

fn files(depth: usize, layer: &Layer) -> impl Iterator<Item = File> {
    layer
        .files()
        .iter()
        .enumerate()
        .map(move |(index, file)| File {
            role: match (depth, index) {
                (0, 0) => "image",
                (0, _) => "extent",
                (_, 0) => "parent",
                (_, _) => "parent extent",
            },
            path: shown(file.path()),
            size: file.size,
            allocated: file.tag.allocated,
        })
}

#[derive(Serialize)]
struct InfoReport {
    schema: u32,
    path: String,
    format: &'static str,
    subformat: String,
    creator: Option<String>,
    /// Null for all that is no delta.
    delta: Option<DeltaReport>,
    virtual_size: u64,
    stored_size: u64,
    identity: Option<String>,
    details: BTreeMap<&'static str, String>,
    warnings: Vec<String>,
    chain: Vec<ChainLayer>,
    complete: bool,
    /// `complete`, or what stopped the walk through the parents.
    verdict: String,
    files: Vec<File>,
    #[serde(skip)]
    list_files: bool,
}

#[derive(Serialize)]
struct DeltaReport {
    base_size: u64,
    base_sha256: String,
    size: u64,
    sha256: String,
    #[serde(skip)]
    text: String,
}

impl From<Delta> for DeltaReport {
    fn from(delta: Delta) -> Self {
        Self {
            base_size: delta.base.size,
            base_sha256: hash::hex(&delta.base.sha256),
            size: delta.result.size,
            sha256: hash::hex(&delta.result.sha256),
            text: delta.to_string(),
        }
    }
}

#[derive(Serialize)]
struct ChainLayer {
    path: String,
    format: &'static str,
    subformat: String,
    identity: Option<String>,
    virtual_size: u64,
    stored_size: u64,
}

impl ChainLayer {
    fn of(layer: &Layer) -> Self {
        Self {
            path: shown(layer.path()),
            format: layer.format().name(),
            subformat: layer.facts().subformat.clone(),
            identity: layer.facts().identity.map(|i| i.to_string()),
            virtual_size: layer.size(),
            stored_size: layer.stored_size(),
        }
    }
}

#[derive(Serialize)]
struct File {
    role: &'static str,
    path: String,
    size: u64,
    allocated: u64,
}

impl Report for InfoReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = |name: &str, value: &str| {
            writeln!(out, "{:<18} {}", format!("{name}:"), printable(value))
        };
        line("image", &self.path)?;
        line("format", &format!("{}, {}", self.format, self.subformat))?;
        if let Some(creator) = &self.creator {
            line("creator", creator)?;
        }
        if let Some(delta) = &self.delta {
            line("delta", &delta.text)?;
        }
        line("virtual size", &both(self.virtual_size))?;
        line("stored size", &both(self.stored_size))?;
        if let Some(identity) = &self.identity {
            line("identity", identity)?;
        }
        for (name, value) in &self.details {
            line(name, value)?;
        }
        for warning in &self.warnings {
            line("warning", warning)?;
        }
        if self.chain.len() > 1 || !self.complete {
            writeln!(out, "chain:")?;
            for (depth, layer) in self.chain.iter().enumerate() {
                let identity = layer.identity.as_deref().unwrap_or("no identity");
                writeln!(
                    out,
                    "  {depth:>3} {}: {} {}, {identity}, {}, {} stored",
                    printable(&layer.path),
                    layer.format,
                    printable(&layer.subformat),
                    human(layer.virtual_size),
                    human(layer.stored_size)
                )?;
            }
        }
        writeln!(out, "{:<18} {}", "verdict:", self.verdict)?;
        if self.list_files {
            writeln!(out, "files:")?;
            for file in &self.files {
                writeln!(
                    out,
                    "  {:<14} {}: {}, {} on the medium",
                    file.role,
                    printable(&file.path),
                    both(file.size),
                    human(file.allocated)
                )?;
            }
        }
        Ok(())
    }
}
