//! Images on disk that are written to in place: what is not mentioned stays, both sets of tables
//! agree afterwards, and nothing lies where something else does.

use crate::{
    builder::{Cell, Grains, put32},
    cowd, descriptor, peers,
    write::before_and_after,
};
use proptest::prelude::*;
use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Mutex, PoisonError},
};
use vdisk_core::{
    Disk, ErrorKind, FileResolver, Identity, Ids, ImageWriter, Layer, OpenOptions, Result,
    check::Severity,
    format::{Context, Options, ParentSpec, Spec, Update, named, subformat},
    open_layer,
    ops::check,
    storage::ImageFile,
    target::{Output, OutputOptions},
    testing,
    transaction::{self, Files, Medium, Totals, Work},
};

/// What is written: blank units before, units, and their byte; 0 is zeros.
type Edit = (u16, u16, u8);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let byte = prop_oneof![1 => Just(0u8), 2 => any::<u8>()];
    prop::collection::vec((0..40u16, 1..40u16, byte), 1..8)
}

/// The calls that `edits` come to on a disk of `size` bytes.
fn calls(edits: &[Edit], unit: u64, size: u64) -> Vec<(Range<u64>, Option<Vec<u8>>)> {
    let mut pos = 0;
    let mut calls = Vec::new();
    for &(blank, units, byte) in edits {
        let start = pos + u64::from(blank) * unit;
        let end = (start + u64::from(units) * unit).min(size);
        if start >= end {
            break;
        }
        let bytes = (byte != 0).then(|| {
            // No two sectors are alike, and none is zero.
            let sector = |at: u64| (at / 512).to_le_bytes().into_iter().cycle().take(512);
            let bytes = (start..end).step_by(512).flat_map(sector);
            bytes.map(|b| b ^ byte | 1).collect()
        });
        calls.push((start..end, bytes));
        pos = end;
    }
    calls
}

fn over(model: &mut [u8], calls: &[(Range<u64>, Option<Vec<u8>>)]) {
    for (range, bytes) in calls {
        let part = &mut model[range.start as usize..range.end as usize];
        match bytes {
            Some(bytes) => part.copy_from_slice(bytes),
            None => part.fill(0),
        }
    }
}

/// Files without the waiting. Keeps where was written, by inode and offset, and when would have been
/// waited.
#[derive(Default)]
struct Unsynced(Mutex<Vec<Option<(u64, u64)>>>);

