//! Descriptors as producers write them, and the files and devices that they name.

use crate::{
    Files,
    builder::{Cell, Grains},
    descriptor,
};
use std::{fs, os::unix::ffi::OsStrExt, path::Path};
use vdisk_core::{
    Disk, Error, ErrorKind, FileResolver, Job, Kind, OpenOptions, disk, open,
    ops::compose::{ComposeOptions, compose},
    testing::{self, contents},
};

fn filled(sectors: usize, byte: u8) -> Vec<u8> {
    (0..sectors * 512).map(|i| byte ^ (i / 512) as u8).collect()
}

fn open_path(path: &Path, resolver: &FileResolver) -> vdisk_core::Result<vdisk_core::Chain> {
    open::open(path, &OpenOptions::new(resolver))
}

fn refusal<T>(result: vdisk_core::Result<T>) -> (ErrorKind, String) {
    let error: Error = result.err().unwrap();
    (error.kind(), error.to_string())
}

#[test]
fn a_custom_disk_mixes_all_kinds_of_extents() {
    let sparse = Grains::ascending(&[Cell::Hole, Cell::Data(3), Cell::Hole], 8, 20);
    let lines = [
        "RW 10 FLAT \"a.bin\" 2",
        "NOACCESS 0 ZERO ",
        "rdonly 20 sparse \"b.vmdk\"",
        "NOACCESS 7 FLAT \"not there.bin\" 0",
        "RW 5 ZERO",
        "NOACCESS 3 ZERO",
        "RDONLY 6 FLAT \"a.bin\" 0",
    ]
    .map(str::to_owned);
    let files = Files::default()
        .with("c.vmdk", descriptor("custom", None, &lines))
        .with("a.bin", filled(12, 0x40))
        .with("b.vmdk", sparse.hosted());
    let layer = files.layer("c.vmdk").unwrap();
    assert_eq!(layer.size(), 51 * 512);
    let read = |sectors: std::ops::Range<usize>| {
        let mut bytes = vec![0xee; sectors.len() * 512];
        layer
            .read_at(sectors.start as u64 * 512, &mut bytes)
            .map(|()| bytes)
    };
    assert!(read(0..10).unwrap() == filled(12, 0x40)[1024..]);
    assert!(read(10..30).unwrap() == sparse.disk());
    assert!(read(37..45).unwrap() == vec![0; 8 * 512]);
    assert!(read(45..51).unwrap() == filled(12, 0x40)[..6 * 512]);
    for refused in [30..31, 36..37, 0..51, 29..31] {
        let (kind, sentence) = refusal(read(refused));
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(
            sentence.contains("extent 4: is marked NOACCESS"),
            "{sentence}"
        );
    }
    let found: Vec<_> = disk::extents(&layer, 0..51 * 512, disk::same_kind)
        .map(|e| e.map(|e| (e.range.end / 512, e.kind)).unwrap())
        .collect();
    let (data, zero) = (Kind::Data, Kind::Zero);
    let expected = [
        (10, data),
        (18, zero),
        (26, data),
        (30, zero),
        (37, data),
        (45, zero),
        (51, data),
    ];
    assert_eq!(found, expected);
    let listed = layer.facts().details.iter().find(|(k, _)| *k == "extents");
    assert_eq!(
        listed.unwrap().1,
        "RW 10 FLAT a.bin; NOACCESS 0 ZERO; RDONLY 20 SPARSE b.vmdk; \
         NOACCESS 7 FLAT not there.bin; RW 5 ZERO; NOACCESS 3 ZERO; RDONLY 6 FLAT a.bin"
    );
}

