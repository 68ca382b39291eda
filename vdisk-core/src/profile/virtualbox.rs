//! VirtualBox: VMDK and VHD, with a strict reader for descriptors.

use super::{
    Broken, Objections, Profile, Result, Rule, Shape, Sizes, Verdict, descriptor_lines,
    subject::Subject, vhd_tests, vhdx_tests, vmdk_tests,
};
use crate::check::Severity;

/// What the OVF descriptor names.
const OVA_ADAPTERS: &[&str] = &["lsilogic"];
const ADAPTERS: &[&str] = &["lsilogic", "buslogic", "ide"];
/// Bytes that a descriptor must have room for: the four UUID lines that VirtualBox adds.
const ROOM: u64 = 4 * 72;
/// Bytes of a descriptor's area below which VirtualBox was seen to run over its end.
const AREA: u64 = 20 * 512;

/// What it takes, whether vdisk writes it or not.
const FORMATS: &[&str] = &["vmdk", "vhd", "vhdx", "vdi", "qcow2", "ova"];

pub(super) static VIRTUALBOX: Profile = Profile {
    name: "virtualbox",
    title: "Oracle VirtualBox",
    shapes: &[
        Shape::new("vmdk", "monolithicSparse", Sizes::ANY).hardware(ADAPTERS, 4),
        Shape::new("vmdk", "streamOptimized", Sizes::ANY).hardware(ADAPTERS, 4),
        Shape::new("vmdk", "monolithicFlat", Sizes::ANY).hardware(ADAPTERS, 4),
        Shape::new("vmdk", "twoGbMaxExtentSparse", Sizes::ANY).hardware(ADAPTERS, 4),
        Shape::new("vmdk", "twoGbMaxExtentFlat", Sizes::ANY).hardware(ADAPTERS, 4),
        Shape::new("vhd", "dynamic", Sizes::ANY),
        Shape::new("vhd", "fixed", Sizes::ANY),
        Shape::new("ova", "ova", Sizes::ANY).hardware(OVA_ADAPTERS, 4),
    ],
    takes: FORMATS,
    format_rule: "vbox-format",
    variant_rule: None,
    objections: Objections::NONE,
    rules: RULES,
};

const CONVERT: &str = "vdisk convert IMAGE --profile virtualbox -o NEW.vmdk";

