//! `vdisk set`: what changes, what stays byte for byte, what is refused, and undoing it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::{fs, path::Path};
use support::{Dice, Said, assert_refused, contents, peers::Qemu, vdisk, vdisk_hash, vdisk_json};

/// A disk of 3 MiB and a bit, of which `in.raw` holds the contents.
fn make(folder: &Path, image: &str, subformat: &str) {
    let bytes = contents(&mut Dice(1), (3 << 20) + 512);
    fs::write(folder.join("in.raw"), bytes).unwrap();
    let arguments = ["convert", "in.raw", "-o", image, "--subformat", subformat];
    vdisk(folder, &arguments).good();
}

fn set(folder: &Path, image: &str, arguments: &[&str]) -> Said {
    vdisk(folder, &[&["set", image], arguments].concat())
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The text of a descriptor, up to the zeros that fill its area.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

const AREA: std::ops::Range<usize> = 512..21 * 512;

#[test]
fn settings_change_and_nothing_else_does() {
    for (image, subformat) in [
        ("a.vmdk", "monolithicSparse"),
        ("a.vmdk", "streamOptimized"),
        ("a.vmdk", "monolithicFlat"),
        ("a.vmdk", "twoGbMaxExtentSparse"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        make(folder, image, subformat);
        let (before, hash) = (read(folder, image), vdisk_hash(folder, image));
        let arguments = ["--adapter", "IDE", "--hardware-version", "21"];
        let said = set(folder, image, &[&arguments[..], &["--dry-run"]].concat()).good();
        assert!(said.contains("a.vmdk: ddb.adapterType: lsilogic -> ide\n"));
        assert!(said.contains("a.vmdk: ddb.virtualHWVersion: 4 -> 21\n"));
        assert!(said.contains("would "), "{said}");
        assert!(read(folder, image) == before, "a dry run wrote");
        // What was asked for is shown to the quiet, too; what was written is not.
        let asked = set(
            folder,
            image,
            &[&arguments[..], &["--dry-run", "-q"]].concat(),
        )
        .good();
        assert_eq!(asked, said);

        let said = set(folder, image, &arguments).good();
        assert!(said.contains("backup: a.vmdk.backup-1\n"), "{said}");
        let after = read(folder, image);
        assert_eq!(vdisk_hash(folder, image), hash);
        // The model: 6145 sectors make 6 cylinders of 16 heads and 63 sectors.
        let (area, rest) = match subformat {
            "monolithicSparse" | "streamOptimized" => (AREA, &after[AREA.end..]),
            _ => (0..after.len(), &after[..0]),
        };
        let expected = text(&before[area.start..])
            .replace("\"lsilogic\"", "\"ide\"")
            .replace("cylinders = \"3\"", "cylinders = \"6\"")
            .replace("heads = \"64\"", "heads = \"16\"")
            .replace("sectors = \"32\"", "sectors = \"63\"")
            .replace("HWVersion = \"4\"", "HWVersion = \"21\"");
        assert_eq!(text(&after[area.clone()]), expected);
        assert!(rest == &before[before.len() - rest.len()..]);
        assert!(after[..area.start] == before[..area.start]);

        if let Some(qemu) = Qemu::find() {
            let compare = ["compare", "-q", "-f", "raw", "-F", "vmdk", "in.raw", image];
            qemu.img(folder, &compare);
        }
        let again = set(folder, image, &arguments).good();
        assert_eq!(again, "a.vmdk: nothing to change\n");
        let undo = ["check", "--undo", "a.vmdk.backup-1", "--quiet"];
        assert_eq!(vdisk(folder, &undo).good(), "");
        let quiet = set(folder, image, &[&arguments[..], &["-q"]].concat()).good();
        assert_eq!(quiet, "");
        vdisk(folder, &["check", "--undo", "a.vmdk.backup-2"]).good();
        assert!(
            read(folder, image) == before,
            "{subformat} was not restored"
        );
    }
}

#[test]
fn unknown_lines_order_and_line_ends_stay() {
    // As no program of ours writes it: CRLF, a first comment of its own, keys nobody knows, odd
    // blanks, a key twice, lower case, no line end at the end.
    const BEFORE: &str = "# Description file\r\nversion=1\r\nCID=fffffffe\r\nparentCID=0badcafe\r\n\
        vendor.key=\"kept\"\r\ncreateType=\"monolithicFlat\"\r\n\r\n# Extents\r\n\
        RW 2 FLAT \"data=1.vmdk\" 0\r\n\r\n# Change Tracking File\r\nchangeTrackPath=\"x-ctk.vmdk\"\r\n\r\n\
        #DDB ddb.adapterType = \"comment\"\r\n DDB.ADAPTERTYPE\t=  buslogic \r\nddb.unknown = \"a = b\"\r\n\
        ddb.adapterType = \"ide\"\r\n\r\n# The end";
    const AFTER: &str = "# Description file\r\nversion=1\r\nCID=fffffffe\r\nparentCID=0badcafe\r\n\
        vendor.key=\"kept\"\r\ncreateType=\"monolithicFlat\"\r\nparentFileNameHint=\"..\\old\\b.vmdk\"\r\n\r\n# Extents\r\n\
        RW 2 FLAT \"data=1.vmdk\" 0\r\n\r\n# Change Tracking File\r\nchangeTrackPath=\"x-ctk.vmdk\"\r\n\r\n\
        #DDB ddb.adapterType = \"comment\"\r\n DDB.ADAPTERTYPE\t=  \"pvscsi\" \r\nddb.unknown = \"a = b\"\r\n\
        ddb.adapterType = \"pvscsi\"\r\nddb.geometry.cylinders = \"1\"\r\nddb.geometry.heads = \"64\"\r\n\
        ddb.geometry.sectors = \"32\"\r\nddb.uuid = \"60 00 c2 91 00 01 02 03-04 05 06 07 08 09 0a 0b\"\r\n\r\n# The end";
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    fs::write(folder.join("d.vmdk"), BEFORE).unwrap();
    let uuid = "6000c291-0001-0203-0405-060708090a0b";
    let arguments = [
        "--adapter",
        "pvscsi",
        "--uuid",
        uuid,
        "--parent-hint",
        "..\\old\\b.vmdk",
    ];
    set(folder, "d.vmdk", &arguments).good();
    assert_eq!(text(&read(folder, "d.vmdk")), AFTER);
    assert_eq!(names(folder), ["d.vmdk", "d.vmdk.backup-1"]);
}

#[test]
fn a_full_descriptor_and_bad_values_change_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    make(folder, "base.vmdk", "monolithicSparse");
    vdisk(folder, &["clone", "base.vmdk", "-o", "a.vmdk"]).good();
    let refused = |arguments: &[&str], why: &str| {
        let before = read(folder, "a.vmdk");
        let said = set(folder, "a.vmdk", arguments);
        assert_refused(&said);
        assert!(said.err.contains(why), "{said:#?}");
        assert!(read(folder, "a.vmdk") == before, "{arguments:?} wrote");
    };
    for hint in ["a\"b", "a\nb", "a\rb", "a\u{1}b", ""] {
        refused(&["--parent-hint", hint], "error: a.vmdk: parent");
    }
    refused(&["--adapter", "floppy"], "known are ide, buslogic");
    refused(&["--hardware-version", "0"], "between 1 and 99");
    let base = set(folder, "base.vmdk", &["--parent-hint", "b.vmdk"]);
    assert_refused(&base);
    assert!(base.err.contains("the image has none"), "{base:#?}");
    assert_eq!(set(folder, "a.vmdk", &["--uuid", "60 00"]).code, Some(2));
    assert_eq!(set(folder, "a.vmdk", &[]).code, Some(2));

    // Filled to the last byte: a line more would overwrite the grain directory behind it.
    let mut bytes = read(folder, "a.vmdk");
    let len = text(&bytes[AREA]).len();
    let room = AREA.len() - len;
    let comment = format!("ddb.comment2 = \"{}\"\n", "x".repeat(room - 18));
    bytes[AREA][len..].copy_from_slice(comment.as_bytes());
    fs::write(folder.join("a.vmdk"), &bytes).unwrap();
    let hash = vdisk_hash(folder, "a.vmdk");
    refused(&["--uuid", "random"], "10240 are reserved for it");
    refused(&["--parent-hint", "./base.vmdk"], "10240 are reserved");
    assert_eq!(names(folder), ["a.vmdk", "base.vmdk", "in.raw"]);
    // What is no longer than before still fits.
    set(folder, "a.vmdk", &["--adapter", "ide"]).good();
    assert_eq!(vdisk_hash(folder, "a.vmdk"), hash);
}

#[test]
fn a_renamed_parent_is_found_by_its_new_name() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    make(folder, "base.vmdk", "monolithicFlat");
    let hash = vdisk_hash(folder, "base.vmdk");
    vdisk(folder, &["clone", "base.vmdk", "-o", "a.vmdk"]).good();
    fs::rename(folder.join("base.vmdk"), folder.join("gold é.vmdk")).unwrap();
    assert_refused(&vdisk(folder, &["hash", "a.vmdk"]));
    set(folder, "a.vmdk", &["--parent-hint", "gold é.vmdk"]).good();
    assert_eq!(vdisk_hash(folder, "a.vmdk"), hash);
    if let Some(qemu) = Qemu::find() {
        assert_eq!(qemu.sha256(folder, "vmdk", "a.vmdk"), hash);
    }
}