#[test]
fn an_extent_that_is_not_read_is_refused_by_name() {
    for (line, kind, words) in [
        ("RW 1 FLOPPY \"a\"", ErrorKind::Corrupt, "FLOPPY"),
        (
            "RW 1 VSANSPARSE \"a\"",
            ErrorKind::Unsupported,
            "VSANSPARSE",
        ),
        ("RW 1 FLAT \"gone\" 0", ErrorKind::Reference, "not found"),
        ("RW 3 FLAT \"a.bin\" 0", ErrorKind::Corrupt, "extent 1"),
        ("RW 2 FLAT \"a.bin\" 1", ErrorKind::Corrupt, "extent 1"),
        (
            "RW 1 FLAT \"a.bin\" 36028797018963968",
            ErrorKind::Corrupt,
            "sector count",
        ),
        ("RW 18014398509481984 ZERO", ErrorKind::Limit, "extents"),
    ] {
        let files = Files::default()
            .with("c.vmdk", descriptor("custom", None, &[line.to_owned()]))
            .with("a.bin", filled(2, 0));
        let (found, sentence) = refusal(files.layer("c.vmdk"));
        assert_eq!(found, kind, "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
    }
}

#[test]
fn devices_are_opened_only_if_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.vmdk");
    let write = |line: &str| {
        fs::write(&path, descriptor("fullDevice", None, &[line.to_owned()])).unwrap();
    };
    let strict = FileResolver::default();
    let allowing = FileResolver {
        devices: true,
        ..FileResolver::default()
    };
    for (name, with_leave, words) in [
        ("/dev/null", ErrorKind::Reference, "not a block device"),
        ("/dev/vdisk-not-here", ErrorKind::Reference, "not here"),
        (
            "\\\\.\\PhysicalDrive0",
            ErrorKind::Reference,
            "another system",
        ),
        ("/vmfs/devices/disks/x", ErrorKind::Reference, "not here"),
    ] {
        write(&format!("RW 8 FLAT \"{name}\" 0"));
        let (kind, sentence) = refusal(open_path(&path, &strict));
        assert_eq!(kind, ErrorKind::Policy, "{sentence}");
        assert!(
            sentence.contains(name) && sentence.contains("device"),
            "{sentence}"
        );
        let (kind, sentence) = refusal(open_path(&path, &allowing));
        assert_eq!(kind, with_leave, "{sentence}");
        assert!(
            sentence.contains(name) && sentence.contains(words),
            "{sentence}"
        );
    }
    // A raw device mapping is one by its kind, whatever it is called.
    fs::write(folder.path().join("x-rdm.vmdk"), filled(8, 0)).unwrap();
    for line in ["RW 8 VMFSRDM \"x-rdm.vmdk\"", "RW 8 VMFSRAW \"x-rdm.vmdk\""] {
        write(line);
        assert_eq!(refusal(open_path(&path, &strict)).0, ErrorKind::Policy);
        assert_eq!(refusal(open_path(&path, &allowing)).0, ErrorKind::Reference);
    }
    // A file is no device because a descriptor says so, nor the other way round.
    write("RW 8 FLAT \"x-rdm.vmdk\" 0");
    assert!(contents(&open_path(&path, &strict).unwrap()).unwrap() == filled(8, 0));
    std::os::unix::fs::symlink("/dev/null", folder.path().join("link")).unwrap();
    write("RW 8 FLAT \"link\" 0");
    assert_eq!(refusal(open_path(&path, &allowing)).0, ErrorKind::Policy);
}

/// A partition of a device, with the words that Windows hosts add.
#[test]
fn a_device_is_read_from_the_offset_on() {
    let lines = [
        "RW 2 FLAT \"d-pt.vmdk\" 0",
        "RW 5 FLAT \"/dev/sdz\" 63 partitionUUID 7a1e \"IDE\\DiskX\"",
        "RW 3 VMFSRAW \"/vmfs/devices/disks/x\"",
    ]
    .map(str::to_owned);
    let files = Files::default()
        .with("d.vmdk", descriptor("partitionedDevice", None, &lines))
        .with("d-pt.vmdk", filled(2, 0x11))
        .with("/dev/sdz", filled(70, 0x22))
        .with("/vmfs/devices/disks/x", filled(4, 0x33));
    let layer = files.layer("d.vmdk").unwrap();
    let mut model = filled(2, 0x11);
    model.extend(&filled(70, 0x22)[63 * 512..68 * 512]);
    model.extend(&filled(4, 0x33)[..3 * 512]);
    assert!(contents(&layer).unwrap() == model);
    testing::conformance(&layer).unwrap();
}

/// The name of a folder and of a file in each encoding, by the tables of Python 3.11.
const ENCODINGS: [(&str, &[u8], &str); 5] = [
    ("UTF-8", b"\xe7\xa3\x81", "\u{78c1}"),
    (
        "windows-1252",
        b"d\xe9j\xe0 \x80",
        "d\u{e9}j\u{e0} \u{20ac}",
    ),
    ("GBK", b"\xb4\xc5\xc5\xcc", "\u{78c1}\u{76d8}"),
    ("Big5", b"\xba\xcf\xba\xd0", "\u{78c1}\u{789f}"),
    ("Shift_JIS", b"\x83\x5c\x83t", "\u{30bd}\u{30d5}"),
];

fn replace(text: Vec<u8>, mark: &str, by: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_slice();
    while let Some(at) = rest.windows(mark.len()).position(|w| w == mark.as_bytes()) {
        out.extend(&rest[..at]);
        out.extend(by);
        rest = &rest[at + mark.len()..];
    }
    out.extend(rest);
    out
}

