//! Every verb on raw images: text, JSON, exit codes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;

use run::{Folder, noise};
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;

/// 64 KiB of data, then a hole up to 1 MiB.
fn disk(folder: &Folder, name: &str) -> Vec<u8> {
    let data = noise(1, 64 << 10);
    folder.write(name, &data);
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path(name))
        .unwrap();
    file.set_len(MIB as u64).unwrap();
    let mut all = data;
    all.resize(MIB, 0);
    all
}

fn changed(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn info_shows_what_an_image_is() {
    let folder = Folder::new();
    disk(&folder, "a.raw");
    folder
        .run("info a.raw --files")
        .code(0)
        .prints("virtual size:      1 MiB (1048576 bytes)")
        .prints("verdict:           needs no parent; contents not read")
        .prints("  image          a.raw: ");
    let json = folder.run("info a.raw --json").code(0).json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["format"], "raw");
    assert_eq!(json["virtual_size"], MIB);
    assert_eq!(json["identity"], serde_json::Value::Null);
    assert_eq!(json["complete"], true);
    assert_eq!(json["chain"].as_array().unwrap().len(), 1);
    assert_eq!(json["files"][0]["role"], "image");
}

#[test]
fn an_odd_size_is_a_warning() {
    let folder = Folder::new();
    folder.write("odd.raw", &[1; 700]);
    folder.run("info odd.raw").code(0).prints("warning: ");
    folder
        .run("hash odd.raw")
        .code(0)
        .says("warning: odd.raw: ");
    let quiet = folder.run("hash odd.raw --quiet").code(0);
    assert_eq!(quiet.err, "");
}

#[test]
fn map_tells_data_from_zeros() {
    let folder = Folder::new();
    disk(&folder, "a.raw");
    folder
        .run("map a.raw")
        .code(0)
        .prints("data")
        .prints("zero");
    let json = folder.run("map a.raw --json").code(0).json();
    let map = json.as_array().unwrap();
    let mut end = 0;
    for e in map {
        assert_eq!(e["schema"], 1);
        assert_eq!(e["start"], end);
        end += e["length"].as_u64().unwrap();
        assert_ne!(e["zero"], e["data"]);
        assert_eq!(e["present"], e["data"]);
        assert_eq!(e["compressed"], false);
        assert_eq!(e.get("offset").is_some(), e["data"] == true);
    }
    assert_eq!(end, MIB as u64);
    assert_eq!(map[0]["file"], "a.raw");
    assert_eq!(map[0]["offset"], 0);
}

#[test]
fn the_map_of_an_empty_disk_is_an_empty_array() {
    let folder = Folder::new();
    folder.write("none.raw", &[]);
    let json = folder.run("map none.raw --json").code(0).json();
    assert_eq!(json, serde_json::json!([]));
}

#[test]
fn convert_copies() {
    let folder = Folder::new();
    let bytes = disk(&folder, "a.raw");
    folder
        .run("convert a.raw -o b.raw")
        .code(0)
        .prints("a.raw -> b.raw: raw sparse, 1 MiB");
    assert_eq!(folder.read("b.raw"), bytes);
    let json = folder.run("convert a.raw -o c.img --json").code(0).json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["input"], "a.raw");
    assert_eq!(json["output"], "c.img");
    assert_eq!(json["format"], "raw");
    assert_eq!(json["subformat"], "sparse");
    assert_eq!(json["virtual_size"], MIB);
    let stored = json["stored_size"].as_u64().unwrap();
    assert!(stored < 256 << 10, "holes were written: {stored}");
    let quiet = folder.run("convert a.raw -o d.raw -q").code(0);
    assert_eq!((quiet.out, quiet.err), (String::new(), String::new()));
}

#[test]
fn mmap_threads_and_no_sync_change_nothing() {
    let folder = Folder::new();
    let bytes = disk(&folder, "a.raw");
    folder
        .run("convert a.raw -o b.raw --mmap --threads 1 --no-sync")
        .code(0);
    assert_eq!(folder.read("b.raw"), bytes);
    folder.run("hash a.raw --threads 0").code(2);
}

#[test]
fn standard_output_takes_an_image_and_nothing_else() {
    let folder = Folder::new();
    let bytes = disk(&folder, "a.raw");
    assert_eq!(folder.contents("a.raw"), bytes);
    folder
        .run("convert a.raw -o - --json")
        .code(0)
        .says("\"output\": \"-\"");
    folder
        .run("convert a.raw -o - --format vhd --subformat dynamic")
        .code(2)
        .says(
            "cannot be written to standard output; VMDK (streamOptimized), VHD (fixed) or raw can",
        );
}

