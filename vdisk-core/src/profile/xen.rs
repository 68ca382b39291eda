//! XenServer and XCP-ng: dynamic VHDs that `vhd-util check` passes.

use super::{Objections, Profile, Rule, Shape, Sizes, vhd_tests};
use crate::check::Severity;

const BLOCK: u64 = 2 << 20;

/// What it takes, whether vdisk writes it or not.
const FORMATS: &[&str] = &["vhd"];

pub(super) static XEN: Profile = Profile {
    name: "xen",
    title: "XenServer, XCP-ng",
    shapes: &[
        Shape::new("vhd", "dynamic", Sizes::up_to(vhd_tests::MOST, "xen-size")).blocks(&[BLOCK]),
    ],
    takes: FORMATS,
    format_rule: "xen-vhd",
    variant_rule: Some(("vhd", "xen-dynamic")),
    objections: Objections {
        block_size: Some("xen-block-size"),
        ..Objections::NONE
    },
    rules: RULES,
};

const CONVERT: &str = "vdisk convert IMAGE --profile xen -o NEW.vhd";

static RULES: &[Rule] = &[
    Rule {
        id: "xen-vhd",
        severity: Severity::Error,
        demand: "The image is a VHD",
        reason: "storage repositories keep disks as VHD, and imports without a converter take nothing else (XenCenter, \"Disk image formats\")",
        fix: CONVERT,
        test: |s| s.is_one_of(FORMATS),
    },
    Rule {
        id: "xen-dynamic",
        severity: Severity::Error,
        demand: "The VHD is dynamic or differencing",
        reason: "XenCenter and Xen Orchestra import the dynamic format only (XenCenter, \"Disk image formats\")",
        fix: CONVERT,
        test: |s| vhd_tests::is_fixed(s, false),
    },
    Rule {
        id: "xen-size",
        severity: Severity::Error,
        demand: "The virtual size is 2040 GiB at most",
        reason: "that is all that the table of a VHD can address (XenServer, \"Configuration limits\")",
        fix: "split what the disk holds, or use a storage repository without VHD",
        test: vhd_tests::size,
    },
    Rule {
        id: "xen-block-size",
        severity: Severity::Error,
        demand: "Blocks have 2 MiB",
        reason: "the block driver of Xen reads no larger ones, and its tools make no other (blktap, libvhd)",
        fix: CONVERT,
        test: |s| vhd_tests::blocks(s, &[BLOCK]),
    },
    Rule {
        id: "xen-footer",
        severity: Severity::Error,
        demand: "The last 512 bytes are a footer with a right checksum",
        reason: "\"primary footer invalid\" (blktap, vhd-util check)",
        fix: "vdisk check IMAGE --repair",
        test: vhd_tests::footer,
    },
    Rule {
        id: "xen-footer-copy",
        severity: Severity::Error,
        demand: "The copy of the footer at the start is the same",
        reason: "\"primary and backup footers do not match\" (blktap, vhd-util check)",
        fix: "vdisk check IMAGE --repair",
        test: vhd_tests::footer_copy,
    },
    Rule {
        id: "xen-reserved",
        severity: Severity::Error,
        demand: "Feature, state and reserved bytes of the footer hold nothing unknown",
        reason: "\"invalid extra features\", \"invalid 'reserved' bits\" (blktap, vhd-util check)",
        fix: CONVERT,
        test: vhd_tests::reserved,
    },
    Rule {
        id: "xen-timestamp",
        severity: Severity::Error,
        demand: "The image was not made in the future",
        reason: "\"creation time in future\", where half an hour is forgiven (blktap, vhd-util check)",
        fix: "set the clock right, or SOURCE_DATE_EPOCH, and convert the image anew",
        test: vhd_tests::timestamp,
    },
    Rule {
        id: "xen-geometry",
        severity: Severity::Error,
        demand: "The geometry is not larger than the size allows",
        reason: "\"geometry too large\" if it exceeds what the specification computes (blktap, vhd-util check)",
        fix: CONVERT,
        test: vhd_tests::chs,
    },
    Rule {
        id: "xen-header",
        severity: Severity::Error,
        demand: "The checksum of the dynamic header is right",
        reason: "\"header is invalid: invalid checksum\" (blktap, vhd-util check)",
        fix: CONVERT,
        test: vhd_tests::header,
    },
    Rule {
        id: "xen-header-offset",
        severity: Severity::Error,
        demand: "The unused offset in the dynamic header is 64 bits of ones",
        reason: "\"invalid data offset\"; the specification's own text says 32 bits (blktap, vhd-util check)",
        fix: CONVERT,
        test: vhd_tests::header_offset,
    },
    Rule {
        id: "xen-header-fields",
        severity: Severity::Error,
        demand: "The dynamic header places its table at a sector and reserves only zeros",
        reason: "\"invalid table offset\", \"invalid reserved bits\" (blktap, vhd-util check)",
        fix: CONVERT,
        test: vhd_tests::header_fields,
    },
    Rule {
        id: "xen-no-parent-fields",
        severity: Severity::Error,
        demand: "A dynamic disk names no parent",
        reason: "\"invalid non-null parent name\", locator or uuid (blktap, vhd-util check)",
        fix: CONVERT,
        test: vhd_tests::no_parent_fields,
    },
    Rule {
        id: "xen-batmap",
        severity: Severity::Error,
        demand: "An image by Xen has a batmap that fits its blocks",
        reason: "Xen believes the batmap, and \"batmap shows unallocated block full\" ends its check (blktap, vhd-util check)",
        fix: CONVERT,
        test: vhd_tests::batmap,
    },
];