#[test]
fn names_in_any_encoding_lead_to_the_file() {
    for (encoding, bytes, name) in ENCODINGS {
        let lines = ["RW 4 FLAT \"@-flat.vmdk\" 0".to_owned()];
        // As written, a letter that contains a backslash looks like a path: one more reason to
        // decode. Such a name is found as it is only if it is the whole hint.
        let hint = match bytes.contains(&b'\\') {
            true => "@.vmdk",
            false => "D:\\Virtual Machines\\@\\@.vmdk",
        };
        let mut child = descriptor(
            "custom",
            Some(("12345678", hint)),
            &["RW 4 SPARSE \"@-s001.vmdk\"".to_owned()],
        );
        let mut base = descriptor("monolithicFlat", None, &lines);
        for text in [&mut base, &mut child] {
            text.extend(format!("encoding=\"{encoding}\"\n").bytes());
        }
        let (base, child) = (replace(base, "@", bytes), replace(child, "@", bytes));
        let extent = Grains::ascending(&[Cell::Hole, Cell::Data(9)], 2, 4);
        let mut model = filled(4, 0x55);
        extent.over(&mut model);
        // On this system the files have their names in UTF-8, or as they were written.
        for on_disk in [name.as_bytes(), bytes] {
            let folder = tempfile::tempdir().unwrap();
            let at = |ending: &str| {
                let file = [on_disk, ending.as_bytes()].concat();
                folder.path().join(std::ffi::OsStr::from_bytes(&file))
            };
            fs::write(at(".vmdk"), &base).unwrap();
            fs::write(at("-flat.vmdk"), filled(4, 0x55)).unwrap();
            fs::write(at("-s001.vmdk"), extent.hosted()).unwrap();
            fs::write(at("-c.vmdk"), &child).unwrap();
            let chain = open_path(&at("-c.vmdk"), &FileResolver::default()).unwrap();
            assert_eq!(chain.layers().len(), 2, "{encoding}");
            assert!(contents(&chain).unwrap() == model, "{encoding}");
            let details = &chain.top().facts().details;
            assert!(details.contains(&("encoding", encoding.to_owned())));
            assert!(chain.top().facts().warnings.is_empty(), "{encoding}");
        }
    }
}

#[test]
fn an_unknown_encoding_is_a_warning_and_changes_nothing() {
    let mut text = descriptor("custom", None, &["RW 1 FLAT \"\u{e9}\" 0".to_owned()]);
    text.extend(b"encoding=\"klingon\"\n");
    let files = Files::default()
        .with("a.vmdk", text)
        .with("\u{e9}", filled(1, 1));
    let layer = files.layer("a.vmdk").unwrap();
    assert!(contents(&layer).unwrap() == filled(1, 1));
    let warnings = &layer.facts().warnings;
    assert!(
        warnings.iter().any(|w| w.contains("klingon")),
        "{warnings:?}"
    );
}

#[test]
fn every_shape_of_descriptor_is_found_out_and_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a b.bin"), filled(4, 7)).unwrap();
    let path = folder.path().join("a.vmdk");
    let extent = "RW 4 FLAT \"a b.bin\" 0";
    for text in [
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n{extent}\n"
        ),
        format!(
            "# Disk DescriptorFile\r\nversion=1\r\nCID=1\r\nparentCID=ffffffff\r\ncreateType=\"monolithicFlat\"\r\n{extent}\r\n"
        ),
        // Leading blank line, indentation, trailing blanks, no blanks and many around the sign.
        format!(
            "\n  \n# Disk DescriptorFile \n  version = 1\t\n\tCID =1 \nparentCID= ffffffff\n  createType = \"monolithicFlat\"  \n   {extent}  \n"
        ),
        // Any order, any case, another first line.
        format!(
            "# made by hand\n{extent}\nddb.adapterType = \"ide\"\nCREATETYPE=\"MonolithicFlat\"\nPARENTCID=FFFFFFFF\ncid=00000001\nVersion=1\n"
        ),
        format!(
            "createType=\"2GbMaxExtentFlat\"\ncid=1\n{}\n",
            extent.to_lowercase()
        ),
        // Unknown keys, a list of changed blocks, comments of other shapes, no line end.
        format!(
            "#\n#DDB\nversion=3\nencoding=\"UTF-8\"\nCID=1\nparentCID=ffffffff\nisNativeSnapshot=\"no\"\ncreateType=\"vmfs\"\nchangeTrackPath=\"a-ctk.vmdk\"\nnew.key = \"=\"\n{extent}"
        ),
        format!(
            "version=1\nCID=1\ncreateType=\"custom\"\n{extent}\n{}",
            "\0".repeat(700)
        ),
    ] {
        fs::write(&path, &text).unwrap();
        let chain =
            open_path(&path, &FileResolver::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(contents(&chain).unwrap() == filled(4, 7), "{text}");
        assert_eq!(
            chain.top().facts().identity,
            Some(vdisk_core::Identity::Cid(1))
        );
    }
    fs::write(
        &path,
        "# notes\nCID=1\nbuy milk\ncreateType=\"custom\"\nRW 1 ZERO\n",
    )
    .unwrap();
    let (kind, _) = refusal(open_path(&path, &FileResolver::default()));
    assert_eq!(kind, ErrorKind::WrongFormat);
}

