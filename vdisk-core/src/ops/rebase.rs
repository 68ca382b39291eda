//! Gives an image another parent without changing what it reads as: a new image that holds what
//! differs from that parent, in the place of the old one.
//!
//! Nothing is written in place: the new image is compared with the old one before it gets its name,
//! so that whatever goes wrong, one of the two is there and whole.

use super::{
    Stamp, changes, child, hash,
    like::{self, LEVEL, Like},
    stamp,
};
use crate::{
    Chain, Disk, Error, ErrorKind, Format, InFile, Job, OpenOptions, Result,
    format::{self, Spec},
    open,
    target::{Counting, Output, OutputOptions, Target},
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Where the new image goes; `None` puts it in the place of the old one.
    pub output: Option<PathBuf>,
    /// Replace what is at `output`.
    pub force: bool,
    /// Also record the absolute path of the parent.
    pub absolute: bool,
    /// Leave the image alone if the new one would not be smaller.
    pub only_if_smaller: bool,
    /// The time to stamp the new image with, in seconds since 1970.
    pub created: u64,
}

/// What is to be done, and to which files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The files of the image as they were when this was planned, the main one first.
    pub image: Vec<Stamp>,
    /// The files of the new parent and of its parents.
    pub parent: Vec<Stamp>,
    /// Where the new image goes.
    pub output: PathBuf,
    /// True if that is the place of the old one.
    pub in_place: bool,
    /// Replace what else is there.
    pub force: bool,
    /// Record the absolute path of the parent.
    pub absolute: bool,
    /// Leave the image alone if the new one would not be smaller.
    pub only_if_smaller: bool,
    /// The time to stamp the new image with.
    pub created: u64,
    /// Its format.
    pub format: String,
    /// Its subformat.
    pub subformat: String,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Bytes that the old image takes on the medium.
    pub stored_before: u64,
    /// What a user should know before, a sentence each.
    pub warnings: Vec<String>,
}

/// What would be written, without writing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of the disk that the new image has to record.
    pub recorded: u64,
    /// Bytes that it would take on the medium, about.
    pub stored: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebased {
    /// Bytes of the disk that the new image records.
    pub recorded: u64,
    /// Bytes that it takes on the medium.
    pub stored: u64,
    /// SHA-256 of what both images read as.
    pub sha256: [u8; 32],
    /// False if it was not smaller, and so was not kept.
    pub kept: bool,
}

/// Plans to make `image` a child of `parent`. Reads no contents.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) if it cannot be one, and [`Unsupported`](ErrorKind::Unsupported) if
/// the image cannot be put in its own place in one step, because it consists of several files.
pub fn plan(image: &Chain, parent: &Chain, wish: &Wish) -> Result<Plan> {
    let top = image.top();
    child::check(parent, top.format())?;
    child::refuse_loop(parent, top)?;
    let like = Like::child(top, wish.created)?;
    if wish.output.is_none() && top.files().len() > 1 {
        let detail =
            "consists of several files, which cannot be replaced in one step; name an output";
        return Err(Error::new(ErrorKind::Unsupported, "image", detail).path(top.path()));
    }
    let output = wish.output.clone().unwrap_or_else(|| top.path().to_owned());
    let mut warnings = like.lost;
    warnings.extend(child::place(parent, &output, wish.absolute)?.warning);
    if image.size() != parent.size() {
        warnings.push(
            "it has another size than its new parent; other programs may refuse it".to_owned(),
        );
    }
    Ok(Plan {
        image: stamp::all(top.files())?,
        parent: stamp::all(parent.files())?,
        in_place: wish.output.is_none(),
        output,
        force: wish.force,
        absolute: wish.absolute,
        only_if_smaller: wish.only_if_smaller,
        created: wish.created,
        format: top.format().name().to_owned(),
        subformat: like.subformat.name.to_owned(),
        virtual_size: image.size(),
        stored_before: top.stored_size(),
        warnings,
    })
}

