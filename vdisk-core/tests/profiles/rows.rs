//! For each rule, what breaks it and nothing else. Positions are those of the specifications.

use crate::image::{Image, Memory};
use vdisk_core::profile::{self, Needs};

/// An image that passes, and what is done to it.
pub(crate) struct Row {
    pub(crate) rule: &'static str,
    /// Format and subformat to start from.
    pub(crate) start: (&'static str, &'static str),
    pub(crate) change: fn(&mut Image),
}

const FIXED: (&str, &str) = ("vhd", "fixed");
const DYNAMIC: (&str, &str) = ("vhd", "dynamic");
const SPARSE: (&str, &str) = ("vmdk", "monolithicSparse");
const STREAM: (&str, &str) = ("vmdk", "streamOptimized");
const VHDX: (&str, &str) = ("vhdx", "dynamic");
const RAW: (&str, &str) = ("raw", "sparse");

const fn row(
    rule: &'static str,
    start: (&'static str, &'static str),
    change: fn(&mut Image),
) -> Row {
    Row {
        rule,
        start,
        change,
    }
}

/// The image of another disk or in another shape.
fn again(image: &mut Image, profile: &str, (format, subformat): (&str, &str), size: u64) {
    let profile = profile::named(profile).unwrap();
    let shape = profile
        .shape(Some(format), Some(subformat), Needs::default())
        .unwrap();
    *image = Image::written(profile, shape, size);
}

/// The same file, taken for a raw disk.
fn raw(image: &mut Image) {
    image.format = "raw";
}

/// Where the block allocation table of a VHDX is: the region with its GUID.
fn vhdx_table(image: &Image) -> u64 {
    let entry = [0, 1]
        .map(|n| image.file.get((192 << 10) + 16 + 32 * n, 32))
        .into_iter()
        .find(|e| e.starts_with(&[0x66, 0x77, 0xc2, 0x2d]))
        .unwrap();
    u64::from_le_bytes(entry[16..24].try_into().unwrap())
}

/// A log with one entry that changes nothing.
fn vhdx_log(image: &mut Image) {
    let guid = [7; 16];
    let size = image.file.len().to_le_bytes();
    let header = 64 << 10;
    let log = image.file.get(header + 72, 8);
    let log = u64::from_le_bytes(log.try_into().unwrap());
    let mut entry = b"loge".to_vec();
    entry.extend([0; 4]);
    entry.extend(4096u32.to_le_bytes());
    entry.extend(0u32.to_le_bytes()); // tail
    entry.extend(1u64.to_le_bytes()); // sequence
    entry.extend([0; 8]); // no descriptors
    entry.extend(guid);
    entry.extend(size); // flushed
    entry.extend(size); // last
    image.set(log, &entry);
    image.crc(log, 4096);
    for header in [header, 2 * header] {
        image.set(header + 48, &guid);
        image.crc(header, 4096);
    }
}

