//! VMware ESXi and vCenter: streams to upload, and flat disks to run.

use super::{Broken, Objections, Profile, Rule, Shape, Sizes, size_text, vmdk_tests};
use crate::check::Severity;

/// Most bytes of a virtual disk.
const MOST: u64 = 62 << 40;
/// What the OVF descriptor names.
const OVA_ADAPTERS: &[&str] = &["lsilogic"];
const ADAPTERS: &[&str] = &["lsilogic", "buslogic", "ide", "lsisas1068", "pvscsi"];
const SIZES: Sizes = Sizes::up_to(MOST, "esxi-size");

/// What it takes, whether vdisk writes it or not.
const FORMATS: &[&str] = &["vmdk", "ova"];

pub(super) static ESXI: Profile = Profile {
    name: "esxi",
    title: "VMware ESXi, vCenter",
    shapes: &[
        Shape::new("vmdk", "streamOptimized", SIZES).hardware(ADAPTERS, 10),
        Shape::new("vmdk", "vmfs", SIZES).hardware(ADAPTERS, 10),
        Shape::new("ova", "ova", SIZES).hardware(OVA_ADAPTERS, 10),
    ],
    takes: FORMATS,
    format_rule: "esxi-vmdk",
    variant_rule: Some(("vmdk", "esxi-type")),
    objections: Objections {
        parent: Some("esxi-parent"),
        adapter: Some("esxi-adapter"),
        ..Objections::NONE
    },
    rules: RULES,
};

const CONVERT: &str = "vdisk convert IMAGE --profile esxi -o NEW.vmdk";

static RULES: &[Rule] = &[
    Rule {
        id: "esxi-vmdk",
        severity: Severity::Error,
        demand: "The image is a VMDK, or in an OVA",
        reason: "ESXi attaches and imports no other format (VMware, \"Virtual Disk Format 5.0\")",
        fix: CONVERT,
        test: |s| s.is_one_of(FORMATS),
    },
    Rule {
        id: "esxi-type",
        severity: Severity::Error,
        demand: "The VMDK is streamOptimized, to upload, or vmfs, to copy to a datastore",
        reason: "disks of Workstation end in \"Unsupported or invalid disk type 2\" or \"7\" (itiligent/Easy-OpenWRT-Builder issue 3), unless vmkfstools -i converts them on the host",
        fix: CONVERT,
        test: vmdk_tests::esxi_type,
    },
    Rule {
        id: "esxi-vmfs-extents",
        severity: Severity::Error,
        demand: "The extents of a vmfs disk are called VMFS",
        reason: "FLAT is the word of hosted products (VMware, \"Virtual Disk Format 5.0\")",
        fix: "vdisk convert IMAGE --profile esxi --subformat vmfs -o NEW.vmdk",
        test: vmdk_tests::vmfs_extents,
    },
    Rule {
        id: "esxi-size",
        severity: Severity::Error,
        demand: "The virtual size is 62 TiB at most",
        reason: "that is the largest disk (VMware, \"Configuration Maximums\")",
        fix: "split what the disk holds",
        test: |s| match s.size() {
            size if size <= MOST => Ok(None),
            size => Broken::new("virtual size", format!("is {}", size_text(size))).found(),
        },
    },
    Rule {
        id: "esxi-parent",
        severity: Severity::Error,
        demand: "The disk needs no parent",
        reason: "an upload is one disk, and a lone delta opens nothing (VMware, \"Virtual Disk Format 5.0\")",
        fix: "vdisk convert IMAGE --profile esxi -o NEW.vmdk, which merges it with its parents",
        test: vmdk_tests::stands_alone,
    },
    Rule {
        id: "esxi-adapter",
        severity: Severity::Warning,
        demand: "The descriptor names a known adapter type",
        reason: "the type decides which controller the disk gets when it is attached (VMware, \"Virtual Disk Format 5.0\")",
        fix: "vdisk convert IMAGE --profile esxi --adapter lsilogic -o NEW.vmdk",
        test: vmdk_tests::adapter,
    },
    Rule {
        id: "esxi-change-tracking",
        severity: Severity::Warning,
        demand: "The descriptor names no change tracking file",
        reason: "the named -ctk file does not come along, and without it the disk does not open (VMware, VDDK guide)",
        fix: CONVERT,
        test: |s| match &s.vmdk {
            Some(vmdk) if vmdk.value("changetrackpath").is_some() => {
                Broken::new("descriptor", "has a changeTrackPath")
                    .at(vmdk.at)
                    .found()
            }
            _ => Ok(None),
        },
    },
    Rule {
        id: "esxi-clean",
        severity: Severity::Warning,
        demand: "The image was closed cleanly",
        reason: "the host wants the disk repaired first (hashicorp/packer issue 111)",
        fix: "vdisk check IMAGE --repair",
        test: vmdk_tests::clean,
    },
    Rule {
        id: "esxi-stream-version",
        severity: Severity::Error,
        demand: "The header of a stream has version 3",
        reason: "\"Not a supported disk format (sparse VMDK version too old)\" (glennmatthews/cot issue 65)",
        fix: CONVERT,
        test: |s| vmdk_tests::stream_header(s, "has not version 3", |h| h.version == 3),
    },
    Rule {
        id: "esxi-stream-redundant",
        severity: Severity::Error,
        demand: "The header of a stream promises no redundant grain directory",
        reason: "a stream has none, and uploads that claim one fail with HTTP 400 (flatcar/scripts pull request 540)",
        fix: CONVERT,
        test: |s| {
            let detail = "promises a redundant grain directory";
            vmdk_tests::stream_header(s, detail, |h| !h.redundant)
        },
    },
    Rule {
        id: "esxi-stream-footer",
        severity: Severity::Warning,
        demand: "A stream ends with a footer",
        reason: "a reader that cannot seek learns there where the grain directory is; vSphere takes streams of open-vmdk without one, other importers may not (VMware, \"Virtual Disk Format 5.0\")",
        fix: CONVERT,
        test: |s| {
            vmdk_tests::stream(s, |stream| {
                let missing = (!stream.footer).then(|| Broken::new("footer", "is missing"));
                missing.map(|b| b.at(stream.end))
            })
        },
    },
    Rule {
        id: "esxi-stream-markers",
        severity: Severity::Error,
        demand: "All parts of a stream have their markers, and it ends with one",
        reason: "without them a reader that cannot seek does not know what it reads, or when it is done (VMware, \"Virtual Disk Format 5.0\"; flatcar/scripts pull request 540)",
        fix: CONVERT,
        test: vmdk_tests::markers,
    },
    Rule {
        id: "esxi-stream-order",
        severity: Severity::Error,
        demand: "The grains of a stream ascend",
        reason: "the host writes the disk as the stream arrives (vmware/open-vmdk commit 03e266b)",
        fix: CONVERT,
        test: |s| {
            vmdk_tests::stream(s, |stream| {
                let detail = "lies before an earlier one on the disk";
                stream
                    .out_of_order
                    .map(|at| Broken::new("grain", detail).at(at))
            })
        },
    },
    Rule {
        id: "esxi-stream-zlib",
        severity: Severity::Error,
        demand: "The grains of a stream are zlib data",
        reason: "the specification says raw deflate (RFC 1951), but VMware writes and reads zlib (RFC 1950)",
        fix: CONVERT,
        test: |s| {
            vmdk_tests::stream(s, |stream| {
                let detail = "does not begin as zlib data do";
                stream
                    .not_zlib
                    .map(|at| Broken::new("grain", detail).at(at))
            })
        },
    },
];
