//! `vdisk chain` and farms of clones: what is drawn and said, exit codes, repairs, and what qemu
//! reads.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod run;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use run::{Folder, noise};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};
use support::peers::Qemu;

const FORMATS: [&str; 3] = ["vmdk", "vhd", "vhdx"];

/// A base of 3 MiB in a folder of its own.
fn base(folder: &Folder, name: &str, seed: u64) -> Vec<u8> {
    let bytes = noise(seed, 3 << 20);
    folder.write("in.raw", &bytes);
    folder.run(&format!("convert in.raw -o {name}")).code(0);
    fs::remove_file(folder.path("in.raw")).unwrap();
    bytes
}

/// The parent of the image of that name in the report.
fn parent<'a>(report: &'a Value, child: &str) -> &'a Value {
    let images = report["images"].as_array().unwrap();
    let found: Vec<&Value> = images
        .iter()
        .filter(|i| i["path"].as_str().unwrap().ends_with(child))
        .collect();
    assert_eq!(found.len(), 1, "{child}: {report:#}");
    &found[0]["parent"]
}

#[test]
fn intact_chains_are_drawn_as_trees() {
    for ending in FORMATS {
        let folder = Folder::new();
        base(&folder, &format!("base.{ending}"), 1);
        for (parent, child) in [("base", "a"), ("base", "b"), ("a", "a1")] {
            let line = format!("clone {parent}.{ending} -o {child}.{ending} -q");
            folder.run(&line).code(0);
        }
        let ran = folder.run("chain .").code(0);
        let trees: Vec<&str> = ran
            .out
            .lines()
            .map(|l| l.split(':').next().unwrap())
            .collect();
        let expected = [
            format!("./base.{ending}"),
            format!("  ./a.{ending}"),
            format!("    ./a1.{ending}"),
            format!("  ./b.{ending}"),
        ];
        assert_eq!(trees[..4], expected, "{ran:#?}");
        assert!(
            ran.out
                .ends_with("4 images and 3 links: all is intact; contents not read\n")
        );
        let report = folder.run("chain . --json").code(0).json();
        assert_eq!(
            (&report["schema"], &report["findings"]),
            (&1.into(), &0.into())
        );
        let a1 = parent(&report, &format!("a1.{ending}"));
        assert_eq!(a1["verdict"], "intact");
        assert_eq!(a1["path"], format!("./a.{ending}"));
        assert_eq!(a1["recorded_identity"], a1["found_identity"]);
        assert!(parent(&report, &format!("base.{ending}")).is_null());
        assert_eq!(report["images"][0]["virtual_size"], 3 << 20);
    }
}

#[test]
fn a_moved_parent_is_named_anew_and_that_can_be_undone() {
    for ending in FORMATS {
        let folder = Folder::new();
        let bytes = base(&folder, &format!("base.{ending}"), 1);
        for child in ["a", "b"] {
            let line = format!("clone base.{ending} -o {child}.{ending} -q");
            folder.run(&line).code(0);
        }
        fs::create_dir(folder.path("gold")).unwrap();
        let gold = format!("gold/2026.{ending}");
        fs::rename(folder.path(&format!("base.{ending}")), folder.path(&gold)).unwrap();
        let child = format!("a.{ending}");
        let before = folder.read(&child);
        folder.run(&format!("info {child}")).code(1);
        let ran = folder.run("chain .").code(1).prints("moved: ");
        assert!(
            ran.out
                .contains(&format!("--repair would point ./{child} to ./{gold}")),
            "{ran:#?}"
        );
        folder
            .run("chain . --repair --dry-run")
            .code(1)
            .prints("would point");
        let report = folder
            .run("chain . --repair --dry-run --json")
            .code(1)
            .json();
        assert_eq!(report["repair"]["steps"].as_array().unwrap().len(), 2);
        assert_eq!(parent(&report, &child)["verdict"], "moved");
        assert_eq!(parent(&report, &child)["found_at"][0], format!("./{gold}"));
        assert!(folder.read(&child) == before, "a dry run wrote");

        let ran = folder.run("chain . --repair").code(0).prints("repaired: ");
        assert!(ran.out.contains("all is intact"), "{ran:#?}");
        assert!(folder.contents(&child) == bytes, "{ending}");
        assert!(folder.contents(&format!("b.{ending}")) == bytes, "{ending}");
        if let (Some(qemu), true) = (Qemu::find(), ending == "vmdk") {
            let found = qemu.sha256(&folder.path(""), "vmdk", &child);
            assert_eq!(found, support::sha256(&bytes));
        }
        folder.run("chain .").code(0);
        folder
            .run(&format!("check --undo {child}.backup-1"))
            .code(0);
        assert!(folder.read(&child) == before, "{ending} was not restored");
        folder.run("chain .").code(1);
    }
}

