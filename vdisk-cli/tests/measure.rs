//! `vdisk measure`: what it says is what `convert` writes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;

use run::{Folder, noise};

/// 300 KiB of data, zeros that are stored, a hole up to 9 MiB.
fn disk(folder: &Folder) {
    let mut bytes = noise(1, 300 << 10);
    bytes.extend(vec![0; 200 << 10]);
    bytes.extend(noise(2, 5000 / 512 * 512));
    folder.write("a.raw", &bytes);
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path("a.raw"))
        .unwrap();
    file.set_len(9 << 20).unwrap();
}

#[test]
fn the_sizes_are_those_of_the_files_that_convert_writes() {
    let folder = Folder::new();
    disk(&folder);
    for (name, subformat) in [
        ("o.raw", "sparse"),
        ("o.vhd", "dynamic"),
        ("o.vhd", "fixed"),
        ("o.vhdx", "dynamic"),
        ("o.vhdx", "fixed"),
        ("o.vmdk", "monolithicSparse"),
        ("o.vmdk", "monolithicFlat"),
        ("o.vmdk", "twoGbMaxExtentSparse"),
        ("o.vmdk", "streamOptimized"),
        ("o.ova", "ova"),
    ] {
        let json = folder
            .run(&format!(
                "measure a.raw -o {name} --subformat {subformat} --json"
            ))
            .code(0)
            .json();
        assert_eq!(folder.names(), ["a.raw"], "something was written");
        folder
            .run(&format!("convert a.raw -o {name} --subformat {subformat}"))
            .code(0);
        assert_eq!(json["schema"], 1);
        assert_eq!(
            (&json["exact"], &json["error_bytes"]),
            (&true.into(), &0.into())
        );
        assert_eq!(json["virtual_size"], 9 << 20);
        let mut sum = 0;
        for file in json["files"].as_array().unwrap() {
            let path = folder.path(file["name"].as_str().unwrap());
            let real = path.metadata().unwrap().len();
            assert_eq!(file["size"], real, "{subformat}: {file}");
            sum += real;
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(json["file_size"], sum);
        assert_eq!(
            folder.names(),
            ["a.raw"],
            "{subformat}: a file was not foretold"
        );
        let full = &json["fully_allocated_size"];
        match subformat {
            "streamOptimized" | "ova" => assert!(full.is_null()),
            _ => assert!(full.as_u64().unwrap() >= 9 << 20, "{full}"),
        }
    }
}

#[test]
fn an_empty_disk_needs_no_image() {
    let folder = Folder::new();
    folder
        .run("measure --size 1G --format raw")
        .code(0)
        .prints("file size:         1 GiB (1073741824 bytes)")
        .prints("without holes:     0 bytes");
    let json = folder
        .run("measure --size 40M --profile azure --json")
        .code(0)
        .json();
    assert_eq!(
        (&json["format"], &json["subformat"]),
        (&"vhd".into(), &"fixed".into())
    );
    // A fixed VHD is the disk and a footer of 512 bytes.
    assert_eq!(json["file_size"], (40 << 20) + 512);
    assert!(json["input"].is_null());
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn a_disk_that_fits_only_while_it_is_not_full_has_no_full_size() {
    let folder = Folder::new();
    let json = folder
        .run("measure --size 4T --format vmdk --json")
        .code(0)
        .json();
    assert!(json["fully_allocated_size"].is_null(), "{json}");
    folder.run("create a.vmdk --size 4T").code(0);
    let real = folder.path("a.vmdk").metadata().unwrap().len();
    assert_eq!(json["file_size"], real);
}

#[test]
fn a_large_compressed_image_is_an_estimate() {
    let folder = Folder::new();
    // 80 MiB: more than is compressed whole.
    let text = b"the same line again and again\n".repeat(100);
    let mut bytes = noise(3, 40 << 20);
    bytes.extend(text.iter().cycle().take(40 << 20));
    folder.write("a.raw", &bytes);
    let json = folder
        .run("measure a.raw --subformat streamOptimized --level 1 --json")
        .code(0)
        .json();
    folder
        .run("convert a.raw -o a.vmdk --subformat streamOptimized --level 1")
        .code(0);
    let real = folder.path("a.vmdk").metadata().unwrap().len();
    let (size, error) = (json["file_size"].as_u64(), json["error_bytes"].as_u64());
    assert_eq!(json["exact"], false);
    assert!(
        size.unwrap().abs_diff(real) <= error.unwrap(),
        "{json} for {real}"
    );
    folder
        .run("measure a.raw --subformat streamOptimized --level 1")
        .code(0)
        .prints("file size:         about ")
        .prints(", give or take ");
}

#[test]
fn what_cannot_be_measured_is_a_usage_error() {
    let folder = Folder::new();
    disk(&folder);
    for wrong in [
        "measure a.raw",
        "measure --format vmdk",
        "measure a.raw --size 1M --format vmdk",
        "measure --size 1000 --format vmdk",
        "measure a.raw --format qcow2",
        "measure a.raw --format vhd --subformat monolithicFlat",
        "measure a.raw --format vhd --subformat differencing",
        "measure missing.raw --format vhd",
    ] {
        folder.run(wrong).code(2);
    }
}
