//! What is left of a change that was killed can be moved, copied or come from somebody else.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;

use run::{Folder, noise};
use std::{fs, path::Path};
use vdisk_core::{
    FileResolver, Job, OpenOptions,
    ops::{commit, resize},
    testing::{Fault, Faulty},
};

const KIB: usize = 1 << 10;

/// A base in `gold` and a child of it in `vm`, both folders; where they are the same, one name.
fn chain(gold: &str, vm: &str) -> Folder {
    let folder = Folder::new();
    for name in [gold, vm] {
        fs::create_dir_all(folder.path(name)).unwrap();
    }
    let mut disk = noise(1, 1024 * KIB);
    folder.write("old.raw", &disk);
    folder
        .run(&format!("convert old.raw -o {gold}/a.vmdk"))
        .code(0);
    disk[100 * KIB..700 * KIB].copy_from_slice(&noise(2, 600 * KIB));
    folder.write("new.raw", &disk);
    folder
        .run(&format!(
            "diff {gold}/a.vmdk new.raw -o {vm}/c.vmdk --allow-path {gold}"
        ))
        .code(0);
    folder
}

/// Does `change` again and again, killed a little later each time, until the file `image` is changed
/// and the journal still there.
fn kill(image: &Path, change: impl Fn(&Faulty) -> bool) {
    let journal = image.with_file_name("a.vmdk.vdisk-journal");
    let before = fs::read(image).unwrap();
    for good in 0.. {
        assert!(!change(&Faulty::new(Fault::Killed, good)), "never killed");
        let now = fs::read(image).unwrap();
        if journal.exists() && now != before {
            return;
        }
        let _ = fs::remove_file(&journal);
        fs::write(image, &before).unwrap();
    }
}

/// A commit that was killed in the middle.
fn killed(gold: &str, vm: &str) -> Folder {
    let folder = chain(gold, vm);
    let resolver = FileResolver {
        allowed: vec![folder.path(gold)],
        ..FileResolver::default()
    };
    let options = OpenOptions::new(&resolver);
    let child = folder.path(&format!("{vm}/c.vmdk"));
    kill(&folder.path(&format!("{gold}/a.vmdk")), |medium| {
        let plan = commit::plan(&child, &commit::Wish::default(), &options).unwrap();
        plan.apply(&options, medium, &Job::default()).is_ok()
    });
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn files(folder: &Folder, within: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = fs::read_dir(folder.path(within))
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| {
            let name = e.file_name().into_string().unwrap();
            (name, fs::read(e.path()).unwrap())
        })
        .filter(|(name, _)| !name.ends_with(".partial"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_copy_is_finished_where_it_lies() {
    let folder = killed("vm", "vm");
    copy(&folder.path("vm"), &folder.path("restored"));
    let left = files(&folder, "vm");
    folder.run("commit --resume restored/a.vmdk").code(0);
    assert!(files(&folder, "vm") == left, "the files of another folder");
    let (old, new) = (folder.read("old.raw"), folder.read("new.raw"));
    assert!(folder.contents("restored/a.vmdk") == new);
    assert!(folder.contents("restored/c.vmdk") == new);
    folder.run("commit --undo vm/a.vmdk").code(0);
    assert!(folder.contents("vm/a.vmdk") == old);
    assert!(folder.contents("vm/c.vmdk") == new);
    assert!(folder.contents("restored/a.vmdk") == new);
}

#[test]
fn a_folder_that_was_moved_is_finished_or_taken_back() {
    for (how, wanted) in [("--resume", "new.raw"), ("--undo", "old.raw")] {
        let folder = killed("vm", "vm");
        fs::rename(folder.path("vm"), folder.path("moved")).unwrap();
        folder.run(&format!("commit {how} moved/a.vmdk")).code(0);
        assert!(folder.contents("moved/a.vmdk") == folder.read(wanted));
        assert!(folder.contents("moved/c.vmdk") == folder.read("new.raw"));
    }
}

#[test]
fn a_child_in_another_folder_needs_to_be_allowed() {
    for (how, wanted) in [("--resume", "new.raw"), ("--undo", "old.raw")] {
        let folder = killed("gold", "vm");
        let (gold, vm) = (files(&folder, "gold"), files(&folder, "vm"));
        folder
            .run(&format!("commit {how} gold/a.vmdk"))
            .code(3)
            .says("c.vmdk")
            .says("--allow-path");
        assert!(files(&folder, "gold") == gold && files(&folder, "vm") == vm);
        folder
            .run(&format!("commit {how} gold/a.vmdk --allow-path vm"))
            .code(0);
        assert!(folder.contents("gold/a.vmdk") == folder.read(wanted));
        folder
            .run("convert vm/c.vmdk -o read.raw --allow-path gold")
            .code(0);
        assert!(folder.read("read.raw") == folder.read("new.raw"));
    }
}

#[test]
fn what_cannot_be_finished_stays_as_it_is() {
    let folder = chain("vm", "vm");
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    // A resize of a child, whose parent is not changed with it.
    for name in ["a.vmdk", "c.vmdk"] {
        fs::remove_file(folder.path("vm").join(name)).unwrap();
    }
    folder.run("convert old.raw -o vm/b.vmdk").code(0);
    folder.run("diff vm/b.vmdk new.raw -o vm/a.vmdk").code(0);
    let child = folder.path("vm/a.vmdk");
    kill(&child, |medium| {
        let wish = resize::Wish {
            size: 2048 * KIB as u64,
            fix_gpt: false,
            force: false,
            now: 0,
        };
        let plan = resize::plan(&child, &wish, &options, &Job::default()).unwrap();
        plan.apply(&options, medium, &Job::default()).is_ok()
    });
    fs::rename(folder.path("vm/b.vmdk"), folder.path("b.vmdk")).unwrap();
    let left = files(&folder, "vm");
    folder
        .run("resize --resume vm/a.vmdk")
        .code(3)
        .says("b.vmdk")
        .says("nothing was written")
        .says("--undo");
    assert!(files(&folder, "vm") == left);

    // A parent that is there, but another one: that is seen only once the change is taken back.
    let mut other = fs::read(folder.path("b.vmdk")).unwrap();
    let at = other.windows(4).position(|w| w == b"CID=").unwrap();
    other[at + 4..at + 12].copy_from_slice(b"12345678");
    folder.write("vm/b.vmdk", &other);
    folder
        .run("resize --resume vm/a.vmdk")
        .says("taken back, all is as it was before");
    assert!(!folder.path("vm/a.vmdk.vdisk-journal").exists());
    fs::rename(folder.path("b.vmdk"), folder.path("vm/b.vmdk")).unwrap();
    assert!(folder.contents("vm/a.vmdk") == folder.read("new.raw"));
}
