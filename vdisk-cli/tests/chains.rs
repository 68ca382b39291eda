//! Verbs on VMDK, VHD and VHDX: children, chains, siblings, moved and changed parents.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;

use run::{Folder, noise};
use std::process::Stdio;

const SIZE: usize = 4 << 20;
/// The formats that can have children.
const FORMATS: [&str; 3] = ["vmdk", "vhd", "vhdx"];

/// A base in `format`, and its contents.
fn base(folder: &Folder, format: &str) -> Vec<u8> {
    let mut bytes = noise(1, SIZE / 2);
    bytes.resize(SIZE, 0);
    folder.write("base.raw", &bytes);
    folder
        .run(&format!("convert base.raw -o base.{format}"))
        .code(0);
    bytes
}

/// Makes `name`.`format`, a child of `parent` that has `text` at `at`, and returns its contents.
fn child(
    folder: &Folder,
    format: &str,
    parent: &str,
    name: &str,
    at: usize,
    text: &[u8],
) -> Vec<u8> {
    let mut bytes = folder.contents(&format!("{parent}.{format}"));
    bytes[at..at + text.len()].copy_from_slice(text);
    folder.write(&format!("{name}.raw"), &bytes);
    folder
        .run(&format!(
            "diff {parent}.{format} {name}.raw -o {name}.{format}"
        ))
        .code(0);
    bytes
}

#[test]
fn formats_convert_into_each_other() {
    let folder = Folder::new();
    let bytes = base(&folder, "vmdk");
    for (output, subformat) in [
        ("a.vmdk", "monolithicSparse"),
        ("b.vmdk", "streamOptimized"),
        ("c.vhd", "dynamic"),
        ("d.vhd", "fixed"),
        ("e.vhdx", "dynamic"),
        ("f.vhdx", "fixed"),
    ] {
        let json = folder
            .run(&format!(
                "convert base.vmdk -o {output} --subformat {subformat} --json"
            ))
            .code(0)
            .json();
        assert_eq!(json["subformat"], subformat);
        assert!(json["identity"].is_string());
        assert_eq!(folder.contents(output), bytes, "{output}");
        folder.run(&format!("diff base.vmdk {output}")).code(0);
        let info = folder.run(&format!("info {output} --json")).code(0).json();
        assert_eq!(info["virtual_size"], SIZE);
        assert_eq!(info["identity"], json["identity"]);
    }
    // Standard output takes the variant that can be written in order.
    folder
        .shell("\"$V\" convert base.vmdk -o - --format vmdk > pipe.vmdk")
        .code(0);
    assert_eq!(folder.contents("pipe.vmdk"), bytes);
    let map = folder.run("map pipe.vmdk --json").code(0).json();
    assert_eq!(map[0]["compressed"], true);
    assert_eq!(map[0].get("offset"), None);
    folder.run("map pipe.vmdk").code(0).prints("compressed");
}

#[test]
fn a_clone_reads_as_its_parent_and_never_writes_to_it() {
    for format in FORMATS {
        let folder = Folder::new();
        let bytes = base(&folder, format);
        let before = folder.read(&format!("base.{format}"));
        let json = folder
            .run(&format!("clone base.{format} -o c.{format} --json"))
            .code(0)
            .json();
        assert_eq!(json["full"], false);
        assert_eq!(json["parent"], format!("base.{format}"));
        assert!(json["stored_size"].as_u64().unwrap() < 128 << 10);
        folder
            .run(&format!("clone c.{format} -o cc.{format}"))
            .code(0);
        assert_eq!(folder.contents(&format!("cc.{format}")), bytes);
        let info = folder
            .run(&format!("info cc.{format} --json"))
            .code(0)
            .json();
        assert_eq!(info["chain"].as_array().unwrap().len(), 3);
        assert_eq!(info["complete"], true);
        assert_eq!(info["files"][1]["role"], "parent");
        // Everything shared: nothing had to be read.
        let diff = folder
            .run(&format!("diff base.{format} cc.{format} --json"))
            .code(0)
            .json();
        assert_eq!(diff["compared_bytes"], 0);
        folder
            .run(&format!("clone --full cc.{format} -o full.{format}"))
            .code(0);
        let info = folder
            .run(&format!("info full.{format} --json"))
            .code(0)
            .json();
        assert_eq!(info["chain"].as_array().unwrap().len(), 1);
        assert_eq!(folder.read(&format!("base.{format}")), before);
    }
}

#[test]
fn a_raw_disk_can_have_vhd_children() {
    let folder = Folder::new();
    let bytes = base(&folder, "vhd");
    folder.run("clone base.raw -o c.vhd").code(0);
    assert_eq!(folder.contents("c.vhd"), bytes);
}

