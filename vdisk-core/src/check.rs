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
use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range, path::PathBuf};

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
    severities: BTreeMap<Severity, u64>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        *self.severities.entry(finding.severity).or_default() += 1;
        let count = self.counts.entry(finding.rule).or_default();
        *count += 1;
        if *count <= limits::FINDINGS {
            self.list.push(finding);
        }
    }

    /// Adds what `error`, met while reading `file`, says, unless a finding says it already.
    pub fn add_error(&mut self, error: &Error, rule: &'static str, file: &ImageFile) {
        let finding = Finding::of(error, rule, file);
        let same = |f: &Finding| {
            (&f.file, &f.part, &f.detail) == (&finding.file, &finding.part, &finding.detail)
        };
        if !self.list.iter().any(same) {
            self.add(finding);
        }
    }

    /// What was kept, in the order in which it was found.
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How often each rule was broken, also beyond what was kept.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// How many findings are this severe, also beyond what was kept.
    pub fn count(&self, severity: Severity) -> u64 {
        self.severities.get(&severity).copied().unwrap_or(0)
    }

    /// The worst severity, if anything was found.
    pub fn worst(&self) -> Option<Severity> {
        self.severities.last_key_value().map(|(worst, _)| *worst)
    }

    /// Adds all that `other` holds.
    pub fn append(&mut self, other: Self) {
        let mut severities = self.severities.clone();
        for (severity, count) in other.severities {
            *severities.entry(severity).or_default() += count;
        }
        let mut only_counted = other.counts;
        for finding in other.list {
            // Counted when it is added.
            only_counted.entry(finding.rule).and_modify(|c| *c -= 1);
            self.add(finding);
        }
        for (rule, count) in only_counted {
            *self.counts.entry(rule).or_default() += count;
        }
        self.severities = severities;
    }

    /// The same findings, about something that cannot be changed where it lies.
    #[must_use]
    pub fn without_repairs(mut self) -> Self {
        for finding in &mut self.list {
            finding.repair = None;
        }
        self
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
    let Some(file) = layer.files().first() else {
        return Ok(());
    };
    let job = checkup.job;
    let mut steps = Steps {
        layer,
        pos: 0,
        broken: 0,
    };
    let mut found = |(len, errors): (u64, Vec<Error>)| {
        for error in errors {
            findings.add(Finding::of(&error, "unreadable", file));
        }
        job.advance(len)
    };
    if checkup.deep {
        job.watch.phase("reading", layer.size());
        job.in_order(steps.by_ref(), |step| step.read(layer), &mut found)?;
    } else {
        for step in steps.by_ref() {
            found((0, step?.errors))?;
        }
    }
    if steps.gave_up() {
        let detail = format!(
            "were not looked at past disk position {:#x}: too much is wrong",
            steps.pos
        );
        findings.add(Finding::new(
            Severity::Note,
            "gave-up",
            file,
            "tables",
            detail,
        ));
    }
    Ok(())
}

/// Cuts a layer into steps, and goes on behind what cannot be read.
struct Steps<'a> {
    layer: &'a Layer,
    pos: u64,
    broken: u64,
}

/// Part of a layer that is looked at in one go.
struct Step {
    /// Bytes of the disk that were passed.
    len: u64,
    /// Where it keeps data, at most [`CHUNK`] bytes together.
    data: Vec<Range<u64>>,
    /// What could not be read of the tables.
    errors: Vec<Error>,
}

impl Steps<'_> {
    fn gave_up(&self) -> bool {
        self.broken >= limits::FINDINGS
    }
}

impl Iterator for Steps<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Self::Item> {
        /// Where to go on after an entry that cannot be read: few grains and blocks are smaller.
        const BEHIND: u64 = 64 << 10;
        /// Extents in a step, so that one in a million pieces does not grow without bound.
        const MOST: usize = 1024;
        let start = self.pos;
        let (mut data, mut errors, mut room): (Vec<Range<u64>>, _, _) =
            (Vec::new(), Vec::new(), CHUNK);
        for _ in 0..MOST {
            if self.pos >= self.layer.size() || self.gave_up() || room == 0 {
                break;
            }
            self.pos = match self.layer.extent_at(self.pos) {
                Ok(extent) if extent.kind == Kind::Data => {
                    let end = extent.range.end.min(self.pos.saturating_add(room));
                    room = room.saturating_sub(end - self.pos);
                    data.push(self.pos..end);
                    end
                }
                Ok(extent) => extent.range.end,
                Err(error) if !is_finding(&error) => return Some(Err(error)),
                Err(error) => {
                    errors.push(error);
                    self.broken += 1;
                    (self.pos / BEHIND).saturating_add(1).saturating_mul(BEHIND)
                }
            };
        }
        let len = self.pos.min(self.layer.size()).saturating_sub(start);
        (len > 0).then_some(Ok(Step { len, data, errors }))
    }
}

impl Step {
    /// Reads the data, extent by extent, so that one bad grain does not hide the next.
    fn read(self, layer: &Layer) -> Result<(u64, Vec<Error>)> {
        let mut errors = self.errors;
        for range in &self.data {
            match ops::read_range(layer, range) {
                Err(error) if is_finding(&error) => errors.push(error),
                other => drop(other?),
            }
        }
        Ok((self.len, errors))
    }
}

/// True for errors that say something about the image; false for those that end a check.
pub fn is_finding(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::Limit | ErrorKind::Reference | ErrorKind::Unsupported
    )
}
