//! Other programs read what the writer makes, and theirs is read. What is not installed is skipped,
//! with a message.

use crate::{
    builder::Step,
    child_spec,
    log::{entry, log, page, sample},
    open_sparse,
    sparse::Sparse,
    spec, write, write_child,
};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
};
use vdisk_core::{
    Chain, Disk, FileResolver, Ids, Job, OpenOptions,
    format::{self, Options, Spec},
    ops::check::{Extent, check},
    patch,
    testing::contents,
};

/// One unit; some blocks of 1 MiB; some of 2 MiB, the last not whole. In units of 4 KiB.
const SIZES: [usize; 3] = [1, 3 * 256, 5 * 512 + 3];

/// A disk with zeros, data, and single sectors of data.
fn disk(units: usize) -> Vec<u8> {
    (0..units * 4096)
        .map(|i| match i / 512 {
            s if s % 4096 < 1000 => ((i * 31) >> 3) as u8,
            s if s % 777 == 5 => 0xa5,
            _ => 0,
        })
        .collect()
}

/// The disk with some sectors changed, some zeroed, and one MiB of each.
fn edited(mut disk: Vec<u8>, salt: u8) -> Vec<u8> {
    let last = disk.len() / 512 - 1;
    for (i, sector) in disk.chunks_mut(512).enumerate() {
        match i {
            0 => sector.fill(salt),
            _ if i == last => sector.fill(salt + 1),
            _ if (4096..6144).contains(&i) => sector.fill(salt + 3),
            _ if (8192..12288).contains(&i) => sector.fill(0),
            _ if i % 101 < 3 => sector.fill(salt + 2),
            _ if i % 101 == 9 => sector.fill(0),
            _ => {}
        }
    }
    disk
}

/// Says whether `program` runs with these arguments; prints that a test is skipped if not.
pub(crate) fn there(program: &OsStr, args: &[&str]) -> bool {
    let found = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    let required = env::var_os("VDISK_REQUIRE_PEERS").is_some_and(|v| v == "1");
    assert!(found || !required, "{program:?} {args:?} does not run");
    if !found {
        eprintln!("skipped: {program:?} {args:?} does not run");
    }
    found
}

pub(crate) fn python() -> OsString {
    env::var_os("VDISK_PEER_PYTHON").unwrap_or_else(|| OsString::from("python3"))
}

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output.stdout
}

pub(crate) fn open_path(path: &Path) -> Chain {
    vdisk_core::open(path, &OpenOptions::new(&FileResolver::default())).unwrap()
}

/// Makes the file of an image; what is zero stays a hole.
pub(crate) fn save(image: &Sparse, path: &Path) {
    let file = fs::File::create(path).unwrap();
    file.set_len(image.size).unwrap();
    for at in (0..image.size).step_by(1 << 20) {
        let piece = image.get(at, (image.size - at).min(1 << 20) as usize);
        if piece.iter().any(|b| *b != 0) {
            file.write_all_at(&piece, at).unwrap();
        }
    }
}

fn options(block_size: u64) -> Options {
    Options {
        block_size: Some(block_size),
        ..Options::default()
    }
}

#[test]
fn qemu_reads_ours() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("a.vhdx"), folder.path().join("a.raw"));
    for units in SIZES {
        let disk = disk(units);
        fs::write(&raw, &disk).unwrap();
        for (subformat, block) in [
            ("dynamic", 1 << 20),
            ("dynamic", 32 << 20),
            ("fixed", 2 << 20),
            ("dynamic", 256 << 20),
        ] {
            let spec = Spec {
                options: options(block),
                ..spec(subformat, disk.size())
            };
            save(&write(&disk, &spec), &image);
            run(Command::new("qemu-img")
                .args(["check", "-q", "-f", "vhdx"])
                .arg(&image));
            run(Command::new("qemu-img")
                .args(["compare", "-q", "-f", "vhdx", "-F", "raw"])
                .args([&image, &raw]));
        }
    }
}

#[test]
fn qemu_is_read() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("a.vhdx"), folder.path().join("a.raw"));
    for units in SIZES {
        let disk = disk(units);
        fs::write(&raw, &disk).unwrap();
        for made in [
            "subformat=dynamic",
            "subformat=dynamic,block_state_zero=off,block_size=1M",
            "subformat=fixed,block_size=2M",
            "subformat=dynamic,log_size=3M",
        ] {
            run(Command::new("qemu-img")
                .args(["convert", "-f", "raw", "-O", "vhdx", "-o", made])
                .args([&raw, &image]));
            let chain = open_path(&image);
            assert!(contents(&chain).unwrap() == disk, "{made}, {units} units");
        }
    }
}

