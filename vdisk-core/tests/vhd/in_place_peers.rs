//! What was changed in place, other programs read and write as before.

use crate::{
    SECTOR,
    check::look,
    child_spec,
    in_place::{compact, resize, write},
    peers::{disk, run, sized, there},
    spec, write as create, write_child,
};
use std::{
    env,
    ffi::OsString,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};
use vdisk_core::{Disk, FileResolver, Identity, Ids, Kind, OpenOptions, testing::contents};

/// What the programs that are there read of a base.
const READERS: [(&str, &str); 2] = [
    (
        "pyvhdi",
        "
import pyvhdi, sys
disk = pyvhdi.file()
disk.open(sys.argv[1])
sys.stdout.buffer.write(disk.read_buffer_at_offset(disk.get_media_size(), 0))
",
    ),
    (
        "dissect.hypervisor",
        "
import sys
from dissect.hypervisor.disk.vhd import VHD
disk = VHD(open(sys.argv[1], 'rb'))
sys.stdout.buffer.write(disk.read(disk.size))
",
    ),
];

fn python() -> OsString {
    env::var_os("VDISK_PEER_PYTHON").unwrap_or_else(|| OsString::from("python3"))
}

/// All programs read `expected`, and the check has nothing to say.
fn agree(path: &Path, expected: &[u8], step: &str) {
    let (said, _) = look(path);
    assert!(said.is_empty(), "{step}: {said:#?}");
    let options = FileResolver::default();
    let chain = vdisk_core::open(path, &OpenOptions::new(&options)).unwrap();
    assert!(contents(&chain).unwrap() == expected, "{step}");
    if there("qemu-img".as_ref(), &["--version"]) {
        let raw = path.with_extension("raw");
        run(Command::new("qemu-img")
            .args(["convert", "-f", "vpc", "-O", "raw"])
            .args([path, &raw]));
        assert!(fs::read(raw).unwrap() == expected, "{step}: qemu");
    }
    for (module, script) in READERS {
        let import = format!("import {module}");
        if there(&python(), &["-c", &import]) {
            let read = run(Command::new(python()).args(["-c", script]).arg(path));
            assert!(read == expected, "{step}: {module}");
        }
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Writes pieces to the image and to the disk it holds.
fn write_both(path: &Path, disk: &mut [u8], pieces: &[(Range<usize>, Option<u8>)]) {
    write(path, pieces, None).unwrap();
    for (range, byte) in pieces {
        disk[range.start * SECTOR..range.end * SECTOR].fill(byte.unwrap_or(0));
    }
}

/// Drops what is zero.
fn drop_zeros(path: &Path, disk: &[u8]) -> u64 {
    let before = size(path);
    let zero = |n: usize| {
        disk.chunks(8 * SECTOR)
            .nth(n)
            .unwrap()
            .iter()
            .all(|b| *b == 0)
    };
    let done = compact(path, Kind::Zero, zero).unwrap();
    assert_eq!(done.cut, before - size(path));
    done.cut
}

/// qemu writes where nothing was, and where something was.
fn qemu_writes(path: &Path, disk: &mut [u8]) {
    if !there("qemu-io".as_ref(), &["--version"]) {
        return;
    }
    let end = disk.len() - 65536;
    for (at, byte) in [(65536, 0x71), (end, 0x72)] {
        let order = format!("write -P {byte} {at} 65536");
        run(Command::new("qemu-io")
            .args(["-f", "vpc", "-c", &order])
            .arg(path));
        disk[at..at + 65536].fill(byte);
    }
}

/// Blocks of `block` bytes; with 64 KiB, a table that grows has no room before the first one.
fn life_of_a_base(path: &Path, block: usize) {
    let per_block = block / SECTOR;
    let mut disk = disk(9 * per_block + 24);
    fs::write(
        path,
        create(&disk, &sized(block as u64, spec("dynamic", disk.size()))),
    )
    .unwrap();
    life_of(path, &mut disk, per_block);
}

fn life_of(path: &Path, disk: &mut Vec<u8>, per_block: usize) {
    let at = |block: usize| block * per_block;
    agree(path, disk, "new");
    write_both(
        path,
        disk,
        &[
            (0..8, Some(0x11)),
            (at(1)..at(4), None),
            (at(4)..at(4) + 16, Some(0x12)),
            (at(4) + 16..at(5), None),
            (at(9)..at(9) + 24, Some(0x13)),
        ],
    );
    agree(path, disk, "written");
    disk.resize(at(530) * SECTOR, 0);
    resize(path, disk.size()).unwrap();
    agree(path, disk, "grown");
    write_both(
        path,
        disk,
        &[
            (at(9)..at(10), Some(0x21)),
            (at(300)..at(301) + 8, Some(0x22)),
            (at(529) + 8..at(530), Some(0x23)),
        ],
    );
    agree(path, disk, "written when grown");
    assert!(drop_zeros(path, disk) > 0);
    agree(path, disk, "compacted");
    assert_eq!(drop_zeros(path, disk), 0, "twice");
    qemu_writes(path, disk);
    agree(path, disk, "written by qemu");
    disk.truncate((at(5) + 40) * SECTOR);
    resize(path, disk.size()).unwrap();
    agree(path, disk, "shrunk");
    assert!(drop_zeros(path, disk) > 0);
    agree(path, disk, "shrunk and compacted");
    disk.resize(at(8) * SECTOR, 0);
    resize(path, disk.size()).unwrap();
    agree(path, disk, "grown again");
}

#[test]
fn bases_are_read_and_written_by_others_at_every_step() {
    let temp = tempfile::tempdir().unwrap();
    life_of_a_base(&temp.path().join("a.vhd"), 64 << 10);
}

/// Its blocks are not aligned, and programs go by the geometry of images that it made.
#[test]
fn bases_of_qemu_are_changed() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (path, raw) = (temp.path().join("a.vhd"), temp.path().join("b.raw"));
    let per_block = 4096;
    for (subformat, force) in [("dynamic", "on"), ("dynamic", "off"), ("fixed", "off")] {
        // 4 heads of 17 sectors: what a geometry gives.
        let mut disk = disk(68 * 301);
        fs::write(&raw, &disk).unwrap();
        let options = format!("subformat={subformat},force_size={force}");
        run(Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vpc", "-o", &options])
            .args([&raw, &path]));
        agree(&path, &disk, &options);
        write_both(
            &path,
            &mut disk,
            &[
                (0..per_block + 8, None),
                (per_block * 4..per_block * 4 + 16, Some(0x31)),
            ],
        );
        agree(&path, &disk, "written");
        disk.resize(30_000_000 / 512 * 512, 0);
        resize(&path, disk.size()).unwrap();
        agree(&path, &disk, "grown");
        let cut = drop_zeros(&path, &disk);
        assert_eq!(cut > 0, subformat == "dynamic");
        agree(&path, &disk, "compacted");
        disk.truncate(9_999_872);
        resize(&path, disk.size()).unwrap();
        agree(&path, &disk, "shrunk");
        if subformat == "fixed" {
            assert_eq!(size(&path), disk.size() + 512);
        }
    }
}

/// Four blocks of eight are dropped: those at the end fill the gaps, as if the others had never been.
#[test]
fn a_compacted_image_is_as_small_as_a_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.vhd");
    let (block, count) = (1 << 20, 8);
    let mut disk: Vec<u8> = (0..count * block).map(|i| (i >> 12) as u8 | 1).collect();
    let spec = sized(block as u64, spec("dynamic", disk.size()));
    let full = create(&disk, &spec);
    fs::write(&path, &full).unwrap();
    for number in [0, 2, 3, 5] {
        disk[number * block..][..block].fill(0);
    }
    // The zeros are there, so that all blocks are still in use.
    fs::write(&path, {
        let mut image = full.clone();
        for number in [0, 2, 3, 5] {
            let entry = 1536 + number * 4;
            let at = u32::from_be_bytes(image[entry..][..4].try_into().unwrap()) as usize;
            image[(at + 1) * SECTOR..][..block].fill(0);
        }
        image
    })
    .unwrap();
    let done = {
        let zero = |n: usize| disk[n * 4096..][..4096].iter().all(|b| *b == 0);
        compact(&path, Kind::Zero, zero).unwrap()
    };
    let whole = 512 + block as u64;
    // Data begin at multiples of 4096, so there is a little between blocks.
    let apart = whole.next_multiple_of(4096);
    assert_eq!((done.freed, done.moved), (4 * apart, 3 * whole));
    assert_eq!(done.cut, done.freed);
    assert_eq!((done.punched, done.kept), (0, 0));
    assert_eq!(size(&path), create(&disk, &spec).len() as u64);
    agree(&path, &disk, "compacted");
}

