//! Where a new image goes and what it will be: the same flags and the same steps for every verb.
//!
//! An image appears whole or not at all, whatever files it is made of; standard output takes only
//! what can be written in order.

use crate::{
    args::{format_parser, shown},
    profile::{Chosen, ProfileArgs, no_child},
    size::human,
    ui::Ui,
};
use serde::Serialize;
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use vdisk_core::{
    Disk, Error, ErrorKind, FORMATS, FileResolver, Format, Identity, Ids, ImageWriter, Layer,
    OpenOptions, Result, Subformat,
    format::{self, Options, ParentSpec, Spec},
    open_layer,
    ops::{Resized, convert, hash},
    profile::{Needs, title, variants},
    storage::FileId,
    target::{Counting, Output, OutputOptions, Stream, Target},
};

/// Flags of every verb that writes an image.
#[derive(clap::Args)]
#[command(next_help_heading = "Output options")]
pub(crate) struct WriteArgs {
    /// Format of the new image [default: by the ending of its name; raw on standard output]
    #[arg(long, value_name = "FMT", value_parser = format_parser(true))]
    format: Option<&'static dyn Format>,
    /// Variant of the format, such as streamOptimized, fixed or dynamic
    #[arg(long, value_name = "NAME")]
    subformat: Option<String>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
    /// Do not wait until the new file is safely on the medium
    #[arg(long)]
    no_sync: bool,
    /// Compression level from 1 (fast) to 9 (small), for compressed subformats
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=9))]
    level: u32,
    /// The same bytes for the same input and file name: ids from the contents, time 0 or
    /// SOURCE_DATE_EPOCH (which, if set, implies this)
    #[arg(long)]
    reproducible: bool,
    #[command(flatten)]
    profile: ProfileArgs,
}

/// Format and subformat of a new image.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) format: &'static dyn Format,
    pub(crate) subformat: &'static Subformat,
    /// The profile that chose them, if one did.
    pub(crate) chosen: Option<Chosen>,
}

impl Shape {
    /// The size of the image of a disk of `size` bytes.
    pub(crate) fn fit(self, size: u64, ui: &Ui) -> Result<u64> {
        self.chosen.map_or(Ok(size), |c| c.fit(size, ui))
    }
}

/// True if `path` stands for standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