#[test]
fn a_name_that_leads_to_no_parent_gives_a_warning() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let inside = folder.join("in");
    fs::create_dir(&inside).unwrap();
    make(&inside, "base.vmdk", "monolithicSparse");
    vdisk(&inside, &["clone", "base.vmdk", "-o", "a.vmdk"]).good();
    fs::copy(inside.join("base.vmdk"), folder.join("far.vmdk")).unwrap();
    for (hint, warning) in [
        ("nowhere.vmdk", Some("the parent nowhere.vmdk is not there")),
        ("../far.vmdk", Some("lies outside its folder")),
        ("/gold/nowhere.vmdk", Some("lies outside its folder")),
        ("base.vmdk", None),
        // Found by the bare name, as opening does.
        ("C:\\gold\\base.vmdk", None),
    ] {
        for more in [&["--dry-run"][..], &[]] {
            let arguments = [&["--parent-hint", hint], more].concat();
            let said = set(&inside, "a.vmdk", &arguments);
            assert_eq!(said.code, Some(0), "{said:#?}");
            match warning {
                Some(text) => assert!(said.err.contains(text), "{hint}: {said:#?}"),
                None => assert_eq!(said.err, "", "{hint}"),
            }
        }
        let opened = vdisk(&inside, &["hash", "a.vmdk"]).code == Some(0);
        assert_eq!(opened, warning.is_none(), "{hint}");
    }
}

