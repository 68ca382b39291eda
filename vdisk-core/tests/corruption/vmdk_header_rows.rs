//! Damaged headers of sparse extents.

use super::{
    table::{Row, put, put32, put64, row},
    vmdk_sparse::{COPY, DIRECTORY, FIRST, GRAIN, SECTORS, table},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row(
            "cut inside the header",
            |f| f.main().truncate(100),
            "header",
            "header",
        ),
        row(
            "unfinished",
            |f| put(f.main(), 0, b"kdmv"),
            "unfinished",
            "header",
        ),
        row("version 9", |f| put32(f.main(), 4, 9), "header", "header"),
        row("version 0", |f| put32(f.main(), 4, 0), "header", "header"),
        row(
            "version 3",
            |f| put32(f.main(), 4, 3),
            "version-3",
            "header",
        )
        .note(),
        row(
            "incompatible flag",
            |f| f.main()[11] = 0x40,
            "header",
            "header",
        ),
        row(
            "odd flag",
            |f| f.main()[8] |= 0x20,
            "unknown-flags",
            "header",
        )
        .note(),
        row(
            "markers without compression",
            |f| put32(f.main(), 8, 0x2_0003),
            "header",
            "header",
        ),
        row(
            "compressed of unknown kind",
            |f| put32(f.main(), 8, 0x1_0003),
            "header",
            "header",
        ),
        row(
            "capacity of half a grain more",
            |f| put64(f.main(), 12, SECTORS as u64 + 4),
            "capacity-unaligned",
            "header",
        )
        .note(),
        row(
            "capacity of two grains more",
            |f| put64(f.main(), 12, SECTORS as u64 + 16),
            "size-differs",
            "descriptor",
        )
        .warning(),
        row(
            "capacity beyond all disks",
            |f| put64(f.main(), 12, 1 << 60),
            "header",
            "header",
        ),
        row(
            "capacity that needs a larger directory",
            |f| put64(f.main(), 12, 1 << 40),
            "directory-past-end",
            "grain directory",
        ),
        row(
            "grain size 0",
            |f| put64(f.main(), 20, 0),
            "header",
            "header",
        ),
        row(
            "grain size 12",
            |f| put64(f.main(), 20, 12),
            "header",
            "header",
        ),
        row(
            "grains of 4 sectors",
            |f| {
                put64(f.main(), 20, 4);
            },
            "grain-small",
            "header",
        )
        .warning(),
        row(
            "tables of 0 entries",
            |f| put32(f.main(), 44, 0),
            "header",
            "header",
        ),
        row(
            "tables of 256 entries",
            |f| put32(f.main(), 44, 256),
            "table-entries",
            "header",
        )
        .warning(),
        row(
            "descriptor past the end",
            |f| put64(f.main(), 28, 1 << 30),
            "descriptor-place",
            "descriptor",
        ),
        row(
            "descriptor of a terabyte",
            |f| put64(f.main(), 36, 1 << 31),
            "descriptor-place",
            "descriptor",
        ),
        row(
            "descriptor over the tables",
            |f| put64(f.main(), 36, 25),
            "metadata-overlap",
            "redundant grain directory",
        )
        .warning(),
        row(
            "directory at 0",
            |f| put64(f.main(), 56, 0),
            "directory-past-end",
            "grain directory",
        ),
        row(
            "directory past the end",
            |f| put64(f.main(), 56, 1 << 40),
            "directory-past-end",
            "grain directory",
        ),
        row(
            "directory in the descriptor",
            |f| put64(f.main(), 56, 2),
            "metadata-overlap",
            "grain directory",
        ),
        row(
            "no redundant directory",
            |f| put64(f.main(), 48, 0),
            "redundant-missing",
            "redundant grain tables",
        )
        .warning(),
        row(
            "redundant directory past the end",
            |f| put64(f.main(), 48, 1 << 40),
            "directory-past-end",
            "redundant grain directory",
        )
        .warning(),
        row(
            "overhead too large",
            |f| put64(f.main(), 64, (FIRST + GRAIN) as u64 / 512),
            "overhead",
            "grain table 0, entry 0",
        )
        .warning(),
        row(
            "overhead not where grains begin",
            |f| put64(f.main(), 64, FIRST as u64 / 512 - 1),
            "grain-misaligned",
            "grain table 0, entry 0",
        )
        .warning(),
        row(
            "not closed",
            |f| f.main()[72] = 1,
            "unclean-shutdown",
            "header",
        )
        .warning()
        .repairs(),
        row(
            "not closed, and a grain is lost",
            |f| {
                f.main()[72] = 1;
                for directory in [COPY, DIRECTORY] {
                    put32(f.main(), table(directory, 0), 1 << 30);
                }
            },
            "unclean-shutdown",
            "header",
        )
        .warning(),
        row(
            "newline bytes flipped",
            |f| f.main()[74] = b'!',
            "newlines",
            "header",
        )
        .repairs(),
        row(
            "newlines of a text-mode transfer",
            |f| put(f.main(), 73, b"\r\n \r"),
            "newlines",
            "header",
        ),
    ]
}
