//! Disks in archives: alone and among others, packed and cut, by every way to name a member.

use crate::{
    assert_reads,
    builder::{Disk, RAW, VMDK, contents, disk, entry, gzip, ova, ovf, tar},
    fact, image, only, open_disk,
};
use std::fs;
use vdisk_core::{Deny, Disk as _, ErrorKind, Job, OpenOptions, open_layer, ops::diff, testing};

#[test]
fn the_only_disk_of_an_archive() {
    let model = contents(5000, 1);
    for (format, subformat) in [
        ("vmdk", "streamOptimized"),
        ("vmdk", "monolithicSparse"),
        ("vhd", "dynamic"),
        ("vhd", "fixed"),
    ] {
        let name = format!("a.{format}");
        let bytes = image(format, subformat, &model);
        let layer = only(ova(&[disk(&name, VMDK, model.len())], &[(&name, &bytes)])).unwrap();
        assert_reads(&layer, &model, subformat);
        assert_eq!(layer.format().name(), "ova");
        assert_eq!(layer.facts().subformat, format!("{subformat} in OVA"));
        assert_eq!(fact(&layer, "disk format"), Some(format));
        assert_eq!(fact(&layer, "disk"), Some(name.as_str()));
        assert_eq!(fact(&layer, "manifest"), Some("none"));
        assert!(layer.facts().identity.is_some(), "that of the disk inside");
        assert_eq!(layer.facts().warnings, [""; 0]);
        assert_eq!(
            layer.path().to_str(),
            Some(format!("test.ova::{name}").as_str())
        );
    }
}

#[test]
fn raw_disks_only_where_the_descriptor_or_the_name_says_so() {
    // The guest wrote a VMDK signature; the descriptor knows better.
    let mut model = contents(300, 2);
    model[..4].copy_from_slice(b"KDMV");
    let layer = only(ova(
        &[disk("a.bin", RAW, model.len())],
        &[("a.bin", &model)],
    ))
    .unwrap();
    assert_reads(&layer, &model, "raw");
    let refused = only(ova(
        &[disk("a.bin", VMDK, 0)],
        &[("a.bin", &contents(300, 2))],
    ));
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::WrongFormat);
    let model = contents(300, 2);
    let layer = only(ova(
        &[disk("a.raw", VMDK, model.len())],
        &[("a.raw", &model)],
    ))
    .unwrap();
    assert_reads(&layer, &model, "raw by name");
}

/// What the map says is where the bytes are, in the archive itself.
#[test]
fn places_are_those_in_the_archive() {
    let model = contents(700, 3);
    let archive = ova(&[disk("a.bin", RAW, model.len())], &[("a.bin", &model)]);
    let layer = only(archive.clone()).unwrap();
    let extent = layer.extent_at(512 * 150).unwrap();
    let stored = extent.stored.unwrap();
    let at = stored.at.0 as usize;
    assert_eq!(stored.file.path.to_str(), Some("test.ova"));
    assert_eq!(archive[at..][..4096], model[512 * 150..][..4096]);
}

