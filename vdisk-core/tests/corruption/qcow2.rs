//! qcow2: header, refcounts, L1 and L2 tables, clusters, some of them compressed.

#[allow(dead_code, reason = "the tests of the format use all of it")]
#[path = "../qcow2/builder.rs"]
mod builder;

use super::table::{Files, Image, put, row};
use builder::{Cluster, Is, Shape};

const REFCOUNTS: usize = 512;
const L1: usize = 1024;
const L2: usize = 1536;
const DATA: usize = 2048;

fn put_be(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, &value.to_be_bytes());
}

/// Where the refcount of the cluster at `at` is: the block is the last cluster.
fn refcount(at: usize) -> usize {
    plain().main().len() - 512 + at / 512 * 2
}

/// Four clusters of 512 bytes: data, compressed, zero, absent.
fn plain() -> Files {
    Files::one("disk.qcow2", Shape::sample(3).build().0)
}

/// Two clusters of 16 KiB with 32 subclusters; the L2 table is at 49152, the data follow.
fn extended() -> Files {
    let mut parts = vec![Is::Zero; 32];
    parts[3] = Is::Data;
    let shape = Shape {
        cluster_bits: 14,
        sectors: 64,
        clusters: vec![Cluster::Plain(Is::Data, false), Cluster::Parts(parts)],
        extended: true,
        ..Shape::sample(3)
    };
    Files::one("disk.qcow2", shape.build().0)
}

/// As `plain`, with clusters of 16 KiB; the L2 table is at 49152.
fn large() -> Files {
    let shape = Shape {
        cluster_bits: 14,
        sectors: 128,
        ..Shape::sample(3)
    };
    Files::one("disk.qcow2", shape.build().0)
}

fn external() -> Files {
    let shape = Shape {
        clusters: vec![Cluster::Plain(Is::Data, false); 4],
        external: true,
        ..Shape::sample(3)
    };
    let (image, data) = shape.build();
    Files::one("disk.qcow2", image).and("disk.data", data)
}

