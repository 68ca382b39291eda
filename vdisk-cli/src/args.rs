//! How images are named on the command line and opened: the same flags for every verb.

use crate::ui::Ui;
use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, FORMATS, FileResolver, Format, OpenOptions, Resolver, Result,
    format::named,
    storage::{Access, FileId, ImageFile},
};

/// Flags of every verb that reads images.
#[derive(clap::Args)]
#[command(next_help_heading = "Input options")]
pub(crate) struct InputArgs {
    /// Format of the images named on the command line [default: found out]
    #[arg(long, value_name = "FMT", value_parser = format_parser(false))]
    input_format: Option<&'static dyn Format>,
    /// Another folder to look in for the files that images name, besides their own (repeatable)
    #[arg(long, value_name = "DIR", value_parser = folder_parser())]
    allow_path: Vec<PathBuf>,
    /// File that may be the parent of an image, wherever it lies (repeatable)
    #[arg(long, value_name = "FILE")]
    parent: Vec<PathBuf>,
    /// Let images use block devices of this machine as their extents
    #[arg(long)]
    allow_devices: bool,
    /// Read through memory maps: faster for cached files, but a file that another program shortens
    /// meanwhile kills this one
    #[arg(long)]
    mmap: bool,
    /// Do not check the digests in an OVA's manifest: saves reading its disk once more
    #[arg(long)]
    no_verify: bool,
}

/// Reads the name of a format: any, or one that can be written.
pub(crate) fn format_parser(written: bool) -> impl TypedValueParser<Value = &'static dyn Format> {
    let names = FORMATS
        .iter()
        .filter(|f| !written || !f.subformats().is_empty())
        .map(|f| f.name());
    PossibleValuesParser::new(names).try_map(|name| named(&name))
}

/// Reads the path of a folder that is there.
pub(crate) fn folder_parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err("it is not a folder".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("there is no such folder".to_owned())
        }
        Err(error) => Err(error.to_string()),
    })
}

impl InputArgs {
    /// Opens what images refer to.
    pub(crate) fn resolver(&self) -> FileResolver {
        FileResolver {
            allowed: self.allow_path.clone(),
            parents: self.parent.clone(),
            devices: self.allow_devices,
            access: self.access(),
        }
    }

    /// The folders of `--allow-path`.
    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.allow_path
    }

    /// How the images named on the command line are opened.
    pub(crate) fn options<'a>(&self, resolver: &'a dyn Resolver) -> OpenOptions<'a> {
        OpenOptions {
            format: self.input_format,
            access: self.access(),
            verify: !self.no_verify,
            ..OpenOptions::new(resolver)
        }
    }

    /// Opens `path` with all its parents, and passes on what a user of them should know.
    pub(crate) fn open(&self, path: &Path, ui: &Ui) -> Result<Chain> {
        self.open_with(path, !self.no_verify, ui)
    }

    /// The same for verbs that read no contents: digests of contents are not checked.
    pub(crate) fn open_metadata(&self, path: &Path, ui: &Ui) -> Result<Chain> {
        self.open_with(path, false, ui)
    }

    fn open_with(&self, path: &Path, verify: bool, ui: &Ui) -> Result<Chain> {
        let resolver = self.resolver();
        let options = OpenOptions {
            verify,
            ..self.options(&resolver)
        };
        let chain = vdisk_core::open(path, &options)?;
        warn_about(std::slice::from_ref(&chain), ui);
        Ok(chain)
    }

    fn access(&self) -> Access {
        if self.mmap {
            Access::Mapped
        } else {
            Access::Positioned
        }
    }
}

/// Shows the warnings of all layers, each once.
pub(crate) fn warn_about(chains: &[Chain], ui: &Ui) {
    let mut seen = HashSet::new();
    for layer in chains.iter().flat_map(|c| c.layers()) {
        for warning in &layer.facts().warnings {
            let sentence = format!("{}: {warning}", layer.path().display());
            if seen.insert(sentence.clone()) {
                ui.warn(&sentence);
            }
        }
    }
}

/// Who `files` are: never to be written to.
pub(crate) fn ids<'a>(files: impl Iterator<Item = &'a ImageFile>) -> Vec<FileId> {
    files.filter_map(|f| f.tag.id).collect()
}

/// Paths in a sentence.
pub(crate) fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| shown(path)).collect();
    paths.join(", ")
}

/// A path for reports, as text that no other path has: bytes that are no text are escaped.
pub(crate) fn shown(path: &Path) -> String {
    use std::{fmt::Write, os::unix::ffi::OsStrExt};
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}
