//! What a profile decides about a new image: the flags, the choice, and the size that is taken.

use crate::{output::Shape, size::both, ui::Ui};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};
use vdisk_core::{
    Error, ErrorKind, Layer, Result,
    check::Severity,
    format::Options,
    profile::{self, Needs, PROFILES, Profile, variants},
};

/// Flags that say for whom an image is written, and what else its format lets one choose.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Output options")]
pub(crate) struct ProfileArgs {
    /// Write what this hypervisor or cloud takes: decides format, variant, size and hardware, and
    /// looks afterwards whether the image keeps its rules
    #[arg(long, value_name = "NAME", value_parser = parser())]
    pub(crate) profile: Option<&'static Profile>,
    /// Disk adapter that a VMDK names: lsilogic, buslogic, ide, lsisas1068, pvscsi or legacyESX
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Size of a block, of formats that have a choice: dynamic VHD, VHDX
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    block_size: Option<u64>,
}

/// Why no child is written for `profile`, if none is.
pub(crate) fn no_child(profile: &Profile) -> Option<String> {
    let name = profile.name;
    let child = Needs {
        child: true,
        streams: false,
    };
    match profile.objections.parent.and_then(profile::rule) {
        Some(rule) => Some(format!(
            "{name} takes no disks with a parent; clone --full copies: {} [{}]",
            rule.reason, rule.id
        )),
        None if profile
            .shapes
            .iter()
            .any(|s| s.resolve().is_ok_and(|(_, s)| child.met_by(s))) =>
        {
            None
        }
        None => Some(format!(
            "for {name} vdisk writes no disks with a parent; clone --full copies"
        )),
    }
}

/// Reads the name of a profile.
pub(crate) fn parser() -> impl TypedValueParser<Value = &'static Profile> {
    let names = PROFILES.iter().map(|p| p.name);
    PossibleValuesParser::new(names).try_map(|name| profile::named(&name))
}

/// A profile, and the way of writing that was chosen from it.
#[derive(Clone, Copy)]
pub(crate) struct Chosen {
    profile: &'static Profile,
    shape: &'static profile::Shape,
}

impl Chosen {
    /// What vdisk writes for `profile` of what was asked for by name, if it can do what it `needs`.
    pub(crate) fn of(
        profile: &'static Profile,
        format: Option<&str>,
        subformat: Option<&str>,
        needs: Needs,
    ) -> Result<Shape> {
        let shape = profile.shape(format, subformat, needs)?;
        let (format, subformat) = shape.resolve()?;
        Ok(Shape {
            format,
            subformat,
            chosen: Some(Self { profile, shape }),
        })
    }

    /// Looks whether an image at `path` can be known for what it is; `named` is true if the user
    /// named the format.
    pub(crate) fn check_name(self, path: &Path, named: bool) -> Result<()> {
        self.profile.check_name(self.shape, path, named)
    }

    /// The size of the image of a disk of `size` bytes. Says so if it is larger.
    pub(crate) fn fit(self, size: u64, ui: &Ui) -> Result<u64> {
        let fitted = self.shape.fit(self.profile, size)?;
        if let Some(added) = fitted.checked_sub(size).filter(|added| *added > 0) {
            let why = self.shape.sizes.why(size);
            let why = why.map_or(String::new(), |r| format!(": {} [{}]", r.reason, r.id));
            ui.warn(&format!(
                "the disk is made {} larger, with zeros at its end{why}",
                both(added)
            ));
        }
        Ok(fitted)
    }

    /// Warns of the rules that the finished image breaks.
    pub(crate) fn review(self, layer: &Layer, ui: &Ui) -> Result<()> {
        let findings = self.profile.lint(layer, now(), &ui.job())?;
        let name = self.profile.name;
        for finding in findings.list() {
            if finding.severity != Severity::Note {
                ui.warn(&format!("against the rules of {name}: {finding}"));
            } else if finding.part == "file name" {
                // Other notes are about the contents; this one is left to the user to do.
                let fix = profile::rule(finding.rule).map_or("", |r| r.fix);
                ui.warn(&format!("for {name}: {finding}; {fix}"));
            }
        }
        Ok(())
    }
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs())
}

impl ProfileArgs {
    /// The options of an image of that shape.
    pub(crate) fn options(&self, shape: Shape) -> Result<Options> {
        let wanted = Options {
            adapter: self.adapter.clone(),
            block_size: self.block_size,
            ..Options::default()
        };
        let (format, subformat) = (shape.format.name(), shape.subformat.name);
        let refuse = |part: &'static str, what: &str| {
            let detail = format!("{what} {}", variants([(format, subformat)]));
            Err(Error::new(ErrorKind::Usage, part, detail))
        };
        if wanted.adapter.is_some() && format != "vmdk" {
            return refuse("--adapter", "is recorded in VMDK only, not in");
        }
        let blocks = matches!(
            (format, subformat),
            ("vhd", "dynamic" | "differencing") | ("vhdx", _)
        );
        if wanted.block_size.is_some() && !blocks {
            return refuse(
                "--block-size",
                "can be chosen for dynamic VHD and for VHDX, not for",
            );
        }
        match shape.chosen {
            Some(chosen) => chosen.shape.options(chosen.profile, wanted),
            None => Ok(wanted),
        }
    }
}
