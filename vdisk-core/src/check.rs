//! What is wrong with an image, where, and what can be done about it without guessing.
//!
//! Formats look for what they know ([`Format::check`](crate::Format::check)) and put it here as
//! findings; what a finding can repair it carries along as patches, so that a plan is only a list.

use crate::{
    Disk, Error, ErrorKind, Job, Kind, Layer, Result,
    format::Context,
    limits,
    ops::{self, CHUNK},
    patch::Patch,
    storage::ImageFile,
};
use std::{borrow::Cow, collections::BTreeMap, fmt, path::PathBuf};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing needs to be done.
    Note,
    /// Contents read right, but a program may refuse the image, or harm it with its next write.
    Warning,
    /// Contents are wrong or cannot be read.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Short stable name of the rule that is broken: `grain-past-end`.
    pub rule: &'static str,
    /// The file concerned.
    pub file: PathBuf,
    /// The part of the image: "grain table 7, entry 12".
    pub part: Cow<'static, str>,
    /// What is wrong with it.
    pub detail: String,
    /// Where in the file.
    pub at: Option<u64>,
    /// How it can be put right without guessing.
    pub repair: Option<Repair>,
}

/// How a finding can be put right.
#[derive(Clone, Debug)]
pub struct Repair {
    /// What is done, as a sentence without a full stop: "copy the footer from the start of the file".
    pub action: String,
    /// The changes, in the order in which they must reach the medium.
    pub patches: Vec<Patch>,
}

impl Finding {
    /// A finding about `part` of `file`.
    ///
    /// ```
    /// use vdisk_core::{check::{Finding, Severity}, storage::ImageFile};
    /// let file = ImageFile::from_storage("a.vhd", vec![0; 512])?;
    /// let finding = Finding::new(Severity::Warning, "checksum", &file, "footer", "has a wrong checksum")
    ///     .at(0);
    /// assert_eq!(
    ///     finding.to_string(),
    ///     "a.vhd: footer: has a wrong checksum (at file offset 0x0) [checksum]"
    /// );
    /// # Ok::<(), vdisk_core::Error>(())
    /// ```
    pub fn new(
        severity: Severity,
        rule: &'static str,
        file: &ImageFile,
        part: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            rule,
            file: file.path().to_owned(),
            part: part.into(),
            detail: detail.into(),
            at: None,
            repair: None,
        }
    }

    /// What an error met while reading `file` says, as a finding.
    pub fn of(error: &Error, rule: &'static str, file: &ImageFile) -> Self {
        Self {
            severity: Severity::Error,
            rule,
            file: error.file().unwrap_or_else(|| file.path()).to_owned(),
            part: Cow::Owned(error.part().to_owned()),
            detail: error.detail().to_owned(),
            at: error.offset(),
            repair: None,
        }
    }

    /// Adds the file offset.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.at = Some(offset);
        self
    }

    /// Adds how it can be repaired.
    #[must_use]
    pub fn repair(mut self, action: impl Into<String>, patches: Vec<Patch>) -> Self {
        self.repair = Some(Repair {
            action: action.into(),
            patches,
        });
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |text: &str| crate::printable(text).into_owned();
        let path = self.file.display().to_string();
        write!(
            f,
            "{}: {}: {}",
            show(&path),
            show(&self.part),
            show(&self.detail)
        )?;
        if let Some(at) = self.at {
            write!(f, " (at file offset {at:#x})")?;
        }
        write!(f, " [{}]", self.rule)
    }
}

