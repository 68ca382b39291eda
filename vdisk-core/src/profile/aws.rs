//! Amazon EC2: what VM Import/Export takes.

use super::{Broken, Objections, Profile, Rule, Shape, Sizes, size_text, vhd_tests, vmdk_tests};
use crate::check::Severity;

/// Disks must be smaller than this.
const LIMIT: u64 = 16 << 40;
const SIZES: Sizes = Sizes::up_to(LIMIT - 512, "aws-size");

/// What it takes, whether vdisk writes it or not.
const FORMATS: &[&str] = &["vmdk", "vhd", "vhdx", "raw", "ova"];

pub(super) static AWS: Profile = Profile {
    name: "aws",
    title: "Amazon EC2 VM Import",
    shapes: &[
        Shape::new("vmdk", "streamOptimized", SIZES).hardware(&["lsilogic"], 10),
        Shape::new("vhd", "dynamic", SIZES),
        Shape::new("vhd", "fixed", SIZES),
        Shape::new("raw", "sparse", SIZES),
        Shape::new("ova", "ova", SIZES).hardware(&["lsilogic"], 10),
    ],
    takes: FORMATS,
    format_rule: "aws-format",
    variant_rule: Some(("vmdk", "aws-vmdk-type")),
    objections: Objections {
        parent: Some("aws-parent"),
        ..Objections::NONE
    },
    rules: RULES,
};

const CONVERT: &str = "vdisk convert IMAGE --profile aws -o NEW.vmdk";

static RULES: &[Rule] = &[
    Rule {
        id: "aws-format",
        severity: Severity::Error,
        demand: "The image is a VMDK, a VHD, a VHDX, raw or in an OVA",
        reason: "VM Import takes these formats (Amazon, VM Import/Export User Guide, \"Image formats\")",
        fix: CONVERT,
        test: |s| s.is_one_of(FORMATS),
    },
    Rule {
        id: "aws-vmdk-type",
        severity: Severity::Error,
        demand: "A VMDK is streamOptimized",
        reason: "VM Import takes only \"stream-optimized ESX\" disks of this format (Amazon, VM Import/Export User Guide, \"Image formats\")",
        fix: CONVERT,
        test: |s| vmdk_tests::create_type(s, &["streamoptimized"]),
    },
    Rule {
        id: "aws-parent",
        severity: Severity::Error,
        demand: "The image needs no parent",
        reason: "VM Import takes fixed and dynamic disks, no differencing ones (Amazon, VM Import/Export User Guide, \"Image formats\")",
        fix: "vdisk convert IMAGE --profile aws -o NEW.vmdk, which merges it with its parents",
        test: vmdk_tests::stands_alone,
    },
    Rule {
        id: "aws-size",
        severity: Severity::Error,
        demand: "The virtual size is less than 16 TiB",
        reason: "EBS volumes are no larger (Amazon, VM Import/Export User Guide, \"Limitations\")",
        fix: "split what the disk holds",
        test: |s| match s.size() {
            size if size < LIMIT => Ok(None),
            size => Broken::new("virtual size", format!("is {}", size_text(size))).found(),
        },
    },
    Rule {
        id: "aws-vhd-footer",
        severity: Severity::Error,
        demand: "The last 512 bytes of a VHD are a footer with a right checksum",
        reason: "without it the disk is refused as damaged, late and without a reason (hashicorp/packer issue 9582)",
        fix: "vdisk check IMAGE --repair",
        test: vhd_tests::footer,
    },
    Rule {
        id: "aws-partition-table",
        severity: Severity::Note,
        demand: "The disk has a partition table",
        reason: "import-image ends with \"No valid partitions\" without one (coreos/bugs issue 2107); import-snapshot takes the disk",
        fix: "import it as a snapshot, or look whether the image is the right one",
        test: |s| {
            // MBR and GPT both end the first sector with this signature.
            let mut sector = [0; 512];
            if s.layer.facts().parent.is_some() || s.size() < 512 {
                return Ok(None);
            }
            crate::Disk::read_at(s.layer, 0, &mut sector)?;
            match sector.ends_with(&[0x55, 0xaa]) {
                true => Ok(None),
                false => Broken::new("first sector", "has no partition table").found(),
            }
        },
    },
];
