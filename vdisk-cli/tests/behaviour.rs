//! What all verbs share: help, exit codes, what is never overwritten, how a run is stopped.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;

use run::{Folder, noise};
use std::{io::Write, process::Stdio};

const VERBS: &[&str] = &[
    "",
    "info",
    "chain",
    "check",
    "lint",
    "map",
    "measure",
    "resize",
    "compact",
    "convert",
    "create",
    "compose",
    "clone",
    "commit",
    "split",
    "rebase",
    "flatten",
    "diff",
    "apply",
    "dedup-report",
    "fingerprint",
    "hash",
    "set",
];

/// Compared with `help.txt`; `UPDATE=1` writes it anew.
#[test]
fn help_texts_are_as_recorded() {
    let folder = Folder::new();
    let mut all = String::new();
    for verb in VERBS {
        let ran = folder.run(&format!("{verb} --help")).code(0);
        all.push_str(&format!("$ vdisk {verb} --help\n{}\n", ran.out));
    }
    let all: String = all.lines().map(|l| format!("{}\n", l.trim_end())).collect();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, &all).unwrap();
    }
    let recorded = std::fs::read_to_string(file).unwrap();
    assert!(
        all == recorded,
        "run the tests with UPDATE=1 and look at the changes of help.txt"
    );
}

#[test]
fn usage_errors_exit_2_and_help_exits_0() {
    let folder = Folder::new();
    folder.run("--version").code(0).prints("vdisk 0.");
    folder.run("").code(2);
    folder.run("nonsense").code(2);
    folder.run("info").code(2);
    folder.run("info a.raw --input-format floppy").code(2);
    folder.run("info a.raw --progress maybe").code(2);
}

#[test]
fn what_is_no_image_is_named() {
    let folder = Folder::new();
    folder
        .run("info missing.raw")
        .code(2)
        .says("error: missing.raw: open: there is no such file");
    folder
        .run("hash .")
        .code(2)
        .says("is a folder, not an image");
    folder.write("disk.bin", &[0; 512]);
    folder
        .run("info disk.bin")
        .code(2)
        .says("error: disk.bin: format: ")
        .says("hint: --input-format says");
    folder.run("info disk.bin --input-format raw").code(0);
    folder
        .run("convert disk.bin -o nowhere/a.raw --input-format raw")
        .code(2);
}

#[test]
fn an_existing_file_is_kept_without_force() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, 4096));
    folder.write("b.raw", b"precious");
    for verb in [
        "convert a.raw -o b.raw",
        "create b.raw --size 1M",
        "clone a.raw -o b.raw --full",
    ] {
        folder
            .run(verb)
            .code(2)
            .says("error: b.raw: output: exists already")
            .says("hint: --force replaces it");
    }
    assert_eq!(folder.read("b.raw"), b"precious");
    folder.run("convert a.raw -o b.raw --force").code(0);
    assert_eq!(folder.read("b.raw"), noise(1, 4096));
    assert_eq!(folder.names(), ["a.raw", "b.raw"]);
}

#[test]
fn an_input_is_never_written_to_by_whatever_name() {
    let folder = Folder::new();
    let bytes = noise(1, 4096);
    folder.write("a.raw", &bytes);
    folder.write("b.raw", &bytes);
    std::fs::hard_link(folder.path("a.raw"), folder.path("hard.raw")).unwrap();
    std::os::unix::fs::symlink("a.raw", folder.path("soft.raw")).unwrap();
    for name in ["a.raw", "./a.raw", "hard.raw", "soft.raw"] {
        for verb in [
            "convert a.raw",
            "clone --full a.raw",
            "compose b.raw a.raw",
            "compose a.raw b.raw",
        ] {
            folder
                .run(&format!("{verb} -o {name} --force"))
                .code(2)
                .says("is also an input");
        }
    }
    assert_eq!(folder.read("a.raw"), bytes);
    assert_eq!(folder.names(), ["a.raw", "b.raw", "hard.raw", "soft.raw"]);
}

#[test]
fn an_output_that_is_no_file_is_refused() {
    let folder = Folder::new();
    folder.write("a.raw", &[1; 512]);
    std::fs::create_dir(folder.path("dir.raw")).unwrap();
    folder
        .run("convert a.raw -o dir.raw --force")
        .code(2)
        .says("is not a regular file");
}

