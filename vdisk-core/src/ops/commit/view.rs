//! What the target will read as, and the one pass that writes it there.

use super::{Committed, below};
use crate::{
    Chain, Disk, Extent, ImageWriter, Job, Kind, Layer, Result,
    disk::{check_range, extents, part_len},
    ops::{
        CHUNK, Piece, aligned,
        convert::{Fate, Prepared},
    },
};

/// Writes into `writer` what `view` says lies above the target.
pub(super) fn fold(view: &View, writer: &mut dyn ImageWriter, job: &Job<'_>) -> Result<Committed> {
    job.watch.phase("commit", view.size());
    let (unit, packing) = (writer.unit(), writer.packing());
    let alike =
        |a: &Extent, b: &Extent| a.depth == b.depth && (a.depth == BELOW || a.kind == b.kind);
    let spans = extents(view, 0..view.size(), alike).map(|extent| {
        extent.map(|e| Piece {
            data: e.depth == ABOVE && e.kind == Kind::Data,
            range: e.range,
        })
    });
    let mut done = Committed::default();
    let mut end = None;
    job.in_order(
        aligned(spans, view.size(), unit, CHUNK),
        |piece| match piece.data || view.extent_at(piece.range.start)?.depth == ABOVE {
            true => Prepared::zero_aware(view, piece, unit, packing),
            false => Ok(Prepared::without_data(piece.range, Fate::Skip)),
        },
        |prepared| {
            for (range, fate) in prepared.fates() {
                let len = range.end - range.start;
                match fate {
                    Fate::Data => done.data += len,
                    Fate::Zero => done.zero += len,
                    Fate::Skip => continue,
                }
                if end != Some(range.start) {
                    done.ranges += 1;
                }
                end = Some(range.end);
            }
            prepared.write_to(writer)?;
            job.advance(prepared.range.end - prepared.range.start)
        },
    )?;
    Ok(done)
}

/// The depth of what a layer above the target records, in a [`View`].
const ABOVE: usize = 0;
/// The depth of all else.
const BELOW: usize = 1;

/// What the target will read as: as the child does and, past its end, as before.
pub(super) struct View {
    chain: Chain,
    /// The target and what lies below it.
    below: Chain,
    layers: usize,
}

impl View {
    /// The last of `chain` that is above the target is number `layers`, counted from 1.
    pub(super) fn new(chain: &Chain, layers: usize) -> Result<Self> {
        Ok(Self {
            chain: chain.clone(),
            below: below(chain, layers)?,
            layers,
        })
    }

    pub(super) fn target(&self) -> &Layer {
        self.below.top()
    }
}

impl Disk for View {
    fn size(&self) -> u64 {
        self.below.size()
    }
    fn sector_size(&self) -> u32 {
        self.below.sector_size()
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        check_range(self, pos, 1)?;
        let mut extent = match pos < self.chain.size() {
            true => self.chain.extent_at(pos)?,
            false => self.below.extent_at(pos)?,
        };
        let above = pos < self.chain.size() && extent.depth < self.layers;
        extent.depth = if above { ABOVE } else { BELOW };
        extent.range.end = extent.range.end.min(self.size());
        Ok(extent)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, pos, buf.len())?;
        let inside = part_len(buf.len(), pos, self.chain.size());
        let (upper, rest) = buf.split_at_mut(inside);
        if !upper.is_empty() {
            self.chain.read_at(pos, upper)?;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => self.below.read_at(pos + inside as u64, rest),
        }
    }
}
