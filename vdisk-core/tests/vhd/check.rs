//! What healthy images other programs and the writer make, the check calls healthy; and what it
//! repairs, other programs read.

use crate::{
    child_spec,
    peers::{disk, run, sized, there},
    spec, write,
    write::BLOCKS,
    write_child,
};
use std::{fs, path::Path, process::Command};
use vdisk_core::{
    Disk, FileResolver, Identity, Ids, Job, OpenOptions,
    check::Severity,
    ops::check::{Extent, Outcome, check},
    patch,
};

/// The findings about the image at `path`; warnings and errors alone count.
pub(crate) fn look(path: &Path) -> (Vec<String>, Outcome) {
    let resolver = FileResolver::default();
    let extent = Extent {
        deep: true,
        chain: true,
    };
    let outcome = check(path, &OpenOptions::new(&resolver), extent, &Job::default()).unwrap();
    let bad = outcome.findings.list().iter();
    let bad = bad.filter(|f| f.severity > Severity::Note);
    (bad.map(ToString::to_string).collect(), outcome)
}

#[test]
fn what_the_writer_makes_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let (image, base) = (folder.path().join("a.vhd"), folder.path().join("base.vhd"));
    for sectors in [0, 1, 68, 8192, 10_001] {
        let disk = disk(sectors);
        for subformat in ["dynamic", "fixed"] {
            for block in BLOCKS {
                let spec = sized(block, spec(subformat, disk.size()));
                fs::write(&image, write(&disk, &spec)).unwrap();
                let (_, outcome) = look(&image);
                // Not even a note.
                let said = outcome.findings.list();
                assert!(
                    said.is_empty(),
                    "{subformat}, {sectors}, {block}: {said:#?}"
                );
            }
        }
        let parent = spec("dynamic", disk.size());
        fs::write(&base, write(&disk, &parent)).unwrap();
        let mut edited = disk.clone();
        edited.extend([7; 1024]);
        let mut child = child_spec(edited.size(), Some(Identity::Uuid(parent.ids.uuid)));
        child.ids = Ids::derived(&[4; 32], "vhd", 1_700_000_000);
        fs::write(&image, write_child(&disk, &edited, &child).0).unwrap();
        let (_, outcome) = look(&image);
        let said = outcome.findings.list();
        assert!(said.is_empty(), "child, {sectors}: {said:#?}");
        assert_eq!(outcome.layers, 2);
    }
}

#[test]
fn what_qemu_makes_is_healthy() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("a.vhd"), folder.path().join("a.raw"));
    for sectors in [8192, 10_001, 12_296] {
        fs::write(&raw, disk(sectors)).unwrap();
        for subformat in ["dynamic", "fixed"] {
            for force in ["on", "off"] {
                let options = format!("subformat={subformat},force_size={force}");
                run(Command::new("qemu-img")
                    .args(["convert", "-f", "raw", "-O", "vpc", "-o", &options])
                    .args([&raw, &image]));
                let (bad, _) = look(&image);
                assert!(bad.is_empty(), "{options}, {sectors}: {bad:#?}");
            }
        }
    }
    // Empty, and as large as it gets.
    for size in ["0", "2040G"] {
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "vpc", "-o", "force_size=on"])
            .arg(&image)
            .arg(size));
        let (bad, _) = look(&image);
        assert!(bad.is_empty(), "{size}: {bad:#?}");
    }
}

