//! Gives the disk of an image another size, in place.
//!
//! What is cut off is looked at first; what is added reads as zero, also where a parent goes on.

use super::{
    CHUNK, Piece, Stamp, aligned, family, gpt::Gpt, in_place, read_range, redo::Redo, runs, stamp,
};
use crate::{
    Chain, Disk, Error, ErrorKind, Ids, ImageWriter, Job, Kind, OpenOptions, Result,
    disk::{extents, part_len, same_kind},
    format::Update,
    is_zero,
    limits::DISK_SIZE,
    open,
    transaction::{self, Medium, Totals, Transaction},
    units::{buffer_len, round_down, round_up},
};
use serde::{Deserialize, Serialize};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Bytes that the disk is to have.
    pub size: u64,
    /// Also move the backup of a GUID partition table to the new end.
    pub fix_gpt: bool,
    /// Cut off data and partitions, and what children rely on.
    pub force: bool,
    /// Seconds since 1970-01-01 UTC.
    pub now: u64,
}

/// What is to be done, and to which files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The files of the image as they were when this was planned, then those of its parents.
    pub files: Vec<Stamp>,
    /// The image.
    pub image: PathBuf,
    /// The name of its format.
    pub format: String,
    /// Bytes that the disk has.
    pub old_size: u64,
    /// Bytes that it will have.
    pub size: u64,
    /// Images in its folder that have it as their parent.
    pub children: Vec<PathBuf>,
    /// Of what is cut off, the first place where something is stored, if the cut was looked at.
    pub data_at: Option<u64>,
    /// The partition table of the guest, if it has an intact GUID partition table.
    pub gpt: Option<Table>,
    /// Its backup is moved.
    pub fix_gpt: bool,
    /// Whatever is cut off was accepted.
    pub force: bool,
    /// When this was planned, in seconds since 1970-01-01 UTC.
    pub now: u64,
}

/// What a GUID partition table says about the size of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Bytes of its sectors.
    pub sector_size: u64,
    /// First byte after the last partition.
    pub used: u64,
    /// Its backup is there and intact.
    pub has_backup: bool,
    /// Its backup will be at the end of the disk.
    pub fits: bool,
}

/// Plans to make the disk of the image at `path` as `wish` says. Nothing is written. What would be
/// cut off is read.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) for a size that no disk can have, and those of opening the chain.
/// What speaks against the change is in the plan; [`Plan::check`] makes an error of it.
pub fn plan(path: &Path, wish: &Wish, options: &OpenOptions<'_>, job: &Job<'_>) -> Result<Plan> {
    let options = &in_place::options(options);
    let chain = open(path, options)?;
    let (old_size, size) = (chain.size(), wish.size);
    if size == 0 || size > DISK_SIZE || !size.is_multiple_of(chain.sector_size().into()) {
        let detail = format!(
            "{size} bytes are not a whole number of sectors of {} bytes, up to {DISK_SIZE}",
            chain.sector_size()
        );
        return Err(Error::new(ErrorKind::Usage, "size", detail).path(path));
    }
    let gpt = Gpt::find(&chain)?;
    if wish.fix_gpt {
        moved(gpt.as_ref(), size).map_err(|e| e.path(path))?;
    }
    // The backup that ends a disk is not what anybody would miss.
    let known = gpt.as_ref().map_or(Vec::new(), Gpt::backup);
    let data_at = first_data(&chain, size.min(old_size)..old_size, &known, job)?;
    Ok(Plan {
        files: stamp::all(chain.files())?,
        image: path.to_owned(),
        format: chain.top().format().name().to_owned(),
        old_size,
        size,
        children: family::children(chain.top(), in_place::folder(path), options)?,
        data_at,
        gpt: gpt.map(|gpt| Table {
            sector_size: gpt.sector_size(),
            used: gpt.used(),
            has_backup: gpt.has_backup(),
            fits: wish.fix_gpt || gpt.ends_at(size),
        }),
        fix_gpt: wish.fix_gpt,
        force: wish.force,
        now: wish.now,
    })
}

/// The changes that move the backup of `gpt`.
fn moved(gpt: Option<&Gpt>, size: u64) -> Result<Vec<(u64, Vec<u8>)>> {
    let Some(gpt) = gpt else {
        let detail = "the disk has no intact GUID partition table";
        return Err(Error::new(ErrorKind::Conflict, "partition table", detail));
    };
    gpt.moved_to(size)
}