#[test]
fn a_parent_named_by_its_file_alone_is_no_base() {
    let text = "# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"custom\"\n\
                parentFileNameHint=\"b.vmdk\"\nRW 1 ZERO\n";
    let files = Files::default().with("a.vmdk", text.as_bytes().to_vec());
    let (kind, sentence) = refusal(files.layer("a.vmdk"));
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(sentence.contains("no parentCID"), "{sentence}");
}

#[test]
fn a_child_of_virtualbox_is_known_by_its_parents_uuid() {
    const IMAGE: &str = "93dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6";
    const OTHER: &str = "11111111-0c4d-4f0f-8d3c-54a2d2f8f5b6";
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let extent = |file: &str, word: &str| [format!("RW 16 {word} \"{file}\"")];
    let grains = Grains::ascending(&[Cell::Hole, Cell::Data(9)], 8, 16);
    let with = |mut text: Vec<u8>, lines: &str| {
        text.extend(lines.bytes());
        text
    };
    let zero = "00000000-0000-0000-0000-000000000000";
    let base = with(
        descriptor("monolithicFlat", None, &extent("base-flat.vmdk", "FLAT")),
        &format!("ddb.uuid.image=\"{IMAGE}\"\nddb.uuid.parent=\"{zero}\"\n"),
    );
    let child = |parent: &str| {
        with(
            descriptor("custom", None, &extent("child-s001.vmdk", "SPARSE")),
            &format!("ddb.uuid.image=\"{OTHER}\"\nddb.uuid.parent=\"{parent}\"\n"),
        )
    };
    fs::write(at("base.vmdk"), base).unwrap();
    fs::write(at("base-flat.vmdk"), filled(16, 0x30)).unwrap();
    fs::write(at("child.vmdk"), child(IMAGE)).unwrap();
    fs::write(at("child-s001.vmdk"), grains.hosted()).unwrap();
    let mut model = filled(16, 0x30);
    grains.over(&mut model);

    // It names no file, so its parent must be given.
    let strict = FileResolver::default();
    assert_eq!(
        refusal(open_path(&at("child.vmdk"), &strict)).0,
        ErrorKind::Reference
    );
    let given = FileResolver {
        parents: vec![at("base.vmdk")],
        ..FileResolver::default()
    };
    let chain = open_path(&at("child.vmdk"), &given).unwrap();
    assert!(contents(&chain).unwrap() == model);
    let options = ComposeOptions {
        open: OpenOptions::new(&strict),
        overlay: false,
        granularity: 512,
        prefer: &[],
    };
    let composed = compose(&[at("base.vmdk"), at("child.vmdk")], &options).unwrap();
    assert!(contents(composed.disk()).unwrap() == model);
    assert_eq!(
        vdisk_core::ops::hash::digest(composed.disk(), &Job::default()).unwrap(),
        vdisk_core::ops::hash::digest(&model, &Job::default()).unwrap()
    );

    fs::write(at("child.vmdk"), child(OTHER)).unwrap();
    let (kind, sentence) = refusal(open_path(&at("child.vmdk"), &given));
    assert_eq!(kind, ErrorKind::Reference);
    assert!(
        sentence.contains(IMAGE) && sentence.contains(OTHER),
        "{sentence}"
    );
    fs::write(at("child.vmdk"), child("not a uuid")).unwrap();
    assert_eq!(
        refusal(open_path(&at("child.vmdk"), &given)).0,
        ErrorKind::Corrupt
    );
}

#[test]
fn the_data_of_a_disk_given_for_the_disk_names_the_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("vm-flat.vmdk"), filled(9, 1)).unwrap();
    let extent = Grains::ascending(&[Cell::Data(1)], 8, 8);
    fs::write(at("vm-s001.vmdk"), extent.hosted()).unwrap();
    for name in ["vm-flat.vmdk", "vm-s001.vmdk"] {
        let (_, sentence) = refusal(open_path(&at(name), &FileResolver::default()));
        assert!(
            sentence.contains("descriptor") && !sentence.contains("'vm.vmdk'"),
            "{sentence}"
        );
    }
    fs::write(at("vm.vmdk"), "").unwrap();
    for name in ["vm-flat.vmdk", "vm-s001.vmdk"] {
        let (_, sentence) = refusal(open_path(&at(name), &FileResolver::default()));
        assert!(sentence.contains("'vm.vmdk'"), "{sentence}");
    }
}
