//! Other programs read what the builders make, and get the model's bytes. What is not installed is
//! skipped, with a message.

use crate::{
    builder::{Cell, Grains},
    descriptor,
};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};
use vdisk_core::{
    Disk, FileResolver, OpenOptions,
    format::{self, ParentSpec, named},
    testing::{self, contents},
};

/// Says whether `program` runs with these arguments; prints that a test is skipped if not.
fn there(program: &OsStr, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args);
    let found = start(command.stdout(Stdio::null()).stderr(Stdio::null()))
        .and_then(|mut child| child.wait())
        .is_ok_and(|s| s.success());
    let required = env::var_os("VDISK_REQUIRE_PEERS").is_some_and(|v| v == "1");
    assert!(found || !required, "{program:?} {args:?} does not run");
    if !found {
        eprintln!("skipped: {program:?} {args:?} does not run");
    }
    found
}

/// Held while a program starts: until then it has all files that are open here, and their locks.
pub(crate) static STARTING: Mutex<()> = Mutex::new(());

fn start(command: &mut Command) -> io::Result<Child> {
    let _guard = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

fn run(command: &mut Command) -> Vec<u8> {
    let child = start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output.stdout
}

fn ours(path: &Path) -> Vec<u8> {
    let chain = vdisk_core::open(path, &OpenOptions::new(&FileResolver::default())).unwrap();
    contents(&chain).unwrap()
}

fn qemu(path: &Path) -> Vec<u8> {
    let raw = path.with_extension("raw");
    run(Command::new("qemu-img")
        .args(["convert", "-f", "vmdk", "-O", "raw"])
        .args([path, &raw]));
    fs::read(raw).unwrap()
}

/// Reads the extent named by its argument with dissect, and prints its bytes. By sectors: its
/// `read` (3.21) runs past the end of a disk that is not a multiple of its buffer.
const DISSECT: &str = "
import sys
from dissect.hypervisor.disk.vmdk import VMDK
disk = VMDK([open(sys.argv[1], 'rb')])
sys.stdout.buffer.write(disk.read_sectors(0, disk.sector_count))
";

fn python() -> OsString {
    env::var_os("VDISK_PEER_PYTHON").unwrap_or_else(|| OsString::from("python3"))
}

fn dissect(extent: &Path) -> Vec<u8> {
    run(Command::new(python()).args(["-c", DISSECT]).arg(extent))
}

/// Asserts that qemu and dissect, as far as they are here, read the single-file `image` as `disk`.
pub(crate) fn agree(image: &[u8], disk: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.vmdk");
    fs::write(&path, image).unwrap();
    if there("qemu-img".as_ref(), &["--version"]) {
        assert!(qemu(&path) == disk, "qemu");
    }
    if there(&python(), &["-c", "import dissect.hypervisor.disk.vmdk"]) {
        assert!(dissect(&path) == disk, "dissect");
    }
}

/// Asserts that qemu and dissect, as far as they are here, read the image at `path` as `disk`.
pub(crate) fn agree_at(path: &Path, disk: &[u8]) {
    if there("qemu-img".as_ref(), &["--version"]) {
        run(Command::new("qemu-img")
            .args(["check", "-q", "-f", "vmdk"])
            .arg(path));
        assert!(qemu(path) == disk, "qemu");
    }
    if there(&python(), &["-c", "import dissect.hypervisor.disk.vmdk"]) {
        let read = DISSECT.replace("[open(sys.argv[1], 'rb')]", "pathlib.Path(sys.argv[1])");
        let read = format!("import pathlib{read}");
        let found = run(Command::new(python()).args(["-c", &read]).arg(path));
        assert!(found == disk, "dissect");
    }
}

/// As [`agree_at`], and so does libvmdk, which takes no grains of 8 sectors and less.
pub(crate) fn all_agree_at(path: &Path, disk: &[u8]) {
    agree_at(path, disk);
    if there(&python(), &["-c", "import pyvmdk"]) {
        let found = run(Command::new(python()).args(["-c", LIBVMDK]).arg(path));
        assert!(found == disk, "libvmdk");
    }
}

/// Lets qemu write `len` bytes at `at`; says whether it is here.
pub(crate) fn write(path: &Path, at: u64, len: u64, byte: u8) -> bool {
    if !there("qemu-io".as_ref(), &["--version"]) {
        return false;
    }
    let command = format!("write -P {byte:#x} {at} {len}");
    run(Command::new("qemu-io")
        .args(["-f", "vmdk", "-c", &command])
        .arg(path));
    true
}

/// Reads the disk named by its argument with libvmdk, and prints its bytes.
const LIBVMDK: &str = "
import sys, pyvmdk
disk = pyvmdk.handle()
disk.open(sys.argv[1])
disk.open_extent_data_files()
left = disk.get_media_size()
while left:
    part = disk.read_buffer(min(left, 1 << 20))
    sys.stdout.buffer.write(part)
    left -= len(part)
";

/// Grains scattered over three tables, stored backwards.
fn scattered(grain: usize, sectors: usize, cells: &[Cell]) -> Grains {
    let count = sectors.div_ceil(grain);
    let mut grains = Grains::ascending(&vec![Cell::Hole; count], grain, sectors);
    for index in (0..count).filter(|i| i % 7 < 3 || i + 1 == count) {
        grains.cells[index] = cells[index % cells.len()];
    }
    grains.order.reverse();
    grains
}

/// A base of the given size and a child of it whose extent is `extent`, in `folder`.
fn family(folder: &Path, kind: &str, word: &str, sectors: usize, extent: &[u8]) -> Vec<u8> {
    let base: Vec<u8> = (0..sectors * 512).map(|i| 0x80 | (i >> 9) as u8).collect();
    let at = |name: &str| folder.join(name);
    fs::write(at("base-flat.vmdk"), &base).unwrap();
    let line = format!("RW {sectors} VMFS \"base-flat.vmdk\"");
    fs::write(at("base.vmdk"), descriptor("vmfs", None, &[line])).unwrap();
    let line = format!("RW {sectors} {word} \"child-delta.vmdk\"");
    let child = descriptor(
        kind,
        Some(("12345678", "base.vmdk")),
        std::slice::from_ref(&line),
    );
    fs::write(at("child.vmdk"), child).unwrap();
    fs::write(at("alone.vmdk"), descriptor(kind, None, &[line])).unwrap();
    fs::write(at("child-delta.vmdk"), extent).unwrap();
    base
}

#[test]
fn vmfs_sparse_is_read_as_by_qemu_and_dissect() {
    let qemu_img = there("qemu-img".as_ref(), &["--version"]);
    let python = there(&python(), &["-c", "import dissect.hypervisor.disk.vmdk"]);
    for (grain, sectors) in [(1, 2 * 4096 + 5), (8, 4096 * 8 + 17), (128, 1000)] {
        let grains = scattered(grain, sectors, &[Cell::Data(1), Cell::Data(9)]);
        let folder = tempfile::tempdir().unwrap();
        let mut model = family(
            folder.path(),
            "vmfsSparse",
            "VMFSSPARSE",
            sectors,
            &grains.cowd(),
        );
        let at = |name: &str| folder.path().join(name);
        grains.over(&mut model);
        assert!(ours(&at("child.vmdk")) == model, "grain {grain}");
        assert!(ours(&at("alone.vmdk")) == grains.disk(), "grain {grain}");
        if qemu_img {
            assert!(qemu(&at("child.vmdk")) == model, "grain {grain}");
            assert!(qemu(&at("alone.vmdk")) == grains.disk(), "grain {grain}");
        }
        if python {
            assert!(
                dissect(&at("child-delta.vmdk")) == grains.disk(),
                "grain {grain}"
            );
        }
    }
}

#[test]
fn se_sparse_is_read_as_by_qemu_and_dissect() {
    let qemu_img = there("qemu-img".as_ref(), &["--version"]);
    let python = there(&python(), &["-c", "import dissect.hypervisor.disk.vmdk"]);
    let cells = [Cell::Data(1), Cell::Zero, Cell::Unmapped];
    for sectors in [4096 * 8 * 2 + 24, 1003, 8] {
        let grains = scattered(8, sectors, &cells);
        let folder = tempfile::tempdir().unwrap();
        let extent = grains.sesparse();
        let mut model = family(folder.path(), "seSparse", "SESPARSE", sectors, &extent);
        let at = |name: &str| folder.path().join(name);
        grains.over(&mut model);
        assert!(ours(&at("child.vmdk")) == model, "{sectors} sectors");
        assert!(
            ours(&at("alone.vmdk")) == grains.disk(),
            "{sectors} sectors"
        );
        if qemu_img {
            assert!(qemu(&at("child.vmdk")) == model, "{sectors} sectors");
            assert!(
                qemu(&at("alone.vmdk")) == grains.disk(),
                "{sectors} sectors"
            );
        }
        // dissect (3.21) shows a parent's bytes through unmapped grains, so only without a parent.
        if python {
            assert!(
                dissect(&at("child-delta.vmdk")) == grains.disk(),
                "{sectors} sectors"
            );
        }
    }
}

#[test]
fn a_child_that_is_a_stream_is_read_as_by_qemu_and_dissect() {
    let (before, after) = crate::write::before_and_after();
    let vmdk = named("vmdk").unwrap();
    let kind = |name| format::subformat(vmdk, Some(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = testing::image(vmdk, kind("monolithicSparse"), &before, None, 1).unwrap();
    let layer = testing::open_bytes(vmdk, base.clone()).unwrap();
    let parent = ParentSpec {
        relative: "base.vmdk".into(),
        absolute: None,
        identity: layer.facts().identity,
        modified: 0,
    };
    let below: (&dyn Disk, _) = (&before, parent);
    let child = testing::image(vmdk, kind("streamOptimized"), &after, Some(below), 2).unwrap();
    fs::write(at("base.vmdk"), base).unwrap();
    fs::write(at("child.vmdk"), child).unwrap();
    assert!(ours(&at("child.vmdk")) == after);
    if there("qemu-img".as_ref(), &["--version"]) {
        assert!(qemu(&at("child.vmdk")) == after, "qemu");
    }
    if there(&python(), &["-c", "import dissect.hypervisor.disk.vmdk"]) {
        assert!(dissect(&at("child.vmdk")) == after, "dissect");
    }
}