#[test]
fn two_views_of_one_archive_need_not_be_compared() {
    let model = contents(4000, 4);
    let vmdk = image("vmdk", "streamOptimized", &model);
    let twice = ova(
        &[
            disk("a.vmdk", VMDK, model.len()),
            disk("b.vmdk", VMDK, model.len()),
        ],
        &[("a.vmdk", &vmdk), ("b.vmdk", &vmdk)],
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.ova");
    fs::write(&path, twice).unwrap();
    let open = |name: &str| {
        let options = OpenOptions {
            disk: Some(name),
            ..OpenOptions::new(&Deny)
        };
        open_layer(&path, &options).unwrap()
    };
    let compared = |a: &str, b: &str| {
        let summary = diff::diff(&open(a), &open(b), &Job::default(), |_| {}).unwrap();
        assert_eq!(summary.bytes, 0);
        summary.compared
    };
    assert_eq!(compared("a.vmdk", "a.vmdk"), 0);
    assert!(compared("a.vmdk", "b.vmdk") > 0, "other places of one file");
}

fn three() -> (Vec<Vec<u8>>, Vec<u8>) {
    let models: Vec<Vec<u8>> = (0..3).map(|salt| contents(200, salt * 17)).collect();
    let archive = ova(
        &[
            disk("a.vmdk", VMDK, 200 * 512),
            disk("b.bin", RAW, 200 * 512),
            disk("sub/3.vhd", VMDK, 200 * 512),
        ],
        &[
            ("a.vmdk", &image("vmdk", "streamOptimized", &models[0])),
            ("b.bin", &models[1]),
            ("sub/3.vhd", &image("vhd", "fixed", &models[2])),
        ],
    );
    (models, archive)
}

#[test]
fn one_of_several_disks_is_named() {
    let (models, archive) = three();
    for (names, model) in [["a.vmdk", "1"], ["b.bin", "2"], ["sub/3.vhd", "3"]]
        .iter()
        .zip(&models)
    {
        for name in names {
            let layer = open_disk(archive.clone(), Some(name)).unwrap();
            assert_reads(&layer, model, name);
            assert_eq!(fact(&layer, "disks in the package"), Some("3"));
        }
    }
    let error = only(archive.clone()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(
        error.to_string(),
        "test.ova: disk: holds 3 disks: a.vmdk, b.bin, sub/3.vhd; name one as test.ova::NAME"
    );
    for name in [
        "0",
        "4",
        "c",
        "",
        "tools.iso",
        "18446744073709551616",
        "vm.ovf",
    ] {
        let error = open_disk(archive.clone(), Some(name)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage, "{name}");
        assert!(
            error.to_string().contains("a.vmdk, b.bin, sub/3.vhd"),
            "{error}"
        );
    }
}

#[test]
fn a_path_names_a_disk_unless_a_file_has_that_name() {
    let (models, archive) = three();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("x.ova"), archive).unwrap();
    let options = OpenOptions::new(&Deny);
    for (path, model) in [
        ("x.ova::b.bin", 1),
        ("x.ova::1", 0),
        ("x.ova::sub/3.vhd", 2),
    ] {
        let layer = open_layer(&at(path), &options).unwrap();
        assert_reads(&layer, &models[model], path);
    }
    // A real file of such a name is that file.
    fs::write(at("x.ova::1"), image("vhd", "fixed", &models[2])).unwrap();
    let layer = open_layer(&at("x.ova::1"), &options).unwrap();
    assert_reads(&layer, &models[2], "literal");
    // ... also as a package that holds disks.
    fs::rename(at("x.ova"), at("y::z.ova")).unwrap();
    let layer = open_layer(&at("y::z.ova::b.bin"), &options).unwrap();
    assert_reads(&layer, &models[1], "both");
    let error = open_layer(&at("x.ova::1::2"), &options).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(
        error
            .to_string()
            .contains("is one vhd image, not a package"),
        "{error}"
    );
    let error = open_layer(&at("none.ova::2"), &options).err().unwrap();
    assert!(error.to_string().contains("no such file"), "{error}");
}

/// Cuts `bytes` into members `name.000000000`, ...
fn chunks(name: &str, bytes: &[u8], size: usize) -> Vec<(String, Vec<u8>)> {
    bytes
        .chunks(size)
        .enumerate()
        .map(|(i, chunk)| (format!("{name}.{i:09}"), chunk.to_vec()))
        .collect()
}

fn with_chunks(disk: Disk, chunks: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<(&str, &[u8])> = chunks.iter().map(|(n, b)| (n.as_str(), &**b)).collect();
    ova(&[disk], &members)
}

#[test]
fn compressed_and_cut_in_any_combination() {
    let model = contents(6000, 9);
    for (bytes, format) in [
        (model.clone(), RAW),
        (image("vmdk", "streamOptimized", &model), VMDK),
        (image("vmdk", "monolithicSparse", &model), VMDK),
    ] {
        let whole = disk("a.img", format, model.len());
        let packed = gzip(&bytes);
        let gz = whole.clone().with("ovf:compression='gzip'");
        let layer = only(ova(std::slice::from_ref(&gz), &[("a.img", &packed)])).unwrap();
        assert_reads(&layer, &model, "gzip");
        let place = layer.extent_at(512 * 150).unwrap().stored.unwrap();
        assert_eq!(place.file.id, None, "no place in any file");
        let identity = whole.clone().with("ovf:compression='identity'");
        let layer = only(ova(&[identity], &[("a.img", &bytes)])).unwrap();
        assert_reads(&layer, &model, "identity");
        for size in [100_000, bytes.len() / 3, bytes.len(), bytes.len() * 2] {
            let attributes = format!("ovf:chunkSize='{size}' ovf:size='{}'", bytes.len());
            let cut = chunks("a.img", &bytes, size);
            let layer = only(with_chunks(whole.clone().with(&attributes), &cut)).unwrap();
            assert_reads(&layer, &model, "chunks");
            assert_eq!(layer.facts().warnings, [""; 0]);
        }
        let attributes = "ovf:chunkSize='77777' ovf:compression='gzip'";
        let cut = chunks("a.img", &packed, 77_777);
        let layer = only(with_chunks(whole.clone().with(attributes), &cut)).unwrap();
        assert_reads(&layer, &model, "gzip in chunks");
        // A size of chunks, and no chunks.
        let layer = only(ova(
            &[whole.clone().with("ovf:chunkSize='999999999'")],
            &[("a.img", &bytes)],
        ));
        assert_reads(&layer.unwrap(), &model, "no chunks");
    }
}

#[test]
fn names_as_writers_put_them() {
    let model = contents(100, 5);
    let long = format!("{}/disk.bin", "n".repeat(150));
    let text = |name: &str| ovf(&[disk(name, RAW, model.len())]);
    let with = |before: Vec<u8>, ovf: &str, name: &[u8]| {
        let mut archive = entry(b"vm.ovf", b'0', ovf.as_bytes());
        archive.extend(before);
        archive.extend(entry(name, b'0', &model));
        archive
    };
    let pax = |record: String| {
        let (mut len, mut size) = (0, record.len() + 1);
        while len != size {
            len = size;
            size = format!("{len} {record}\n").len();
        }
        entry(b"pax", b'x', format!("{len} {record}\n").as_bytes())
    };
    let c_string = format!("{long}\0");
    let gnu = with(
        entry(b"././@LongLink", b'L', c_string.as_bytes()),
        &text(&long),
        b"short",
    );
    let path = with(pax(format!("path={long}")), &text(&long), b"short");
    // The size in the header is wrong; that in the pax record counts.
    let mut size = with(
        pax(format!("size={}", model.len())),
        &text("a.bin"),
        b"a.bin",
    );
    let header = size.len() - model.len() - 512;
    size[header + 124..header + 136].copy_from_slice(b"00000000000\0");
    crate::builder::seal(&mut size[header..header + 512]);
    // Base 256, as sizes over 8 GiB have it.
    let mut binary = with(Vec::new(), &text("a.bin"), b"a.bin");
    let header = binary.len() - model.len() - 512;
    binary[header + 124..header + 136].fill(0);
    binary[header + 124] = 0x80;
    binary[header + 132..header + 136].copy_from_slice(&(model.len() as u32).to_be_bytes());
    crate::builder::seal(&mut binary[header..header + 512]);
    let packages = [
        ("GNU long name", gnu),
        ("pax path", path),
        ("pax size", size),
        ("base 256", binary),
        (
            "./ in the archive",
            with(Vec::new(), &text("a.bin"), b"./a.bin"),
        ),
        (
            "./ in the descriptor",
            with(Vec::new(), &text("./a.bin"), b"a.bin"),
        ),
        (
            "percent",
            with(Vec::new(), &text("my%20disk.bin"), b"my disk.bin"),
        ),
        (
            "literal percent",
            with(Vec::new(), &text("my%20disk.bin"), b"my%20disk.bin"),
        ),
        (
            "entity",
            with(Vec::new(), &text("a&amp;b&#x43;.bin"), b"a&bC.bin"),
        ),
        (
            "absolute",
            with(Vec::new(), &text("/etc/hostname"), b"/etc/hostname"),
        ),
        ("upward", with(Vec::new(), &text("../../x"), b"../../x")),
        (
            "folders and links",
            with(
                [entry(b"d/", b'5', b""), entry(b"l", b'2', b"")].concat(),
                &text("a.bin"),
                b"a.bin",
            ),
        ),
        (
            "a folder",
            tar(&[
                ("vm/vm.OVF", text("a.bin").as_bytes()),
                ("vm/a.bin", &model),
            ]),
        ),
        (
            "resource forks",
            tar(&[
                ("._vm.ovf", b"Mac OS X"),
                ("vm.ovf", text("a.bin").as_bytes()),
                ("._a.bin", b"Mac OS X"),
                ("a.bin", &model),
            ]),
        ),
        (
            "the descriptor last",
            tar(&[("a.bin", &model), ("vm.ovf", text("a.bin").as_bytes())]),
        ),
        (
            "a byte order mark",
            tar(&[
                ("vm.ovf", format!("\u{feff}{}", text("a.bin")).as_bytes()),
                ("a.bin", &model),
            ]),
        ),
    ];
    for (what, bytes) in packages {
        let layer = only(bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_reads(&layer, &model, what);
    }
}

#[test]
fn a_descriptor_inside_may_use_other_members_and_nothing_else() {
    let model = contents(64, 6);
    let vmdk = |extent: &str| {
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
             createType=\"monolithicFlat\"\nRW 64 FLAT \"{extent}\" 0\n"
        )
    };
    let text = vmdk("a-flat.vmdk");
    let members: [(&str, &[u8]); 2] = [("a.vmdk", text.as_bytes()), ("a-flat.vmdk", &model)];
    let layer = only(ova(&[disk("a.vmdk", VMDK, 64 * 512)], &members)).unwrap();
    assert_reads(&layer, &model, "flat");
    let text = vmdk("/etc/hostname");
    let members: [(&str, &[u8]); 1] = [("a.vmdk", text.as_bytes())];
    let error = only(ova(&[disk("a.vmdk", VMDK, 64 * 512)], &members))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Reference, "{error}");
    assert!(
        error.to_string().contains("is not in the archive"),
        "{error}"
    );
}

