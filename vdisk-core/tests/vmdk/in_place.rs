//! Sparse disks resized and compacted in place, against a byte array and against other programs.

use crate::{
    builder::{Cell, Grains, put32, put64},
    descriptor, peers,
};
use proptest::prelude::*;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::PoisonError,
};
use vdisk_core::{
    Disk, Error, ErrorKind, FileResolver, Format, Ids, Job, Kind, Layer, OpenOptions, Result,
    check::Severity,
    format::{self, Compacted, Context, Update},
    is_zero, open_layer, ops,
    storage::ImageFile,
    testing::{self, contents},
    transaction::{self, Medium, Totals, Transaction, Work},
};

pub(crate) fn vmdk() -> &'static dyn Format {
    format::named("vmdk").unwrap()
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    let resolver = FileResolver::default();
    contents(&vdisk_core::open(path, &OpenOptions::new(&resolver)).unwrap()).unwrap()
}

/// What a check says that is more than a note.
pub(crate) fn trouble(path: &Path) -> Vec<String> {
    let resolver = FileResolver::default();
    let extent = ops::check::Extent {
        deep: true,
        chain: true,
    };
    let options = OpenOptions::new(&resolver);
    let outcome = ops::check::check(path, &options, extent, &Job::default()).unwrap();
    let findings = outcome.findings.list().iter();
    let bad = findings.filter(|f| f.severity > Severity::Note);
    bad.map(ToString::to_string).collect()
}

/// The files of this machine, without waiting for the medium: no test here cuts the power.
pub(crate) struct Unflushed;

impl Medium for Unflushed {
    fn sync(&self, _: &fs::File) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Runs `change` on the image: in a rehearsal, which must foretell it; so that it fails at its
/// end, after which nothing may have changed; and then in earnest.
fn change<T: PartialEq + std::fmt::Debug>(
    path: &Path,
    ids: Option<Ids>,
    change: impl Fn(&Layer, &Transaction<'_>, &Update<'_>) -> Result<T>,
) -> Result<(T, Totals)> {
    let resolver = FileResolver::default();
    let update = Update {
        context: Context {
            resolver: &resolver,
            overlay: false,
            disk: None,
            verify: false,
        },
        ids,
    };
    let before = read(path);
    let layer = || open_layer(path, &OpenOptions::new(&resolver)).unwrap();
    let run = |fails: bool| {
        let _guard = peers::STARTING
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let layer = layer();
        let files: Vec<&ImageFile> = layer.files().iter().collect();
        let work = Work {
            files: &files,
            redo: "",
            medium: &Unflushed,
        };
        transaction::run(&work, |t| {
            let done = change(&layer, t, &update)?;
            match fails {
                true => Err(Error::new(ErrorKind::Cancelled, "test", "stopped it")),
                false => Ok(done),
            }
        })
    };
    let stopped = run(true).unwrap_err();
    assert!(
        read(path) == before,
        "a change that failed changed something"
    );
    let opened = layer();
    let files: Vec<&ImageFile> = opened.files().iter().collect();
    let rehearsed = transaction::rehearse(&files, |t| change(&opened, t, &update));
    let done = run(false);
    match &done {
        Ok(done) => {
            assert_eq!(stopped.kind(), ErrorKind::Cancelled, "{stopped}");
            assert_eq!(&rehearsed.unwrap(), done);
        }
        Err(error) => assert!(rehearsed.is_err(), "{error}"),
    }
    done
}

pub(crate) fn resize(path: &Path, size: usize) -> Result<Totals> {
    let resize = |layer: &Layer, t: &Transaction<'_>, update: &Update<'_>| {
        vmdk().resize(layer, t, update, size as u64)
    };
    Ok(change(path, None, resize)?.1)
}

/// Drops all that is zero in the image, and what is as in `parent`.
fn compact(path: &Path, parent: Option<&[u8]>) -> Result<Compacted> {
    let model = read(path);
    let compact = |layer: &Layer, t: &Transaction<'_>, update: &Update<'_>| {
        let mut compactor = vmdk().compact(layer, t, update)?;
        let unit = compactor.unit() as usize;
        for (index, unit_bytes) in model.chunks(unit).enumerate() {
            let (start, end) = (index * unit, index * unit + unit_bytes.len());
            let same = parent.is_some_and(|p| p.get(start..end) == Some(unit_bytes));
            let kind = match (same, is_zero(unit_bytes)) {
                (true, _) => Kind::Absent,
                (false, true) => Kind::Zero,
                (false, false) => continue,
            };
            compactor.remove(start as u64..end as u64, kind)?;
        }
        compactor.finish()
    };
    let sizes = || -> u64 {
        let layer = open_layer(path, &OpenOptions::new(&FileResolver::default())).unwrap();
        layer.files().iter().map(|f| f.size).sum()
    };
    let before = sizes();
    let (done, totals) = change(path, None, compact)?;
    assert_eq!(sizes(), before - done.cut, "{done:?}");
    assert_eq!((totals.cut, totals.grown), (done.cut, 0));
    assert_eq!(done.freed, done.cut + done.kept);
    Ok(done)
}

/// How a single-file disk is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// There are two sets of tables.
    copy: bool,
    /// Before every so-manieth grain lies one that nothing uses.
    gaps: usize,
    /// Every so-manieth grain lies a sector off the grid.
    off: usize,
    /// The file ends in the last grain of the disk, where that does.
    short: bool,
}

