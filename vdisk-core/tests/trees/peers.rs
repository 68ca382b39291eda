//! After all that was done to them, qemu reads the images as the model says: VMDK with all of their
//! parents, VHD and VHDX that have none. Where it is not installed, that is skipped, with a message.

use crate::{
    model::{Node, Tree},
    runner, story,
};
use proptest::{prelude::*, test_runner::TestCaseError};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    env, fs,
    process::{Command, Stdio},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

/// Locked for reading while images are changed, for writing while a program starts: until then it
/// has all files that are open here, and their locks.
static STARTING: RwLock<()> = RwLock::new(());

/// No program starts while this is held.
pub(crate) fn nobody_starts() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

fn run(command: &mut Command) -> Result<(), String> {
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = {
        let _guard = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        command.spawn()
    };
    let output = child.and_then(|child| child.wait_with_output());
    let output = output.map_err(|e| e.to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() {
        true => Ok(()),
        false => Err(errors),
    }
}

fn is_there() -> bool {
    let found = run(Command::new("qemu-img").arg("--version")).is_ok();
    let required = env::var_os("VDISK_REQUIRE_PEERS").is_some_and(|v| v == "1");
    assert!(found || !required, "qemu-img does not run");
    if !found {
        eprintln!("skipped: qemu-img does not run");
    }
    found
}

/// What qemu calls the format, if it reads such an image.
fn driver(tree: &Tree, index: usize) -> Option<&'static str> {
    let Node { format, parent, .. } = tree.model.node(index);
    match (*format, parent) {
        ("vmdk", _) => Some("vmdk"),
        ("vhd", None) => Some("vpc"),
        ("vhdx", None) => Some("vhdx"),
        _ => None,
    }
}

/// Compares what qemu reads with the model; returns the kinds of images that it read.
fn agree(tree: &Tree) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    let mut read = BTreeSet::new();
    for index in tree.model.alive() {
        let Some(driver) = driver(tree, index) else {
            continue;
        };
        let Node { path, bytes, .. } = tree.model.node(index);
        let name = path.file_name().unwrap().display();
        let convert = ["convert", "-f", driver, "-O", "raw"];
        let told = run(Command::new("qemu-img").args(convert).args([path, &raw]));
        told.unwrap_or_else(|e| panic!("{name}: {e}"));
        let found = fs::read(&raw).unwrap();
        assert_eq!(found.len(), bytes.len(), "{name}");
        let differs = found.iter().zip(bytes).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{name}: a byte differs for qemu");
        let depth = tree.model.ancestors(index).len().min(1);
        read.insert(format!("{driver} {depth}"));
    }
    read
}

/// Formats that qemu reads, most of all the one whose chains it walks.
const KINDS: [&[&str]; 4] = [&["vmdk"], &["vmdk"], &["vhd"], &["vhdx"]];

#[test]
fn qemu_reads_every_image_as_the_model_says() {
    if !is_there() {
        return;
    }
    let read: RefCell<BTreeSet<String>> = RefCell::default();
    let kinds = (prop::sample::select(&KINDS[..]), story(4..16));
    let all = ["vmdk 0", "vmdk 1", "vpc 0", "vhdx 0"];
    // Stories are random: go on until there was something of each kind.
    for _ in 0..10 {
        let told = runner(16).run(&kinds, |(kinds, steps)| {
            let mut tree = Tree::new(kinds);
            for step in &steps {
                tree.make(step);
            }
            read.borrow_mut().extend(agree(&tree));
            Ok::<(), TestCaseError>(())
        });
        told.unwrap_or_else(|e| panic!("{e}"));
        if all.iter().all(|kind| read.borrow().contains(*kind)) {
            return;
        }
    }
    panic!("not all of {all:?} were read, only {:?}", read.borrow());
}
