//! The program is killed at any moment of a change in place: what is left can be finished or taken
//! back, and never reads as anything but before or after.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

mod run;

use run::{Folder, noise};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use vdisk_core::{Disk, FileResolver, Kind, OpenOptions, disk, format};

/// How often each change is killed.
const KILLS: u64 = 200;
/// Bytes of the disks at the start.
const SIZE: u64 = 48 << 20;
const MIB: u64 = 1 << 20;

/// What is changed: a folder that is copied for each run, and what is run in it.
struct Change {
    template: Folder,
    /// What the images read as before and after, by name; the first has the journal.
    images: Vec<(&'static str, [State; 2])>,
    args: String,
    /// The verb that resumes and undoes.
    verb: &'static str,
}

/// What an image reads as: its size, and its beginning.
#[derive(Clone, PartialEq, Eq)]
struct State {
    size: u64,
    start: Vec<u8>,
}

/// A number that only has to vary.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

fn state(path: &Path) -> State {
    let resolver = FileResolver::default();
    let options = OpenOptions {
        verify: false,
        ..OpenOptions::new(&resolver)
    };
    let chain = vdisk_core::open(path, &options).unwrap();
    let mut start = vec![0; SIZE as usize];
    chain.read_at(0, &mut start).unwrap();
    for extent in disk::extents(&chain, SIZE..chain.size(), disk::same_kind) {
        let extent = extent.unwrap();
        if extent.kind == Kind::Data {
            let mut bytes = vec![1; (extent.range.end - extent.range.start) as usize];
            chain.read_at(extent.range.start, &mut bytes).unwrap();
            assert!(vdisk_core::is_zero(&bytes), "behind the old end");
        }
    }
    State {
        size: chain.size(),
        start,
    }
}

fn copy(from: &Folder, to: &Folder) {
    for name in from.names() {
        fs::copy(from.path(&name), to.path(&name)).unwrap();
    }
}

impl Change {
    fn new(template: Folder, images: &[&'static str], args: &str, verb: &'static str) -> Self {
        let states = |folder: &Folder| -> Vec<State> {
            images.iter().map(|i| state(&folder.path(i))).collect()
        };
        let done = Folder::new();
        copy(&template, &done);
        done.run(args).code(0);
        let images = images
            .iter()
            .zip(states(&template).into_iter().zip(states(&done)))
            .map(|(name, (before, after))| (*name, [before, after]))
            .collect();
        Self {
            images,
            args: args.to_owned(),
            verb,
            template,
        }
    }

    /// Kills the change once. True if it left a journal.
    fn kill(&self, number: u64, dice: &mut Dice, length: Duration) -> bool {
        let folder = Folder::new();
        copy(&self.template, &folder);
        let (first, _) = self.images[0];
        let journal = folder.path(&format!("{first}.vdisk-journal"));
        let mut program = folder
            .command(&self.args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        if !number.is_multiple_of(4) {
            // Most are killed while the files are being changed, the others at any time.
            while !journal.exists()
                && program.try_wait().unwrap().is_none()
                && started.elapsed() < Duration::from_secs(60)
            {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let pause = length.mul_f64(dice.up_to(1000) as f64 / 1000.0);
        std::thread::sleep(pause);
        program.kill().unwrap();
        program.wait().unwrap();

        let what = format!("kill {number} of '{}' after {pause:?}", self.args);
        let left = journal.exists();
        if left {
            folder.run(&format!("info {first}")).code(3);
            let undo = dice.up_to(2) == 0;
            let how = if undo { "--undo" } else { "--resume" };
            folder.run(&format!("{} {how} {first}", self.verb)).code(0);
            for (name, states) in &self.images {
                let wanted = &states[usize::from(!undo)];
                assert!(state(&folder.path(name)) == *wanted, "{what}: {name} {how}");
            }
        } else {
            let found = |side: usize| {
                let same =
                    |(name, states): &(&str, [State; 2])| state(&folder.path(name)) == states[side];
                self.images.iter().all(same)
            };
            assert!(found(0) || found(1), "{what}");
        }
        assert!(!journal.exists(), "{what}");
        if number.is_multiple_of(8) || left && number.is_multiple_of(3) {
            for (name, _) in &self.images {
                folder.run(&format!("check --deep {name}")).code(0);
            }
        }
        left
    }
}

/// Kills each of `changes` in turn, [`KILLS`] times together.
fn kill_all(changes: &[Change]) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let lengths: Vec<Duration> = changes
        .iter()
        .map(|change| {
            let folder = Folder::new();
            copy(&change.template, &folder);
            let started = Instant::now();
            folder.run(&change.args).code(0);
            started.elapsed()
        })
        .collect();
    let mut left = 0;
    for number in 0..KILLS {
        let index = number as usize % changes.len();
        left += u64::from(changes[index].kill(number, &mut dice, lengths[index]));
    }
    println!("{left} of {KILLS} runs were killed in the middle of a change");
    assert!(left >= KILLS / 10, "only {left} kills hit a change");
}

/// A disk with data in most of its megabytes.
fn base(folder: &Folder, name: &str) {
    let mut bytes = vec![0; SIZE as usize];
    for start in (0..SIZE).step_by(4 << 20) {
        let at = start as usize;
        bytes[at..at + (3 << 20)].copy_from_slice(&noise(start + 1, 3 << 20));
    }
    folder.write("base.raw", &bytes);
    folder.run(&format!("convert base.raw -o {name}")).code(0);
    fs::remove_file(folder.path("base.raw")).unwrap();
}

/// A child that changes blocks that its parent has, and others that it has not.
fn child(folder: &Folder, parent: &str, name: &str) {
    folder.run(&format!("convert {parent} -o new.raw")).code(0);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path("new.raw"))
        .unwrap();
    for start in (0..SIZE).step_by(6 << 20) {
        let noise = noise(start + 2, MIB as usize + 4096);
        file.write_all_at(&noise, start + 2 * MIB + 8192).unwrap();
    }
    file.write_all_at(&vec![0; 300_000], 8 * MIB).unwrap();
    folder
        .run(&format!("diff {parent} new.raw -o {name}"))
        .code(0);
    fs::remove_file(folder.path("new.raw")).unwrap();
}

#[test]
fn commit() {
    let change = |parent: &'static str, name: &'static str| {
        let folder = Folder::new();
        base(&folder, parent);
        child(&folder, parent, name);
        Change::new(folder, &[parent, name], &format!("commit {name}"), "commit")
    };
    kill_all(&[
        change("p.vmdk", "c.vmdk"),
        change("p.vhd", "c.vhd"),
        change("p.vhdx", "c.vhdx"),
    ]);
}

#[test]
fn resize() {
    let change = |name: &'static str, size: &str| {
        let folder = Folder::new();
        base(&folder, name);
        let args = format!("resize {name} --size {size}");
        Change::new(folder, &[name], &args, "resize")
    };
    kill_all(&[
        change("d.vmdk", "20G"),
        change("d.vhd", "30G"),
        change("d.vhdx", "5T"),
    ]);
}

#[test]
fn compact() {
    let change = |name: &'static str| {
        let folder = Folder::new();
        base(&folder, name);
        stored_zeros(&folder.path(name));
        let args = format!("compact {name} --in-place");
        Change::new(folder, &[name], &args, "compact")
    };
    kill_all(&[change("d.vmdk"), change("d.vhd"), change("d.vhdx")]);
}

/// Fills some blocks of the image with zeros that are stored.
fn stored_zeros(path: &Path) {
    let resolver = FileResolver::default();
    let layer = vdisk_core::open_layer(path, &OpenOptions::new(&resolver)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    for start in (0..SIZE).step_by(8 << 20) {
        let mut pos = start;
        while pos < start + 2 * MIB {
            let extent = layer.extent_at(pos).unwrap();
            let end = extent.range.end.min(start + 2 * MIB);
            if let Some(place) = extent.stored {
                let zeros = vec![0; (end - pos) as usize];
                file.write_all_at(&zeros, place.at.0).unwrap();
            }
            pos = end;
        }
    }
}

/// A repair keeps a backup, and is resumed by running it again.
#[test]
fn repair() {
    let template = Folder::new();
    template.run("create d.vmdk --size 64G").code(0);
    let layer = {
        let resolver = FileResolver::default();
        let options = OpenOptions::new(&resolver);
        vdisk_core::open_layer(&template.path("d.vmdk"), &options).unwrap()
    };
    assert_eq!(layer.format().name(), format::named("vmdk").unwrap().name());
    // All redundant grain tables point past the end of the file. The header says where they are.
    let image = template.path("d.vmdk");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image)
        .unwrap();
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    };
    let (directory, tables) = (number(48) * 512, (64u64 << 30) / (512 * 65536));
    for table in 0..tables {
        let at = (number(directory + table * 4) & 0xffff_ffff) * 512;
        file.write_all_at(&[0x7f; 2048], at).unwrap();
    }
    template.run("check d.vmdk").code(1);
    let damaged = fs::read(&image).unwrap();

