//! What a count found, as the figures of a report. Estimates are kept within what is known exactly.

use super::{
    groups::Groups,
    report::{
        Chunks, Compression, FarmReport, GroupRow, Guarantee, ImageRow, Method, Misaligned, Ratios,
        References, Sample, Steps, Sweep, Totals,
    },
};
use crate::farm::{Farm, Image};
use std::collections::HashMap;
use vdisk_core::ops::dedup::{Counts, ImageCounts, Outcome};

/// Blocks that a sample must have for the rule by which its error is computed. With fewer, the
/// error is that of so many: if none was found, up to 3.7 can have been missed (95 %, Poisson).
const LEAST_SAMPLE: u64 = 4;

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
        FarmReport {
            schema: 2,
            complete: farm.errors.is_empty(),
            block_size: self.block_size,
            sample: self.sample(),
            groups: self.groups(),
            total: Totals {
                once_bytes: outcome.total.once.min(self.unique(outcome.total)),
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
            errors_seen: false,
            skipped: farm.skipped,
            method: Method {
                program: concat!("vdisk ", env!("CARGO_PKG_VERSION")).to_owned(),
                host: Farm::host(),
                paths: Vec::new(),
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
            let distinct = self.within(c.distinct, c.data);
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

    fn groups(&self) -> Vec<GroupRow> {
        // A farm can have as many groups as images.
        let mut members: HashMap<&str, Vec<&Image>> = HashMap::new();
        for image in self.counted() {
            if let Some(name) = self.groups.name(image.node) {
                members.entry(name).or_default().push(image);
            }
        }
        let names = self.groups.names.iter().zip(&self.outcome.groups);
        names
            .filter_map(|(name, counts)| {
                let members = members.get(name.as_str())?;
                let allocated = self.farm.stored(members.iter().copied());
                Some(GroupRow {
                    name: name.clone(),
                    images: members.len(),
                    steps: self.steps(*counts, allocated),
                })
            })
            .collect()
    }

    fn steps(&self, counts: Counts, allocated: u64) -> Steps {
        let unique = self.unique(counts);
        // Of what nobody knows, nobody knows what is left after compression.
        let ratio = self.outcome.compression.filter(|_| !self.is_blind());
        let compressed = ratio.map(|c| scaled(unique, c.ratio));
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
                let unique = self.unique(size.counts);
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
        let unique = self.within(chunks.unique, chunks.data);
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
        let error = self.sample().map_or(0, |sample| sample.unique_error_bytes);
        let most = self.unique(total).saturating_add(error).min(total.data);
        let saving = percent(total.data.saturating_sub(most), total.data);
        Guarantee {
            wanted_percent: wanted,
            saving_percent: saving,
            met: saving >= wanted && !self.is_blind(),
        }
    }

    fn sample(&self) -> Option<Sample> {
        let sampled = self.outcome.sampled;
        let one_in = 1u64 << sampled.bits;
        let least = match self.is_blind() {
            true => u64::MAX,
            false => self.block_size.saturating_mul(LEAST_SAMPLE * one_in),
        };
        (sampled.bits > 0).then(|| Sample {
            one_in,
            distinct_bytes: self.outcome.total.unique >> sampled.bits,
            unique_error_bytes: sampled.unique_error.max(least).min(self.outcome.total.data),
        })
    }

    /// No block of all the data is in the sample.
    fn is_blind(&self) -> bool {
        let total = self.outcome.total;
        self.outcome.sampled.bits > 0 && total.data > 0 && total.unique == 0
    }

    /// The distinct blocks of `counts`: an estimate can be more than all data, or nothing of it.
    fn unique(&self, counts: Counts) -> u64 {
        self.within(counts.unique, counts.data)
    }

    /// An exact figure as it is; the estimate of a sample at most `all`. What the sample has nothing
    /// of is one block of the sample; all, if the sample has nothing at all.
    fn within(&self, figure: u64, all: u64) -> u64 {
        match (self.outcome.sampled.bits, figure) {
            (0, figure) => figure,
            (_, 0) if self.is_blind() => all,
            (bits, 0) => self.block_size.saturating_mul(1 << bits).min(all),
            (_, figure) => figure.min(all),
        }
    }
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

/// `bytes` times `ratio`.
fn scaled(bytes: u64, ratio: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates"
    )]
    let product = (bytes as f64 * ratio).round() as u64;
    product.min(bytes)
}
