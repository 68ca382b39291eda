//! `vdisk lint`: whether a hypervisor or cloud will take an image, before it is uploaded.

use crate::{
    args::{InputArgs, shown},
    exit::Exit,
    profile::{now, parser},
    sarif::Sarif,
    ui::{Report, Ui},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};
use vdisk_core::{
    Error, ErrorKind, OpenOptions, Result,
    check::{Finding, Severity},
    open_layer, printable,
    profile::{PROFILES, Profile, Rule},
};

/// Say whether a hypervisor or cloud will take an image, and why not
///
/// Looks at what the profile's rules ask for, not at whether the image is intact: that is what
/// check does. Each broken rule is named once, with its reason and what can be done. Errors mean
/// that the image will be refused or misread; warnings, that it may be, or that it will be of less
/// use; notes need nothing. Errors and warnings make the exit code 1.
///
/// JSON: schema, path, profile, format, subformat, rules (how many were looked at), findings
/// (severity, rule, file, part, detail, at, demand, reason, fix), verdict. With --list: schema,
/// rules (profile, rule, severity, demand, reason, fix).
#[derive(clap::Args)]
#[command(
    override_usage = "vdisk lint [OPTIONS] --profile <NAME> <IMAGE>\n       vdisk lint --list [--profile <NAME>]"
)]
pub(crate) struct Args {
    /// The image
    #[arg(required_unless_present = "list")]
    image: Option<PathBuf>,
    /// Whose rules
    #[arg(long, value_name = "NAME", value_parser = parser())]
    profile: Option<&'static Profile>,
    /// Report as SARIF 2.1.0, for tools that show findings
    #[arg(long)]
    sarif: bool,
    /// Show the rules and their reasons instead, of all profiles or the one named
    #[arg(long, conflicts_with_all = ["image", "sarif"])]
    list: bool,
    #[command(flatten)]
    input: InputArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    let Some(image) = &args.image else {
        ui.print(&ListReport::of(args.profile))?;
        return Ok(Exit::Done);
    };
    let Some(profile) = args.profile else {
        let names: Vec<&str> = PROFILES.iter().map(|p| p.name).collect();
        let detail = format!("say whose rules: {}", names.join(", "));
        return Err(Error::new(ErrorKind::Usage, "--profile", detail));
    };
    let resolver = args.input.resolver();
    let options = OpenOptions {
        verify: false, // lint reads no contents
        ..args.input.options(&resolver)
    };
    let layer = open_layer(image, &options)?;
    let findings = profile.lint(&layer, now(), &ui.job())?;
    if args.sarif {
        ui.print(&Sarif::new(profile.rules, findings.list()))?;
    } else {
        ui.print(&LintReport {
            schema: 1,
            path: shown(image),
            profile: profile.name,
            format: layer.format().name(),
            subformat: layer.facts().subformat.clone(),
            rules: profile.rules.len(),
            findings: findings.list().iter().map(Found::of).collect(),
            verdict: verdict(profile, findings.list()),
        })?;
    }
    Ok(match findings.worst() {
        None | Some(Severity::Note) => Exit::Done,
        _ => Exit::Differs,
    })
}

fn verdict(profile: &Profile, findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let title = profile.title;
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => format!("keeps the rules of {title}"),
        (0, warnings) => format!("breaks rules of {title}: 0 errors, {warnings} warnings"),
        (errors, warnings) => {
            format!("will not be taken by {title}: {errors} errors, {warnings} warnings")
        }
    }
}

#[derive(Serialize)]
struct LintReport {
    schema: u32,
    path: String,
    profile: &'static str,
    format: &'static str,
    subformat: String,
    rules: usize,
    findings: Vec<Found>,
    verdict: String,
}

#[derive(Serialize)]
struct Found {
    severity: String,
    rule: &'static str,
    file: String,
    part: String,
    detail: String,
    at: Option<u64>,
    demand: &'static str,
    reason: &'static str,
    fix: &'static str,
    #[serde(skip)]
    sentence: String,
}

impl Found {
    fn of(finding: &Finding) -> Self {
        let rule = vdisk_core::profile::rule(finding.rule);
        let say = |what: fn(&Rule) -> &'static str| rule.map(what).unwrap_or_default();
        Self {
            severity: finding.severity.to_string(),
            rule: finding.rule,
            file: shown(&finding.file),
            part: finding.part.to_string(),
            detail: finding.detail.clone(),
            at: finding.at,
            demand: say(|r| r.demand),
            reason: say(|r| r.reason),
            fix: say(|r| r.fix),
            sentence: finding.to_string(),
        }
    }
}

impl Report for LintReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for finding in &self.findings {
            writeln!(out, "{}: {}", finding.severity, finding.sentence)?;
            writeln!(out, "  demand: {}", finding.demand)?;
            writeln!(out, "  reason: {}", finding.reason)?;
            writeln!(out, "  fix:    {}", finding.fix)?;
        }
        writeln!(out, "{}: {}", printable(&self.path), self.verdict)
    }
}

impl Report for Sarif {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}

#[derive(Serialize)]
struct ListReport {
    schema: u32,
    rules: Vec<Listed>,
    #[serde(skip)]
    profiles: Vec<&'static Profile>,
}

#[derive(Serialize)]
struct Listed {
    profile: &'static str,
    rule: &'static str,
    severity: String,
    demand: &'static str,
    reason: &'static str,
    fix: &'static str,
}

impl ListReport {
    fn of(profile: Option<&'static Profile>) -> Self {
        let profiles = profile.map_or(PROFILES.to_vec(), |p| vec![p]);
        let rules = profiles
            .iter()
            .flat_map(|p| p.rules.iter().map(|r| (*p, r)));
        Self {
            schema: 1,
            rules: rules
                .map(|(profile, rule)| Listed {
                    profile: profile.name,
                    rule: rule.id,
                    severity: rule.severity.to_string(),
                    demand: rule.demand,
                    reason: rule.reason,
                    fix: rule.fix,
                })
                .collect(),
            profiles,
        }
    }
}

impl Report for ListReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for profile in &self.profiles {
            writeln!(out, "{}: {}", profile.name, profile.title)?;
            for rule in profile.rules {
                writeln!(out, "  {} ({}): {}", rule.id, rule.severity, rule.demand)?;
                writeln!(out, "    reason: {}", rule.reason)?;
            }
        }
        Ok(())
    }
}