#[test]
fn two_copies_of_a_lost_parent_are_named_and_none_is_chosen() {
    let folder = Folder::new();
    base(&folder, "base.vhd", 1);
    folder.run("clone base.vhd -o a.vhd -q").code(0);
    let before = folder.read("a.vhd");
    fs::rename(folder.path("base.vhd"), folder.path("x.vhd")).unwrap();
    fs::copy(folder.path("x.vhd"), folder.path("y.vhd")).unwrap();
    let ran = folder.run("chain . --repair").code(1);
    assert!(
        ran.out
            .contains("'./x.vhd' and './y.vhd' all have its identity"),
        "{ran:#?}"
    );
    assert!(folder.read("a.vhd") == before);
    // Until somebody says which.
    let bytes = folder.contents("x.vhd");
    folder
        .run("chain . --repair --parent x.vhd")
        .code(0)
        .prints("repaired: ./a.vhd");
    assert!(folder.contents("a.vhd") == bytes);
    folder
        .run("chain .")
        .code(0)
        .prints("one identity: ./x.vhd and ./y.vhd");
}

#[test]
fn a_vhd_that_was_written_to_is_told_by_its_time() {
    let folder = Folder::new();
    base(&folder, "base.vhd", 1);
    folder.run("clone base.vhd -o a.vhd -q").code(0);
    let said = |code| {
        let report = folder.run("chain . --json").code(code).json();
        parent(&report, "a.vhd")["written_since"].clone()
    };
    assert_eq!(said(0), false);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path("base.vhd"))
        .unwrap();
    let later = file.metadata().unwrap().modified().unwrap() + std::time::Duration::from_secs(60);
    file.set_modified(later).unwrap();
    assert_eq!(said(0), true);
    folder
        .run("chain .")
        .code(0)
        .prints("may have been written to since");
    // Where the identity says so little, a repair would put it out of sight.
    fs::rename(folder.path("base.vhd"), folder.path("new.vhd")).unwrap();
    let before = folder.read("a.vhd");
    let ran = folder.run("chain . --repair").code(1);
    assert!(
        ran.out.contains("may have been written to since"),
        "{ran:#?}"
    );
    assert!(ran.out.contains("--accept-parent-change"), "{ran:#?}");
    assert!(folder.read("a.vhd") == before);
    folder
        .run("chain . --repair --accept-parent-change")
        .code(0);
    assert_eq!(said(0), false);
}

#[test]
fn a_delta_is_no_child_of_a_wrong_format() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, 1 << 20));
    folder.write("b.raw", &noise(2, 1 << 20));
    folder.run("diff a.raw b.raw --delta -o d.vmdk").code(0);
    let ran = folder.run("chain .").code(0).prints("a delta");
    assert!(ran.out.contains("3 images and 0 links"), "{ran:#?}");
    let report = folder.run("chain d.vmdk --json").code(0).json();
    assert_eq!(report["images"][0]["delta"], true);
    assert!(report["images"][0]["parent"].is_null());
}

