//! Bytes shared by any two of many images.
//!
//! A thousand images have half a million pairs, and most blocks of a farm are in many images. So
//! what a set of images shares is noted at the corners of its rectangles, and summed in the end.

use super::tally::Part;

/// A symmetric table: bytes that two images share, by the numbers of their nodes.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// By node: the image's row.
    rows: Vec<Option<u32>>,
    table: Table,
}

impl Pairs {
    /// `table`, with the rows of nodes: none for nodes that are no images, or were not counted.
    pub(super) fn new(rows: Vec<Option<u32>>, table: Table) -> Self {
        Self { rows, table }
    }

    /// Bytes that the images of nodes `a` and `b` share; `None` unless both are images that were counted.
    /// What an image shares with itself is all that could be shared: its distinct blocks, or its
    /// blocks at their positions.
    pub fn get(&self, a: usize, b: usize) -> Option<u64> {
        let row = |node: usize| Some((*self.rows.get(node)?)? as usize);
        let (a, b) = (row(a)?, row(b)?);
        self.table
            .cells
            .get(self.table.at(a.min(b), a.max(b)))
            .copied()
    }
}

/// The upper triangle of a square, with the diagonal.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    images: usize,
    /// Its rows, one after the other. Until [`finish`](Self::finish) each is a difference: to the cell on
    /// its left and the one above it.
    cells: Vec<u64>,
}

impl Table {
    /// Bytes of memory for a table of `images`.
    pub(super) fn bytes(images: usize) -> u128 {
        let images = images as u128;
        images * (images + 1) / 2 * size_of::<u64>() as u128
    }

    pub(super) fn new(images: usize) -> Self {
        Self {
            images,
            cells: vec![0; images * (images + 1) / 2],
        }
    }

    /// Adds `weight` to each pair of the images in `parts`, which are ascending and apart.
    ///
    /// The images of one part make a triangle, and those of two a rectangle.
    pub(super) fn add(&mut self, parts: &[Part], weight: u64) {
        let minus = weight.wrapping_neg();
        for (i, part) in parts.iter().enumerate() {
            let (start, end) = part.ends();
            self.add_at(start, start, weight);
            self.add_at(start, end, minus);
            for other in &parts[i + 1..] {
                let (from, to) = other.ends();
                self.add_at(start, from, weight);
                self.add_at(start, to, minus);
                self.add_at(end, from, minus);
                self.add_at(end, to, weight);
            }
        }
    }

    /// Adds `weight` to what `image` has.
    pub(super) fn add_own(&mut self, image: usize, weight: u64) {
        self.add_at(image, image, weight);
        self.add_at(image, image + 1, weight.wrapping_neg());
    }

    /// Sums up, multiplied by 2 to the power of `bits`.
    pub(super) fn finish(mut self, bits: u32) -> Self {
        let mut rest = self.cells.as_mut_slice();
        let mut above: &mut [u64] = &mut [];
        for images in (1..=self.images).rev() {
            let (row, below) = rest.split_at_mut(images);
            let mut sum = 0u64;
            for (i, cell) in row.iter_mut().enumerate() {
                sum = sum.wrapping_add(*cell);
                *cell = sum.wrapping_add(above.get(i + 1).copied().unwrap_or(0));
            }
            (above, rest) = (row, below);
        }
        for cell in &mut self.cells {
            *cell = cell.saturating_mul(1 << bits);
        }
        self
    }

    /// Column `images` is beyond the end: what begins there is never seen.
    fn add_at(&mut self, row: usize, column: usize, weight: u64) {
        if column < self.images {
            let at = self.at(row, column);
            self.cells[at] = self.cells[at].wrapping_add(weight);
        }
    }

    /// Where the cell of `row` and `column` is, the latter not before the former.
    fn at(&self, row: usize, column: usize) -> usize {
        row * self.images - row * (row + 1) / 2 + column
    }
}
