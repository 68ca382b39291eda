//! From columns to blocks.

use crate::{
    Header,
    columns::{DATA, ZERO},
};
use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType, FixedLenByteArray},
    errors::ParquetError,
};
use vdisk_core::{
    Error, Result,
    ops::dedup::{Block, Content, Fingerprint},
};

/// Rows that are decoded at once.
const BATCH: usize = 8192;

/// Some rows, a column each.
#[derive(Default)]
pub(crate) struct Batch {
    positions: Vec<i64>,
    lengths: Vec<i64>,
    kinds: Vec<ByteArray>,
    hashes: Vec<FixedLenByteArray>,
    deflated: Vec<i32>,
    /// By row: 1 if there is a hash, and if it was deflated.
    has_hash: Vec<i16>,
    has_deflated: Vec<i16>,
}

impl Batch {
    /// Decodes the next rows. None are left if it is empty then.
    pub(crate) fn fill(&mut self, columns: &mut [ColumnReader]) -> Result<(), ParquetError> {
        let [
            ColumnReader::Int64ColumnReader(positions),
            ColumnReader::Int64ColumnReader(lengths),
            ColumnReader::ByteArrayColumnReader(kinds),
            ColumnReader::FixedLenByteArrayColumnReader(hashes),
            ColumnReader::Int32ColumnReader(deflated),
        ] = columns
        else {
            return Err(ParquetError::General("columns of other types".to_owned()));
        };
        next(positions, None, &mut self.positions)?;
        next(lengths, None, &mut self.lengths)?;
        next(kinds, None, &mut self.kinds)?;
        next(hashes, Some(&mut self.has_hash), &mut self.hashes)?;
        next(deflated, Some(&mut self.has_deflated), &mut self.deflated)
    }

    /// The rows as blocks.
    pub(crate) fn blocks(&self, blocks: &mut Vec<Block>) -> Result<()> {
        blocks.clear();
        let rows = self.positions.len();
        let others = [
            self.lengths.len(),
            self.kinds.len(),
            self.has_hash.len(),
            self.has_deflated.len(),
        ];
        if others != [rows; 4] {
            return Err(Error::corrupt("columns", "have different numbers of rows"));
        }
        let mut hashes = self.hashes.iter();
        let mut sizes = self.deflated.iter();
        let columns = self.positions.iter().zip(&self.lengths).zip(&self.kinds);
        let given = self.has_hash.iter().zip(&self.has_deflated);
        for (((pos, len), kind), (has_hash, has_deflated)) in columns.zip(given) {
            let hash = (*has_hash != 0).then(|| hashes.next()).flatten();
            let size = (*has_deflated != 0).then(|| sizes.next()).flatten();
            let fail = |detail: &str| Error::corrupt(format!("row at position {pos}"), detail);
            let number = |n: &i64| u64::try_from(*n).map_err(|_| fail("has a negative number"));
            let content = match (kind.data(), hash) {
                (ZERO, None) if size.is_none() => Content::Zero,
                (ZERO, _) => return Err(fail("is of zeros, and has a hash or was deflated")),
                (DATA, Some(hash)) => {
                    let bytes = <[u8; 16]>::try_from(hash.data());
                    let size = size.map(|n| u32::try_from(*n)).transpose();
                    Content::Data {
                        print: Fingerprint::from_bytes(
                            bytes.map_err(|_| fail("has a hash of another length"))?,
                        ),
                        deflated: size.map_err(|_| fail("has a negative number"))?,
                    }
                }
                (DATA, None) => return Err(fail("has data, and no hash")),
                _ => return Err(fail("is neither of data nor of zeros")),
            };
            blocks.push(Block {
                pos: number(pos)?,
                len: number(len)?,
                content,
            });
        }
        Ok(())
    }
}

/// Replaces `values` by the next ones of a column.
fn next<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    mut given: Option<&mut Vec<i16>>,
    values: &mut Vec<T::T>,
) -> Result<(), ParquetError> {
    values.clear();
    if let Some(given) = &mut given {
        given.clear();
    }
    column.read_records(BATCH, given, None, values).map(|_| ())
}

/// Holds blocks to what [`Block`] promises, and to the header.
pub(crate) struct Checked<'a> {
    header: &'a Header,
    end: u64,
    rows: u64,
    data: u64,
    zero: u64,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(header: &'a Header) -> Self {
        Self {
            header,
            end: 0,
            rows: 0,
            data: 0,
            zero: 0,
        }
    }

    /// The next blocks.
    pub(crate) fn add(&mut self, blocks: &[Block]) -> Result<()> {
        let (unit, size) = (self.header.unit, self.header.size);
        for block in blocks {
            let fail = |detail: &str| {
                Err(Error::corrupt(
                    format!("row at position {}", block.pos),
                    detail,
                ))
            };
            if block.pos < self.end {
                return fail("lies in or before the one before it");
            }
            let end = block.pos.checked_add(block.len);
            let Some(end) = end.filter(|end| *end <= size && block.len > 0) else {
                return fail("is empty, or goes past the end of the disk");
            };
            if !block.pos.is_multiple_of(unit) || !(end.is_multiple_of(unit) || end == size) {
                return fail("does not begin and end with a block");
            }
            match block.content {
                Content::Zero => self.zero = self.zero.saturating_add(block.len),
                Content::Data { deflated, .. } => {
                    if block.len > unit || deflated.is_some_and(|n| u64::from(n) > block.len) {
                        return fail("is longer than a block, or was after deflate");
                    }
                    self.data = self.data.saturating_add(block.len);
                }
            }
            self.end = end;
            self.rows = self.rows.saturating_add(1);
        }
        Ok(())
    }

    /// There are no more.
    pub(crate) fn finish(self) -> Result<()> {
        // The header was checked: of a segment without a parent, they are the whole disk.
        let said = (self.header.rows, self.header.data, self.header.zero);
        match said == (self.rows, self.data, self.zero) {
            true => Ok(()),
            false => Err(Error::corrupt("rows", "are not as many as the header says")),
        }
    }
}
