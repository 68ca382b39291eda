//! What is written for a profile passes its rules, and each rule is broken by an image that is
//! wrong in that one thing only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod image;
mod rows;

use image::{Image, refused, rules};
use rows::ROWS;
use std::collections::BTreeSet;
use vdisk_core::{
    ErrorKind,
    check::Severity,
    format::Options,
    profile::{self, Needs, PROFILES, Profile, Shape},
};

/// All ways of writing of all profiles.
fn written() -> impl Iterator<Item = (&'static Profile, &'static Shape)> {
    PROFILES
        .iter()
        .flat_map(|p| p.shapes.iter().map(|s| (*p, s)))
}

#[test]
fn what_is_written_for_a_profile_passes_it() {
    for (profile, shape) in written() {
        let what = format!("{} {} {}", profile.name, shape.format, shape.subformat);
        let size = shape.sizes.fit(1 << 20).unwrap();
        let image = Image::written(profile, shape, size);
        let findings = image.lint(profile);
        assert!(findings.is_empty(), "{what}: {findings:?}");
    }
}

#[test]
fn each_rule_is_broken_by_one_thing() {
    for row in ROWS {
        let profile = PROFILES
            .iter()
            .find(|p| p.rules.iter().any(|r| r.id == row.rule))
            .unwrap_or_else(|| panic!("there is no rule {}", row.rule));
        let (format, subformat) = row.start;
        // What the profile takes only with a warning, another one writes.
        let writers = [profile.name, "hyperv"];
        let (writer, shape) = writers
            .iter()
            .find_map(|name| {
                let writer = profile::named(name).unwrap();
                let shape = writer.shape(Some(format), Some(subformat), Needs::default());
                Some((writer, shape.ok()?))
            })
            .unwrap();
        let mut image = Image::written(writer, shape, shape.sizes.fit(1 << 20).unwrap());
        let mut expected = rules(&image.lint(profile));
        assert!(
            writer.name != profile.name || expected.is_empty(),
            "{expected:?}"
        );
        (row.change)(&mut image);
        let findings = image.lint(profile);
        expected.push(row.rule);
        expected.sort_unstable();
        let mut found = rules(&findings);
        found.sort_unstable();
        assert_eq!(found, expected);
        let rule = profile::rule(row.rule).unwrap();
        let findings: Vec<_> = findings
            .into_iter()
            .filter(|f| f.rule == row.rule)
            .collect();
        assert_eq!(refused(&findings), rule.severity != Severity::Note);
        if let Some(at) = findings[0].at {
            assert!(
                at < image.file.len(),
                "{}: {at:#x} is outside the file",
                row.rule
            );
        }
    }
}

#[test]
fn every_rule_has_a_row_and_is_well_formed() {
    let tested: BTreeSet<&str> = ROWS.iter().map(|r| r.rule).collect();
    let mut ids = BTreeSet::new();
    for rule in PROFILES.iter().flat_map(|p| p.rules) {
        assert!(tested.contains(rule.id), "no image breaks {}", rule.id);
        assert!(ids.insert(rule.id), "{} is there twice", rule.id);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(rule.id.chars().all(plain), "{}", rule.id);
        for text in [rule.demand, rule.reason, rule.fix] {
            assert!(
                !text.is_empty() && !text.ends_with('.'),
                "{}: {text}",
                rule.id
            );
        }
    }
}

#[test]
fn profiles_name_rules_and_subformats_that_exist() {
    for profile in PROFILES {
        let own = |id: &str| profile.rules.iter().any(|r| r.id == id);
        assert!(own(profile.format_rule), "{}", profile.name);
        let variant = profile.variant_rule.map(|(_, rule)| rule);
        let against = profile.objections;
        let more = [
            variant,
            against.parent,
            against.adapter,
            against.block_size,
            against.ending.map(|(rule, _)| rule),
        ];
        assert!(more.into_iter().flatten().all(own), "{}", profile.name);
        for shape in profile.shapes {
            assert!(profile.takes.contains(&shape.format), "{}", profile.name);
        }
        assert!(!profile.shapes.is_empty());
        for shape in profile.shapes {
            let rules = [shape.sizes.unit_rule, shape.sizes.range_rule];
            assert!(rules.into_iter().flatten().all(own), "{}", profile.name);
        }
    }
}

#[test]
fn wishes_against_a_profile_name_the_rule() {
    for (name, format, subformat, rule) in [
        ("azure", Some("raw"), None, "[azure-vhd]"),
        ("azure", Some("vhd"), Some("dynamic"), "[azure-fixed]"),
        ("esxi", None, Some("monolithicSparse"), "[esxi-type]"),
        ("esxi", Some("vhd"), None, "[esxi-vmdk]"),
        ("xen", None, Some("fixed"), "[xen-dynamic]"),
        ("aws", None, Some("monolithicSparse"), "[aws-vmdk-type]"),
        ("hyperv", Some("vmdk"), None, "[hyperv-format]"),
    ] {
        let profile = profile::named(name).unwrap();
        let error = profile
            .shape(format, subformat, Needs::default())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(rule), "{error}");
    }
    let xen = profile::named("xen").unwrap();
    let shape = xen.shape(None, None, Needs::default()).unwrap();
    let wanted = Options {
        block_size: Some(512 << 10),
        ..Options::default()
    };
    let error = shape.options(xen, wanted).unwrap_err();
    assert!(error.to_string().contains("2 MiB, not 512 KiB"), "{error}");
    let esxi = profile::named("esxi").unwrap();
    let shape = esxi.shape(None, None, Needs::default()).unwrap();
    let wanted = Options {
        adapter: Some("floppy".to_owned()),
        ..Options::default()
    };
    let error = shape.options(esxi, wanted).unwrap_err();
    assert!(error.to_string().contains("lsilogic"), "{error}");
}

#[test]
fn sizes_grow_to_what_is_taken_and_never_shrink() {
    let sizes = |name: &str, format| {
        let profile = profile::named(name).unwrap();
        profile
            .shape(Some(format), None, Needs::default())
            .unwrap()
            .sizes
    };
    let azure = sizes("azure", "vhd");
    for (disk, image) in [
        (512, 20 << 20),
        (20 << 20, 20 << 20),
        ((20 << 20) + 512, 21 << 20),
        // What the documentation gives for an upload, less the footer.
        (35_183_298_347_520 - 512, 35_183_298_347_520 - 512),
    ] {
        assert_eq!(azure.fit(disk).unwrap(), image);
    }
    assert_eq!(azure.why(512).unwrap().id, "azure-size-range");
    assert_eq!(
        azure.why((20 << 20) + 512).unwrap().id,
        "azure-size-aligned"
    );
    assert_eq!(azure.fit(35_183_298_347_520), None);
    assert_eq!(azure.fit(u64::MAX), None);
    let profile = profile::named("azure").unwrap();
    let shape = profile.shape(None, None, Needs::default()).unwrap();
    let error = shape.fit(profile, 32 << 40).unwrap_err();
    assert!(error.to_string().contains("[azure-size-range]"), "{error}");
    assert_eq!(sizes("gcp", "raw").fit(1).unwrap(), 1 << 30);
    assert_eq!(sizes("gcp", "raw").fit((1 << 30) + 512).unwrap(), 2 << 30);
    assert_eq!(sizes("virtualbox", "vhd").fit(1536).unwrap(), 1536);
    assert!(sizes("aws", "raw").fit(16 << 40).is_none());
}