#[test]
fn parents_of_another_format_are_refused() {
    let folder = Folder::new();
    base(&folder, "vmdk");
    base(&folder, "vhd");
    folder
        .run("clone base.vmdk -o c.vhd")
        .code(2)
        .says("a VHD child needs a VHD or raw parent");
    folder
        .run("clone base.vhd -o c.vmdk")
        .code(2)
        .says("a VMDK child needs a VMDK parent");
    for parent in ["base.vhd", "base.vmdk", "base.raw"] {
        folder
            .run(&format!("clone {parent} -o c.vhdx"))
            .code(2)
            .says("a VHDX child needs a VHDX parent");
    }
    folder
        .run("clone base.vmdk -o c.vmdk --subformat streamOptimized")
        .code(2)
        .says("streamOptimized cannot be a child");
    folder
        .run("convert base.raw -o c.vhd --subformat differencing")
        .code(2);
    assert!(
        !folder
            .names()
            .iter()
            .any(|n| n.starts_with("c.") || n.starts_with('.'))
    );
}

#[test]
fn a_delta_reads_as_the_second_disk() {
    for format in FORMATS {
        let folder = Folder::new();
        base(&folder, format);
        let wanted = child(&folder, format, "base", "a", 3_000_000, b"changed");
        assert_eq!(folder.contents(&format!("a.{format}")), wanted);
        let json = folder
            .run(&format!(
                "diff base.{format} a.raw -o again.{format} --json"
            ))
            .code(0)
            .json();
        assert_eq!(json["delta"]["output"], format!("again.{format}"));
        let recorded = json["delta"]["recorded_bytes"].as_u64().unwrap();
        assert!((512..=65536).contains(&recorded), "{recorded}");
        assert_eq!(json.get("equal"), None);
        folder
            .run(&format!(
                "diff base.{format} base.{format} -o none.{format}"
            ))
            .code(0)
            .prints("0 bytes recorded");
        folder
            .run(&format!(
                "diff base.{format} a.raw -o base.{format} --force"
            ))
            .code(2)
            .says("is also an input");
    }
}

#[test]
fn a_chain_composes_to_its_top() {
    for format in FORMATS {
        let folder = Folder::new();
        base(&folder, format);
        child(&folder, format, "base", "a", 5000, b"apps");
        let top = child(&folder, format, "a", "u", 9000, b"user");
        let json = folder
            .run(&format!(
                "compose base.{format} a.{format} u.{format} -o c.raw --json"
            ))
            .code(0)
            .json();
        assert_eq!(json["arrangement"], "chain");
        assert_eq!(json["layers"][0]["path"], format!("base.{format}"));
        assert_eq!(folder.read("c.raw"), top);
        // The middle one is found through its child's base; a missing one is not guessed.
        folder
            .run(&format!("compose base.{format} u.{format} -o d.raw"))
            .code(2)
            .says("a layer is missing");
        folder
            .run(&format!(
                "compose base.{format} u.{format} a.{format} -o d.raw"
            ))
            .code(2)
            .says("must come before it");
        folder
            .run(&format!("compose u.{format} a.{format} -o d.raw"))
            .code(2)
            .says("must come before it");
        std::fs::copy(
            folder.path(&format!("base.{format}")),
            folder.path(&format!("copy.{format}")),
        )
        .unwrap();
        folder
            .run(&format!("compose u.{format} copy.{format} -o d.raw"))
            .code(2)
            .says("must come before it");
        folder
            .run(&format!(
                "compose base.{format} a.{format} -o base.{format} --force"
            ))
            .code(2)
            .says("is also an input");
        folder
            .run(&format!(
                "compose base.{format} a.{format} --plan --prefer a.{format}"
            ))
            .code(0)
            .says("--prefer has no effect");
        assert!(!folder.names().contains(&"d.raw".to_owned()));
    }
}

#[test]
fn siblings_merge_or_conflict() {
    for format in FORMATS {
        let folder = Folder::new();
        let bytes = base(&folder, format);
        let compose = |rest: &str| folder.run(&format!("compose base.{format} {rest}"));
        child(&folder, format, "base", "x", 5000, b"xxxx");
        child(&folder, format, "base", "y", 3_000_000, b"yyyy");
        let z = child(&folder, format, "base", "z", 5000, b"zzzz");
        compose(&format!("x.{format} y.{format} -o xy.{format}")).code(0);
        let mut merged = bytes.clone();
        merged[5000..5004].copy_from_slice(b"xxxx");
        merged[3_000_000..3_000_004].copy_from_slice(b"yyyy");
        assert_eq!(folder.contents(&format!("xy.{format}")), merged);
        compose(&format!("x.{format} z.{format} -o xz.{format}"))
            .code(3)
            .prints(&format!(
                "conflict within 4608-5120: 512 bytes of x.{format}, z.{format}"
            ));
        assert!(!folder.names().iter().any(|n| n.contains("xz")));
        compose(&format!(
            "x.{format} z.{format} -o xz.{format} --prefer z.{format}@4K-6K"
        ))
        .code(0);
        assert_eq!(folder.contents(&format!("xz.{format}")), z);
        // A larger block: two changes within one collide.
        compose(&format!("x.{format} y.{format} --plan --granularity 1M")).code(0);
        child(&folder, format, "base", "n", 6000, b"near");
        compose(&format!("x.{format} n.{format} --plan")).code(0);
        compose(&format!("x.{format} n.{format} --plan --granularity 4K")).code(3);
    }
}