impl Medium for Unsynced {
    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        self.0.lock().unwrap().push(Some((inode, at)));
        Files.write_at(file, at, bytes)
    }
    fn sync(&self, _: &File) -> io::Result<()> {
        self.0.lock().unwrap().push(None);
        Ok(())
    }
    fn publish(&self, file: tempfile::NamedTempFile, path: &Path) -> io::Result<File> {
        Ok(file.persist_noclobber(path)?)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

fn update<R>(
    layer: &Layer,
    ids: Option<Ids>,
    medium: Option<&Unsynced>,
    work: impl Fn(Box<dyn ImageWriter + '_>) -> Result<R>,
) -> Result<(R, Totals)> {
    let resolver = FileResolver::default();
    let context = Context {
        resolver: &resolver,
        overlay: false,
        disk: None,
        verify: false,
    };
    let update = Update { context, ids };
    let files: Vec<&ImageFile> = layer.files().iter().collect();
    match medium {
        None => transaction::rehearse(&files, |t| work(layer.format().update(layer, t, &update)?)),
        Some(medium) => {
            let change = Work {
                files: &files,
                redo: "",
                medium,
            };
            let _guard = peers::STARTING
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            transaction::run(&change, |t| work(layer.format().update(layer, t, &update)?))
        }
    }
}

fn layer(path: &Path) -> Result<Layer> {
    let resolver = FileResolver::default();
    open_layer(path, &OpenOptions::new(&resolver))
}

/// Writes `edits` into the image at `path`, which reads as `model` does.
fn write(path: &Path, edits: &[Edit], ids: Option<Ids>, model: &mut [u8]) -> Result<()> {
    let layer = layer(path)?;
    let unit = update(&layer, None, None, |writer| Ok(writer.unit()))?.0;
    let calls = calls(edits, unit, layer.size());
    let all = |mut writer: Box<dyn ImageWriter + '_>| {
        for (range, bytes) in &calls {
            // In pieces, as operations give them.
            let step = 4 * unit;
            for start in range.clone().step_by(step as usize) {
                let end = range.end.min(start + step);
                let part = (start - range.start) as usize..(end - range.start) as usize;
                match bytes {
                    Some(bytes) => writer.data(start..end, &bytes[part])?,
                    None => writer.zero(start..end)?,
                }
            }
        }
        writer.finish()
    };
    let planned = update(&layer, ids, None, all)?.1;
    let done = update(&layer, ids, Some(&Unsynced::default()), all)?.1;
    assert_eq!(planned, done, "a rehearsal tells other numbers");
    over(model, &calls);
    Ok(())
}

/// The image at `path` reads as `model`, and nothing is wrong with it.
fn whole(path: &Path, model: &[u8]) {
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    let chain = vdisk_core::open(path, &options).unwrap();
    if model.len() < 8 << 20 {
        testing::conformance(&chain).unwrap();
    }
    assert!(
        testing::contents(&chain).unwrap() == model,
        "contents differ"
    );
    let all = check::Extent {
        deep: true,
        chain: false,
    };
    let outcome = check::check(path, &options, all, &vdisk_core::Job::default()).unwrap();
    for finding in outcome.findings.list() {
        // What the builders leave out on purpose.
        let known = [
            "zero-entry",
            "grain-small",
            "grain-misaligned",
            "overhead",
            "geometry",
        ];
        let fine = finding.severity == Severity::Note || known.contains(&finding.rule);
        assert!(fine, "{finding}");
    }
}

/// An image of `kind` at `path` that holds `disk`, or what differs from the parent.
fn make(path: &Path, kind: &str, disk: &Vec<u8>, parent: Option<(&Vec<u8>, &Path)>) {
    let vmdk = named("vmdk").unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let spec = Spec {
        size: disk.size(),
        subformat: subformat(vmdk, Some(kind)).unwrap(),
        name,
        ids: Ids::random(0),
        level: 1,
        parent: parent.map(|(_, path)| ParentSpec {
            relative: path.file_name().unwrap().into(),
            absolute: None,
            identity: layer(path).unwrap().facts().identity,
            modified: 0,
        }),
        options: Options {
            extent_size: Some((1 << 20) + (64 << 10)),
            ..Options::default()
        },
    };
    let options = OutputOptions {
        sync: false,
        ..OutputOptions::default()
    };
    let mut output = Output::create(path, options).unwrap();
    let writer = vmdk.create(&mut output, &spec).unwrap();
    let job = vdisk_core::Job::default();
    match parent {
        Some((below, _)) => {
            vdisk_core::ops::changes::write(below, disk, writer, &job).unwrap();
        }
        None => vdisk_core::ops::convert::copy(disk, writer, &job).unwrap(),
    }
    output.publish().unwrap();
}

/// Some sectors of data, some of zeros, over and over.
fn striped(sectors: usize, data: usize, zeros: usize) -> Vec<u8> {
    let of = |sector: usize| match sector % (data + zeros) < data {
        true => (sector as u8) | 1,
        false => 0,
    };
    (0..sectors).flat_map(|s| [of(s); 512]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_to_a_base_is_there(
        sectors in 1..9000usize, data in 1..600usize, zeros in 0..600usize,
        first in edits(), second in edits(),
    ) {
        for kind in [
            "monolithicSparse", "twoGbMaxExtentSparse", "monolithicFlat", "twoGbMaxExtentFlat", "vmfs",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.vmdk");
            let mut model = striped(sectors, data, zeros);
            make(&path, kind, &model, None);
            for edits in [&first, &second] {
                write(&path, edits, None, &mut model).unwrap();
                whole(&path, &model);
            }
        }
    }

    #[test]
    fn what_is_written_to_a_child_hides_the_parent(
        sectors in 1..9000usize, data in 1..600usize, zeros in 0..600usize,
        first in edits(), second in edits(), cid: u32,
    ) {
        for kind in ["monolithicSparse", "twoGbMaxExtentSparse", "vmfsSparse"] {
            let folder = tempfile::tempdir().unwrap();
            let (base, path) = (folder.path().join("base.vmdk"), folder.path().join("a.vmdk"));
            let below = striped(sectors, 3, 0);
            make(&base, "monolithicSparse", &below, None);
            let mut model = below.clone();
            let changed = striped(sectors, data, zeros);
            let end = changed.len() / 2;
            model[..end].copy_from_slice(&changed[..end]);
            make(&path, kind, &model, Some((&below, &base)));
            let ids = Ids { cid, ..Ids::random(0) };
            for edits in [&first, &second] {
                write(&path, edits, Some(ids), &mut model).unwrap();
                whole(&path, &model);
            }
            prop_assert_eq!(layer(&path).unwrap().facts().identity, Some(Identity::Cid(cid)));
            let base = layer(&base).unwrap();
            prop_assert!(testing::contents(&base).unwrap() == below, "the parent was changed");
        }
    }

    /// Shuffled grains of odd sizes, tables only where there are grains, extents of every kind that
    /// end inside grains.
    #[test]
    fn extents_of_other_programs_are_written_to(
        sparse in hosted(), log in cowd::grains(4096 + 77), flat in 1..300usize,
        first in edits(), second in edits(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut model = [sparse.disk(), striped(flat, 2, 7), log.disk()].concat();
        fs::write(at("s.vmdk"), sparse.hosted()).unwrap();
        fs::write(at("l.vmdk"), log.cowd()).unwrap();
        // The flat extent lies somewhere in its file.
        let file = [vec![7; 1024], striped(flat, 2, 7), vec![8; 100]].concat();
        fs::write(at("f.vmdk"), &file).unwrap();
        let lines = [
            format!("RW {} SPARSE \"s.vmdk\"", sparse.sectors),
            format!("RW {flat} FLAT \"f.vmdk\" 2"),
            format!("RW {} VMFSSPARSE \"l.vmdk\"", log.sectors),
        ];
        fs::write(at("a.vmdk"), descriptor("custom", None, &lines)).unwrap();
        for edits in [&first, &second] {
            write(&at("a.vmdk"), edits, Some(Ids::random(0)), &mut model).unwrap();
            whole(&at("a.vmdk"), &model);
        }
        let around = fs::read(at("f.vmdk")).unwrap();
        prop_assert!(around.starts_with(&file[..1024]) && around.ends_with(&[8; 100]));
        prop_assert_eq!(around.len(), file.len());
    }
}

fn hosted() -> impl Strategy<Value = Grains> {
    let cell = prop_oneof![
        3 => any::<u8>().prop_map(Cell::Data),
        1 => Just(Cell::Zero),
        1 => Just(Cell::Hole),
    ];
    Grains::strategy(&[1, 8, 128], 2 * 512 + 77, cell)
}

#[test]
fn other_programs_read_and_go_on_writing() {
    let (before, after) = before_and_after();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for kind in ["monolithicSparse", "twoGbMaxExtentSparse", "monolithicFlat"] {
        let (base, child) = (
            at(&format!("{kind}.vmdk")),
            at(&format!("{kind}-child.vmdk")),
        );
        // The base has holes from 34 MiB on: its second table is empty.
        let mut model = before.clone();
        model[34 << 20..].fill(0);
        make(&base, kind, &model, None);
        let edits = [
            (1, 2, 5),
            (0, 3, 0),
            (500, 40, 6),
            (30, 20, 7),
            (440, 30, 8),
        ];
        let ids = Ids::random(0);
        write(&base, &edits, Some(ids), &mut model).unwrap();
        whole(&base, &model);
        peers::agree_at(&base, &model);
        if kind == "monolithicFlat" {
            continue;
        }
        make(&child, kind, &after, Some((&model, &base)));
        let mut changed = after.clone();
        write(
            &child,
            &[(0, 2, 0), (3, 3, 9), (600, 8, 0)],
            None,
            &mut changed,
        )
        .unwrap();
        whole(&child, &changed);
        peers::agree_at(&child, &changed);
        if peers::write(&child, 41 << 20, 3 << 20, 0xab) {
            changed[41 << 20..44 << 20].fill(0xab);
            whole(&child, &changed);
        }
        // The parent of a child is another one once it was written to.
        write(&base, &[(0, 1, 1)], Some(Ids::random(0)), &mut model).unwrap();
        let resolver = FileResolver::default();
        let error = vdisk_core::open(&child, &OpenOptions::new(&resolver))
            .err()
            .unwrap();
        assert!(
            error.to_string().contains(&format!("{:08x}", ids.cid)),
            "{error}"
        );
    }
}

/// All files of the folder and what they hold.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn what_cannot_be_written_to_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let grains = |cell| Grains::ascending(&[cell; 4], 8, 32);
    fs::write(at("s.vmdk"), grains(Cell::Data(1)).hosted()).unwrap();
    fs::write(at("t.vmdk"), grains(Cell::Data(2)).sesparse()).unwrap();
    fs::write(at("f.vmdk"), vec![3; 32 * 512]).unwrap();
    // Two entries lead to one grain.
    let mut twice = grains(Cell::Data(1)).hosted();
    let table = 2 * 512;
    let first = u32::from_le_bytes(twice[table..table + 4].try_into().unwrap());
    put32(&mut twice, table + 8, first);
    fs::write(at("twice.vmdk"), twice).unwrap();
    let sparse = || "RW 32 SPARSE \"s.vmdk\"".to_owned();
    let cases = [
        (
            "se",
            vec!["RW 32 SESPARSE \"t.vmdk\"".to_owned()],
            ErrorKind::Unsupported,
            "seSparse",
        ),
        (
            "twice",
            vec!["RW 32 SPARSE \"twice.vmdk\"".to_owned()],
            ErrorKind::Corrupt,
            "twice.vmdk",
        ),
        (
            "shared",
            vec![sparse(), sparse()],
            ErrorKind::Corrupt,
            "another extent",
        ),
        (
            "overlapping",
            vec![
                "RW 20 FLAT \"f.vmdk\" 0".to_owned(),
                "RW 20 FLAT \"f.vmdk\" 12".to_owned(),
            ],
            ErrorKind::Corrupt,
            "extent 2",
        ),
        (
            "zero",
            vec![sparse(), "RW 32 ZERO".to_owned()],
            ErrorKind::Unsupported,
            "extent 2 is of type ZERO",
        ),
        (
            "readonly",
            vec![sparse(), "RDONLY 32 FLAT \"f.vmdk\" 0".to_owned()],
            ErrorKind::Unsupported,
            "extent 2 is marked RDONLY",
        ),
    ];
    for (name, lines, kind, says) in cases {
        let path = at(&format!("{name}-d.vmdk"));
        let what = if name == "se" { "seSparse" } else { "custom" };
        fs::write(&path, descriptor(what, None, &lines)).unwrap();
        let before = files(folder.path());
        let layer = layer(&path).unwrap();
        let size = layer.size();
        let result = update(&layer, None, Some(&Unsynced::default()), |mut writer| {
            writer.data(0..size, &vec![9; size as usize])?;
            writer.finish()
        });
        let error = result
            .err()
            .unwrap_or_else(|| panic!("{name} was written to"));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(files(folder.path()) == before, "{name} was changed");
    }

    let disk = striped(300, 2, 1);
    make(&at("stream.vmdk"), "streamOptimized", &disk, None);
    let layer_of = layer(&at("stream.vmdk")).unwrap();
    let error = update(&layer_of, None, Some(&Unsynced::default()), |w| w.finish())
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("streamOptimized images of vmdk"),
        "{error}"
    );

    // The copies of the tables would be written to as well.
    make(&at("copies.vmdk"), "monolithicSparse", &disk, None);
    let mut bytes = fs::read(at("copies.vmdk")).unwrap();
    let directory = u64::from_le_bytes(bytes[48..56].try_into().unwrap()) as usize * 512;
    let table = u32::from_le_bytes(bytes[directory..directory + 4].try_into().unwrap()) as usize;
    put32(&mut bytes, table * 512 + 4, 0);
    fs::write(at("copies.vmdk"), &bytes).unwrap();
    let copies = layer(&at("copies.vmdk")).unwrap();
    let error = update(&copies, None, Some(&Unsynced::default()), |w| w.finish())
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error
            .to_string()
            .contains("a damaged image is not written to"),
        "{error}"
    );
    assert!(fs::read(at("copies.vmdk")).unwrap() == bytes);
}