#[test]
fn disagreements_are_told() {
    let model = contents(64, 6);
    let one = disk("a.bin", RAW, 1 << 20).with("ovf:size='99'");
    let layer = only(ova(&[one], &[("a.bin", &model)])).unwrap();
    let warnings = layer.facts().warnings.join("\n");
    assert!(
        warnings.contains("'a.bin' has 99 bytes, but it has 32768"),
        "{warnings}"
    );
    assert!(
        warnings.contains("the disk has 1048576 bytes, but it has 32768"),
        "{warnings}"
    );
}

#[test]
fn an_overlay_in_an_archive_keeps_its_holes() {
    let mut model = contents(3000, 7);
    model[..64 << 10].fill(0);
    let vmdk = image("vmdk", "streamOptimized", &model);
    let file = vdisk_core::storage::ImageFile::from_storage(
        "o.ova",
        ova(&[disk("a.vmdk", VMDK, model.len())], &[("a.vmdk", &vmdk)]),
    );
    let options = OpenOptions {
        overlay: true,
        ..OpenOptions::new(&Deny)
    };
    let layer = vdisk_core::open::open_file(file.unwrap(), &options).unwrap();
    assert_eq!(layer.extent_at(0).unwrap().kind, vdisk_core::Kind::Absent);
    testing::conformance(&layer).unwrap();
}