/// The first position in `range` of `disk` that is not zero, and not in one of `known`.
fn first_data(
    disk: &dyn Disk,
    range: Range<u64>,
    known: &[Range<u64>],
    job: &Job<'_>,
) -> Result<Option<u64>> {
    if range.is_empty() {
        return Ok(None);
    }
    job.watch.phase("look", range.end - range.start);
    let mut first = None;
    job.in_order(
        tail(disk, range.start, disk.sector_size().into()),
        |piece| {
            let mut found = None;
            if piece.data {
                let mut bytes = read_range(disk, &piece.range)?;
                for known in known {
                    let start = part_len(bytes.len(), piece.range.start, known.start);
                    let end = part_len(bytes.len(), piece.range.start, known.end);
                    bytes.get_mut(start..end).unwrap_or_default().fill(0);
                }
                let at = match is_zero(&bytes) {
                    true => None,
                    false => bytes.iter().position(|b| *b != 0),
                };
                found = at.map(|at| piece.range.start + at as u64);
            }
            Ok((piece.range, found))
        },
        |(range, found)| {
            first = first.or(found);
            job.advance(range.end - range.start)
        },
    )?;
    Ok(first)
}

/// The pieces of `disk` from the unit on in which `start` lies.
fn tail(disk: &dyn Disk, start: u64, unit: u64) -> impl Iterator<Item = Result<Piece>> + '_ {
    let start = round_down(start, unit);
    let piece = |range, data| Piece { range, data };
    let before = (start > 0).then(|| Ok(piece(0..start, false)));
    let spans = extents(disk, start..disk.size(), same_kind)
        .map(move |extent| extent.map(|e| piece(e.range, e.kind == Kind::Data)));
    let all = before.into_iter().chain(spans);
    aligned(all, disk.size(), unit, CHUNK)
        .filter(move |piece| piece.as_ref().is_ok_and(|p| p.range.end > start) || piece.is_err())
}

impl Plan {
    /// The same plan for files that were restored: their times have changed.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            files: stamp::restored(&self.files),
            ..self.clone()
        }
    }

    /// Fails with [`Conflict`](ErrorKind::Conflict) if something would be lost, and nobody accepted
    /// that.
    pub fn check(&self) -> Result<()> {
        if self.force || self.size >= self.old_size {
            return Ok(());
        }
        let fail =
            |detail: String| Err(Error::new(ErrorKind::Conflict, "cut", detail).path(&self.image));
        if let Some(table) = self.gpt.filter(|t| t.used > self.size) {
            return fail(format!(
                "the last partition ends at byte {}, past the new end at {}",
                table.used, self.size
            ));
        }
        if let Some(at) = self.data_at {
            return fail(format!(
                "byte {at} of the disk would be cut off, and is not zero"
            ));
        }
        if !self.children.is_empty() {
            return fail(format!(
                "other images rely on what would be cut off: {}",
                in_place::quoted(&self.children)
            ));
        }
        Ok(())
    }

    /// Makes the change: all of it or, after an error, none.
    pub fn apply(
        &self,
        options: &OpenOptions<'_>,
        medium: &dyn Medium,
        job: &Job<'_>,
    ) -> Result<Totals> {
        self.check()?;
        let chain = in_place::open(&self.image, &self.format, &self.files, options)?;
        let changes = self.table_changes(&chain)?;
        let redo = Redo::Resize(Self {
            image: in_place::absolute(&self.image)?,
            files: stamp::absolute(&self.files)?,
            ..self.clone()
        });
        let files = in_place::files(&chain);
        let ((), totals) = in_place::run(&files, &self.files, &redo, medium, |t| {
            self.resize(&chain, t, options)?;
            if self.shows_parent(&chain) {
                let grown = self.old_size..self.size;
                self.amend(&chain, t, options, |disk, writer| {
                    hide(disk, grown, writer, job)
                })?;
            }
            if !changes.is_empty() {
                self.amend(&chain, t, options, |disk, writer| {
                    write(disk, &changes, writer)
                })?;
            }
            Ok(())
        })?;
        Ok(totals)
    }

    /// Says what [`apply`](Self::apply) would write to change the size. What it writes to the
    /// disk itself then is not counted: the zeros that hide a parent, and the partition table.
    pub fn rehearse(&self, options: &OpenOptions<'_>) -> Result<Totals> {
        let chain = in_place::open(&self.image, &self.format, &self.files, options)?;
        self.table_changes(&chain)?;
        let files = in_place::files(&chain);
        let ((), totals) = transaction::rehearse(&files, |t| self.resize(&chain, t, options))?;
        Ok(totals)
    }

    fn table_changes(&self, chain: &Chain) -> Result<Vec<(u64, Vec<u8>)>> {
        match self.fix_gpt {
            true => moved(Gpt::find(chain)?.as_ref(), self.size),
            false => Ok(Vec::new()),
        }
    }

    /// True if a parent goes on where the image is to grow.
    fn shows_parent(&self, chain: &Chain) -> bool {
        let mut parents = chain.layers().iter().skip(1);
        parents.any(|parent| parent.size() > self.old_size) && self.size > self.old_size
    }

    fn resize(
        &self,
        chain: &Chain,
        transaction: &Transaction<'_>,
        options: &OpenOptions<'_>,
    ) -> Result<()> {
        if self.size == self.old_size {
            return Ok(());
        }
        let top = chain.top();
        let update = Update {
            context: in_place::context(options),
            // Children go by it, and must not read what is no longer there.
            ids: self.data_at.map(|_| Ids::random(self.now)),
        };
        let done = top.format().resize(top, transaction, &update, self.size);
        done.map_err(|e| e.path(&self.image))
    }

    /// Writes to the disk that has its new size: opens it as the transaction has left it so far.
    fn amend(
        &self,
        chain: &Chain,
        transaction: &Transaction<'_>,
        options: &OpenOptions<'_>,
        change: impl FnOnce(&dyn Disk, &mut dyn ImageWriter) -> Result<()>,
    ) -> Result<()> {
        transaction.barrier()?;
        let chain = in_place::reopen(chain, options)?;
        let top = chain.top();
        let update = Update {
            context: in_place::context(options),
            ids: None,
        };
        let mut writer = top.format().update(top, transaction, &update)?;
        change(&chain, &mut *writer)?;
        writer.finish()
    }
}

