//! Pages of a file that may have been made to do harm: nothing is decoded that a sound file would not
//! have.
//!
//! The seal finds damage; whoever means harm makes a right one.

use crate::columns::schema;
use parquet::{
    basic::{Compression, Encoding},
    column::{
        page::{Page, PageMetadata, PageReader},
        reader::{ColumnReader, get_column_reader},
    },
    errors::{ParquetError, Result},
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        serialized_reader::SerializedPageReader,
    },
};
use std::{fs::File, sync::Arc};
use vdisk_core::Error;

/// Rows of a row group that are accepted: other programs may write larger ones.
const ROWS: i64 = 4 << 20;
/// Bytes of a column in a row group that are accepted. They may be held in memory.
const CHUNK: u64 = 64 << 20;
/// Values of a page that are accepted: as many.
const VALUES: u32 = 4 << 20;
/// Values of a dictionary that are accepted; there are two kinds.
const DICTIONARY: u32 = 16;

/// Fails unless the columns are those that belong here, and lie within the first `end` bytes.
pub(crate) fn check(metadata: &ParquetMetaData, end: u64) -> Result<(), Error> {
    let file = metadata.file_metadata();
    let wanted = schema().map_err(|e| Error::corrupt("columns", e.to_string()))?;
    if *file.schema() != *wanted {
        let detail = "are not those of fingerprints";
        return Err(Error::corrupt("columns", detail));
    }
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let fail = |detail: &str| Err(Error::corrupt(format!("row group {number}"), detail));
        if !(0..=ROWS).contains(&group.num_rows()) {
            return fail("has more rows than are accepted");
        }
        for column in group.columns() {
            let first = column.dictionary_page_offset();
            let start = first.unwrap_or(column.data_page_offset());
            let (Ok(start), Ok(len)) = (
                u64::try_from(start),
                u64::try_from(column.compressed_size()),
            ) else {
                return fail("has a column at a negative place");
            };
            if start.checked_add(len).is_none_or(|last| last > end) {
                return fail("has a column that does not lie before the seal");
            }
            if len > CHUNK || column.compression() != Compression::UNCOMPRESSED {
                return fail("has a column that is larger than accepted, or compressed");
            }
        }
    }
    Ok(())
}

/// The columns of a row group.
pub(crate) fn columns(file: &Arc<File>, group: &RowGroupMetaData) -> Result<Vec<ColumnReader>> {
    let rows = usize::try_from(group.num_rows())?;
    let open = |column: &parquet::file::metadata::ColumnChunkMetaData| {
        let pages = SerializedPageReader::new(Arc::clone(file), column, rows, None)?;
        let pages = Box::new(Sound {
            pages,
            has_dictionary: false,
        });
        Ok(get_column_reader(column.column_descr_ptr(), pages))
    };
    group.columns().iter().map(open).collect()
}

/// Pages with counts and encodings that a decoder can be trusted with.
struct Sound {
    pages: SerializedPageReader<File>,
    has_dictionary: bool,
}

impl PageReader for Sound {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        let Some(found) = &page else {
            return Ok(None);
        };
        let dictionary = found.is_dictionary_page();
        let most = if dictionary { DICTIONARY } else { VALUES };
        let known = match found.encoding() {
            Encoding::PLAIN => true,
            Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY => {
                dictionary || self.has_dictionary
            }
            Encoding::DELTA_BINARY_PACKED => !dictionary,
            _ => false,
        };
        if found.num_values() > most || !known {
            let detail = "a page has more values than accepted, or an unusual encoding";
            return Err(ParquetError::General(detail.to_owned()));
        }
        self.has_dictionary |= dictionary;
        Ok(page)
    }
    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }
    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}

impl Iterator for Sound {
    type Item = Result<Page>;
    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
