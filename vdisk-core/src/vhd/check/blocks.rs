//! The blocks of a dynamic or differencing disk: where they are, and what their bitmaps say.

use super::{
    super::{
        bat::{Blocks, Entry, TABLE},
        bitmap::Bitmap,
        disk_structs::{DIFFERENCING, DYNAMIC, HEADER_LEN},
        footer::Found,
        read_header,
        writer::ALIGNMENT,
    },
    Extent, batmap, header, locators,
};
use crate::{
    Place, Result,
    check::{Checkup, Finding, Findings, Severity},
    claims::{Claims, Owner},
    ops::CHUNK,
    storage::ImageFile,
    units::{SECTOR, Sectors},
    zeros::is_zero,
};
use std::ops::Range;

/// Looks at the header, at every entry of the table, and, with `deep`, at every bitmap.
pub(super) fn check(
    file: &ImageFile,
    found: &Found,
    checkup: &Checkup<'_>,
    findings: &mut Findings,
) -> Result<Extent> {
    let footer = &found.footer;
    let header_at = footer.data_offset;
    let (header, bytes) = read_header(file, header_at)?;
    header::check(file, footer, &header, &bytes, findings);
    let blocks = Blocks::new(file.clone(), found, &header, Place::Zero)?;
    let mut look = Look {
        file,
        blocks: &blocks,
        data_end: found.data_end,
        claims: Claims::default(),
        findings,
        extent: Extent {
            end: 0,
            sound: true,
        },
        unaligned: 0,
    };
    look.metadata(0..SECTOR, "copy of the footer");
    look.metadata(
        header_at..header_at.saturating_add(HEADER_LEN as u64),
        "dynamic header",
    );
    look.metadata(blocks.table(), TABLE);
    let bits = batmap::check(file, footer, &header, &mut look.claims, look.findings)?;
    if footer.disk_type == DIFFERENCING {
        locators::check(file, &header, header_at, &mut look.claims, look.findings)?;
    }
    look.extent.end = look.claims.end();
    let deep = checkup.deep && footer.disk_type == DYNAMIC;
    look.all_blocks(checkup, bits, deep)?;
    Ok(look.extent)
}

/// How `owner` is called in a sentence.
pub(super) fn name(owner: Owner) -> String {
    match owner {
        Owner::Named(part) => format!("the {part}"),
        Owner::Unit(block) => format!("block {block}"),
        Owner::Forgotten => "another block".to_owned(),
    }
}

/// What is known while the blocks are looked at one by one.
struct Look<'a> {
    file: &'a ImageFile,
    blocks: &'a Blocks,
    data_end: u64,
    claims: Claims,
    findings: &'a mut Findings,
    extent: Extent,
    unaligned: u64,
}