#[test]
fn create_makes_an_empty_disk() {
    let folder = Folder::new();
    folder
        .run("create a.raw --size 1.5M")
        .code(0)
        .prints("a.raw: raw sparse, 1.5 MiB");
    assert_eq!(folder.read("a.raw"), vec![0; 3 * MIB / 2]);
    let json = folder.run("create b.raw --size 512 --json").code(0).json();
    assert_eq!(json["virtual_size"], 512);
    assert_eq!(json["schema"], 1);
    for size in ["0", "1000", "10KB", "9P", "99999999999999999999"] {
        folder.run(&format!("create c.raw --size {size}")).code(2);
    }
    assert!(!folder.names().contains(&"c.raw".to_owned()));
}

#[test]
fn the_name_decides_the_format_and_an_unknown_one_needs_help() {
    let folder = Folder::new();
    folder
        .run("create a.disk --size 1M")
        .code(2)
        .says("vmdk (.vmdk), vhd (.vhd, .vpc), ");
    folder.run("create a.disk --size 1M --format raw").code(0);
    folder
        .run("create b.disk --size 1M --subformat sparse")
        .code(0);
    folder
        .run("create c.raw --size 1M --subformat nonsense")
        .code(2)
        .says("raw has no subformat 'nonsense'");
    folder
        .run("create c.raw --size 1M --format raw --subformat dynamic")
        .code(2)
        .says("raw has no subformat 'dynamic' that can be written; choose sparse");
    folder.run("create c.raw --size 1M --level 10").code(2);
}

#[test]
fn diff_lists_ranges_and_tells_by_its_exit_code() {
    let folder = Folder::new();
    let a = disk(&folder, "a.raw");
    folder.write("same.raw", &a);
    folder.write("b.raw", &changed(&changed(&a, 5000, b"x"), 700_000, b"y"));
    folder
        .run("diff a.raw same.raw")
        .code(0)
        .prints("the disks are the same");
    folder
        .run("diff a.raw b.raw")
        .code(1)
        .prints("            4608              512")
        .prints("1 KiB (1024 bytes) differ");
    let json = folder.run("diff a.raw b.raw --json").code(1).json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["equal"], false);
    assert_eq!(json["differing_bytes"], 1024);
    assert_eq!(json["ranges_truncated"], false);
    assert_eq!(
        json["ranges"],
        serde_json::json!([{"start": 4608, "length": 512}, {"start": 699_904, "length": 512}])
    );
    assert_eq!(json.get("delta"), None);
    let quiet = folder.run("diff a.raw b.raw --quiet").code(1);
    assert_eq!((quiet.out, quiet.err), (String::new(), String::new()));
}

#[test]
fn disks_of_other_sizes_differ() {
    let folder = Folder::new();
    let a = disk(&folder, "a.raw");
    folder.write("longer.raw", &[a, vec![0; 512]].concat());
    let json = folder.run("diff a.raw longer.raw --json").code(1).json();
    assert_eq!(json["equal"], false);
    assert_eq!(json["differing_bytes"], 0);
    folder
        .run("diff a.raw longer.raw")
        .code(1)
        .prints("a.raw has 1048576 bytes, longer.raw has 1049088 bytes");
}

#[test]
fn hash_is_that_of_the_raw_contents() {
    let folder = Folder::new();
    let bytes = disk(&folder, "a.raw");
    let hex: String = Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let ran = folder.run("hash a.raw").code(0);
    assert_eq!(ran.out, format!("{hex}  a.raw\n"));
    let json = folder.run("hash a.raw --json").code(0).json();
    assert_eq!(
        json,
        serde_json::json!({"schema": 1, "path": "a.raw", "sha256": hex, "virtual_size": MIB})
    );
}