pub(crate) const PLAIN: Layout = Layout {
    copy: true,
    gaps: 0,
    off: 0,
    short: false,
};

fn layout() -> impl Strategy<Value = Layout> {
    (any::<bool>(), 0..6usize, 0..9usize, any::<bool>()).prop_map(|(copy, gaps, off, short)| {
        Layout {
            copy,
            gaps,
            // Mostly all grains lie on the grid.
            off: if off < 6 { 0 } else { off },
            short,
        }
    })
}

/// A monolithicSparse disk; `Cell::Unmapped` is a stored grain of zeros.
pub(crate) fn monolithic(grains: &Grains, layout: Layout, parent: Option<(&str, &str)>) -> Vec<u8> {
    let tables = grains.sectors.div_ceil(512 * grains.grain);
    let directory = (tables * 4).div_ceil(512);
    let set = directory + tables * 4;
    let sets = if layout.copy {
        vec![21, 21 + set]
    } else {
        vec![21]
    };
    let overhead = (21 + sets.len() * set).next_multiple_of(grains.grain);
    let mut bytes = vec![0; overhead * 512];
    bytes[..4].copy_from_slice(b"KDMV");
    let zeros = grains.cells.contains(&Cell::Zero);
    put32(&mut bytes, 4, 1);
    put32(
        &mut bytes,
        8,
        1 | u32::from(layout.copy) << 1 | u32::from(zeros) << 2,
    );
    for (at, value) in [
        (12, grains.sectors),
        (20, grains.grain),
        (28, 1),
        (36, 20),
        (48, if layout.copy { sets[0] } else { 0 }),
        (56, sets[sets.len() - 1]),
        (64, overhead),
    ] {
        put64(&mut bytes, at, value as u64);
    }
    put32(&mut bytes, 44, 512);
    bytes[73..77].copy_from_slice(b"\n \r\n");
    let line = format!("RW {} SPARSE \"disk.vmdk\"", grains.sectors);
    let mut text = descriptor("monolithicSparse", parent, &[line]);
    let geometry = "ddb.geometry.cylinders = \"1\"\nddb.geometry.heads = \"64\"\n\
                    ddb.geometry.sectors = \"32\"\nddb.mine = \"kept\"\n";
    text.extend(geometry.as_bytes());
    bytes[512..512 + text.len()].copy_from_slice(&text);
    for set in &sets {
        for table in 0..tables {
            let sector = set + directory + table * 4;
            put32(&mut bytes, set * 512 + table * 4, sector as u32);
        }
    }
    for (count, &index) in grains.order.iter().enumerate() {
        let entry = match grains.cells[index] {
            Cell::Hole => continue,
            Cell::Zero => 1,
            Cell::Data(_) | Cell::Unmapped => {
                if layout.gaps > 0 && count % layout.gaps == 0 {
                    bytes.extend(vec![0xee; grains.grain * 512]);
                }
                let off = layout.off > 0 && count % layout.off == 0;
                bytes.extend(vec![0xee; usize::from(off) * 512]);
                let entry = bytes.len() / 512;
                let mut content = grains.grain(index);
                let inside = grains.sectors % grains.grain * 512;
                let last = index + 1 == grains.cells.len() && inside > 0;
                if last {
                    content[inside..].fill(0xdd); // nobody may ever see this
                }
                bytes.extend(content);
                // On the grid again.
                let rest = usize::from(off) * (grains.grain - 1) * 512;
                bytes.extend(vec![0xee; rest]);
                if last && layout.short && !off && Some(&index) == grains.order.last() {
                    bytes.truncate(entry * 512 + inside);
                }
                entry as u32
            }
        };
        for set in &sets {
            let at = (set + directory) * 512 + index * 4;
            put32(&mut bytes, at, entry);
        }
    }
    bytes
}