impl WriteArgs {
    /// What the image at `path` will be: an image of its own, or a child that holds differences.
    pub(crate) fn shape(&self, path: &Path, child: bool) -> Result<Shape> {
        let streams = is_stdout(path);
        let usage = |part: &'static str, detail: String| {
            Err(Error::new(ErrorKind::Usage, part, detail).path(path))
        };
        let needs = Needs { child, streams };
        let fits = |s: &Subformat| needs.met_by(s);
        if let Some(profile) = self.profile.profile {
            if let Some(why) = no_child(profile).filter(|_| child) {
                return usage("--profile", why);
            }
            let by_name = || format::by_extension(path);
            let format = self.format.or_else(by_name).map(|f| f.name());
            let subformat = self.subformat.as_deref();
            let shape = Chosen::of(profile, format, subformat, needs).map_err(|e| e.path(path))?;
            if let Some(chosen) = shape.chosen.filter(|_| !streams) {
                chosen.check_name(path, self.format.is_some())?;
            }
            return Ok(shape);
        }
        let format = match self.format {
            Some(format) => format,
            None => self.guess_format(path)?,
        };
        if format.subformats().is_empty() {
            let detail = format!("{} is read, but not written", title(format.name()));
            return usage("format", detail);
        }
        let known = |name| format::subformat(format, Some(name)).map_err(|e| e.path(path));
        let subformat = match &self.subformat {
            Some(name) => Some(known(name)?).filter(|s| fits(s)),
            None => format.subformats().iter().find(|s| fits(s)),
        };
        let Some(subformat) = subformat else {
            let format = title(format.name());
            let what = self.subformat.as_deref().unwrap_or(&format);
            let cannot = match (child, streams) {
                (true, true) => "a child is not written to standard output: it names its parent by its own place".to_owned(),
                (true, false) => format!("{what} cannot be a child of another image; {} can", able(fits)),
                _ => format!("{what} cannot be written to standard output; {} can", able(|s| s.streams)),
            };
            return usage("subformat", cannot);
        };
        Ok(Shape {
            format,
            subformat,
            chosen: None,
        })
    }

    /// What a delta at `path` is: a VMDK in one compressed file.
    pub(crate) fn delta_shape(&self, path: &Path) -> Result<Shape> {
        let format = format::named("vmdk")?;
        let other = format::by_extension(path).filter(|f| f.name() != format.name());
        if let Some(other) = other.filter(|_| !is_stdout(path)) {
            let detail = format!("is named as {}, and a delta is a VMDK", title(other.name()));
            return Err(Error::new(ErrorKind::Usage, "output", detail).path(path));
        }
        Ok(Shape {
            format,
            subformat: format::subformat(format, Some("streamOptimized"))?,
            chosen: None,
        })
    }

    /// What an image that is only planned will be, as far as a profile decides it.
    pub(crate) fn planned(&self, path: Option<&Path>) -> Result<Option<Shape>> {
        match (path, self.profile.profile) {
            (Some(path), _) => self.shape(path, false).map(Some),
            (None, Some(profile)) => {
                let format = self.format.map(|f| f.name());
                Chosen::of(profile, format, self.subformat.as_deref(), Needs::default()).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    /// The format without `--format`: by the subformat, by the file name, or raw for a pipe.
    fn guess_format(&self, path: &Path) -> Result<&'static dyn Format> {
        let by_name = format::by_extension(path);
        if let Some(name) = &self.subformat
            && by_name.is_none()
        {
            let has = |f: &dyn Format| format::subformat(f, Some(name)).is_ok();
            let found = FORMATS.iter().copied().find(|f| has(*f));
            return found.ok_or_else(|| {
                let detail = format!("'{name}' is not known; known are {}", able(|_| true));
                Error::new(ErrorKind::Usage, "subformat", detail).path(path)
            });
        }
        if is_stdout(path) {
            return format::named("raw");
        }
        by_name.ok_or_else(|| {
            let known: Vec<String> = FORMATS
                .iter()
                .filter(|f| !f.subformats().is_empty())
                .map(|f| {
                    // Only the archive of a package is written, which is the first.
                    let written = if f.holds_disks() { 1 } else { usize::MAX };
                    let endings = f.extensions().iter().take(written);
                    let endings: Vec<String> = endings.map(|e| format!(".{e}")).collect();
                    format!("{} ({})", f.name(), endings.join(", "))
                })
                .collect();
            let detail = format!(
                "the ending of the name stands for no format; give --format or an ending of {}",
                known.join(", ")
            );
            Error::new(ErrorKind::Usage, "format", detail).path(path)
        })
    }

    /// Starts the image at `path`. Fails now, before long work, if it cannot be written.
    pub(crate) fn begin(
        &self,
        path: &Path,
        shape: Shape,
        inputs: Vec<FileId>,
        ui: &mut Ui,
    ) -> Result<Destination> {
        self.epoch()?;
        let options = self.profile.options(shape).map_err(|e| e.path(path))?;
        let sink = if is_stdout(path) {
            Sink::Pipe(ui.image_output(&inputs)?)
        } else {
            let options = OutputOptions {
                force: self.force,
                sync: !self.no_sync,
                inputs,
            };
            Sink::File(Output::create(path, options)?)
        };
        Ok(Destination {
            path: path.to_owned(),
            shape,
            level: self.level,
            options,
            sink,
        })
    }

    /// The flags of an image that is never written.
    pub(crate) fn to_measure(
        format: Option<&'static dyn Format>,
        subformat: Option<String>,
        level: u32,
        profile: ProfileArgs,
    ) -> Self {
        Self {
            format,
            subformat,
            force: false,
            no_sync: true,
            level,
            reproducible: false,
            profile,
        }
    }

    /// Starts an image of which only the sizes of the files are kept.
    pub(crate) fn rehearse(&self, path: &Path, shape: Shape) -> Result<(Destination, Counting)> {
        let counting = Counting::new(&file_name(path, shape));
        let destination = Destination {
            path: path.to_owned(),
            shape,
            level: self.level,
            options: self.profile.options(shape).map_err(|e| e.path(path))?,
            sink: Sink::Nowhere(counting.clone()),
        };
        Ok((destination, counting))
    }

    /// False if the user does not wait for the medium.
    pub(crate) fn sync(&self) -> bool {
        !self.no_sync
    }

    /// Identities and time of the new image. `digest` of its contents is asked for if they must
    /// follow from it.
    pub(crate) fn ids(
        &self,
        shape: Shape,
        parent: Option<Identity>,
        digest: impl FnOnce() -> Result<[u8; 32]>,
    ) -> Result<Ids> {
        let epoch = self.epoch()?;
        if epoch.is_none() && !self.reproducible {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            return Ok(Ids::random(now.map_or(0, |d| d.as_secs())));
        }
        let mut salt = format!("{}/{}", shape.format.name(), shape.subformat.name);
        if let Some(parent) = parent {
            salt.push_str(&format!(" on {parent}"));
        }
        Ok(Ids::derived(&digest()?, &salt, epoch.unwrap_or(0)))
    }

    /// The time that the environment asks for, in seconds since 1970.
    fn epoch(&self) -> Result<Option<u64>> {
        let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else {
            return Ok(None);
        };
        let seconds = text.to_str().and_then(|t| t.parse().ok());
        seconds.map(Some).ok_or_else(|| {
            let detail = format!(
                "'{}' is not a number of seconds since 1970-01-01",
                text.display()
            );
            Error::new(ErrorKind::Usage, "SOURCE_DATE_EPOCH", detail)
        })
    }

    /// Copies all of `disk` to `destination`, and publishes it.
    pub(crate) fn copy(
        &self,
        disk: &dyn Disk,
        destination: Destination,
        ui: &Ui,
    ) -> Result<Written> {
        self.write(disk, destination, |digest| digest, None, ui)
    }

    /// The same for one of several copies: `salted` tells the digest of the contents from that of
    /// the others, where identities follow from it.
    pub(crate) fn copy_as(
        &self,
        disk: &dyn Disk,
        destination: Destination,
        salted: impl FnOnce([u8; 32]) -> [u8; 32],
        ui: &Ui,
    ) -> Result<Written> {
        self.write(disk, destination, salted, None, ui)
    }

    /// The same, but asks `check` before the image appears, which then looks at what was written.
    pub(crate) fn copy_checked(
        &self,
        disk: &dyn Disk,
        destination: Destination,
        check: &Check<'_>,
        ui: &Ui,
    ) -> Result<Written> {
        self.write(disk, destination, |digest| digest, Some(check), ui)
    }

    fn write(
        &self,
        disk: &dyn Disk,
        mut destination: Destination,
        salted: impl FnOnce([u8; 32]) -> [u8; 32],
        check: Option<&Check<'_>>,
        ui: &Ui,
    ) -> Result<Written> {
        let job = ui.job();
        if let (Some(check), Sink::Pipe(_)) = (check, &destination.sink) {
            check(disk)?; // what went down a pipe cannot be taken back
        }
        let old_size = disk.size();
        let fitted = destination.shape.fit(old_size, ui);
        let disk = &Resized::new(disk, fitted.map_err(|e| e.path(&destination.path))?);
        let ids = self.ids(destination.shape, None, || {
            hash::digest(disk, &job).map(salted)
        })?;
        let writer = destination.writer(disk.size(), disk.sector_size(), ids, None)?;
        convert::copy(disk, writer, &job)?;
        if let (Some(check), Some(layer)) = (check, destination.layer()?) {
            check(&Resized::new(&layer, old_size))?;
        }
        let written = destination.publish(disk.size(), ui)?;
        Ok(written.grown_from(old_size))
    }
}

/// The subformats of which `wanted` holds, for messages.
fn able(wanted: impl Fn(&Subformat) -> bool) -> String {
    let all = FORMATS
        .iter()
        .flat_map(|f| f.subformats().iter().map(|s| (f.name(), s)));
    variants(all.filter(|(_, s)| wanted(s)).map(|(f, s)| (f, s.name)))
}

/// Looks at what a new image reads as.
pub(crate) type Check<'a> = dyn Fn(&dyn Disk) -> Result<()> + 'a;

enum Sink {
    File(Output),
    Pipe(Stream<File>),
    Nowhere(Counting),
}

/// The name of an image of that shape at `path`, as formats record it.
fn file_name(path: &Path, shape: Shape) -> String {
    let ending = shape.format.extensions().first();
    match path.file_name() {
        Some(name) if !is_stdout(path) => name.display().to_string(),
        _ => format!("disk.{}", ending.copied().unwrap_or("raw")),
    }
}

/// A new image under way. Dropped, it leaves nothing behind.
pub(crate) struct Destination {
    path: PathBuf,
    pub(crate) shape: Shape,
    level: u32,
    options: Options,
    sink: Sink,
}

impl Destination {
    /// Gives the new image the id by which guests know its parent.
    pub(crate) fn disk_id(&mut self, id: Option<[u8; 16]>) {
        self.options.disk_id = id;
    }

    /// Gives the new image lines of our own.
    pub(crate) fn notes(&mut self, notes: Vec<(String, String)>) {
        self.options.notes = notes;
    }

    /// The writer of an image of `size` bytes, in sectors of `sector_size` where the format can say so.
    pub(crate) fn writer(
        &mut self,
        size: u64,
        sector_size: u32,
        ids: Ids,
        parent: Option<ParentSpec>,
    ) -> Result<Box<dyn ImageWriter + '_>> {
        let name = file_name(&self.path, self.shape);
        let spec = Spec {
            size,
            subformat: self.shape.subformat,
            name: &name,
            ids,
            level: self.level,
            parent,
            options: Options {
                sector_size: Some(sector_size),
                ..self.options.clone()
            },
        };
        let target: &mut dyn Target = match &mut self.sink {
            Sink::File(output) => output,
            Sink::Pipe(stream) => stream,
            Sink::Nowhere(counting) => counting,
        };
        self.shape
            .format
            .create(target, &spec)
            .map_err(|e| e.path(&self.path))
    }

    /// The finished image, before it has its name; `None` if it is no file.
    pub(crate) fn layer(&mut self) -> Result<Option<Layer>> {
        match &mut self.sink {
            Sink::File(output) => output.layer(self.shape.format).map(Some),
            Sink::Pipe(_) | Sink::Nowhere(_) => Ok(None),
        }
    }

    /// Gives the finished image of `size` bytes its name, and says what it is.
    pub(crate) fn publish(self, size: u64, ui: &Ui) -> Result<Written> {
        ui.check_stop()?;
        let mut written = Written {
            output: shown(&self.path),
            format: self.shape.format.name(),
            subformat: self.shape.subformat.name,
            virtual_size: size,
            added_size: 0,
            stored_size: None,
            identity: None,
        };
        let Sink::File(output) = self.sink else {
            return Ok(written);
        };
        output.publish()?;
        let resolver = FileResolver::default(); // the extents lie beside the image
        let options = OpenOptions {
            format: Some(self.shape.format),
            verify: false,
            ..OpenOptions::new(&resolver)
        };
        // The image is there, whatever this finds.
        if let Ok(layer) = open_layer(&self.path, &options) {
            written.stored_size = Some(layer.files().iter().map(|f| f.tag.allocated).sum());
            written.identity = layer.facts().identity.map(|i| i.to_string());
            if let Some(chosen) = self.shape.chosen {
                chosen.review(&layer, ui)?;
            }
        }
        Ok(written)
    }
}

/// A new image, as every report shows it.
#[derive(Serialize)]
pub(crate) struct Written {
    /// Path; `-` for standard output.
    output: String,
    format: &'static str,
    subformat: &'static str,
    /// Bytes.
    virtual_size: u64,
    /// Bytes of zeros at the end that the disk did not have, as a profile wants it.
    pub(crate) added_size: u64,
    /// Bytes on the medium; null on standard output.
    stored_size: Option<u64>,
    identity: Option<String>,
}

impl Written {
    /// Says that the disk had `size` bytes before.
    pub(crate) fn grown_from(mut self, size: u64) -> Self {
        self.added_size = self.virtual_size.saturating_sub(size);
        self
    }

    /// The text view: one line.
    pub(crate) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            output,
            format,
            subformat,
            ..
        } = self;
        let output = vdisk_core::printable(output);
        write!(
            out,
            "{output}: {format} {subformat}, {}",
            human(self.virtual_size)
        )?;
        if let Some(stored) = self.stored_size {
            write!(out, ", {} stored", human(stored))?;
        }
        if let Some(identity) = &self.identity {
            write!(out, ", {identity}")?;
        }
        writeln!(out)
    }
}
