//! Reports on fingerprints, of any machine and of any quality.

use super::{
    MIB,
    run::{Folder, noise},
};
use serde_json::Value;
use std::fs;
use vdisk_core::ops::dedup::{Block, Content, Fingerprint};
use vdisk_fingerprints::{self as prints, FileStamp, Header, Writer};

/// What a file says, of a disk with `blocks` blocks.
fn header(host: &str, path: &str, blocks: u64) -> Header {
    Header {
        host: host.to_owned(),
        path: path.to_owned(),
        image: true,
        format: "raw".to_owned(),
        layers: 1,
        size: blocks * 4096,
        unit: 4096,
        files: vec![FileStamp {
            path: path.to_owned(),
            allocated: blocks * 4096,
            inode: blocks,
            ..FileStamp::default()
        }],
        ..Header::default()
    }
    .named()
}

/// Writes a file in which block `n` holds `contents[n]`; nothing where that is `None`.
fn write(folder: &Folder, to: &str, header: Header, contents: &[Option<u8>]) -> Header {
    let mut to = prints::Folder::open(&folder.path(to), true).unwrap();
    let mut writer = Writer::create(&to, header).unwrap();
    for (pos, byte) in (0..).step_by(4096).zip(contents) {
        let content = match byte {
            None => continue,
            Some(0) => Content::Zero,
            Some(byte) => Content::Data {
                print: Fingerprint::of(&[*byte]),
                deflated: None,
            },
        };
        writer
            .add(&[Block {
                pos,
                len: 4096,
                content,
            }])
            .unwrap();
    }
    writer.finish(&mut to).unwrap().0
}

fn names<'a>(report: &'a Value, list: &str) -> Vec<&'a str> {
    let all = report[list].as_array().unwrap();
    all.iter()
        .map(|one| one["path"].as_str().unwrap())
        .collect()
}

/// The same path on two machines can be one file, and a child cannot name a base elsewhere.
#[test]
fn clusters_stay_on_one_machine() {
    let folder = Folder::new();
    let full: Vec<_> = (0..512u32)
        .map(|n| Some(u8::try_from(n % 250 + 1).unwrap()))
        .collect();
    for (host, path, inode) in [
        ("east", "/vm/a.raw", 1),
        ("west", "/vm/a.raw", 2),
        ("west", "/vm/b.raw", 3),
        // Another name of the one before.
        ("west", "/vm/c.raw", 3),
    ] {
        let mut header = header(host, path, 512);
        header.allocated = 512 * 4096;
        header.files[0].inode = inode;
        write(&folder, "prints", header.named(), &full);
    }
    let report = folder
        .run("dedup-report --from prints --json")
        .code(0)
        .json();
    let clusters = report["clusters"].as_array().unwrap();
    assert_eq!(clusters.len(), 1, "{clusters:#?}");
    let (base, members) = (
        &clusters[0]["base"],
        clusters[0]["members"].as_array().unwrap(),
    );
    for name in members.iter().chain([base]) {
        assert!(name.as_str().unwrap().starts_with("west:/vm/"), "{name}");
    }
    let commands = clusters[0]["commands"].as_array().unwrap();
    assert_eq!(commands[0], "# on west");
    assert_eq!(commands.len(), 1 + members.len());
    let linked = |name: &serde_json::Value| name != "west:/vm/a.raw";
    assert!(
        !linked(base) || !members.iter().any(linked),
        "{clusters:#?}"
    );
}

#[test]
fn several_machines_make_one_farm() {
    let folder = Folder::new();
    let full: Vec<_> = (1..=8).map(Some).collect();
    write(&folder, "one", header("east", "/vm/a.raw", 8), &full);
    write(&folder, "one", header("west", "/vm/a.raw", 8), &full);
    write(
        &folder,
        "two",
        header("west", "/vm/b.raw", 4),
        &[Some(9), Some(0), Some(1), Some(1)],
    );
    let run = folder
        .run("dedup-report --from one --from two --json")
        .code(0);
    let report = run.json();
    let mut found = names(&report, "images");
    found.sort_unstable();
    assert_eq!(
        found,
        ["east:/vm/a.raw", "west:/vm/a.raw", "west:/vm/b.raw"]
    );
    let total = &report["total"];
    assert_eq!(total["total_bytes"], 20 * 4096);
    assert_eq!(total["unique_bytes"], 9 * 4096);
    assert_eq!(total["zero_bytes"], 4096);
    assert_eq!(total["allocated_bytes"], 20 * 4096);
    // A copy of a file is not another image.
    fs::create_dir(folder.path("copy")).unwrap();
    for file in fs::read_dir(folder.path("one")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path("copy").join(file.file_name())).unwrap();
    }
    let again = folder
        .run("dedup-report --from one --from two --from copy --json")
        .code(0)
        .json();
    assert_eq!(again["total"], report["total"]);
    // With one machine there is no need to name it.
    let report = folder.run("dedup-report --from two --json").code(0).json();
    assert_eq!(names(&report, "images"), ["/vm/b.raw"]);
}

