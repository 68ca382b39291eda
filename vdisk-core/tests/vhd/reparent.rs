//! Another parent, and another identity: what the header says afterwards, who finds the parent by
//! it, and that all comes back.

use crate::{
    SECTOR,
    builder::{UUID, put, seal},
    check::look,
    child_spec,
    peers::{disk, run, there},
    spec, write, write_child,
};
use std::{env, ffi::OsString, fs, path::Path, process::Command};
use vdisk_core::{
    Deny, Disk, ErrorKind, FileResolver, Identity, Ids, OpenOptions,
    edit::{self, Edit, Plan},
    format::ParentSpec,
    patch,
    testing::contents,
};

const NEW_UUID: [u8; 16] = *b"the new identity";
/// 2020-09-13, in seconds since 1970 and since 2000.
const MODIFIED: (u64, u32) = (1_600_000_000, 653_315_200);

fn parent(name: &str, uuid: Option<[u8; 16]>) -> ParentSpec {
    ParentSpec {
        relative: name.into(),
        absolute: None,
        identity: uuid.map(Identity::Uuid),
        modified: MODIFIED.0,
    }
}

fn plan(path: &Path, edit: &Edit) -> vdisk_core::Result<Plan> {
    edit::plan(path, &OpenOptions::new(&Deny), edit).map(|(_, plan)| plan)
}

fn reparented(parent: ParentSpec) -> Edit {
    Edit {
        parent: Some(parent),
        ..Edit::default()
    }
}

/// A child of `base.vhd` in `folder`, with the locators that `more` adds; what the chain reads as.
fn child(folder: &Path, more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let old = disk(8192);
    let mut new = old.clone();
    new[700 * SECTOR..][..SECTOR * 9].fill(0x5a);
    new[4097 * SECTOR..][..SECTOR].fill(0);
    let base = spec("dynamic", old.size());
    fs::write(folder.join("base.vhd"), write(&old, &base)).unwrap();
    let mut child = child_spec(new.size(), Some(Identity::Uuid(base.ids.uuid)));
    child.ids = Ids::derived(&[9; 32], "child", 1_700_000_000);
    let (mut image, _) = write_child(&old, &new, &child);
    more(&mut image);
    seal(&mut image[512..1536], 36);
    fs::write(folder.join("child.vhd"), image).unwrap();
    new
}

/// The file with another unique ID in both footers, as a copy that Windows makes would have.
fn renamed(image: &[u8], uuid: [u8; 16]) -> Vec<u8> {
    let mut image = image.to_vec();
    for at in [0, image.len() - 512] {
        put(&mut image, at + 68, &uuid);
        seal(&mut image[at..at + 512], 64);
    }
    image
}

/// The locators of a header at 512: code, space, name from UTF-16LE.
fn locators(image: &[u8]) -> Vec<(String, u32, String)> {
    let number = |at: usize| u32::from_be_bytes(image[at..][..4].try_into().unwrap());
    (0..8)
        .map(|i| 512 + 576 + i * 24)
        .filter(|at| number(*at) != 0)
        .map(|at| {
            let place = u64::from_be_bytes(image[at + 16..][..8].try_into().unwrap()) as usize;
            let data = &image[place..][..number(at + 8) as usize];
            let units: Vec<u16> = data
                .as_chunks()
                .0
                .iter()
                .map(|u| u16::from_le_bytes(*u))
                .collect();
            let code = String::from_utf8_lossy(&image[at..at + 4]).into_owned();
            (code, number(at + 4), String::from_utf16(&units).unwrap())
        })
        .collect()
}

fn utf16be(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn a_new_parent_is_found_and_the_old_one_comes_back() {
    // Into the room that is there, and, with a name too long for it, at the end of the file.
    let long = format!("{}/new.vhd", vec!["d".repeat(120); 4].join("/"));
    for name in ["new.vhd", "sub/new.vhd", &long] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let disk = child(folder, |_| ());
        let (path, base) = (folder.join("child.vhd"), folder.join("base.vhd"));
        let target = folder.join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, renamed(&fs::read(&base).unwrap(), NEW_UUID)).unwrap();
        fs::remove_file(&base).unwrap();
        let before = fs::read(&path).unwrap();

        let edit = reparented(parent(name, Some(NEW_UUID)));
        let made = plan(&path, &edit).unwrap();
        let settings: Vec<_> = made.changes.iter().map(|c| c.setting).collect();
        assert_eq!(settings, ["parent", "parent unique ID"]);
        assert_eq!(fs::read(&path).unwrap(), before, "a plan wrote");
        let backups = patch::apply(&made.patches).unwrap();

        let after = fs::read(&path).unwrap();
        assert_eq!(&after[552..568], NEW_UUID);
        assert_eq!(after[568..572], MODIFIED.1.to_be_bytes());
        let mut file_name = utf16be("new.vhd");
        file_name.resize(512, 0);
        assert_eq!(after[576..1088], file_name);
        let mut windows = name.replace('/', "\\");
        windows.insert_str(0, ".\\");
        let space = (windows.len() * 2).next_multiple_of(512) as u32;
        assert_eq!(locators(&after), [("W2ru".to_owned(), space, windows)]);
        assert_eq!(after.len() > before.len(), name == long);

        let (said, outcome) = look(&path);
        assert!(said.is_empty(), "{name}: {said:#?}");
        assert_eq!(outcome.layers, 2);
        let chain = vdisk_core::open(&path, &OpenOptions::new(&FileResolver::default())).unwrap();
        assert!(contents(&chain).unwrap() == disk, "{name}");
        // Once more changes nothing.
        assert!(plan(&path, &edit).unwrap().patches.is_empty());
        libvhdi_agrees(&path, &target, &disk);

        patch::undo(&backups[0]).unwrap();
        assert!(
            fs::read(&path).unwrap() == before,
            "{name} was not restored"
        );
    }
}

