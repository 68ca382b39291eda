//! Where a new image goes and what it will be: the same flags and the same steps for every verb.
//!
//! An image appears whole or not at all, whatever files it is made of; standard output takes only
//! what can be written in order.

mod destination;
mod shape;
mod written;

pub(crate) use destination::Destination;
pub(crate) use shape::Shape;
pub(crate) use written::Written;

use crate::{
    args::format_parser,
    profile::{ProfileArgs, now},
    ui::Ui,
};
use destination::{Sink, file_name};
use std::path::Path;
use vdisk_core::{
    Disk, Error, ErrorKind, Format, Identity, Ids, Result,
    ops::{Resized, convert, hash},
    storage::FileId,
    target::{Counting, Output, OutputOptions},
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

/// True if `path` stands for standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

impl WriteArgs {
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

    /// Fails as [`begin`](Self::begin) would for the file `path`, and writes nothing.
    pub(crate) fn check(&self, path: &Path, inputs: Vec<FileId>) -> Result<()> {
        let options = OutputOptions {
            force: self.force,
            sync: false,
            inputs,
        };
        Output::check(path, &options)
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
            return Ok(Ids::random(now()));
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

/// Looks at what a new image reads as.
pub(crate) type Check<'a> = dyn Fn(&dyn Disk) -> Result<()> + 'a;