#[test]
fn siblings_are_merged_where_they_do_not_collide() {
    let folder = Folder::new();
    let base = disk(&folder, "base.raw");
    folder.write("a.raw", &changed(&base, 5000, b"aaa"));
    folder.write("b.raw", &changed(&base, 500_000, b"bbb"));
    folder
        .run("compose base.raw a.raw b.raw --plan")
        .code(0)
        .prints("siblings of 3 layers")
        .prints("512 bytes  from b.raw");
    assert_eq!(folder.names(), ["a.raw", "b.raw", "base.raw"]);
    let json = folder
        .run("compose base.raw a.raw b.raw -o c.raw --json")
        .code(0)
        .json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["arrangement"], "siblings");
    assert_eq!(json["layers"][0]["path"], "base.raw");
    assert_eq!(
        json["layers"][2],
        serde_json::json!({"path": "b.raw", "bytes": 512})
    );
    assert_eq!(json["conflict_bytes"], 0);
    assert_eq!(json["written"]["output"], "c.raw");
    let merged = changed(&changed(&base, 5000, b"aaa"), 500_000, b"bbb");
    assert_eq!(folder.read("c.raw"), merged);
}

#[test]
fn conflicts_are_listed_and_nothing_is_written() {
    let folder = Folder::new();
    let base = disk(&folder, "base.raw");
    folder.write("a.raw", &changed(&base, 5000, b"aaa"));
    folder.write("b.raw", &changed(&base, 5000, b"bbb"));
    folder
        .run("compose base.raw a.raw b.raw -o c.raw")
        .code(3)
        .prints("conflict within 4608-5120: 512 bytes of a.raw, b.raw")
        .says("error: conflict: ")
        .says("hint: --prefer");
    folder.run("compose base.raw a.raw b.raw --plan").code(3);
    let json = folder
        .run("compose base.raw a.raw b.raw -o c.raw --json")
        .code(3)
        .json();
    assert_eq!(json["conflict_bytes"], 512);
    assert_eq!(json["written"], serde_json::Value::Null);
    assert_eq!(
        json["conflicts"],
        serde_json::json!([{
            "start": 4608, "length": 512, "bytes": 512, "layers": ["a.raw", "b.raw"], "winner": null
        }])
    );
    assert_eq!(folder.names(), ["a.raw", "b.raw", "base.raw"]);
}

#[test]
fn a_preference_settles_conflicts_in_its_range() {
    let folder = Folder::new();
    let base = disk(&folder, "base.raw");
    folder.write("a@1.raw", &changed(&base, 5000, b"aaa"));
    folder.write("b.raw", &changed(&base, 5000, b"bbb"));
    let compose = |rest: &str| folder.run(&format!("compose base.raw a@1.raw ./b.raw {rest}"));
    compose("-o 1.raw --prefer b.raw").code(0);
    assert_eq!(folder.read("1.raw"), folder.read("b.raw"));
    compose("-o 2.raw --prefer a@1.raw").code(0);
    assert_eq!(folder.read("2.raw"), folder.read("a@1.raw"));
    compose("-o 3.raw --prefer a@1.raw@4K-8K --prefer b.raw").code(0);
    assert_eq!(folder.read("3.raw"), folder.read("a@1.raw"));
    compose("-o 4.raw --prefer ./b.raw@8K-1M").code(3);
    for wrong in ["c.raw", "base.raw", "b.raw@8K", "b.raw@8K-8K", "b.raw@x-8K"] {
        compose(&format!("-o 5.raw --prefer {wrong}")).code(2);
    }
    let plan = compose("--plan --json --prefer b.raw").code(0).json();
    assert_eq!(plan["settled_bytes"], 512);
    assert_eq!(plan["conflicts"][0]["winner"], "./b.raw");
}

#[test]
fn a_layer_of_another_origin_is_refused_unless_it_is_an_overlay() {
    let folder = Folder::new();
    let base = disk(&folder, "base.raw");
    folder.write("stranger.raw", &noise(9, MIB));
    folder
        .run("compose base.raw stranger.raw -o c.raw")
        .code(3)
        .says("stranger.raw")
        .says("hint: --overlay");
    assert_eq!(folder.names(), ["base.raw", "stranger.raw"]);
    // An overlay: 64 KiB of its own after a hole, through which the base shows.
    let file = std::fs::File::create(folder.path("over.raw")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 65536], 65536).unwrap();
    let json = folder
        .run("compose base.raw over.raw --overlay -o c.raw --json")
        .code(0)
        .json();
    assert_eq!(json["arrangement"], "chain");
    assert_eq!(folder.read("c.raw"), changed(&base, 65536, &[7; 65536]));
}

#[test]
fn compose_needs_a_layer_and_an_output() {
    let folder = Folder::new();
    disk(&folder, "a.raw");
    folder.run("compose a.raw -o c.raw").code(2);
    folder.run("compose a.raw a.raw").code(2);
    folder
        .run("compose a.raw a.raw -o c.raw")
        .code(2)
        .says("is given twice");
    folder
        .run("compose a.raw a.raw --plan --granularity 3K")
        .code(2);
}

