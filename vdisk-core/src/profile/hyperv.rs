//! Hyper-V: VHDX, or VHD for old hosts.

use super::{Broken, Objections, Profile, Rule, Shape, Sizes, a_title, vhd_tests, vhdx_tests};
use crate::check::Severity;

/// What the format itself can hold, and any reader insists on.
const VHDX_SIZES: Sizes = Sizes {
    most: crate::limits::VHDX_SIZE,
    ..Sizes::ANY
};
/// Block sizes that New-VHD makes in a VHD.
const BLOCKS: &[u64] = &[2 << 20, 512 << 10];

/// What it takes, whether vdisk writes it or not.
const FORMATS: &[&str] = &["vhdx", "vhd"];

pub(super) static HYPERV: Profile = Profile {
    name: "hyperv",
    title: "Microsoft Hyper-V",
    shapes: &[
        Shape::new("vhdx", "dynamic", VHDX_SIZES),
        Shape::new("vhdx", "fixed", VHDX_SIZES),
        Shape::new(
            "vhd",
            "dynamic",
            Sizes::up_to(vhd_tests::MOST, "hyperv-vhd-size"),
        )
        .blocks(BLOCKS),
        Shape::new(
            "vhd",
            "fixed",
            Sizes::up_to(vhd_tests::MOST, "hyperv-vhd-size"),
        ),
    ],
    takes: FORMATS,
    format_rule: "hyperv-format",
    variant_rule: None,
    objections: Objections {
        block_size: Some("hyperv-vhd-block-size"),
        ending: Some(("hyperv-ending", endings)),
        ..Objections::NONE
    },
    rules: RULES,
};

const CONVERT: &str = "vdisk convert IMAGE --profile hyperv -o NEW.vhdx";

static RULES: &[Rule] = &[
    Rule {
        id: "hyperv-format",
        severity: Severity::Error,
        demand: "The image is a VHDX or a VHD",
        reason: "Hyper-V attaches no other format (Microsoft, New-VHD)",
        fix: CONVERT,
        test: |s| s.is_one_of(FORMATS),
    },
    Rule {
        id: "hyperv-ending",
        severity: Severity::Error,
        demand: "The file name ends in .vhd, .vhdx, .avhd or .avhdx, as the format does",
        reason: "Hyper-V goes by the ending of the name and refuses a VHD called .vhdx (Microsoft, New-VHD)",
        fix: "rename the file: .vhdx for a VHDX, .vhd for a VHD",
        test: |s| {
            let endings = endings(s.format());
            if endings.is_empty() {
                return Ok(None);
            }
            match s.ending() {
                ending if endings.contains(&ending.as_str()) => Ok(None),
                ending => {
                    let detail = match ending.as_str() {
                        "" => "has no ending".to_owned(),
                        ending => format!("ends in '.{ending}'"),
                    };
                    let image = a_title(s.format());
                    Broken::new("file name", format!("{detail}, but the image is {image}")).found()
                }
            }
        },
    },
    Rule {
        id: "hyperv-checkpoint",
        severity: Severity::Warning,
        demand: "The image is not the file of a checkpoint",
        reason: "files called .avhd and .avhdx belong to a machine's checkpoints, and New-VHD refuses them as parents (test-kitchen/kitchen-hyperv issue 25)",
        fix: "vdisk convert IMAGE --profile hyperv -o NEW.vhdx, which merges it with its parents",
        test: |s| match s.ending().as_str() {
            "avhd" | "avhdx" => Broken::new("file name", "is that of a checkpoint").found(),
            _ => Ok(None),
        },
    },
    Rule {
        id: "hyperv-vhd-size",
        severity: Severity::Error,
        demand: "A VHD has 2040 GiB at most",
        reason: "that is the limit of the format in Windows (Microsoft, \"Hyper-V virtual hard disk format overview\")",
        fix: CONVERT,
        test: vhd_tests::size,
    },
    Rule {
        id: "hyperv-vhd-footer",
        severity: Severity::Error,
        demand: "The last 512 bytes of a VHD are a footer with a right checksum",
        reason: "Windows calls the file corrupted otherwise (Microsoft, VHD specification)",
        fix: "vdisk check IMAGE --repair",
        test: vhd_tests::footer,
    },
    Rule {
        id: "hyperv-vhd-footer-copy",
        severity: Severity::Error,
        demand: "The copy of the footer at the start of a VHD is the same",
        reason: "the copy is what Windows restores a lost footer from (Microsoft, VHD specification)",
        fix: "vdisk check IMAGE --repair",
        test: vhd_tests::footer_copy,
    },
    Rule {
        id: "hyperv-vhd-header",
        severity: Severity::Error,
        demand: "The checksum of the dynamic header is right",
        reason: "Windows calls the file corrupted otherwise (Microsoft, VHD specification)",
        fix: CONVERT,
        test: vhd_tests::header,
    },
    Rule {
        id: "hyperv-vhd-header-offset",
        severity: Severity::Error,
        demand: "The unused offset in the dynamic header is 64 bits of ones",
        reason: "Windows wants all 64, where the text of the specification says 32 (qemu, block/vpc.c)",
        fix: CONVERT,
        test: vhd_tests::header_offset,
    },
    Rule {
        id: "hyperv-vhd-block-size",
        severity: Severity::Warning,
        demand: "The blocks of a VHD have 2 MiB or 512 KiB",
        reason: "Windows makes no others (Microsoft, New-VHD -BlockSizeBytes)",
        fix: CONVERT,
        test: |s| vhd_tests::blocks(s, BLOCKS),
    },
    Rule {
        id: "hyperv-vhdx-places",
        severity: Severity::Error,
        demand: "In a VHDX, blocks that are not in the file have no place there",
        reason: "Hyper-V refuses the file if the entry of such a block has an offset (qemu, block/vhdx.c)",
        fix: CONVERT,
        test: vhdx_tests::places,
    },
    Rule {
        id: "hyperv-vhdx-log",
        severity: Severity::Warning,
        demand: "The log of a VHDX is empty",
        reason: "an image that was not closed must be opened for writing once, and fails where that is not allowed (medo64/VhdAttach issue 11)",
        fix: "vdisk check IMAGE --repair, or convert the image, which goes through the log",
        test: vhdx_tests::log,
    },
    Rule {
        id: "hyperv-holes",
        severity: Severity::Note,
        demand: "The file has no holes",
        reason: "copied to NTFS with its holes, the file becomes sparse, and Hyper-V attaches no sparse file (error 0xC03A001A)",
        fix: "copy it with a tool that writes the zeros, or on Windows: fsutil sparse setflag FILE 0",
        test: |s| {
            let span = |at| {
                let found = s.file.storage.span_at(at);
                found.map_err(|e| crate::Error::io("find holes", e).path(s.file.path()))
            };
            let mut at = 0;
            while at < s.file.size {
                let found = span(at)?;
                if found.hole {
                    return Broken::new("file", "has holes").at(at).found();
                }
                at = found.end.max(at.saturating_add(1));
            }
            Ok(None)
        },
    },
];

/// The endings that the name of an image of that format may have.
fn endings(format: &str) -> &'static [&'static str] {
    match format {
        "vhd" => &["vhd", "avhd"],
        "vhdx" => &["vhdx", "avhdx"],
        _ => &[],
    }
}
