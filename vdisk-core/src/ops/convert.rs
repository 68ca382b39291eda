//! Copies a disk into a new image.

use super::{CHUNK, Piece, pieces, read_range, runs};
use crate::{Disk, Error, ImageWriter, Job, Packing, Result, is_zero};
use flate2::{Compress, Compression, FlushCompress, Status};
use std::{cell::RefCell, ops::Range};

/// Copies all of `source` into `writer` and finishes the image.
///
/// Holes are not read, runs of zeros are not written. Reading, looking for zeros and compressing
/// use all threads of `job`; the writer is called in order.
///
/// # Errors
/// Those of reading and writing, and [`Cancelled`](crate::ErrorKind::Cancelled).
///
/// ```
/// # use vdisk_core::{Disk, Ids, Job, format::{self, Spec}, ops::convert, testing};
/// # let source = testing::disk(&[(65536, Some(1)), (1 << 20, None)]);
/// let vmdk = format::named("vmdk")?;
/// let mut image: Vec<u8> = vec![]; // or an `Output`, or a `Stream`
/// let spec = Spec {
///     size: source.size(),
///     subformat: format::subformat(vmdk, None)?,
///     name: "disk.vmdk",
///     ids: Ids::random(0),
///     level: 6,
///     parent: None,
///     options: format::Options::default(),
/// };
/// convert::copy(&source, vmdk.create(&mut image, &spec)?, &Job::default())?;
/// assert!(image.starts_with(b"KDMV"));
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn copy(source: &dyn Disk, mut writer: Box<dyn ImageWriter + '_>, job: &Job<'_>) -> Result<()> {
    job.watch.phase("write", source.size());
    let (unit, packing) = (writer.unit(), writer.packing());
    job.in_order(
        pieces(source, unit, CHUNK),
        |piece| Prepared::zero_aware(source, piece, unit, packing),
        |prepared| {
            prepared.write_to(&mut *writer)?;
            job.advance(prepared.range.end - prepared.range.start)
        },
    )?;
    writer.finish()
}

/// What becomes of a part of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its bytes are written.
    Data,
    /// It is recorded as zero.
    Zero,
    /// It is not recorded at all.
    Skip,
}

/// A piece that workers have read and packed, ready to be written in order.
pub(crate) struct Prepared {
    pub(crate) range: Range<u64>,
    bytes: Vec<u8>,
    parts: Vec<(Range<u64>, Range<usize>, Fate)>,
}

impl Prepared {
    /// Reads `piece`, and finds the units that are zero.
    pub(crate) fn zero_aware(
        source: &dyn Disk,
        piece: Piece,
        unit: u64,
        packing: Packing,
    ) -> Result<Self> {
        if !piece.data {
            return Ok(Self::without_data(piece.range, Fate::Zero));
        }
        let bytes = read_range(source, &piece.range)?;
        let parts = runs(piece.range.start, bytes.len(), unit, |part| {
            match bytes.get(part).is_none_or(is_zero) {
                true => Fate::Zero,
                false => Fate::Data,
            }
        });
        Self::pack(piece.range, bytes, parts, unit, packing)
    }

    /// A piece of one fate, for which no bytes are needed.
    pub(crate) fn without_data(range: Range<u64>, fate: Fate) -> Self {
        Self {
            bytes: Vec::new(),
            parts: vec![(range.clone(), 0..0, fate)],
            range,
        }
    }

    /// Packs the data parts as the writer wants them.
    pub(crate) fn pack(
        range: Range<u64>,
        bytes: Vec<u8>,
        parts: Vec<(Range<u64>, Range<usize>, Fate)>,
        unit: u64,
        packing: Packing,
    ) -> Result<Self> {
        let Packing::Deflate(level) = packing else {
            return Ok(Self {
                range,
                bytes,
                parts,
            });
        };
        let mut packed = Vec::with_capacity(bytes.len() / 2);
        let mut packed_parts = Vec::new();
        for (disk, inside, fate) in parts {
            if fate != Fate::Data {
                packed_parts.push((disk, 0..0, fate));
                continue;
            }
            for (one, inside, ()) in runs_of_one(disk.start, inside, unit) {
                let start = packed.len();
                deflate(bytes.get(inside).unwrap_or_default(), level, &mut packed)?;
                packed_parts.push((one, start..packed.len(), fate));
            }
        }
        Ok(Self {
            range,
            bytes: packed,
            parts: packed_parts,
        })
    }

    /// The parts, in order, and what becomes of them.
    pub(crate) fn fates(&self) -> impl Iterator<Item = (&Range<u64>, Fate)> {
        self.parts.iter().map(|(disk, _, fate)| (disk, *fate))
    }

    /// Gives the parts to `writer`, in order.
    pub(crate) fn write_to(&self, writer: &mut dyn ImageWriter) -> Result<()> {
        for (disk, inside, fate) in &self.parts {
            match fate {
                Fate::Data => {
                    let bytes = self.bytes.get(inside.clone()).unwrap_or_default();
                    writer.data(disk.clone(), bytes)?;
                }
                Fate::Zero => writer.zero(disk.clone())?,
                Fate::Skip => {}
            }
        }
        Ok(())
    }
}

/// Cuts a part into single units.
fn runs_of_one(
    start: u64,
    inside: Range<usize>,
    unit: u64,
) -> impl Iterator<Item = (Range<u64>, Range<usize>, ())> {
    let step = usize::try_from(unit).unwrap_or(usize::MAX);
    inside.clone().step_by(step.max(1)).map(move |at| {
        let end = inside.end.min(at.saturating_add(step));
        let offset = (at - inside.start) as u64;
        let disk = start + offset..start + offset + (end - at) as u64;
        (disk, at..end, ())
    })
}

thread_local! {
    /// One compressor a thread: setting one up costs more than a grain.
    static COMPRESSOR: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
}

/// Appends `bytes`, deflated with a zlib header, to `out`.
pub(crate) fn deflate(bytes: &[u8], level: u32, out: &mut Vec<u8>) -> Result<()> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let (kept_level, compressor) =
            kept.get_or_insert_with(|| (level, Compress::new(Compression::new(level), true)));
        if *kept_level == level {
            compressor.reset();
        } else {
            (*kept_level, *compressor) = (level, Compress::new(Compression::new(level), true));
        }
        // Level 1 writes some bytes as nine bits, and looks for no better way.
        out.reserve(bytes.len() + bytes.len() / 8 + 128);
        match compressor.compress_vec(bytes, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => Ok(()),
            Ok(_) => Err(Error::new(
                crate::ErrorKind::Io,
                "deflate",
                "ran out of room",
            )),
            Err(e) => Err(Error::new(crate::ErrorKind::Io, "deflate", e.to_string()).because(e)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_packed_has_room_at_every_level() -> Result<()> {
        // Bytes from 144 on, which a fixed Huffman code writes as nine bits.
        let mut state = 1u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0] % 112 + 144
        })
        .take(1 << 16)
        .collect();
        for level in 1..=9 {
            let mut packed = Vec::new();
            deflate(&bytes, level, &mut packed)?;
            let mut read = Vec::new();
            std::io::Read::read_to_end(
                &mut flate2::read::ZlibDecoder::new(packed.as_slice()),
                &mut read,
            )
            .map_err(|e| Error::io("inflate", e))?;
            assert!(read == bytes, "level {level}");
        }
        Ok(())
    }
}