/// Collects findings, at most [`limits::FINDINGS`] of each rule; the others are counted.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    counts: BTreeMap<&'static str, u64>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.rule).or_default();
        *count += 1;
        if *count <= limits::FINDINGS {
            self.list.push(finding);
        }
    }

    /// Adds what was found in a part of the image that cannot be repaired where it lies.
    pub(crate) fn add_part(&mut self, part: Self) {
        for (rule, count) in part.counts {
            *self.counts.entry(rule).or_default() += count;
        }
        self.list
            .extend(part.list.into_iter().map(|finding| Finding {
                repair: None,
                ..finding
            }));
    }

    /// What was kept, in the order in which it was found.
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How often each rule was broken, also beyond what was kept.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The worst severity, if anything was found.
    pub fn worst(&self) -> Option<Severity> {
        self.list.iter().map(|f| f.severity).max()
    }

    /// All changes that the findings carry, in order.
    pub fn patches(&self) -> Vec<Patch> {
        let repairs = self.list.iter().filter_map(|f| f.repair.as_ref());
        repairs.flat_map(|r| r.patches.iter().cloned()).collect()
    }
}

/// How a check is made.
#[derive(Clone, Copy)]
pub struct Checkup<'a> {
    /// Opens extents, as for opening.
    pub context: Context<'a>,
    /// Who watches, who may stop, how many threads.
    pub job: &'a Job<'a>,
    /// Also read and unpack all data.
    pub deep: bool,
}

/// Looks at every entry of every table of `layer`, and with `deep` at all data; what cannot be
/// read becomes a finding under `rule` "unreadable".
///
/// What every format can check by being read. A format's own check finds more, and says it better.
pub fn walk(layer: &Layer, checkup: &Checkup<'_>, findings: &mut Findings) -> Result<()> {
    /// Where to go on after an entry that cannot be read: grains and blocks are no smaller, mostly.
    const STEP: u64 = 64 << 10;
    let Some(file) = layer.files().first() else {
        return Ok(());
    };
    let mut pos = 0;
    let mut broken = 0;
    while pos < layer.size() {
        checkup.job.advance(0)?;
        pos = match layer.extent_at(pos) {
            Ok(extent) => extent.range.end,
            Err(error) if !is_finding(&error) => return Err(error),
            Err(error) => {
                findings.add(Finding::of(&error, "unreadable", file));
                broken += 1;
                if broken >= limits::FINDINGS {
                    findings.add(Finding::new(
                        Severity::Note,
                        "gave-up",
                        file,
                        "tables",
                        format!(
                            "were not looked at past disk position {pos:#x}: too much is wrong"
                        ),
                    ));
                    return Ok(());
                }
                (pos / STEP).saturating_add(1).saturating_mul(STEP)
            }
        };
    }
    if checkup.deep && broken == 0 {
        read_all(layer, file, checkup.job, findings)?;
    }
    Ok(())
}

/// Reads all data that `layer` keeps.
fn read_all(layer: &Layer, file: &ImageFile, job: &Job<'_>, findings: &mut Findings) -> Result<()> {
    job.watch.phase("reading", layer.size());
    let stored = ops::pieces(layer, layer.sector_size().into(), CHUNK);
    job.in_order(
        stored,
        |piece| {
            let len = piece.range.end - piece.range.start;
            let whole = |extent: &crate::Extent| extent.kind == Kind::Data;
            if !piece.data {
                return Ok((len, Vec::new()));
            }
            // Read extent by extent, so that one bad grain does not hide the next.
            let mut errors = Vec::new();
            let mut pos = piece.range.start;
            while pos < piece.range.end {
                let extent = layer.extent_at(pos)?;
                let end = extent.range.end.min(piece.range.end);
                if whole(&extent) {
                    let mut buf = vec![0; crate::units::buffer_len(end - pos)?];
                    match layer.read_at(pos, &mut buf) {
                        Err(error) if is_finding(&error) => errors.push(error),
                        other => other?,
                    }
                }
                pos = end;
            }
            Ok((len, errors))
        },
        |(len, errors)| {
            for error in errors {
                findings.add(Finding::of(&error, "unreadable", file));
            }
            job.advance(len)
        },
    )
}

/// True for errors that say something about the image; false for those that end a check.
pub fn is_finding(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::Limit | ErrorKind::Reference | ErrorKind::Unsupported
    )
}