impl Look<'_> {
    /// Claims `range` for `part` of the metadata.
    fn metadata(&mut self, range: Range<u64>, part: &'static str) {
        let start = range.start;
        if let Err(owner) = self.claims.claim(range, Owner::Named(part)) {
            let detail = format!("overlaps {}", name(owner));
            self.error("overlap", part.to_owned(), start, detail);
        }
    }

    fn error(&mut self, rule: &'static str, part: String, at: u64, detail: String) {
        self.extent.sound = false;
        self.findings
            .add(Finding::new(Severity::Error, rule, self.file, part, detail).at(at));
    }

    fn all_blocks(
        &mut self,
        checkup: &Checkup<'_>,
        mut bits: Option<batmap::Bits>,
        deep: bool,
    ) -> Result<()> {
        let (mut block, mut stale) = (0u64, 0u64);
        while block < self.blocks.entries() {
            checkup.job.advance(0)?;
            let sector = match self.blocks.entry(block)? {
                Entry::Free { until } => {
                    block = until;
                    continue;
                }
                Entry::At(sector) => sector,
            };
            if self.blocks.used_bytes(block) == 0 {
                stale = stale.saturating_add(1);
                self.occupies(sector.bytes()?);
            } else if let Some(data) = self.place(block, sector.bytes()?) {
                let full = match &mut bits {
                    Some(bits) => bits.full(self.file, block)?,
                    None => false,
                };
                if full || deep {
                    let bitmap = self.blocks.bitmap(block, sector.bytes()?)?;
                    if full {
                        self.batmap_agrees(block, sector.bytes()?, &bitmap);
                    }
                    if deep {
                        self.nothing_hidden(block, data, &bitmap)?;
                    }
                }
            }
            block = block.saturating_add(1);
        }
        self.counted(stale);
        Ok(())
    }

    /// Says what is not worth a line for each block.
    fn counted(&mut self, stale: u64) {
        let mut note = |rule, detail: String| {
            let at = self.blocks.table().start;
            self.findings
                .add(Finding::new(Severity::Note, rule, self.file, TABLE, detail).at(at));
        };
        if stale > 0 {
            let detail = format!(
                "entries in use past the end of the disk, whose space is lost, and whose data would show if the disk grew: {stale}"
            );
            note("stale-entry", detail);
        }
        if self.unaligned > 0 {
            let detail = format!(
                "blocks whose data do not start at a multiple of {ALIGNMENT}, which is slow on disks with such sectors: {}",
                self.unaligned
            );
            note("unaligned", detail);
        }
        if self.claims.incomplete() {
            let detail = "has too many blocks out of order; not all overlaps were looked for";
            note("gave-up", detail.to_owned());
        }
    }

    /// Notes that a block, whose bitmap is at `bitmap_at`, takes room in the file, all of it.
    fn occupies(&mut self, bitmap_at: u64) {
        let end = bitmap_at.saturating_add(self.blocks.whole_len());
        // Some programs cut the last block where the disk ends.
        if end <= self.file.size.saturating_add(self.blocks.whole_len()) {
            self.extent.end = self.extent.end.max(end);
        }
    }

    /// Checks the place of `block`, whose bitmap is at `bitmap_at`. Returns where its data are.
    fn place(&mut self, block: u64, bitmap_at: u64) -> Option<u64> {
        let part = format!("{TABLE}, entry {block}");
        let at = self.blocks.entry_at(block);
        let data = bitmap_at.saturating_add(self.blocks.bitmap_len());
        let end = data.saturating_add(self.blocks.used_bytes(block));
        if end > self.data_end {
            let detail = "points past the end of the file".to_owned();
            self.error("block-past-end", part, at, detail);
            return None;
        }
        if let Err(owner) = self.claims.claim(bitmap_at..end, Owner::Unit(block)) {
            let (rule, detail) = match owner {
                Owner::Named(what) => (
                    "block-in-metadata",
                    format!("points into the metadata of the image: the {what}"),
                ),
                other => (
                    "block-overlap",
                    format!(
                        "points to a place that {} has already: a write to one changes the other",
                        name(other)
                    ),
                ),
            };
            self.error(rule, part, at, detail);
            return None;
        }
        self.occupies(bitmap_at);
        if !data.is_multiple_of(ALIGNMENT) {
            self.unaligned = self.unaligned.saturating_add(1);
        }
        Some(data)
    }

    /// Says if the batmap calls `block` full, but its bitmap does not.
    fn batmap_agrees(&mut self, block: u64, bitmap_at: u64, bitmap: &Bitmap) {
        let sectors = Sectors::holding(self.blocks.used_bytes(block)).0;
        let (first, end) = bitmap.run(0);
        if first && end >= sectors {
            return;
        }
        let detail = format!(
            "says that not all of its sectors are kept (sector {} is not), but the batmap says they are; XenServer believes the batmap and reads other contents. Which is right cannot be told",
            if first { end } else { 0 }
        );
        let part = format!("sector bitmap of block {block}");
        self.findings.add(
            Finding::new(Severity::Warning, "batmap-stale", self.file, part, detail).at(bitmap_at),
        );
    }

    /// Says if `block` of a dynamic disk has data in sectors that its bitmap calls empty.
    fn nothing_hidden(&mut self, block: u64, data: u64, bitmap: &Bitmap) -> Result<()> {
        let sectors = Sectors::holding(self.blocks.used_bytes(block)).0;
        let mut sector = 0;
        while sector < sectors {
            let (kept, end) = bitmap.run(sector);
            let end = end.min(sectors);
            if !kept && let Some(at) = self.first_data(data, sector..end)? {
                let detail = format!(
                    "says that sector {} is empty, but there are data; they read as zero here, and show in programs that ignore bitmaps, such as qemu",
                    at.saturating_sub(data) / SECTOR
                );
                let part = format!("sector bitmap of block {block}");
                self.findings.add(
                    Finding::new(Severity::Warning, "hidden-data", self.file, part, detail).at(at),
                );
                return Ok(());
            }
            sector = end;
        }
        Ok(())
    }

    /// Where in the file the first of `sectors` is, of those after `data`, that is not all zeros.
    fn first_data(&self, data: u64, sectors: Range<u64>) -> Result<Option<u64>> {
        let mut at = data.saturating_add(Sectors(sectors.start).bytes()?);
        let end = data.saturating_add(Sectors(sectors.end).bytes()?);
        while at < end {
            let len = end.saturating_sub(at).min(CHUNK);
            let bytes = self.file.read_part("data of a block", at, len)?;
            if !is_zero(&bytes) {
                let sector = usize::try_from(SECTOR).unwrap_or(512);
                let before = bytes.chunks(sector).take_while(|s| is_zero(s)).count() as u64;
                return Ok(Some(at.saturating_add(before.saturating_mul(SECTOR))));
            }
            at = at.saturating_add(len);
        }
        Ok(None)
    }
}