#[test]
fn a_fifo_does_not_hang_the_program() {
    let folder = Folder::new();
    folder.write("a.raw", &[1; 512]);
    folder.shell("mkfifo fifo.raw").code(0);
    for (verb, code) in [
        ("info fifo.raw", 2),
        ("convert a.raw -o fifo.raw --force", 2),
        ("dedup-report fifo.raw", 1),
    ] {
        folder
            .shell(&format!("timeout 20 \"$V\" {verb}"))
            .code(code)
            .says("not a regular file");
    }
}

#[test]
fn a_wrong_source_date_epoch_is_a_usage_error() {
    let folder = Folder::new();
    for wrong in ["", "x", "-1", "1.5"] {
        let status = folder
            .command("create a.raw --size 1M")
            .env("SOURCE_DATE_EPOCH", wrong)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(2), "{wrong}");
    }
    assert!(folder.names().is_empty());
}

#[test]
fn progress_json_ends_every_phase() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, 3 << 20));
    let ran = folder
        .run("convert a.raw -o b.raw --reproducible --progress json")
        .code(0);
    let lines: Vec<serde_json::Value> = ran
        .err
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    for phase in ["hash", "write"] {
        let end = lines.iter().rfind(|l| l["phase"] == phase).unwrap();
        assert_eq!(end["schema"], 1);
        assert_eq!(end["done"], 3 << 20);
        assert_eq!(end["total"], 3 << 20);
    }
    let ran = folder
        .run("convert a.raw -o c.raw --progress json --quiet")
        .code(0);
    assert_eq!(ran.err, "");
    let ran = folder.run("convert a.raw -o d.raw").code(0);
    assert_eq!(ran.err, "", "no bar away from a terminal");
}

/// Starts a conversion that takes minutes, sends `signal` when the output is under way, and
/// returns the exit code.
fn interrupted(folder: &Folder, signal: &str) -> Option<i32> {
    let huge = std::fs::File::create(folder.path("huge.raw")).unwrap();
    huge.set_len(1 << 40).unwrap();
    // Hashing a terabyte of zeros comes after the output was made and before it is filled.
    let code = folder.interrupt("convert huge.raw -o out.raw --reproducible", signal);
    assert_eq!(folder.names(), ["huge.raw"], "something was left behind");
    code
}

#[test]
fn a_signal_stops_cleanly() {
    for signal in ["-INT", "-TERM"] {
        assert_eq!(interrupted(&Folder::new(), signal), Some(130), "{signal}");
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, 1 << 20));
    // A file size limit stands in for the full disk: both end in a failing write.
    folder
        .shell("ulimit -f 64; \"$V\" convert a.raw -o b.raw")
        .code(2)
        .says("error: b.raw: write: File too large");
    assert_eq!(folder.names(), ["a.raw"]);
    if std::path::Path::new("/dev/full").exists() {
        for line in [
            "\"$V\" convert a.raw -o - >/dev/full",
            "\"$V\" info a.raw >/dev/full",
            "\"$V\" map a.raw --json >/dev/full",
        ] {
            folder.shell(line).code(2).says("No space left on device");
        }
    } else {
        let _ = writeln!(std::io::stderr(), "skipped: no /dev/full here");
    }
}

#[test]
fn a_reader_that_leaves_early_does_not_change_the_outcome() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, 4 << 20));
    folder.write("b.raw", &noise(2, 4 << 20));
    for (verb, code) in [
        ("hash a.raw", 0),
        ("info a.raw", 0),
        ("map a.raw --json", 0),
        ("diff a.raw b.raw", 1),
        // Half an image is no image.
        ("convert a.raw -o -", 2),
    ] {
        let mut child = folder
            .command(verb)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{verb}");
        let quiet = output.stderr.is_empty();
        assert_eq!(quiet, code != 2, "{verb}");
    }
}

/// A terminal must not get an image; `script` gives us one.
#[test]
fn a_terminal_gets_no_image() {
    let folder = Folder::new();
    folder.write("a.raw", &[1; 512]);
    let line = "script -qec \"$V convert a.raw -o -\" /dev/null";
    if folder.shell("command -v script").code != Some(0) {
        let _ = writeln!(std::io::stderr(), "skipped: no script(1) here");
        return;
    }
    folder.shell(line).code(2).prints("is a terminal");
}
