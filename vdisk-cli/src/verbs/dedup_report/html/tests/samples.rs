//! Reports made by hand, whose figures agree with each other as those of a count do.

use super::super::scale::scaled;
use crate::{
    farm::Trouble,
    verbs::dedup_report::report::{
        Alignment, Chunks, Cluster, Compression, FarmReport, GroupRow, Guarantee, ImageRow, Method,
        Misaligned, Pair, Pairs, Ratios, References, Sample, Steps, Sweep, Totals,
    },
};

pub(super) const GIB: u64 = 1 << 30;

/// The steps of these figures, compressed to 6/10.
pub(super) fn steps(total: u64, allocated: u64, data: u64, unique: u64) -> Steps {
    let ratio = |a: u64, b: u64| if b == 0 { 1.0 } else { a as f64 / b as f64 };
    let compressed = unique / 10 * 6;
    Steps {
        total_bytes: total,
        allocated_bytes: allocated,
        zero_bytes: total - data,
        data_bytes: data,
        unique_bytes: unique,
        duplicate_bytes: data - unique,
        compressed_bytes: Some(compressed),
        saving_percent: if data == 0 {
            0.0
        } else {
            ratio(data - unique, data) * 100.0
        },
        ratios: Ratios {
            thin: ratio(total, allocated),
            zero: ratio(total, data),
            dedup: ratio(data, unique),
            compression: Some(ratio(unique, compressed)),
            total: ratio(total, compressed),
        },
    }
}

/// Nothing at all.
pub(super) fn empty() -> FarmReport {
    FarmReport {
        schema: 2,
        complete: true,
        block_size: 4096,
        sample: None,
        images: Vec::new(),
        groups: Vec::new(),
        total: Totals {
            steps: steps(0, 0, 0, 0),
            once_bytes: 0,
        },
        pairs: Some(Pairs {
            paths: Vec::new(),
            list: Vec::new(),
        }),
        clusters: Vec::new(),
        references: Vec::new(),
        sweep: Vec::new(),
        chunks: None,
        misaligned: Vec::new(),
        alignment: None,
        compression: None,
        guarantee: None,
        errors: Vec::new(),
        errors_seen: false,
        skipped: 0,
        method: Method {
            program: "vdisk 0.1.0".into(),
            host: "store".into(),
            paths: vec!["/srv/farm".into()],
            hash: "SHA-256, first 128 bits",
            unit: 4096,
            memory_bytes: GIB,
            spilled_bytes: 0,
        },
    }
}

fn image(path: String, total: u64, data: u64, distinct: u64, exclusive: u64) -> ImageRow {
    ImageRow {
        path,
        format: "vmdk".into(),
        layers: 1,
        group: None,
        steps: steps(total, data + data / 50, data, distinct),
        distinct_bytes: distinct,
        internal_duplicate_bytes: data - distinct,
        exclusive_bytes: exclusive,
        shared_bytes: distinct - exclusive,
    }
}

/// A farm of `count` images in families of different likeness, dealt in turn.
pub(super) fn farm(count: u64) -> FarmReport {
    let families = ["win10", "win11", "debian", "kiosk", "build"];
    let family = |i: u64| usize::try_from(i % 5).unwrap();
    let common = [22, 26, 4, 12, 2];
    let images: Vec<ImageRow> = (0..count)
        .map(|i| {
            let path = format!(
                "/srv/farm/{}/desk-{:04}/disk.vmdk",
                families[family(i)],
                i + 1
            );
            let own = GIB * (1 + i % 7) / 3;
            let distinct = common[family(i)] * GIB + own;
            image(path, 64 * GIB, distinct + 2 * GIB, distinct, own)
        })
        .collect();
    let mut pairs = Vec::new();
    for a in 0..count {
        for b in a + 1..count {
            let shared = match (family(a), family(b)) {
                (a, b) if a == b => common[a] * GIB,
                (0, 1) | (1, 0) => 9 * GIB,
                (3, 0 | 1) | (0 | 1, 3) => 3 * GIB,
                _ => GIB / 20,
            };
            pairs.push(Pair {
                a: u32::try_from(a).unwrap(),
                b: u32::try_from(b).unwrap(),
                shared_bytes: shared,
            });
        }
    }
    let sum = |of: fn(&ImageRow) -> u64| images.iter().map(of).sum::<u64>();
    let data = sum(|i| i.steps.data_bytes);
    let once = sum(|i| i.exclusive_bytes);
    let unique = (once + 66 * GIB).min(data);
    let references = references(once, unique, data, count);
    FarmReport {
        total: Totals {
            steps: steps(
                sum(|i| i.steps.total_bytes),
                sum(|i| i.steps.allocated_bytes),
                data,
                unique,
            ),
            once_bytes: once,
        },
        pairs: Some(Pairs {
            paths: images.iter().map(|i| i.path.clone()).collect(),
            list: pairs,
        }),
        images,
        references,
        compression: Some(Compression {
            sampled_blocks: 8192,
            ratio: 0.6,
            error: 0.04,
        }),
        ..empty()
    }
}

/// Ranges of occurrences that hold these bytes together.
fn references(once: u64, unique: u64, data: u64, count: u64) -> Vec<References> {
    let mut references = vec![References {
        from: 1,
        to: 1,
        blocks: once / 4096,
        unique_bytes: once,
        data_bytes: once,
    }];
    let ranges = (2 * count).ilog2();
    let (mut left_unique, mut left_data) = (unique - once, data - once);
    for power in 1..=ranges {
        let last = power == ranges;
        let unique = if last { left_unique } else { left_unique / 3 };
        let data = if last {
            left_data
        } else {
            (unique * (3 << power) / 2).min(left_data / 2)
        };
        left_unique -= unique;
        left_data -= data;
        references.push(References {
            from: 1 << power,
            to: (2 << power) - 1,
            blocks: unique / 4096,
            unique_bytes: unique,
            data_bytes: data,
        });
    }
    references
}

