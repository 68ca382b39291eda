//! Gives the disk of an image another size, in place.
//!
//! What is cut off is looked at first; what is added reads as zero, also where a parent goes on.

use super::{
    CHUNK, Piece, Stamp, aligned,
    commit::{self, Renewal},
    family,
    gpt::Gpt,
    in_place, partitions, read_range,
    redo::Redo,
    runs, stamp,
};
use crate::{
    Chain, Disk, Error, ErrorKind, Ids, ImageWriter, Job, Kind, OpenOptions, Result,
    disk::{extents, part_len, same_kind},
    format::Update,
    is_zero,
    limits::DISK_SIZE,
    open,
    transaction::{self, Medium, Totals, Transaction},
    units::{SECTOR, buffer_len, round_down, round_up},
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
    /// Bytes of the sectors that are cut off and not zero.
    pub data: u64,
    /// The partitions that end past the new end.
    pub cut: Vec<Partition>,
    /// The partition table of the guest, if it has an intact GUID partition table.
    pub gpt: Option<Table>,
    /// Its backup is moved.
    pub fix_gpt: bool,
    /// The image gets another identity, because something that it reads as changes: its children
    /// would rely on it.
    pub renewal: Option<Renewal>,
    /// A parent goes on where the image grows, and is hidden.
    pub hides: bool,
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
    /// Its backup can be moved to the end of the disk: there is room.
    pub movable: bool,
    /// Its backup is cut off, and not moved.
    pub loses_backup: bool,
}

/// A partition of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its number, counted from 1.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// First byte after it; of one that contains others, after all of them.
    pub end: u64,
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
    let wrong = |detail: String| Err(Error::new(ErrorKind::Usage, "size", detail).path(path));
    if size == 0 {
        return wrong("a disk cannot have 0 bytes".to_owned());
    }
    if size > DISK_SIZE {
        return wrong(format!(
            "{size} bytes are more than the {DISK_SIZE} that a disk can have"
        ));
    }
    if !size.is_multiple_of(chain.sector_size().into()) {
        return wrong(format!(
            "{size} bytes are not a whole number of sectors of {} bytes",
            chain.sector_size()
        ));
    }
    let gpt = Gpt::find(&chain)?;
    let changes = match wish.fix_gpt {
        true => moved(&chain, gpt.as_ref(), size).map_err(|e| e.path(path))?,
        false => Vec::new(),
    };
    // The backup that ends a disk is not what anybody would miss.
    let known = gpt.as_ref().map_or(Vec::new(), Gpt::backup);
    let lost = size.min(old_size)..old_size;
    let loses_backup = known.iter().any(|range| range.end > size);
    let (data_at, data) = data_in(&chain, lost, &known, job)?;
    let mut cut = partitions::listed(&chain, gpt.as_ref())?;
    cut.retain(|partition| partition.end > size && size < old_size);
    let renewed = data_at.is_some() || loses_backup || !changes.is_empty();
    Ok(Plan {
        files: stamp::all(chain.files())?,
        image: path.to_owned(),
        format: chain.top().format().name().to_owned(),
        old_size,
        size,
        children: children(&chain, path, options)?,
        data_at,
        data,
        cut,
        gpt: gpt.map(|gpt| Table {
            sector_size: gpt.sector_size(),
            used: gpt.used(),
            has_backup: gpt.has_backup(),
            fits: wish.fix_gpt || gpt.ends_at(size),
            movable: gpt.moved_to(size).is_ok(),
            loses_backup: loses_backup && !wish.fix_gpt,
        }),
        fix_gpt: wish.fix_gpt,
        renewal: chain
            .layers()
            .first()
            .filter(|_| renewed)
            .map(|top| commit::renewal(top, wish.now)),
        hides: shows_parent(&chain, size),
        force: wish.force,
        now: wish.now,
    })
}

/// The children of the image that are beside it, or beside the file that `path` is a link to.
fn children(chain: &Chain, path: &Path, options: &OpenOptions<'_>) -> Result<Vec<PathBuf>> {
    let mut found = family::children(chain.top(), in_place::folder(path), options)?;
    let linked = path.is_symlink().then(|| path.canonicalize());
    if let Some(Ok(real)) = linked {
        let known: Vec<_> = found.iter().map(|p| p.canonicalize().ok()).collect();
        let more = family::children(chain.top(), in_place::folder(&real), options)?;
        found.extend(
            more.into_iter()
                .filter(|p| !known.contains(&Some(p.clone()))),
        );
    }
    Ok(found)
}

