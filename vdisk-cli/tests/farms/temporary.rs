//! The folder for temporary files: not there, no folder, full, and empty whatever happens.

use crate::{builder::Farm, large::sectors, paused::Paused};
use std::{
    fs,
    process::{Command, Stdio},
};

const MIB: u64 = 1 << 20;

fn args(farm: &Farm, flags: &str) -> String {
    let names = farm.listed().join(" ");
    format!("dedup-report {names} --json --block-size 512 --memory 8M {flags}")
}

#[test]
fn a_folder_that_cannot_be_used_ends_the_run() {
    let Some(farm) = sectors(21, 48) else { return };
    farm.folder.write("file", b"no folder");
    for temp in ["nowhere", "file"] {
        let ran = farm.folder.run(&args(&farm, &format!("--temp {temp}")));
        assert_eq!(ran.out, "", "{temp}");
        ran.code(2).says(temp);
    }
}

/// A file of more than 4 MiB cannot be written: as on a full disk, without one.
#[test]
fn a_full_folder_ends_the_run() {
    let Some(farm) = sectors(22, 48) else { return };
    fs::create_dir(farm.folder.path("small")).unwrap();
    let args = args(&farm, "--temp small");
    let line = format!("trap '' XFSZ; ulimit -f 4096; exec \"$V\" {args}");
    let ran = farm.folder.shell(&line).code(2).says("small");
    assert_eq!(ran.out, "");
    assert!(farm.folder.read_dir("small").is_empty());
    // A real one, where this user may mount.
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(farm.folder.path("small"))
        .stderr(Stdio::null())
        .status();
    if mounted.is_ok_and(|m| m.success()) {
        let ran = farm.folder.run(&args);
        let umount = Command::new("umount")
            .arg(farm.folder.path("small"))
            .status();
        assert!(umount.unwrap().success());
        assert_eq!(ran.out, "");
        ran.code(2).says("small");
    }
}

#[test]
fn nothing_stays_in_it() {
    let Some(farm) = sectors(23, 48) else { return };
    fs::create_dir(farm.folder.path("temp")).unwrap();
    let args = args(&farm, "--temp temp --threads 1");
    farm.folder.run(&args).code(0);
    assert!(farm.folder.read_dir("temp").is_empty());
    for signal in ["-INT", "-KILL"] {
        // By then two images have filled the memory.
        let paused = Paused::start(&farm, &args, (80 * MIB, 150 * MIB), || ());
        let ran = paused.signal(signal);
        assert_eq!(ran.out, "", "{signal}");
        let code = (signal == "-INT").then_some(130);
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(farm.folder.read_dir("temp").is_empty(), "{signal}");
    }
}
