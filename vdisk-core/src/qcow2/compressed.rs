//! Unpacks one compressed cluster, and no more than that: streams may claim anything.

use crate::limits;
use flate2::{Decompress, FlushDecompress};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::{cell::RefCell, io::Read};

/// How the clusters of an image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Deflate without the zlib header (RFC 1951), although the format calls it zlib.
    Zlib,
    /// Zstandard frames (RFC 8878).
    Zstd,
}

impl Compression {
    /// The format's own word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

/// What unpacking needs besides its input.
pub(super) struct Work {
    inflater: Decompress,
    zstd: FrameDecoder,
    /// The compressed bytes.
    pub(super) packed: Vec<u8>,
}

thread_local! {
    /// One set a thread: setting it up costs more than a cluster.
    pub(super) static WORK: RefCell<Work> = RefCell::new(Work {
        inflater: Decompress::new(false),
        zstd: FrameDecoder::new(),
        packed: Vec::new(),
    });
}

impl Work {
    /// Unpacks `packed` into `out`, one cluster. What follows the stream is of no meaning: the
    /// length in the table counts sectors.
    pub(super) fn unpack(&mut self, how: Compression, out: &mut [u8]) -> Result<(), String> {
        let produced = match how {
            Compression::Zlib => self.inflate(out)?,
            Compression::Zstd => self.decode(out)?,
        };
        if produced < out.len() {
            return Err(format!("holds {produced} bytes instead of {}", out.len()));
        }
        Ok(())
    }

    fn inflate(&mut self, out: &mut [u8]) -> Result<usize, String> {
        self.inflater.reset(false);
        self.inflater
            .decompress(&self.packed, out, FlushDecompress::Finish)
            .map_err(|e| format!("is damaged: {e}"))?;
        Ok(usize::try_from(self.inflater.total_out()).unwrap_or(0))
    }

    /// Decodes frame after frame until `out` is full. At most a window more than that is decoded.
    fn decode(&mut self, out: &mut [u8]) -> Result<usize, String> {
        let damaged = |e: &dyn std::fmt::Display| format!("is damaged: {e}");
        self.zstd.set_max_window_size(limits::ZSTD_WINDOW);
        let mut source = self.packed.as_slice();
        let mut filled = 0usize;
        while filled < out.len() {
            if source.is_empty() {
                return Ok(filled);
            }
            self.zstd.reset(&mut source).map_err(|e| damaged(&e))?;
            loop {
                let space = out.get_mut(filled..).unwrap_or_default();
                let read = self.zstd.read(space).map_err(|e| damaged(&e))?;
                filled = filled.saturating_add(read);
                if filled == out.len() || (self.zstd.is_finished() && read == 0) {
                    break;
                }
                if !self.zstd.is_finished() {
                    self.zstd
                        .decode_blocks(&mut source, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(|e| damaged(&e))?;
                }
            }
        }
        Ok(filled)
    }
}
