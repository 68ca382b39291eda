//! Replacing a descriptor as a whole: what it keeps, and whom it does not disturb.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};
use vdisk_core::{
    Deny, Disk, ErrorKind, FileResolver, Identity, Ids, OpenOptions,
    edit::{self, Edit},
    format::{self, ParentSpec, Spec},
    patch::{self, Change},
    target::{Output, OutputOptions},
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

const VDISK: [u8; 16] = *b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f";

fn ids(cid: u32) -> Ids {
    Ids {
        uuid: VDISK,
        cid,
        created: 0,
    }
}

fn parent(identity: Option<Identity>) -> Edit {
    Edit {
        parent: Some(ParentSpec {
            relative: "../new base.vmdk".into(),
            absolute: None,
            identity,
            modified: 0,
        }),
        ..Edit::default()
    }
}

/// What the text becomes, or why it does not.
fn changed(text: &str, edit: &Edit) -> vdisk_core::Result<String> {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("x.vmdk");
    fs::write(&path, text).unwrap();
    let (_, plan) = edit::plan(&path, &OpenOptions::new(&Deny), edit)?;
    assert_eq!(plan.patches.is_empty(), plan.changes.is_empty());
    patch::apply(&plan.patches)?;
    Ok(fs::read_to_string(&path).unwrap())
}

#[test]
fn an_identity_is_written_as_products_write_it() {
    let edit = Edit {
        identity: Some(ids(0xab)),
        ..Edit::default()
    };
    // qemu takes no CID in quotes, and keys that are not there are not added.
    let expected = TEXT.replace("CID=1\n", "CID=000000ab\n");
    assert_eq!(changed(TEXT, &edit).unwrap(), expected);
    assert_eq!(changed(&expected, &edit).unwrap(), expected);
    let more = "ddb.longContentID = \"00000000000000000000000000000001\"\n\
        ddb.uuid.image=\"93dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6\"\n\
        ddb.uuid.modification=\"93dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6\"\n";
    let after = "ddb.longContentID = \"606162636465666768696a6b000000ab\"\n\
        ddb.uuid.image=\"93dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6\"\n\
        ddb.uuid.modification=\"60616263-6465-6667-6869-6a6b6c6d6e6f\"\n";
    let found = changed(&format!("{TEXT}{more}"), &edit).unwrap();
    assert_eq!(found, format!("{expected}{after}"));
}

#[test]
fn a_child_gets_another_parent() {
    let child = TEXT.replace("parentCID=ffffffff", "parentCID=2");
    let by_cid = parent(Some(Identity::Cid(0xab)));
    let expected = TEXT.replace(
        "parentCID=ffffffff\ncreateType=\"monolithicFlat\"\n",
        "parentCID=000000ab\ncreateType=\"monolithicFlat\"\n\
         parentFileNameHint=\"../new base.vmdk\"\n",
    );
    assert_eq!(changed(&child, &by_cid).unwrap(), expected);
    assert_eq!(changed(&expected, &by_cid).unwrap(), expected);

    // VirtualBox goes by UUIDs.
    let line = "ddb.uuid.parent=\"93dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6\"\n";
    let child_of_virtualbox = format!("{TEXT}{line}");
    let by_uuid = parent(Some(Identity::Uuid(VDISK)));
    let found = changed(&child_of_virtualbox, &by_uuid).unwrap();
    assert!(found.ends_with("ddb.uuid.parent=\"60616263-6465-6667-6869-6a6b6c6d6e6f\"\n"));
    assert!(found.contains("\nparentFileNameHint=\"../new base.vmdk\"\n"));
    assert!(found.contains("\nparentCID=ffffffff\n"));

    for (text, edit) in [
        (TEXT, &by_cid),    // no child
        (&child, &by_uuid), // goes by the CID
        (&child_of_virtualbox, &by_cid),
        (&child, &parent(Some(Identity::Cid(u32::MAX)))), // "no parent"
        (&child, &parent(None)),
    ] {
        let error = changed(text, edit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
}

#[test]
fn a_rebased_child_shows_its_new_parent() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let vmdk = format::named("vmdk").unwrap();
    let create = |name: &str, byte: Option<u8>, ids, parent| {
        let spec = Spec {
            size: 128 << 10,
            subformat: format::subformat(vmdk, None).unwrap(),
            name,
            ids,
            level: 6,
            parent,
            options: format::Options::default(),
        };
        let mut target = Output::create(&at(name), OutputOptions::default()).unwrap();
        let mut writer = vmdk.create(&mut target, &spec).unwrap();
        if let Some(byte) = byte {
            writer.data(0..128 << 10, &vec![byte; 128 << 10]).unwrap();
        }
        writer.finish().unwrap();
        target.publish().unwrap();
    };
    let spec = |name: &str, cid| ParentSpec {
        relative: name.into(),
        absolute: None,
        identity: Some(Identity::Cid(cid)),
        modified: 0,
    };
    create("a.vmdk", Some(1), ids(1), None);
    create("b.vmdk", Some(2), ids(2), None);
    create("child.vmdk", None, ids(3), Some(spec("a.vmdk", 1)));
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    let first = || {
        let chain = vdisk_core::open(&at("child.vmdk"), &options)?;
        let mut byte = [0];
        chain.read_at(70_000, &mut byte)?;
        Ok::<u8, vdisk_core::Error>(byte[0])
    };
    assert_eq!(first().unwrap(), 1);
    let edit = Edit {
        parent: Some(spec("b.vmdk", 2)),
        ..Edit::default()
    };
    let (_, plan) = edit::plan(&at("child.vmdk"), &options, &edit).unwrap();
    patch::apply(&plan.patches).unwrap();
    assert_eq!(first().unwrap(), 2);
    // A parent whose contents have changed is no longer the child's.
    let edit = Edit {
        identity: Some(ids(4)),
        ..Edit::default()
    };
    let (_, plan) = edit::plan(&at("b.vmdk"), &options, &edit).unwrap();
    patch::apply(&plan.patches).unwrap();
    let error = first().unwrap_err();
    assert!(error.to_string().contains("CID 00000004"), "{error}");
}