#[test]
fn random_uuids_look_as_each_product_writes_them() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    make(folder, "a.vmdk", "monolithicSparse");
    let mut seen = Vec::new();
    for _ in 0..2 {
        set(folder, "a.vmdk", &["--uuid", "random"]).good();
        let details = vdisk_json(folder, &["info", "a.vmdk"])["details"].clone();
        let uuid = details["UUID"].as_str().unwrap().to_owned();
        assert!(uuid.starts_with("60 00 c2 9") && uuid.len() == 47, "{uuid}");
        assert_eq!(&uuid[23..24], "-");
        seen.push(uuid);
    }
    assert_ne!(seen[0], seen[1]);
    // VirtualBox has its own key; where it is, it is the one that counts.
    let lines = "ddb.uuid.image=\"11111111-2222-3333-4444-555555555555\"\n";
    let mut bytes = read(folder, "a.vmdk");
    let text = text(&bytes[AREA]).replace("ddb.comment = \"vdisk\"\n", lines);
    bytes[AREA].fill(0);
    bytes[AREA][..text.len()].copy_from_slice(text.as_bytes());
    fs::write(folder.join("a.vmdk"), &bytes).unwrap();
    let said = set(
        folder,
        "a.vmdk",
        &["--uuid", "{ABCDEF01-2222-3333-4444-555555555555}"],
    );
    assert!(
        said.err
            .contains("warning: a.vmdk: children that VirtualBox")
    );
    let details = vdisk_json(folder, &["info", "a.vmdk"])["details"].clone();
    let expected = "abcdef01-2222-3333-4444-555555555555";
    assert_eq!(details["VirtualBox UUID"], expected);
}

