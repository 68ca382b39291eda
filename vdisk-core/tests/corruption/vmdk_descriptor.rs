//! Descriptors, and disks whose extents are files of their own: flat and split.

use super::{
    table::{Files, Image, Row, put32, put64, row},
    vmdk_sparse::{SECTORS, edit, extent, text},
};

const FLAT: usize = 64 * 512;

fn flat() -> Files {
    let line = format!("RW {} FLAT \"disk-flat.vmdk\" 0", FLAT / 512);
    let data: Vec<u8> = (0..FLAT).map(|i| (i / 512 + 1) as u8).collect();
    Files::one(
        "disk.vmdk",
        text("monolithicFlat", &line, "ffffffff").into_bytes(),
    )
    .and("disk-flat.vmdk", data)
}

fn split() -> Files {
    let line = |number| format!("RW {SECTORS} SPARSE \"disk-s00{number}.vmdk\"\n");
    let lines = format!("{}{}RW 100 ZERO", line(1), line(2));
    Files::one(
        "disk.vmdk",
        text("twoGbMaxExtentSparse", &lines, "ffffffff").into_bytes(),
    )
    .and("disk-s001.vmdk", extent("", 0))
    .and("disk-s002.vmdk", extent("", 50))
}

/// Replaces `from` by `to` in the descriptor, which may change its length.
fn change(f: &mut Files, from: &str, to: &str) {
    let text = String::from_utf8(f.main().clone()).unwrap();
    assert!(text.contains(from), "no '{from}' in {text}");
    *f.main() = text.replacen(from, to, 1).into_bytes();
}

pub(crate) fn images() -> Vec<Image> {
    vec![
        Image {
            name: "monolithicFlat",
            build: flat,
            rows: [text_rows(), flat_rows()].into_iter().flatten().collect(),
        },
        Image {
            name: "twoGbMaxExtentSparse",
            build: split,
            rows: split_rows(),
        },
    ]
}

fn text_rows() -> Vec<Row> {
    let part = "descriptor";
    vec![
        row(
            "no CID",
            |f| change(f, "CID=1234abcd\n", ""),
            "cid-missing",
            part,
        )
        .warning(),
        row(
            "CID that is no number",
            |f| change(f, "CID=1234abcd", "CID=1234abcx"),
            "descriptor",
            part,
        ),
        row(
            "long content ID of another CID",
            |f| change(f, "0b1234abcd\"", "0b1234abce\""),
            "long-content-id",
            part,
        )
        .note(),
        row(
            "parent CID without a name",
            |f| change(f, "parentCID=ffffffff", "parentCID=00000001"),
            "parent-unnamed",
            part,
        )
        .warning(),
        row(
            "parent without a CID",
            |f| change(f, "createType", "parentFileNameHint=\"x.vmdk\"\ncreateType"),
            "parent-unused",
            part,
        )
        .warning(),
        row(
            "a line that says nothing",
            |f| change(f, "ddb.adapterType = ", "ddb.adapterType "),
            "descriptor-line",
            part,
        )
        .warning(),
        row(
            "version 9",
            |f| change(f, "version=1", "version=9"),
            "descriptor-version",
            part,
        )
        .warning(),
        row(
            "no version",
            |f| change(f, "version=1\n", ""),
            "descriptor-version",
            part,
        )
        .warning(),
        row(
            "no geometry",
            |f| change(f, "ddb.geometry.heads", "ddb.geometry.hats"),
            "geometry-missing",
            part,
        )
        .note(),
        row(
            "text behind a NUL",
            |f| f.main().extend(b"\0\0ddb.more = \"1\"\n"),
            "descriptor-tail",
            part,
        )
        .note(),
        row(
            "type of sparse extents",
            |f| change(f, "monolithicFlat", "twoGbMaxExtentSparse"),
            "create-type",
            part,
        )
        .warning(),
        row(
            "no type",
            |f| change(f, "\"monolithicFlat\"", "\"\""),
            "create-type",
            part,
        )
        .warning(),
        row(
            "extent that is a device",
            |f| change(f, "disk-flat.vmdk", "/dev/null"),
            "extent-refused",
            "extent 1",
        ),
        row(
            "extent line without a size",
            |f| change(f, "RW 64", "RW many"),
            "descriptor",
            "extent line",
        ),
        row(
            "extent line of an unknown type",
            |f| change(f, " FLAT ", " FLOPPY "),
            "descriptor",
            "extent line",
        ),
        row(
            "extent line without a name",
            |f| change(f, "\"disk-flat.vmdk\" 0", ""),
            "descriptor",
            "extent line",
        ),
        row(
            "no extent line",
            |f| change(f, "RW 64", "#RW 64"),
            "unreadable",
            part,
        ),
    ]
}