impl Plan {
    /// The path of the old image.
    pub fn path(&self) -> &Path {
        self.image.first().map_or(Path::new(""), |s| &s.path)
    }

    /// The path of the new parent.
    pub fn parent_path(&self) -> &Path {
        self.parent.first().map_or(Path::new(""), |s| &s.path)
    }

    /// Compares all contents, to say what [`apply`](Self::apply) would write.
    pub fn measure(&self, options: &OpenOptions<'_>, job: &Job<'_>) -> Result<Estimate> {
        let (image, parent) = self.open(options)?;
        Output::check(&self.output, &self.output_options(&image, &parent, false))?;
        let mut counting = Counting::new("");
        let recorded = self.write(&image, &parent, &mut counting, job)?;
        Ok(Estimate {
            recorded,
            stored: counting.stored(),
        })
    }

    /// Writes the new image, checks that it reads as the old one, and gives it its name.
    ///
    /// `sync` waits until it is on the medium. After an error, or if the new image is not kept, all
    /// files are as they were.
    pub fn apply(&self, options: &OpenOptions<'_>, sync: bool, job: &Job<'_>) -> Result<Rebased> {
        let (image, parent) = self.open(options)?;
        // Until the new image has its name, nobody may write to the old one.
        let sha256 = hash::digest(&image, job)?;
        let output_options = self.output_options(&image, &parent, sync);
        let mut output = Output::create(&self.output, output_options)?;
        let recorded = self.write(&image, &parent, &mut output, job)?;
        let layer = output.layer(self.format()?)?;
        let stored = layer.stored_size();
        let mut rebased = Rebased {
            recorded,
            stored,
            sha256,
            kept: false,
        };
        if self.only_if_smaller && stored >= self.stored_before {
            return Ok(rebased);
        }
        child::verify(layer, &parent, image.size(), &sha256, job)?;
        self.check()?;
        job.advance(0)?;
        output.publish()?;
        rebased.kept = true;
        Ok(rebased)
    }

    fn format(&self) -> Result<&'static dyn Format> {
        format::named(&self.format)
    }

    /// What may be replaced: the image by the new one, if that goes in its place, and else no input.
    fn output_options(&self, image: &Chain, parent: &Chain, sync: bool) -> OutputOptions {
        let own = image.top().files().iter().filter_map(|f| f.tag.id);
        let own: Vec<_> = own.collect();
        let inputs = image
            .files()
            .chain(parent.files())
            .filter_map(|f| f.tag.id)
            .filter(|id| !self.in_place || !own.contains(id));
        OutputOptions {
            force: self.in_place || self.force,
            sync,
            inputs: inputs.collect(),
        }
    }

    /// Fails if a file is not as it was when this was planned.
    fn check(&self) -> Result<()> {
        self.image
            .iter()
            .chain(&self.parent)
            .try_for_each(Stamp::check)
    }

    fn open(&self, options: &OpenOptions<'_>) -> Result<(Chain, Chain)> {
        self.check()?;
        let options = OpenOptions {
            verify: false,
            ..*options
        };
        let image = open(self.path(), &options)?;
        if self.output != self.path() {
            like::check_name(image.top().format(), &self.output)?;
        }
        let parent = open(self.parent_path(), &options)?;
        Ok((image, parent))
    }

    /// Writes the new image to `target`; returns the bytes it records.
    fn write(
        &self,
        image: &Chain,
        parent: &Chain,
        target: &mut dyn Target,
        job: &Job<'_>,
    ) -> Result<u64> {
        let like = Like::child(image.top(), self.created)?;
        let place = child::place(parent, &self.output, self.absolute)?;
        let name = self.output.file_name().unwrap_or_default().display();
        let spec = Spec {
            size: image.size(),
            subformat: like.subformat,
            name: &name.to_string(),
            ids: like.ids,
            level: LEVEL,
            parent: Some(place.spec),
            options: like.options,
        };
        let writer = self.format()?.create(target, &spec).in_file(&self.output)?;
        changes::write(parent, image, writer, job)
    }
}
