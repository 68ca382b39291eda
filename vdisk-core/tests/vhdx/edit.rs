//! What an image says of itself and of its parent, changed in place.

use crate::{
    builder::{Block, Built, DATA_WRITE, MIB, PARENT, PARENT_TEXT, Shape, crc, locator},
    child_spec,
    log::sample,
    peers::{DISSECT, open_path, python, read_in_python, run, save, there},
    spec, write, write_child,
};
use std::{fs, path::Path, process::Command};
use vdisk_core::{
    Disk, ErrorKind, FileResolver, Identity, Ids, Job, OpenOptions, Result,
    edit::{self, Changed, Edit, NewId, Plan},
    format::ParentSpec,
    ops::check::{Extent, check},
    patch,
    storage::{Access, ImageFile},
    testing::contents,
    transaction::{self, Files, Work},
};

const NEW: [u8; 16] = *b"another parent's";

fn parent(relative: &str, identity: [u8; 16]) -> ParentSpec {
    ParentSpec {
        relative: relative.into(),
        absolute: None,
        identity: Some(Identity::Linkage(identity)),
        modified: 0,
    }
}

fn rebased(parent: ParentSpec) -> Edit {
    Edit {
        parent: Some(parent),
        ..Edit::default()
    }
}

fn plan(path: &Path, edit: &Edit) -> Result<Plan> {
    edit::plan(path, &OpenOptions::new(&FileResolver::default()), edit).map(|(_, plan)| plan)
}

/// A child as Windows makes it, with one partial block; `length` of the item behind its locator.
fn child(length: usize) -> Built {
    let mut shape =
        Shape::new(512, MIB, 5000, vec![(1, Block::Partial(vec![(8, 64)]))]).into_child();
    shape.locator = [
        ("parent_linkage", PARENT_TEXT),
        ("parent_linkage2", "{00000000-0000-0000-0000-000000000000}"),
        ("relative_path", r".\base.vhdx"),
        ("volume_path", r"\\?\Volume{x}\base.vhdx"),
        ("absolute_win32_path", r"C:\base.vhdx"),
        ("somebody's own", "value"),
    ]
    .map(|(k, v)| (k, v.to_owned()))
    .to_vec();
    let mut built = shape.build();
    if length > 0 {
        let mut items = shape.metadata();
        items.push((*b"an unknown item!", 0, vec![0x77; length]));
        built.metadata_of(&items);
    }
    built
}

/// What row `number` of the metadata table says: offset and length of the item.
fn row(bytes: &[u8], metadata: u64, number: usize) -> (usize, usize) {
    let at = metadata as usize + 32 + 32 * number;
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    (word(at + 16), word(at + 20))
}

/// Data write GUID, file write GUID and sequence number of both headers, whose sums are right.
pub(crate) fn headers(bytes: &[u8]) -> [([u8; 16], [u8; 16], u64); 2] {
    [64 << 10, 128 << 10].map(|at| {
        let header = &bytes[at..at + 4096];
        let mut zeroed = header.to_vec();
        zeroed[4..8].fill(0);
        assert_eq!(&header[4..8], crc(&zeroed).to_le_bytes());
        (
            header[32..48].try_into().unwrap(),
            header[16..32].try_into().unwrap(),
            u64::from_le_bytes(header[8..16].try_into().unwrap()),
        )
    })
}