/// Writes zeros where `disk` shows something in `range`.
fn hide(
    disk: &dyn Disk,
    range: Range<u64>,
    writer: &mut dyn ImageWriter,
    job: &Job<'_>,
) -> Result<()> {
    let unit = writer.unit();
    let (start, end) = (range.start, range.end);
    job.watch.phase("zero", end - start);
    for piece in tail(disk, start, unit) {
        let Piece { range, data } = piece?;
        if !data {
            continue;
        }
        let mut bytes = read_range(disk, &range)?;
        let kept = part_len(bytes.len(), range.start, start);
        bytes.get_mut(kept..).unwrap_or_default().fill(0);
        for (range, inside, zero) in runs(range.start, bytes.len(), unit, |part| {
            bytes.get(part).is_none_or(is_zero)
        }) {
            match zero {
                true => writer.zero(range)?,
                false => writer.data(range, bytes.get(inside).unwrap_or_default())?,
            }
        }
        job.advance(range.end - range.start.max(start))?;
    }
    Ok(())
}

/// Writes `changes` over what `disk` holds; later ones count.
fn write(disk: &dyn Disk, changes: &[(u64, Vec<u8>)], writer: &mut dyn ImageWriter) -> Result<()> {
    let unit = writer.unit();
    let mut units: Vec<u64> = changes
        .iter()
        .flat_map(|(at, bytes)| {
            let end = round_up(at + bytes.len() as u64, unit);
            (at / unit..end / unit).map(|number| number * unit)
        })
        .collect();
    units.sort_unstable();
    units.dedup();
    for start in units {
        let range = start..disk.size().min(start + unit);
        let mut bytes = read_range(disk, &range)?;
        for (at, change) in changes {
            let (from, to) = (
                range.start.max(*at),
                range.end.min(at + change.len() as u64),
            );
            if from < to {
                let source = change.get(buffer_len(from - at)?..buffer_len(to - at)?);
                let place = buffer_len(from - start)?..buffer_len(to - start)?;
                if let (Some(source), Some(place)) = (source, bytes.get_mut(place)) {
                    place.copy_from_slice(source);
                }
            }
        }
        writer.data(range, &bytes)?;
    }
    Ok(())
}