#[test]
fn a_vm_disk_is_not_taken_for_the_base_of_the_same_name() {
    for ending in FORMATS {
        let folder = Folder::new();
        fs::create_dir(folder.path("gold")).unwrap();
        fs::create_dir(folder.path("vm1")).unwrap();
        let bytes = base(&folder, &format!("gold/disk.{ending}"), 1);
        base(&folder, &format!("vm1/disk.{ending}"), 2);
        let child = format!("vm1/child.{ending}");
        let line = format!("clone gold/disk.{ending} -o {child} -q");
        folder.run(&line).code(0);
        let before = folder.read(&child);
        for flags in ["", "--repair", "--repair --accept-parent-change"] {
            let ran = folder.run(&format!("chain . {flags}")).code(0);
            assert!(ran.out.contains("needs --allow-path"), "{ran:#?}");
        }
        for flags in ["--repair", "--repair --accept-parent-change"] {
            folder.run(&format!("chain vm1 {flags}")).code(1);
        }
        assert!(folder.read(&child) == before);
        let ran = folder.run(&format!("convert {child} -o x.raw")).code(3);
        assert!(
            ran.err.contains("lies outside") && ran.err.contains("--allow-path"),
            "{ran:#?}"
        );
        folder
            .run(&format!("convert {child} -o x.raw --allow-path gold"))
            .code(0);
        assert!(folder.read("x.raw") == bytes);
    }
}

#[test]
fn a_changed_parent_is_accepted_only_if_harmless_or_when_told() {
    for ending in FORMATS {
        let folder = Folder::new();
        let (child, old) = (format!("a.{ending}"), format!("old.{ending}"));
        let parent_name = format!("base.{ending}");
        let bytes = base(&folder, &parent_name, 1);
        folder
            .run(&format!("clone {parent_name} -o {child} -q"))
            .code(0);
        // The same contents under another identity, and the old image beside it.
        fs::rename(folder.path(&parent_name), folder.path(&old)).unwrap();
        folder
            .run(&format!("convert {old} -o {parent_name}"))
            .code(0);
        let before = folder.read(&child);
        let report = folder.run("chain . --json").code(1).json();
        let found = parent(&report, &child);
        assert_eq!(found["verdict"], "changed", "{report:#}");
        assert_eq!(found["contents"], "same");
        assert_eq!(found["unchanged_copies"][0], format!("./{old}"));
        assert_ne!(found["recorded_identity"], found["found_identity"]);
        folder.run("chain .").code(1).prints("harmless");
        folder.run("chain . --repair").code(0);
        assert!(folder.contents(&child) == bytes);
        folder
            .run(&format!("check --undo {child}.backup-1"))
            .code(0);

        // Other contents: then the old image is the parent, by its new name.
        let other = base(&folder, "new.raw", 2);
        folder
            .run(&format!("convert new.raw -o {parent_name} --force"))
            .code(0);
        fs::remove_file(folder.path("new.raw")).unwrap();
        let ran = folder.run("chain . --json").code(1);
        assert_eq!(parent(&ran.json(), &child)["contents"], "different");
        folder.run("chain . --repair").code(0).prints("repaired: ");
        assert!(folder.contents(&child) == bytes);
        folder
            .run(&format!("check --undo {child}.backup-2"))
            .code(0);
        // Two such images: none is chosen, and the change is not accepted without leave.
        fs::copy(folder.path(&old), folder.path(&format!("older.{ending}"))).unwrap();
        let report = folder.run("chain . --repair --json").code(1).json();
        let left = &report["repair"]["left"][0];
        assert_eq!(left["acceptable"], true, "{report:#}");
        folder
            .run("chain . --repair")
            .code(1)
            .prints("--accept-parent-change");
        assert!(
            folder.read(&child) == before,
            "it was changed without leave"
        );
        fs::remove_file(folder.path(&format!("older.{ending}"))).unwrap();
        // Without the old image, nothing is known, and nothing is assumed.
        fs::remove_file(folder.path(&old)).unwrap();
        let report = folder.run("chain . --repair --json").code(1).json();
        assert_eq!(parent(&report, &child)["contents"], "unknown");
        assert!(
            folder.read(&child) == before,
            "it was changed without leave"
        );
        folder.run("chain . --accept-parent-change").code(2);
        folder
            .run("chain . --repair --accept-parent-change --dry-run")
            .code(1);
        assert!(folder.read(&child) == before, "a dry run wrote");
        folder
            .run("chain . --repair --accept-parent-change")
            .code(0);
        assert!(folder.contents(&child) == other, "{ending}");
    }
}

