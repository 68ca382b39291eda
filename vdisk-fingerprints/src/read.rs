//! Reading fingerprints: from files that anybody may have made.

use crate::{
    Header,
    columns::KEY,
    pages,
    rows::{Batch, Checked},
    seal::Seal,
};
use parquet::{
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};
use vdisk_core::{Error, ErrorKind, Result, ops::dedup::Block};

/// One file. Nothing of it is believed: it may have been changed, or made to do harm.
///
/// All errors but those of the system are of the kind [`Corrupt`](ErrorKind::Corrupt).
pub struct Reader {
    path: PathBuf,
    file: Arc<File>,
    header: Header,
    metadata: ParquetMetaData,
    seal: Seal,
    /// Where the pages end.
    end: u64,
    verified: bool,
}

impl Reader {
    /// Opens the file at `path` and reads its header. The rows are not looked at.
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(path).map_err(|e| e.path(path))
    }

    fn parse(path: &Path) -> Result<Self> {
        let io = |e| Error::io("open", e);
        if !path.metadata().map_err(io)?.is_file() {
            return Err(Error::new(
                ErrorKind::Usage,
                "open",
                "is not a regular file",
            ));
        }
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let (seal, end, footer) = Seal::read(&file, len)?;
        let metadata = guarded("footer", || ParquetMetaDataReader::decode_metadata(&footer))?;
        let pairs = metadata.file_metadata().key_value_metadata();
        let text = pairs
            .and_then(|pairs| pairs.iter().find(|pair| pair.key == KEY))
            .and_then(|pair| pair.value.as_deref());
        let Some(text) = text else {
            let detail = "is not there: these are no fingerprints";
            return Err(Error::corrupt("header", detail));
        };
        let header: Header =
            serde_json::from_str(text).map_err(|e| Error::corrupt("header", e.to_string()))?;
        header.check()?;
        pages::check(&metadata, end)?;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            header,
            metadata,
            seal,
            end,
            verified: false,
        })
    }

    /// Whose fingerprints they are.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file and compares it with its digest, unless that was done.
    pub fn verify(&mut self) -> Result<()> {
        if !self.verified {
            let checked = self.seal.check_pages(&self.file, self.end);
            checked.map_err(|e| e.path(&self.path))?;
            self.verified = true;
        }
        Ok(())
    }

    /// Hands all blocks to `sink`, ascending, some thousand at a time. The file is verified first.
    pub fn blocks(&mut self, sink: &mut dyn FnMut(&[Block]) -> Result<()>) -> Result<()> {
        self.verify()?;
        let mut checked = Checked::new(&self.header);
        let mut batch = Batch::default();
        let mut blocks = Vec::new();
        for (number, group) in self.metadata.row_groups().iter().enumerate() {
            let part = format!("row group {number}");
            let named = |e: Error| e.path(&self.path);
            let mut columns =
                guarded(&part, || pages::columns(&self.file, group)).map_err(named)?;
            loop {
                guarded(&part, || batch.fill(&mut columns)).map_err(named)?;
                batch.blocks(&mut blocks).map_err(named)?;
                if blocks.is_empty() {
                    break;
                }
                checked.add(&blocks).map_err(named)?;
                sink(&blocks)?;
            }
        }
        checked.finish().map_err(|e| e.path(&self.path))
    }
}

/// Runs `work` of the Parquet library. Some of its decoders expect of a file what nobody checked, and
/// panic: `pages` refuses what is known of that, and this is for the rest. What they were about
/// is dropped then.
fn guarded<T>(part: &str, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    let fail = |detail: String| Error::corrupt(part.to_owned(), detail);
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(ParquetError::External(cause))) => match cause.downcast::<io::Error>() {
            Ok(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Err(Error::io("read", *error))
            }
            Ok(_) => Err(fail("goes past the end of the file".to_owned())),
            Err(cause) => Err(fail(cause.to_string())),
        },
        Ok(Err(error)) => Err(fail(error.to_string())),
        Err(_) => Err(fail("contradicts itself".to_owned())),
    }
}
