//! `vdisk commit`: other programs read what it leaves, what it refuses, and what it says before.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::{fs, path::Path};
use support::{
    Dice, Said, contents,
    peers::{Qemu, Readers},
    sha256, vdisk, vdisk_hash, vdisk_json,
};
use vdisk_core::{
    FileResolver, Job, OpenOptions,
    ops::commit::{self, Wish},
    testing::{Fault, Faulty},
};

/// Whole grains, and blocks of 1 MiB: dissect cannot read a VMDK that ends within a grain.
const SIZE: usize = 5 << 20;

/// A chain `base`, `middle`, `top` of one format; what they read as is returned, in that order.
fn make_chain(folder: &Path, format: &str) -> [Vec<u8>; 3] {
    let dice = &mut Dice(7);
    let mut bytes = contents(dice, SIZE);
    let mut states = Vec::new();
    for (level, name) in ["base", "middle", "top"].iter().enumerate() {
        for _ in 0..10 * level {
            let at = usize::try_from(512 * dice.below(SIZE as u64 / 512)).unwrap();
            let len = usize::try_from(512 * (1 + dice.below(300))).unwrap();
            let end = SIZE.min(at + len);
            // Never zero: libvmdk misreads zeroed grains.
            bytes[at..end].fill(1 + dice.roll().to_le_bytes()[0] / 2);
        }
        fs::write(folder.join("now.raw"), &bytes).unwrap();
        let image = format!("{name}.{format}");
        match level {
            0 => drop(vdisk(folder, &["convert", "now.raw", "-o", &image]).good()),
            _ => {
                let parent = format!("{}.{format}", ["base", "middle"][level - 1]);
                vdisk(folder, &["diff", &parent, "now.raw", "-o", &image]).good();
            }
        }
        states.push(bytes.clone());
    }
    fs::remove_file(folder.join("now.raw")).unwrap();
    states.try_into().unwrap()
}

fn commit(folder: &Path, arguments: &[&str]) -> Said {
    vdisk(folder, &[&["commit"], arguments].concat())
}

/// It ended with `code`, said `words`, and left the folder as it was.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let before = files(folder);
    let said = commit(folder, arguments);
    assert_eq!(said.code, Some(code), "{said:#?}");
    for word in words {
        assert!(said.err.contains(word), "no '{word}' in {said:#?}");
    }
    assert!(files(folder) == before, "{said:#?}");
}

