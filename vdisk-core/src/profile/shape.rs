//! How an image is written for a profile: format, variant, sizes, and what else must be right.

use super::{Profile, Sizes, a_title, size_text, title, variants, vmdk_tests};
use crate::{
    Error, ErrorKind, Format, Result, Subformat,
    format::{self, Options},
};
use std::path::Path;

/// A way of writing images that a profile takes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Name of the format.
    pub format: &'static str,
    /// Name of the subformat.
    pub subformat: &'static str,
    /// Which virtual sizes are taken.
    pub sizes: Sizes,
    /// Disk adapters that may be named, the best first; none where the format names none.
    pub adapters: &'static [&'static str],
    /// Virtual hardware version to name.
    pub hardware_version: Option<u32>,
    /// Block sizes in bytes that are taken, the best first; none where any is, or there are none.
    pub blocks: &'static [u64],
}

/// What the writing must be able to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Make a child that holds only differences to a parent.
    pub child: bool,
    /// Write front to back, so to a pipe.
    pub streams: bool,
}

impl Needs {
    /// True if `subformat` can do it. A child that is a stream is for vdisk's own use: others who
    /// read streams look for no parent.
    pub fn met_by(self, subformat: &Subformat) -> bool {
        match self.child {
            true => subformat.child && !subformat.streams && !self.streams,
            false => !self.streams || subformat.streams,
        }
    }
}

impl Shape {
    /// `subformat` of `format`, with nothing else to choose.
    pub(super) const fn new(format: &'static str, subformat: &'static str, sizes: Sizes) -> Self {
        Self {
            format,
            subformat,
            sizes,
            adapters: &[],
            hardware_version: None,
            blocks: &[],
        }
    }

    /// With these adapters to choose from, and that hardware version.
    pub(super) const fn hardware(
        mut self,
        adapters: &'static [&'static str],
        version: u32,
    ) -> Self {
        self.adapters = adapters;
        self.hardware_version = Some(version);
        self
    }

    /// With these block sizes to choose from.
    pub(super) const fn blocks(mut self, blocks: &'static [u64]) -> Self {
        self.blocks = blocks;
        self
    }

    /// The format and the subformat themselves.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if this build cannot write them.
    pub fn resolve(&self) -> Result<(&'static dyn Format, &'static Subformat)> {
        let format = format::named(self.format)?;
        Ok((format, format::subformat(format, Some(self.subformat))?))
    }

    /// The size that a disk of `size` bytes gets for `profile`: as it is, or larger, never smaller.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the disk is too large, with the rule that says so.
    pub fn fit(&self, profile: &Profile, size: u64) -> Result<u64> {
        self.sizes.fit(size).ok_or_else(|| {
            let why = match self.sizes.range_rule {
                Some(rule) => because(Some(rule)),
                None => format!(": {} holds no more", a_title(self.format)),
            };
            let (name, limit) = (profile.name, self.sizes.limit());
            let detail = format!("{}, but {name} takes {limit}{why}", size_text(size));
            Error::new(ErrorKind::Unsupported, "virtual size", detail)
        })
    }

    /// The options of the new image; what `wanted` says goes first, if it may be.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a wish that is not written for the profile.
    pub fn options(&self, profile: &Profile, wanted: Options) -> Result<Options> {
        let refuse = |part: &'static str, asked: String, written: &[String], rule| {
            let (name, written, why) = (profile.name, written.join(", "), because(rule));
            let detail = format!("for {name} vdisk writes {written}, not {asked}{why}");
            Err(Error::new(ErrorKind::Usage, part, detail))
        };
        if let Some(adapter) = &wanted.adapter
            && !self.adapters.is_empty()
            && !self
                .adapters
                .iter()
                .any(|a| a.eq_ignore_ascii_case(adapter))
        {
            let written: Vec<String> = self.adapters.iter().map(ToString::to_string).collect();
            // A known one is not against the rule: it is only not what is written.
            let known = vmdk_tests::is_adapter(adapter);
            let rule = profile.objections.adapter.filter(|_| !known);
            return refuse("--adapter", format!("'{adapter}'"), &written, rule);
        }
        if let Some(block) = wanted.block_size
            && !self.blocks.is_empty()
            && !self.blocks.contains(&block)
        {
            let written: Vec<String> = self.blocks.iter().map(|b| size_text(*b)).collect();
            let rule = profile.objections.block_size;
            return refuse("--block-size", size_text(block), &written, rule);
        }
        Ok(Options {
            adapter: wanted
                .adapter
                .or_else(|| self.adapters.first().map(ToString::to_string)),
            hardware_version: wanted.hardware_version.or(self.hardware_version),
            block_size: wanted.block_size.or(self.blocks.first().copied()),
            ..wanted
        })
    }
}

