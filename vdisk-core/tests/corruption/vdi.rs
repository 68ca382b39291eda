//! VDI: header, block map, blocks.

#[allow(dead_code, reason = "the tests of the format use all of it")]
#[path = "../vdi/builder.rs"]
mod builder;

use super::table::{Files, Image, put32, row};
use builder::Shape;

/// Four blocks of a sector: data, zero, absent, data. The map is at 512.
fn build() -> Files {
    Files::one("disk.vdi", Shape::sample().build())
}

pub(crate) fn images() -> Vec<Image> {
    vec![Image {
        name: "vdi",
        build,
        rows: vec![
            row(
                "a block outside",
                |f| put32(f.main(), 512, 7),
                "past-end",
                "block map, entry 0",
            ),
            row(
                "two blocks in one place",
                |f| put32(f.main(), 512 + 12, 0),
                "overlap",
                "block map, entry 3",
            ),
            row(
                "a file cut short",
                |f| {
                    let end = f.main().len() - 1;
                    f.main().truncate(end);
                },
                "past-end",
                "block map, entry 3",
            ),
            row(
                "a wrong count",
                |f| put32(f.main(), 388, 9),
                "block-count",
                "header",
            )
            .warning(),
            row(
                "undo",
                |f| put32(f.main(), 76, 3),
                "unreadable",
                "image type",
            ),
            row(
                "a map that is too short",
                |f| put32(f.main(), 384, 3),
                "unreadable",
                "block map",
            ),
        ],
    }]
}