#[test]
fn children_show_their_parents_blocks() {
    let folder = Folder::new();
    let base = Header {
        image: false,
        ..header("h", "/vm/base.raw", 1024)
    };
    let base = write(&folder, "fp", base, &[Some(7); 1024]);
    let child = |path: &str, parent: &Header, blocks| {
        Header {
            parent: Some(parent.id.clone()),
            ..header("h", path, blocks)
        }
        .named()
    };
    let one = write(
        &folder,
        "fp",
        child("/vm/one.raw", &base, 1024),
        &[Some(8), Some(0)],
    );
    write(
        &folder,
        "fp",
        child("/vm/two.raw", &one, 1025),
        &[None, Some(7)],
    );
    // A base that nothing lies over, and is no image, is not counted.
    let idle = Header {
        image: false,
        ..header("h", "/vm/idle.raw", 512)
    };
    write(&folder, "fp", idle, &[Some(1); 512]);
    let report = folder.run("dedup-report --from fp --json").code(0).json();
    assert_eq!(names(&report, "images"), ["/vm/one.raw", "/vm/two.raw"]);
    let [one, two] = [&report["images"][0], &report["images"][1]];
    assert_eq!((&one["layers"], &two["layers"]), (&2.into(), &3.into()));
    assert_eq!(one["zero_bytes"], 4096);
    assert_eq!(one["data_bytes"], 1023 * 4096);
    assert_eq!(two["zero_bytes"], 4096); // past the end of its parent
    assert_eq!(two["data_bytes"], 1024 * 4096);
    assert_eq!(report["total"]["unique_bytes"], 2 * 4096);
}

#[test]
fn what_does_not_fit_together_is_left_out() {
    let folder = Folder::new();
    let id = "0123456789abcdef".repeat(2);
    write(
        &folder,
        "fp",
        header("h", "/good.raw", 2),
        &[Some(1), Some(1)],
    );
    let orphan = Header {
        parent: Some(id),
        ..header("h", "/orphan.raw", 2)
    }
    .named();
    let orphan = write(&folder, "fp", orphan, &[]);
    let over = Header {
        parent: Some(orphan.id),
        ..header("h", "/over.raw", 2)
    };
    write(&folder, "fp", over.named(), &[]);
    let base = write(
        &folder,
        "fp",
        header("h", "/base.raw", 2),
        &[Some(2), Some(0)],
    );
    let odd = Header {
        parent: Some(base.id),
        ..header("h", "/odd.raw", 3)
    };
    write(&folder, "fp", odd.named(), &[]);
    // Two that each claim to lie over the other.
    let ids = ["1", "2"].map(|digit| digit.repeat(32));
    for (own, other) in [(0, 1), (1, 0)] {
        let loops = Header {
            id: ids[own].clone(),
            parent: Some(ids[other].clone()),
            ..header("h", &format!("/loop{own}.raw"), 2)
        };
        write(&folder, "fp", loops, &[]);
    }
    // Another state of an image, in another folder.
    let mut old = header("h", "/good.raw", 2);
    old.files[0].modified = 1;
    write(&folder, "old", old.named(), &[Some(3), Some(3)]);
    // Damaged in the rows, and no fingerprints at all.
    write(
        &folder,
        "fp",
        header("h", "/damaged.raw", 2),
        &[Some(4), Some(5)],
    );
    let damaged = fs::read_dir(folder.path("fp"))
        .unwrap()
        .map(|e| e.unwrap().path());
    let damaged = damaged
        .into_iter()
        .find(|p| p.to_string_lossy().contains("damaged"))
        .unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[50] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    fs::write(folder.path("fp/other.parquet"), b"PAR1 no Parquet").unwrap();

    let run = folder
        .run("dedup-report --from fp --from old --json")
        .code(1);
    let report = run.json();
    assert_eq!(report["complete"], false);
    let total = &report["total"];
    assert_eq!(total["total_bytes"], 4 * 4096); // good.raw and base.raw
    assert_eq!(total["unique_bytes"], 2 * 4096);
    assert_eq!(total["once_bytes"], 4096);
    let errors: Vec<_> = report["errors"].as_array().unwrap().iter().collect();
    let says = |path: &str| {
        let of = errors
            .iter()
            .filter(|e| e["path"].as_str().unwrap().ends_with(path));
        let found: Vec<&str> = of.map(|e| e["error"].as_str().unwrap()).collect();
        assert_eq!(found.len(), 1, "{path}: {errors:#?}");
        assert!(run.err.contains(path), "{path}: {}", run.err);
        found[0].to_owned()
    };
    assert!(says("/orphan.raw").contains("its parent's fingerprints are not there"));
    assert!(says("/over.raw").contains("parent"));
    assert!(says("/odd.raw").contains("another size"));
    assert!(says("/loop0.raw").contains("parents") && says("/loop1.raw").contains("parents"));
    assert!(says("/good.raw").contains("an earlier state of /good.raw"));
    assert!(says("/damaged.raw").contains("do not match their digest"));
    assert!(says("other.parquet").contains("footer"));
    assert_eq!(errors.len(), 8, "{errors:#?}");
}