/// The reason of a rule, if there is one, as the end of a sentence.
fn because(rule: Option<&str>) -> String {
    let rule = rule.and_then(super::rule);
    rule.map_or(String::new(), |r| format!(": {} [{}]", r.reason, r.id))
}

impl Profile {
    /// How to write, given what was asked for by name, and what it must be able to do.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the rule that speaks against what was asked for.
    ///
    /// ```
    /// use vdisk_core::profile::{self, Needs};
    /// let azure = profile::named("azure")?;
    /// assert_eq!(azure.shape(None, None, Needs::default())?.subformat, "fixed");
    /// let error = azure.shape(Some("vhd"), Some("dynamic"), Needs::default()).unwrap_err();
    /// assert!(error.to_string().contains("[azure-fixed]"));
    /// # Ok::<(), vdisk_core::Error>(())
    /// ```
    pub fn shape(
        &self,
        format: Option<&str>,
        subformat: Option<&str>,
        needs: Needs,
    ) -> Result<&'static Shape> {
        let mut candidates: Vec<&'static Shape> = self.shapes.iter().collect();
        let refuse = |part: &'static str, found: &[&'static Shape], asked: &str, rule| {
            let (written, why) = (names(found), because(rule));
            let detail = format!("for {} vdisk writes {written}, not {asked}{why}", self.name);
            Err(Error::new(ErrorKind::Usage, part, detail))
        };
        if let Some(format) = format {
            let found = candidates.clone();
            candidates.retain(|s| s.format == format);
            if candidates.is_empty() {
                let rule = (!self.takes.contains(&format)).then_some(self.format_rule);
                return refuse("format", &found, &title(format), rule);
            }
        }
        if let Some(subformat) = subformat {
            let found = candidates.clone();
            candidates.retain(|s| s.subformat.eq_ignore_ascii_case(subformat));
            if candidates.is_empty() {
                let rule = self.variant_rule.filter(|(format, _)| {
                    let meant = found.iter().any(|s| s.format == *format);
                    let known = |f| format::subformat(f, Some(subformat)).is_ok();
                    meant && format::named(format).is_ok_and(known)
                });
                return refuse("subformat", &found, subformat, rule.map(|(_, rule)| rule));
            }
        }
        // What this build cannot write is left to the error of the last candidate.
        let able = |s: &Shape| s.resolve().map(|(_, s)| needs.met_by(s));
        if let Some(shape) = candidates.iter().find(|s| matches!(able(s), Ok(true))) {
            return Ok(shape);
        }
        for shape in &candidates {
            shape.resolve()?;
        }
        let detail = format!(
            "for {} vdisk writes {}, which cannot be {}",
            self.name,
            names(&candidates),
            match needs.child {
                true => "a child of another image",
                false => "written to standard output",
            }
        );
        Err(Error::new(ErrorKind::Usage, "subformat", detail))
    }

    /// Looks whether an image of `shape` may be called `path`. `named` is true if the user named the
    /// format.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`], with the rule that says so, and a name that would do.
    pub fn check_name(&self, shape: &Shape, path: &Path, named: bool) -> Result<()> {
        let ending = path.extension().unwrap_or_default();
        let (name, format) = (self.name, shape.format);
        let detail = if let Some((rule, endings)) = self.objections.ending {
            let taken = endings(format);
            if taken.iter().any(|e| ending.eq_ignore_ascii_case(e)) {
                return Ok(());
            }
            let (best, why) = (taken.first().copied(), because(Some(rule)));
            format!(
                "for {name} the name of {} must end in .{}{why}",
                a_title(format),
                best.unwrap_or(format)
            )
        } else if format == "raw" && !named && format::by_extension(path).is_none() {
            format!(
                "for {name} a raw disk is written, which only its name can tell: give it an ending, such as disk.raw, or name the format"
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Usage, "file name", detail).path(path))
    }
}

/// `VHD (dynamic, fixed)`
fn names(shapes: &[&'static Shape]) -> String {
    variants(shapes.iter().map(|s| (s.format, s.subformat)))
}