/// The specification's checksum of a footer: the complement of the sum of all its other bytes.
fn sum(footer: &[u8]) -> u32 {
    let others = footer
        .iter()
        .enumerate()
        .filter(|(at, _)| !(64..68).contains(at));
    !others.map(|(_, byte)| u32::from(*byte)).sum::<u32>()
}

#[test]
fn the_unique_id_of_a_vhd_changes_in_both_footers() {
    let new: Vec<u8> = (1..=16).collect();
    for subformat in ["dynamic", "fixed"] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        make(folder, "a.vhd", subformat);
        let mut bytes = read(folder, "a.vhd");
        // A mark of another program in reserved bytes, which must stay.
        let end = bytes.len() - 512;
        let places = match subformat {
            "fixed" => vec![end],
            _ => vec![0, end],
        };
        for &at in &places {
            bytes[at + 500] = 0x77;
            let checksum = sum(&bytes[at..at + 512]).to_be_bytes();
            bytes[at + 64..at + 68].copy_from_slice(&checksum);
        }
        fs::write(folder.join("a.vhd"), &bytes).unwrap();
        let hash = vdisk_hash(folder, "a.vhd");

        let uuid = "01020304-0506-0708-090a-0b0c0d0e0f10";
        let said = set(folder, "a.vhd", &["--uuid", uuid]);
        assert!(said.err.contains("differencing disks name their parent"));
        said.good();
        let mut expected = bytes.clone();
        for &at in &places {
            expected[at + 68..at + 84].copy_from_slice(&new);
            let checksum = sum(&expected[at..at + 512]).to_be_bytes();
            expected[at + 64..at + 68].copy_from_slice(&checksum);
        }
        assert!(read(folder, "a.vhd") == expected, "{subformat}");
        assert_eq!(vdisk_hash(folder, "a.vhd"), hash);
        if let Some(qemu) = Qemu::find() {
            assert_eq!(qemu.sha256(folder, "vpc", "a.vhd"), hash);
        }
        vdisk(folder, &["check", "--undo", "a.vhd.backup-1"]).good();
        assert!(
            read(folder, "a.vhd") == bytes,
            "{subformat} was not restored"
        );

        for arguments in [["--adapter", "ide"], ["--parent-hint", "b.vhd"]] {
            let said = set(folder, "a.vhd", &arguments);
            assert_refused(&said);
            assert!(said.err.contains("no such setting"), "{said:#?}");
        }
        // A footer that is not sound is for `check --repair`.
        let at = end + 40;
        bytes[at] ^= 1;
        fs::write(folder.join("a.vhd"), &bytes).unwrap();
        let said = set(folder, "a.vhd", &["--uuid", "random"]);
        assert_refused(&said);
        assert!(read(folder, "a.vhd") == bytes, "{subformat} was written");
    }
}

#[test]
fn what_has_no_settings_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    make(folder, "a.vmdk", "twoGbMaxExtentSparse");
    for image in ["in.raw", "a-s001.vmdk"] {
        let said = set(folder, image, &["--uuid", "random"]);
        assert_refused(&said);
    }
    assert_eq!(names(folder), ["a-s001.vmdk", "a.vmdk", "in.raw"]);
}
