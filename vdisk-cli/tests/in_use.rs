//! Changes in place beside other programs, and without room: refused by name, or taken back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod run;

use run::{Folder, noise};
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;

/// A base, and a child that changes most of it.
fn chain() -> Folder {
    let folder = Folder::new();
    let mut disk = noise(1, 24 * MIB);
    folder.write("old.raw", &disk);
    folder.run("convert old.raw -o base.vmdk").code(0);
    disk[MIB..20 * MIB].copy_from_slice(&noise(2, 19 * MIB));
    folder.write("new.raw", &disk);
    folder.run("diff base.vmdk new.raw -o child.vmdk").code(0);
    fs::remove_file(folder.path("old.raw")).unwrap();
    folder
}

fn signal(program: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &program.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_second_program_is_refused_by_name() {
    // Stopped in the middle, so that there is a middle.
    for _ in 0..20 {
        let folder = chain();
        let journal = folder.path("base.vmdk.vdisk-journal");
        let mut first = folder
            .command("commit child.vmdk")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        while !journal.exists() && first.try_wait().unwrap().is_none() {
            assert!(Instant::now() < patience, "no journal");
            std::thread::sleep(Duration::from_micros(100));
        }
        signal(&first, "-STOP");
        std::thread::sleep(Duration::from_millis(10));
        if first.try_wait().unwrap().is_some() || !journal.exists() {
            println!("too late, once more");
            continue;
        }
        let before = folder.read("base.vmdk");
        for second in [
            "commit child.vmdk",
            "resize base.vmdk --size 1G",
            "compact base.vmdk --in-place",
            "check base.vmdk --repair",
            "set base.vmdk --adapter ide",
            "commit --undo base.vmdk",
            "commit --resume base.vmdk",
            "convert child.vmdk -o copy.raw",
            "info base.vmdk",
        ] {
            folder.run(second).code(3).says("base.vmdk");
        }
        assert!(folder.read("base.vmdk") == before);
        signal(&first, "-CONT");
        assert!(first.wait().unwrap().success());
        assert!(folder.contents("base.vmdk") == folder.read("new.raw"));
        assert!(folder.contents("child.vmdk") == folder.read("new.raw"));
        return;
    }
    panic!("never stopped in the middle of a commit");
}

#[test]
fn an_image_that_vmware_has_open_is_refused() {
    let folder = chain();
    fs::create_dir(folder.path("base.vmdk.lck")).unwrap();
    folder.write("base.vmdk.lck/M54321.lck", b"0");
    let before = folder.read("base.vmdk");
    for change in [
        "commit child.vmdk",
        "resize base.vmdk --size 1G",
        "compact base.vmdk --in-place",
        "set base.vmdk --adapter ide",
    ] {
        folder.run(change).code(3).says("base.vmdk.lck/M54321.lck");
    }
    assert!(folder.read("base.vmdk") == before);
    fs::remove_dir_all(folder.path("base.vmdk.lck")).unwrap();
    folder.run("commit child.vmdk").code(0);
}

/// A limit on the size of files stands for a disk that fills: at every mebibyte.
#[test]
fn without_room_everything_is_taken_back_and_the_error_says_so() {
    let folder = chain();
    // Most of the child is new to this base, which grows.
    folder.run("create empty.vmdk --size 24M").code(0);
    folder.run("diff empty.vmdk new.raw -o fill.vmdk").code(0);
    fs::remove_file(folder.path("child.vmdk")).unwrap();
    let names = folder.names();
    let (base, child) = (folder.read("empty.vmdk"), folder.read("fill.vmdk"));
    for mebibytes in 0..24 {
        let blocks = mebibytes * 1024 + 4; // of 1024 bytes
        let line = format!("bash -c 'ulimit -f {blocks}; exec $V commit fill.vmdk'");
        let ran = folder.shell(&line);
        assert_eq!(ran.code, Some(2), "{mebibytes} MiB: {ran:?}");
        assert!(ran.err.contains("nothing was changed"), "{ran:?}");
        assert_eq!(folder.names(), names, "{mebibytes} MiB");
        assert!(folder.read("empty.vmdk") == base && folder.read("fill.vmdk") == child);
    }
    folder.run("commit fill.vmdk").code(0);
    assert!(folder.contents("empty.vmdk") == folder.read("new.raw"));
}