#[test]
fn what_cannot_be_helped_is_said_and_left_alone() {
    let folder = Folder::new();
    let child = |hint: &str, cid: u32, parent: u32| {
        format!(
            "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID={parent:08x}\n\
             parentFileNameHint=\"{hint}\"\ncreateType=\"monolithicFlat\"\n\
             RW 1 FLAT \"x-flat.vmdk\" 0\n"
        )
    };
    folder.write("x-flat.vmdk", &[1; 512]);
    folder.write("missing.vmdk", child("gone.vmdk", 1, 99).as_bytes());
    folder.write("l1.vmdk", child("l2.vmdk", 2, 3).as_bytes());
    folder.write("l2.vmdk", child("l1.vmdk", 3, 2).as_bytes());
    folder.write("odd.vmdk", child("x.raw", 4, 98).as_bytes());
    folder.write("x.raw", &[7; 512]);
    folder.write("broken.vmdk", b"KDMV and nothing more");
    folder.write("gone.vhd.vdisk-journal", b"");
    let before: Vec<Vec<u8>> = folder.names().iter().map(|n| folder.read(n)).collect();
    let ran = folder
        .run("chain . --repair --accept-parent-change")
        .code(1);
    for words in [
        "missing: ./missing.vmdk: parent: 'gone.vmdk' was not found",
        "recorded is CID 00000063",
        "loop: it is its own ancestor",
        "wrong-format: ",
        "not readable: ./broken.vmdk: ",
        "not readable: ./gone.vhd.vdisk-journal: ",
        "not repaired ./l1.vmdk: ",
        "5 images and 4 links: 6 findings",
    ] {
        assert!(ran.out.contains(words), "{words}: {ran:#?}");
    }
    let after: Vec<Vec<u8>> = folder.names().iter().map(|n| folder.read(n)).collect();
    assert!(after == before);
    let report = folder.run("chain . --json").code(1).json();
    assert_eq!(report["unreadable"].as_array().unwrap().len(), 2);
    assert_eq!(report["unreadable"][1]["unfinished"], true);
    folder.run("chain nowhere").code(2).says("error: nowhere");
}

#[test]
fn names_from_images_cannot_drive_the_terminal() {
    let folder = Folder::new();
    let text = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=2\n\
        parentFileNameHint=\"\u{1b}[2Jgone\u{202e}.vmdk\"\ncreateType=\"mono\u{7}\"\n\
        RW 1 FLAT \"x-flat.vmdk\" 0\n";
    folder.write("a\u{1b}[31m.vmdk", text.as_bytes());
    folder.write("x-flat.vmdk", &[1; 512]);
    let ran = folder.run("chain . --repair").code(1).prints("missing");
    let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(
        !ran.out.contains(hostile) && !ran.err.contains(hostile),
        "{ran:#?}"
    );
    assert!(ran.out.contains("\\u{1b}[2Jgone\\u{202e}"), "{ran:#?}");
}