/// A format that these do not take, with a disk of one cluster that has a partition table.
fn qcow2(image: &mut Image) {
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.resize(327_680, 0);
    header[262_144 + 510..][..2].copy_from_slice(&[0x55, 0xaa]);
    for (at, number) in [
        (24, 1u64 << 20),             // size
        (40, 65_536),                 // L1 table
        (48, 131_072),                // refcount table
        (65_536, 1 << 63 | 196_608),  // the L2 table
        (196_608, 1 << 63 | 262_144), // the cluster
    ] {
        header[at..at + 8].copy_from_slice(&number.to_be_bytes());
    }
    for (at, number) in [(20, 16u32), (36, 1), (56, 1), (96, 4), (100, 104)] {
        // cluster bits, L1 entries, refcount table clusters, refcount order, header length
        header[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
    image.file = Memory::of(&header);
    image.name = "image.qcow2".to_owned();
    image.format = "qcow2";
}

/// A wrong checksum in the footer at the end of a VHD.
fn bad_footer(image: &mut Image) {
    let at = image.file.len() - 512 + 64;
    image.set(at, &[0; 4]);
}

/// A parent by CID and name, as VMware writes it.
fn parent(image: &mut Image) {
    let to = "parentCID=00000001\nparentFileNameHint=\"base.vmdk\"";
    image.edit("parentCID=ffffffff", to);
}

/// Where the markers of a stream are that have `size` 0 (metadata) or not (grains).
fn markers(image: &Image, metadata: bool) -> Vec<u64> {
    let number = |at, len: usize| {
        let mut bytes = image.file.get(at, len);
        bytes.resize(8, 0);
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    let mut found = Vec::new();
    let mut at = number(64, 8) * 512;
    while at < image.file.len() {
        let size = number(at + 8, 4);
        if (size == 0) == metadata {
            found.push(at);
        }
        at += match size {
            0 => 512 + number(at, 8) * 512,
            size => (12 + size).next_multiple_of(512),
        };
    }
    found
}

pub(crate) static ROWS: &[Row] = &[
    row("azure-vhd", FIXED, |i| {
        i.file.cut(i.file.len() - 512);
        raw(i);
    }),
    row("azure-fixed", FIXED, |i| {
        let mut dynamic = Image::written(
            profile::named("xen").unwrap(),
            profile::named("xen")
                .unwrap()
                .shape(None, None, Needs::default())
                .unwrap(),
            20 << 20,
        );
        std::mem::swap(i, &mut dynamic);
    }),
    row("azure-size-aligned", FIXED, |i| {
        again(i, "azure", FIXED, (20 << 20) + 512);
    }),
    row("azure-size-range", FIXED, |i| {
        again(i, "azure", FIXED, 19 << 20)
    }),
    row("azure-size-range", FIXED, |i| {
        // Larger than a disk to start from may be, too: that is another rule.
        again(i, "azure", FIXED, 10 << 20);
    }),
    row("azure-os-disk", FIXED, |i| {
        again(i, "azure", FIXED, 4096 << 30)
    }),
    row("azure-footer", FIXED, bad_footer),
    row("azure-file-size", FIXED, |i| {
        i.insert_before_footer(&[0; 1 << 20])
    }),
    row("xen-vhd", DYNAMIC, raw),
    row("xen-dynamic", DYNAMIC, |i| {
        again(i, "azure", FIXED, 20 << 20)
    }),
    row("xen-size", DYNAMIC, |i| {
        again(i, "xen", DYNAMIC, 2040 << 30);
        i.insert_before_footer(&[0xff; 512]);
        i.header(28, &(2040 * 512 + 1u32).to_be_bytes());
        i.footers(48, &((2040u64 << 30) + 512).to_be_bytes());
    }),
    row("xen-block-size", DYNAMIC, |i| {
        i.header(32, &(4u32 << 20).to_be_bytes())
    }),
    row("xen-footer", DYNAMIC, bad_footer),
    row("xen-footer-copy", DYNAMIC, |i| i.first_footer(40, &[0; 8])),
    row("xen-reserved", DYNAMIC, |i| i.footers(200, &[1])),
    row("xen-reserved", DYNAMIC, |i| i.footers(11, &[6])),
    row("xen-reserved", DYNAMIC, |i| i.footers(84, &[2])),
    row("xen-timestamp", DYNAMIC, |i| i.now -= 1801),
    row("xen-geometry", DYNAMIC, |i| i.footers(59, &[18])),
    row("xen-header", DYNAMIC, |i| i.set(512 + 36, &[0; 4])),
    row("xen-header-offset", DYNAMIC, |i| i.header(8, &[0, 0, 0, 0])),
    row("xen-header-fields", DYNAMIC, |i| i.header(1000, &[1])),
    row("xen-no-parent-fields", DYNAMIC, |i| i.header(65, b"a")),
    row("xen-no-parent-fields", DYNAMIC, |i| i.header(40, &[1])),
    row("xen-batmap", DYNAMIC, |i| {
        i.footers(28, b"tap\0\0\x01\0\x03")
    }),
    row("hyperv-format", DYNAMIC, raw),
    row("hyperv-ending", DYNAMIC, |i| {
        i.name = "image.vhdx".to_owned()
    }),
    row("hyperv-checkpoint", DYNAMIC, |i| {
        i.name = "image.avhd".to_owned()
    }),
    row("hyperv-vhd-size", FIXED, |i| {
        again(i, "azure", FIXED, 2041 << 30)
    }),
    row("hyperv-vhd-footer", FIXED, bad_footer),
    row("hyperv-vhd-footer-copy", DYNAMIC, |i| {
        i.first_footer(40, &[0; 8])
    }),
    row("hyperv-vhd-header", DYNAMIC, |i| i.set(512 + 36, &[0; 4])),
    row("hyperv-vhd-header-offset", DYNAMIC, |i| {
        i.header(8, &[0, 0, 0, 0])
    }),
    row("hyperv-vhd-block-size", DYNAMIC, |i| {
        i.header(32, &(4u32 << 20).to_be_bytes());
    }),
    row("hyperv-vhdx-places", VHDX, |i| {
        // Block 1 of 2, which is empty: the second entry of the table.
        again(i, "hyperv", VHDX, 40 << 20);
        let at = vhdx_table(i) + 8;
        i.set(at, &(8u64 << 20).to_le_bytes());
    }),
    row("hyperv-vhdx-log", VHDX, vhdx_log),
    row("hyperv-holes", FIXED, |i| i.file.shows_holes = true),
    row("esxi-vmdk", STREAM, raw),
    row("esxi-type", STREAM, |i| {
        i.edit("streamOptimized", "monolithicSparse")
    }),
    row("esxi-vmfs-extents", ("vmdk", "vmfs"), |i| {
        let text = String::from_utf8(i.file.get(0, i.file.len() as usize)).unwrap();
        i.file = Memory::of(text.replace(" VMFS ", " FLAT ").as_bytes());
    }),
    row("esxi-size", STREAM, |i| {
        again(i, "esxi", STREAM, 62 << 40);
        // One grain more. Its table is entry 1 of what follows the directory: a grain of zeros.
        let capacity = ((62u64 << 40) / 512 + 128).to_le_bytes();
        i.set(12, &capacity);
        i.set(i.file.len() - 1024 + 12, &capacity);
    }),
    row("esxi-parent", STREAM, parent),
    row("esxi-adapter", STREAM, |i| {
        i.edit("\"lsilogic\"", "\"floppy\"")
    }),
    row("esxi-adapter", STREAM, |i| {
        i.edit("ddb.adapterType", "ddb.adapter")
    }),
    row("esxi-change-tracking", STREAM, |i| {
        i.edit(
            "\n# The Disk",
            "\nchangeTrackPath=\"a-ctk.vmdk\"\n# The Disk",
        );
    }),
    row("esxi-clean", STREAM, |i| i.set(72, &[1])),
    row("esxi-stream-version", STREAM, |i| i.set(4, &[1])),
    row("esxi-stream-redundant", STREAM, |i| i.set(8, &[3])),
    row("esxi-stream-footer", STREAM, |i| {
        let footer = i.file.len() - 1024;
        let directory = i.file.get(footer + 56, 8);
        i.set(56, &directory);
        i.set(footer - 512 + 12, &[4]);
    }),
    row("esxi-stream-markers", STREAM, |i| {
        let table = markers(i, true)[0];
        i.set(table + 12, &[4]);
    }),
    row("esxi-stream-markers", STREAM, |i| {
        let directory = markers(i, true)[1];
        i.set(directory + 12, &[4]);
    }),
    row("esxi-stream-markers", STREAM, |i| {
        let table = markers(i, true)[0];
        i.set(table + 2, &[1]);
    }),
    row("esxi-stream-markers", STREAM, |i| {
        let end = i.file.len() - 512;
        i.set(end + 12, &[4]);
    }),
    row("esxi-stream-order", STREAM, |i| {
        let grains = markers(i, false);
        let (first, second) = (i.file.get(grains[0], 8), i.file.get(grains[1], 8));
        i.set(grains[0], &second);
        i.set(grains[1], &first);
    }),
    row("esxi-stream-zlib", STREAM, |i| {
        let grain = markers(i, false)[1];
        i.set(grain + 12, &[0xed]);
    }),
    row("workstation-vmdk", SPARSE, raw),
    row("workstation-type", SPARSE, |i| {
        i.edit("monolithicSparse", "vmfs")
    }),
    row("workstation-size", SPARSE, |i| {
        again(i, "virtualbox", SPARSE, (8 << 40) + 512)
    }),
    row("workstation-keys", SPARSE, |i| i.edit("version=1\n", "")),
    row("workstation-keys", SPARSE, |i| {
        i.edit("parentCID=ffffffff\n", "")
    }),
    row("workstation-adapter", SPARSE, |i| {
        i.edit("\"lsilogic\"", "\"\"")
    }),
    row("workstation-clean", SPARSE, |i| i.set(72, &[1])),
    row("workstation-appended", SPARSE, |i| i.set(20 * 512, b"#")),
    row("vbox-format", SPARSE, raw),
    row("vbox-descriptor-start", SPARSE, |i| {
        i.edit("# Disk DescriptorFile", "# Disk")
    }),
    row("vbox-descriptor-order", SPARSE, |i| {
        i.edit("encoding=\"UTF-8\"\n", "");
        i.edit("# The Disk", "encoding=\"UTF-8\"\n# The Disk");
    }),
    row("vbox-descriptor-order", SPARSE, |i| {
        i.edit(
            "# Extent description",
            "ddb.toolsVersion = \"0\"\n# Extent description",
        );
    }),
    row("vbox-descriptor-indented", SPARSE, |i| {
        i.edit("\nencoding", "\n encoding")
    }),
    row("vbox-descriptor-lines", SPARSE, |i| {
        i.edit("# The Disk", &format!("{}# The Disk", "#\n".repeat(1100)));
    }),
    row("vbox-descriptor-line-ends", SPARSE, |i| {
        i.edit("# Extent desc", "# Extent\rdesc")
    }),
    row("vbox-descriptor-version", SPARSE, |i| {
        i.edit("version=1", "version=3")
    }),
    row("vbox-descriptor-size", STREAM, |i| {
        i.edit("#DDB", &format!("#DDB{}", "x".repeat(9600)));
    }),
    row("vbox-descriptor-size", SPARSE, |i| i.set(36, &[19])),
    row("vbox-descriptor-size", SPARSE, |i| {
        i.edit("#DDB", &format!("#DDB{}", "x".repeat(9600)));
    }),
    row("vbox-descriptor-appended", SPARSE, |i| {
        i.set(20 * 512, b"#")
    }),
    row("vbox-header-version", SPARSE, |i| i.set(4, &[2])),
    row("vbox-grain-size", SPARSE, |i| i.set(20, &[4])),
    row("vbox-grain-table", SPARSE, |i| i.set(44, &[64, 0])),
    row("vbox-grain-table", SPARSE, |i| i.set(44, &[129, 0])),
    row("vbox-parent", SPARSE, parent),
    row("vbox-registered", SPARSE, |i| {
        let uuid = "ddb.uuid.image=\"11111111-2222-3333-4444-555555555555\"\nddb.comment";
        i.edit("ddb.comment", uuid);
    }),
    row("vbox-vhd-footer", DYNAMIC, bad_footer),
    row("vbox-vhdx-read-only", DYNAMIC, |i| {
        again(i, "hyperv", VHDX, 1 << 20)
    }),
    row("vbox-vhdx-required", VHDX, |i| {
        for table in [192 << 10, 256 << 10] {
            i.set(table + 16 + 28, &[0]);
            i.crc(table, 64 << 10);
        }
    }),
    row("vbox-vhdx-log", VHDX, vhdx_log),
    row("vbox-vhdx-parent", VHDX, |i| *i = Image::vhdx_child()),
    row("aws-format", RAW, qcow2),
    row("aws-vmdk-type", STREAM, |i| {
        i.edit("streamOptimized", "monolithicSparse")
    }),
    row("aws-parent", STREAM, parent),
    row("aws-size", STREAM, |i| {
        again(i, "virtualbox", STREAM, 16 << 40)
    }),
    row("aws-vhd-footer", DYNAMIC, bad_footer),
    row("aws-partition-table", RAW, |i| i.set(510, &[0])),
    row("gcp-format", RAW, qcow2),
    row("gcp-raw-size", RAW, |i| {
        let end = i.file.len() + 511;
        i.file.put(end, &[0]);
    }),
    row("gcp-raw-name", RAW, |i| i.name = "image.raw".to_owned()),
    row("gcp-one-file", STREAM, |i| {
        let text = "# Disk DescriptorFile\nversion=1\nCID=00000007\nparentCID=ffffffff\n\
            createType=\"monolithicFlat\"\nRW 8 FLAT \"flat.vmdk\" 0\n";
        i.file = Memory::of(text.as_bytes());
        i.extents = vec![("flat.vmdk".to_owned(), Memory::of(&[1; 4096]))];
    }),
    row("gcp-parent", STREAM, parent),
    row("gcp-vhd-footer", DYNAMIC, bad_footer),
];
