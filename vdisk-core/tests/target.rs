//! Output of several files: all or nothing, and never a descriptor over extents of two images.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};
use vdisk_core::{
    Error, ErrorKind,
    storage::FileId,
    target::{Output, OutputOptions, Target},
};

const EXTENTS: [&str; 2] = ["disk-f001.vmdk", "disk-f002.vmdk"];

fn options(force: bool) -> OutputOptions {
    OutputOptions {
        force,
        ..OutputOptions::default()
    }
}

/// Starts `disk.vmdk` and two extents in `folder`, each holding `text` and its number.
fn start(folder: &Path, options: OutputOptions, text: &str) -> Result<Output, Error> {
    let mut output = Output::create(&folder.join("disk.vmdk"), options)?;
    for (number, name) in EXTENTS.iter().enumerate() {
        let mut extent = output.beside(name)?;
        extent.write_at(0, format!("{text}{number}").as_bytes())?;
    }
    output.write_at(0, text.as_bytes())?;
    Ok(output)
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_default()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn nothing_has_its_name_until_everything_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let output = start(folder, options(false), "new").unwrap();
    assert!(names(folder).iter().all(|n| n.starts_with(".vdisk-")));
    assert_eq!(names(folder).len(), 3);
    drop(output);
    assert_eq!(names(folder), [""; 0]);

    start(folder, options(false), "new")
        .unwrap()
        .publish()
        .unwrap();
    assert_eq!(names(folder), [EXTENTS[0], EXTENTS[1], "disk.vmdk"]);
    assert_eq!(read(folder, EXTENTS[1]), "new1");
}

#[test]
fn each_name_is_checked_before_work_starts() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let refused = |options: OutputOptions| {
        let error = start(folder, options, "new").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        error.to_string()
    };
    fs::write(folder.join(EXTENTS[1]), "kept").unwrap();
    assert!(refused(options(false)).contains("disk-f002.vmdk: output: exists already"));
    let input = FileId::of(&fs::metadata(folder.join(EXTENTS[1])).unwrap());
    let inputs = OutputOptions {
        inputs: vec![input],
        ..options(true)
    };
    assert!(refused(inputs).contains("is also an input"));
    assert_eq!(names(folder), [EXTENTS[1]]);
    assert_eq!(read(folder, EXTENTS[1]), "kept");

    let mut output = Output::create(&folder.join("other.vmdk"), options(true)).unwrap();
    for name in ["../x", "a/b", "/etc/x", "..", "", "other.vmdk", "twice"] {
        let result = output.beside(name);
        assert_eq!(result.is_ok(), name == "twice", "{name}");
    }
    assert!(output.beside("twice").is_err());
    assert!(output.beside(&"n".repeat(300)).is_err());
    drop(output);

    // Who opens the link looks for extents beside it, and they would lie elsewhere.
    fs::create_dir(folder.join("elsewhere")).unwrap();
    fs::write(folder.join("elsewhere/real.vmdk"), "kept").unwrap();
    symlink("elsewhere/real.vmdk", folder.join("link.vmdk")).unwrap();
    let mut output = Output::create(&folder.join("link.vmdk"), options(true)).unwrap();
    assert!(output.beside("link-flat.vmdk").is_err());
}

#[test]
fn a_set_is_replaced_as_a_whole() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let old = start(folder, options(false), "old").unwrap();
    old.publish().unwrap();
    let closed = fs::Permissions::from_mode(0o440);
    fs::set_permissions(folder.join(EXTENTS[0]), closed.clone()).unwrap();

    let new = start(folder, options(true), "new").unwrap();
    assert_eq!(read(folder, "disk.vmdk"), "old");
    assert_eq!(read(folder, EXTENTS[0]), "old0");
    new.publish().unwrap();
    assert_eq!(names(folder).len(), 3);
    assert_eq!(read(folder, "disk.vmdk"), "new");
    assert_eq!(read(folder, EXTENTS[0]), "new0");
    let mode = fs::metadata(folder.join(EXTENTS[0])).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o440);
}

#[test]
fn what_cannot_be_completed_is_taken_back() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    // Somebody else takes the name of the second extent while the first is there already.
    let output = start(folder, options(false), "new").unwrap();
    fs::write(folder.join(EXTENTS[1]), "other").unwrap();
    let error = output.publish().unwrap_err();
    assert!(error.to_string().ends_with("exists already"), "{error}");
    assert_eq!(names(folder), [EXTENTS[1]]);
    assert_eq!(read(folder, EXTENTS[1]), "other");
    fs::remove_file(folder.join(EXTENTS[1])).unwrap();

    // The same for the main file, which comes last.
    let output = start(folder, options(false), "new").unwrap();
    fs::write(folder.join("disk.vmdk"), "other").unwrap();
    output.publish().unwrap_err();
    assert_eq!(names(folder), ["disk.vmdk"]);
    fs::remove_file(folder.join("disk.vmdk")).unwrap();
}

