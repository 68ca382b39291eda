//! Writing fingerprints: a file gets its name when it is whole.

use crate::{
    Folder, Header,
    columns::{self, DATA, GROUP, KEY, ZERO},
    seal::Sealing,
};
use parquet::{
    data_type::{
        ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
    },
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
};
use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};
use vdisk_core::{
    Error, ErrorKind, Result,
    ops::dedup::{Block, Content},
};

/// Rows that are handed to a column at once.
const BATCH: usize = 8192;

/// Writes one file. Dropped before it is finished, it leaves nothing.
///
/// Holds the rows of one row group in memory: up to 14 MB.
pub struct Writer {
    folder: PathBuf,
    header: Header,
    file: SerializedFileWriter<Sealing>,
    group: Vec<Block>,
}

impl Writer {
    /// Begins a file in `folder`, under a temporary name.
    pub fn create(folder: &Folder, header: Header) -> Result<Self> {
        let path = folder.path().to_owned();
        let create = |e| Error::io("create", e).path(&path);
        let file = tempfile::Builder::new()
            .prefix(".vdisk-")
            .suffix(".partial")
            .permissions(Permissions::from_mode(0o666)) // less the umask
            .tempfile_in(&path)
            .map_err(create)?;
        // Tells others that somebody writes to it. Not every file system can.
        let _ = file.as_file().try_lock();
        let schema = columns::schema().map_err(columns::failed)?;
        let properties = Arc::new(columns::properties());
        let file = SerializedFileWriter::new(Sealing::new(file), schema, properties)
            .map_err(|e| columns::failed(e).path(&path))?;
        Ok(Self {
            folder: path,
            header: Header {
                rows: 0,
                data: 0,
                zero: 0,
                ..header
            },
            file,
            group: Vec::new(),
        })
    }

    /// Adds blocks, ascending. A run of zeros that goes on is joined to the one before.
    pub fn add(&mut self, blocks: &[Block]) -> Result<()> {
        for block in blocks {
            let sum = match block.content {
                Content::Zero => &mut self.header.zero,
                Content::Data { .. } => &mut self.header.data,
            };
            *sum += block.len;
            if let (Some(last), Content::Zero) = (self.group.last_mut(), block.content)
                && last.content == Content::Zero
                && last.pos + last.len == block.pos
            {
                last.len += block.len;
                continue;
            }
            if self.group.len() == GROUP {
                self.flush()?;
            }
            self.header.rows += 1;
            self.group.push(*block);
        }
        Ok(())
    }

    /// Writes the rest, and gives the file its name in `folder`: files with other fingerprints of
    /// the same image and unit are removed, unless the image is in the same state and they are needed by
    /// others. Returns what it says of itself, and its path.
    pub fn finish(mut self, folder: &mut Folder) -> Result<(Header, PathBuf)> {
        self.flush()?;
        let (header, path) = (self.header, self.folder);
        let failed = |e| columns::failed(e).path(&path);
        let io = |e| Error::io("write", e).path(&path);
        let text = serde_json::to_string(&header)
            .map_err(|e| Error::new(ErrorKind::Io, "header", e.to_string()).path(&path))?;
        let value = KeyValue::new(KEY.to_owned(), text);
        self.file.append_key_value_metadata(value);
        self.file.flush().map_err(io)?;
        self.file.inner_mut().leave_room().map_err(io)?;
        let sealing = self.file.into_inner().map_err(failed)?;
        let file = sealing.seal().map_err(io)?;
        let path = folder.keep(file, &header)?;
        Ok((header, path))
    }

    /// Writes the rows that are held as a row group.
    fn flush(&mut self) -> Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        let written = self.file.next_row_group().and_then(|mut columns| {
            write_columns(&mut columns, &group)?;
            columns.close().map(|_| ())
        });
        self.group = group;
        self.group.clear();
        written.map_err(|e| columns::failed(e).path(&self.folder))
    }
}

type Columns<'a> = SerializedRowGroupWriter<'a, Sealing>;

/// Writes `rows` as one row group, a column after the other, as the file has them.
fn write_columns(columns: &mut Columns<'_>, rows: &[Block]) -> Result<(), ParquetError> {
    let number = |n: u64| i64::try_from(n).map_err(|e| ParquetError::General(e.to_string()));
    let (data, zero) = (
        ByteArray::from(DATA.to_vec()),
        ByteArray::from(ZERO.to_vec()),
    );
    column(columns, |column| {
        for rows in rows.chunks(BATCH) {
            let values: Vec<_> = rows
                .iter()
                .map(|b| number(b.pos))
                .collect::<Result<_, _>>()?;
            column
                .typed::<Int64Type>()
                .write_batch(&values, None, None)?;
        }
        Ok(())
    })?;
    column(columns, |column| {
        for rows in rows.chunks(BATCH) {
            let values: Vec<_> = rows
                .iter()
                .map(|b| number(b.len))
                .collect::<Result<_, _>>()?;
            column
                .typed::<Int64Type>()
                .write_batch(&values, None, None)?;
        }
        Ok(())
    })?;
    column(columns, |column| {
        for rows in rows.chunks(BATCH) {
            let kind = |block: &Block| match block.content {
                Content::Zero => zero.clone(),
                Content::Data { .. } => data.clone(),
            };
            let values: Vec<_> = rows.iter().map(kind).collect();
            column
                .typed::<ByteArrayType>()
                .write_batch(&values, None, None)?;
        }
        Ok(())
    })?;
    column(columns, |column| {
        for rows in rows.chunks(BATCH) {
            let prints = rows.iter().map(|block| match block.content {
                Content::Zero => None,
                Content::Data { print, .. } => Some(print.bytes()),
            });
            let levels: Vec<i16> = prints.clone().map(|p| i16::from(p.is_some())).collect();
            // One allocation for all of them.
            let bytes = ByteArray::from(prints.flatten().flatten().collect::<Vec<u8>>());
            let values: Vec<FixedLenByteArray> = (0..bytes.len())
                .step_by(16)
                .map(|at| bytes.slice(at, 16).into())
                .collect();
            let column = column.typed::<FixedLenByteArrayType>();
            column.write_batch(&values, Some(&levels), None)?;
        }
        Ok(())
    })?;
    column(columns, |column| {
        for rows in rows.chunks(BATCH) {
            let deflated = rows.iter().map(|block| match block.content {
                Content::Zero => None,
                Content::Data { deflated, .. } => deflated,
            });
            let levels: Vec<i16> = deflated.clone().map(|d| i16::from(d.is_some())).collect();
            let values: Vec<_> = deflated.flatten().map(u32::cast_signed).collect();
            let column = column.typed::<Int32Type>();
            column.write_batch(&values, Some(&levels), None)?;
        }
        Ok(())
    })
}

/// The next column, which `fill` writes.
fn column(
    columns: &mut Columns<'_>,
    fill: impl FnOnce(
        &mut parquet::file::writer::SerializedColumnWriter<'_>,
    ) -> Result<(), ParquetError>,
) -> Result<(), ParquetError> {
    let Some(mut column) = columns.next_column()? else {
        return Err(ParquetError::General("a column is missing".to_owned()));
    };
    fill(&mut column)?;
    column.close()
}