#[test]
fn a_broken_chain_is_shown_and_exits_1() {
    for format in FORMATS {
        let folder = Folder::new();
        base(&folder, format);
        folder
            .run(&format!("clone base.{format} -o c.{format}"))
            .code(0);
        // Another image in the parent's place.
        folder
            .run(&format!("convert base.raw -o base.{format} --force"))
            .code(0);
        let json = folder
            .run(&format!("info c.{format} --json"))
            .code(1)
            .json();
        assert_eq!(json["complete"], false);
        assert!(json["verdict"].as_str().unwrap().contains("it was changed"));
        folder
            .run(&format!("hash c.{format}"))
            .code(2)
            .says("hint: restore the parent");
        std::fs::remove_file(folder.path(&format!("base.{format}"))).unwrap();
        folder
            .run(&format!("info c.{format}"))
            .code(1)
            .prints("was not found");
    }
}

#[test]
fn a_parent_elsewhere_needs_permission() {
    for format in FORMATS {
        let folder = Folder::new();
        let bytes = base(&folder, format);
        std::fs::create_dir(folder.path("sub")).unwrap();
        folder
            .run(&format!("clone base.{format} -o sub/c.{format}"))
            .code(0)
            .says("opening it will need --allow-path or --parent");
        let image = format!("sub/c.{format}");
        folder
            .run(&format!("hash {image}"))
            .code(3)
            .says("lies outside the folders it may come from")
            .says("hint: --allow-path DIR or --parent FILE");
        folder.run(&format!("info {image}")).code(1);
        folder.run(&format!("hash {image} --allow-path .")).code(0);
        for (none, why) in [("nothere", "no such folder"), (&image, "not a folder")] {
            folder
                .run(&format!("hash {image} --allow-path {none}"))
                .code(2)
                .says(why);
        }
        folder
            .run(&format!("hash {image} --parent base.{format}"))
            .code(0);
        let args = format!("{image} --allow-path .");
        assert_eq!(folder.contents(&args), bytes);
        // A parent beneath the child's folder needs none.
        std::fs::rename(
            folder.path(&format!("base.{format}")),
            folder.path(&format!("sub/base.{format}")),
        )
        .unwrap();
        let ran = folder
            .run(&format!("clone sub/base.{format} -o d.{format}"))
            .code(0);
        assert!(!ran.err.contains("lies outside"), "{ran:#?}");
        assert_eq!(folder.contents(&format!("d.{format}")), bytes);
    }
}

#[test]
fn an_absolute_path_is_recorded_only_on_request() {
    for format in FORMATS {
        let folder = Folder::new();
        base(&folder, format);
        let here = folder.path("").canonicalize().unwrap();
        let here = here.to_str().unwrap().to_owned();
        // VHD writes paths as UTF-16, with backslashes.
        let wide = here.replace('/', "\\");
        let wide: Vec<u8> = wide.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let names_it = |image: &str| {
            let bytes = folder.read(image);
            let holds = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
            holds(here.as_bytes()) || holds(&wide)
        };
        folder
            .run(&format!("clone base.{format} -o a.{format}"))
            .code(0);
        assert!(!names_it(&format!("a.{format}")), "{format}");
        folder
            .run(&format!(
                "clone base.{format} -o b.{format} --absolute-parent"
            ))
            .code(0);
        assert!(names_it(&format!("b.{format}")), "{format}");
        folder.run(&format!("hash b.{format}")).code(0);
    }
}

