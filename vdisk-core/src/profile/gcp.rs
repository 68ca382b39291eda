//! Google Compute Engine: raw disks to make images of, and files to import.

use super::{Broken, Objections, Profile, Rule, Shape, Sizes, size_text, vhd_tests, vmdk_tests};
use crate::check::Severity;

const GIB: u64 = 1 << 30;
/// What the name of a raw disk must be inside the archive.
const RAW_NAME: &str = "disk.raw";

/// What it takes, whether vdisk writes it or not.
const FORMATS: &[&str] = &["raw", "vmdk", "vhd"];

pub(super) static GCP: Profile = Profile {
    name: "gcp",
    title: "Google Compute Engine",
    shapes: &[
        Shape::new(
            "raw",
            "sparse",
            Sizes {
                unit: GIB,
                least: GIB,
                unit_rule: Some("gcp-raw-size"),
                range_rule: Some("gcp-raw-size"),
                ..Sizes::ANY
            },
        ),
        Shape::new("vmdk", "streamOptimized", Sizes::ANY).hardware(&["lsilogic"], 10),
        Shape::new("vmdk", "monolithicSparse", Sizes::ANY).hardware(&["lsilogic"], 10),
        Shape::new("vhd", "dynamic", Sizes::ANY),
        Shape::new("vhd", "fixed", Sizes::ANY),
    ],
    takes: FORMATS,
    format_rule: "gcp-format",
    variant_rule: Some(("vmdk", "gcp-one-file")),
    objections: Objections {
        parent: Some("gcp-parent"),
        ..Objections::NONE
    },
    rules: RULES,
};

static RULES: &[Rule] = &[
    Rule {
        id: "gcp-format",
        severity: Severity::Warning,
        demand: "The image is raw, a VMDK or a VHD",
        reason: "these are documented: raw to make an image of, VMDK and VHD to import (Google, \"Import a boot disk manually\"; gcloud compute migration image-imports create)",
        fix: "vdisk convert IMAGE --profile gcp -o disk.raw",
        test: |s| s.is_one_of(FORMATS),
    },
    Rule {
        id: "gcp-raw-size",
        severity: Severity::Error,
        demand: "A raw disk is a whole number of GiB",
        reason: "images are made of whole GiB only (Google, \"Import a boot disk manually\")",
        fix: "vdisk convert IMAGE --profile gcp -o disk.raw",
        test: |s| match s.file.size {
            size if s.format() == "raw" && (size == 0 || !size.is_multiple_of(GIB)) => {
                Broken::new("file size", format!("is {}", size_text(size))).found()
            }
            _ => Ok(None),
        },
    },
    Rule {
        id: "gcp-raw-name",
        severity: Severity::Note,
        demand: "A raw disk is called disk.raw",
        reason: "the archive to upload, made by tar --format=oldgnu -Sczf, must hold a file of that name (Google, \"Import a boot disk manually\")",
        fix: "rename it before it is archived",
        test: |s| {
            let named = s.file.path().file_name().is_some_and(|n| n == RAW_NAME);
            match s.format() == "raw" && !named {
                true => Broken::new("file name", format!("is not {RAW_NAME}")).found(),
                false => Ok(None),
            }
        },
    },
    Rule {
        id: "gcp-one-file",
        severity: Severity::Error,
        demand: "The image is one file",
        reason: "an import reads one object of a bucket (gcloud compute migration image-imports create --source-file)",
        fix: "vdisk convert IMAGE --profile gcp --subformat streamOptimized -o NEW.vmdk",
        test: vmdk_tests::one_file,
    },
    Rule {
        id: "gcp-parent",
        severity: Severity::Error,
        demand: "The image needs no parent",
        reason: "an import reads one object of a bucket (gcloud compute migration image-imports create --source-file)",
        fix: "vdisk convert IMAGE --profile gcp -o disk.raw, which merges it with its parents",
        test: vmdk_tests::stands_alone,
    },
    Rule {
        id: "gcp-vhd-footer",
        severity: Severity::Error,
        demand: "The last 512 bytes of a VHD are a footer with a right checksum",
        reason: "readers find size and type there, or take the file for a raw disk (qemu, block/vpc.c)",
        fix: "vdisk check IMAGE --repair",
        test: vhd_tests::footer,
    },
];
