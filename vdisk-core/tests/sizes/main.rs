//! Disks that get another size, and images that lose what they need not hold, against byte arrays.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod gpt;
#[allow(dead_code, reason = "the tests of commit use all of it")]
#[path = "../commit/stage.rs"]
mod stage;

use stage::{Shape, Stage, pairs};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Error, ErrorKind, FileResolver, Ids, Job, OpenOptions, Result,
    format::{Compacted, Options, Spec},
    ops::{
        compact::{self, Target},
        redo,
        resize::{self, Plan, Wish},
    },
    target::{Output, OutputOptions},
    testing::{self, Fault, Faulty},
    transaction::{self, Files},
};

const MIB: usize = 1 << 20;

/// Sectors that differ; what `zero` says of a 4 KiB piece is zero.
fn model(size: usize, seed: u8, zero: impl Fn(usize) -> bool) -> Vec<u8> {
    (0..size)
        .map(|i| match zero(i / 4096) {
            true => 0,
            false => (i / 512) as u8 ^ (i / 131_072) as u8 ^ seed | 1,
        })
        .collect()
}

fn options(resolver: &FileResolver) -> OpenOptions<'_> {
    OpenOptions::new(resolver)
}

fn wish(size: u64) -> Wish {
    Wish {
        size,
        fix_gpt: false,
        force: false,
        now: 1_000_000_000,
    }
}

fn plan(path: &Path, wish: Wish) -> Result<Plan> {
    resize::plan(
        path,
        &wish,
        &options(&FileResolver::default()),
        &Job::default(),
    )
}

fn resize(path: &Path, wish: Wish) -> Result<()> {
    let resolver = FileResolver::default();
    plan(path, wish)?
        .apply(&options(&resolver), &Files, &Job::default())
        .map(drop)
}

/// The bases, one of each kind.
fn bases() -> Vec<Shape> {
    let named: BTreeMap<_, _> = pairs()
        .into_iter()
        .map(|(base, _)| ((base.0.name(), base.1.name), base))
        .collect();
    named.into_values().collect()
}

/// True if a format says that it cannot do that; then nothing was written.
fn unsupported(done: &Result<()>, stage: &Stage, before: &[(PathBuf, Vec<u8>)]) -> bool {
    match done {
        Ok(()) => false,
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            assert!(stage.files() == before, "{e}: but something was written");
            true
        }
        Err(e) => panic!("{e}"),
    }
}

/// An image that stores all of `model`, zeros too.
fn stored(stage: &Stage, shape: Shape, path: &Path, model: &[u8]) {
    let spec = Spec {
        size: model.len() as u64,
        subformat: shape.1,
        name: path.file_name().unwrap().to_str().unwrap(),
        ids: Ids::random(0),
        level: 1,
        parent: None,
        options: Options {
            block_size: Some(2 << 20),
            ..testing::small_extents()
        },
    };
    let mut output = Output::create(
        path,
        OutputOptions {
            force: true,
            ..OutputOptions::default()
        },
    )
    .unwrap();
    let mut writer = shape.0.create(&mut output, &spec).unwrap();
    for (number, part) in model.chunks(MIB).enumerate() {
        let start = (number * MIB) as u64;
        writer.data(start..start + part.len() as u64, part).unwrap();
    }
    writer.finish().unwrap();
    output.publish().unwrap();
    assert!(stage.read(path).unwrap() == model);
}