/// What happens to an image.
type Damage = (&'static str, fn(&mut Vec<u8>));

#[test]
fn what_is_repaired_qemu_reads_and_it_can_be_undone() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let rows: &[Damage] = &[
        ("no footer", |i| i.truncate(i.len() - 512)),
        ("half a footer", |i| i.truncate(i.len() - 100)),
        ("a footer of zeros", |i| {
            let end = i.len() - 512;
            i[end..].fill(0);
        }),
        ("a wrong byte in the footer", |i| {
            let end = i.len() - 512;
            i[end + 50] ^= 0x10;
        }),
        ("no copy", |i| i[..512].fill(0)),
        ("a wrong byte in the copy", |i| i[17] ^= 0x10),
        ("both checksums", |i| {
            let end = i.len() - 512;
            i[end + 65] ^= 0x10;
            i[65] ^= 0x10;
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("a.vhd"), folder.path().join("a.raw"));
    for sectors in [8192, 12_296] {
        let disk = disk(sectors);
        fs::write(&raw, &disk).unwrap();
        let whole = write(&disk, &spec("dynamic", disk.size()));
        for (name, damage) in rows {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(&image, &bytes).unwrap();
            let (bad, outcome) = look(&image);
            assert!(!bad.is_empty(), "{name}");
            let backups = patch::apply(&outcome.findings.patches()).unwrap();
            assert_eq!(backups.len(), 1, "{name}");
            let (bad, _) = look(&image);
            assert!(bad.is_empty(), "{name}: {bad:#?}");
            assert!(fs::read(&image).unwrap() == whole, "{name}: not as it was");
            run(Command::new("qemu-img")
                .args(["info", "-f", "vpc"])
                .arg(&image));
            let said = run(Command::new("qemu-img")
                .args(["compare", "-f", "vpc", "-F", "raw"])
                .args([&image, &raw]));
            // It would also warn if the sizes differed.
            assert_eq!(said, b"Images are identical.\n", "{name}");
            patch::undo(&backups[0]).unwrap();
            assert!(fs::read(&image).unwrap() == bytes, "{name}: undo");
            fs::remove_file(&backups[0]).unwrap();
        }
    }
}

#[test]
fn a_copy_with_only_a_wrong_checksum_differs_in_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("a.vhd");
    let disk = disk(8192);
    let mut bytes = write(&disk, &spec("dynamic", disk.size()));
    bytes[65] ^= 1;
    fs::write(&image, &bytes).unwrap();
    let (bad, _) = look(&image);
    assert_eq!(bad.len(), 1, "{bad:?}");
    let sentence = "differs from the footer in nothing else (";
    assert!(bad[0].contains(sentence), "{bad:?}");
}

#[test]
fn an_image_that_xenserver_has_open_is_told_from_a_cut_one() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("a.vhd");
    let disk = disk(8192);
    let mut bytes = write(&disk, &spec("dynamic", disk.size()));
    let end = bytes.len() - 512;
    for (byte, open) in [(0xc7, true), (0xc8, false)] {
        bytes[end..].fill(byte);
        fs::write(&image, &bytes).unwrap();
        let (bad, _) = look(&image);
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert_eq!(bad[0].contains("XenServer"), open, "{bad:?}");
    }
}

/// qemu takes no notice of bitmaps, so a sector that a bitmap calls empty shows its data there.
#[test]
fn hidden_data_are_those_that_qemu_shows() {
    if !there("qemu-img".as_ref(), &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("a.vhd"), folder.path().join("a.raw"));
    let mut disk = vec![5u8; 1 << 20];
    let mut bytes = write(&disk, &spec("dynamic", disk.size()));
    // The table, with its one entry, follows the header.
    let bitmap = u32::from_be_bytes(bytes[1536..1540].try_into().unwrap()) as usize * 512;
    bytes[bitmap + 2] = 0b1111_1011; // sector 21
    fs::write(&image, &bytes).unwrap();
    let (bad, outcome) = look(&image);
    assert_eq!(bad.len(), 1, "{bad:?}");
    let finding = &outcome.findings.list()[0];
    assert_eq!(
        (finding.rule, finding.repair.is_none()),
        ("hidden-data", true)
    );
    assert!(finding.detail.contains("sector 21 "), "{finding}");
    run(Command::new("qemu-img")
        .args(["convert", "-f", "vpc", "-O", "raw"])
        .args([&image, &raw]));
    assert!(fs::read(&raw).unwrap() == disk, "qemu shows them");
    let here = vdisk_core::open(&image, &OpenOptions::new(&FileResolver::default())).unwrap();
    disk[21 * 512..22 * 512].fill(0);
    assert!(
        vdisk_core::testing::contents(&here).unwrap() == disk,
        "here they are zeros"
    );
    // Data of zeros are nothing to speak of.
    let data = bitmap + 512 + 21 * 512;
    bytes[data..data + 512].fill(0);
    fs::write(&image, &bytes).unwrap();
    assert_eq!(look(&image).0, [""; 0]);
}
