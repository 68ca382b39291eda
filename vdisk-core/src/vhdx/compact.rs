//! Takes blocks out of an image that need not be in it, and makes the file shorter.
//!
//! Blocks from the end fill the gaps. What a gap held that the old table refers to, as does a block
//! that was just dropped, goes to the journal before; so does the end of the file that is cut off.
//! Of a fixed image the blocks stay, because that is what it is: zeros are given back to the file
//! system where they are.

use super::{
    bat::{BITMAP_LEN, Entry, Role, state},
    disk_structs::MIB,
    moves::{self, Moves, Taken},
    revision::Revision,
    space,
};
use crate::{
    Disk, Kind, Layer, Result,
    bits::Bits,
    disk::{extents, same_kind},
    format::{Compacted, Compactor, Update},
    transaction::Transaction,
};
use std::ops::Range;

/// Starts to compact the image of `layer`.
pub(super) fn start<'a>(
    layer: &'a Layer,
    transaction: &'a Transaction<'a>,
    update: &Update<'_>,
) -> Result<Box<dyn Compactor + 'a>> {
    let revision = Revision::begin(layer, transaction, update)?;
    let blocks = revision.numbering.blocks;
    Ok(Box::new(Blocks {
        layer,
        dropped: Bits::new(blocks),
        zero: Bits::new(blocks),
        block: None,
        punched: 0,
        revision,
    }))
}

struct Blocks<'a> {
    layer: &'a Layer,
    revision: Revision<'a>,
    /// Blocks that are not kept, and those of them that must hide the parent.
    dropped: Bits,
    zero: Bits,
    block: Option<Dropping>,
    /// Bytes of zeros in blocks that stay.
    punched: u64,
}

/// The block of which parts are being dropped.
struct Dropping {
    number: u64,
    kind: Kind,
    /// All of it may go, as far as was seen.
    whole: bool,
    /// Where on the disk that ends which was seen.
    upto: u64,
}

