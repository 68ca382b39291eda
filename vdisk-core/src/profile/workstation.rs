//! VMware Workstation, Player and Fusion: the hosted kinds of VMDK.

use super::{Broken, Objections, Profile, Rule, Shape, Sizes, size_text, vmdk_tests};
use crate::check::Severity;

/// Most bytes of a virtual disk.
const MOST: u64 = 8 << 40;
const ADAPTERS: &[&str] = &["lsilogic", "buslogic", "ide", "lsisas1068", "pvscsi"];
const SIZES: Sizes = Sizes::up_to(MOST, "workstation-size");

/// What it takes, whether vdisk writes it or not.
const FORMATS: &[&str] = &["vmdk", "ova"];

pub(super) static WORKSTATION: Profile = Profile {
    name: "workstation",
    title: "VMware Workstation, Fusion",
    shapes: &[
        Shape::new("vmdk", "monolithicSparse", SIZES).hardware(ADAPTERS, 8),
        Shape::new("vmdk", "twoGbMaxExtentSparse", SIZES).hardware(ADAPTERS, 8),
        Shape::new("vmdk", "monolithicFlat", SIZES).hardware(ADAPTERS, 8),
        Shape::new("vmdk", "twoGbMaxExtentFlat", SIZES).hardware(ADAPTERS, 8),
    ],
    takes: FORMATS,
    format_rule: "workstation-vmdk",
    variant_rule: Some(("vmdk", "workstation-type")),
    objections: Objections {
        adapter: Some("workstation-adapter"),
        ..Objections::NONE
    },
    rules: RULES,
};

const CONVERT: &str = "vdisk convert IMAGE --profile workstation -o NEW.vmdk";

static RULES: &[Rule] = &[
    Rule {
        id: "workstation-vmdk",
        severity: Severity::Error,
        demand: "The image is a VMDK, or in an OVA",
        reason: "Workstation attaches no other format, and imports OVA (VMware, Workstation Pro documentation)",
        fix: CONVERT,
        test: |s| s.is_one_of(FORMATS),
    },
    Rule {
        id: "workstation-type",
        severity: Severity::Warning,
        demand: "The VMDK is of a hosted kind: monolithic or twoGbMaxExtent, sparse or flat",
        reason: "a streamOptimized disk cannot be written to, and vmfs disks are for ESXi (VMware, \"Virtual Disk Format 5.0\")",
        fix: CONVERT,
        test: |s| {
            if s.format() == "ova" {
                return Ok(None); // which is unpacked when it is imported
            }
            let taken = [
                "monolithicsparse",
                "monolithicflat",
                "twogbmaxextentsparse",
                "twogbmaxextentflat",
                "custom",
            ];
            vmdk_tests::create_type(s, &taken)
        },
    },
    Rule {
        id: "workstation-size",
        severity: Severity::Error,
        demand: "The virtual size is 8 TiB at most",
        reason: "that is the largest disk (VMware, Workstation Pro documentation)",
        fix: "split what the disk holds",
        test: |s| match s.size() {
            size if size <= MOST => Ok(None),
            size => Broken::new("virtual size", format!("is {}", size_text(size))).found(),
        },
    },
    Rule {
        id: "workstation-keys",
        severity: Severity::Error,
        demand: "The descriptor has version, CID, parentCID and createType",
        reason: "without one of them the file is \"not a valid virtual disk\" (VMware, \"Virtual Disk Format 5.0\")",
        fix: CONVERT,
        test: |s| {
            let Some(vmdk) = &s.vmdk else {
                return Ok(None);
            };
            let keys = [
                ("version", "version"),
                ("cid", "CID"),
                ("parentcid", "parentCID"),
                ("createtype", "createType"),
            ];
            match keys.into_iter().find(|(key, _)| vmdk.value(key).is_none()) {
                Some((_, name)) => Broken::new("descriptor", format!("has no {name}"))
                    .at(vmdk.at)
                    .found(),
                None => Ok(None),
            }
        },
    },
    Rule {
        id: "workstation-adapter",
        severity: Severity::Warning,
        demand: "The descriptor names a known adapter type",
        reason: "the type decides which controller the disk gets when it is attached (VMware, \"Virtual Disk Format 5.0\")",
        fix: "vdisk convert IMAGE --profile workstation --adapter lsilogic -o NEW.vmdk",
        test: vmdk_tests::adapter,
    },
    Rule {
        id: "workstation-clean",
        severity: Severity::Warning,
        demand: "The image was closed cleanly",
        reason: "\"needs repair\" when the disk is opened (hashicorp/packer issue 111)",
        fix: "vdisk check IMAGE --repair",
        test: vmdk_tests::clean,
    },
    Rule {
        id: "workstation-appended",
        severity: Severity::Warning,
        demand: "Nothing follows the descriptor in its area",
        reason: "a second descriptor, as some tools append it, breaks Player (OSInside/kiwi issue 591)",
        fix: CONVERT,
        test: |s| match s.vmdk.as_ref().and_then(|v| v.after_text) {
            Some(at) => Broken::new("descriptor", "is followed by something else than zeros")
                .at(at)
                .found(),
            None => Ok(None),
        },
    },
];