#[test]
fn chains_of_qemu_are_known_and_not_changed() {
    let Some(qemu) = Qemu::find() else {
        return;
    };
    let folder = Folder::new();
    let here = folder.path("");
    qemu.img(&here, &["create", "-q", "-f", "qcow2", "q.qcow2", "4M"]);
    let of = |format: &str, base: &str, child: &str| {
        qemu.img(
            &here,
            &[
                "create", "-q", "-f", format, "-F", format, "-b", base, child,
            ],
        );
    };
    of("qcow2", "q.qcow2", "q1.qcow2");
    of("qcow2", "q1.qcow2", "q2.qcow2");
    qemu.img(&here, &["create", "-q", "-f", "vmdk", "v.vmdk", "4M"]);
    of("vmdk", "v.vmdk", "v1.vmdk");
    of("vmdk", "v1.vmdk", "v2.vmdk");
    let split = [
        "create",
        "-q",
        "-f",
        "vmdk",
        "-o",
        "subformat=twoGbMaxExtentFlat",
        "s.vmdk",
        "3G",
    ];
    qemu.img(&here, &split);
    let ran = folder.run("chain .").code(0);
    assert!(ran.out.contains("7 images and 4 links"), "{ran:#?}");
    fs::rename(folder.path("q.qcow2"), folder.path("r.qcow2")).unwrap();
    let report = folder.run("chain . --json").code(1).json();
    // A qcow2 child records no identity: nothing tells that the other one is its parent.
    assert_eq!(parent(&report, "q1.qcow2")["verdict"], "missing");
    assert_eq!(parent(&report, "q2.qcow2")["verdict"], "intact");
    // qemu gives a VMDK a new CID when it writes to it, and so tells that v1 was made before.
    qemu.io(&here, "vmdk", "v.vmdk", &["write -P 9 0 64k".to_owned()]);
    let report = folder.run("chain . --json").code(1).json();
    assert_eq!(
        parent(&report, "v1.vmdk")["verdict"],
        "changed",
        "{report:#}"
    );
    assert_eq!(parent(&report, "v1.vmdk")["contents"], "unknown");
    folder
        .run("chain . --repair --accept-parent-change")
        .code(1);
    let report = folder.run("chain . --json").code(1).json();
    assert_eq!(parent(&report, "v1.vmdk")["verdict"], "intact");
    let first = &folder.contents("v2.vmdk")[..65536];
    assert!(first.iter().all(|b| *b == 9));
}

#[test]
fn a_farm_of_clones_is_made_at_once_and_each_is_a_disk_of_its_own() {
    for ending in FORMATS {
        let folder = Folder::new();
        let bytes = base(&folder, &format!("base.{ending}"), 1);
        let line = format!("clone base.{ending} -o desk-{{:02}}.{ending} --count 12 --json");
        let report = folder.run(&line).code(0).json();
        let clones = report["clones"].as_array().unwrap();
        assert_eq!((clones.len(), &report["full"]), (12, &false.into()));
        assert!(report.get("output").is_none());
        assert_eq!(clones[11]["output"], format!("desk-12.{ending}"));
        let mut identities: Vec<&str> = clones
            .iter()
            .map(|c| c["identity"].as_str().unwrap())
            .collect();
        identities.sort_unstable();
        identities.dedup();
        assert_eq!(identities.len(), 12);
        assert_eq!(folder.names().len(), 13);
        assert!(folder.contents(&format!("desk-07.{ending}")) == bytes);
        folder
            .run("chain .")
            .code(0)
            .prints("13 images and 12 links");
    }
}

#[test]
fn clones_side_by_side_share_no_id_that_products_go_by() {
    let folder = Folder::new();
    base(&folder, "base.vmdk", 1);
    folder
        .run("clone base.vmdk -o c{}.vmdk --count 2 -q")
        .code(0);
    let text = |name: &str| String::from_utf8_lossy(&folder.read(name)[512..21 * 512]).into_owned();
    let (one, two) = (text("c1.vmdk"), text("c2.vmdk"));
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|l| l.starts_with(key));
        line.map(|l| l.trim_end_matches('\0').to_owned())
    };
    for key in ["CID=", "ddb.longContentID"] {
        assert!(
            value(&one, key).is_some() && value(&one, key) != value(&two, key),
            "{key}"
        );
    }
    // VirtualBox and vCenter give a disk without these new ones; copies of them would clash.
    for key in ["ddb.uuid", "ddb.uuid.image"] {
        assert_eq!((value(&one, key), value(&two, key)), (None, None), "{key}");
    }
    assert_eq!(value(&one, "parentCID"), value(&two, "parentCID"));
}

