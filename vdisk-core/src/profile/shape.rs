//! How an image is written for a profile: format, variant, sizes, and what else must be right.

use super::{Profile, Rule};
use crate::{
    Error, ErrorKind, Format, Result, Subformat,
    format::{self, Options},
};

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

/// Which virtual sizes are taken, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Only multiples of this.
    pub unit: u64,
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
    /// The rule that is broken by other sizes than multiples.
    pub unit_rule: Option<&'static str>,
    /// The rule that is broken by sizes that are too small or too large.
    pub range_rule: Option<&'static str>,
}

impl Sizes {
    /// What a format takes anyway.
    pub(super) const ANY: Self = Self {
        unit: 512,
        least: 512,
        most: u64::MAX,
        unit_rule: None,
        range_rule: None,
    };

    /// At most so many bytes, by that rule.
    pub(super) const fn up_to(most: u64, rule: &'static str) -> Self {
        Self {
            most,
            range_rule: Some(rule),
            ..Self::ANY
        }
    }

    /// The size that a disk of `size` bytes gets: as it is, or larger, never smaller.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the disk is too large.
    pub fn fit(&self, size: u64) -> Result<u64> {
        let fitted = size.max(self.least).checked_next_multiple_of(self.unit);
        fitted.filter(|f| *f <= self.most).ok_or_else(|| {
            let because = self.range_rule.and_then(super::rule).map(because);
            let detail = format!(
                "of {size} bytes is more than the {} that are taken{}",
                self.most,
                because.unwrap_or_default()
            );
            Error::new(ErrorKind::Unsupported, "disk", detail)
        })
    }

    /// Why a disk of `size` bytes gets another size.
    pub fn why(&self, size: u64) -> Option<&'static Rule> {
        let rule = if size < self.least {
            self.range_rule
        } else {
            self.unit_rule
        };
        super::rule(rule?)
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

    /// The options of the new image; what `wanted` says goes first, if it may be.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a wish that the profile does not take.
    pub fn options(&self, profile: &Profile, wanted: Options) -> Result<Options> {
        let refuse = |part: &'static str, value: String, taken: Vec<String>| {
            let detail = format!(
                "{value} is not what {} takes; choose {}",
                profile.name,
                taken.join(" or ")
            );
            Err(Error::new(ErrorKind::Usage, part, detail))
        };
        if let Some(adapter) = &wanted.adapter
            && !self.adapters.is_empty()
            && !self
                .adapters
                .iter()
                .any(|a| a.eq_ignore_ascii_case(adapter))
        {
            let taken = self.adapters.iter().map(ToString::to_string).collect();
            return refuse("adapter", format!("'{adapter}'"), taken);
        }
        if let Some(block) = wanted.block_size
            && !self.blocks.is_empty()
            && !self.blocks.contains(&block)
        {
            let taken = self.blocks.iter().map(|b| format!("{b} bytes")).collect();
            return refuse("block size", format!("{block} bytes"), taken);
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

/// The reason of a rule, as the end of a sentence.
fn because(rule: &'static Rule) -> String {
    format!(": {} [{}]", rule.reason, rule.id)
}

impl Profile {
    /// How to write, given what was asked for by name, and what the writing must be able to do.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the rule that speaks against what was asked for.
    ///
    /// ```
    /// use vdisk_core::profile;
    /// let azure = profile::named("azure")?;
    /// assert_eq!(azure.shape(None, None, |_| true)?.subformat, "fixed");
    /// let error = azure.shape(Some("vhd"), Some("dynamic"), |_| true).unwrap_err();
    /// assert!(error.to_string().contains("[azure-fixed]"));
    /// # Ok::<(), vdisk_core::Error>(())
    /// ```
    pub fn shape(
        &self,
        format: Option<&str>,
        subformat: Option<&str>,
        fits: impl Fn(&Subformat) -> bool,
    ) -> Result<&'static Shape> {
        let mut candidates: Vec<&'static Shape> = self.shapes.iter().collect();
        let mut narrow =
            |part: &'static str, rule: Option<&str>, asked: &str, keep: &dyn Fn(&Shape) -> bool| {
                let before = names(&candidates);
                candidates.retain(|s| keep(s));
                if !candidates.is_empty() {
                    return Ok(());
                }
                let why = rule.and_then(super::rule).map(because).unwrap_or_default();
                let detail = format!("{} takes {before}, not {asked}{why}", self.name);
                Err(Error::new(ErrorKind::Usage, part, detail))
            };
        if let Some(format) = format {
            narrow("format", Some(self.format_rule), format, &|s| {
                s.format == format
            })?;
        }
        if let Some(subformat) = subformat {
            let same = |s: &Shape| s.subformat.eq_ignore_ascii_case(subformat);
            narrow("subformat", self.variant_rule, subformat, &same)?;
        }
        // What this build cannot write is left to the error of the last candidate.
        let able = |s: &Shape| s.resolve().map(|(_, s)| fits(s));
        if let Some(shape) = candidates.iter().find(|s| matches!(able(s), Ok(true))) {
            return Ok(shape);
        }
        for shape in &candidates {
            shape.resolve()?;
        }
        let detail = format!(
            "{} takes {}, which cannot be written in this place",
            self.name,
            names(&candidates)
        );
        Err(Error::new(ErrorKind::Usage, "subformat", detail))
    }
}

/// `vhd dynamic or vhd fixed`
fn names(shapes: &[&'static Shape]) -> String {
    let names: Vec<String> = shapes
        .iter()
        .map(|s| format!("{} {}", s.format, s.subformat))
        .collect();
    names.join(" or ")
}