/// A farm with everything in the report that can be in it.
pub(super) fn everything(count: u64) -> FarmReport {
    let mut report = farm(count);
    let all = report.total.steps.clone();
    let sizes = [4, 8, 16, 32, 64, 128, 1024, 4096];
    report.sweep = sizes
        .iter()
        .zip([1.0, 0.985, 0.96, 0.92, 0.85, 0.77, 0.52, 0.38])
        .map(|(kib, factor)| {
            let saving_percent = all.saving_percent * factor;
            let unique_bytes = scaled(all.data_bytes, 1.0 - saving_percent / 100.0);
            Sweep {
                block_size: kib << 10,
                zero_bytes: all.zero_bytes,
                data_bytes: all.data_bytes,
                unique_bytes,
                duplicate_bytes: all.data_bytes - unique_bytes,
                saving_percent,
                blocks: unique_bytes / (kib << 10),
            }
        })
        .collect();
    report.chunks = Some(Chunks {
        average_size: 65536,
        chunks: 123_456,
        data_bytes: all.data_bytes,
        unique_bytes: all.unique_bytes,
        saving_percent: all.saving_percent * 0.93,
    });
    let family = |name: &str| -> Vec<String> {
        let paths = report.images.iter().map(|i| i.path.clone());
        paths.filter(|p| p.contains(name)).collect()
    };
    for name in ["win10", "win11"] {
        let mut members = family(name);
        let base = members.remove(0);
        report.clusters.push(Cluster {
            commands: members
                .iter()
                .map(|m| format!("vdisk split '{m}' --base '{base}' -o '{m}.thin.vmdk'"))
                .collect(),
            base,
            members,
            shared_percent: 92.4,
            frees_bytes: 310 * GIB,
        });
    }
    for name in ["win10", "win11", "debian", "kiosk", "build"] {
        let of: Vec<&ImageRow> = report
            .images
            .iter()
            .filter(|i| i.path.contains(name))
            .collect();
        let sum = |of_one: fn(&ImageRow) -> u64| of.iter().map(|i| of_one(i)).sum::<u64>();
        let data = sum(|i| i.steps.data_bytes);
        let unique = (sum(|i| i.exclusive_bytes) + 10 * GIB).min(data);
        report.groups.push(GroupRow {
            name: name.into(),
            images: of.len(),
            steps: steps(
                sum(|i| i.steps.total_bytes),
                sum(|i| i.steps.allocated_bytes),
                data,
                unique,
            ),
        });
    }
    report.misaligned = report.images[..2]
        .iter()
        .map(|i| Misaligned {
            path: i.path.clone(),
            start: 63 * 512,
            off_by: 63 * 512 % 4096,
        })
        .collect();
    report.alignment = Some(Alignment {
        images: 2,
        unique_bytes: all.unique_bytes - GIB,
        saving_percent: all.saving_percent + 0.7,
    });
    report.guarantee = Some(Guarantee {
        wanted_percent: 50.0,
        saving_percent: all.saving_percent,
        met: true,
    });
    report.method.spilled_bytes = 13 * GIB;
    report.skipped = 41;
    report
}

/// Some images could not be read, and one is called as no image should be.
pub(super) fn incomplete() -> FarmReport {
    let mut report = everything(12);
    report.complete = false;
    report.images[3].path = "/srv/farm/<script src=\"http://evil\">&'\u{202e}\u{7}".into();
    report.errors = (1..=8)
        .map(|i| Trouble {
            path: format!("/srv/farm/lost/desk-{i}.vmdk"),
            error:
                "grain table 7, entry 12: points past the end of the file (at file offset 0x300000)"
                    .into(),
        })
        .collect();
    report.guarantee = Some(Guarantee {
        wanted_percent: 95.0,
        saving_percent: 71.2,
        met: false,
    });
    report.pairs = None;
    report
}

/// One block in 64 was counted.
pub(super) fn sampled() -> FarmReport {
    let mut report = everything(40);
    let unique_error_bytes = report.total.steps.unique_bytes / 12;
    report.sample = Some(Sample {
        one_in: 64,
        distinct_bytes: report.total.steps.unique_bytes / 64,
        unique_error_bytes,
    });
    report
}

/// One image without data.
pub(super) fn zeros() -> FarmReport {
    let row = image("empty.vmdk".into(), 10 * GIB, 0, 0, 0);
    FarmReport {
        total: Totals {
            steps: row.steps.clone(),
            once_bytes: 0,
        },
        images: vec![row],
        ..empty()
    }
}

/// Numbers as large as they get, and one block of data.
pub(super) fn wide() -> FarmReport {
    let mut report = farm(2);
    report.total.steps = steps(u64::MAX, 4096, 4096 * 3, 4096);
    report.references = vec![
        References {
            from: 1,
            to: 1,
            blocks: 1,
            unique_bytes: 512,
            data_bytes: 512,
        },
        References {
            from: 1 << 63,
            to: u64::MAX,
            blocks: 1,
            unique_bytes: 1,
            data_bytes: u64::MAX,
        },
    ];
    report.total.steps.saving_percent = f64::NAN;
    report.total.steps.ratios.total = f64::INFINITY;
    report.compression = Some(Compression {
        sampled_blocks: 0,
        ratio: f64::NAN,
        error: f64::NAN,
    });
    report.sweep = vec![Sweep {
        block_size: 4096,
        zero_bytes: 0,
        data_bytes: 0,
        unique_bytes: 0,
        duplicate_bytes: 0,
        saving_percent: f64::NAN,
        blocks: 0,
    }];
    report
}
