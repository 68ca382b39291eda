//! The block allocation table: every entry, and that no two things share a place in the file.

use super::Sheet;
use crate::{
    Job, Result,
    check::{Finding, Severity},
    claims::{Claims, Owner},
    patch::Patch,
    vhdx::{
        bat::{BITMAP_LEN, ENTRY_LEN, Entry, Numbering, Role, TABLE, state},
        metadata::Metadata,
        regions::Regions,
    },
};

/// Bytes of the table that are read at once.
const PIECE: u64 = 1 << 20;

struct Walk<'a, 'b> {
    sheet: &'a mut Sheet<'b>,
    claims: Claims,
    metadata: &'a Metadata,
    numbering: Numbering,
    bat: u64,
    /// A partial block of the chunk being looked at, which needs a bitmap.
    partial: Option<u64>,
}

/// Checks all entries of the table.
pub(super) fn check(
    sheet: &mut Sheet<'_>,
    job: &Job<'_>,
    metadata: &Metadata,
    regions: &Regions,
) -> Result<()> {
    let mut claims = Claims::default();
    for range in &regions.reserved {
        // They were checked not to overlap.
        let _ = claims.claim(range.clone(), Owner::Named("the metadata of the image"));
    }
    let numbering = Numbering::new(
        metadata.size,
        metadata.block_size.into(),
        metadata.logical_sector,
    );
    let needed = numbering.entries(metadata.has_parent);
    let room = regions.bat.end.saturating_sub(regions.bat.start) / ENTRY_LEN;
    if needed > room {
        let detail = format!("has room for {room} entries, but the disk needs {needed}");
        let finding = Finding::new(Severity::Error, "table-short", sheet.file, TABLE, detail);
        sheet.say(finding.at(regions.bat.start), None);
        return Ok(());
    }
    let mut walk = Walk {
        sheet,
        claims,
        metadata,
        numbering,
        bat: regions.bat.start,
        partial: None,
    };
    let mut index = 0u64;
    let mut at = regions.bat.start;
    while at < regions.bat.end {
        job.advance(0)?;
        let len = PIECE.min(regions.bat.end.saturating_sub(at));
        let bytes = walk.sheet.seen.read_part(TABLE, at, len)?;
        for entry in bytes.as_chunks().0 {
            walk.entry(index, Entry(u64::from_le_bytes(*entry)));
            index = index.saturating_add(1);
        }
        at = at.saturating_add(len);
    }
    if walk.claims.incomplete() {
        let detail = "has its blocks in such an order that not all overlaps can be found";
        let severity = Severity::Note;
        let finding = Finding::new(severity, "overlaps-unknown", sheet.file, TABLE, detail);
        sheet.say(finding, None);
    }
    Ok(())
}

impl Walk<'_, '_> {
    fn say(
        &mut self,
        severity: Severity,
        rule: &'static str,
        index: u64,
        detail: String,
        right: Option<Entry>,
    ) {
        let at = self.bat.saturating_add(index.saturating_mul(ENTRY_LEN));
        let part = format!("{TABLE}, entry {index}");
        let finding = Finding::new(severity, rule, self.sheet.file, part, detail).at(at);
        let repair = right.map(|entry| {
            let patch = Patch::write(self.sheet.file, at, entry.0.to_le_bytes().to_vec());
            ("clear what the entry should not say", vec![patch])
        });
        self.sheet.say(finding, repair);
    }

    fn error(&mut self, rule: &'static str, index: u64, detail: impl Into<String>) {
        self.say(Severity::Error, rule, index, detail.into(), None);
    }

    fn entry(&mut self, index: u64, entry: Entry) {
        match self.numbering.role(index) {
            Role::Block(block) => self.block(index, entry, block),
            Role::Bitmap(chunk) => self.bitmap(index, entry, chunk),
            Role::Beyond if entry.0 != 0 => {
                let detail = "is for a block past the end of the disk, and not empty".to_owned();
                // qemu marks one block too many as zero.
                let (severity, right) = match entry.at() {
                    0 => (Severity::Note, None),
                    _ => (Severity::Warning, Some(Entry(0))),
                };
                self.say(severity, "entry-past-disk", index, detail, right);
            }
            Role::Beyond => {}
        }
    }