pub(crate) fn images() -> Vec<Image> {
    const ENTRY: &str = "L2 table 0, entry 0";
    vec![
        Image {
            name: "qcow2",
            build: plain,
            rows: vec![
                row("dirty", |f| f.main()[79] |= 1, "dirty", "header").warning(),
                row(
                    "marked corrupt",
                    |f| f.main()[79] |= 2,
                    "marked-corrupt",
                    "header",
                )
                .warning(),
                row(
                    "internal snapshots",
                    |f| f.main()[63] = 2,
                    "snapshots",
                    "internal snapshots",
                )
                .note(),
                row(
                    "no refcounts",
                    |f| f.main()[56..60].fill(0),
                    "refcounts",
                    "refcount table",
                )
                .warning(),
                row(
                    "a refcount block outside",
                    |f| put_be(f.main(), REFCOUNTS + 8, 1 << 40),
                    "refcounts",
                    "refcount table",
                )
                .warning(),
                row(
                    "a refcount block in the L1 table",
                    |f| put_be(f.main(), REFCOUNTS, L1 as u64),
                    "overlap",
                    "refcount block",
                ),
                row(
                    "the L1 table is the refcount table",
                    |f| put_be(f.main(), 48, L1 as u64),
                    "overlap",
                    "refcount table",
                ),
                row(
                    "an L2 table outside",
                    |f| put_be(f.main(), L1, 1 << 40),
                    "bad-entry",
                    "L1 table, entry 0",
                ),
                row(
                    "an L2 table that is the refcount table",
                    |f| put_be(f.main(), L1, REFCOUNTS as u64),
                    "overlap",
                    "L1 table, entry 0",
                ),
                row(
                    "a cluster outside",
                    |f| put_be(f.main(), L2, 1 << 40),
                    "past-end",
                    ENTRY,
                ),
                row(
                    "a cluster that is the L2 table",
                    |f| put_be(f.main(), L2, L2 as u64),
                    "overlap",
                    ENTRY,
                ),
                row(
                    "a zeroed cluster with the place of another",
                    |f| put_be(f.main(), L2 + 16, DATA as u64 | 1),
                    "overlap",
                    "L2 table 0, entry 2",
                ),
                row(
                    "two clusters in one place",
                    |f| put_be(f.main(), L2 + 24, DATA as u64),
                    "overlap",
                    "L2 table 0, entry 3",
                ),
                row(
                    "two compressed clusters in one place",
                    |f| {
                        let entry = f.main()[L2 + 8..L2 + 16].to_vec();
                        put(f.main(), L2 + 24, &entry);
                    },
                    "overlap",
                    "L2 table 0, entry 3",
                ),
                row(
                    "a compressed cluster outside",
                    |f| put_be(f.main(), L2 + 8, 1 << 62 | 1 << 40),
                    "bad-entry",
                    "L2 table 0, entry 1",
                ),
                row(
                    "a compressed cluster of rubbish",
                    |f| f.main()[DATA + 562..].fill(0xff),
                    "unreadable",
                    "cluster 1",
                )
                .deep(),
                row(
                    "no refcount of a cluster",
                    |f| put(f.main(), refcount(DATA), &[0, 0]),
                    "refcount-zero",
                    ENTRY,
                )
                .warning(),
                row(
                    "no refcount of the header",
                    |f| put(f.main(), refcount(0), &[0, 0]),
                    "refcount-zero",
                    "header",
                )
                .warning(),
                row(
                    "no refcount of the compressed cluster",
                    |f| put(f.main(), refcount(DATA + 512), &[0, 0]),
                    "refcount-zero",
                    "L2 table 0, entry 1",
                )
                .warning(),
                row(
                    "no refcount of the L2 table",
                    |f| put(f.main(), refcount(L2), &[0, 0]),
                    "refcount-zero",
                    "L2 table 0",
                )
                .warning(),
                row(
                    "no refcount block",
                    |f| put_be(f.main(), REFCOUNTS, 0),
                    "refcount-zero",
                    "header",
                )
                .warning(),
                row(
                    "refcounts of 2^7 bits",
                    |f| f.main()[99] = 7,
                    "refcounts",
                    "refcounts",
                )
                .warning(),
                row(
                    "a cluster used once by its flag, twice by its refcount",
                    |f| put(f.main(), refcount(DATA), &[0, 2]),
                    "copied-flag",
                    ENTRY,
                )
                .warning(),
                row(
                    "a cluster used once without the flag",
                    |f| f.main()[L2] &= 0x7f,
                    "copied-flag",
                    ENTRY,
                )
                .warning(),
                row(
                    "an L2 table used once without the flag",
                    |f| f.main()[L1] &= 0x7f,
                    "copied-flag",
                    "L1 table, entry 0",
                )
                .warning(),
                row(
                    "a compressed cluster with the flag",
                    |f| f.main()[L2 + 8] |= 0x80,
                    "copied-flag",
                    "L2 table 0, entry 1",
                )
                .warning(),
                row(
                    "reserved bits of an L1 entry",
                    |f| f.main()[L1 + 7] |= 1,
                    "reserved-bits",
                    "L1 table, entry 0",
                )
                .warning(),
                row(
                    "reserved bits of an L2 entry",
                    |f| f.main()[L2] |= 0x20,
                    "reserved-bits",
                    ENTRY,
                )
                .warning(),
                row(
                    "the length of a backing file's name, but no name",
                    |f| f.main()[19] = 9,
                    "backing-lost",
                    "header",
                )
                .warning(),
                row(
                    "the format of a backing file, but no name",
                    |f| {
                        let known = 0x1234_5678_u32.to_be_bytes();
                        let at = f.main().windows(4).position(|w| w == known).unwrap();
                        put(f.main(), at, &0xe279_2aca_u32.to_be_bytes());
                    },
                    "backing-lost",
                    "header",
                )
                .warning(),
                row(
                    "a feature of the future",
                    |f| f.main()[78] = 1,
                    "unreadable",
                    "header",
                ),
            ],
        },
        Image {
            name: "qcow2 with subclusters",
            build: extended,
            rows: vec![
                row(
                    "a subcluster that is zero and stored",
                    |f| put_be(f.main(), 49152 + 8, 1 << 32 | 1),
                    "bad-entry",
                    ENTRY,
                ),
                row(
                    "reserved bit 0",
                    |f| f.main()[49152 + 7] |= 1,
                    "reserved-bits",
                    ENTRY,
                )
                .warning(),
                row(
                    "inside a cluster",
                    |f| put_be(f.main(), 49152, 65536 + 512),
                    "bad-entry",
                    ENTRY,
                ),
                row(
                    "stored nowhere",
                    |f| put_be(f.main(), 49152 + 16, 0),
                    "bad-entry",
                    "L2 table 0, entry 1",
                ),
            ],
        },
        Image {
            name: "qcow2 with large clusters",
            build: large,
            rows: vec![
                row(
                    "zeros that keep a place inside a cluster",
                    |f| put_be(f.main(), (3 << 14) + 16, (4 << 14) + 512 + 1),
                    "zero-place",
                    "L2 table 0, entry 2",
                )
                .warning(),
            ],
        },
        Image {
            name: "qcow2 with a data file",
            build: external,
            rows: vec![
                row(
                    "a data file cut short",
                    |f| f.file("disk.data").truncate(1999),
                    "past-end",
                    "L2 table 0, entry 3",
                )
                .in_file("disk.data"),
                row(
                    "a data file that is not there",
                    |f| f.remove("disk.data"),
                    "unreadable",
                    "extent",
                ),
                row(
                    "two clusters in one place",
                    |f| put_be(f.main(), L2 + 24, 1 << 63),
                    "overlap",
                    "L2 table 0, entry 3",
                ),
            ],
        },
    ]
}