impl Blocks<'_> {
    fn fixed(&self) -> bool {
        self.revision.current.metadata.leave_allocated && !self.revision.child()
    }

    /// True if the image holds nothing in `range` of the disk: it is of that kind already.
    fn is(&self, range: Range<u64>, kind: Kind) -> Result<bool> {
        for extent in extents(self.layer, range, same_kind) {
            if extent?.kind != kind {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops `range` of block `number`.
    fn part(&mut self, number: u64, range: Range<u64>, kind: Kind) -> Result<()> {
        if self.block.as_ref().is_none_or(|b| b.number != number) {
            self.leave()?;
            let block_size = self.revision.numbering.block_size.get();
            self.block = Some(Dropping {
                number,
                kind,
                whole: true,
                upto: number.saturating_mul(block_size),
            });
        }
        let Some(mut block) = self.block.take() else {
            return Ok(());
        };
        // What lies between needs no dropping if there is nothing.
        block.whole =
            block.whole && kind == block.kind && self.is(block.upto..range.start, kind)?;
        block.upto = range.end;
        self.block = Some(block);
        Ok(())
    }

    /// Decides on the current block, of which all parts were named.
    fn leave(&mut self) -> Result<()> {
        let Some(block) = self.block.take().filter(|b| b.whole) else {
            return Ok(());
        };
        let numbering = &self.revision.numbering;
        let start = block.number.saturating_mul(numbering.block_size.get());
        let end = start.saturating_add(numbering.used(block.number, self.layer.size()));
        if self.is(block.upto..end, block.kind)? {
            if self.revision.child() && block.kind == Kind::Zero {
                self.zero.insert(block.number);
            }
            self.dropped.insert(block.number);
        }
        Ok(())
    }

    /// What of the file the old table refers to, and what the new one does.
    fn survey(&self) -> Result<(Bits, Taken)> {
        let current = &self.revision.current;
        let numbering = self.revision.numbering;
        let block = numbering.block_size.get();
        let count = space::count(current)?;
        let mut before = Bits::new(count);
        for range in &current.regions.reserved {
            before.add(space::slots(range.clone()));
        }
        let mut taken = Taken {
            slots: before.clone(),
            blocks: Bits::new(count),
            block: block / MIB,
            bitmaps: Vec::new(),
        };
        let mut partial = false;
        space::entries(current, |index, role, entry| {
            let found = space::place(current, &numbering, index, role, entry)?;
            let needed = match role {
                Role::Block(number) => !self.dropped.has(number),
                Role::Bitmap(_) => std::mem::take(&mut partial),
                Role::Beyond => false,
            };
            let Some(range) = found else {
                // A place may be remembered; if this change is taken back, it is again.
                let range = entry.at()..entry.at().saturating_add(block);
                before.add(space::slots(range));
                return Ok(());
            };
            let slots = space::slots(range);
            before.add(slots.clone());
            if !needed {
                return Ok(());
            }
            taken.slots.add(slots.clone());
            match role {
                Role::Bitmap(chunk) => taken.bitmaps.push((chunk, slots.start)),
                _ => drop(taken.blocks.insert(slots.start)),
            }
            partial |= entry.state() == state::PARTIAL;
            Ok(())
        })?;
        Ok((before, taken))
    }

    /// Moves what moves, and sets all entries. Returns the bytes moved.
    fn write(&mut self, old: &Taken, moves: &Moves) -> Result<u64> {
        let numbering = self.revision.numbering;
        let block = numbering.block_size.get();
        let (mut moved, mut next) = (0u64, 0);
        let mut bitmaps = old.bitmaps.iter().zip(&moves.bitmaps).peekable();
        for index in 0..numbering.entries(self.revision.child()) {
            let entry = self.revision.get(index)?;
            let stored = matches!(entry.state(), state::PRESENT | state::PARTIAL);
            let (place, len) = match numbering.role(index) {
                Role::Block(number) if stored && self.dropped.has(number) => {
                    let state = match self.zero.has(number) {
                        true => state::ZERO,
                        false => state::NOT_PRESENT,
                    };
                    self.revision.set(index, Entry::new(state, 0))?;
                    continue;
                }
                Role::Block(_) if !stored => {
                    // The place that it remembers may be another one's now.
                    self.revision.set(index, Entry::new(entry.state(), 0))?;
                    continue;
                }
                Role::Block(_) if entry.at() / MIB >= moves.from => {
                    let slot = moves.targets.next(next, true);
                    next = slot.saturating_add(1);
                    (slot.saturating_mul(MIB), block)
                }
                Role::Block(_) => (entry.at(), block),
                Role::Bitmap(chunk) => {
                    let Some((_, (_, slot))) = bitmaps.next_if(|((c, _), _)| *c == chunk) else {
                        self.revision.set(index, Entry(0))?;
                        continue;
                    };
                    (slot.saturating_mul(MIB), BITMAP_LEN)
                }
                Role::Beyond => {
                    self.revision.set(index, Entry(0))?;
                    continue;
                }
            };
            if place != entry.at() {
                self.revision.copy(entry.at(), place, len)?;
                moved = moved.saturating_add(len);
            }
            self.revision.set(index, Entry::new(entry.state(), place))?;
        }
        Ok(moved)
    }
}

impl Compactor for Blocks<'_> {
    fn unit(&self) -> u64 {
        let sector = u64::from(self.revision.current.metadata.logical_sector);
        match self.revision.child() {
            true => sector.saturating_mul(8), // what a child records at once
            false => 4096,                    // what file systems keep holes in
        }
    }

    fn remove(&mut self, range: Range<u64>, kind: Kind) -> Result<()> {
        let numbering = self.revision.numbering;
        let kind = match self.revision.child() {
            true => kind,
            false => Kind::Zero,
        };
        let mut pos = range.start;
        while pos < range.end {
            let number = pos / numbering.block_size;
            let inside = pos % numbering.block_size;
            let rest = numbering.block_size.get().saturating_sub(inside);
            let end = pos.saturating_add(rest).min(range.end);
            if self.fixed() {
                let entry = self.revision.before(numbering.entry_of(number))?;
                if entry.state() == state::PRESENT {
                    let len = end.saturating_sub(pos);
                    let at = entry.at().saturating_add(inside);
                    let punched = self.revision.release(at..at.saturating_add(len))?;
                    self.punched = self.punched.saturating_add(punched);
                }
            } else {
                self.part(number, pos..end, kind)?;
            }
            pos = end;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Compacted> {
        self.leave()?;
        let size = self.revision.file().size;
        let bytes = |slots: Range<u64>| {
            let start = slots.start.saturating_mul(MIB).min(size);
            start..slots.end.saturating_mul(MIB).min(size)
        };
        let len = |range: Range<u64>| range.end.saturating_sub(range.start);
        let (before, old) = self.survey()?;
        let limit = before.limit();
        for run in before.runs(limit, false) {
            self.revision.disregard(bytes(run))?;
        }
        let moves = match self.fixed() {
            // What it gives back of its blocks is where they are now.
            true => moves::none(&old),
            false => moves::plan(&old),
        };
        let end = moves.end.saturating_mul(MIB).min(size);
        let gaps = moves.taken.runs(moves.end, false);
        let kept: u64 = gaps.map(|run| len(bytes(run))).sum();
        let mut done = Compacted {
            punched: self.punched,
            cut: size.saturating_sub(end),
            kept: kept.saturating_add(self.punched),
            ..Compacted::default()
        };
        done.freed = done.cut.saturating_add(done.kept);
        if done.cut == 0 && kept == 0 {
            return Ok(done);
        }
        done.moved = self.write(&old, &moves)?;
        for run in moves.taken.runs(moves.end, false) {
            let punched = self.revision.release(bytes(run))?;
            done.punched = done.punched.saturating_add(punched);
        }
        if done.cut > 0 {
            self.revision.shorten(end);
        }
        self.revision.finish(&[])?;
        Ok(done)
    }
}
