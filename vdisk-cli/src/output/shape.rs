//! What a new image will be: as the flags say, as a profile wants it, or as its name tells.

use super::{WriteArgs, is_stdout};
use crate::{
    profile::{Chosen, no_child},
    ui::Ui,
};
use std::path::Path;
use vdisk_core::{
    Error, ErrorKind, FORMATS, Format, Result, Subformat, format,
    profile::{Needs, title, variants},
};

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
}

/// The subformats of which `wanted` holds, for messages.
fn able(wanted: impl Fn(&Subformat) -> bool) -> String {
    let all = FORMATS
        .iter()
        .flat_map(|f| f.subformats().iter().map(|s| (f.name(), s)));
    variants(all.filter(|(_, s)| wanted(s)).map(|(f, s)| (f, s.name)))
}