/// The changes that move the backup of `gpt` to the end of `size` bytes; none if it is there.
fn moved(disk: &dyn Disk, gpt: Option<&Gpt>, size: u64) -> Result<Vec<(u64, Vec<u8>)>> {
    let Some(gpt) = gpt else {
        let detail = match Gpt::backup_at_end(disk)? {
            true => {
                "the GUID partition table is damaged, and only its backup at the end of the disk is intact: it must be repaired from that in a guest first"
            }
            false => "the disk has no intact GUID partition table",
        };
        return Err(Error::new(ErrorKind::Conflict, "partition table", detail));
    };
    let changes = gpt.moved_to(size)?;
    let mut same = size == disk.size();
    if same {
        each_changed(disk, &changes, SECTOR, |_, _| {
            same = false;
            Ok(())
        })?;
    }
    Ok(if same { Vec::new() } else { changes })
}

/// The first position in `range` of `disk` that is not zero, and not in one of `known`; and the
/// bytes of all sectors there in which there is something.
fn data_in(
    disk: &dyn Disk,
    range: Range<u64>,
    known: &[Range<u64>],
    job: &Job<'_>,
) -> Result<(Option<u64>, u64)> {
    if range.is_empty() {
        return Ok((None, 0));
    }
    job.watch.phase("look", range.end - range.start);
    let (mut first, mut sum) = (None, 0);
    job.in_order(
        tail(disk, range.start, disk.sector_size().into()),
        |piece| {
            let mut found = (None, 0);
            if piece.data {
                let mut bytes = read_range(disk, &piece.range)?;
                for known in known {
                    let start = part_len(bytes.len(), piece.range.start, known.start);
                    let end = part_len(bytes.len(), piece.range.start, known.end);
                    bytes.get_mut(start..end).unwrap_or_default().fill(0);
                }
                if !is_zero(&bytes) {
                    let at = bytes.iter().position(|b| *b != 0);
                    let sectors = bytes.chunks(buffer_len(SECTOR)?).filter(|s| !is_zero(s));
                    let len = sectors.map(|s| s.len() as u64).sum();
                    found = (at.map(|at| piece.range.start + at as u64), len);
                }
            }
            Ok((piece.range, found))
        },
        |(range, (found, len))| {
            first = first.or(found);
            sum += len;
            job.advance(range.end - range.start)
        },
    )?;
    Ok((first, sum))
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

    /// Every path of the plan.
    pub(super) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let files = self.files.iter_mut().map(|stamp| &mut stamp.path);
        files
            .chain([&mut self.image])
            .chain(&mut self.children)
            .collect()
    }

    /// Fails with [`Conflict`](ErrorKind::Conflict) if something would be lost, and nobody accepted
    /// that.
    pub fn check(&self) -> Result<()> {
        if self.force {
            return Ok(());
        }
        let fail = |part: &'static str, detail: String| {
            Err(Error::new(ErrorKind::Conflict, part, detail).path(&self.image))
        };
        if let Some(last) = self.cut.iter().max_by_key(|partition| partition.end) {
            return fail(
                "cut",
                format!(
                    "the last partition ends at byte {}, past the new end at {}",
                    last.end, self.size
                ),
            );
        }
        if let Some(at) = self.data_at {
            return fail(
                "cut",
                format!("byte {at} of the disk would be cut off, and is not zero"),
            );
        }
        if let Some(table) = self.gpt.filter(|table| table.loses_backup) {
            return match table.movable {
                true => fail(
                    "backup",
                    "the backup of the partition table would be cut off".to_owned(),
                ),
                false => fail(
                    "cut",
                    "the backup of the partition table would be cut off, and has no room before the new end"
                        .to_owned(),
                ),
            };
        }
        if self.children.is_empty() {
            return Ok(());
        }
        let names = in_place::quoted(&self.children);
        if self.size < self.old_size {
            return fail(
                "cut",
                format!("other images rely on what would be cut off: {names}"),
            );
        }
        match self.renewal {
            Some(_) => fail(
                "partition table",
                format!("other images rely on the one that would be moved: {names}"),
            ),
            None => Ok(()),
        }
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
        let redo = Redo::Resize(self.clone());
        let files = in_place::files(&chain);
        let ((), totals) = in_place::run(&files, &self.files, &redo, medium, |t| {
            self.resize(&chain, t, options)?;
            if self.hides {
                let grown = self.old_size..self.size;
                self.amend(&chain, t, options, None, |disk, writer| {
                    hide(disk, grown, writer, job)
                })?;
            }
            if !changes.is_empty() {
                // The new size came with a new identity.
                let ids = self.ids().filter(|_| self.size == self.old_size);
                self.amend(&chain, t, options, ids, |disk, writer| {
                    write(disk, &changes, writer)
                })?;
            }
            Ok(())
        })?;
        Ok(totals)
    }

    /// Says what [`apply`](Self::apply) would write. Of a disk that changes its size, what is
    /// written to the disk itself then is not counted: the zeros that hide a parent, and the
    /// partition table.
    pub fn rehearse(&self, options: &OpenOptions<'_>) -> Result<Totals> {
        let chain = in_place::open(&self.image, &self.format, &self.files, options)?;
        let changes = self.table_changes(&chain)?;
        let files = in_place::files(&chain);
        let ((), totals) = transaction::rehearse(&files, |t| {
            if self.size != self.old_size {
                return self.resize(&chain, t, options);
            }
            match changes.is_empty() {
                true => Ok(()),
                false => self.update(&chain, t, options, self.ids(), |disk, writer| {
                    write(disk, &changes, writer)
                }),
            }
        })?;
        Ok(totals)
    }

    fn table_changes(&self, chain: &Chain) -> Result<Vec<(u64, Vec<u8>)>> {
        match self.fix_gpt {
            true => moved(chain, Gpt::find(chain)?.as_ref(), self.size),
            false => Ok(Vec::new()),
        }
    }

    /// What the new identity is made from. Children go by it, and must not read what is no longer
    /// there.
    fn ids(&self) -> Option<Ids> {
        self.renewal.as_ref().map(|renewal| renewal.ids)
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
            ids: self.ids(),
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
        ids: Option<Ids>,
        change: impl FnOnce(&dyn Disk, &mut dyn ImageWriter) -> Result<()>,
    ) -> Result<()> {
        transaction.barrier()?;
        let chain = in_place::reopen(chain, options)?;
        self.update(&chain, transaction, options, ids, change)
    }

    /// Writes to the disk of `chain`.
    fn update(
        &self,
        chain: &Chain,
        transaction: &Transaction<'_>,
        options: &OpenOptions<'_>,
        ids: Option<Ids>,
        change: impl FnOnce(&dyn Disk, &mut dyn ImageWriter) -> Result<()>,
    ) -> Result<()> {
        let top = chain.top();
        let update = Update {
            context: in_place::context(options),
            ids,
        };
        let writer = top.format().update(top, transaction, &update);
        let mut writer = writer.map_err(|e| e.path(&self.image))?;
        change(chain, &mut *writer)?;
        writer.finish()
    }
}

/// True if a parent goes on where the image is to grow to `size` bytes.
fn shows_parent(chain: &Chain, size: u64) -> bool {
    let mut parents = chain.layers().iter().skip(1);
    parents.any(|parent| parent.size() > chain.size()) && size > chain.size()
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
    each_changed(disk, changes, writer.unit(), |range, bytes| {
        writer.data(range, bytes)
    })
}

/// Visits the units of `disk` that are others with `changes`, in ascending order.
fn each_changed(
    disk: &dyn Disk,
    changes: &[(u64, Vec<u8>)],
    unit: u64,
    mut visit: impl FnMut(Range<u64>, &[u8]) -> Result<()>,
) -> Result<()> {
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
        let old = read_range(disk, &range)?;
        let mut bytes = old.clone();
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
        if bytes != old {
            visit(range, &bytes)?;
        }
    }
    Ok(())
}
