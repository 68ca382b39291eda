//! What is written, looked at without the code that reads it. Other programs look in the tests of
//! the program.

use crate::{
    assert_reads,
    builder::{contents, sum},
    fact, only,
};
use vdisk_core::{
    Disk as _, ErrorKind, Ids, Job,
    format::{self, Options, Spec},
    ops::convert,
    target::Stream,
};

fn spec(name: &str, size: u64) -> Spec<'_> {
    let ova = format::named("ova").unwrap();
    Spec {
        size,
        subformat: format::subformat(ova, None).unwrap(),
        name,
        ids: Ids::derived(&[3; 32], "ova", 1_700_000_000),
        level: 6,
        parent: None,
        options: Options::default(),
    }
}

fn write(name: &str, model: &Vec<u8>) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let spec = spec(name, model.len() as u64);
    let writer = format::named("ova")
        .unwrap()
        .create(&mut bytes, &spec)
        .unwrap();
    convert::copy(model, writer, &Job::default()).unwrap();
    bytes
}

/// Name, time and bytes of each member, by the rules of POSIX.
fn members(archive: &[u8]) -> Vec<(String, u64, Vec<u8>)> {
    let octal = |field: &[u8]| {
        let text = String::from_utf8(field.to_vec()).unwrap();
        u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).unwrap()
    };
    assert_eq!(archive.len() % 512, 0);
    let mut found = Vec::new();
    let mut at = 0;
    while archive[at..at + 512].iter().any(|b| *b != 0) {
        let header = &archive[at..at + 512];
        assert_eq!(&header[257..265], b"ustar\x0000");
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(i, b)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u64::from(*b)
                }
            })
            .sum();
        assert_eq!(octal(&header[148..156]), sum);
        let name = String::from_utf8(header[..100].to_vec()).unwrap();
        let size = octal(&header[124..136]) as usize;
        let data = archive[at + 512..at + 512 + size].to_vec();
        found.push((
            name.trim_end_matches('\0').to_owned(),
            octal(&header[136..148]),
            data,
        ));
        at = at + 512 + size.next_multiple_of(512);
    }
    assert_eq!(archive.len() - at, 1024, "two empty blocks end it");
    found
}

#[test]
fn three_members_in_order_with_right_digests() {
    for sectors in [1, 127, 128, 129, 9000] {
        let model = contents(sectors, 5);
        let archive = write("new.ova", &model);
        let members = members(&archive);
        let names: Vec<&str> = members.iter().map(|m| m.0.as_str()).collect();
        assert_eq!(names, ["new.ovf", "new-disk1.vmdk", "new.mf"]);
        assert!(members.iter().all(|m| m.1 == 1_700_000_000));
        let expected = format!(
            "SHA256(new.ovf)= {}\nSHA256(new-disk1.vmdk)= {}\n",
            sum("sha256sum", &members[0].2),
            sum("sha256sum", &members[1].2)
        );
        assert_eq!(String::from_utf8(members[2].2.clone()).unwrap(), expected);
        let text = String::from_utf8(members[0].2.clone()).unwrap();
        let has = |what: String| assert!(text.contains(&what), "{what} in {text}");
        has(format!("ovf:size=\"{}\"", members[1].2.len()));
        has(format!("ovf:capacity=\"{}\"", model.len()));
        has("ovf:href=\"new-disk1.vmdk\"".to_owned());
        let descriptor = String::from_utf8_lossy(&members[1].2[512..20 << 10]).into_owned();
        assert!(
            descriptor.contains("createType=\"streamOptimized\""),
            "{descriptor}"
        );
        let layer = only(archive).unwrap();
        assert_reads(&layer, &model, "read back");
        assert_eq!(fact(&layer, "manifest"), Some("checked"));
        assert_eq!(layer.facts().subformat, "streamOptimized in OVA");
        assert_eq!(layer.facts().warnings, [""; 0]);
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let archive = write("new.ova", &contents(3000, 5));
    let disk = archive.len() / 2;
    for at in [600, disk] {
        let mut bytes = archive.clone();
        bytes[at] ^= 1;
        let error = only(bytes).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("the manifest says"), "{error}");
    }
}

#[test]
fn the_machine_has_the_adapter_of_the_disk() {
    let model = contents(9, 5);
    for (adapter, controller) in [
        (
            None,
            "lsilogic</rasd:ResourceSubType>\n        <rasd:ResourceType>6<",
        ),
        (Some("ide"), "InstanceID>\n        <rasd:ResourceType>5<"),
        (
            Some("pvscsi"),
            "VirtualSCSI</rasd:ResourceSubType>\n        <rasd:ResourceType>6<",
        ),
    ] {
        let mut bytes: Vec<u8> = Vec::new();
        let mut spec = spec("new.ova", model.size());
        spec.options.adapter = adapter.map(str::to_owned);
        spec.options.hardware_version = adapter.map(|_| 13);
        let writer = format::named("ova")
            .unwrap()
            .create(&mut bytes, &spec)
            .unwrap();
        convert::copy(&model, writer, &Job::default()).unwrap();
        let text = String::from_utf8(members(&bytes)[0].2.clone()).unwrap();
        assert!(text.contains(controller), "{text}");
        let version = if adapter.is_some() {
            ">vmx-13<"
        } else {
            ">vmx-07<"
        };
        assert!(text.contains(version), "{text}");
    }
}

#[test]
fn the_same_bytes_for_the_same_disk_and_name() {
    let model = contents(3000, 5);
    assert!(write("new.ova", &model) == write("new.ova", &model));
}

#[test]
fn names_that_archives_take_amiss() {
    let model = contents(3, 1);
    for (name, stem) in [
        ("my disk (1).ova", "my_disk__1_"),
        ("<a>&\"b\".ova", "_a___b_"),
        ("Größe.ova", "Gr__e"),
        ("v1.2.ova", "v1.2"),
        ("plain", "plain"),
        (".ova", "ova"),
        ("...ova", "disk"),
        ("ü.ova", "disk"),
    ] {
        let members = members(&write(name, &model));
        let names: Vec<&str> = members.iter().map(|m| m.0.as_str()).collect();
        let (ovf, disk, mf) = (
            format!("{stem}.ovf"),
            format!("{stem}-disk1.vmdk"),
            format!("{stem}.mf"),
        );
        if name == ".ova" {
            continue; // any name will do, as long as the members can be read
        }
        assert_eq!(names, [&ovf, &disk, &mf], "{name}");
    }
    let long = write(&format!("{}.ova", "n".repeat(250)), &model);
    assert!(members(&long).iter().all(|m| m.0.len() <= 100));
    assert_reads(&only(long).unwrap(), &model, "long");
}

#[test]
fn what_cannot_be_written() {
    let ova = format::named("ova").unwrap();
    let mut bytes: Vec<u8> = Vec::new();
    let refused = ova.create(&mut bytes, &spec("new.ovf", 512)).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    // The place of the descriptor is filled last.
    assert!(!ova.subformats().iter().any(|s| s.streams || s.child));
    let mut pipe = Stream::new(Vec::new());
    let model = contents(300, 1);
    let result = ova
        .create(&mut pipe, &spec("new.ova", model.size()))
        .and_then(|writer| convert::copy(&model, writer, &Job::default()));
    assert_eq!(result.err().unwrap().kind(), ErrorKind::Io);
}