static RULES: &[Rule] = &[
    Rule {
        id: "vbox-format",
        severity: Severity::Error,
        demand: "The image is a VMDK, a VHD, a VHDX, a VDI or a qcow2, or in an OVA",
        reason: "VirtualBox opens these formats, and a raw disk only through a descriptor (VirtualBox, VDBackends)",
        fix: CONVERT,
        test: |s| s.is_one_of(FORMATS),
    },
    Rule {
        id: "vbox-descriptor-start",
        severity: Severity::Error,
        demand: "The descriptor begins with '# Disk DescriptorFile'",
        reason: "\"descriptor does not start as expected\" (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: descriptor_lines::start,
    },
    Rule {
        id: "vbox-descriptor-order",
        severity: Severity::Error,
        demand: "The descriptor has first the header, then the extents, then the ddb lines",
        reason: "\"incorrect ordering of entries in descriptor\" (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: descriptor_lines::order,
    },
    Rule {
        id: "vbox-descriptor-indented",
        severity: Severity::Error,
        demand: "No line of the descriptor is indented",
        reason: "an indented extent or ddb line is not recognized as one (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: descriptor_lines::indentation,
    },
    Rule {
        id: "vbox-descriptor-lines",
        severity: Severity::Error,
        demand: "The descriptor has 1099 lines at most",
        reason: "\"descriptor too big\" (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: descriptor_lines::count,
    },
    Rule {
        id: "vbox-descriptor-line-ends",
        severity: Severity::Error,
        demand: "Lines of the descriptor end with LF or CR LF",
        reason: "\"unsupported end of line in descriptor\" (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: descriptor_lines::line_ends,
    },
    Rule {
        id: "vbox-descriptor-version",
        severity: Severity::Error,
        demand: "The descriptor has version 1",
        reason: "\"unsupported format version in descriptor\" (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: |s| match s.vmdk.as_ref().map(|v| (v.at, v.value("version"))) {
            None | Some((_, Some("1"))) => Ok(None),
            Some((at, version)) => {
                let detail = format!("has version {}", version.unwrap_or("none"));
                Broken::new("descriptor", detail).at(at).found()
            }
        },
    },
    Rule {
        id: "vbox-descriptor-size",
        severity: Severity::Warning,
        demand: "An embedded descriptor has 288 bytes free in its area, which has 20 sectors or more unless the image is a stream",
        reason: "VirtualBox adds its UUIDs when it registers the disk, not when it imports an appliance, and overwrites what follows if there is no room (vatesfr/xen-orchestra pull request 6163)",
        fix: CONVERT,
        test: descriptor_area,
    },
    Rule {
        id: "vbox-descriptor-appended",
        severity: Severity::Warning,
        demand: "Nothing follows the descriptor in its area",
        reason: "ddb lines that some tools append behind the end break VirtualBox (OSInside/kiwi issue 591)",
        fix: CONVERT,
        test: |s| match s.vmdk.as_ref().and_then(|v| v.after_text) {
            Some(at) => Broken::new("descriptor", "is followed by something else than zeros")
                .at(at)
                .found(),
            None => Ok(None),
        },
    },
    Rule {
        id: "vbox-header-version",
        severity: Severity::Error,
        demand: "Headers of sparse extents have version 1 or 3",
        reason: "version 2, with its grains of zeros, is refused (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: |s| vmdk_tests::header(s, "has version 2", |h| h.version != 2),
    },
    Rule {
        id: "vbox-grain-size",
        severity: Severity::Error,
        demand: "Grains have 8 sectors or more",
        reason: "smaller ones are refused (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: |s| {
            vmdk_tests::header(s, "has grains of less than 8 sectors", |h| {
                h.grain_size >= 8
            })
        },
    },
    Rule {
        id: "vbox-grain-table",
        severity: Severity::Error,
        demand: "Grain tables have a power of two of entries, 128 or more",
        reason: "its cache of grain tables has lines of 128 entries (VirtualBox, VMDK.cpp)",
        fix: CONVERT,
        test: |s| {
            let good = |entries: u32| entries.is_power_of_two() && entries >= 128;
            let detail = "has an odd number of entries in its grain tables";
            vmdk_tests::header(s, detail, |h| good(h.gtes_per_gt))
        },
    },
    Rule {
        id: "vbox-parent",
        severity: Severity::Error,
        demand: "A VMDK child names its parent by UUID",
        reason: "VirtualBox finds parents by ddb.uuid.parent in its registry and ignores file names, so it would show the child alone (VirtualBox, VMDK.cpp)",
        fix: "vdisk convert IMAGE --profile virtualbox -o NEW.vmdk, which merges it with its parents",
        test: |s| match &s.vmdk {
            Some(vmdk) if vmdk.has_parent() && !vmdk.has_uuid_parent() => {
                Broken::new("descriptor", "names the parent by CID and file name only")
                    .at(vmdk.at)
                    .found()
            }
            _ => Ok(None),
        },
    },
    Rule {
        id: "vbox-registered",
        severity: Severity::Note,
        demand: "The image has no VirtualBox UUID yet",
        reason: "a copy has the same one, and two disks with one UUID cannot both be registered (minoca/os issue 33)",
        fix: "give a copy a UUID of its own: VBoxManage internalcommands sethduuid FILE",
        test: |s| match s
            .vmdk
            .as_ref()
            .filter(|v| v.value("ddb.uuid.image").is_some())
        {
            Some(vmdk) => Broken::new("descriptor", "has a ddb.uuid.image")
                .at(vmdk.at)
                .found(),
            None => Ok(None),
        },
    },
    Rule {
        id: "vbox-vhd-footer",
        severity: Severity::Error,
        demand: "The last 512 bytes of a VHD are a footer with a right checksum",
        reason: "VirtualBox refuses the file otherwise (VirtualBox, VHD.cpp)",
        fix: "vdisk check IMAGE --repair",
        test: vhd_tests::footer,
    },
    Rule {
        id: "vbox-vhdx-read-only",
        severity: Severity::Warning,
        demand: "The image is no VHDX",
        reason: "VirtualBox only reads VHDX, so no machine can start from it (VirtualBox, VHDX.cpp)",
        fix: CONVERT,
        test: |s| match s.format() {
            "vhdx" => Broken::new("format", "is VHDX").found(),
            _ => Ok(None),
        },
    },
    Rule {
        id: "vbox-vhdx-required",
        severity: Severity::Error,
        demand: "The regions of a VHDX are marked as required",
        reason: "VirtualBox refuses others, and qemu marks none (VirtualBox, VHDX.cpp)",
        fix: CONVERT,
        test: vhdx_tests::required,
    },
    Rule {
        id: "vbox-vhdx-log",
        severity: Severity::Error,
        demand: "The log of a VHDX is empty",
        reason: "VirtualBox does not replay it, and shows what the disk was before (VirtualBox, VHDX.cpp)",
        fix: CONVERT,
        test: vhdx_tests::log,
    },
    Rule {
        id: "vbox-vhdx-parent",
        severity: Severity::Error,
        demand: "A VHDX needs no parent",
        reason: "VirtualBox reads no differencing VHDX (VirtualBox, VHDX.cpp)",
        fix: "vdisk convert IMAGE --profile virtualbox -o NEW.vmdk, which merges it with its parents",
        test: |s| match s.vhdx {
            Some(_) => vmdk_tests::stands_alone(s),
            None => Ok(None),
        },
    },
];

fn descriptor_area(subject: &Subject<'_>) -> Result<Verdict> {
    let Some((vmdk, room)) = subject.vmdk.as_ref().and_then(|v| Some((v, v.room?))) else {
        return Ok(None);
    };
    let free = room.saturating_sub(vmdk.text.len() as u64);
    let stream = vmdk.own_header().is_some_and(|h| h.compressed);
    // VirtualBox itself gives the descriptor of a stream no more than it needs.
    if subject.format() == "ova" || (free >= ROOM && (stream || room >= AREA)) {
        return Ok(None);
    }
    let detail = format!("has an area of {room} bytes, of which {free} are free");
    Broken::new("descriptor", detail).at(vmdk.at).found()
}