/// libvhdi takes the file for the parent, and reads `disk`.
fn libvhdi_agrees(child: &Path, parent: &Path, disk: &[u8]) {
    const SCRIPT: &str = "
import pyvhdi, sys
child, parent = pyvhdi.file(), pyvhdi.file()
child.open(sys.argv[1])
parent.open(sys.argv[2])
assert child.parent_identifier == parent.identifier, child.parent_identifier
assert child.parent_filename == 'new.vhd', child.parent_filename
child.set_parent(parent)
sys.stdout.buffer.write(child.read_buffer_at_offset(child.get_media_size(), 0))
";
    let python = env::var_os("VDISK_PEER_PYTHON").unwrap_or_else(|| OsString::from("python3"));
    if there(&python, &["-c", "import pyvhdi"]) {
        let read = run(Command::new(&python)
            .args(["-c", SCRIPT])
            .args([child, parent]));
        assert!(read == disk);
    }
}

#[test]
fn locators_that_nobody_keeps_up_are_taken_out() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("child.vhd");
    child(temp.path(), |image| {
        // One of XenServer in the room of the first, and an absolute one that lies in the table.
        let second = 512 + 576 + 24;
        let first: [u8; 24] = image[second - 24..second].try_into().unwrap();
        put(image, second, &first);
        put(image, second, b"MacX");
        put(image, second + 24, &first);
        put(image, second + 24, b"W2ku");
        put(image, second + 24 + 16, &2048u64.to_be_bytes());
        // Windows reserves bytes, the specification says sectors.
        put(image, second - 24 + 4, &1u32.to_be_bytes());
    });
    let before = fs::read(&path).unwrap();
    let table = u64::from_be_bytes(before[528..536].try_into().unwrap()) as usize;
    assert_eq!(table, 2048);
    let spec = ParentSpec {
        absolute: Some("/gold/new.vhd".into()),
        ..parent("new.vhd", None)
    };
    patch::apply(&plan(&path, &reparented(spec)).unwrap().patches).unwrap();
    let after = fs::read(&path).unwrap();
    assert_eq!(after[2048..2560], before[2048..2560], "the table changed");
    assert_eq!(after[552..568], [0; 16], "a raw parent has no unique ID");
    assert_eq!(
        locators(&after),
        [
            ("W2ru".to_owned(), 512, ".\\new.vhd".to_owned()),
            ("W2ku".to_owned(), 512, "\\gold\\new.vhd".to_owned()),
        ]
    );
    assert_eq!(after.len(), before.len() + 512);
    assert_eq!(after[..512], after[after.len() - 512..]);
}

#[test]
fn identity_and_parent_change_together() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("child.vhd");
    child(temp.path(), |_| ());
    let before = fs::read(&path).unwrap();
    let ids = Ids {
        uuid: NEW_UUID,
        cid: 1,
        created: 0,
    };
    let edit = Edit {
        identity: Some(ids),
        ..reparented(parent(&format!("{}.vhd", "n".repeat(251)), Some(UUID)))
    };
    patch::apply(&plan(&path, &edit).unwrap().patches).unwrap();
    let after = fs::read(&path).unwrap();
    assert!(after.len() > before.len(), "the name fitted");
    let mut expected = before[..512].to_vec();
    put(&mut expected, 68, &NEW_UUID);
    seal(&mut expected, 64);
    assert_eq!(after[..512], expected);
    assert_eq!(after[after.len() - 512..], expected);
    let layer = vdisk_core::open_layer(&path, &OpenOptions::new(&Deny)).unwrap();
    assert_eq!(layer.facts().identity, Some(Identity::Uuid(NEW_UUID)));
    let recorded = layer.facts().parent.as_ref().unwrap().identity;
    assert_eq!(recorded, Some(Identity::Uuid(UUID)));
}

#[test]
fn what_has_no_parent_or_is_not_sound_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    child(temp.path(), |_| ());
    let (base, child) = (temp.path().join("base.vhd"), temp.path().join("child.vhd"));
    let edit = reparented(parent("new.vhd", Some(NEW_UUID)));
    assert_eq!(plan(&base, &edit).unwrap_err().kind(), ErrorKind::Usage);
    let cid = ParentSpec {
        identity: Some(Identity::Cid(7)),
        ..parent("new.vmdk", None)
    };
    let error = plan(&child, &reparented(cid)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    let mut image = fs::read(&child).unwrap();
    image[512 + 36] ^= 1;
    fs::write(&child, image).unwrap();
    let error = plan(&child, &edit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}
