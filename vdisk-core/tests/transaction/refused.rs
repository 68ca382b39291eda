//! Files that are not changed at all: in use, changed since, with several names.

use super::*;

#[test]
fn a_file_in_use_is_refused_by_name() {
    let case = Case::new();
    let in_use = |what: &str| {
        let error = case.change(&[Step::Write(0, 0, 9, 9)], &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{what}");
        assert!(error.to_string().contains("1.raw"), "{what}: {error}");
        assert!(case.now() == case.old && !case.journal().exists());
    };
    let other = fs::File::open(case.path(1)).unwrap();
    other.lock().unwrap();
    in_use("locked by another program");
    drop(other);
    let lock = case.folder.path().join("1.raw.lck");
    fs::create_dir(&lock).unwrap();
    assert!(
        case.change(&[], &Files).is_ok(),
        "an empty folder is no lock"
    );
    fs::write(lock.join("M12345.lck"), b"VMware").unwrap();
    in_use("VMware's folder");
    fs::remove_dir_all(&lock).unwrap();
    fs::write(&lock, b"").unwrap();
    in_use("VMware's lock file");
}

#[test]
fn a_file_that_changed_since_it_was_opened_is_refused() {
    let case = Case::new();
    let file = ImageFile::open(&case.path(0), Access::Positioned).unwrap();
    let change = |path: &Path| {
        let work = Work {
            files: &[&file],
            redo: "",
            medium: &Files,
        };
        let error = transaction::run(&work, |t| t.write(&file, 0, b"x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(!path.with_file_name("0.raw.vdisk-journal").exists());
    };
    fs::write(case.path(0), b"shorter").unwrap();
    change(&case.path(0));
    fs::rename(case.path(1), case.path(0)).unwrap();
    change(&case.path(0));
}

#[test]
fn a_file_with_several_names_is_refused() {
    let case = Case::new();
    fs::hard_link(case.path(0), case.folder.path().join("twin.raw")).unwrap();
    let error = case.change(&[Step::Write(0, 0, 9, 9)], &Files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("2 names"), "{error}");
    assert!(case.now() == case.old && !case.journal().exists());
}
