//! Writes fixed images: all blocks are there, in the order of the disk.

use super::{
    bat::{Entry, state},
    front::Front,
    writer::Table,
};
use crate::{ImageWriter, Result, target::Target, units::FileOffset};
use std::ops::Range;

pub(crate) struct FixedWriter<'a> {
    target: &'a mut dyn Target,
    front: Front,
    /// Where the first block is.
    start: u64,
}

impl<'a> FixedWriter<'a> {
    pub(crate) fn new(target: &'a mut dyn Target, front: Front) -> Result<Self> {
        Ok(Self {
            start: front.end()?,
            target,
            front,
        })
    }
}

impl ImageWriter for FixedWriter<'_> {
    fn unit(&self) -> u64 {
        4096 // what file systems keep holes in
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        let at = FileOffset(self.start).plus(range.start)?;
        self.target.write_at(at.0, bytes)
    }

    fn zero(&mut self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let numbering = self.front.numbering();
        let mut table = Table::default();
        let mut end = self.start;
        for block in 0..numbering.blocks {
            let entry = Entry::new(state::PRESENT, end);
            table.set(numbering.entry_of(block), entry, self.target)?;
            end = FileOffset(end).plus(numbering.block_size.get())?.0;
        }
        table.flush(self.target)?;
        self.front.write(self.target)?;
        self.target.set_size(end)
    }
}
