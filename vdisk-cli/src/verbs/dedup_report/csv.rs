//! The images as CSV: one row each, for spreadsheets and databases. Sizes are bytes.

use super::report::{FarmReport, ImageRow};
use serde::Serialize;
use vdisk_core::{Error, Result};

/// A row. Names are those of the JSON report.
#[derive(Serialize)]
struct Row<'a> {
    path: &'a str,
    format: &'a str,
    layers: u32,
    group: Option<&'a str>,
    total_bytes: u64,
    allocated_bytes: u64,
    zero_bytes: u64,
    data_bytes: u64,
    distinct_bytes: u64,
    internal_duplicate_bytes: u64,
    exclusive_bytes: u64,
    shared_bytes: u64,
    compressed_bytes: Option<u64>,
    saving_percent: f64,
}

impl<'a> From<&'a ImageRow> for Row<'a> {
    fn from(image: &'a ImageRow) -> Self {
        Self {
            path: &image.path,
            format: &image.format,
            layers: image.layers,
            group: image.group.as_deref(),
            total_bytes: image.steps.total_bytes,
            allocated_bytes: image.steps.allocated_bytes,
            zero_bytes: image.steps.zero_bytes,
            data_bytes: image.steps.data_bytes,
            distinct_bytes: image.distinct_bytes,
            internal_duplicate_bytes: image.internal_duplicate_bytes,
            exclusive_bytes: image.exclusive_bytes,
            shared_bytes: image.shared_bytes,
            compressed_bytes: image.steps.compressed_bytes,
            saving_percent: image.steps.saving_percent,
        }
    }
}

/// The columns, for a report without images.
const HEADER: [&str; 14] = [
    "path",
    "format",
    "layers",
    "group",
    "total_bytes",
    "allocated_bytes",
    "zero_bytes",
    "data_bytes",
    "distinct_bytes",
    "internal_duplicate_bytes",
    "exclusive_bytes",
    "shared_bytes",
    "compressed_bytes",
    "saving_percent",
];

/// The file's contents.
pub(super) fn table(report: &FarmReport) -> Result<Vec<u8>> {
    let failed = |e: csv::Error| Error::io("CSV", e.into());
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    writer.write_record(HEADER).map_err(failed)?;
    for image in &report.images {
        writer.serialize(Row::from(image)).map_err(failed)?;
    }
    writer
        .into_inner()
        .map_err(|e| Error::io("CSV", e.into_error()))
}
