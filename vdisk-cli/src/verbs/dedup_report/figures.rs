//! What a count found, as the figures of a report. Estimates are kept within what is known exactly.

use super::{
    groups::Groups,
    report::{
        Chunks, Compression, FarmReport, GroupRow, Guarantee, ImageRow, Method, Misaligned, Pair,
        Pairs, Ratios, References, Sample, Steps, Sweep, Totals,
    },
};
use crate::farm::{Farm, Image};
use vdisk_core::ops::dedup::{Counts, ImageCounts, Outcome};

/// What was counted, and with what.
pub(super) struct Counted<'a> {
    pub(super) farm: &'a Farm,
    pub(super) outcome: &'a Outcome,
    pub(super) groups: &'a Groups,
    pub(super) block_size: u64,
    pub(super) memory: u64,
    /// Average size of chunks in bytes, if there are any.
    pub(super) chunk: Option<u32>,
    /// The other block sizes were asked for.
    pub(super) sweep: bool,
    pub(super) guarantee: Option<f64>,
}

impl Counted<'_> {
    /// The report, without clusters and without what another alignment would save.
    pub(super) fn report(&self) -> FarmReport {
        let (farm, outcome) = (self.farm, self.outcome);
        let images: Vec<ImageRow> = self.images();
        let sampled = outcome.sampled;
        FarmReport {
            schema: 2,
            complete: farm.errors.is_empty(),
            block_size: self.block_size,
            sample: (sampled.bits > 0).then(|| Sample {
                one_in: 1 << sampled.bits,
                unique_error_bytes: sampled.unique_error,
            }),
            groups: self.groups(&images),
            total: Totals {
                once_bytes: outcome.total.once.min(unique(outcome.total)),
                steps: self.steps(outcome.total, farm.stored(self.counted())),
            },
            pairs: self.pairs(&images),
            clusters: Vec::new(),
            references: self.references(),
            sweep: match self.sweep {
                true => self.sweep(),
                false => Vec::new(),
            },
            chunks: self.chunks(),
            misaligned: self.misaligned(),
            alignment: None,
            compression: outcome.compression.map(|c| Compression {
                sampled_blocks: c.units,
                ratio: c.ratio,
                error: c.error,
            }),
            guarantee: self.guarantee.map(|wanted| self.guaranteed(wanted)),
            errors: farm.errors.clone(),
            skipped: farm.skipped,
            method: Method {
                program: concat!("vdisk ", env!("CARGO_PKG_VERSION")).to_owned(),
                hash: "SHA-256, first 128 bits",
                unit: farm.unit,
                memory_bytes: self.memory,
                spilled_bytes: outcome.spilled,
            },
            images,
        }
    }

    /// The counts of the image of `node`, if it was counted.
    fn of_image(&self, node: usize) -> Option<ImageCounts> {
        let counts = *self.outcome.images.get(node)?;
        counts.map(|c| {
            let distinct = within(c.distinct, c.data);
            let exclusive = c.exclusive.min(distinct);
            ImageCounts {
                distinct,
                internal_duplicate: c.data.saturating_sub(distinct),
                exclusive,
                shared: distinct.saturating_sub(exclusive),
                ..c
            }
        })
    }

    /// The images that were counted, in their order.
    fn counted(&self) -> impl Iterator<Item = &Image> {
        let counted = |node: usize| matches!(self.outcome.images.get(node), Some(Some(_)));
        let images = self.farm.images.iter();
        images.filter(move |image| counted(image.node))
    }

    /// By number of its row: the node of each image that was counted.
    pub(super) fn nodes(&self) -> Vec<usize> {
        self.counted().map(|image| image.node).collect()
    }

    fn images(&self) -> Vec<ImageRow> {
        let row = |image: &Image| {
            let counts = self.of_image(image.node)?;
            let all = Counts {
                total: counts.total,
                zero: counts.zero,
                data: counts.data,
                unique: counts.distinct,
                ..Counts::default()
            };
            Some(ImageRow {
                path: image.name.clone(),
                format: image.format.clone(),
                layers: image.layers,
                group: self.groups.name(image.node).map(str::to_owned),
                steps: self.steps(all, image.allocated),
                distinct_bytes: counts.distinct,
                internal_duplicate_bytes: counts.internal_duplicate,
                exclusive_bytes: counts.exclusive,
                shared_bytes: counts.shared,
            })
        };
        self.farm.images.iter().filter_map(row).collect()
    }

    fn groups(&self, images: &[ImageRow]) -> Vec<GroupRow> {
        let names = self.groups.names.iter().zip(&self.outcome.groups);
        names
            .map(|(name, counts)| {
                let of_group = |i: &&Image| self.groups.name(i.node) == Some(name);
                let allocated = self.farm.stored(self.counted().filter(of_group));
                let members = images.iter().filter(|i| i.group.as_ref() == Some(name));
                GroupRow {
                    name: name.clone(),
                    images: members.count(),
                    steps: self.steps(*counts, allocated),
                }
            })
            .filter(|group| group.images > 0)
            .collect()
    }

    fn steps(&self, counts: Counts, allocated: u64) -> Steps {
        let unique = unique(counts);
        let compressed = self.outcome.compression.map(|c| scaled(unique, c.ratio));
        let duplicate = counts.data.saturating_sub(unique);
        Steps {
            total_bytes: counts.total,
            allocated_bytes: allocated,
            zero_bytes: counts.zero,
            data_bytes: counts.data,
            unique_bytes: unique,
            duplicate_bytes: duplicate,
            compressed_bytes: compressed,
            saving_percent: percent(duplicate, counts.data),
            ratios: Ratios {
                thin: times(counts.total, allocated),
                zero: times(counts.total, counts.data),
                dedup: times(counts.data, unique),
                compression: compressed.map(|c| times(unique, c)),
                total: times(counts.total, compressed.unwrap_or(unique)),
            },
        }
    }

    fn pairs(&self, images: &[ImageRow]) -> Option<Pairs> {
        let pairs = self.outcome.pairs.as_ref()?;
        let nodes = self.nodes();
        let found = || {
            let rows = (0u32..).zip(&nodes);
            rows.clone().flat_map(move |(a, first)| {
                let others = rows.clone().skip(a as usize + 1);
                others.filter_map(move |(b, second)| {
                    let shared_bytes = pairs.get(*first, *second).filter(|bytes| *bytes > 0)?;
                    Some(Pair { a, b, shared_bytes })
                })
            })
        };
        // There can be millions: counted first, so that the list does not double while it grows.
        let mut list = Vec::with_capacity(found().count());
        list.extend(found().map(|pair| {
            let shared = |row: u32| images.get(row as usize).map_or(0, |i| i.shared_bytes);
            let most = shared(pair.a).min(shared(pair.b));
            Pair {
                shared_bytes: pair.shared_bytes.min(most),
                ..pair
            }
        }));
        Some(Pairs {
            paths: images.iter().map(|i| i.path.clone()).collect(),
            list,
        })
    }

    fn references(&self) -> Vec<References> {
        let refs = self.outcome.refs.iter();
        refs.map(|r| References {
            from: r.from,
            to: r.from.saturating_mul(2).saturating_sub(1),
            blocks: r.blocks,
            unique_bytes: r.unique,
            data_bytes: r.data,
        })
        .collect()
    }

    fn sweep(&self) -> Vec<Sweep> {
        let sizes = self.outcome.sizes.iter();
        sizes
            .map(|size| {
                let unique = unique(size.counts);
                let duplicate = size.counts.data.saturating_sub(unique);
                Sweep {
                    block_size: size.block,
                    zero_bytes: size.counts.zero,
                    data_bytes: size.counts.data,
                    unique_bytes: unique,
                    duplicate_bytes: duplicate,
                    saving_percent: percent(duplicate, size.counts.data),
                    blocks: size.blocks,
                }
            })
            .collect()
    }

    fn chunks(&self) -> Option<Chunks> {
        let (chunks, average_size) = (self.outcome.chunks?, self.chunk?);
        let unique = within(chunks.unique, chunks.data);
        Some(Chunks {
            average_size,
            chunks: chunks.chunks,
            data_bytes: chunks.data,
            unique_bytes: unique,
            saving_percent: percent(chunks.data.saturating_sub(unique), chunks.data),
        })
    }

    fn misaligned(&self) -> Vec<Misaligned> {
        self.counted()
            .flat_map(|image| {
                let starts = image.partitions.iter();
                starts.filter_map(|start| {
                    let off_by = start.checked_rem(self.block_size)?;
                    (off_by > 0).then(|| Misaligned {
                        path: image.name.clone(),
                        start: *start,
                        off_by,
                    })
                })
            })
            .collect()
    }

    fn guaranteed(&self, wanted: f64) -> Guarantee {
        let total = self.outcome.total;
        let error = match self.outcome.sampled.bits {
            0 => 0,
            _ => self.outcome.sampled.unique_error,
        };
        let most = unique(total).saturating_add(error).min(total.data);
        let saving = percent(total.data.saturating_sub(most), total.data);
        Guarantee {
            wanted_percent: wanted,
            saving_percent: saving,
            met: saving >= wanted,
        }
    }
}

/// The distinct blocks of `counts`: an estimate can be more than all data, or nothing of it.
fn unique(counts: Counts) -> u64 {
    within(counts.unique, counts.data)
}

/// `estimate`, but at most `all`, and not nothing unless `all` is.
fn within(estimate: u64, all: u64) -> u64 {
    estimate.max(1).min(all)
}

/// `part` of `whole` in percent; 0 of nothing.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 * 100.0 / whole as f64,
    }
}

/// How many times smaller `to` is than `from`; 1 if either is nothing.
fn times(from: u64, to: u64) -> f64 {
    match (from, to) {
        (0, _) | (_, 0) => 1.0,
        (from, to) => from as f64 / to as f64,
    }
}

/// `bytes` times `ratio`, but not more than `bytes`, and not nothing.
fn scaled(bytes: u64, ratio: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates"
    )]
    let product = (bytes as f64 * ratio).round() as u64;
    within(product, bytes)
}