    let mut dice = Dice(0x1234_5678_9abc_def1);
    let started = Instant::now();
    {
        let folder = Folder::new();
        copy(&template, &folder);
        folder.run("check --repair d.vmdk").code(0);
    }
    let length = started.elapsed();
    let mut left = 0;
    for number in 0..KILLS {
        let folder = Folder::new();
        copy(&template, &folder);
        let backup = folder.path("d.vmdk.backup-1");
        let mut program = folder
            .command("check --repair d.vmdk")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if !number.is_multiple_of(4) {
            let started = Instant::now();
            while !backup.exists()
                && program.try_wait().unwrap().is_none()
                && started.elapsed() < Duration::from_secs(60)
            {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        std::thread::sleep(length.mul_f64(dice.up_to(1000) as f64 / 3000.0));
        program.kill().unwrap();
        program.wait().unwrap();

        let now = folder.read("d.vmdk");
        let has_backup = backup.exists();
        assert!(has_backup || now == damaged, "changed without a backup");
        let clean = folder.run("check d.vmdk").code == Some(0);
        left += u64::from(has_backup && !clean);
        if dice.up_to(2) == 0 && has_backup {
            folder.run("check --undo d.vmdk.backup-1").code(0);
            assert!(folder.read("d.vmdk") == damaged, "kill {number}: undone");
        } else {
            folder.run("check --repair d.vmdk").code(0);
            folder.run("check d.vmdk").code(0);
        }
    }
    println!("{left} of {KILLS} runs were killed in the middle of a repair");
    assert!(left > 0, "no kill hit a repair");
}
