//! The tables of the text view.

use super::{IMAGES, LARGEST, percent};
use crate::{
    size::human,
    verbs::dedup_report::report::{FarmReport, ImageRow, Steps},
};
use comfy_table::{CellAlignment, Table, TableStyle};
use std::cmp::Reverse;
use vdisk_core::printable;

impl FarmReport {
    /// From what the guests see to what would be left, each step with its ratio.
    pub(super) fn steps(&self) -> Table {
        let total = &self.total.steps;
        let ratios = &total.ratios;
        let mut table = table(["step", "size", "ratio"]);
        let mut row = |step: &str, size: String, ratio: Option<f64>| {
            table.add_row([step.to_owned(), size, ratio.map(times).unwrap_or_default()]);
        };
        row("virtual", human(total.total_bytes), None);
        row("without zeros", human(total.data_bytes), Some(ratios.zero));
        if !self.is_blind() {
            row(
                "each block once",
                human(total.unique_bytes),
                Some(ratios.dedup),
            );
        }
        if let Some(bytes) = total.compressed_bytes {
            row(
                "compressed",
                format!("~{}", human(bytes)),
                ratios.compression,
            );
        }
        row("in all", String::new(), Some(ratios.total));
        // No step between the others: it would spoil their product.
        row(
            "for comparison: stored now",
            human(total.allocated_bytes),
            Some(ratios.thin),
        );
        table
    }

    pub(super) fn image_table(&self) -> Table {
        let columns = [
            "image",
            "size",
            "stored",
            "data",
            "distinct",
            "exclusive",
            "shared",
        ];
        let mut table = table(columns);
        for image in self.shown() {
            let steps = &image.steps;
            let mut row = vec![printable(&image.path).into_owned()];
            row.extend([steps.total_bytes, steps.allocated_bytes, steps.data_bytes].map(human));
            row.extend(
                [
                    image.distinct_bytes,
                    image.exclusive_bytes,
                    image.shared_bytes,
                ]
                .map(|bytes| self.known(bytes)),
            );
            table.add_row(row);
        }
        let mut row = vec!["total".to_owned()];
        row.extend(self.sizes(&self.total.steps));
        table.add_row(row);
        table
    }

    /// A size that follows from duplicates.
    fn known(&self, bytes: u64) -> String {
        match self.is_blind() {
            true => "?".to_owned(),
            false => human(bytes),
        }
    }

    fn sizes(&self, steps: &Steps) -> [String; 4] {
        [
            human(steps.total_bytes),
            human(steps.allocated_bytes),
            human(steps.data_bytes),
            self.known(steps.unique_bytes),
        ]
    }

    /// The images of the table, in their order.
    fn shown(&self) -> Vec<&ImageRow> {
        let mut images: Vec<_> = self.images.iter().enumerate().collect();
        if images.len() > IMAGES {
            images.sort_by_key(|(_, image)| Reverse(image.exclusive_bytes));
            images.truncate(LARGEST);
            images.sort_by_key(|(number, _)| *number);
        }
        images.into_iter().map(|(_, image)| image).collect()
    }

    pub(super) fn group_table(&self) -> Table {
        let mut table = table([
            "group", "images", "size", "stored", "data", "distinct", "saving",
        ]);
        for group in &self.groups {
            let mut row = vec![
                printable(&group.name).into_owned(),
                group.images.to_string(),
            ];
            row.extend(self.sizes(&group.steps));
            row.push(match self.is_blind() {
                true => "?".to_owned(),
                false => percent(group.steps.saving_percent),
            });
            table.add_row(row);
        }
        table
    }

    pub(super) fn sweep_table(&self) -> Table {
        let mut table = table(["blocks of", "data", "distinct", "saving", "entries"]);
        for sweep in &self.sweep {
            table.add_row([
                human(sweep.block_size),
                human(sweep.data_bytes),
                human(sweep.unique_bytes),
                percent(sweep.saving_percent),
                sweep.blocks.to_string(),
            ]);
        }
        if let Some(chunks) = &self.chunks {
            table.add_row([
                format!("chunks, ~{}", human(chunks.average_size.into())),
                human(chunks.data_bytes),
                human(chunks.unique_bytes),
                percent(chunks.saving_percent),
                String::new(),
            ]);
        }
        table
    }
}

/// A table with these columns, of which the first holds text.
fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(columns);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}
