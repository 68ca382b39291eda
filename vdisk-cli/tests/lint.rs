//! Profiles on the command line: what they choose, what they refuse, and `lint`, which says before
//! an upload whether it will be taken.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use run::{Folder, noise};
use serde_json::Value;
use support::peers::Qemu;
use vdisk_core::profile::PROFILES;

/// A disk of an odd number of sectors with a partition table's signature.
fn disk() -> Vec<u8> {
    let mut disk = noise(3, 300 << 10);
    disk.resize((1 << 20) + 512, 0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn every_shape_of_every_profile_is_written_and_passes() {
    let folder = Folder::new();
    let disk = disk();
    folder.write("in.raw", &disk);
    for profile in PROFILES {
        for shape in profile.shapes {
            let (name, format, subformat) = (profile.name, shape.format, shape.subformat);
            let out = match format {
                "raw" => "disk.raw".to_owned(),
                _ => format!("{name}-{subformat}.{format}"),
            };
            let flags = format!("--profile {name} --format {format} --subformat {subformat}");
            let ran = folder
                .run(&format!(
                    "convert in.raw -o {out} {flags} --force --no-sync --json"
                ))
                .code(0);
            assert!(
                !ran.err.contains("against the rules"),
                "{flags}: {}",
                ran.err
            );
            let report = ran.json();
            assert_eq!(report["format"], format);
            assert_eq!(report["subformat"], subformat);
            let size = shape.sizes.fit(disk.len() as u64).unwrap();
            assert_eq!(report["virtual_size"], size);
            assert_eq!(report["added_size"], size - disk.len() as u64);
            let grew = ran.err.contains("with zeros at its end");
            assert_eq!(grew, size > disk.len() as u64, "{flags}: {}", ran.err);
            folder
                .run(&format!("lint {out} --profile {name}"))
                .code(0)
                .prints("keeps the rules of");
            if size < 1 << 28 {
                let found = folder.contents(&out);
                assert_eq!(found.len() as u64, size, "{flags}");
                assert!(found.starts_with(&disk), "{flags}");
                assert!(found[disk.len()..].iter().all(|b| *b == 0), "{flags}");
            }
        }
    }
}

#[test]
fn the_ending_decides_among_what_a_profile_takes() {
    let folder = Folder::new();
    folder.write("in.raw", &disk());
    for (profile, out, format, subformat) in [
        ("esxi", "a.vmdk", "vmdk", "streamOptimized"),
        ("esxi", "a.ova", "ova", "ova"),
        ("workstation", "b.vmdk", "vmdk", "monolithicSparse"),
        ("virtualbox", "c.vhd", "vhd", "dynamic"),
        ("hyperv", "d.vhdx", "vhdx", "dynamic"),
        ("hyperv", "d.vhd", "vhd", "dynamic"),
        ("azure", "plain", "vhd", "fixed"),
        ("azure", "e.vhd", "vhd", "fixed"),
        ("aws", "f.vmdk", "vmdk", "streamOptimized"),
        ("aws", "f.raw", "raw", "sparse"),
        ("xen", "h.vhd", "vhd", "dynamic"),
    ] {
        let args = format!("convert in.raw -o {out} --profile {profile} --json");
        let report = folder.run(&args).code(0).json();
        assert_eq!(report["format"], format, "{args}");
        assert_eq!(report["subformat"], subformat, "{args}");
    }
    // A pipe takes what can be written in order.
    folder
        .shell("$V convert in.raw -o - --profile azure > g.vhd")
        .code(0);
    folder.run("lint g.vhd --profile azure").code(0);
    folder
        .run("create i.vhd -s 29999616 --profile azure")
        .code(0);
    let report = folder.run("info i.vhd --json").json();
    assert_eq!(report["virtual_size"], 29 << 20);
    folder.run("convert in.raw -o base.vmdk").code(0);
    folder.run("clone base.vmdk -o child.vmdk").code(0);
    folder
        .run("compose base.vmdk child.vmdk -o k.vhd --profile azure --json")
        .code(0);
    folder.run("lint k.vhd --profile azure").code(0);
}

#[test]
fn wishes_that_contradict_a_profile_are_refused_with_the_rule() {
    let folder = Folder::new();
    folder.write("in.raw", &disk());
    for (args, says) in [
        (
            "-o a.vmdk --profile azure",
            "a.vmdk: format: for azure vdisk writes VHD (fixed), not VMDK: Azure stores disks",
        ),
        (
            "-o a.vhd --profile azure --subformat dynamic",
            "[azure-fixed]",
        ),
        (
            "-o a.vmdk --profile esxi --subformat monolithicSparse",
            "[esxi-type]",
        ),
        (
            "-o a.vhd --profile xen --block-size 512K",
            "a.vhd: --block-size: for xen vdisk writes 2 MiB, not 512 KiB: the block driver of Xen",
        ),
        (
            "-o a.vmdk --profile aws --adapter ide",
            "a.vmdk: --adapter: for aws vdisk writes lsilogic, not 'ide'\n",
        ),
        (
            "-o a.vmdk --profile esxi --adapter floppy",
            "not 'floppy': the type decides",
        ),
        // What is taken, but not written, has nothing against it.
        (
            "-o a.vhdx --profile aws",
            "a.vhdx: format: for aws vdisk writes VMDK (streamOptimized), VHD (dynamic, fixed), raw or OVA, not VHDX\n",
        ),
        (
            "-o a.ova --profile workstation",
            "monolithicFlat, twoGbMaxExtentFlat), not OVA\n",
        ),
        (
            "-o a.vhdx --profile virtualbox",
            "VHD (dynamic, fixed) or OVA, not VHDX\n",
        ),
        (
            "-o a.vhd --profile aws --subformat differencing",
            "not differencing\n",
        ),
        // Names by which nobody could tell what the file is.
        (
            "-o desk --profile hyperv",
            "desk: file name: for hyperv the name of a VHDX must end in .vhdx: Hyper-V goes by",
        ),
        ("-o a.vhd --profile hyperv --format vhdx", "[hyperv-ending]"),
        ("-o a.vpc --profile hyperv", "a VHD must end in .vhd: "),
        (
            "-o - --profile workstation --subformat monolithicFlat",
            "for workstation vdisk writes VMDK (monolithicFlat), which cannot be written to standard output\n",
        ),
        (
            "-o gcp --profile gcp",
            "gcp: file name: for gcp a raw disk is written, which only its name can tell: give it an ending, such as disk.raw",
        ),
        ("-o a.vhd --subformat floppy", "a.vhd: subformat: "),
        ("-o a.ovf", "a name that ends in .ova"),
        ("-o a.vmdk --adapter floppy", "'floppy' is not known"),
        (
            "-o a.vhd --adapter ide",
            "a.vhd: --adapter: is recorded in VMDK only, not in VHD (dynamic)",
        ),
        (
            "-o a.vmdk --block-size 2M",
            "a.vmdk: --block-size: can be chosen for dynamic VHD and for VHDX, not for VMDK",
        ),
        (
            "-o a.vhd --subformat fixed --block-size 2M",
            "can be chosen for dynamic VHD and for VHDX, not for VHD (fixed)",
        ),
        ("-o a.vmdk --profile floppy", "possible values: esxi"),
    ] {
        folder
            .run(&format!("convert in.raw {args}"))
            .code(2)
            .says(says);
        assert_eq!(folder.names(), ["in.raw"], "{args}");
    }
    let big = folder.run("create a.vhd -s 33T --profile azure").code(2);
    assert!(big.err.contains("[azure-size-range]"), "{}", big.err);
    for (args, says) in [
        (
            "a.vhd -s 3T --profile xen",
            "a.vhd: virtual size: 3 TiB, but xen takes 2040 GiB at most: that is all",
        ),
        (
            "a.raw -s 16T --profile aws",
            "a.raw: virtual size: 16 TiB, but aws takes less than 16 TiB: EBS",
        ),
        (
            "a.vhdx -s 65T --profile hyperv",
            "a.vhdx: virtual size: 65 TiB, but hyperv takes 64 TiB at most: a VHDX holds no more",
        ),
        ("a.raw -s 513", "513 bytes is not a multiple of 512 bytes"),
        ("a -s 1M", "ova (.ova), raw"),
    ] {
        folder.run(&format!("create {args}")).code(2).says(says);
        assert_eq!(folder.names(), ["in.raw"], "{args}");
    }
}

#[test]
fn children_for_a_profile_are_refused_as_such() {
    let folder = Folder::new();
    folder.run("create a.vmdk -s 1M").code(0);
    folder.run("create b.vmdk -s 1M").code(0);
    for (profile, says) in [
        (
            "esxi",
            "c.vmdk: --profile: esxi takes no disks with a parent; clone --full copies: an upload is one disk",
        ),
        ("gcp", "[gcp-parent]"),
        (
            "hyperv",
            "for hyperv vdisk writes no disks with a parent; clone --full copies\n",
        ),
    ] {
        for verb in ["clone a.vmdk", "diff a.vmdk b.vmdk"] {
            let args = format!("{verb} -o c.vmdk --profile {profile}");
            folder.run(&args).code(2).says(says);
        }
    }
    let full = "clone a.vmdk --full -o c.vmdk --profile esxi";
    folder.run(full).code(0);
    folder
        .run("clone a.vmdk -o d.vmdk --profile workstation --subformat monolithicFlat")
        .code(2)
        .says("VMDK (monolithicFlat), which cannot be a child of another image");
    folder
        .run("clone a.vmdk -o d.vmdk --profile workstation")
        .code(0);
}

#[test]
fn what_is_left_to_the_user_is_said_after_writing() {
    let folder = Folder::new();
    folder
        .run("create gcp.raw -s 1G --profile gcp")
        .code(0)
        .says("for gcp: gcp.raw: file name: is not disk.raw [gcp-raw-name]; rename it");
    let quiet = folder.run("create disk.raw -s 1G --profile gcp").code(0);
    assert!(!quiet.err.contains("gcp-raw-name"), "{}", quiet.err);
}

#[test]
fn a_plan_says_what_the_profile_adds() {
    let folder = Folder::new();
    folder.run("create base.vmdk -s 1M").code(0);
    folder.run("clone base.vmdk -o child.vmdk").code(0);
    let plan = "compose base.vmdk child.vmdk --plan --profile azure";
    folder
        .run(plan)
        .code(0)
        .prints("      19 MiB  zeros added at the end for the profile\n");
    let report = folder.run(&format!("{plan} --json")).code(0).json();
    assert_eq!(report["virtual_size"], 1 << 20);
    assert_eq!(report["added_size"], 19 << 20);
    let without = folder.run("compose base.vmdk child.vmdk --plan --json");
    assert_eq!(without.code(0).json()["added_size"], 0);
    let real = plan.replace("--plan", "-o k.vhd");
    let report = folder.run(&format!("{real} --json")).code(0).json();
    assert_eq!(report["added_size"], 19 << 20);
}

#[test]
fn adapter_and_block_size_reach_the_image() {
    let folder = Folder::new();
    let detail = |image: &str, key: &str| {
        let report = folder.run(&format!("info {image} --json")).json();
        report["details"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    folder
        .run("create a.vmdk -s 1M --adapter PVSCSI --profile esxi")
        .code(0);
    assert_eq!(detail("a.vmdk", "adapter type"), "pvscsi");
    assert_eq!(detail("a.vmdk", "hardware version"), "10");
    folder.run("create b.vmdk -s 1M --adapter ide").code(0);
    assert_eq!(detail("b.vmdk", "adapter type"), "ide");
    folder.run("create c.vhd -s 1M --block-size 512K").code(0);
    assert_eq!(detail("c.vhd", "block size"), "524288 bytes");
    folder.run("create d.vhdx -s 1M --block-size 4M").code(0);
    assert_eq!(detail("d.vhdx", "block size"), "4194304 bytes");
}

#[test]
fn lint_names_rule_reason_and_fix() {
    let folder = Folder::new();
    folder.run("create a.vhd -s 20M").code(0);
    folder
        .run("lint a.vhd --profile azure")
        .code(1)
        .prints("error: a.vhd: disk type: is dynamic [azure-fixed]\n  demand: The VHD is fixed\n")
        .prints("  fix:    vdisk convert IMAGE --profile azure -o NEW.vhd\n")
        .prints("a.vhd: will not be taken by Microsoft Azure: 1 errors, 0 warnings\n");
    folder.run("lint a.vhd --profile xen").code(0);
    let report = folder
        .run("lint a.vhd --profile azure --json")
        .code(1)
        .json();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["profile"], "azure");
    assert_eq!(report["findings"][0]["rule"], "azure-fixed");
    assert_eq!(report["findings"][0]["severity"], "error");
    // What a rule tells to do does help.
    folder.run("create e.vhd -s 20M --profile azure").code(0);
    let behind = [&folder.read("e.vhd")[..], &[0xee; 512]].concat();
    folder.write("e.vhd", &behind);
    folder
        .run("lint e.vhd --profile azure")
        .code(1)
        .prints("[azure-footer]");
    let report = folder.run("lint e.vhd --profile azure --json").json();
    assert_eq!(
        report["findings"][0]["fix"],
        "vdisk convert IMAGE --profile azure -o NEW.vhd"
    );
    folder.run("convert e.vhd --profile azure -o f.vhd").code(0);
    folder.run("lint f.vhd --profile azure").code(0);
    // A note alone is no reason to stop.
    folder.run("create b.raw -s 1G").code(0);
    folder
        .run("lint b.raw --profile gcp")
        .code(0)
        .prints("note: b.raw: file name: is not disk.raw [gcp-raw-name]")
        .prints("keeps the rules of");
    folder
        .run("lint a.vhd")
        .code(2)
        .says("--profile: say whose rules: esxi, workstation, virtualbox");
    folder
        .run("lint --profile azure")
        .code(2)
        .says("vdisk lint [OPTIONS] --profile <NAME> <IMAGE>\n");
    folder.run("create plain --format vhdx -s 1M").code(0);
    folder
        .run("lint plain --profile hyperv")
        .code(1)
        .prints("file name: has no ending, but the image is a VHDX [hyperv-ending]");
    folder.write("broken.vhd", &[0; 512]);
    folder.run("lint broken.vhd --profile azure").code(2);
    // The time of the image is what its maker said.
    folder
        .shell("SOURCE_DATE_EPOCH=4000000000 $V create c.vhd -s 1M --profile xen")
        .code(0)
        .says("warning: against the rules of xen: c.vhd: creation time: is ");
    folder
        .run("lint c.vhd --profile xen")
        .code(1)
        .prints("[xen-timestamp]");
}

#[test]
fn lint_sees_a_disk_inside_a_package() {
    let folder = Folder::new();
    folder.write("in.raw", &disk());
    folder.run("convert in.raw -o a.ova").code(0);
    folder.run("lint a.ova --profile esxi").code(0);
    let bytes = folder.read("a.ova");
    let at = bytes.windows(4).position(|w| w == b"KDMV").unwrap();
    let mut spoiled = bytes;
    spoiled[at + 4] = 1; // header version
    folder.write("b.ova", &spoiled);
    let report = folder
        .run("lint b.ova --profile esxi --json")
        .code(1)
        .json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{report}");
    assert_eq!(findings[0]["rule"], "esxi-stream-version");
    assert_eq!(findings[0]["file"], "b.ova");
    assert_eq!(findings[0]["at"], at);
}

#[test]
fn rules_are_listed_with_their_reasons() {
    let folder = Folder::new();
    let all = folder.run("lint --list").code(0);
    for profile in PROFILES {
        for rule in profile.rules {
            assert!(all.out.contains(rule.id) && all.out.contains(rule.reason));
        }
    }
    let one = folder
        .run("lint --list --profile xen --json")
        .code(0)
        .json();
    let rules = one["rules"].as_array().unwrap();
    assert!(rules.iter().all(|r| r["profile"] == "xen"));
    assert!(rules.iter().any(|r| r["rule"] == "xen-timestamp"));
    folder.run("lint a.vhd --list").code(2);
}

/// What the SARIF 2.1.0 schema requires of the objects that are used, and which properties it
/// knows of them: it forbids all others.
#[test]
fn sarif_has_what_its_schema_requires() {
    fn object<'a>(value: &'a Value, required: &[&str], known: &[&str]) -> &'a Value {
        let fields = value.as_object().unwrap();
        for key in required {
            assert!(fields.contains_key(*key), "{key} is missing in {value}");
        }
        for key in fields.keys() {
            let allowed = required.contains(&key.as_str()) || known.contains(&key.as_str());
            assert!(allowed, "{key} in {value}");
        }
        value
    }
    let list = |value: &Value| value.as_array().unwrap().clone();
    let level = |value: &Value| {
        assert!(["none", "note", "warning", "error"].contains(&value.as_str().unwrap()));
    };
    let folder = Folder::new();
    folder.run("create a%1.vmdk -s 64K").code(0);
    let mut bytes = folder.read("a%1.vmdk");
    bytes[72] = 1; // not closed
    folder.write("a%1.vmdk", &bytes);
    let report = folder
        .run("lint a%1.vmdk --profile esxi --sarif")
        .code(1)
        .json();
    object(&report, &["version", "runs"], &["$schema"]);
    assert_eq!(report["version"], "2.1.0");
    let runs = list(&report["runs"]);
    assert_eq!(runs.len(), 1);
    let run = object(&runs[0], &["tool"], &["results"]);
    let tool = object(&run["tool"], &["driver"], &[]);
    let driver = object(&tool["driver"], &["name"], &["version", "rules"]);
    assert_eq!(driver["name"], "vdisk");
    let rules = list(&driver["rules"]);
    let texts = ["shortDescription", "fullDescription", "help"];
    for rule in &rules {
        let known = [&texts[..], &["defaultConfiguration"]].concat();
        object(rule, &["id"], &known);
        for text in texts {
            assert!(object(&rule[text], &["text"], &[])["text"].is_string());
        }
        level(&object(&rule["defaultConfiguration"], &[], &["level"])["level"]);
    }
    let results = list(&run["results"]);
    let ids: Vec<&str> = results
        .iter()
        .map(|r| r["ruleId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["esxi-type", "esxi-clean"]);
    for result in &results {
        object(
            result,
            &["message"],
            &["ruleId", "ruleIndex", "level", "locations"],
        );
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        level(&result["level"]);
        assert!(object(&result["message"], &["text"], &[])["text"].is_string());
        for location in list(&result["locations"]) {
            let place = &object(&location, &[], &["physicalLocation"])["physicalLocation"];
            object(place, &["artifactLocation"], &["region"]);
            let artifact = object(&place["artifactLocation"], &[], &["uri"]);
            assert_eq!(artifact["uri"], "a%251.vmdk");
            // One of three kinds of region must be chosen.
            assert!(object(&place["region"], &["byteOffset"], &[])["byteOffset"].is_u64());
        }
    }
}

/// What these programs write is known from those who tried to import it.
#[test]
fn images_of_qemu_break_the_rules_that_importers_complained_about() {
    let Some(qemu) = Qemu::find() else {
        return;
    };
    let folder = Folder::new();
    folder.write("in.raw", &disk());
    let path = folder.path("");
    let rules = |image: &str, profile: &str| -> Vec<String> {
        let report = folder
            .run(&format!("lint {image} --profile {profile} --json"))
            .json();
        let findings = report["findings"].as_array().unwrap().iter();
        findings
            .map(|f| f["rule"].as_str().unwrap().to_owned())
            .collect()
    };
    let convert = ["convert", "-f", "raw", "in.raw", "-O"];
    let make = |more: &[&str]| qemu.img(&path, &[&convert[..], more].concat());
    make(&["vmdk", "-o", "subformat=streamOptimized", "stream.vmdk"]);
    let promised = ["redundant", "footer", "markers"].map(|r| format!("esxi-stream-{r}"));
    assert_eq!(rules("stream.vmdk", "esxi"), promised);
    make(&["vhdx", "a.vhdx"]);
    assert_eq!(
        rules("a.vhdx", "virtualbox"),
        ["vbox-vhdx-read-only", "vbox-vhdx-required"]
    );
    make(&["vpc", "a.vhd"]);
    assert!(rules("a.vhd", "azure").contains(&"azure-fixed".to_owned()));
    make(&["vpc", "-o", "subformat=fixed,force_size", "b.vhd"]);
    assert_eq!(
        rules("b.vhd", "azure"),
        ["azure-size-aligned", "azure-size-range"]
    );
}

/// What the products themselves wrote keeps the rules, or the rules are not theirs.
#[test]
fn images_of_the_products_keep_their_rules() {
    let Some(images) = std::env::var_os("VDISK_TEST_IMAGES") else {
        support::skipped("rules against images of products: VDISK_TEST_IMAGES names no folder");
        return;
    };
    let folder = Folder::new();
    for (image, profile) in [
        ("vsphere-sdk-python/disk-0.vmdk", "esxi"),
        ("go-vcloud-director/vm-20b41fa7-disk-0.vmdk", "esxi"),
        ("go-vcloud-director/test_vapp_template.ova", "esxi"),
        ("go-vcloud-director/test_vapp_template.ova", "virtualbox"),
        ("cot/ubuntu.2.0-disk1.vmdk", "virtualbox"),
        ("cot/ubuntu.2.0-disk1.vmdk", "esxi"),
        ("hobby/nearlands-image.vmdk", "workstation"),
        ("dfvfs/ntfs-dynamic.vhd", "hyperv"),
        ("dfvfs/ntfs-differential.vhd", "hyperv"),
        ("dfvfs/ntfs-parent.vhd", "hyperv"),
        ("dfvfs/ntfs-dynamic.vhdx", "hyperv"),
        ("dfvfs/ntfs-differential.vhdx", "hyperv"),
        ("dfvfs/ntfs-parent.vhdx", "hyperv"),
        ("vhd-shell/test-3072.vhd", "xen"),
    ] {
        let image = std::path::Path::new(&images).join(image);
        folder
            .run(&format!("lint {} --profile {profile}", image.display()))
            .code(0)
            .prints("keeps the rules of");
    }
}
