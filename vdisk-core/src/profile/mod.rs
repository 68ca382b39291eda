//! What each hypervisor and cloud takes: how to write an image for it, and the rules it holds
//! images to.
//!
//! Uploads fail late and say little. A profile knows beforehand, and gives each rule its reason. It
//! stands above the formats and may look into them; operations and disks know nothing of it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod aws;
mod azure;
mod descriptor_lines;
mod esxi;
mod gcp;
mod hyperv;
mod shape;
mod sizes;
mod subject;
mod vhd_tests;
mod vhdx_tests;
mod virtualbox;
mod vmdk_tests;
mod words;
mod workstation;
mod xen;

pub use shape::{Needs, Shape};
pub use sizes::Sizes;
use subject::Subject;
use words::a_title;
pub use words::{size_text, title, variants};

use crate::{
    Error, ErrorKind, Job, Layer, Result,
    check::{Finding, Findings, Severity},
};
use std::borrow::Cow;

/// Every profile there is.
pub static PROFILES: &[&Profile] = &[
    &esxi::ESXI,
    &workstation::WORKSTATION,
    &virtualbox::VIRTUALBOX,
    &hyperv::HYPERV,
    &azure::AZURE,
    &aws::AWS,
    &gcp::GCP,
    &xen::XEN,
];

/// One hypervisor or cloud.
#[derive(Debug)]
pub struct Profile {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is called otherwise.
    pub title: &'static str,
    /// The ways of writing that it takes, the best first.
    pub shapes: &'static [Shape],
    /// The formats that it takes, whether vdisk writes them for it or not.
    pub takes: &'static [&'static str],
    /// The rule that other formats break.
    pub format_rule: &'static str,
    /// The rule that other variants of a format break, and the name of that format.
    pub variant_rule: Option<(&'static str, &'static str)>,
    /// The rules that other wishes break.
    pub objections: Objections,
    /// What it holds images to.
    pub rules: &'static [Rule],
}

/// The rules that a wish can break besides those about formats; `None` where nothing is known.
#[derive(Clone, Copy, Debug)]
pub struct Objections {
    /// By any image that needs a parent.
    pub parent: Option<&'static str>,
    /// By other adapters.
    pub adapter: Option<&'static str>,
    /// By other block sizes.
    pub block_size: Option<&'static str>,
    /// By other endings of the file name than those that go with the format of a name.
    pub ending: Option<(&'static str, Endings)>,
}

/// The endings that the name of an image of that format may have, the best first; none if any.
pub type Endings = fn(&str) -> &'static [&'static str];

impl Objections {
    const NONE: Self = Self {
        parent: None,
        adapter: None,
        block_size: None,
        ending: None,
    };
}

/// Something that an image must be or have for a profile.
#[derive(Debug)]
pub struct Rule {
    /// Short, stable, lower case; unique among all profiles: `azure-fixed`.
    pub id: &'static str,
    /// How bad it is to break it. [`Severity::Error`]: it will be refused.
    pub severity: Severity,
    /// What must hold, as a sentence without a full stop.
    pub demand: &'static str,
    /// Why, and who says so.
    pub reason: &'static str,
    /// What can be done.
    pub fix: &'static str,
    test: fn(&Subject<'_>) -> Result<Verdict>,
}

/// What a rule says of an image: nothing, or how the image breaks it.
type Verdict = Option<Broken>;

/// How an image breaks a rule.
struct Broken {
    part: Cow<'static, str>,
    detail: String,
    /// Number of the file, and the place in it.
    file: usize,
    at: Option<u64>,
}

impl Broken {
    fn new(part: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self {
            part: part.into(),
            detail: detail.into(),
            file: 0,
            at: None,
        }
    }

    fn at(mut self, offset: u64) -> Self {
        self.at = Some(offset);
        self
    }

    fn in_file(mut self, number: usize) -> Self {
        self.file = number;
        self
    }

    /// As the answer of a rule.
    fn found(self) -> Result<Verdict> {
        Ok(Some(self))
    }
}

/// The profile of that name.
///
/// ```
/// assert_eq!(vdisk_core::profile::named("azure")?.title, "Microsoft Azure");
/// assert!(vdisk_core::profile::named("floppy").is_err());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn named(name: &str) -> Result<&'static Profile> {
    PROFILES
        .iter()
        .copied()
        .find(|p| p.name == name)
        .ok_or_else(|| {
            let known: Vec<&str> = PROFILES.iter().map(|p| p.name).collect();
            let detail = format!(
                "'{name}' is not a known profile; known are {}",
                known.join(", ")
            );
            Error::new(ErrorKind::Usage, "profile", detail)
        })
}

/// The rule with that name, of any profile.
pub fn rule(id: &str) -> Option<&'static Rule> {
    PROFILES.iter().flat_map(|p| p.rules).find(|r| r.id == id)
}

impl Profile {
    /// Holds `layer`, an opened image, to the rules of this profile; `now` is the time in seconds
    /// since 1970-01-01 UTC. Each broken rule is one finding, at the first place that breaks it.
    ///
    /// # Errors
    /// What cannot be read. An image that is merely wrong for this profile is no error.
    ///
    /// ```
    /// use vdisk_core::{Job, format, profile, testing};
    /// let vhd = format::named("vhd")?;
    /// let dynamic = format::subformat(vhd, Some("dynamic"))?;
    /// let image = testing::image(vhd, dynamic, &vec![7; 20 << 20], None, 0)?;
    /// let layer = testing::open_bytes(vhd, image)?;
    /// let findings = profile::named("azure")?.lint(&layer, 2_000_000_000, &Job::default())?;
    /// assert_eq!(findings.list()[0].rule, "azure-fixed");
    /// # Ok::<(), vdisk_core::Error>(())
    /// ```
    pub fn lint(&self, layer: &Layer, now: u64, job: &Job<'_>) -> Result<Findings> {
        let subject = Subject::new(layer, now, job)?;
        let mut findings = Findings::default();
        for rule in self.rules {
            job.advance(0)?;
            let Some(broken) = (rule.test)(&subject)? else {
                continue;
            };
            let file = layer.files().get(broken.file).unwrap_or(subject.file);
            let mut finding =
                Finding::new(rule.severity, rule.id, file, broken.part, broken.detail);
            finding.at = broken.at;
            if let Some(part_of) = &file.part_of {
                part_of.file.path.clone_into(&mut finding.file);
                finding.at = broken.at.map(|at| at.saturating_add(part_of.at));
            }
            findings.add(finding);
        }
        Ok(findings)
    }
}