#[test]
fn a_folder_has_blocks_of_one_size() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("dedup-report a.raw --cache fp").code(0);
    for verb in ["fingerprint a.raw -o fp", "dedup-report a.raw --cache fp"] {
        folder
            .run(&format!("{verb} --block-size 6K"))
            .code(2)
            .says("fp: holds fingerprints of blocks of 4 KiB; use another folder for 6 KiB");
        folder.run(verb).code(0);
    }
    folder.run("dedup-report --from fp").code(0);
}

#[test]
fn nothing_found_is_an_error() {
    let folder = Folder::new();
    for name in ["empty", "notes", "full"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    folder.write("notes/note.txt", b"no image");
    folder.write("full/broken.vmdk", b"KDMV");
    for verb in ["dedup-report", "fingerprint -o fp"] {
        for name in ["empty", "notes"] {
            folder
                .run(&format!("{verb} {name}"))
                .code(2)
                .says(&format!("{name}: no images found"));
        }
        folder
            .run(&format!("{verb} full"))
            .code(1)
            .says("full/broken.vmdk")
            .says("none of the images could be read");
    }
    folder
        .run("dedup-report --from empty --from fp")
        .code(2)
        .says("empty, fp: no fingerprints there; vdisk fingerprint makes them");
}

#[test]
fn shared_storage_is_warned_of() {
    let folder = Folder::new();
    for host in ["east", "west"] {
        for (path, blocks) in [("/vm/a.raw", 8), ("/vm/b.raw", 4)] {
            let contents: Vec<_> = (0..blocks).map(|_| Some(1)).collect();
            write(&folder, host, header(host, path, blocks), &contents);
        }
    }
    let warning = "east:/vm/a.raw and west:/vm/a.raw look like one file on shared storage, counted twice; other such pairs: 1";
    folder
        .run("dedup-report --from east --from west")
        .code(0)
        .says(warning);
    let run = folder.run("dedup-report --from east").code(0);
    assert_eq!(run.err, "");
}

/// The names of the files begin with those of the images, not with their folders'.
#[test]
fn images_are_in_the_order_of_their_names() {
    let folder = Folder::new();
    let paths = ["/a/z.raw", "/b/a.raw", "/b/b/c.raw", "/c.raw"];
    for (blocks, path) in (1..).zip(paths) {
        let contents: Vec<_> = (0..blocks).map(|_| Some(1)).collect();
        write(&folder, "fp", header("h", path, blocks), &contents);
    }
    let report = folder.run("dedup-report --from fp --json").code(0).json();
    assert_eq!(names(&report, "images"), paths);
}

#[test]
fn blocks_of_several_sizes_are_no_farm() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("fingerprint a.raw -o fp").code(0);
    folder
        .run("fingerprint a.raw -o fine --block-size 512")
        .code(0);
    folder
        .run("dedup-report --from fp --from fine")
        .code(2)
        .says("blocks of 512 bytes (in fine) and of 4 KiB (in fp)")
        .says("--block-size");
    folder
        .run("dedup-report --from nowhere")
        .code(2)
        .says("nowhere");
}
