//! The images of the share matrix in their order, gathered into cells.
//!
//! A thousand images make a million pairs: cells are summed from the list of pairs, so that only as
//! many numbers are held as are drawn.

use super::{
    names::{Names, short},
    neighbours::{Likeness, order},
    scale::{count, part},
};
use crate::verbs::dedup_report::report::{FarmReport, ImageRow};
use std::ops::Range;

/// Cells of a side: smaller ones than six units are not seen on a phone.
const MOST: usize = 60;
/// Characters of a name.
const LONGEST: usize = 60;

/// What a cell stands for.
#[derive(Clone, Copy, Default)]
pub(super) struct Cell {
    /// Sum over its pairs of images.
    share: f64,
    pub(super) bytes: u64,
}

/// Images in the order of the matrix, in `cells` a side.
pub(super) struct Grid {
    pub(super) order: Vec<usize>,
    pub(super) names: Vec<String>,
    pub(super) side: usize,
    pub(super) cells: Vec<Cell>,
}

impl Grid {
    pub(super) fn new(report: &FarmReport) -> Option<Self> {
        let pairs = report.pairs.as_ref()?;
        let images = &report.images;
        let mut likenesses = Vec::with_capacity(pairs.list.len());
        let mut bytes = Vec::with_capacity(pairs.list.len());
        for pair in &pairs.list {
            let (a, b) = (pair.a as usize, pair.b as usize);
            let least = images[a].distinct_bytes.min(images[b].distinct_bytes);
            let share = part(pair.shared_bytes, least);
            likenesses.push(Likeness { a, b, share });
            bytes.push(pair.shared_bytes);
        }
        let order = order(images.len(), &likenesses);
        let side = images.len().min(MOST);
        let mut place = vec![0; images.len()];
        for (position, image) in order.iter().enumerate() {
            place[*image] = position * side / images.len();
        }
        let mut cells = vec![Cell::default(); side * side];
        for (pair, bytes) in likenesses.iter().zip(bytes) {
            let (a, b) = (place[pair.a], place[pair.b]);
            // Both halves; the squares on the diagonal once.
            for i in [a * side + b, b * side + a]
                .into_iter()
                .take(1 + usize::from(a != b))
            {
                cells[i].share += pair.share;
                cells[i].bytes = cells[i].bytes.saturating_add(bytes);
            }
        }
        let names = Names::new(images);
        let name = |i: &ImageRow| names.short(&i.path, LONGEST);
        Some(Self {
            order,
            names: images.iter().map(name).collect(),
            side,
            cells,
        })
    }

    /// The places in the order that `row` stands for.
    fn places(&self, row: usize) -> Range<usize> {
        // The inverse of `position * side / images`.
        let images = self.order.len();
        let first = |row: usize| (row * images).div_ceil(self.side);
        first(row)..first(row + 1)
    }

    pub(super) fn images(&self, row: usize) -> &[usize] {
        &self.order[self.places(row)]
    }

    /// Mean share of the pairs of `row` and `column`; none for one image with itself.
    pub(super) fn share(&self, row: usize, column: usize) -> Option<f64> {
        let (a, b) = (
            self.images(row).len() as f64,
            self.images(column).len() as f64,
        );
        let pairs = if row == column {
            a * (a - 1.0) / 2.0
        } else {
            a * b
        };
        (pairs > 0.0).then(|| self.cells[row * self.side + column].share / pairs)
    }

    pub(super) fn name(&self, row: usize, most: usize) -> String {
        match self.images(row) {
            [one] => short(&self.names[*one], most),
            [first, .., last] => format!(
                "{} images, {} to {}",
                count(self.images(row).len() as u64),
                short(&self.names[*first], most / 2),
                short(&self.names[*last], most / 2)
            ),
            [] => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_one_row() {
        for images in [2, 59, 60, 61, 119, 120, 1000, 1001] {
            let side = images.min(MOST);
            let grid = Grid {
                order: (0..images).collect(),
                names: Vec::new(),
                side,
                cells: Vec::new(),
            };
            let mut next = 0;
            for row in 0..side {
                let places = grid.places(row);
                assert_eq!(places.start, next);
                assert!(!places.is_empty(), "row {row} of {images}");
                assert!(places.clone().all(|p| p * side / images == row), "{row}");
                next = places.end;
            }
            assert_eq!(next, images);
        }
    }
}