/// All files and their bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|e| {
            (
                e.file_name().into_string().unwrap(),
                fs::read(e.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// A format whose images are written to in place, and who else reads its chains.
const CHAINS: [(&str, &[&str]); 3] = [
    ("vmdk", &["libvmdk", "dissect-vmdk"]),
    ("vhd", &["libvhdi"]),
    ("vhdx", &["libvhdi", "dissect-vhdx"]),
];

#[test]
fn others_read_the_chain_after_a_commit() {
    let (qemu, readers) = (Qemu::find(), Readers::find());
    for (format, names) in CHAINS {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let [_, middle, top] = make_chain(folder, format);
        let named = |name: &str| format!("{name}.{format}");
        let chain = [named("top"), named("middle"), named("base")];
        let [top_image, middle_image, base_image] = chain.each_ref().map(String::as_str);
        let read = |image: usize, expected: &[u8]| {
            let expected = sha256(expected);
            let files: Vec<&str> = chain.iter().skip(image).map(String::as_str).collect();
            assert_eq!(vdisk_hash(folder, files[0]), expected, "{}", files[0]);
            for reader in names {
                if let Some(readers) = &readers {
                    readers.check(folder, reader, &files, &expected);
                }
            }
            let driver = match format {
                "vmdk" => "vmdk",
                "vhd" => "vpc",
                other => other,
            };
            // qemu reads no children of the other two.
            if let Some(qemu) = qemu
                .as_ref()
                .filter(|_| format == "vmdk" || files.len() == 1)
            {
                assert_eq!(
                    qemu.sha256(folder, driver, files[0]),
                    expected,
                    "{}",
                    files[0]
                );
            }
        };
        // One layer, then all of them.
        commit(folder, &[middle_image]).good();
        read(2, &middle);
        read(1, &middle);
        read(0, &top);
        commit(folder, &[top_image, "--into", base_image]).good();
        // What lies between holds the old state over the new one: a disk that never was.
        read(2, &top);
        read(0, &top);
        for image in [top_image, middle_image, base_image] {
            vdisk(folder, &["check", "--deep", image]).good();
        }
    }
}

#[test]
fn qemu_commits_to_the_same_contents() {
    let Some(qemu) = Qemu::find() else { return };
    for (base, base_format, child, child_format) in [
        ("base.raw", "raw", "child.qcow2", "qcow2"),
        ("base.vmdk", "vmdk", "child.vmdk", "vmdk"),
    ] {
        for seed in 0..4 {
            let dice = &mut Dice(seed);
            let temp = tempfile::tempdir().unwrap();
            let folder = temp.path();
            fs::write(folder.join("in.raw"), contents(dice, SIZE)).unwrap();
            let make = ["convert", "-f", "raw", "-O", base_format, "in.raw", base];
            qemu.img(folder, &make);
            let make = [
                "create",
                "-q",
                "-f",
                child_format,
                "-b",
                base,
                "-F",
                base_format,
                child,
            ];
            qemu.img(folder, &make);
            let writes: Vec<String> = (0..8)
                .map(|_| {
                    let at = 512 * dice.below(SIZE as u64 / 512);
                    let len = (512 * (1 + dice.below(400))).min(SIZE as u64 - at);
                    match dice.below(4) {
                        0 => format!("write -z {at} {len}"),
                        _ => format!("write -P {} {at} {len}", 1 + dice.below(255)),
                    }
                })
                .collect();
            qemu.io(folder, child_format, child, &writes);
            let before = vdisk_hash(folder, child);
            commit(folder, &[child]).good();
            // The witness: an independent copy of the same chain, committed by qemu.
            let theirs = folder.join("theirs");
            fs::create_dir(&theirs).unwrap();
            fs::copy(folder.join("in.raw"), theirs.join("in.raw")).unwrap();
            let make = ["convert", "-f", "raw", "-O", base_format, "in.raw", base];
            qemu.img(&theirs, &make);
            let make = [
                "create",
                "-q",
                "-f",
                child_format,
                "-b",
                base,
                "-F",
                base_format,
                child,
            ];
            qemu.img(&theirs, &make);
            qemu.io(&theirs, child_format, child, &writes);
            qemu.img(&theirs, &["commit", "-q", "-f", child_format, child]);
            let expected = qemu.sha256(&theirs, base_format, base);
            assert_eq!(
                qemu.sha256(folder, base_format, base),
                expected,
                "seed {seed}"
            );
            assert_eq!(
                qemu.sha256(folder, child_format, child),
                before,
                "seed {seed}"
            );
            assert_eq!(before, expected, "seed {seed}");
        }
    }
}

#[test]
fn a_dry_run_says_what_is_done() {
    for (format, _) in CHAINS {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        make_chain(folder, format);
        let (top, base) = (format!("top.{format}"), format!("base.{format}"));
        let before = files(folder);
        let arguments = ["commit", &top, "--into", &base];
        let mut plan = vdisk_json(folder, &[&arguments[..], &["--dry-run"]].concat());
        assert!(files(folder) == before, "a dry run wrote");
        assert_eq!(plan["schema"], 1);
        assert_eq!(plan["child"], top.as_str());
        assert_eq!(plan["target"], base.as_str());
        assert_eq!(plan["layers"].as_array().unwrap().len(), 2);
        assert_eq!(plan["siblings"].as_array().unwrap().len(), 0);
        let identities = plan["identities"].as_array().unwrap();
        assert_eq!(identities.len(), 2, "the target, and what lies between");
        for renewed in identities {
            assert_ne!(renewed["from"], renewed["to"]);
        }
        let text = commit(folder, &[&top, "--dry-run"]).good();
        assert!(
            text.contains("would put ") && text.contains("would write "),
            "{text}"
        );

        let mut done = vdisk_json(folder, &arguments);
        assert_eq!(plan["dry_run"].take(), true);
        assert_eq!(done["dry_run"].take(), false);
        // Each run chooses identities of its own, and only bytes that differ are written.
        let renewed = done["identities"].take();
        plan["identities"].take();
        let [planned, written] =
            [&mut plan, &mut done].map(|report| report["written_size"].take().as_u64().unwrap());
        assert!(planned.abs_diff(written) < 256, "{planned}, {written}");
        assert_eq!(done, plan);
        // The report names the identities that the images now have.
        for renewal in renewed.as_array().unwrap() {
            let path = renewal["path"].as_str().unwrap();
            let info = vdisk(folder, &["info", path]).good();
            let identity = renewal["to"].as_str().unwrap();
            assert!(info.contains(identity), "no {identity} in {info}");
        }
        let quiet = commit(folder, &[&top, "-q"]).good();
        assert_eq!(quiet, "");
    }
}

#[test]
fn what_cannot_be_committed_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    make_chain(folder, "vmdk");
    refused(
        folder,
        &["base.vmdk"],
        2,
        &["base.vmdk: commit: has no parent"],
    );
    refused(
        folder,
        &["top.vmdk", "--into", "top.vmdk"],
        2,
        &["is no parent of 'top.vmdk'"],
    );
    refused(
        folder,
        &["top.vmdk", "--into", "none.vmdk"],
        2,
        &["no such file"],
    );
    refused(folder, &[], 2, &["<CHILD>"]);
    refused(
        folder,
        &["top.vmdk", "--undo", "base.vmdk"],
        2,
        &["cannot be used with"],
    );
    refused(
        folder,
        &["--undo", "base.vmdk"],
        2,
        &["no change that was cut short"],
    );
    refused(
        folder,
        &["--resume", "base.vmdk"],
        2,
        &["no change that was cut short"],
    );
    let keep = ["top.vmdk", "--keep-uuid"];
    refused(folder, &keep, 2, &["must change with its contents"]);

    // A packed parent.
    let stream = ["--subformat", "streamOptimized"];
    let convert = ["convert", "base.vmdk", "-o", "packed.vmdk"];
    vdisk(folder, &[&convert[..], &stream].concat()).good();
    vdisk(folder, &["clone", "packed.vmdk", "-o", "c.vmdk"]).good();
    let words = [
        "streamOptimized",
        "in place; nothing was changed",
        "hint: --to-new OUT",
    ];
    refused(folder, &["c.vmdk"], 2, &words);

    // A child that is longer than its parent.
    if let Some(qemu) = Qemu::find() {
        let make = [
            "create",
            "-q",
            "-f",
            "vmdk",
            "-b",
            "base.vmdk",
            "-F",
            "vmdk",
            "l.vmdk",
            "9M",
        ];
        qemu.img(folder, &make);
        refused(
            folder,
            &["l.vmdk"],
            2,
            &[
                "l.vmdk: size: ",
                "must be resized first",
                "hint: vdisk resize ",
            ],
        );
    }
}

#[test]
fn siblings_are_named_and_stop_a_commit() {
    for (format, _) in CHAINS {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let [.., top] = make_chain(folder, format);
        let named = |name: &str| format!("{name}.{format}");
        let (child, base, sibling) = (named("top"), named("base"), named("sibling"));
        let elsewhere = format!("elsewhere/far.{format}");
        fs::create_dir(folder.join("elsewhere")).unwrap();
        vdisk(folder, &["clone", &base, "-o", &sibling]).good();
        // Found only in a folder that is named.
        vdisk(folder, &["clone", &base, "-o", &elsewhere, "-q"]).good();
        let into = [child.as_str(), "--into", base.as_str()];
        let named = format!("'{sibling}'");
        let words = [named.as_str(), "hint: --to-new OUT", "--orphan-siblings"];
        let at_top = |arguments: &[&str], words: &[&str]| {
            let said = commit(folder, arguments);
            assert_eq!(said.code, Some(3), "{said:#?}");
            assert!(words.iter().all(|w| said.err.contains(w)), "{said:#?}");
            said
        };
        at_top(&into, &words);
        let said = at_top(&[&into[..], &["--dry-run", "--json"]].concat(), &words);
        let plan: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(plan["siblings"].as_array().unwrap().len(), 1, "{plan}");
        fs::remove_file(folder.join(&sibling)).unwrap();
        let far = [&into[..], &["--allow-path", "elsewhere"]].concat();
        at_top(&far, &["far"]);
        let said = commit(folder, &[&far[..], &["--orphan-siblings"]].concat()).good();
        assert!(said.contains("orphaned: "), "{said}");
        let orphan = vdisk(folder, &["hash", &elsewhere, "--allow-path", "."]);
        assert_eq!(orphan.code, Some(2), "{orphan:#?}");
        assert_eq!(vdisk_hash(folder, &child), sha256(&top));
    }
}

#[test]
fn a_new_image_takes_the_place_of_the_parent() {
    for (format, _) in CHAINS {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let [_, _, top] = make_chain(folder, format);
        let named = |name: &str| format!("{name}.{format}");
        let before = files(folder);
        let (child, new, flat) = (named("top"), named("new"), named("flat"));
        let json = vdisk_json(folder, &["commit", &child, "--to-new", &new]);
        assert_eq!(json["parent"], named("base").as_str(), "{json}");
        assert_eq!(json["target"], named("middle").as_str(), "{json}");
        let into = [
            "commit",
            &child,
            "--into",
            &named("base"),
            "--to-new",
            &flat,
        ];
        assert!(vdisk_json(folder, &into)["parent"].is_null());
        let expected = sha256(&top);
        for image in [&new, &flat, &child] {
            assert_eq!(vdisk_hash(folder, image), expected, "{image}");
        }
        let after = files(folder);
        assert!(before.iter().all(|file| after.contains(file)));
        assert_eq!(after.len(), before.len() + 2);
        fs::remove_file(folder.join(named("middle"))).unwrap();
        assert_eq!(vdisk_hash(folder, &new), expected);
        fs::remove_file(folder.join(named("base"))).unwrap();
        assert_eq!(vdisk_hash(folder, &flat), expected);
    }
}

#[test]
fn a_commit_that_was_killed_is_finished_or_taken_back() {
    for (format, _) in CHAINS {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let [_, _, top] = make_chain(folder, format);
        let (child, base) = (format!("top.{format}"), format!("base.{format}"));
        let before = files(folder);
        let journal = folder.join(format!("{base}.vdisk-journal"));
        let kill = || {
            // Late enough for changes, early enough not to be done.
            for good in (4..).step_by(3) {
                let resolver = FileResolver::default();
                let options = OpenOptions::new(&resolver);
                let target = folder.join(&base);
                let wish = Wish {
                    into: Some(&target),
                    ..Wish::default()
                };
                let plan = commit::plan(&folder.join(&child), &wish, &options).unwrap();
                let medium = Faulty::new(Fault::Killed, good);
                let done = plan.apply(&options, &medium, &Job::default());
                assert!(done.is_err(), "the commit was done after {good} operations");
                let now = fs::read(&target).unwrap();
                if journal.exists() && before.iter().all(|(_, bytes)| *bytes != now) {
                    return;
                }
                let undone = vdisk(folder, &["commit", "--undo", &base]);
                assert!(matches!(undone.code, Some(0 | 2)), "{undone:#?}");
                if undone.code == Some(2) {
                    for (name, _) in files(folder) {
                        if name.ends_with(".partial") {
                            fs::remove_file(folder.join(name)).unwrap();
                        }
                    }
                }
            }
        };
        kill();
        let said = vdisk(folder, &["hash", &base]);
        assert_eq!(said.code, Some(3), "{said:#?}");
        assert!(
            said.err.contains("hint: ") && said.err.contains("--undo IMAGE"),
            "{said:#?}"
        );
        // From anywhere, by the journal's name as well.
        let path = journal.to_string_lossy().into_owned();
        let said = vdisk(Path::new("/"), &["commit", "--undo", &path]).good();
        assert!(
            said.contains("the commit that was cut short is undone"),
            "{said}"
        );
        assert!(files(folder) == before, "not all of it was undone");

        kill();
        let path = folder.join(&base).to_string_lossy().into_owned();
        let json = vdisk_json(Path::new("/"), &["commit", "--resume", &path]);
        assert_eq!(json["outcome"], "resumed");
        assert_eq!(json["operation"], "commit");
        assert!(!journal.exists());
        for image in [&child, &base] {
            assert_eq!(vdisk_hash(folder, image), sha256(&top), "{image}");
        }
    }
}

#[test]
fn siblings_are_also_beside_the_file_that_a_link_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("real")).unwrap();
    fs::write(folder.join("a.raw"), vec![7; 1 << 20]).unwrap();
    vdisk(folder, &["convert", "a.raw", "-o", "real/p.vhd"]).good();
    vdisk(folder, &["clone", "real/p.vhd", "-o", "real/other.vhd"]).good();
    std::os::unix::fs::symlink("real/p.vhd", folder.join("p.vhd")).unwrap();
    vdisk(folder, &["clone", "real/p.vhd", "-o", "c.vhd"]).good();
    let said = commit(folder, &["c.vhd", "--parent", "p.vhd"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(said.err.contains("other.vhd"), "{said:#?}");
}