/// qemu replays the log of a writable image: afterwards the file itself must be what was read.
///
/// Not with a log that goes around its end: qemu 10.0 then takes the last entries alone, against
/// the tail that they name.
#[test]
fn qemu_replays_a_log_to_the_same_disk() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let mut dirty = sample();
    let steps = vec![
        Step::Page(4 << 20, page(3)),
        Step::Zero((5 << 20) + 4096, 65536),
        Step::Page((5 << 20) + 8192, page(4)),
    ];
    let start = 5 * 4096;
    log(
        &mut dirty,
        start,
        &[
            entry(77, start as u32, steps),
            entry(
                78,
                start as u32,
                vec![Step::Page((4 << 20) + 4096, page(5))],
            ),
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("a.vhdx");
    fs::write(&image, dirty.file.to_vec()).unwrap();
    let ours = contents(&open_path(&image)).unwrap();
    run(Command::new("qemu-img")
        .args(["check", "-q", "-r", "all", "-f", "vhdx"])
        .arg(&image));
    let replayed = open_path(&image);
    assert!(replayed.top().facts().warnings.is_empty());
    assert!(contents(&replayed).unwrap() == ours);
    assert!(ours != contents(&open_sparse(sample().file, false).unwrap()).unwrap());
}

/// What our repair leaves is clean for qemu, which then reads what was read through the log.
#[test]
fn qemu_finds_nothing_wrong_after_a_repair() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let mut dirty = sample();
    // Around the end of the log, and the file becomes longer.
    let start = (1 << 20) - 8192;
    let steps = vec![
        Step::Page(4 << 20, page(3)),
        Step::Zero((5 << 20) + 4096, 65536),
    ];
    let mut last = entry(
        78,
        start as u32,
        vec![Step::Page((4 << 20) + 4096, page(5))],
    );
    last.last = 8 << 20;
    log(&mut dirty, start, &[entry(77, start as u32, steps), last]);
    // Also the two parts that have copies, and the signature.
    dirty.file.put((64 << 10) + 100, &[1]);
    dirty.file.put((192 << 10) + 100, &[1]);
    dirty.file.put(0, b"VHDXFILE");
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("a.vhdx"), folder.path().join("a.raw"));
    fs::write(&image, dirty.file.to_vec()).unwrap();
    let resolver = FileResolver::default();
    let options = OpenOptions {
        format: Some(format::named("vhdx").unwrap()),
        ..OpenOptions::new(&resolver)
    };
    let ours = contents(&vdisk_core::open(&image, &options).unwrap()).unwrap();
    let look = || check(&image, &options, Extent::default(), &Job::default()).unwrap();
    let found = look().findings;
    let rules: Vec<&str> = found.list().iter().map(|f| f.rule).collect();
    let expected = [
        "signature",
        "header-damaged",
        "log-dirty",
        "region-table-damaged",
    ];
    assert_eq!(rules, expected);
    patch::apply(&found.patches()).unwrap();
    assert!(look().findings.list().is_empty());
    assert_eq!(fs::metadata(&image).unwrap().len(), 8 << 20);
    fs::write(&raw, &ours).unwrap();
    run(Command::new("qemu-img")
        .args(["check", "-q", "-f", "vhdx"])
        .arg(&image));
    run(Command::new("qemu-img")
        .args(["compare", "-q", "-f", "vhdx", "-F", "raw"])
        .args([&image, &raw]));
    assert!(contents(&open_path(&image)).unwrap() == ours);
}

/// A base, a child of it and a grandchild in `folder`; returns what the grandchild reads as.
fn family(folder: &Path, units: usize, base: &str) -> Vec<u8> {
    let oldest = disk(units);
    let base_spec = spec(base, oldest.size());
    save(&write(&oldest, &base_spec), &folder.join("base.vhdx"));
    let mut below = oldest;
    let mut parent_name = "base.vhdx";
    for (name, salt) in [("child.vhdx", 0x21), ("grandchild.vhdx", 0x41)] {
        let disk = edited(below.clone(), salt);
        let parent = open_path(&folder.join(parent_name)).top().facts().identity;
        let mut spec = Spec {
            ids: Ids::derived(&[salt; 32], name, 1_700_000_001),
            name,
            ..child_spec(disk.size(), parent)
        };
        if let Some(parent) = &mut spec.parent {
            parent.relative = parent_name.into();
        }
        let (image, _) = write_child(&below, &disk, &spec);
        save(&image, &folder.join(name));
        below = disk;
        parent_name = name;
    }
    below
}

