//! What the report says: one structure for JSON, the table, CSV and the page. All sizes are bytes.

pub(crate) use super::pairs::{Pair, Pairs};
use crate::farm::Trouble;
use serde::Serialize;

/// The whole report. Documented in `docs/dedup-report.md`, with a JSON schema beside it.
#[derive(Serialize)]
pub(crate) struct FarmReport {
    pub(crate) schema: u32,
    /// False if images could not be read: all figures are about the others.
    pub(crate) complete: bool,
    pub(crate) block_size: u64,
    /// None if all blocks were counted.
    pub(crate) sample: Option<Sample>,
    pub(crate) images: Vec<ImageRow>,
    /// With `--group-by`.
    pub(crate) groups: Vec<GroupRow>,
    pub(crate) total: Totals,
    /// Only pairs that share something; `None` if they were left out for want of memory.
    pub(crate) pairs: Option<Pairs>,
    pub(crate) clusters: Vec<Cluster>,
    /// How often distinct blocks occur.
    pub(crate) references: Vec<References>,
    /// With `--sweep`.
    pub(crate) sweep: Vec<Sweep>,
    /// With `--cdc`.
    pub(crate) chunks: Option<Chunks>,
    /// Images whose partitions do not start at a multiple of the block size.
    pub(crate) misaligned: Vec<Misaligned>,
    /// With `--alignment`.
    pub(crate) alignment: Option<Alignment>,
    pub(crate) compression: Option<Compression>,
    /// With `--guarantee`.
    pub(crate) guarantee: Option<Guarantee>,
    pub(crate) errors: Vec<Trouble>,
    /// The reader of the text has seen the errors as warnings.
    #[serde(skip)]
    pub(crate) errors_seen: bool,
    /// Files in folders that are no images.
    pub(crate) skipped: u64,
    pub(crate) method: Method,
}

impl FarmReport {
    /// The sample has no block, though there is data: nothing is known of duplicates.
    pub(crate) fn is_blind(&self) -> bool {
        let none = |sample: &Sample| sample.distinct_bytes == 0;
        self.total.steps.data_bytes > 0 && self.sample.as_ref().is_some_and(none)
    }
}

/// The steps from what the guests see to what a medium that deduplicates would hold.
#[derive(Serialize, Clone, Default)]
pub(crate) struct Steps {
    pub(crate) total_bytes: u64,
    /// On the medium now: of an image without its parents; of a group or all with them, each file once.
    pub(crate) allocated_bytes: u64,
    pub(crate) zero_bytes: u64,
    pub(crate) data_bytes: u64,
    /// Each distinct block of this image, group or farm once.
    pub(crate) unique_bytes: u64,
    pub(crate) duplicate_bytes: u64,
    /// An estimate: `unique_bytes` after deflate.
    pub(crate) compressed_bytes: Option<u64>,
    /// `duplicate_bytes` of `data_bytes`.
    pub(crate) saving_percent: f64,
    pub(crate) ratios: Ratios,
}

/// Each how many times smaller; 1 where there is nothing to divide, or to divide by.
#[derive(Serialize, Clone, Default)]
pub(crate) struct Ratios {
    /// total / allocated.
    pub(crate) thin: f64,
    /// total / data.
    pub(crate) zero: f64,
    /// data / unique.
    pub(crate) dedup: f64,
    /// unique / compressed.
    pub(crate) compression: Option<f64>,
    /// total / compressed, or total / unique.
    pub(crate) total: f64,
}

#[derive(Serialize)]
pub(crate) struct Totals {
    #[serde(flatten)]
    pub(crate) steps: Steps,
    /// In blocks that occur exactly once.
    pub(crate) once_bytes: u64,
}

#[derive(Serialize)]
pub(crate) struct ImageRow {
    pub(crate) path: String,
    pub(crate) format: String,
    pub(crate) layers: u32,
    pub(crate) group: Option<String>,
    #[serde(flatten)]
    pub(crate) steps: Steps,
    pub(crate) distinct_bytes: u64,
    pub(crate) internal_duplicate_bytes: u64,
    /// What deleting it would free of a deduplicated farm.
    pub(crate) exclusive_bytes: u64,
    pub(crate) shared_bytes: u64,
}