#[test]
fn a_disk_grows_with_zeros_and_shrinks_by_them() {
    let mut done = Vec::new();
    for base in bases() {
        let old = model(5 * MIB + 512 * 9, 1, |_| false);
        let stage = Stage::new(base, base, std::slice::from_ref(&old));
        let path = stage.path(0);
        let before = stage.files();
        let mut new = old.clone();
        new.resize(9 * MIB + 512 * 3, 0);
        if unsupported(&resize(&path, wish(new.len() as u64)), &stage, &before) {
            continue;
        }
        assert!(stage.read(&path).unwrap() == new, "{} grown", base.1.name);
        stage.check(0);
        // Back: what is cut off is zero.
        new.truncate(old.len() + 4096 * 3);
        resize(&path, wish(new.len() as u64)).unwrap();
        assert!(stage.read(&path).unwrap() == new, "{} cut", base.1.name);
        stage.check(0);
        // Further: data, which nobody gets by accident, nor what comes after it.
        let files = stage.files();
        let refused = resize(&path, wish(3 * MIB as u64)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        assert!(
            refused
                .to_string()
                .contains(&format!("byte {} of the disk", 3 * MIB))
        );
        assert!(stage.files() == files);
        let force = Wish {
            force: true,
            ..wish(3 * MIB as u64 + 512)
        };
        let cut = resize(&path, force);
        // Extent files do not go away.
        if base.1.name.starts_with("twoGb") && unsupported(&cut, &stage, &files) {
            continue;
        }
        cut.unwrap();
        resize(&path, wish(4 * MIB as u64)).unwrap();
        new.truncate(3 * MIB + 512);
        new.resize(4 * MIB, 0);
        assert!(
            stage.read(&path).unwrap() == new,
            "{}: the cut part came back",
            base.1.name
        );
        stage.check(0);
        done.push(format!("{} {}", base.0.name(), base.1.name));
    }
    for least in [
        "raw sparse",
        "vhd dynamic",
        "vhd fixed",
        "vhdx dynamic",
        "vmdk monolithicSparse",
    ] {
        assert!(done.iter().any(|d| d == least), "{least} cannot be resized");
    }
}

#[test]
fn a_child_that_grows_does_not_show_its_parent() {
    let mut hidden = 0;
    for (base, child) in pairs() {
        // The parent is longer, with a hole where the child ends.
        let parent = model(7 * MIB, 1, |page| (700..900).contains(&page));
        let own = model(2 * MIB + 512 * 5, 2, |page| page % 5 == 0);
        let stage = Stage::new(base, child, &[parent.clone(), own.clone()]);
        let before = stage.files();
        let mut new = own;
        new.resize(9 * MIB, 0);
        let done = resize(&stage.path(1), wish(new.len() as u64));
        if unsupported(&done, &stage, &before) {
            continue;
        }
        let what = format!("{} on {}", child.1.name, base.1.name);
        assert!(stage.read(&stage.path(1)).unwrap() == new, "{what}");
        assert!(stage.read(&stage.path(0)).unwrap() == parent, "{what}");
        stage.check(1);
        hidden += 1;
    }
    assert!(hidden >= 4, "only {hidden}");
}

#[test]
fn children_stop_a_cut_and_a_plan_is_for_unchanged_files() {
    let vhd = pairs()
        .into_iter()
        .find(|(b, _)| b.1.name == "dynamic" && b.0.name() == "vhd");
    let (base, child) = vhd.unwrap();
    let own = model(6 * MIB, 1, |page| page > 600);
    let stage = Stage::new(base, child, &[own.clone(), own]);
    let found = plan(&stage.path(0), wish(3 * MIB as u64)).unwrap();
    assert_eq!(found.children, [stage.path(1)]);
    let refused = resize(&stage.path(0), wish(3 * MIB as u64)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(refused.to_string().contains("1.vhd"), "{refused}");
    // A plan knows the files that it was made for.
    let late = plan(&stage.path(0), wish(8 * MIB as u64)).unwrap();
    resize(&stage.path(0), wish(7 * MIB as u64)).unwrap();
    let resolver = FileResolver::default();
    let error = late
        .apply(&options(&resolver), &Files, &Job::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(stage.size(0), 7 * MIB as u64);
    for size in [0, 1000, u64::MAX / 512 * 512] {
        assert_eq!(
            plan(&stage.path(0), wish(size)).unwrap_err().kind(),
            ErrorKind::Usage
        );
    }
}

/// Bytes that files take on the medium.
fn taken(files: &[(PathBuf, Vec<u8>)]) -> u64 {
    let blocks = files.iter().map(|f| fs::metadata(&f.0).unwrap().blocks());
    blocks.sum::<u64>() * 512
}

fn compact(path: &Path) -> Result<compact::Done> {
    let resolver = FileResolver::default();
    let (options, job) = (options(&resolver), Job::default());
    let plan = compact::plan(path, &options)?;
    let would = plan.rehearse(&options, &job)?;
    let done = plan.apply(&options, &Files, &job)?;
    assert_eq!(done, would, "{}", path.display());
    Ok(done)
}

#[test]
fn stored_zeros_leave_a_base() {
    let mut smaller = Vec::new();
    for base in bases() {
        let disk = model(9 * MIB, 1, |page| page / 1200 % 2 == 0);
        let stage = Stage::new(base, base, &[vec![0; 512]]);
        let path = stage.path(0);
        for (old, _) in stage.files() {
            fs::remove_file(old).unwrap();
        }
        if base.1.name == "streamOptimized" {
            continue;
        }
        stored(&stage, base, &path, &disk);
        let before = stage.files();
        let room = taken(&before);
        let outcome = compact(&path);
        let done = outcome.as_ref().ok().copied();
        if unsupported(&outcome.map(drop), &stage, &before) {
            continue;
        }
        let done = done.unwrap();
        let what = format!("{} {}", base.0.name(), base.1.name);
        assert!(stage.read(&path).unwrap() == disk, "{what}");
        stage.check(0);
        assert!(done.zero > 0, "{what}");
        assert_eq!(done.same, 0, "{what}");
        let size = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|f| f.1.len()).sum::<usize>();
        assert_eq!(
            (size(&before) - size(&stage.files())) as u64,
            done.compacted.cut,
            "{what}"
        );
        let room = room - taken(&stage.files());
        let compact::Done { compacted, .. } = done;
        assert_eq!(compacted.freed, compacted.cut + compacted.kept, "{what}");
        assert!(compacted.punched <= compacted.kept, "{what}: {done:?}");
        assert!(compacted.freed > 0, "{what}: {done:?}");
        // Where nothing moved, what was punched is what the medium got back, if it can.
        if (compacted.cut, compacted.moved) == (0, 0) && room > 0 {
            assert!(room >= compacted.punched, "{what}: {room} {done:?}");
        }
        // A second time there is nothing left to do.
        let again = compact(&path).unwrap();
        assert_eq!(again.compacted, Compacted::default(), "{what}: {again:?}");
        smaller.push(what);
    }
    for least in [
        "raw sparse",
        "vhd dynamic",
        "vhdx dynamic",
        "vmdk monolithicSparse",
    ] {
        assert!(smaller.iter().any(|s| s == least), "{least}: {smaller:?}");
    }
}

#[test]
fn a_child_loses_what_its_parent_reads() {
    let mut same = 0;
    for (base, child) in pairs() {
        let disk = model(6 * MIB, 1, |page| page / 300 % 3 == 0);
        // All differs from the base as it is now, which becomes the same for the second half.
        let old = model(6 * MIB, 2, |_| false);
        let stage = Stage::new(base, child, &[old.clone(), disk.clone()]);
        let mut new = old;
        new[3 * MIB..].copy_from_slice(&disk[3 * MIB..]);
        let identity = |path: &Path| {
            let resolver = FileResolver::default();
            vdisk_core::open_layer(path, &options(&resolver))
                .unwrap()
                .facts()
                .identity
        };
        if !rewritten(&stage, base, &new) {
            continue;
        }
        assert!(stage.read(&stage.path(1)).unwrap() == disk);
        let before = stage.files();
        let was = identity(&stage.path(1));
        let outcome = compact(&stage.path(1));
        let done = outcome.as_ref().ok().copied();
        if unsupported(&outcome.map(drop), &stage, &before) {
            continue;
        }
        let (done, what) = (
            done.unwrap(),
            format!("{} on {}", child.1.name, base.1.name),
        );
        assert!(stage.read(&stage.path(1)).unwrap() == disk, "{what}");
        assert!(stage.read(&stage.path(0)).unwrap() == new, "{what}");
        stage.check(1);
        assert!(done.same > 0, "{what}: {done:?}");
        assert_eq!(identity(&stage.path(1)), was, "{what}");
        same += 1;
    }
    assert!(same >= 4, "only {same}");
}

/// Writes the base of `stage` anew under its identity.
fn rewritten(stage: &Stage, base: Shape, model: &[u8]) -> bool {
    let path = stage.path(0);
    let resolver = FileResolver::default();
    let layer = vdisk_core::open_layer(&path, &options(&resolver)).unwrap();
    let Ok(like) = vdisk_core::ops::like::Like::of(&layer, 1_000_000_000) else {
        return false;
    };
    let spec = Spec {
        size: model.len() as u64,
        subformat: base.1,
        name: path.file_name().unwrap().to_str().unwrap(),
        ids: like.ids,
        level: 1,
        parent: None,
        options: testing::small_extents(),
    };
    let force = OutputOptions {
        force: true,
        ..OutputOptions::default()
    };
    let mut output = Output::create(&path, force).unwrap();
    let writer = base.0.create(&mut output, &spec).unwrap();
    vdisk_core::ops::convert::copy(&model.to_vec(), writer, &Job::default()).unwrap();
    output.publish().unwrap();
    true
}

#[test]
fn a_copy_has_the_same_identity_and_contents() {
    for (base, child) in pairs() {
        let parent = model(5 * MIB, 1, |page| page % 300 < 200);
        let own = model(5 * MIB, 2, |page| page % 300 < 150);
        let stage = Stage::new(base, child, &[parent, own]);
        for number in [0, 1] {
            let resolver = FileResolver::default();
            let old = vdisk_core::open(&stage.path(number), &options(&resolver)).unwrap();
            let path = stage.named(&format!(
                "new{number}.{}",
                old.top().format().extensions()[0]
            ));
            let target = Target {
                path: &path,
                options: OutputOptions::default(),
                created: 1_000_000_000,
            };
            let copied = compact::copy(&old, &target, &Job::default()).unwrap();
            let new = vdisk_core::open(&path, &options(&resolver)).unwrap();
            let (a, b) = (old.top().facts(), new.top().facts());
            let what = format!("{} on {}, layer {number}", child.1.name, base.1.name);
            assert_eq!(
                (a.identity, &a.subformat),
                (b.identity, &b.subformat),
                "{what}"
            );
            let link = |f: &vdisk_core::format::Facts| f.parent.as_ref().map(|p| p.identity);
            assert_eq!(link(a), link(b), "{what}");
            assert!(stage.read(&path).unwrap() == stage.models[number], "{what}");
            let digest = vdisk_core::ops::hash::digest(&old, &Job::default()).unwrap();
            assert_eq!(copied.sha256, digest);
        }
    }
}

/// Runs `change` with a medium that fails at each operation in turn: all is as before, at once or
/// after `undo`; `resume` makes all of it.
fn killed(stage: &Stage, new: &[u8], change: &dyn Fn(&Faulty) -> Result<(), Error>) {
    let (path, old) = (stage.path(0), stage.files());
    let resolver = FileResolver::default();
    let mut interrupted = 0;
    for (step, good) in (0..).enumerate() {
        let medium = Faulty::new(Fault::Torn, good);
        let done = change(&medium);
        if !medium.failed() {
            done.unwrap();
            assert!(stage.read(&path).unwrap() == new);
            break;
        }
        if transaction::unfinished(&path).unwrap().is_some() {
            interrupted += 1;
            if step % 2 == 0 {
                redo::resume(&path, &[], &options(&resolver), &Files, &Job::default()).unwrap();
                assert!(stage.read(&path).unwrap() == new, "resumed after {good}");
                stage.check(0);
                stage.restore(&old);
                continue;
            }
            transaction::undo(&path, &[], &Files).unwrap();
        }
        if done.is_err() && stage.read(&path).unwrap() != new {
            assert!(stage.files() == old, "not as it was after {good}");
        }
        stage.restore(&old);
    }
    assert!(interrupted > 1, "only {interrupted} left a journal");
}

#[test]
fn a_change_that_was_killed_is_undone_or_resumed() {
    let resolver = FileResolver::default();
    let options = options(&resolver);
    for base in bases() {
        let what = (base.0.name(), base.1.name);
        if ![("raw", "sparse"), ("vhd", "dynamic"), ("vhdx", "dynamic")].contains(&what) {
            continue;
        }
        let disk = model(5 * MIB, 1, |page| page / 300 % 2 == 0);
        let stage = Stage::new(base, base, &[vec![0; 512]]);
        let path = stage.path(0);
        stored(&stage, base, &path, &disk);
        let mut new = disk.clone();
        new.resize(40 * MIB, 0);
        killed(&stage, &new, &|medium| {
            let plan = plan(&path, wish(new.len() as u64))?;
            plan.apply(&options, medium, &Job::default()).map(drop)
        });
        if what.0 != "raw" {
            let stage = Stage::new(base, base, &[vec![0; 512]]);
            stored(&stage, base, &stage.path(0), &disk);
            killed(&stage, &disk, &|medium| {
                let plan = compact::plan(&stage.path(0), &options)?;
                plan.apply(&options, medium, &Job::default()).map(drop)
            });
        }
    }
}