fn families() -> impl Iterator<Item = (usize, &'static str)> {
    SIZES
        .into_iter()
        .flat_map(|s| [(s, "fixed"), (s, "dynamic")])
}

#[test]
fn children_are_found_in_a_folder() {
    for (units, base) in families() {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), units, base);
        let chain = open_path(&folder.path().join("grandchild.vhdx"));
        assert_eq!(chain.layers().len(), 3);
        assert!(contents(&chain).unwrap() == disk);
        // A parent that was changed since is not the parent.
        let base = folder.path().join("base.vhdx");
        save(
            &write(
                &disk,
                &Spec {
                    ids: Ids::random(0),
                    ..spec("dynamic", disk.size())
                },
            ),
            &base,
        );
        let again = vdisk_core::open(
            &folder.path().join("grandchild.vhdx"),
            &OpenOptions::new(&FileResolver::default()),
        );
        assert_eq!(
            again.err().unwrap().kind(),
            vdisk_core::ErrorKind::Reference
        );
    }
}

#[test]
fn seven_zip_reads_ours() {
    let program = "7zz";
    if !there(program.as_ref(), &["i"]) {
        return;
    }
    for (units, base) in families() {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), units, base);
        for (name, expected) in [
            ("grandchild.vhdx", &disk),
            ("base.vhdx", &self::disk(units)),
        ] {
            let read = run(Command::new(program)
                .args(["x", "-tvhdx", "-so", name])
                .current_dir(folder.path()));
            assert!(read == *expected, "{name} on {base}, {units} units");
        }
    }
}

/// Reads the chain given by its arguments, child first, with libvhdi, and prints its bytes.
pub(crate) const LIBVHDI: &str = "
import pyvhdi, sys
disks = []
for name in sys.argv[1:]:
    disk = pyvhdi.file()
    disk.open(name)
    if disks:
        disks[-1].set_parent(disk)
    disks.append(disk)
top = disks[0]
sys.stdout.buffer.write(top.read_buffer_at_offset(top.get_media_size(), 0))
";

/// Reads an image with dissect, which finds the parents by their recorded names.
pub(crate) const DISSECT: &str = "
import sys
from pathlib import Path
from dissect.hypervisor.disk.vhdx import VHDX
disk = VHDX(Path(sys.argv[1]))
sys.stdout.buffer.write(disk.read(disk.size))
";

pub(crate) fn read_in_python(folder: &Path, script: &str, names: &[&str]) -> Vec<u8> {
    run(Command::new(python())
        .args(["-c", script])
        .args(names)
        .current_dir(folder))
}

#[test]
fn libvhdi_reads_our_children() {
    if !there(&python(), &["-c", "import pyvhdi"]) {
        return;
    }
    for (units, base) in families() {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), units, base);
        let names = ["grandchild.vhdx", "child.vhdx", "base.vhdx"];
        let read = read_in_python(folder.path(), LIBVHDI, &names);
        assert!(read == disk, "{base}, {units} units");
    }
}

#[test]
fn dissect_reads_our_children() {
    if !there(&python(), &["-c", "import dissect.hypervisor"]) {
        return;
    }
    for (units, base) in families() {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), units, base);
        for (name, expected) in [
            ("grandchild.vhdx", &disk),
            ("base.vhdx", &self::disk(units)),
        ] {
            let read = read_in_python(folder.path(), DISSECT, &[name]);
            assert!(read == *expected, "{name} on {base}, {units} units");
        }
    }
}

/// libvhdi shows the GUIDs as text: the bytes of the file are not in that order.
#[test]
fn libvhdi_shows_the_guids_that_we_do() {
    if !there(&python(), &["-c", "import pyvhdi"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    family(folder.path(), 1, "dynamic");
    let script = "
import pyvhdi, sys
disk = pyvhdi.file()
disk.open(sys.argv[1])
print(disk.get_parent_identifier())
";
    let theirs = read_in_python(folder.path(), script, &["child.vhdx"]);
    let theirs = String::from_utf8(theirs).unwrap();
    let ours = open_path(&folder.path().join("base.vhdx"))
        .top()
        .facts()
        .identity;
    let shown = ours.unwrap().to_string();
    assert!(shown.ends_with(theirs.trim()), "{theirs} {shown}");
}