#[test]
fn zeros_take_no_room_in_a_base_and_are_holes_in_a_child() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = (
        folder.path().join("base.vmdk"),
        folder.path().join("a.vmdk"),
    );
    let model = striped(2 << 11, 1, 0);
    make(&base, "monolithicSparse", &model, None);
    make(&path, "monolithicSparse", &model, Some((&model, &base)));
    let all = |mut writer: Box<dyn ImageWriter + '_>| {
        writer.zero(0..2 << 20)?;
        writer.finish()
    };
    let (base, child) = (layer(&base).unwrap(), layer(&path).unwrap());
    let (_, totals) = update(&base, None, Some(&Unsynced::default()), all).unwrap();
    assert_eq!((totals.grown, totals.cut), (0, 0));
    assert!(totals.written <= 2 * 2048, "{totals:?}");
    let (_, totals) = update(&child, None, Some(&Unsynced::default()), all).unwrap();
    // Grains for all of it, of which only the tables are written.
    assert_eq!(totals.grown, 2 << 20);
    assert!(totals.written <= 2 * 2048, "{totals:?}");
    whole(&path, &vec![0; 2 << 20]);
}

#[test]
fn tables_are_written_behind_the_grains_they_lead_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vmdk");
    make(&path, "monolithicSparse", &striped(70 << 11, 0, 1), None);
    let image = fs::metadata(&path).unwrap();
    let layer = layer(&path).unwrap();
    let medium = Unsynced::default();
    update(&layer, Some(Ids::random(0)), Some(&medium), |mut writer| {
        for table in [0, 1] {
            let start = table << 25;
            writer.data(start..start + 65536, &[7; 65536])?;
        }
        writer.finish()
    })
    .unwrap();
    // Grains, tables and the descriptor, and the waits in between.
    let mut parts = Vec::new();
    for event in medium.0.into_inner().unwrap() {
        parts.push(match event {
            None => "wait",
            // The journal.
            Some((inode, _)) if inode != image.ino() => continue,
            Some((_, 512..=10_751)) => "descriptor",
            Some((_, at)) if at >= image.len() => "grain",
            Some(_) => "table",
        });
    }
    let steps = parts.join(" ");
    let last_grain = parts.iter().rposition(|p| *p == "grain").unwrap();
    let descriptor = parts.iter().position(|p| *p == "descriptor").unwrap();
    let tables = parts[last_grain..descriptor].join(" ");
    assert!(tables.starts_with("grain wait"), "{steps}");
    assert!(tables.contains("wait table"), "{steps}");
    assert!(tables.ends_with("wait"), "{steps}");
}