/// Reads a chain of two, child first.
const CHAIN: &str = "
import pyvhdi, sys
child, parent = pyvhdi.file(), pyvhdi.file()
child.open(sys.argv[1])
parent.open(sys.argv[2])
child.set_parent(parent)
sys.stdout.buffer.write(child.read_buffer_at_offset(child.get_media_size(), 0))
";

#[test]
fn children_are_read_by_others_at_every_step() {
    let temp = tempfile::tempdir().unwrap();
    let (child, parent) = (temp.path().join("a.vhd"), temp.path().join("base.vhd"));
    let per_block = 4096;
    let old = disk(6 * per_block);
    let base = spec("dynamic", old.size());
    fs::write(&parent, create(&old, &base)).unwrap();
    let mut now = old.clone();
    for block in [0, 2, 4] {
        now[block * per_block * SECTOR..][..40 * SECTOR].fill(0x41);
    }
    let mut child_spec = child_spec(now.size(), Some(Identity::Uuid(base.ids.uuid)));
    child_spec.ids = Ids::derived(&[8; 32], "child", 1_700_000_000);
    fs::write(&child, write_child(&old, &now, &child_spec).0).unwrap();
    let agree = |now: &[u8], step: &str| {
        let (said, _) = look(&child);
        assert!(said.is_empty(), "{step}: {said:#?}");
        let resolver = FileResolver::default();
        let chain = vdisk_core::open(&child, &OpenOptions::new(&resolver)).unwrap();
        assert!(contents(&chain).unwrap() == now, "{step}");
        if there(&python(), &["-c", "import pyvhdi"]) {
            let read = run(Command::new(python())
                .args(["-c", CHAIN])
                .args([&child, &parent]));
            assert!(read == now, "{step}: libvhdi");
        }
    };
    agree(&now, "new");
    write_both(
        &child,
        &mut now,
        &[
            (8..16, Some(0x51)),
            (48..56, None),
            (per_block..2 * per_block, None),
            (3 * per_block + 800..3 * per_block + 808, Some(0x52)),
        ],
    );
    agree(&now, "written");
    // The parent's sectors are back in two blocks, and in part of a third.
    let drop = |unit: usize| matches!(unit / 512, 1 | 2) || unit < 2;
    let done = compact(&child, Kind::Absent, drop).unwrap();
    assert!(done.cut > 2 * 2_000_000, "{done:?}");
    for unit in (0..now.len() / 4096).filter(|unit| drop(*unit)) {
        now[unit * 4096..][..4096].copy_from_slice(&old[unit * 4096..][..4096]);
    }
    agree(&now, "compacted");
    now.truncate((4 * per_block + 16) * SECTOR);
    resize(&child, now.size()).unwrap();
    agree(&now, "shrunk");
    // What was cut off does not come back; the parent's is still there.
    now.extend(&old[now.len()..]);
    resize(&child, now.size()).unwrap();
    agree(&now, "grown");
}

