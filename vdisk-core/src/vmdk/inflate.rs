//! Unpacks one compressed grain, and no more than that.

use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;

/// What unpacking needs besides its input.
pub(super) struct Work {
    pub(super) inflater: Decompress,
    /// The compressed bytes.
    pub(super) packed: Vec<u8>,
}

thread_local! {
    /// One inflater and buffer a thread: setting them up costs more than a grain.
    pub(super) static WORK: RefCell<Work> = RefCell::new(Work {
        inflater: Decompress::new(true),
        packed: Vec::new(),
    });
}

/// True if `packed` begins as a zlib stream does (RFC 1950): method and a check of the two bytes.
fn is_zlib(packed: &[u8]) -> bool {
    let head = packed.first_chunk().copied().map_or(0, u16::from_be_bytes);
    head & 0x8f00 == 0x0800 && head.is_multiple_of(31)
}

/// Inflates a stream into `out`, and checks that it holds no less, and no more than a grain.
///
/// The specification says deflate (RFC 1951), all products write zlib. Both are taken; a deflate
/// stream cannot be mistaken for zlib, because its first byte would be padding that is not zero.
pub(super) fn inflate(
    inflater: &mut Decompress,
    packed: &[u8],
    out: &mut [u8],
    grain: u64,
) -> std::result::Result<(), String> {
    inflater.reset(is_zlib(packed));
    let status = inflater
        .decompress(packed, out, FlushDecompress::Finish)
        .map_err(|e| format!("is damaged: {e}"))?;
    let produced = inflater.total_out();
    if produced < out.len() as u64 {
        return Err(format!("holds {produced} bytes instead of {}", out.len()));
    }
    if status == Status::StreamEnd {
        return Ok(());
    }
    // The last grain may be stored whole although the disk ends inside it.
    let mut tail = [0; 4096];
    loop {
        let before = inflater.total_out();
        let rest = packed
            .get(usize::try_from(inflater.total_in()).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        let status = inflater
            .decompress(rest, &mut tail, FlushDecompress::Finish)
            .map_err(|e| format!("is damaged: {e}"))?;
        if inflater.total_out() > grain {
            return Err("inflates to more than a grain".to_owned());
        }
        if status == Status::StreamEnd {
            return Ok(());
        }
        if inflater.total_out() == before {
            return Err("has no end".to_owned());
        }
    }
}