#[test]
fn reproducible_clones_follow_from_contents_and_name() {
    let folder = Folder::new();
    for place in ["one", "two"] {
        fs::create_dir(folder.path(place)).unwrap();
        folder.write("in.raw", &noise(5, 1 << 20));
        let line = format!("convert in.raw -o {place}/base.vhd --reproducible");
        folder.run(&line).code(0);
        let line =
            format!("clone {place}/base.vhd -o {place}/c{{}}.vhd --count 3 --reproducible -q");
        folder.run(&line).code(0);
    }
    for number in 1..=3 {
        let name = format!("c{number}.vhd");
        assert!(folder.read(&format!("one/{name}")) == folder.read(&format!("two/{name}")));
    }
    let alone = "clone one/base.vhd -o one/solo.vhd --reproducible -q";
    folder.run(alone).code(0);
    let ids: Vec<Value> = ["c1", "c2", "c3", "solo"]
        .iter()
        .map(|n| {
            folder
                .run(&format!("info one/{n}.vhd --json"))
                .code(0)
                .json()["identity"]
                .clone()
        })
        .collect();
    for (index, id) in ids.iter().enumerate() {
        assert!(!ids[..index].contains(id), "{ids:?}");
    }
    let full = "clone one/base.vhd -o one/f{}.vhd --count 2 --full --reproducible --json";
    let report = folder.run(full).code(0).json();
    assert_ne!(
        report["clones"][0]["identity"],
        report["clones"][1]["identity"]
    );
}

#[test]
fn a_farm_that_cannot_be_made_is_not_begun() {
    let folder = Folder::new();
    base(&folder, "base.vmdk", 1);
    folder
        .run("clone base.vmdk -o desk.vmdk --count 3")
        .code(2)
        .says("desk-{}.vmdk");
    folder
        .run("clone base.vmdk -o desk-{}.vmdk --count 0")
        .code(2);
    folder.write("desk-3.vmdk", b"precious");
    folder
        .run("clone base.vmdk -o desk-{}.vmdk --count 3")
        .code(2)
        .says("desk-3.vmdk: output: exists already");
    assert_eq!(folder.names(), ["base.vmdk", "desk-3.vmdk"]);
    assert_eq!(folder.read("desk-3.vmdk"), b"precious");
    folder
        .run("clone base.vmdk -o desk-{}.vmdk --count 3 --force")
        .code(0);
    folder.run("chain .").code(0);
}

#[test]
fn a_writable_parent_is_warned_of() {
    let folder = Folder::new();
    base(&folder, "base.vmdk", 1);
    let warning = "warning: base.vmdk: can be written to";
    let ran = folder
        .run("clone base.vmdk -o a.vmdk")
        .code(0)
        .says(warning);
    assert!(ran.err.contains("chmod a-w base.vmdk"), "{ran:#?}");
    fs::set_permissions(folder.path("base.vmdk"), fs::Permissions::from_mode(0o444)).unwrap();
    let ran = folder.run("clone base.vmdk -o b.vmdk").code(0);
    assert!(!ran.err.contains("can be written"), "{ran:#?}");
    // Nobody relies on the source of a full copy.
    let ran = folder.run("clone a.vmdk -o c.vmdk --full").code(0);
    assert!(!ran.err.contains("can be written"), "{ran:#?}");
}

#[test]
fn clones_of_clones_of_clones_read_the_same_in_qemu() {
    let folder = Folder::new();
    let bytes = base(&folder, "base.vmdk", 1);
    for (parent, child) in [("base", "one"), ("one", "two"), ("two", "three")] {
        folder
            .run(&format!("clone {parent}.vmdk -o {child}.vmdk -q"))
            .code(0);
    }
    folder
        .run("chain three.vmdk")
        .code(0)
        .prints("not under the paths given");
    assert!(folder.contents("three.vmdk") == bytes);
    if let Some(qemu) = Qemu::find() {
        let found = qemu.sha256(&folder.path(""), "vmdk", "three.vmdk");
        assert_eq!(found, support::sha256(&bytes));
    }
}
