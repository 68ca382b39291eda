//! Microsoft Azure: fixed VHDs of whole MiB, and nothing else.

use super::{Broken, Objections, Profile, Rule, Shape, Sizes, size_text, vhd_tests};
use crate::check::Severity;

const MIB: u64 = 1 << 20;
/// The smallest and the largest disk that can be uploaded.
const LEAST: u64 = 20 * MIB;
const MOST: u64 = 32767 << 30;
/// The largest disk that a machine can start from.
const OS_MOST: u64 = 4095 << 30;

/// What it takes, whether vdisk writes it or not.
const FORMATS: &[&str] = &["vhd"];

pub(super) static AZURE: Profile = Profile {
    name: "azure",
    title: "Microsoft Azure",
    shapes: &[Shape::new(
        "vhd",
        "fixed",
        Sizes {
            unit: MIB,
            least: LEAST,
            most: MOST,
            unit_rule: Some("azure-size-aligned"),
            range_rule: Some("azure-size-range"),
        },
    )],
    takes: FORMATS,
    format_rule: "azure-vhd",
    variant_rule: Some(("vhd", "azure-fixed")),
    objections: Objections {
        parent: Some("azure-fixed"),
        ..Objections::NONE
    },
    rules: RULES,
};

const CONVERT: &str = "vdisk convert IMAGE --profile azure -o NEW.vhd";

static RULES: &[Rule] = &[
    Rule {
        id: "azure-vhd",
        severity: Severity::Error,
        demand: "The image is a VHD",
        reason: "Azure stores disks as VHD page blobs and takes no VHDX and no other format (Microsoft, \"About VHDs in Azure\")",
        fix: CONVERT,
        test: |s| s.is_one_of(FORMATS),
    },
    Rule {
        id: "azure-fixed",
        severity: Severity::Error,
        demand: "The VHD is fixed",
        reason: "only in a fixed VHD does byte X of the blob hold byte X of the disk, which is how Azure reads it (Microsoft, \"About VHDs in Azure\")",
        fix: CONVERT,
        test: |s| vhd_tests::is_fixed(s, true),
    },
    Rule {
        id: "azure-size-aligned",
        severity: Severity::Error,
        demand: "The virtual size is a whole number of MiB",
        reason: "the upload must be N MiB and 512 bytes, or no disk is made of it (Microsoft, Add-AzVhd)",
        fix: CONVERT,
        test: |s| match s.size() {
            size if size.is_multiple_of(MIB) => Ok(None),
            size => {
                let detail = format!("is {size} bytes, {} more than whole MiB", size % MIB);
                Broken::new("virtual size", detail).found()
            }
        },
    },
    Rule {
        id: "azure-size-range",
        severity: Severity::Error,
        demand: "The virtual size is 20 MiB to 32767 GiB",
        reason: "uploads have 20972032 to 35183298347520 bytes, the 512 of the footer included (Microsoft, DiskCreationData.UploadSizeBytes, which calls the latter 32 TiB)",
        fix: "make the disk larger (vdisk convert --profile azure does), or split what it holds",
        test: |s| match s.size() {
            LEAST..=MOST => Ok(None),
            size => Broken::new("virtual size", format!("is {}", size_text(size))).found(),
        },
    },
    Rule {
        id: "azure-os-disk",
        severity: Severity::Note,
        demand: "A disk to start a machine from is 4095 GiB at most",
        reason: "larger ones can be data disks only (Microsoft, \"Managed disks overview\")",
        fix: "none is needed for a data disk",
        test: |s| match s.size() {
            size if size <= OS_MOST => Ok(None),
            size => Broken::new("virtual size", format!("is {}", size_text(size))).found(),
        },
    },
    Rule {
        id: "azure-footer",
        severity: Severity::Error,
        demand: "The last 512 bytes are a footer with a right checksum",
        reason: "Azure reads size and type there, and refuses a disk without (\"expected to have cookie value 'conectix'\")",
        fix: CONVERT,
        test: vhd_tests::footer,
    },
    Rule {
        id: "azure-file-size",
        severity: Severity::Error,
        demand: "The file is the virtual size and 512 bytes",
        reason: "Azure compares the size of the blob with the footer's, and refuses what some upload tools append (Azure/azure-xplat-cli issue 1600)",
        fix: CONVERT,
        test: vhd_tests::fixed_file_size,
    },
];
