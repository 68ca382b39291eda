//! `diff --delta` and `apply`.

use super::*;

#[test]
fn a_delta_makes_the_new_disk_out_of_the_old_one() {
    let a = noise(1, SIZE);
    // Longer and shorter, with zeros over data, and text that compresses.
    let mut longer = with(&a, 300_000, &[0; 200_000]);
    longer.resize(SIZE + 3 * 512, 7);
    longer.resize(SIZE + (1 << 20) + 512, 0);
    let text = b"the same words again ".repeat(10_000);
    let shorter = with(&a[..SIZE - 512 * 77], 1_000_000, &text);
    for (from, to) in [
        ("a.vmdk", "b.vmdk"),
        ("a.vhd", "b.vhdx"),
        ("a.raw", "b.vmdk"),
    ] {
        for b in [&longer, &shorter] {
            let folder = Folder::new();
            full(&folder, from, &a);
            full(&folder, to, b);
            let json = folder
                .run(&format!("diff {from} {to} --delta -o d.vmdk --json"))
                .code(0)
                .json();
            assert_eq!(json["delta"]["a_sha256"], sha256(&a), "{json}");
            assert_eq!(json["delta"]["b_sha256"], sha256(b), "{json}");
            let len = folder.read("d.vmdk").len();
            assert!(len < 512 << 10, "{len} bytes");
            // In yet another format, over a copy in another format.
            full(&folder, "copy.vhdx", &a);
            let json = folder
                .run("apply d.vmdk --onto copy.vhdx -o new.vhd --json")
                .code(0)
                .json();
            assert_eq!(json["sha256"], sha256(b), "{json}");
            assert!(&folder.contents("new.vhd") == b, "{from} {to}");
            folder
                .shell("\"$V\" apply d.vmdk --onto copy.vhdx -o - > piped")
                .code(0);
            assert!(&folder.read("piped") == b);
            if from == "a.vmdk" {
                // Also a child like any other.
                assert!(&folder.contents("d.vmdk") == b);
            }
        }
    }
}

#[test]
fn a_delta_goes_through_a_pipe() {
    let folder = Folder::new();
    let a = noise(1, SIZE);
    let b = with(&a, 5000, b"changed");
    full(&folder, "a.vhd", &a);
    full(&folder, "b.raw", &b);
    folder
        .shell("\"$V\" diff a.vhd b.raw --delta -o - > d.vmdk")
        .code(0);
    folder.run("apply d.vmdk --onto a.vhd -o c.vmdk").code(0);
    assert_eq!(folder.contents("c.vmdk"), b);
}

#[test]
fn a_delta_is_refused_over_another_base_and_noticed_if_damaged() {
    let folder = Folder::new();
    let a = noise(1, SIZE);
    let b = with(&a, 5000, &noise(2, 100_000));
    full(&folder, "a.raw", &a);
    full(&folder, "b.raw", &b);
    full(
        &folder,
        "wrong.raw",
        &with(&a, SIZE - 1, &[a[SIZE - 1] ^ 1]),
    );
    full(&folder, "short.raw", &a[..SIZE - 512]);
    folder.run("diff a.raw b.raw --delta -o d.vmdk").code(0);
    let names = folder.names();
    folder
        .run("apply d.vmdk --onto wrong.raw -o c.raw")
        .code(3)
        .says(&sha256(&a))
        .says(&sha256(&folder.read("wrong.raw")));
    folder
        .run("apply d.vmdk --onto short.raw -o c.raw")
        .code(3)
        .says("4193792 bytes")
        .says("4194304 bytes");
    // Somebody says that other bytes result, in the one place where they are recorded.
    let good = folder.read("d.vmdk");
    let digest = sha256(&b);
    let at = good
        .windows(64)
        .position(|w| w == digest.as_bytes())
        .unwrap();
    folder.write(
        "d.vmdk",
        &with(&good, at, &digest.as_bytes()[1..].repeat(2)[..64]),
    );
    folder
        .run("apply d.vmdk --onto a.raw -o c.raw")
        .code(4)
        .says("damaged");
    folder.write("d.vmdk", &with(&good, at, b"not hexadecimal"));
    folder.run("apply d.vmdk --onto a.raw -o c.raw").code(4);
    // Compressed bytes in the middle of the grains.
    folder.write("d.vmdk", &with(&good, good.len() / 2, &[0xA5; 64]));
    folder.run("apply d.vmdk --onto a.raw -o c.raw").code(4);
    folder.write("d.vmdk", &good[..good.len() / 2]);
    folder.run("apply d.vmdk --onto a.raw -o c.raw").code(4);
    folder.write("d.vmdk", &good);
    folder
        .run("apply a.raw --onto a.raw -o c.raw")
        .code(2)
        .says("is no delta");
    folder.run("diff a.raw b.raw --delta").code(2);
    folder
        .run("diff a.raw b.raw --delta -o d.vhd")
        .code(2)
        .says("a delta is a VMDK");
    assert_eq!(folder.names(), names, "nothing was left behind");
    folder.run("apply d.vmdk --onto a.raw -o c.raw").code(0);
    assert!(folder.read("c.raw") == b);
}

#[test]
fn a_sound_delta_is_no_broken_child() {
    let folder = Folder::new();
    let a = noise(1, SIZE);
    let b = with(&a, 5000, b"changed");
    full(&folder, "a.vhd", &a);
    full(&folder, "b.raw", &b);
    folder.run("diff a.vhd b.raw --delta -o d.vmdk").code(0);
    for alone in [false, true] {
        if alone {
            fs::remove_file(folder.path("a.vhd")).unwrap();
        }
        let info = folder.run("info d.vmdk --json").code(0).json();
        assert_eq!(info["delta"]["base_sha256"], sha256(&a), "{info}");
        assert_eq!(info["delta"]["sha256"], sha256(&b), "{info}");
        assert_eq!(info["complete"], true, "{info}");
        folder
            .run("info d.vmdk")
            .code(0)
            .prints(&format!("from SHA-256 {} (", sha256(&a)))
            .prints(&format!("to {} (", sha256(&b)))
            .prints("vdisk apply");
        let check = folder.run("check d.vmdk --json --deep").code(0).json();
        let findings = check["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 1, "{check}");
        assert_eq!(findings[0]["rule"], "delta", "{check}");
        assert_eq!(findings[0]["severity"], "note", "{check}");
    }
    // What it says of its disks is damaged.
    let good = folder.read("d.vmdk");
    let digest = sha256(&b);
    let at = good.windows(64).position(|w| w == digest.as_bytes());
    folder.write("d.vmdk", &with(&good, at.unwrap(), b"not hexadecimal"));
    folder.run("check d.vmdk").code(1).prints("what cannot be");
    // An image that is no delta says so.
    let info = folder.run("info b.raw --json").code(0).json();
    assert!(info["delta"].is_null(), "{info}");
}
