//! Bytes shared by any two of many images.

/// A symmetric table: bytes that two images share, by the numbers of their nodes.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// By node: the image's row.
    rows: Vec<Option<u32>>,
    /// Rows of the upper triangle, one after the other, without the diagonal.
    cells: Vec<u64>,
}

impl Pairs {
    /// Bytes that the images of nodes `a` and `b` share; `None` unless both are images that were counted.
    pub fn get(&self, a: usize, b: usize) -> Option<u64> {
        let _ = (a, b, &self.rows, &self.cells);
        todo!("tally")
    }
}