fn flat_rows() -> Vec<Row> {
    vec![
        row(
            "extent missing",
            |f| f.remove("disk-flat.vmdk"),
            "extent-missing",
            "extent 1",
        ),
        row(
            "extent outside the folder",
            |f| change(f, "disk-flat.vmdk", "../disk-flat.vmdk"),
            "extent-refused",
            "extent 1",
        ),
        row(
            "extent cut short",
            |f| f.file("disk-flat.vmdk").truncate(FLAT - 512),
            "extent-cut-short",
            "extent 1",
        )
        .in_file("disk-flat.vmdk"),
        row(
            "extent from an offset",
            |f| change(f, "flat.vmdk\" 0", "flat.vmdk\" 1"),
            "extent-cut-short",
            "extent 1",
        )
        .in_file("disk-flat.vmdk"),
        row(
            "extent longer than said",
            |f| f.file("disk-flat.vmdk").extend([0; 512]),
            "extent-longer",
            "extent 1",
        )
        .note()
        .in_file("disk-flat.vmdk"),
        row(
            "two extents of the same bytes",
            |f| {
                let again = "RW 2 FLAT \"disk-flat.vmdk\" 62\n\n# The Disk Data";
                change(f, "\n# The Disk Data", again);
            },
            "extent-shared",
            "extent 2",
        )
        .in_file("disk-flat.vmdk"),
        row(
            "extent as large as no file",
            |f| change(f, "RW 64", "RW 18446744073709551615"),
            "extent-line",
            "extent 1",
        )
        .in_file("disk-flat.vmdk"),
    ]
}

fn split_rows() -> Vec<Row> {
    const SECOND: &str = "disk-s002.vmdk";
    vec![
        row(
            "extent missing",
            |f| f.remove(SECOND),
            "extent-missing",
            "extent 2",
        ),
        row(
            "extent smaller than said",
            |f| edit_line(f, &format!("RW {SECTORS}"), &format!("RW {}", SECTORS + 8)),
            "extent-size",
            "extent 1",
        )
        .in_file("disk-s001.vmdk"),
        row(
            "extent larger than said",
            |f| edit_line(f, &format!("RW {SECTORS}"), &format!("RW {}", SECTORS - 8)),
            "extent-size",
            "extent 1",
        )
        .warning()
        .in_file("disk-s001.vmdk"),
        row(
            "extent of another version",
            |f| put32(f.file(SECOND), 4, 9),
            "header",
            "header",
        )
        .in_file(SECOND),
        row(
            "extent that is no extent",
            |f| f.file(SECOND)[..4].fill(0),
            "header",
            "header",
        )
        .in_file(SECOND),
        row(
            "extent not closed",
            |f| f.file(SECOND)[72] = 1,
            "unclean-shutdown",
            "header",
        )
        .warning()
        .in_file(SECOND)
        .repairs(),
        row(
            "entry past the end in one table of an extent",
            |f| put32(f.file(SECOND), 31 * 512 + 12, 1 << 30),
            "redundant-differs",
            "grain tables",
        )
        .in_file(SECOND)
        .repairs(),
        row(
            "directory past the end",
            |f| put64(f.file(SECOND), 56, 1 << 40),
            "directory-past-end",
            "grain directory",
        )
        .in_file(SECOND),
        row(
            "one file for two extents",
            |f| edit_line(f, SECOND, "disk-s001.vmdk"),
            "extent-shared",
            "extent 2",
        )
        .in_file("disk-s001.vmdk"),
        row(
            "type of flat extents",
            |f| edit_line(f, "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"),
            "create-type",
            "descriptor",
        )
        .warning(),
    ]
}

fn edit_line(f: &mut Files, from: &str, to: &str) {
    let room = f.main().len() + 64;
    f.main().resize(room, 0);
    edit(f.main(), 0, from, to);
}
