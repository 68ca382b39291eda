//! Replacing a descriptor as a whole: what it keeps, and whom it does not disturb.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};
use vdisk_core::{
    Deny, ErrorKind, OpenOptions,
    edit::{self, Edit},
    patch::{self, Change},
};

const TEXT: &str = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n\
    createType=\"monolithicFlat\"\nRW 2 FLAT \"x-flat.vmdk\" 0\nddb.virtualHWVersion = \"4\"\n";

fn edit(version: u32) -> Edit {
    Edit {
        hardware_version: Some(version),
        ..Edit::default()
    }
}

#[test]
fn a_text_is_replaced_in_one_step_where_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let (real, link) = (temp.path().join("real.vmdk"), temp.path().join("link.vmdk"));
    fs::write(&real, TEXT).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.vmdk", &link).unwrap();
    let inode = fs::metadata(&real).unwrap().ino();

    let (format, plan) = edit::plan(&link, &OpenOptions::new(&Deny), &edit(11)).unwrap();
    assert_eq!(format, "vmdk");
    assert!(matches!(plan.patches[0].change, Change::Replace(_)));
    assert_eq!(fs::read_to_string(&real).unwrap(), TEXT, "a plan wrote");
    let backups = patch::apply(&plan.patches).unwrap();

    assert!(link.is_symlink());
    let metadata = fs::metadata(&real).unwrap();
    assert_ne!(metadata.ino(), inode, "it was overwritten, not replaced");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    let expected = TEXT.replace("\"4\"", "\"11\"");
    assert_eq!(fs::read_to_string(&real).unwrap(), expected);
    patch::undo(&backups[0]).unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), TEXT);
}

#[test]
fn a_descriptor_that_is_in_use_or_has_changed_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("x.vmdk");
    fs::write(&path, TEXT).unwrap();
    let (_, plan) = edit::plan(&path, &OpenOptions::new(&Deny), &edit(11)).unwrap();

    let other = File::open(&path).unwrap();
    other.lock().unwrap();
    let error = patch::apply(&plan.patches).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    drop(other);

    let longer = format!("{TEXT}# more\n");
    fs::write(&path, &longer).unwrap();
    let error = patch::apply(&plan.patches).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), longer);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn names_are_written_in_the_encoding_of_the_descriptor() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("x.vmdk");
    let header = "version=1\nencoding=\"windows-1252\"\nCID=1\nparentCID=2";
    let text = TEXT.replace("version=1\nCID=1\nparentCID=ffffffff", header);
    fs::write(&path, text).unwrap();
    let plan = |hint: &str| {
        let edit = Edit {
            parent_hint: Some(hint.to_owned()),
            ..Edit::default()
        };
        edit::plan(&path, &OpenOptions::new(&Deny), &edit)
    };
    let (_, good) = plan("gr\u{fc}n.vmdk").unwrap();
    let Change::Replace(bytes) = &good.patches[0].change else {
        panic!("{:?}", good.patches);
    };
    let line = b"\nparentFileNameHint=\"gr\xfcn.vmdk\"\n";
    assert!(bytes.windows(line.len()).any(|w| w == line));
    let error = plan("\u{7eff}.vmdk").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("windows-1252"), "{error}");
}
