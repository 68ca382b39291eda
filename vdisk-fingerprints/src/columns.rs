//! The columns, and how they are stored.
//!
//! Fingerprints are random, so nothing is compressed; positions and lengths follow each other in
//! steps, so their differences take next to no room.

use parquet::{
    basic::{Compression, Encoding},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::{
        parser::parse_message_type,
        types::{ColumnPath, TypePtr},
    },
};
use std::{io, sync::Arc};
use vdisk_core::{Error, ErrorKind};

/// The key of the header among the file's metadata.
pub(crate) const KEY: &str = "vdisk";

/// Rows of a row group: what the writer holds in memory, some 12 MB.
pub(crate) const GROUP: usize = 1 << 18;

/// What [`kind`](COLUMNS) says of a block with data, and of a run of zeros.
pub(crate) const DATA: &[u8] = b"data";
pub(crate) const ZERO: &[u8] = b"zero";

/// The columns in their order.
const COLUMNS: &str = "message fingerprints {
    required int64 position;
    required int64 length;
    required binary kind (STRING);
    optional fixed_len_byte_array(16) hash;
    optional int32 deflated;
}";

/// The columns as Parquet has them.
pub(crate) fn schema() -> Result<TypePtr, ParquetError> {
    parse_message_type(COLUMNS).map(Arc::new)
}

/// How they are written.
pub(crate) fn properties() -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("vdisk ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(column("kind"), true)
        .set_statistics_enabled(EnabledStatistics::None)
        // Indexes of pages would follow the seal, and say nothing of use.
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(GROUP);
    for name in ["position", "length"] {
        properties =
            properties.set_column_statistics_enabled(column(name), EnabledStatistics::Chunk);
    }
    for name in ["position", "length", "deflated"] {
        properties = properties.set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}

/// The error of a write that failed.
pub(crate) fn failed(error: ParquetError) -> Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => Error::io("write", *error),
            Err(other) => Error::new(ErrorKind::Io, "write", other.to_string()),
        },
        other => Error::new(ErrorKind::Io, "write", other.to_string()),
    }
}
