//! Where the files of a change lie: in which folders, and which a journal may name.

use super::*;

/// All files beneath `folder`, by their paths.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            found.extend(tree(&path));
        } else if kind.is_file() {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// A journal without records, made from nothing: it says that `members` had these lengths.
fn crafted(redo: &str, members: &[(&str, u64)]) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut text = |bytes: &[u8]| {
        rest.extend((bytes.len() as u64).to_le_bytes());
        rest.extend(bytes);
    };
    text(redo.as_bytes());
    for (path, size) in members {
        text(path.as_bytes());
        text(&size.to_le_bytes());
    }
    let mut journal = b"vdisk journal 1\n".to_vec();
    journal.extend((rest.len() as u64).to_le_bytes());
    journal.extend(crc32c::crc32c(&rest).to_le_bytes());
    // None of the records is known to be there.
    journal.extend([0; 8]);
    journal.extend(crc32c::crc32c(&[0; 8]).to_le_bytes());
    journal.extend(rest);
    journal
}

#[test]
fn a_journal_from_elsewhere_changes_nothing_outside_its_folder() {
    let temp = tempfile::tempdir().unwrap();
    let top = temp.path();
    let own = top.join("own");
    fs::create_dir_all(own.join("beneath")).unwrap();
    fs::create_dir(top.join("own too")).unwrap();
    let (image, journal) = (own.join("a.raw"), own.join("a.raw.vdisk-journal"));
    let secret = top.join("own too/secret");
    fs::write(&image, [1; 700]).unwrap();
    fs::write(own.join("beneath/b.raw"), [2; 700]).unwrap();
    fs::write(&secret, [3; 700]).unwrap();
    std::os::unix::fs::symlink(&secret, own.join("link.raw")).unwrap();
    std::os::unix::fs::symlink("../own too", own.join("folder")).unwrap();
    let absolute = secret.to_str().unwrap();
    let names = [
        absolute,
        "../own too/secret",
        "beneath/../../own too/secret",
        "link.raw",
        "folder/secret",
        "fifo",
        "beneath",
    ];
    for name in names {
        if name == "fifo" {
            let made = Command::new("mkfifo").arg(own.join(name)).status();
            assert!(made.unwrap().success());
        }
        for members in [&[("a.raw", 0), (name, 0)][..], &[(name, 0), ("a.raw", 0)]] {
            fs::write(&journal, crafted("", members)).unwrap();
            for path in [&image, &journal] {
                let error = transaction::undo(path, &[], &Files).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Policy, "{name}: {error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        let _ = fs::remove_file(own.join("fifo"));
        assert_eq!(fs::read(&secret).unwrap(), [3; 700], "{name}");
        assert_eq!(fs::read(&image).unwrap(), [1; 700], "{name}");
        assert!(journal.exists());
    }
    // A journal that lies beside an image of which it is not.
    fs::write(&journal, crafted("", &[("beneath/b.raw", 0)])).unwrap();
    for path in [&image, &journal] {
        let error = transaction::undo(path, &[], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "{error}");
    }
    let before = tree(top);
    assert!(
        before
            .iter()
            .all(|(path, bytes)| path == &journal || bytes.len() == 700)
    );

    // What is allowed is done: the folder, or the file.
    for allowed in [top.join("own too"), secret.clone()] {
        fs::write(&journal, crafted("", &[("a.raw", 900), (absolute, 800)])).unwrap();
        // Longer than they are, and nothing was cut: not as the change left them.
        let error = transaction::undo(&image, slice::from_ref(&allowed), &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        fs::write(&journal, crafted("", &[("a.raw", 700), (absolute, 700)])).unwrap();
        transaction::undo(&image, &[allowed], &Files).unwrap();
        assert!(!journal.exists());
    }
}

#[test]
fn files_in_several_folders_are_named_by_the_way_to_them() {
    for how in ["moved", "copied"] {
        let temp = tempfile::tempdir().unwrap();
        let (old, new) = (temp.path().join("old"), temp.path().join("new"));
        for name in ["gold", "vm"] {
            fs::create_dir_all(old.join(name)).unwrap();
        }
        let names = ["gold/base.raw", "vm/child.raw"];
        for good in 0.. {
            for (number, name) in names.iter().enumerate() {
                fs::write(old.join(name), vec![number as u8; 100_000]).unwrap();
            }
            let _ = fs::remove_file(old.join("gold/base.raw.vdisk-journal"));
            let files = names.map(|n| ImageFile::open(&old.join(n), Access::Positioned).unwrap());
            let work = Work {
                files: &[&files[0], &files[1]],
                redo: "",
                medium: &Faulty::new(Fault::Killed, good),
            };
            let done = transaction::run(&work, |t| {
                t.write(&files[0], 0, &[7; 50_000])?;
                t.write(&files[1], 0, &[8; 50_000])
            });
            assert!(done.is_err(), "never changed both");
            if fs::read(old.join(names[1])).unwrap()[0] == 8 {
                break;
            }
        }
        let left = tree(&old);
        if how == "moved" {
            fs::rename(&old, &new).unwrap();
        } else {
            for (path, bytes) in &left {
                let to = new.join(path.strip_prefix(&old).unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, bytes).unwrap();
            }
        }
        let image = new.join(names[0]);
        let before = tree(&new);
        let error = transaction::undo(&image, &[], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "{error}");
        assert!(tree(&new) == before);
        transaction::undo(&image, &[new.join("vm")], &Files).unwrap();
        for (number, name) in names.iter().enumerate() {
            assert_eq!(
                fs::read(new.join(name)).unwrap(),
                vec![number as u8; 100_000]
            );
        }
        if how == "copied" {
            assert!(
                tree(&old) == left,
                "the folder that was copied is not touched"
            );
        }
    }
}

#[test]
fn a_journal_that_plans_the_change_of_another_image_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let [a, b] = ["a.raw", "b.raw"].map(|name| folder.join(name));
    let resolver = FileResolver::default();
    let options = OpenOptions {
        format: Some(format::named("raw").unwrap()),
        ..OpenOptions::new(&resolver)
    };
    let wish = resize::Wish {
        size: 512,
        fix_gpt: false,
        force: true,
        now: 0,
    };
    let fill = || {
        fs::write(&a, [1; 4096]).unwrap();
        fs::write(&b, [2; 4096]).unwrap();
    };
    fill();
    let plan = |path: &Path| resize::plan(path, &wish, &options, &Job::default()).unwrap();
    let (own, other) = (plan(&a), plan(&b));
    let mixed = resize::Plan {
        image: b.clone(),
        ..own.clone()
    };
    let mut outdated = own.clone();
    outdated.files[0].size = 4095;
    let mut gone = own.clone();
    gone.files.push(Stamp {
        path: folder.join("parent.raw"),
        ..own.files[0].clone()
    });
    for (plan, expected) in [
        (&other, Err(ErrorKind::Corrupt)),
        (&mixed, Err(ErrorKind::Corrupt)),
        (&outdated, Err(ErrorKind::Conflict)),
        (&gone, Err(ErrorKind::Conflict)),
        (&own, Ok(())),
    ] {
        fill();
        let redo = Redo::Resize(plan.clone()).text().unwrap();
        let journal = folder.join("a.raw.vdisk-journal");
        fs::write(&journal, crafted(&redo, &[("a.raw", 4096)])).unwrap();
        let done = redo::resume(&a, &[], &options, &Files, &Job::default());
        assert_eq!(done.map(drop).map_err(|e| e.kind()), expected);
        assert_eq!(fs::read(&b).unwrap(), [2; 4096]);
        let left = if expected.is_ok() { 512 } else { 4096 };
        assert_eq!(fs::read(&a).unwrap(), vec![1; left]);
        assert_eq!(journal.exists(), expected.is_err());
    }
}