#[test]
fn reproducible_images_are_the_same_bytes() {
    for format in FORMATS {
        let mut made: Vec<Vec<Vec<u8>>> = Vec::new();
        for threads in ["1", "3"] {
            let folder = Folder::new();
            base(&folder, "vmdk");
            let run = |args: &str| folder.run(&format!("{args} --threads {threads}")).code(0);
            run(&format!("convert base.vmdk -o r.{format} --reproducible"));
            run(&format!("create e.{format} --size 1T --reproducible"));
            made.push(
                [format!("r.{format}"), format!("e.{format}")]
                    .map(|n| folder.read(&n))
                    .into(),
            );
            let status = folder
                .command(&format!("clone r.{format} -o k.{format}"))
                .env("SOURCE_DATE_EPOCH", "1700000000")
                .stdout(Stdio::null())
                .status();
            assert!(status.unwrap().success());
            let ids = folder.run(&format!("info k.{format} --json")).json();
            made.push(vec![ids["identity"].to_string().into_bytes()]);
        }
        assert!(made[0] == made[2] && made[1] == made[3], "{format}");
    }
}

#[test]
fn dedup_report_sees_through_formats_and_counts_extents_once() {
    let folder = Folder::new();
    base(&folder, "vmdk");
    folder.run("convert base.raw -o a.vhd").code(0);
    folder.write("broken.vmdk", &folder.read("base.vmdk")[..512]);
    let json = folder.run("dedup-report . --json").code(1).json();
    assert_eq!(json["images"].as_array().unwrap().len(), 3);
    assert_eq!(json["errors"][0]["path"], "./broken.vmdk");
    assert_eq!(json["total"]["unique_bytes"], SIZE / 2);
    assert_eq!(json["total"]["duplicate_bytes"], SIZE);
    // A flat disk is one image, not two.
    let flat = Folder::new();
    flat.write("disk-flat.vmdk", &noise(1, 1 << 20));
    flat.write("data.raw", &noise(2, 1 << 20));
    let descriptor = |extent: &str| {
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
             createType=\"monolithicFlat\"\n\nRW 2048 FLAT \"{extent}\" 0\n"
        )
    };
    flat.write("disk.vmdk", descriptor("disk-flat.vmdk").as_bytes());
    flat.write("other.vmdk", descriptor("data.raw").as_bytes());
    let json = flat.run("dedup-report . --json").code(0).json();
    let images = json["images"].as_array().unwrap();
    let paths: Vec<_> = images.iter().map(|i| i["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["./disk.vmdk", "./other.vmdk"]);
    assert_eq!(json["skipped"], 2);
    let info = flat.run("info disk.vmdk --files --json").code(0).json();
    assert_eq!(info["files"][1]["role"], "extent");
    flat.run("info disk.vmdk --files")
        .code(0)
        .prints("  extent         ");
    // The extent is an input too.
    flat.run("convert disk.vmdk -o disk-flat.vmdk --force")
        .code(2)
        .says("is also an input");
}

#[test]
fn a_corrupt_image_exits_4() {
    let folder = Folder::new();
    base(&folder, "vmdk");
    folder.write("cut.vmdk", &folder.read("base.vmdk")[..70_000]);
    folder
        .run("hash cut.vmdk")
        .code(4)
        .says("error: cut.vmdk: ");
}

#[test]
fn a_signal_during_a_write_leaves_nothing() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(3, 96 << 20));
    let slow = "convert a.raw -o out.vmdk --subformat streamOptimized --level 9 --threads 1";
    assert_eq!(folder.interrupt(slow, "-INT"), Some(130));
    assert_eq!(folder.names(), ["a.raw"]);
}

/// A disk of 4 KiB sectors stays one: what addresses sectors in it, such as its partition table,
/// would mean other places.
#[test]
fn sectors_of_4_kib_stay_what_they_are() {
    use vdisk_core::{Ids, format};
    let folder = Folder::new();
    let vhdx = format::named("vhdx").unwrap();
    let spec = format::Spec {
        size: 8 << 20,
        subformat: format::subformat(vhdx, None).unwrap(),
        name: "base.vhdx",
        ids: Ids::random(0),
        level: 6,
        parent: None,
        options: format::Options {
            sector_size: Some(4096),
            ..format::Options::default()
        },
    };
    let mut file: Vec<u8> = Vec::new();
    let mut writer = vhdx.create(&mut file, &spec).unwrap();
    writer.data(4096..8192, &[7; 4096]).unwrap();
    writer.finish().unwrap();
    folder.write("base.vhdx", &file);
    folder.run("convert base.vhdx -o copy.vhdx").code(0);
    folder.run("clone base.vhdx -o child.vhdx").code(0);
    for name in ["copy.vhdx", "child.vhdx"] {
        let info = folder.run(&format!("info {name} --json")).code(0).json();
        assert!(
            info.to_string().contains("\"4096 bytes\""),
            "{name}: {info}"
        );
        assert!(
            !info.to_string().contains("\"512 bytes\""),
            "{name}: {info}"
        );
        let read = folder.contents(name);
        assert!(read[..4096].iter().all(|b| *b == 0) && read[4096..8192] == [7; 4096]);
    }
}