fn cells() -> impl Strategy<Value = Cell> + Clone + 'static {
    prop_oneof![
        3 => (1..255u8).prop_map(Cell::Data),
        1 => Just(Cell::Unmapped),
        1 => Just(Cell::Hole),
    ]
}

fn cells_and_zeros() -> impl Strategy<Value = Cell> + Clone + 'static {
    prop_oneof![4 => cells(), 1 => Just(Cell::Zero)]
}

/// Sizes in sectors to resize to, or 0 to compact.
fn steps() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![Just(0), 1..12_000usize], 1..6)
}

pub(crate) fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("disk.vmdk");
    fs::write(&path, bytes).unwrap();
    path
}

/// Grains that the image stores.
fn stored(path: &Path, grain: usize) -> u64 {
    let layer = open_layer(path, &OpenOptions::new(&FileResolver::default())).unwrap();
    let mut grains = 0;
    let mut at = 0;
    while at < layer.size() {
        let extent = layer.extent_at(at).unwrap();
        if extent.kind == Kind::Data {
            grains += (extent.range.end - at).div_ceil(grain as u64 * 512);
        }
        at = extent.range.end;
    }
    grains
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_reads_as_the_model_whatever_its_shape_was(
        grains in Grains::strategy(&[4, 8, 16], 9000, cells_and_zeros()),
        layout in layout(),
        steps in steps(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &monolithic(&grains, layout, None));
        let mut model = grains.disk();
        prop_assert!(read(&path) == model);
        let warned = trouble(&path);
        let mut tables_in_front = true;
        for sectors in steps {
            if sectors == 0 {
                let done = compact(&path, None).unwrap();
                if layout.off == 0 && tables_in_front {
                    prop_assert_eq!(done.kept, 0, "{:?}", done);
                    let bytes = fs::read(&path).unwrap();
                    let overhead = u64::from_le_bytes(bytes[64..72].try_into().unwrap());
                    let needed = overhead + stored(&path, grains.grain) * grains.grain as u64;
                    let spare = if layout.short { grains.grain * 512 } else { 0 };
                    let len = bytes.len() as u64;
                    prop_assert!(len <= needed * 512 && len + spare as u64 >= needed * 512);
                }
            } else {
                model.resize(sectors * 512, 0);
                resize(&path, sectors * 512).unwrap();
                let text = fs::read(&path).unwrap()[512..21 * 512].to_vec();
                let text = String::from_utf8(text).unwrap();
                let line = format!("\nRW {sectors} SPARSE \"disk.vmdk\"\n");
                prop_assert!(text.contains(&line), "{}", text);
                let cylinders = (sectors / 2048).max(1);
                let line = format!("\nddb.geometry.cylinders = \"{cylinders}\"\n");
                prop_assert!(text.contains(&line), "{}", text);
                prop_assert!(text.contains("ddb.mine = \"kept\"\n"));
                tables_in_front = false;
            }
            prop_assert!(read(&path) == model);
            let found = trouble(&path);
            prop_assert!(found.len() <= warned.len(), "{:?}\n{:?}", found, warned);
            prop_assert!(grains.grain < 8 || layout.off > 0 || found.is_empty(), "{:?}", found);
        }
        peers::agree(&fs::read(&path).unwrap(), &model);
    }

    #[test]
    fn a_child_shows_its_parent_where_it_records_nothing(
        grains in Grains::strategy(&[8, 16], 9000, cells()),
        layout in layout(),
        same in prop::collection::vec(any::<bool>(), 1..50),
        steps in steps(),
    ) {
        // Whole grains, so that no grain ends where the disk does.
        let grains = Grains { sectors: grains.cells.len() * grains.grain, ..grains };
        let folder = tempfile::tempdir().unwrap();
        let mut base = vec![0; 5000 * 512];
        for (index, sector) in base.chunks_mut(512).enumerate() {
            sector.fill((index / 40) as u8);
        }
        // Some of what the child records is in the parent, too.
        let mut all = base.clone();
        all.resize(base.len().max(grains.sectors * 512), 0);
        let mut recorded = all.clone();
        grains.over(&mut recorded[..grains.sectors * 512]);
        let step = grains.grain * 512;
        for (index, part) in base.chunks_mut(step).enumerate() {
            if same[index % same.len()] {
                part.copy_from_slice(&recorded[index * step..][..part.len()]);
            }
        }
        fs::write(folder.path().join("base-flat.vmdk"), &base).unwrap();
        let lines = ["RW 5000 FLAT \"base-flat.vmdk\" 0".to_owned()];
        let text = descriptor("monolithicFlat", None, &lines);
        fs::write(folder.path().join("base.vmdk"), text).unwrap();
        let child = monolithic(&grains, layout, Some(("12345678", "base.vmdk")));
        let path = write(folder.path(), &child);
        let below = |sectors: usize| {
            let mut below = base.clone();
            below.resize(sectors * 512, 0);
            below
        };
        let mut model = below(grains.sectors);
        grains.over(&mut model);
        prop_assert!(read(&path) == model);
        for sectors in steps {
            if sectors == 0 {
                compact(&path, Some(&base)).unwrap();
            } else {
                let sectors = sectors.next_multiple_of(grains.grain);
                let kept = model.len().min(sectors * 512);
                let old = std::mem::replace(&mut model, below(sectors));
                model[..kept].copy_from_slice(&old[..kept]);
                resize(&path, sectors * 512).unwrap();
            }
            prop_assert!(read(&path) == model);
            let found = trouble(&path);
            prop_assert!(layout.off > 0 || found.is_empty(), "{:?}", found);
        }
    }

    #[test]
    fn what_was_written_can_be_changed(
        runs in prop::collection::vec((1..900usize, any::<bool>()), 1..8),
        kind in prop::sample::select(vec![
            "monolithicSparse", "twoGbMaxExtentSparse", "monolithicFlat", "vmfs", "twoGbMaxExtentFlat",
        ]),
        steps in steps(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut model: Vec<u8> = runs.iter().flat_map(|&(sectors, data)| {
            (0..sectors * 512).map(move |i| if data { (i / 512) as u8 | 1 } else { 0 })
        }).collect();
        let subformat = format::subformat(vmdk(), Some(kind)).unwrap();
        let files = testing::files(vmdk(), subformat, &model, None, 1).unwrap();
        for name in files.names() {
            fs::write(folder.path().join(&name), files.get(&name)).unwrap();
        }
        let path = folder.path().join("image");
        let extents = files.names().len() - 1;
        for sectors in steps {
            if sectors > 0 {
                // The last extent must keep something.
                let extent = ((1 << 20) + (64 << 10)) / 512;
                let before = if kind.starts_with("two") { (extents - 1) * extent } else { 0 };
                let sectors = before + sectors;
                model.resize(sectors * 512, 0);
                resize(&path, sectors * 512).unwrap();
            } else if kind.contains("Sparse") {
                compact(&path, None).unwrap();
            }
            prop_assert!(read(&path) == model);
            prop_assert!(trouble(&path).is_empty());
        }
        peers::all_agree_at(&path, &model);
    }
}
