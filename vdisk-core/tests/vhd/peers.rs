//! Other programs read what the writer makes, and theirs is read. What is not installed is skipped,
//! with a message.

use crate::{child_spec, spec, write, write::BLOCKS, write_child};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::Path,
    process::{Command, Stdio},
};
use vdisk_core::{
    Chain, Disk, FileResolver, Identity, Ids, OpenOptions,
    format::{Options, Spec},
    testing::contents,
};

/// Sizes that are and are not what a geometry multiplies to, in sectors.
const SIZES: [usize; 4] = [1, 8192, 10_001, 4096 * 3 + 8];

/// A disk with zeros, data, and single sectors of data.
pub(crate) fn disk(sectors: usize) -> Vec<u8> {
    (0..sectors * 512)
        .map(|i| match i / 512 {
            s if s % 4096 < 1000 => ((i * 31) >> 3) as u8,
            s if s % 777 == 5 => 0xa5,
            _ => 0,
        })
        .collect()
}

/// The disk with some sectors changed and some zeroed.
fn edited(mut disk: Vec<u8>, salt: u8) -> Vec<u8> {
    let last = disk.len() / 512 - 1;
    for (i, sector) in disk.chunks_mut(512).enumerate() {
        match i {
            0 => sector.fill(salt),
            _ if i == last => sector.fill(salt + 1),
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

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output.stdout
}

fn open_path(path: &Path) -> Chain {
    vdisk_core::open(path, &OpenOptions::new(&FileResolver::default())).unwrap()
}

#[test]
fn qemu_reads_ours() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("a.vhd"), folder.path().join("a.raw"));
    for sectors in SIZES {
        let disk = disk(sectors);
        for subformat in ["dynamic", "fixed"] {
            fs::write(&image, write(&disk, &spec(subformat, disk.size()))).unwrap();
            run(Command::new("qemu-img")
                .args(["convert", "-f", "vpc", "-O", "raw"])
                .args([&image, &raw]));
            assert!(
                fs::read(&raw).unwrap() == disk,
                "{subformat}, {sectors} sectors"
            );
        }
        for block in BLOCKS {
            let spec = sized(block, spec("dynamic", disk.size()));
            fs::write(&image, write(&disk, &spec)).unwrap();
            run(Command::new("qemu-img")
                .args(["convert", "-f", "vpc", "-O", "raw"])
                .args([&image, &raw]));
            assert!(fs::read(&raw).unwrap() == disk, "blocks of {block} bytes");
        }
    }
}

#[test]
fn qemu_is_read() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("a.vhd"), folder.path().join("a.raw"));
    for sectors in SIZES {
        let disk = disk(sectors);
        fs::write(&raw, &disk).unwrap();
        for subformat in ["dynamic", "fixed"] {
            let options = format!("subformat={subformat},force_size=on");
            run(Command::new("qemu-img")
                .args(["convert", "-f", "raw", "-O", "vpc", "-o", &options])
                .args([&raw, &image]));
            let chain = open_path(&image);
            assert_eq!(chain.top().facts().subformat, subformat);
            assert!(
                contents(&chain).unwrap() == disk,
                "{subformat}, {sectors} sectors"
            );
        }
    }
}

/// `spec` with blocks of `block` bytes.
pub(crate) fn sized(block: u64, spec: Spec<'_>) -> Spec<'_> {
    Spec {
        options: Options {
            block_size: Some(block),
            ..Options::default()
        },
        ..spec
    }
}

/// What is tried: sectors of the disk, subformat of the base, bytes of a block.
fn families() -> impl Iterator<Item = (usize, &'static str, u64)> {
    let usual = SIZES
        .into_iter()
        .flat_map(|s| [(s, "fixed"), (s, "dynamic")]);
    let usual = usual.map(|(sectors, base)| (sectors, base, 2 << 20));
    usual.chain(BLOCKS.into_iter().map(|b| (10_001, "dynamic", b)))
}

/// A base, a child of it and a grandchild in `folder`; returns what the grandchild reads as.
fn family(folder: &Path, (sectors, base, block): (usize, &str, u64)) -> Vec<u8> {
    let oldest = disk(sectors);
    let mut parent = (oldest.clone(), spec(base, oldest.size()).ids.uuid);
    fs::write(
        folder.join("base.vhd"),
        write(&oldest, &sized(block, spec(base, oldest.size()))),
    )
    .unwrap();
    let mut parent_name = "base.vhd";
    for (name, salt) in [("child.vhd", 0x21), ("grandchild.vhd", 0x41)] {
        let disk = edited(parent.0.clone(), salt);
        let mut spec = Spec {
            ids: Ids::derived(&[salt; 32], name, 1_700_000_001),
            name,
            ..sized(
                block,
                child_spec(disk.size(), Some(Identity::Uuid(parent.1))),
            )
        };
        if let Some(parent) = &mut spec.parent {
            parent.relative = parent_name.into();
        }
        let (image, _) = write_child(&parent.0, &disk, &spec);
        fs::write(folder.join(name), image).unwrap();
        parent = (disk, spec.ids.uuid);
        parent_name = name;
    }
    parent.0
}

#[test]
fn children_are_found_in_a_folder() {
    for one in families() {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), one);
        let chain = open_path(&folder.path().join("grandchild.vhd"));
        assert_eq!(chain.layers().len(), 3);
        assert!(contents(&chain).unwrap() == disk, "{one:?}");
    }
}

#[test]
fn seven_zip_reads_our_children() {
    let program = "7zz";
    if !there(program.as_ref(), &["i"]) {
        return;
    }
    for one in families() {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), one);
        for (name, expected) in [("grandchild.vhd", &disk), ("base.vhd", &self::disk(one.0))] {
            let read = run(Command::new(program)
                .args(["x", "-tvhd", "-so", name])
                .current_dir(folder.path()));
            assert!(read == *expected, "{name}, {one:?}");
        }
    }
}

/// Reads the chain given by its arguments, child first, with libvhdi, and prints its bytes.
const LIBVHDI: &str = "
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

/// With changes of single sectors: after a sector that a child keeps, libvhdi 20260901 takes the rest
/// of that byte of the bitmap for kept too, which the writer's unit must allow for. And in children
/// with blocks of less than 2 MiB it misses sectors of all blocks but the first.
#[test]
fn libvhdi_reads_our_children() {
    let python = env::var_os("VDISK_PEER_PYTHON").unwrap_or_else(|| OsString::from("python3"));
    if !there(&python, &["-c", "import pyvhdi"]) {
        return;
    }
    for one in families() {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), one);
        let read = run(Command::new(&python)
            .args(["-c", LIBVHDI, "base.vhd"])
            .current_dir(folder.path()));
        assert!(read == self::disk(one.0), "base of {one:?}");
        if one.2 < 2 << 20 {
            continue;
        }
        let read = run(Command::new(&python)
            .args(["-c", LIBVHDI, "grandchild.vhd", "child.vhd", "base.vhd"])
            .current_dir(folder.path()));
        assert!(read == disk, "{one:?}");
    }
}