#[test]
fn a_descriptor_never_names_extents_of_two_images() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let old = start(folder, options(false), "old").unwrap();
    old.publish().unwrap();
    let new = start(folder, options(true), "new").unwrap();
    // A folder cannot be replaced by a file, whatever --force says.
    fs::remove_file(folder.join(EXTENTS[1])).unwrap();
    fs::create_dir(folder.join(EXTENTS[1])).unwrap();
    let error = new.publish().unwrap_err().to_string();
    assert!(
        error.contains("the old image is lost: disk.vmdk, disk-f001.vmdk"),
        "{error}"
    );
    // The first extent is new: the old descriptor must not be there to name it.
    assert_eq!(read(folder, EXTENTS[0]), "new0");
    assert_eq!(names(folder), EXTENTS);
}

#[test]
fn names_that_lead_nowhere_are_refused_by_what_they_are() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    fs::write(folder.join("base.vmdk"), "base").unwrap();
    symlink("gone", folder.join("dangling")).unwrap();
    symlink("loop", folder.join("loop")).unwrap();
    for (name, why) in [
        ("dangling", "is a link that leads to no file"),
        ("loop", "is a link that cannot be followed"),
        ("base.vmdk/x", "base.vmdk', which is a file, not a folder"),
        ("base.vmdk/y/x", "base.vmdk', which is a file, not a folder"),
        ("gone/x", "is in a folder that does not exist"),
    ] {
        for force in [false, true] {
            let error = Output::create(&folder.join(name), options(force))
                .err()
                .unwrap();
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            assert!(error.to_string().ends_with(why), "{error}");
        }
    }
    assert_eq!(names(folder), ["base.vmdk", "dangling", "loop"]);
}

#[test]
fn what_others_have_or_a_journal_is_about_is_not_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let lay = || {
        for name in ["disk.vmdk", EXTENTS[0], EXTENTS[1]] {
            fs::write(folder.join(name), "old").unwrap();
        }
    };
    let refused = |name: &str, force: bool| {
        let error = start(folder, options(force), "new").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        let left: Vec<String> = names(folder);
        assert!(!left.iter().any(|n| n.starts_with(".vdisk-")), "{left:?}");
    };
    lay();
    for name in ["disk.vmdk", EXTENTS[1]] {
        let other = fs::File::open(folder.join(name)).unwrap();
        other.lock().unwrap();
        refused(name, true);
        // Taken into use while the new one is written.
        other.unlock().unwrap();
        let output = start(folder, options(true), "new").unwrap();
        other.lock().unwrap();
        let error = output.publish().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        for name in ["disk.vmdk", EXTENTS[0], EXTENTS[1]] {
            assert_eq!(read(folder, name), "old");
        }
    }
    // A lock of VMware's.
    fs::write(folder.join("disk.vmdk.lck"), "").unwrap();
    refused("disk.vmdk.lck", true);
    fs::remove_file(folder.join("disk.vmdk.lck")).unwrap();

    // The journal counts more than the file, which may be gone, and links are followed.
    let journal = folder.join("disk.vmdk.vdisk-journal");
    fs::write(&journal, "").unwrap();
    refused("disk.vmdk.vdisk-journal", true);
    fs::remove_file(folder.join("disk.vmdk")).unwrap();
    for force in [false, true] {
        refused("disk.vmdk.vdisk-journal", force);
    }
    fs::remove_file(journal).unwrap();
    fs::write(folder.join("real.vmdk"), "old").unwrap();
    symlink("real.vmdk", folder.join("disk.vmdk")).unwrap();
    fs::write(folder.join("real.vmdk.vdisk-journal"), "").unwrap();
    refused("real.vmdk.vdisk-journal", true);
    fs::remove_file(folder.join("real.vmdk.vdisk-journal")).unwrap();
    fs::remove_file(folder.join("disk.vmdk")).unwrap();

    // What cannot be opened for writing is replaced.
    lay();
    let main = folder.join("disk.vmdk");
    fs::set_permissions(&main, fs::Permissions::from_mode(0o444)).unwrap();
    start(folder, options(true), "new")
        .unwrap()
        .publish()
        .unwrap();
    assert_eq!(read(folder, "disk.vmdk"), "new");
}
