//! Other programs read what the writer makes, and theirs is read. What is not installed is skipped,
//! with a message.

use crate::{child_spec, spec, write, write_child};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::Path,
    process::{Command, Stdio},
};
use vdisk_core::{
    Chain, Disk, FileResolver, Identity, Ids, Job, OpenOptions, format::Spec, open, ops::hash,
    testing::contents,
};

/// Sizes that are and are not what a geometry multiplies to, in sectors.
const SIZES: [usize; 4] = [1, 8192, 10_001, 4096 * 3 + 8];

/// A disk with zeros, data, and single sectors of data.
fn disk(sectors: usize) -> Vec<u8> {
    (0..sectors * 512)
        .map(|i| match i / 512 {
            s if s % 4096 < 1000 => ((i * 31) >> 3) as u8,
            s if s % 777 == 5 => 0xa5,
            _ => 0,
        })
        .collect()
}

/// The disk with some groups of `step` sectors changed and, if those are single, some zeroed.
fn edited(mut disk: Vec<u8>, salt: u8, step: usize) -> Vec<u8> {
    let last = (disk.len() / 512 - 1) / step;
    for (i, sector) in disk.chunks_mut(512).enumerate() {
        match i / step {
            0 => sector.fill(salt),
            group if group == last => sector.fill(salt + 1),
            group if group % 101 < 3 => sector.fill(salt + 2),
            group if group % 101 == 9 && step == 1 => sector.fill(0),
            _ => {}
        }
    }
    disk
}

/// Says whether `program` runs with these arguments; prints that a test is skipped if not.
fn there(program: &OsStr, args: &[&str]) -> bool {
    let found = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !found {
        eprintln!("skipped: {program:?} {args:?} does not run");
    }
    found
}

fn run(command: &mut Command) -> Vec<u8> {
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

/// A base, a child of it and a grandchild in `folder`; returns what the grandchild reads as.
fn family(folder: &Path, sectors: usize, base: &str, step: usize) -> Vec<u8> {
    let oldest = disk(sectors);
    let mut parent = (oldest.clone(), spec(base, oldest.size()).ids.uuid);
    fs::write(
        folder.join("base.vhd"),
        write(&oldest, &spec(base, oldest.size())),
    )
    .unwrap();
    let mut parent_name = "base.vhd";
    for (name, salt) in [("child.vhd", 0x21), ("grandchild.vhd", 0x41)] {
        let disk = edited(parent.0.clone(), salt, step);
        let mut spec = Spec {
            ids: Ids::derived(&[salt; 32], name, 1_700_000_001),
            name,
            ..child_spec(disk.size(), Some(Identity::Uuid(parent.1)))
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
    for (sectors, base) in SIZES
        .into_iter()
        .flat_map(|s| [(s, "fixed"), (s, "dynamic")])
    {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), sectors, base, 1);
        let chain = open_path(&folder.path().join("grandchild.vhd"));
        assert_eq!(chain.layers().len(), 3);
        assert!(contents(&chain).unwrap() == disk);
    }
}

#[test]
fn seven_zip_reads_our_children() {
    let names = ["7zz", "7z"];
    let Some(program) = names.into_iter().find(|p| there(p.as_ref(), &["i"])) else {
        return;
    };
    for (sectors, base) in SIZES
        .into_iter()
        .flat_map(|s| [(s, "fixed"), (s, "dynamic")])
    {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), sectors, base, 1);
        for (name, expected) in [
            ("grandchild.vhd", &disk),
            ("base.vhd", &self::disk(sectors)),
        ] {
            let read = run(Command::new(program)
                .args(["x", "-tvhd", "-so", name])
                .current_dir(folder.path()));
            assert!(read == *expected, "{name} on {base}, {sectors} sectors");
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

/// With changes in groups of eight sectors: after a sector that a child keeps, libvhdi 20260901 takes
/// the rest of that byte of the bitmap for kept too, whoever wrote the image.
#[test]
fn libvhdi_reads_our_children() {
    let python = env::var_os("VDISK_TEST_PYTHON").unwrap_or_else(|| OsString::from("python3"));
    if !there(&python, &["-c", "import pyvhdi"]) {
        return;
    }
    for (sectors, base) in SIZES
        .into_iter()
        .flat_map(|s| [(s, "fixed"), (s, "dynamic")])
    {
        let folder = tempfile::tempdir().unwrap();
        let disk = family(folder.path(), sectors, base, 8);
        let read = run(Command::new(&python)
            .args(["-c", LIBVHDI, "grandchild.vhd", "child.vhd", "base.vhd"])
            .current_dir(folder.path()));
        assert!(read == disk, "{base}, {sectors} sectors");
    }
}

/// Images of other programs, and the SHA-256 of the disk on which several other readers agree.
const REAL: [(&str, &str); 9] = [
    (
        "dfvfs/ntfs-parent.vhd",
        "c91d1766dd4b3327f33a082cbf958d3566dd84a3d71c2473a5ae6155e53171de",
    ),
    (
        "dfvfs/ntfs-dynamic.vhd",
        "8b10b52e3d1e76075d05a5101a6536b9fa8376a5b8f7c22f502d0987d165c876",
    ),
    (
        "dfvfs/ntfs-differential.vhd",
        "b7922a46a6b08fa4f4fc0c51a25d5587d1d49f15cfade45ca740dd07110ae144",
    ),
    (
        "dfvfs/ext2.vhd",
        "870be7ae16c1fa8faab05c6eb9205dc9a7ae35c5f552c5cf8a267c0bc6a5cb99",
    ),
    (
        "plaso-hist/ext2-old.vhd",
        "2adb1dc3b82940ddd88f5f864404af98dc7e801b1403bbe0d6e6f15617088b3f",
    ),
    (
        "plaso/image.vhd",
        "c6db12a7db548e193c29420c1b4533e4708b20c5033db5cc29ef075d48316d25",
    ),
    (
        "securityronin/fixed.vhd",
        "79f45ff4dce008350fe8cf6463e3c35c3fb93e2ac4ee20bb1483439f63658b1f",
    ),
    (
        "securityronin/minimal.vhd",
        "79f45ff4dce008350fe8cf6463e3c35c3fb93e2ac4ee20bb1483439f63658b1f",
    ),
    (
        "vhd-shell/test-3072.vhd",
        "b69dae56a14d1a8314ed40664c4033ea0a550eea2673e04df42a66ac6b9faf2c",
    ),
];

#[test]
fn real_images_read_as_by_others() {
    let Some(folder) = env::var_os("VDISK_TEST_IMAGES") else {
        eprintln!("skipped: VDISK_TEST_IMAGES names no folder of images");
        return;
    };
    for (name, digest) in REAL {
        let path = Path::new(&folder).join(name);
        if !path.exists() {
            eprintln!("skipped: {name} is not there");
            continue;
        }
        let chain = open_path(&path);
        assert_eq!(
            hash::hex(&hash::digest(&chain, &Job::default()).unwrap()),
            digest,
            "{name}"
        );
        // Every image must be recognised by its contents.
        let file = chain.top().files()[0].clone();
        assert_eq!(open::probe(&file).unwrap().name(), "vhd");
    }
}