fn clean(path: &Path) {
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    let found = check(
        path,
        &options,
        Extent {
            deep: true,
            chain: false,
        },
        &Job::default(),
    )
    .unwrap()
    .findings;
    let others: Vec<_> = found
        .list()
        .iter()
        .filter(|f| !["parent-missing", "parent-refused"].contains(&f.rule))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

/// The item that must follow from the edit, as somebody else would write it.
#[test]
fn a_locator_is_written_where_it_was_or_where_there_is_room() {
    let guid = "{746f6e61-6568-2072-7061-72656e742773}";
    let own = ("somebody's own", "value".to_owned());
    let long = r".\".to_owned() + &"x".repeat(200) + ".vhdx";
    let new = |relative: &str| {
        vec![
            ("parent_linkage", guid.to_owned()),
            ("relative_path", relative.to_owned()),
        ]
    };
    for behind in [0, 100] {
        // The same name: the other paths still lead there.
        let mut same = new(r".\base.vhdx");
        same.push(("volume_path", r"\\?\Volume{x}\base.vhdx".into()));
        same.push(("absolute_win32_path", r"C:\base.vhdx".into()));
        same.push(own.clone());
        let mut other = new(r"..\gold\b.vhdx");
        other.push(own.clone());
        let mut longer = new(&long);
        longer.push(("absolute_win32_path", format!(r"D:\{}", &long[2..])));
        longer.push(own.clone());
        for (relative, absolute, expected) in [
            ("base.vhdx", None, same),
            ("../gold/b.vhdx", None, other),
            (
                &*long[2..].to_owned(),
                Some(format!(r"D:\{}", &long[2..])),
                longer,
            ),
        ] {
            let built = child(behind);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.vhdx");
            let old = built.file.to_vec();
            fs::write(&path, &old).unwrap();
            let spec = ParentSpec {
                absolute: absolute.map(Into::into),
                ..parent(relative, NEW)
            };
            let plan = plan(&path, &rebased(spec)).unwrap();
            assert!(fs::read(&path).unwrap() == old, "a plan wrote");
            let backups = patch::apply(&plan.patches).unwrap();
            let bytes = fs::read(&path).unwrap();
            let (offset, length) = row(&bytes, built.metadata, 5);
            let at = built.metadata as usize + offset;
            let item = locator(&expected);
            assert_eq!(length, item.len());
            assert!(bytes[at..at + length] == item, "{relative} {behind}");
            assert_eq!(
                offset == row(&old, built.metadata, 5).0,
                behind == 0 || relative != &long[2..]
            );
            // The others are where they were, and all else but the headers too.
            let mut all = bytes.clone();
            let table = built.metadata as usize;
            for range in [64 << 10..192 << 10, table..table + (1 << 20)] {
                all[range.clone()].copy_from_slice(&old[range]);
            }
            assert!(all == old);
            for number in [0, 1, 2, 3, 4, 6] {
                let (offset, length) = row(&old, built.metadata, number);
                assert_eq!(row(&bytes, built.metadata, number), (offset, length));
                let range = table + offset..table + offset + length;
                assert!(bytes[range.clone()] == old[range], "item {number}");
            }
            let [one, two] = headers(&bytes);
            assert_eq!(
                (one.0, two.0),
                (DATA_WRITE, DATA_WRITE),
                "a child of its own"
            );
            assert_eq!(one.1, two.1);
            assert_ne!(one.1, headers(&old)[0].1, "the file write GUID");
            // The current one was the second, with number 8: it is written last.
            assert_eq!((one.2, two.2), (9, 10));
            clean(&path);
            let layer =
                vdisk_core::open::open_layer(&path, &OpenOptions::new(&FileResolver::default()));
            let facts = layer.unwrap().facts().clone();
            let recorded = facts.parent.unwrap();
            assert_eq!(recorded.identity, Some(Identity::Linkage(NEW)));
            assert_eq!(recorded.alternative, None);
            let again = self::plan(&path, &rebased(parent(relative, NEW)));
            assert!(again.unwrap().patches.is_empty());
            patch::undo(&backups[0]).unwrap();
            assert!(fs::read(&path).unwrap() == old);
        }
    }
}

#[test]
fn a_change_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhdx");
    fs::write(&path, child(0).file.to_vec()).unwrap();
    let plan = plan(&path, &rebased(parent("b.vhdx", PARENT))).unwrap();
    let changed = |setting, from: &str, to: &str| Changed {
        setting,
        from: Some(from.to_owned()),
        to: to.to_owned(),
    };
    let expected = [
        changed(
            "parent_linkage2",
            "{00000000-0000-0000-0000-000000000000}",
            "none",
        ),
        changed("relative_path", r".\base.vhdx", r".\b.vhdx"),
        changed("volume_path", r"\\?\Volume{x}\base.vhdx", "none"),
        changed("absolute_win32_path", r"C:\base.vhdx", "none"),
    ];
    assert_eq!(plan.changes, expected);
}

/// The identity that an image gets is the one that the writer gives to an image of those ids.
#[test]
fn an_identity_is_that_of_the_writer() {
    let disk = vec![7u8; 3 << 20];
    let ids = Ids::derived(&[9; 32], "other", 0);
    let edit = Edit {
        identity: Some(ids),
        ..Edit::default()
    };
    for subformat in ["dynamic", "fixed"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vhdx");
        save(&write(&disk, &spec(subformat, disk.size())), &path);
        let old = fs::read(&path).unwrap();
        let made = write(
            &disk,
            &vdisk_core::format::Spec {
                ids,
                ..spec(subformat, disk.size())
            },
        );
        let plan = plan(&path, &edit).unwrap();
        let settings: Vec<_> = plan.changes.iter().map(|c| c.setting).collect();
        assert_eq!(settings, ["data write GUID"]);
        // Within a transaction too, which takes the patches as they are.
        let file = ImageFile::open(&path, Access::Positioned).unwrap();
        let work = Work {
            files: &[&file],
            redo: "",
            medium: &Files,
        };
        transaction::run(&work, |t| t.patch(&plan.patches)).unwrap();
        let bytes = fs::read(&path).unwrap();
        let [one, two] = headers(&bytes);
        let [_, wanted] = headers(&made.to_vec());
        assert_eq!(
            (one.0, one.1, one.0, one.1),
            (two.0, two.1, wanted.0, wanted.1)
        );
        assert_eq!(headers(&old).map(|h| h.2), [1, 2]);
        assert_eq!((one.2, two.2), (3, 4));
        assert!(bytes[192 << 10..] == old[192 << 10..]);
        clean(&path);
        assert!(contents(&open_path(&path)).unwrap() == disk);
        // The same ids once more: nothing to do for the identity.
        assert!(self::plan(&path, &edit).unwrap().patches.is_empty());
    }
}