/// Images of Windows, whose table and locators lie elsewhere than in ours. Skipped without
/// `VDISK_TEST_IMAGES`.
#[test]
fn images_of_windows_are_changed() {
    let Some(images) = env::var_os("VDISK_TEST_IMAGES").map(PathBuf::from) else {
        eprintln!("skipped: VDISK_TEST_IMAGES is not set");
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.vhd");
    fs::copy(images.join("dfvfs/ntfs-dynamic.vhd"), &path).unwrap();
    let options = FileResolver::default();
    let chain = vdisk_core::open(&path, &OpenOptions::new(&options)).unwrap();
    let mut disk = contents(&chain).unwrap();
    let read = |path: &Path| {
        let chain = vdisk_core::open(path, &OpenOptions::new(&options)).unwrap();
        contents(&chain).unwrap()
    };
    write_both(&path, &mut disk, &[(0..4096, None), (4096..4104, Some(5))]);
    agree(&path, &disk, "written");
    disk.resize(24 << 20, 0);
    resize(&path, disk.size()).unwrap();
    agree(&path, &disk, "grown");
    assert!(drop_zeros(&path, &disk) > 0);
    agree(&path, &disk, "compacted");
    qemu_writes(&path, &mut disk);
    agree(&path, &disk, "written by qemu");

    for name in ["ntfs-parent.vhd", "ntfs-differential.vhd"] {
        fs::copy(images.join("dfvfs").join(name), temp.path().join(name)).unwrap();
    }
    let path = temp.path().join("ntfs-differential.vhd");
    let mut disk = read(&path);
    write_both(&path, &mut disk, &[(16..24, Some(6)), (4096..4112, None)]);
    assert!(read(&path) == disk, "child, written");
    disk.resize(6 << 20, 0);
    resize(&path, disk.size()).unwrap();
    assert!(read(&path) == disk, "child, grown");
    let parent = read(&temp.path().join("ntfs-parent.vhd"));
    let same = |unit: usize| {
        let part = unit * 4096..(unit + 1) * 4096;
        parent.get(part.clone()) == disk.get(part)
    };
    compact(&path, Kind::Absent, same).unwrap();
    assert!(read(&path) == disk, "child, compacted");
}
