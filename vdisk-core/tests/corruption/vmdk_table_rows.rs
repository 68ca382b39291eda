//! Damaged grain directories and tables, and their copies.

use super::{
    table::{Files, Row, put32, row},
    vmdk_sparse::{COPY, DIRECTORY, GRAIN, STORED, entry, sector, table},
};

pub(crate) fn table_rows() -> Vec<Row> {
    /// Changes an entry in both sets.
    fn both(f: &mut Files, grain: usize, value: u32) {
        for directory in [COPY, DIRECTORY] {
            put32(f.main(), table(directory, 0) + grain * 4, value);
        }
    }
    vec![
        row(
            "grain past the end",
            |f| both(f, 3, 1 << 30),
            "grain-past-end",
            "grain table 0, entry 3",
        ),
        row(
            "grain in the header",
            |f| both(f, 3, 2),
            "grain-in-metadata",
            "grain table 0, entry 3",
        ),
        row(
            "grain in a table",
            |f| both(f, 3, (table(DIRECTORY, 0) / 512) as u32),
            "grain-in-metadata",
            "grain table 0, entry 3",
        ),
        row(
            "grain in a redundant table",
            |f| both(f, 3, (table(COPY, 1) / 512) as u32),
            "grain-in-metadata",
            "grain table 0, entry 3",
        ),
        row(
            "one grain for two entries",
            |f| both(f, 9, sector(0)),
            "grain-shared",
            "grain table 0, entry 9",
        ),
        row(
            "grains that overlap",
            |f| both(f, 9, sector(0) + 3),
            "grain-shared",
            "grain table 0, entry 9",
        ),
        row(
            "misaligned grain",
            |f| {
                let bytes = f.main();
                bytes.extend([7; GRAIN + 512]);
                both(f, 9, sector(STORED.len()) + 1);
            },
            "grain-misaligned",
            "grain table 0, entry 9",
        )
        .warning(),
        row(
            "grain of zeros without the flag",
            |f| both(f, 9, 1),
            "zero-entry",
            "grain table 0, entry 9",
        )
        .warning(),
        row(
            "entry behind the end of the disk",
            |f| {
                f.main().extend([7; GRAIN]);
                for directory in [COPY, DIRECTORY] {
                    put32(f.main(), table(directory, 1) + 8 * 4, sector(STORED.len()));
                }
            },
            "entry-past-disk",
            "grain table 1, entry 8",
        )
        .note(),
        row(
            "last grain cut short",
            |f| {
                let len = f.main().len();
                f.main().truncate(len - 1024);
            },
            "grain-cut-short",
            "grain table 1, entry 3",
        ),
        row(
            "bytes behind the last grain",
            |f| f.main().extend([7; 3 * GRAIN]),
            "unused-space",
            "file",
        )
        .note(),
        row(
            "table past the end, in both directories",
            |f| {
                put32(f.main(), COPY, 1 << 30);
                put32(f.main(), DIRECTORY, 1 << 30);
                put32(f.main(), table(DIRECTORY, 0), 9);
            },
            "table-past-end",
            "grain directory, entry 0",
        ),
        row(
            "directory entry into the descriptor",
            |f| put32(f.main(), DIRECTORY, 2),
            "metadata-overlap",
            "grain directory, entry 0",
        )
        .repairs(),
        row(
            "two directory entries for one table",
            |f| put32(f.main(), DIRECTORY + 4, (table(DIRECTORY, 0) / 512) as u32),
            "table-shared",
            "grain directory, entry 1",
        )
        .repairs(),
        row(
            "directory entry of 1",
            |f| {
                put32(f.main(), DIRECTORY + 4, 1);
                put32(f.main(), COPY + 4, 1);
            },
            "zero-entry",
            "grain directory, entry 1",
        )
        .warning(),
    ]
}

pub(crate) fn copy_rows() -> Vec<Row> {
    let part = "grain tables";
    vec![
        row(
            "primary entry past the end",
            |f| put32(f.main(), entry(3), 1 << 30),
            "redundant-differs",
            part,
        )
        .repairs(),
        row(
            "primary entry to another grain",
            |f| put32(f.main(), entry(3), sector(0)),
            "redundant-differs",
            part,
        )
        .repairs(),
        row(
            "primary table overwritten",
            |f| {
                let at = table(DIRECTORY, 0);
                f.main()[at..at + 2048].fill(0xee);
            },
            "redundant-differs",
            part,
        )
        .repairs(),
        row(
            "primary table overwritten, and a redundant entry too",
            |f| {
                let at = table(DIRECTORY, 0);
                f.main()[at..at + 2048].fill(0xee);
                put32(f.main(), table(COPY, 0) + 12, 1 << 30);
            },
            "redundant-differs",
            part,
        ),
        row(
            "primary entry lost: both could be right",
            |f| put32(f.main(), entry(3), 0),
            "redundant-differs",
            part,
        ),
        row(
            "primary entry to a place that could be right, another past the end",
            |f| {
                f.main().extend([7; GRAIN]);
                put32(f.main(), entry(3), sector(STORED.len()));
                put32(f.main(), entry(7), 1 << 30);
            },
            "redundant-differs",
            part,
        ),
        row(
            "redundant entry lost: both could be right",
            |f| put32(f.main(), table(COPY, 0) + 12, 0),
            "redundant-differs",
            part,
        ),
        row(
            "redundant entry past the end",
            |f| put32(f.main(), table(COPY, 0) + 12, 1 << 30),
            "redundant-differs",
            part,
        )
        .warning()
        .repairs(),
        row(
            "redundant table overwritten",
            |f| {
                let at = table(COPY, 1);
                f.main()[at..at + 2048].fill(0xee);
            },
            "redundant-differs",
            part,
        )
        .warning()
        .repairs(),
        row(
            "redundant directory entry past the end",
            |f| put32(f.main(), COPY, 1 << 30),
            "table-past-end",
            "redundant grain directory, entry 0",
        )
        .warning()
        .repairs(),
        row(
            "redundant directory overwritten",
            |f| f.main()[COPY..COPY + 512].fill(0xee),
            "redundant-differs",
            part,
        )
        .warning()
        .repairs(),
        row(
            "primary directory overwritten",
            |f| f.main()[DIRECTORY..DIRECTORY + 512].fill(0xee),
            "redundant-differs",
            part,
        )
        .repairs(),
        row(
            "primary table in an unusual place that is damaged",
            |f| {
                let at = f.main().len();
                put32(f.main(), DIRECTORY, (at / 512) as u32);
                f.main().extend([0xee; 2048]);
            },
            "grain-past-end",
            "grain table 0, entry 0",
        )
        .repairs(),
    ]
}