#[test]
fn a_raw_image_cannot_be_a_child() {
    let folder = Folder::new();
    disk(&folder, "a.raw");
    folder
        .run("clone a.raw -o b.raw")
        .code(2)
        .says("VHD (differencing)");
    folder
        .run("clone a.raw -o b.vmdk")
        .code(2)
        .says("a VMDK child needs a VMDK parent");
    folder
        .run("clone a.raw -o - --format vhd")
        .code(2)
        .says("a child is not written to standard output");
    assert_eq!(folder.names(), ["a.raw"]);
    let json = folder
        .run("clone a.raw -o b.raw --full --json")
        .code(0)
        .json();
    assert_eq!(json["full"], true);
    assert_eq!(folder.read("a.raw"), folder.read("b.raw"));
}

#[test]
fn dedup_report_counts_every_file_once() {
    let folder = Folder::new();
    let a = disk(&folder, "a.raw");
    std::fs::create_dir(folder.path("more")).unwrap();
    folder.write("more/b.img", &a);
    folder.write("more/notes.txt", b"no image");
    std::fs::hard_link(folder.path("a.raw"), folder.path("more/again.raw")).unwrap();
    folder
        .run("dedup-report a.raw .")
        .code(0)
        .prints("50.0 %")
        .prints("2 images, blocks of 4 KiB; 1 other file skipped");
    let json = folder.run("dedup-report a.raw . --json").code(0).json();
    assert_eq!(json["schema"], 2);
    assert_eq!(json["block_size"], 4096);
    assert_eq!(json["skipped"], 1);
    assert_eq!(json["images"][0]["path"], "a.raw");
    assert_eq!(json["images"][1]["path"], "./more/b.img");
    assert_eq!(json["images"][0]["saving_percent"], 0.0);
    assert_eq!(json["total"]["total_bytes"], 2 * MIB);
    assert_eq!(json["total"]["data_bytes"], 128 << 10);
    assert_eq!(json["total"]["unique_bytes"], 64 << 10);
    assert_eq!(json["total"]["duplicate_bytes"], 64 << 10);
    assert_eq!(json["total"]["saving_percent"], 50.0);
    folder.run("dedup-report . --block-size 1000").code(2);
}

#[test]
fn dedup_report_goes_on_past_what_it_cannot_read() {
    let folder = Folder::new();
    disk(&folder, "a.raw");
    folder.write("note.txt", b"no image");
    folder
        .run("dedup-report a.raw note.txt missing.raw")
        .code(1)
        .says("warning: left out: note.txt")
        .says("warning: left out: missing.raw");
    let json = folder
        .run("dedup-report a.raw missing.raw --json")
        .code(1)
        .json();
    assert_eq!(json["errors"][0]["path"], "missing.raw");
    assert_eq!(json["images"].as_array().unwrap().len(), 1);
    folder.run("dedup-report missing.raw").code(1);
    std::fs::create_dir(folder.path("empty")).unwrap();
    folder
        .run("dedup-report empty")
        .code(2)
        .says("empty: no images found");
}

/// The id by which a guest knows a disk (SCSI page 83) survives a checkpoint, as on Windows.
#[test]
fn a_vhdx_clone_keeps_the_id_that_guests_see() {
    // MS-VHDX 2.6.2.5: the GUID of the item, as it lies in the table of the metadata region.
    const PAGE_83: [u8; 16] = [
        0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7,
        0x46,
    ];
    let folder = Folder::new();
    folder.run("create a.vhdx --size 40M").code(0);
    folder.run("create other.vhdx --size 40M").code(0);
    folder.run("clone a.vhdx -o b.vhdx").code(0);
    let id = |name: &str| {
        let bytes = folder.read(name);
        let entry = bytes.windows(16).position(|w| w == PAGE_83).unwrap();
        let table = entry / 0x10000 * 0x10000;
        let offset = u32::from_le_bytes(bytes[entry + 16..entry + 20].try_into().unwrap());
        let at = table + offset as usize;
        bytes[at..at + 16].to_vec()
    };
    assert_eq!(id("a.vhdx"), id("b.vhdx"));
    assert_ne!(id("a.vhdx"), id("other.vhdx"));
    assert_ne!(id("a.vhdx"), vec![0; 16]);
}
