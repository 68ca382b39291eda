//! What is read again, and what is not.

use super::{
    MIB, actions, blocks, column, map, plain, rows,
    run::{Folder, noise},
};
use std::{
    fs,
    os::unix::fs::FileExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Writes one byte into the raw image, at another time than it was written before.
fn change(folder: &Folder, name: &str) {
    let file = fs::File::options()
        .write(true)
        .open(folder.path(name))
        .unwrap();
    file.write_all_at(b"changed", 5000).unwrap();
}

#[test]
fn only_what_changed_is_read_again() {
    let folder = Folder::new();
    for (seed, name) in (1..).zip(["a.raw", "b.raw", "base.raw"]) {
        folder.write(name, &noise(seed, MIB));
    }
    folder.run("convert base.raw -o base.vmdk").code(0);
    fs::remove_file(folder.path("base.raw")).unwrap();
    for clone in ["one.vmdk", "two.vmdk", "deep.vmdk"] {
        let from = if clone == "deep.vmdk" {
            "two.vmdk"
        } else {
            "base.vmdk"
        };
        folder.run(&format!("clone {from} -o {clone}")).code(0);
    }
    let run = || folder.run("fingerprint . -o prints --json").code(0).json();
    let all = [
        "a.raw",
        "b.raw",
        "base.vmdk",
        "deep.vmdk",
        "one.vmdk",
        "two.vmdk",
    ];
    assert_eq!(actions(&run()), map(all.map(|name| (name, "read"))));
    assert_eq!(actions(&run()), map(all.map(|name| (name, "unchanged"))));
    change(&folder, "a.raw");
    let report = run();
    let wanted = all.map(|n| (n, if n == "a.raw" { "read" } else { "unchanged" }));
    assert_eq!(actions(&report), map(wanted));
    assert_eq!(
        plain(&rows(&folder, &report, "a.raw")),
        blocks(&folder.read("a.raw"))
    );
    // What lies over a changed image reads as something else, or may.
    let text = folder.read("two.vmdk");
    folder.write("two.vmdk", &text);
    let wanted = all.map(|n| {
        let changed = ["two.vmdk", "deep.vmdk"].contains(&n);
        (n, if changed { "read" } else { "unchanged" })
    });
    assert_eq!(actions(&run()), map(wanted));
    let names = fs::read_dir(folder.path("prints")).unwrap().count();
    assert_eq!(names, all.len(), "no file is out of date");
}

#[test]
fn damaged_fingerprints_are_made_anew() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    let report = folder
        .run("fingerprint a.raw -o prints --json")
        .code(0)
        .json();
    let file = column(&report, "file")["a.raw"].clone();
    let mut bytes = folder.read(&file);
    let end = bytes.len() - 100; // in the footer
    bytes[end] ^= 1;
    folder.write(&file, &bytes);
    let run = folder.run("fingerprint a.raw -o prints --json").code(0);
    assert_eq!(actions(&run.json())["a.raw"], "read");
    run.says("footer: does not match its digest");
    assert_eq!(
        plain(&rows(&folder, &report, "a.raw")),
        blocks(&folder.read("a.raw"))
    );
}

#[test]
fn damaged_rows_are_found_and_made_anew() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    let run = || folder.run("fingerprint a.raw -o prints --json").code(0);
    let report = run().json();
    let file = column(&report, "file")["a.raw"].clone();
    let mut bytes = folder.read(&file);
    bytes[50] ^= 1;
    folder.write(&file, &bytes);
    folder
        .run("dedup-report --from prints")
        .code(1)
        .says(&format!(
            "hint: remove {file} and run vdisk fingerprint again"
        ));
    let again = run();
    assert_eq!(actions(&again.json())["a.raw"], "read");
    again.says("pages: do not match their digest");
    assert_eq!(
        plain(&rows(&folder, &report, "a.raw")),
        blocks(&folder.read("a.raw"))
    );
    assert_eq!(actions(&run().json())["a.raw"], "unchanged");
}

#[test]
fn a_run_that_was_killed_is_continued() {
    stopped_by("-KILL");
}

#[test]
fn a_run_that_was_stopped_is_continued() {
    stopped_by("-INT");
}

/// Ends a run when it has finished something, and runs again.
fn stopped_by(signal: &str) {
    let folder = Folder::new();
    for n in 0..4 {
        folder.write(&format!("{n}.raw"), &noise(n + 1, 24 * MIB));
    }
    let whole = |name: &String| name.ends_with(".parquet");
    let prints = || -> Vec<String> {
        let Ok(entries) = fs::read_dir(folder.path("prints")) else {
            return Vec::new();
        };
        entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    };
    let mut child = folder
        .command("fingerprint . -o prints --threads 1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while !prints().iter().any(whole) {
        assert!(Instant::now() < patience, "nothing was finished");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
    assert!(sent.success());
    let code = child.wait().unwrap().code();
    if signal == "-INT" {
        // Unless it was faster.
        assert!(code == Some(130) || prints().iter().filter(|n| whole(n)).count() == 4);
        assert!(
            prints().iter().all(whole),
            "nothing that is not whole is left"
        );
    }
    let finished = prints().iter().filter(|name| whole(name)).count();
    for file in prints().iter().filter(|name| whole(name)) {
        let mut reader =
            vdisk_fingerprints::Reader::open(&folder.path(&format!("prints/{file}"))).unwrap();
        reader.blocks(&mut |_| Ok(())).unwrap();
    }
    let report = folder.run("fingerprint . -o prints --json").code(0).json();
    let unchanged = actions(&report)
        .values()
        .filter(|a| *a == "unchanged")
        .count();
    assert_eq!(unchanged, finished, "{report}");
    assert_eq!(actions(&report).len(), 4);
}