#[derive(Serialize)]
pub(crate) struct GroupRow {
    pub(crate) name: String,
    pub(crate) images: usize,
    #[serde(flatten)]
    pub(crate) steps: Steps,
}

/// Full disks that could be thin children of one of them.
#[derive(Serialize)]
pub(crate) struct Cluster {
    pub(crate) base: String,
    pub(crate) members: Vec<String>,
    /// Of the members' data in 64 KiB blocks, what the base has at the same positions.
    pub(crate) shared_percent: f64,
    /// About.
    pub(crate) frees_bytes: u64,
    /// What to run.
    pub(crate) commands: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct References {
    /// Blocks that occur so often, or more ...
    pub(crate) from: u64,
    /// ... up to so often.
    pub(crate) to: u64,
    /// How many distinct blocks.
    pub(crate) blocks: u64,
    pub(crate) unique_bytes: u64,
    pub(crate) data_bytes: u64,
}

#[derive(Serialize)]
pub(crate) struct Sweep {
    pub(crate) block_size: u64,
    pub(crate) zero_bytes: u64,
    pub(crate) data_bytes: u64,
    pub(crate) unique_bytes: u64,
    pub(crate) duplicate_bytes: u64,
    /// Of the data at this block size.
    pub(crate) saving_percent: f64,
    /// Distinct blocks: entries of an index.
    pub(crate) blocks: u64,
}

#[derive(Serialize)]
pub(crate) struct Chunks {
    /// Wanted.
    pub(crate) average_size: u32,
    pub(crate) chunks: u64,
    pub(crate) data_bytes: u64,
    pub(crate) unique_bytes: u64,
    pub(crate) saving_percent: f64,
}

#[derive(Serialize)]
pub(crate) struct Misaligned {
    pub(crate) path: String,
    /// First byte of a partition.
    pub(crate) start: u64,
    /// The same modulo the block size.
    pub(crate) off_by: u64,
}

#[derive(Serialize)]
pub(crate) struct Alignment {
    /// Images cut anew.
    pub(crate) images: usize,
    /// If blocks are cut from the start of the largest partition.
    pub(crate) unique_bytes: u64,
    pub(crate) saving_percent: f64,
}

#[derive(Serialize)]
pub(crate) struct Compression {
    /// Units in the sample.
    pub(crate) sampled_blocks: u64,
    /// Compressed of plain.
    pub(crate) ratio: f64,
    /// Of the ratio: half of the 95 % confidence interval.
    pub(crate) error: f64,
}

#[derive(Serialize)]
pub(crate) struct Sample {
    /// One in so many blocks was counted.
    pub(crate) one_in: u64,
    /// Distinct data in the sample itself. If there is none, though there is data, nothing is
    /// known, and `unique_bytes` is all of it.
    pub(crate) distinct_bytes: u64,
    /// Half of the 95 % confidence interval of the farm's `unique_bytes`.
    pub(crate) unique_error_bytes: u64,
}

/// What is said of a sample that says nothing.
pub(crate) const NO_BLOCK: &str = "the sample has no block: take a larger one";

#[derive(Serialize)]
pub(crate) struct Guarantee {
    pub(crate) wanted_percent: f64,
    /// The saving; of a sample, what it is at least.
    pub(crate) saving_percent: f64,
    pub(crate) met: bool,
}

/// How the figures came about.
#[derive(Serialize)]
pub(crate) struct Method {
    pub(crate) program: String,
    /// The machine that made the report.
    pub(crate) host: String,
    /// What it is about, as the user named it: images and folders, or folders of fingerprints.
    pub(crate) paths: Vec<String>,
    pub(crate) hash: &'static str,
    /// Size of the blocks that were hashed; larger ones are hashes of those.
    pub(crate) unit: u64,
    pub(crate) memory_bytes: u64,
    /// Written to temporary files.
    pub(crate) spilled_bytes: u64,
}