    /// Checks bits that must be zero, and the place of what has none.
    fn remains(&mut self, index: u64, entry: Entry, has_place: bool) {
        let at = if has_place { entry.at() } else { 0 };
        let right = Entry::new(entry.state(), at);
        if entry == right {
            return;
        }
        let (rule, detail) = match entry.at() == at {
            true => ("entry-reserved", "has bits that are reserved".to_owned()),
            false => {
                let detail = format!(
                    "has state {} and a place nevertheless, at {:#x}; Hyper-V refuses the image",
                    entry.state(),
                    entry.at()
                );
                ("stale-place", detail)
            }
        };
        self.say(Severity::Warning, rule, index, detail, Some(right));
    }

    fn block(&mut self, index: u64, entry: Entry, block: u64) {
        let block_size = self.numbering.block_size.get();
        match entry.state() {
            state::NOT_PRESENT | state::ZERO => self.remains(index, entry, false),
            // Their places may be remembered.
            state::UNDEFINED | state::UNMAPPED | state::UNMAPPED_OLD => {
                self.remains(index, entry, true);
            }
            state::PARTIAL if !self.metadata.has_parent => {
                let detail = "has a partial block, which only a child can have";
                self.error("block-state", index, detail);
            }
            state @ (state::PRESENT | state::PARTIAL) => {
                if state == state::PARTIAL {
                    self.partial.get_or_insert(block);
                }
                let used = self.numbering.used(block, self.metadata.size);
                self.place(index, entry, used, block_size, Owner::Unit(block));
            }
            other => {
                let detail = format!("has state {other}, which means nothing");
                self.error("block-state", index, detail);
            }
        }
    }

    fn bitmap(&mut self, index: u64, entry: Entry, chunk: u64) {
        let partial = self.partial.take();
        match entry.state() {
            state::NOT_PRESENT => {
                if let Some(block) = partial {
                    let detail = format!("there is no sector bitmap, which block {block} needs");
                    self.error("bitmap-missing", index, detail);
                } else {
                    self.remains(index, entry, false);
                }
            }
            state::PRESENT if self.metadata.has_parent => {
                let owner = Owner::Named("another sector bitmap");
                self.place(index, entry, BITMAP_LEN, BITMAP_LEN, owner);
            }
            state::PRESENT => {
                let detail =
                    format!("has a sector bitmap for chunk {chunk} of an image without a parent");
                let right = Some(Entry(0));
                self.say(Severity::Warning, "bitmap-unused", index, detail, right);
            }
            other => {
                let detail = format!("has state {other}, which a sector bitmap cannot have");
                self.error("block-state", index, detail);
            }
        }
    }

    /// Checks that `used` bytes of the `len` at the entry's place are in the file, and free.
    fn place(&mut self, index: u64, entry: Entry, used: u64, len: u64, owner: Owner) {
        let (start, size) = (entry.at(), self.sheet.seen.size);
        if start == 0 {
            let detail = "says that the block is present, but not where";
            return self.error("block-nowhere", index, detail);
        }
        if start.checked_add(used).is_none_or(|end| end > size) {
            let detail = format!("points past the end of the file, to {start:#x}");
            return self.error("block-past-end", index, detail);
        }
        self.remains(index, entry, true);
        let range = start..start.saturating_add(len).min(size);
        let taken = match self.claims.claim(range, owner) {
            Ok(()) => return,
            Err(taken) => taken,
        };
        let (rule, whose) = match taken {
            Owner::Named("another sector bitmap") => ("block-shared", "a sector bitmap".to_owned()),
            Owner::Named(name) => ("block-in-metadata", name.to_owned()),
            Owner::Unit(block) => ("block-shared", format!("block {block}")),
            Owner::Forgotten => ("block-shared", "another block".to_owned()),
        };
        let detail = format!("points to {start:#x}, which is part of {whose}");
        self.error(rule, index, detail);
    }
}