#[test]
fn dissect_and_libvhdi_see_the_new_parent() {
    if !there(&python(), &["-c", "import dissect.hypervisor, pyvhdi"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let below: Vec<u8> = (0..5 << 20).map(|i: u32| (i >> 9) as u8).collect();
    let mut disk = below.clone();
    disk[70_000..90_000].fill(0x5a);
    save(
        &write(&below, &spec("dynamic", below.size())),
        &folder.path().join("base.vhdx"),
    );
    let identity = open_path(&folder.path().join("base.vhdx"))
        .top()
        .facts()
        .identity;
    let (image, _) = write_child(&below, &disk, &child_spec(disk.size(), identity));
    let path = folder.path().join("child.vhdx");
    save(&image, &path);
    // The parent moves, and gets another identity; both are recorded.
    let moved = folder
        .path()
        .join("gold/a much longer name than before.vhdx");
    fs::create_dir(moved.parent().unwrap()).unwrap();
    fs::rename(folder.path().join("base.vhdx"), &moved).unwrap();
    let ids = Ids::derived(&[77; 32], "moved", 0);
    let renamed = Edit {
        identity: Some(ids),
        ..Edit::default()
    };
    patch::apply(&plan(&moved, &renamed).unwrap().patches).unwrap();
    let spec = ParentSpec {
        identity: open_path(&moved).top().facts().identity,
        ..parent("gold/a much longer name than before.vhdx", PARENT)
    };
    patch::apply(&plan(&path, &rebased(spec)).unwrap().patches).unwrap();
    assert!(contents(&open_path(&path)).unwrap() == disk);
    let read = read_in_python(folder.path(), DISSECT, &["child.vhdx"]);
    assert!(read == disk);
    let script = "
import pyvhdi, sys
disk = pyvhdi.file()
disk.open(sys.argv[1])
print(disk.get_parent_identifier())
";
    let theirs = run(Command::new(python())
        .args(["-c", script, "child.vhdx"])
        .current_dir(folder.path()));
    let theirs = String::from_utf8(theirs).unwrap();
    let ours = open_path(&moved).top().facts().identity.unwrap();
    assert!(ours.to_string().ends_with(theirs.trim()), "{theirs} {ours}");
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhdx");
    let kind = |image: &[u8], edit: &Edit| {
        fs::write(&path, image).unwrap();
        let kind = plan(&path, edit).err().map(|e| e.kind());
        assert!(fs::read(&path).unwrap() == image);
        kind
    };
    let good = rebased(parent("b.vhdx", NEW));
    let image = child(0).file.to_vec();
    assert_eq!(kind(&image, &good), None);
    // Settings that a VHDX has not.
    for edit in [
        Edit {
            adapter: Some("ide".into()),
            ..Edit::default()
        },
        Edit {
            hardware_version: Some(9),
            ..Edit::default()
        },
        Edit {
            parent_hint: Some("b".into()),
            ..Edit::default()
        },
        Edit {
            uuid: Some(NewId::Random),
            ..Edit::default()
        },
    ] {
        assert_eq!(kind(&image, &edit), Some(ErrorKind::Unsupported));
    }
    // Parents that it cannot name.
    let raw = ParentSpec {
        identity: None,
        ..parent("b.raw", NEW)
    };
    let vhd = ParentSpec {
        identity: Some(Identity::Uuid(NEW)),
        ..parent("b.vhd", NEW)
    };
    for spec in [raw, vhd, parent(&"x".repeat(40_000), NEW)] {
        assert_eq!(kind(&image, &rebased(spec)), Some(ErrorKind::Usage));
    }
    // No room left in the region.
    let full = child((1 << 20) - (64 << 10) - 1000).file.to_vec();
    assert_eq!(
        kind(&full, &rebased(parent(&"x".repeat(5000), NEW))),
        Some(ErrorKind::Usage)
    );
    // No child.
    let base = Shape::new(512, MIB, 5000, vec![(0, Block::Whole)]).build();
    assert_eq!(kind(&base.file.to_vec(), &good), Some(ErrorKind::Usage));
    // Images that are not whole: a log, a damaged header, damaged and differing region tables.
    let ids = Edit {
        identity: Some(Ids::random(0)),
        ..Edit::default()
    };
    let mut dirty = sample();
    dirty.header(1, 9, *b"entries of a log");
    assert_eq!(
        kind(&dirty.file.to_vec(), &ids),
        Some(ErrorKind::Unsupported)
    );
    for at in [64 << 10, 192 << 10, 256 << 10] {
        let mut damaged = base.clone();
        damaged.file.put(at + 100, &[1]);
        assert_eq!(kind(&damaged.file.to_vec(), &ids), Some(ErrorKind::Corrupt));
    }
    let mut differ = base;
    differ.in_sealed(256 << 10, 65536, 16 + 24, &(2 * MIB as u32).to_le_bytes());
    assert_eq!(kind(&differ.file.to_vec(), &ids), Some(ErrorKind::Corrupt));
}
