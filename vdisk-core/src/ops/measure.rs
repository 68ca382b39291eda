//! How large a new image will be, found out by writing it to nowhere.
//!
//! The very writer does the counting, so that no second calculation of a format's layout can
//! differ from what is written. Only what is compressed is estimated, from a sample.

use super::{CHUNK, convert, pieces, read_range};
use crate::{Disk, ImageWriter, Job, Packing, Result, is_zero, units::buffer_len};
use std::ops::Range;

/// A sample has at least so many units: a disk of fewer is compressed whole.
const SAMPLE: u64 = 512;
/// At most so many units stand behind one of a sample.
const STRIDE: u64 = 64;

/// Copies `disk` into `writer`, whose target is a [`Counting`](crate::target::Counting), as [`convert::copy`] does.
///
/// Of a writer that wants its units compressed, only a sample is: one of 64 units, but some
/// hundreds at least; each stands for its neighbours. Returns then how far the size may be off, in
/// bytes: twice the standard error, so about one estimate in twenty is further off; at least what
/// one unit of the sample stands for. `None` means that the size is exact.
pub fn copy(
    disk: &dyn Disk,
    writer: Box<dyn ImageWriter + '_>,
    job: &Job<'_>,
) -> Result<Option<u64>> {
    let Packing::Deflate(level) = writer.packing() else {
        return convert::copy(disk, writer, job).map(|()| None);
    };
    let mut units = 0;
    for group in groups(disk, writer.unit(), STRIDE) {
        units += group?.len() as u64;
    }
    let stride = (units / SAMPLE).clamp(1, STRIDE);
    if stride == 1 {
        return convert::copy(disk, writer, job).map(|()| None);
    }
    sample(disk, writer, level, units, stride, job).map(Some)
}

/// Writes one unit of each `stride` for all of them.
fn sample(
    disk: &dyn Disk,
    mut writer: Box<dyn ImageWriter + '_>,
    level: u32,
    units: u64,
    stride: u64,
    job: &Job<'_>,
) -> Result<u64> {
    let unit = writer.unit();
    job.watch.phase("sample", units.saturating_mul(unit));
    let mut seen = Sums::default();
    job.in_order(
        groups(disk, unit, stride)
            .enumerate()
            .map(|(n, g)| Ok((n, g?))),
        |(number, group)| {
            // Not always the same one: disks have periods.
            let pick = number.wrapping_mul(0x9e37_79b1) / 64 % group.len().max(1);
            let mut packed = Vec::new();
            if let Some(range) = group.get(pick) {
                let bytes = read_range(disk, range)?;
                if !is_zero(&bytes) {
                    convert::deflate(&bytes, level, &mut packed)?;
                }
            }
            Ok((group, packed))
        },
        |(group, packed)| {
            seen.add(packed.len() as u64);
            let bytes = group.len() as u64 * unit;
            for range in group {
                match packed.as_slice() {
                    [] => writer.zero(range)?,
                    packed => writer.data(range, packed)?,
                }
            }
            job.advance(bytes)
        },
    )?;
    writer.finish()?;
    Ok(seen.error(units).max(stride * unit))
}

/// The units of `disk` in which something is stored, `size` at a time.
fn groups<'a>(
    disk: &'a dyn Disk,
    unit: u64,
    size: u64,
) -> impl Iterator<Item = Result<Vec<Range<u64>>>> + 'a {
    let mut pieces = pieces(disk, unit, CHUNK);
    let mut left = 0..0;
    std::iter::from_fn(move || {
        let mut group = Vec::new();
        while (group.len() as u64) < size {
            if left.is_empty() {
                match pieces.next() {
                    Some(Ok(piece)) if piece.data => left = piece.range,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Some(Err(error)),
                    None => break,
                }
                continue;
            }
            let end = left.end.min(left.start + unit);
            group.push(left.start..end);
            left.start = end;
        }
        (!group.is_empty()).then_some(Ok(group))
    })
}

/// What is needed of a sample to say how good it is.
#[derive(Default)]
struct Sums {
    count: u128,
    sum: u128,
    squares: u128,
}

impl Sums {
    fn add(&mut self, bytes: u64) {
        let bytes = u128::from(bytes);
        self.count += 1;
        self.sum += bytes;
        self.squares += bytes * bytes;
    }

    /// Twice the standard error of the sum over `all` units.
    fn error(&self, all: u64) -> u64 {
        let (n, all) = (self.count.max(2), u128::from(all));
        let spread = n * self.squares - (self.sum * self.sum).min(n * self.squares);
        let variance = spread / (n * (n - 1));
        let squared = 4 * all * (all - n.min(all)) * variance / n;
        u64::try_from(squared.isqrt()).unwrap_or(u64::MAX)
    }
}

/// Fills all of a disk of `size` bytes, so that the image is as large as it can get. Returns false
/// if the writer compresses: then there is no such size.
pub fn fill(size: u64, mut writer: Box<dyn ImageWriter + '_>, job: &Job<'_>) -> Result<bool> {
    if writer.packing() != Packing::Plain {
        return Ok(false);
    }
    job.watch.phase("fill", size);
    let bytes = vec![0xff; buffer_len(CHUNK)?];
    let mut pos = 0;
    while pos < size {
        let len = CHUNK.min(size - pos);
        writer.data(
            pos..pos + len,
            bytes.get(..buffer_len(len)?).unwrap_or_default(),
        )?;
        pos += len;
        job.advance(len)?;
    }
    writer.finish()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_a_sum_estimated_from_a_sample() {
        // Values 1 to 5: variance 2.5 (with n - 1). Of 20: 2 * sqrt(20 * 15 * 2 / 5) with the
        // variance rounded down.
        let mut sums = Sums::default();
        (1..=5).for_each(|n| sums.add(n));
        assert_eq!(sums.error(20), 21);
        assert_eq!(sums.error(5), 0, "all were seen");
    }
}
